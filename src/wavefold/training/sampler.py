"""The batches of an epoch: every sample once or each class in fixed fractions; read, augmented and mixed.

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

Fractions = NDArray[np.float64]  # (class,), they sum to 1
How = str | Mapping[str, float]

FRACTIONS = {"natural": 1.0, "equal": 0.0, "sqrt": 0.5}  # batch fractions are proportional to this power of the class counts


class Batches(Protocol):
    """The batches of an epoch."""

    least: int  # minimum batch size
    steps: int  # batches per epoch

    def epoch(self, key: int) -> Sequence[Tensor]:
        """The rows of each batch, (sample,) int64; the same key gives the same rows."""


class EachOnce:
    """Every sample once per epoch, in equal parts of a permutation; no last batch is dropped or has only one sample.

    most: maximum number of batches per epoch; the rest of the permutation is dropped. 0: no limit.
    """

    def __init__(self, count: int, size: int, most: int = 0) -> None:
        self._count, self._parts = count, math.ceil(count / size)
        self.least = count // self._parts
        self.steps = min(self._parts, most or self._parts)

    def epoch(self, key: int) -> Sequence[Tensor]:
        """Equal parts of the permutation of this key."""
        order = _generator(key).permutation(self._count)
        return torch.from_numpy(order).tensor_split(self._parts)[: self.steps]


class ByClass:
    """Batches with a fixed fraction of each class, drawn with replacement from its samples.

    If a class's share of a batch is not a whole number, it is rounded up or down at random so that the mean is right. An epoch
    has as many batches as would hold each sample once, but at most `most`.
    """

    def __init__(self, labels: Ints, fractions: Fractions, size: int, most: int = 0) -> None:
        self._pools = np.argsort(labels, kind="stable")  # the samples of class 0, then those of class 1, ...
        self._counts = np.bincount(labels, minlength=len(fractions))
        self._starts = np.cumsum(self._counts) - self._counts
        self._edges = np.round(np.concatenate([[0.0], np.cumsum(fractions)]) * size, 9)
        self.size = self.least = size
        self.steps = min(math.ceil(len(labels) / size), most or len(labels))

    def epoch(self, key: int) -> Sequence[Tensor]:
        """The batches for this key, each sorted by class."""
        rng = _generator(key)
        ends = np.floor(self._edges + rng.random((self.steps, 1))).astype(np.int64)  # systematic sampling: (step, class + 1)
        classes = np.concatenate([np.repeat(np.arange(len(n)), n) for n in np.diff(ends, axis=1)])
        place = (rng.random(len(classes)) * self._counts[classes]).astype(np.int64)
        rows = self._pools[self._starts[classes] + place]
        return torch.from_numpy(rows).reshape(self.steps, self.size).unbind()


def check_fractions(how: How) -> None:
    """Raise UserError unless `how` is "each", one of FRACTIONS, or non-negative shares by class name, not all 0."""
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
    """Fraction of each class in a batch; a class without samples gets 0, and its share goes to the others.

    how: "natural" as in the training part, "equal", "sqrt" as the square roots of the counts, or shares by class name.
    Shares need not sum to 1. If they name none of the classes, they are meant for other data, and "natural" is used.
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
    """Whether fractions are given by name and none of the names is one of these classes."""
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
    """An augmentation that also changes targets: (signals, targets, samples, key) -> (signals, targets).

    If it has a method `partners`, which assigns each sample of a batch another one, it also takes the partners' signals and
    targets.
    """

    mixer: Callable[..., Pair]

    def partners(self, count: int, key: int) -> Tensor | None:
        """Index of each sample's partner in the whole batch, (count,); None if samples are changed independently."""
        deal: Callable[[int, int], Tensor] | None = getattr(self.mixer, "partners", None)
        return deal(count, key) if deal else None


class OnDemand:
    """Signals that are read only when a batch needs them, onto the training device."""

    def __init__(self, signals: Lazy, device: torch.device) -> None:
        self.signals, self.device, self.shape = signals, device, signals.shape

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Signals of some samples, (N, channel, ...), on the device. rows: (N,) int64."""
        return torch.from_numpy(self.signals[rows.numpy(force=True)]).to(self.device)

    def each(self, requests: Iterable[Tensor]) -> Generator[Tensor]:
        """Yield the signals of each batch in turn; the next batch is read while this one is used."""
        with closing(read_ahead(self.__getitem__, requests)) as coming:
            for _, signals in coming:
                yield signals


@dataclass(frozen=True)
class Draw:
    """One process's share of a batch."""

    index: Tensor  # (N,) rows of the whole batch
    key: int
    own: Tensor  # (some of N,) positions in the batch that this process trains on


class Source(Protocol):
    """Training data, as the loop sees them."""

    @property
    def batches(self) -> Batches:
        """The batches of an epoch."""

    @property
    def device(self) -> torch.device:
        """The training device."""

    @property
    def index_device(self) -> torch.device:
        """The device of the row indices."""

    def drawn(self, draws: Iterable[Draw]) -> Generator[Pair]:
        """Yield the training data of each draw: the model's inputs, and targets."""

    def known(self, rows: Tensor) -> Tensor | None:
        """The targets of some rows if they are the same each time; None if each batch brings its own."""

    def weights_of(self, rows: Tensor) -> Tensor | None:
        """The sample weights of some rows in the loss; None if all are equal."""


@dataclass(frozen=True)
class TrainingSet:
    """The training samples, on the training device or read onto it when needed."""

    signals: Tensor | OnDemand  # (sample, channel, ...)
    labels: Tensor  # (sample,) int64 class numbers, or (sample, output) float32
    samples: Tensor  # (sample,) int64, numbers that key each sample's random draws
    batches: Batches
    augmentations: tuple[Augment | Mix, ...] = ()
    classes: int = 0  # needed if a step mixes samples
    weights: Tensor | None = None  # (sample,) float32 sample weights of mean 1; None if all are equal

    @property
    def mixes(self) -> bool:
        """Whether each batch brings its own targets, because a step mixes samples."""
        return any(isinstance(step, Mix) for step in self.augmentations)

    @property
    def device(self) -> torch.device:
        """The training device."""
        return self.signals.device

    @property
    def index_device(self) -> torch.device:
        """The device of the row indices: that of the signals, or the CPU if signals are read when needed."""
        return self.signals.device if isinstance(self.signals, Tensor) else torch.device("cpu")

    def known(self, rows: Tensor) -> Tensor | None:
        """The targets of some rows if they are the same each time; None if each batch brings its own."""
        return None if self.mixes else self.labels[rows.to(self.device)]

    def weights_of(self, rows: Tensor) -> Tensor | None:
        """The sample weights of some rows, (N,); None if all are equal. A mixed sample has the weight of its first one."""
        return None if self.weights is None else self.weights[rows.to(self.device)]

    def drawn(self, draws: Iterable[Draw]) -> Generator[Pair]:
        """Yield the training data of each draw: signals, and targets if a step mixes samples, else labels."""
        plans = (_Plan.of(draw, self.augmentations) for draw in draws)
        if isinstance(self.signals, Tensor):
            return (self._made(plan, self.signals[plan.rows]) for plan in plans)
        return self._read(plans, self.signals)

    def _read(self, plans: Iterable[_Plan], signals: OnDemand) -> Generator[Pair]:
        with closing(read_ahead(lambda plan: signals[plan.rows], plans)) as coming:
            for plan, values in coming:
                yield self._made(plan, values)

    def _made(self, plan: _Plan, signals: Tensor) -> Pair:
        """Apply the augmentation steps. signals: those of the plan's rows."""
        labels, samples = self.labels[plan.rows], self.samples[plan.rows]
        numbered = not labels.is_floating_point()
        targets = F.one_hot(labels, self.classes).float() if self.mixes and numbered else labels
        for number, step in enumerate(self.augmentations):
            key = make_key(plan.draw.key, number)
            if isinstance(step, Mix):
                signals, targets, samples = _mixed(step, plan.turns[number], (signals, targets), samples, key)
            else:
                signals = step(signals, samples, key)
        return signals, targets


@dataclass(frozen=True)
class _Turn:
    """Positions of the inputs of a mixing step among those available."""

    own: Tensor
    others: Tensor | None  # None if samples are changed independently


@dataclass(frozen=True)
class _Plan:
    """The samples that a draw needs before each step: its own, and the partners that will be mixed in."""

    draw: Draw
    rows: Tensor  # (some,) of the part
    turns: dict[int, _Turn]  # by step number

    @classmethod
    def of(cls, draw: Draw, steps: tuple[Augment | Mix, ...]) -> _Plan:
        """Plan a draw, from the last step back to the first."""
        needed, turns = draw.own, {}
        for number, step in reversed(list(enumerate(steps))):
            if isinstance(step, Mix):
                partners = step.partners(len(draw.index), make_key(draw.key, number))
                needed, turns[number] = _before(needed, partners)
        return cls(draw, draw.index[needed], turns)


def _before(needed: Tensor, partners: Tensor | None) -> tuple[Tensor, _Turn]:
    """The positions in the batch that a mixing step needs as input for those needed after it."""
    if partners is None:
        return needed, _Turn(torch.arange(len(needed), device=needed.device), None)
    others = partners.to(needed.device)[needed]
    both = torch.unique(torch.cat([needed, others]))
    return both, _Turn(torch.searchsorted(both, needed), torch.searchsorted(both, others))


def _mixed(step: Mix, turn: _Turn, there: Pair, samples: Tensor, key: int) -> tuple[Tensor, Tensor, Tensor]:
    """Apply a mixing step to the available samples: returns signals, targets and sample numbers."""
    if turn.others is None:
        return *step.mixer(*there, samples, key), samples
    (signals, targets), own, others = there, turn.own, turn.others
    made = step.mixer(signals[own], targets[own], samples[own], key, (signals[others], targets[others]))
    return *made, samples[own]
