"""Oversampling of rare classes: repeated samples, interpolation between neighbours (SMOTE), or a GAN per class.

Use these on the training part of a fold only. The heartbeat source balances before it splits, so that blends of test beats
leak into its training set; here the caller splits first. New samples follow the real ones, class by class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.random import Generator as Rng

from wavefold.core.errors import UserError
from wavefold.core.registry import optional
from wavefold.data.dataset import Floats, Ints
from wavefold.transforms.gan import imitate

over_sampling = optional("imblearn.over_sampling", extra="balance")


class Balancer(Protocol):
    """Adds samples of rare classes to a training part."""

    def resample(
        self, signals: Floats, labels: Ints, seed: int, classes: Sequence[str] | None = None
    ) -> tuple[Floats, Ints, int]:
        """Signals and labels with the new samples after the real ones, and the number of new ones.

        signals: (sample, channel, position) of a training part; labels: (sample,); classes: names for errors.
        """


class Repeat:
    """Repeats samples of rarer classes equally often, until each class has `ratio` x the size of the largest."""

    def __init__(self, ratio: float = 1.0) -> None:
        self.ratio = _checked_ratio(ratio, "repeat")

    def resample(
        self, signals: Floats, labels: Ints, seed: int, classes: Sequence[str] | None = None
    ) -> tuple[Floats, Ints, int]:
        """Resample a training part; see Balancer."""

        def repeat(number: int, count: int, rng: Rng) -> Floats:
            return signals[np.resize(rng.permutation(np.flatnonzero(labels == number)), count)]

        return _filled_up(signals, labels, self.ratio, seed, repeat)


class Smote:
    """SMOTE: points between a sample and one of its nearest `neighbours` in its class (Chawla et al. 2002).

    ratio: target size of each class relative to the largest. In a class of few samples all others count as neighbours.
    """

    def __init__(self, neighbours: int = 5, ratio: float = 1.0) -> None:
        if neighbours < 1:
            raise UserError(f"smote.neighbours: {neighbours} is too small; expected 1 or more")
        self.neighbours, self.ratio = neighbours, _checked_ratio(ratio, "smote")

    def resample(
        self, signals: Floats, labels: Ints, seed: int, classes: Sequence[str] | None = None
    ) -> tuple[Floats, Ints, int]:
        """Resample a training part; see Balancer. UserError for a class of one sample."""
        flat = signals.reshape(len(signals), -1)  # (sample, channel x position)

        def blend(number: int, count: int, rng: Rng) -> Floats:
            size = _size_for_two(labels, number, "smote", classes)
            smote = over_sampling.SMOTE(
                sampling_strategy={number: size + count},
                k_neighbors=min(self.neighbours, size - 1),
                random_state=int(rng.integers(2**31)),
            )
            both, _ = smote.fit_resample(flat, labels)
            made: Floats = both[len(flat) :].reshape(-1, *signals.shape[1:])
            return made

        return _filled_up(signals, labels, self.ratio, seed, blend)


class GanBalance:
    """Samples from a GAN trained on each rare class separately, within the class's range of values.

    ratio: target size of each class relative to the largest; epochs: passes over the class; steps: maximum batches per class.
    """

    def __init__(self, ratio: float = 1.0, epochs: int = 200, steps: int | None = None) -> None:
        if epochs < 1 or (steps is not None and steps < 1):
            raise UserError(f"gan: epochs is {epochs} and steps is {steps}; each must be 1 or more, or steps unset")
        self.ratio, self.epochs, self.steps = _checked_ratio(ratio, "gan"), epochs, steps

    def resample(
        self, signals: Floats, labels: Ints, seed: int, classes: Sequence[str] | None = None
    ) -> tuple[Floats, Ints, int]:
        """Resample a training part; see Balancer. UserError for a class of one sample."""

        def make(number: int, count: int, rng: Rng) -> Floats:
            _size_for_two(labels, number, "gan", classes)
            what = f"gan of class {_name(number, classes)}"
            own, draw = signals[labels == number], int(rng.integers(2**31))
            return imitate(own, count, seed=draw, epochs=self.epochs, steps=self.steps, what=what)

        return _filled_up(signals, labels, self.ratio, seed, make)


def _filled_up(
    signals: Floats, labels: Ints, ratio: float, seed: int, make: Callable[[int, int, Rng], Floats]
) -> tuple[Floats, Ints, int]:
    """Real samples, then `make(class, count, rng)` for each class that has fewer than its target."""
    sizes = np.bincount(labels)
    lacking = np.where(sizes > 0, np.maximum(round(ratio * int(sizes.max())) - sizes, 0), 0)
    rng = np.random.default_rng(seed)
    made = [make(int(c), int(lacking[c]), rng) for c in np.flatnonzero(lacking)]
    new_labels = np.repeat(np.arange(len(sizes)), lacking).astype(np.int64)
    both = np.concatenate([signals, *made]).astype(np.float32, copy=False)
    return both, np.concatenate([labels, new_labels]), len(new_labels)


def _size_for_two(labels: Ints, number: int, what: str, classes: Sequence[str] | None) -> int:
    size = int(np.count_nonzero(labels == number))
    if size < 2:
        raise UserError(f"class '{_name(number, classes)}' has 1 sample in the training part; {what} needs at least 2")
    return size


def _name(number: int, classes: Sequence[str] | None) -> str:
    return classes[number] if classes else str(number)


def _checked_ratio(ratio: float, place: str) -> float:
    if not 0 < ratio <= 1:
        raise UserError(f"{place}.ratio: {ratio} is out of range; it must be above 0 and at most 1")
    return ratio
