"""Signals that are read or computed only on access: 50 GB of cadences need not fit in memory.

A Lazy stands in for an array of signals: it has a shape and a length, and indexing returns float32 values. `at` selects
samples and `then` adds a step, both without reading anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE = 256 << 20  # bytes as float32; more is read when it is needed

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Load = Callable[[Ints], Floats]  # (sample,) numbers, in any order -> (sample, ...) values
Step = Callable[[Floats], Floats]  # maps a block of samples, each independently


@dataclass(frozen=True)
class Lazy:
    """Samples that `load` reads, with steps applied to them on access."""

    load: Load
    rows: Ints  # (sample,) the numbers by which `load` identifies samples
    one: tuple[int, ...]  # shape of one sample, after the steps
    steps: tuple[Step, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(sample, ...), as for an array."""
        return (len(self.rows), *self.one)

    @property
    def ndim(self) -> int:
        """Number of axes, including the sample axis."""
        return 1 + len(self.one)

    def __getitem__(self, index: Any) -> Floats:
        """Values of the samples at an index (an integer, a slice, or an index or mask array), float32 and contiguous."""
        rows = self.rows[index]
        if np.ndim(rows) and not len(rows):
            return np.empty(self.at(index).shape, np.float32)
        values = self.load(np.atleast_1d(rows))
        for step in self.steps:
            values = step(values)
        values = np.ascontiguousarray(values, np.float32)
        return values if np.ndim(rows) else values[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All samples, read into memory."""
        return self[:] if dtype is None else self[:].astype(dtype)

    def at(self, index: Ints | slice) -> Lazy:
        """Select samples without reading them."""
        return replace(self, rows=self.rows[index])

    def then(self, step: Step) -> Lazy:
        """Add a step without running it; it must treat samples independently."""
        return replace(self, one=step(np.zeros((1, *self.one), np.float32)).shape[1:], steps=(*self.steps, step))


Signals = Floats | Lazy  # (sample, channel, ...): in memory, or read on access


def part_of(signals: Signals, index: Ints | slice) -> Signals:
    """Select samples of an array or a Lazy."""
    return signals.at(index) if isinstance(signals, Lazy) else signals[index]
