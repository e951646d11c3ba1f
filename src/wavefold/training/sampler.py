"""The samples of an epoch in batches, every sample once or each class in fixed fractions; read, augmented and mixed.

An epoch's batches depend only on its key, so an interrupted run resumes with the same ones. Random numbers are a function of
(key, sample), or of the key alone for draws over the whole batch, so it does not matter how many processes share a batch.

Legend: N samples, C classes; signals (N, channel, ...), targets (N, C) float32, labels and samples (N,) int64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wavefold.core.errors import UserError, listed, nearest
from wavefold.core.random import key as make_key
from wavefold.data.dataset import Ints
from wavefold.data.lazy import Lazy, read_ahead

Fractions = NDArray[np.float64]  # (class,), their sum is 1
How = str | Mapping[str, float]

FRACTIONS = {"natural": 1.0, "equal": 0.0, "sqrt": 0.5}  # power of the class count that the fractions of a batch follow


class Batches(Protocol):
    """The batches of an epoch."""

    size: int  # samples per batch, at most
    steps: int  # batches per epoch

    def epoch(self, key: int) -> Sequence[Tensor]:
        """The rows of each batch, (sample,) int64; the same for the same key."""


class EachOnce:
    """Every sample once per epoch, in equal parts of a permutation; no last batch is dropped or left with one sample.

    most: maximum batches per epoch, which drops the rest of the permutation; 0 sets no limit.
    """

    def __init__(self, count: int, size: int, most: int = 0) -> None:
        self._count, self.size = count, size
        self._parts = math.ceil(count / size)
        self.steps = min(self._parts, most or self._parts)

    def epoch(self, key: int) -> Sequence[Tensor]:
        """Equal parts of the permutation of this key."""
        order = _generator(key).permutation(self._count)
        return torch.from_numpy(order).tensor_split(self._parts)[: self.steps]


class ByClass:
    """Batches that hold each class in a fraction, drawn with replacement from its samples.

    If a class's share of a batch is not a whole number, it is rounded up or down at random so that the mean is right. An epoch
    has as many batches as would hold each sample once, but at most `most`.
    """

    def __init__(self, labels: Ints, fractions: Fractions, size: int, most: int = 0) -> None:
        self._pools = np.argsort(labels, kind="stable")  # the samples of class 0, then those of class 1, ...
        self._counts = np.bincount(labels, minlength=len(fractions))
        self._starts = np.cumsum(self._counts) - self._counts
        self._edges = np.round(np.concatenate([[0.0], np.cumsum(fractions)]) * size, 9)
        self.size = size
        self.steps = min(math.ceil(len(labels) / size), most or len(labels))

    def epoch(self, key: int) -> Sequence[Tensor]:
        """Draws of this key, the classes of a batch in their order."""
        rng = _generator(key)
        ends = np.floor(self._edges + rng.random((self.steps, 1))).astype(np.int64)  # systematic sampling: (step, class + 1)
        classes = np.concatenate([np.repeat(np.arange(len(n)), n) for n in np.diff(ends, axis=1)])
        place = (rng.random(len(classes)) * self._counts[classes]).astype(np.int64)
        rows = self._pools[self._starts[classes] + place]
        return torch.from_numpy(rows).reshape(self.steps, self.size).unbind()


def check_fractions(how: How) -> None:
    """Raise UserError unless `how` is "each", one of FRACTIONS, or shares by class name, 0 or more with one above 0."""
    if isinstance(how, str):
        if how not in ("each", *FRACTIONS):
            known = ("each", *FRACTIONS)
            raise UserError(
                f"batches.fractions: '{how}' is not one of {listed(known)}, or a table of shares by class "
                f"such as {{star=0.8, qso=0.2}}{nearest(how, known)}"
            )
        return
    for name, share in how.items():
        if not 0 <= share < math.inf:
            raise UserError(f"batches.fractions.{name}: {share} is not a valid share; expected a finite number, 0 or more")
    if not any(how.values()):
        raise UserError("batches.fractions: no class has a share above 0")


def class_fractions(how: How, labels: Ints, classes: Sequence[str]) -> Fractions:
    """Fractions of a batch by class; a class without samples gets 0, and its share goes to the others.

    how: "natural" as in the training part, "equal", "sqrt" as the square roots of the counts, or shares by class name.
    Shares need not sum to 1. If they name none of the classes, they are meant for other data: fractions are then natural.
    """
    counts = np.bincount(labels, minlength=len(classes)).astype(np.float64)
    if isinstance(how, str):
        wanted = counts ** FRACTIONS[how]
    elif names_other_classes(how, classes):
        wanted = counts
    else:
        wanted = np.array([_fraction(how, name) for name in classes])
    wanted = np.where(counts > 0, wanted, 0.0)
    if not wanted.sum() > 0:
        raise UserError(f"batches.fractions: no class with samples has a share above 0 in {how}")
    fractions: Fractions = wanted / wanted.sum()
    return fractions


def names_other_classes(how: How, classes: Sequence[str]) -> bool:
    """Whether fractions are given by name, and for none of these classes."""
    return not isinstance(how, str) and not set(how) & set(classes)


def _fraction(how: Mapping[str, float], name: str) -> float:
    if name not in how:
        raise UserError(
            f"batches.fractions: no share for class '{name}', only for {listed(how)}{nearest(name, how)}; name every class, "
            "or set natural, equal or sqrt"
        )
    return how[name]


def _generator(key: int) -> np.random.Generator:
    return np.random.default_rng(key & (2**63 - 1))


Augment = Callable[[Tensor, Tensor, int], Tensor]  # (signals, samples, key) -> signals
Pair = tuple[Tensor, Tensor]  # signals, targets


@dataclass(frozen=True)
class Mix:
    """Among augmentations, one that changes targets as well: (signals, targets, samples, key) -> (signals, targets).

    Where it has a method `partners`, which deals each sample of a whole batch another one, it also takes the signals and
    targets of those.
    """

    mixer: Callable[..., Pair]

    def partners(self, count: int, key: int) -> Tensor | None:
        """The place of each one's partner in a whole batch, (count,); None where samples are changed by themselves."""
        deal: Callable[[int, int], Tensor] | None = getattr(self.mixer, "partners", None)
        return deal(count, key) if deal else None


class OnDemand:
    """Signals that are read when a batch asks for them, onto the device they are learned on."""

    def __init__(self, signals: Lazy, device: torch.device) -> None:
        self.signals, self.device, self.shape = signals, device, signals.shape

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Signals of some samples, (N, channel, ...), on the device. rows: (N,) int64."""
        return torch.from_numpy(self.signals[rows.numpy(force=True)]).to(self.device)

    def each(self, requests: Iterable[Tensor]) -> Generator[Tensor]:
        """Signals of each of some batches in turn, the next one being read while this one is used."""
        with closing(read_ahead(self.__getitem__, requests)) as coming:
            for _, signals in coming:
                yield signals


@dataclass(frozen=True)
class Draw:
    """One batch as one of several processes takes it."""

    index: Tensor  # (N,) rows of the whole batch
    key: int
    own: Tensor  # (some of N,) places in the batch that this process learns from


class Source(Protocol):
    """Training data, as the loop sees it."""

    @property
    def batches(self) -> Batches:
        """The batches of an epoch."""

    @property
    def device(self) -> torch.device:
        """Where it is learned."""

    @property
    def index_device(self) -> torch.device:
        """Where rows are named."""

    def drawn(self, draws: Iterable[Draw]) -> Generator[Pair]:
        """What is learned from in each draw: what the model is given, and targets."""

    def known(self, rows: Tensor) -> Tensor | None:
        """The targets of some rows where they are the same each time; None where each batch brings its own."""

    def weights_of(self, rows: Tensor) -> Tensor | None:
        """How much each of some rows counts in the loss; None where all count alike."""


@dataclass(frozen=True)
class TrainingSet:
    """The samples to learn from, on the device they are learned on or on the way there."""

    signals: Tensor | OnDemand  # (sample, channel, ...)
    labels: Tensor  # (sample,) int64
    samples: Tensor  # (sample,) int64, the numbers that key each sample's own random draws
    batches: Batches
    augmentations: tuple[Augment | Mix, ...] = ()
    classes: int = 0  # needed where something mixes
    weights: Tensor | None = None  # (sample,) float32, of mean 1, where some samples count more than others

    @property
    def mixes(self) -> bool:
        """Whether targets are shares of classes, because something mixes, and not numbers of classes."""
        return any(isinstance(step, Mix) for step in self.augmentations)

    @property
    def device(self) -> torch.device:
        """Where it is learned."""
        return self.signals.device

    @property
    def index_device(self) -> torch.device:
        """Where rows are named: beside the signals, or where what is to be read is chosen."""
        return self.signals.device if isinstance(self.signals, Tensor) else torch.device("cpu")

    def known(self, rows: Tensor) -> Tensor | None:
        """The targets of some rows where they are the same each time; None where each batch brings its own."""
        return None if self.mixes else self.labels[rows.to(self.device)]

    def weights_of(self, rows: Tensor) -> Tensor | None:
        """How much each of some rows counts in the loss, (N,); None where all count alike. A mixed one counts as its first."""
        return None if self.weights is None else self.weights[rows.to(self.device)]

    def drawn(self, draws: Iterable[Draw]) -> Generator[Pair]:
        """What is learned from in each draw: signals, and targets where something mixes, else labels."""
        plans = (_Plan.of(draw, self.augmentations) for draw in draws)
        if isinstance(self.signals, Tensor):
            return (self._made(plan, self.signals[plan.rows]) for plan in plans)
        return self._read(plans, self.signals)

    def _read(self, plans: Iterable[_Plan], signals: OnDemand) -> Generator[Pair]:
        with closing(read_ahead(lambda plan: signals[plan.rows], plans)) as coming:
            for plan, values in coming:
                yield self._made(plan, values)

    def _made(self, plan: _Plan, signals: Tensor) -> Pair:
        """Take the steps. signals: of the plan's first places."""
        labels, samples = self.labels[plan.rows], self.samples[plan.rows]
        targets = F.one_hot(labels, self.classes).float() if self.mixes else labels
        for number, step in enumerate(self.augmentations):
            key = make_key(plan.draw.key, number)
            if isinstance(step, Mix):
                signals, targets, samples = _mixed(step, plan.turns[number], (signals, targets), samples, key)
            else:
                signals = step(signals, samples, key)
        return signals, targets


@dataclass(frozen=True)
class _Turn:
    """Where a mixing step finds what it needs among the places that are there."""

    own: Tensor
    others: Tensor | None  # None where samples are changed by themselves


@dataclass(frozen=True)
class _Plan:
    """What a draw needs from the first step on: what is its own, and the partners of what it will mix."""

    draw: Draw
    rows: Tensor  # (some,) of the part
    turns: dict[int, _Turn]  # by the number of the step

    @classmethod
    def of(cls, draw: Draw, steps: tuple[Augment | Mix, ...]) -> _Plan:
        """The plan of a draw, made from the last step back to the first."""
        needed, turns = draw.own, {}
        for number, step in reversed(list(enumerate(steps))):
            if isinstance(step, Mix):
                partners = step.partners(len(draw.index), make_key(draw.key, number))
                needed, turns[number] = _before(needed, partners)
        return cls(draw, draw.index[needed], turns)


def _before(needed: Tensor, partners: Tensor | None) -> tuple[Tensor, _Turn]:
    """The places in the batch that a mixing step needs to give those that are needed after it."""
    if partners is None:
        return needed, _Turn(torch.arange(len(needed), device=needed.device), None)
    others = partners.to(needed.device)[needed]
    both = torch.unique(torch.cat([needed, others]))
    return both, _Turn(torch.searchsorted(both, needed), torch.searchsorted(both, others))


def _mixed(step: Mix, turn: _Turn, there: Pair, samples: Tensor, key: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a mixing step makes of what is there: signals, targets and the samples' numbers."""
    if turn.others is None:
        return *step.mixer(*there, samples, key), samples
    (signals, targets), own, others = there, turn.own, turn.others
    made = step.mixer(signals[own], targets[own], samples[own], key, (signals[others], targets[others]))
    return *made, samples[own]
