"""Signals that are read, or made, only when they are asked for: 50 GB of cadences need no room in memory.

A Lazy stands where an array of signals does: it has a shape and a length, an index gives float32 values, `at` chooses
samples and `then` adds a step, both without reading anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Load = Callable[[Ints], Floats]  # (sample,) numbers -> (sample, ...) values, whatever the order of the numbers
Step = Callable[[Floats], Floats]  # of some samples, each by itself


@dataclass(frozen=True)
class Lazy:
    """Samples that `load` brings, with steps applied to what it brings."""

    load: Load
    rows: Ints  # (sample,) the numbers that `load` knows the samples by
    one: tuple[int, ...]  # shape of one sample, after the steps
    steps: tuple[Step, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(sample, ...), as of an array."""
        return (len(self.rows), *self.one)

    @property
    def ndim(self) -> int:
        """Number of axes, the sample's included."""
        return 1 + len(self.one)

    def __getitem__(self, index: Any) -> Floats:
        """Values of the samples at an index (a number, a slice or an array of either kind), float32 and contiguous."""
        rows = self.rows[index]
        if np.ndim(rows) and not len(rows):
            return np.empty(self.at(index).shape, np.float32)
        values = self.load(np.atleast_1d(rows))
        for step in self.steps:
            values = step(values)
        values = np.ascontiguousarray(values, np.float32)
        return values if np.ndim(rows) else values[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it, for those who need it in memory."""
        return self[:] if dtype is None else self[:].astype(dtype)

    def at(self, index: Ints | slice) -> Lazy:
        """The samples at an index, not yet read."""
        return replace(self, rows=self.rows[index])

    def then(self, step: Step) -> Lazy:
        """The same samples with one more step, not yet taken; a step must treat each sample by itself."""
        return replace(self, one=step(np.zeros((1, *self.one), np.float32)).shape[1:], steps=(*self.steps, step))


Signals = Floats | Lazy  # (sample, channel, ...): at hand or to be read


def part_of(signals: Signals, index: Ints | slice) -> Signals:
    """Some samples, by the way of an array or of a Lazy."""
    return signals.at(index) if isinstance(signals, Lazy) else signals[index]
