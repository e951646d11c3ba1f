"""Batches of an epoch: every sample once, or each class in fixed fractions.

An epoch's batches depend only on its key, so an interrupted run resumes with the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavefold.core.errors import UserError, listed, nearest
from wavefold.data.dataset import Ints

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
