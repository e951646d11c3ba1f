"""Signals that are read or computed only on access, and block-wise processing: 50 GB of cadences need not fit in memory.

A Lazy stands in for an array of signals: it has a shape and a length, and indexing returns float32 values. `at` selects
samples and `then` adds a step, both without reading anything.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

LARGE = 256 << 20  # bytes as float32; larger data are read on demand

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

    def __getitem__(self, index: int | slice | Ints | NDArray[np.bool_]) -> Floats:
        """Values of the samples at an index (an integer, a slice, or an index or mask array), float32 and contiguous."""
        rows = self.rows[index]
        if np.ndim(rows) and not len(rows):
            return np.empty((0, *self.one), np.float32)
        values = self.load(np.atleast_1d(rows))
        for step in self.steps:
            values = step(values)
        values = np.ascontiguousarray(values, np.float32)
        return values if np.ndim(rows) else values[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.generic]:
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


_ROWS = 4096  # samples per block
_VALUES = 1 << 24  # values per block, unless one sample has more: 64 MB of float32
_PIECE = 1 << 24  # bytes written at a time where the disk cannot reserve room
_IN_MEMORY = 2 << 30  # bytes; a larger result goes to a file

Request = TypeVar("Request")
Result = TypeVar("Result")


def row_blocks(count: int, rows: int = _ROWS, *, values: int = 0) -> Iterator[slice]:
    """Slices of at most `rows` samples that cover `count` in order. values: values per sample, to keep blocks within 64 MB."""
    rows = min(rows, max(1, _VALUES // max(1, values)))
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


def rows_of_part(values: int, size: int) -> int:
    """Rows in a part of about `size` bytes as float32: whole blocks of `row_blocks`. values: values per sample."""
    block = min(_ROWS, max(1, _VALUES // max(1, values)))
    return block * max(1, size // (4 * max(1, values) * block))


def blocks_of(signals: Signals) -> Iterator[tuple[slice, Floats]]:
    """Iterate over all samples in order as blocks of (rows, values); lazy signals are read one block ahead."""
    blocks = row_blocks(len(signals), values=values_of(signals))
    if isinstance(signals, Lazy):
        return read_ahead(signals.__getitem__, blocks)
    return ((rows, signals[rows]) for rows in blocks)


def values_of(signals: Signals) -> int:
    """Number of values in one sample."""
    return math.prod(signals.shape[1:])


def read_ahead(load: Callable[[Request], Result], requests: Iterable[Request]) -> Generator[tuple[Request, Result]]:
    """Yield each of `requests` with its `load` result, loading the next one in a thread while the current one is used.

    The thread ends with the iterator: close it if it may not be exhausted. An exception in `load` is raised at its item.
    """
    pool = ThreadPoolExecutor(1, "read-ahead")
    try:
        last: tuple[Request, Future[Result]] | None = None
        for request in requests:
            coming = request, pool.submit(load, request)
            if last is not None:
                yield last[0], last[1].result()
            last = coming
        if last is not None:
            yield last[0], last[1].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def by_blocks(
    function: Callable[[Floats], Floats], signals: Signals, folder: Path, index: Ints | None = None, *, most: int = _IN_MEMORY
) -> Signals:
    """Apply `function` block by block to all samples, or to those at `index`; it must treat samples independently.

    signals: (sample, channel, ...); result: (sample, ...) float32, in memory up to `most` bytes, otherwise in an unnamed file
    in `folder` that disappears with the array, however the process ends. Lazy signals are neither read nor stored: they get
    one more step.
    """
    if isinstance(signals, Lazy):
        return (signals if index is None else signals.at(index)).then(function)
    count = len(signals) if index is None else len(index)
    result = None
    for rows in row_blocks(count, values=values_of(signals)):
        made = function(signals[rows if index is None else index[rows]])
        if result is None:
            result = room((count, *made.shape[1:]), folder, most)
        result[rows] = made
    return function(signals[:0]) if result is None else result


def room(shape: tuple[int, ...], folder: Path, most: int) -> Floats:
    """An array to be filled, float32: in memory up to `most` bytes, otherwise in an unnamed file in `folder`."""
    size = 4 * int(np.prod(shape))
    if size <= most:
        return np.empty(shape, np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as stream:
        _take_room(stream, size)  # a full disk is an error here, but would crash the process once the file is mapped
        return np.memmap(stream, np.float32, "r+", shape=shape)


def let_go(signals: Signals | NDArray[np.generic]) -> None:
    """Give back the memory of an array's pages if it is a mapped file's, which were read, or written in a shared map.

    They stay in the system's cache. What was changed in a map whose changes stay in memory (`mmap_mode="c"`) is lost.
    """
    mapped: object = signals
    while isinstance(mapped, np.ndarray) and mapped.base is not None:
        mapped = mapped.base
    if not isinstance(signals, np.ndarray) or not isinstance(mapped, mmap.mmap) or not hasattr(mapped, "madvise"):
        return
    start = signals.__array_interface__["data"][0] - np.frombuffer(mapped, np.uint8).__array_interface__["data"][0]
    first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, (start + signals.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:  # whole pages
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)


def _take_room(stream: IO[bytes], size: int) -> None:
    """Fill an empty file with `size` bytes of zeros and allocate its disk space; OSError if the disk is full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(stream.fileno(), 0, size)
        return
    for start in range(0, size, _PIECE):
        stream.write(bytes(min(_PIECE, size - start)))
    stream.flush()
