"""What is done to samples, done block by block, so that half a million of them need no room in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from wavefold.base.dataset import Floats, Ints

_ROWS = 4096  # samples a block
_IN_MEMORY = 2 << 30  # bytes; a larger result lies in a file


def row_blocks(count: int, rows: int = _ROWS) -> Iterator[slice]:
    """Slices of at most `rows` samples that cover `count` of them in order."""
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


def by_blocks(
    function: Callable[[Floats], Floats], signals: Floats, folder: Path, index: Ints | None = None, *, most: int = _IN_MEMORY
) -> Floats:
    """`function` of samples, all of them or those at `index`, a block at a time; it must treat each sample by itself.

    signals: (sample, channel, position); result: (sample, ...) float32, in memory up to `most` bytes, else in a file without a
    name in `folder`: it goes when the array does, however the process ends.
    """
    count = len(signals) if index is None else len(index)
    result = None
    for rows in row_blocks(count):
        made = function(signals[rows if index is None else index[rows]])
        if result is None:
            result = _room((count, *made.shape[1:]), folder, most)
        result[rows] = made
    return function(signals[:0]) if result is None else result


def _room(shape: tuple[int, ...], folder: Path, most: int) -> Floats:
    size = 4 * int(np.prod(shape))
    if size <= most:
        return np.empty(shape, np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as stream:
        os.posix_fallocate(stream.fileno(), 0, size)  # a full disk is an error here, and a crash once the file is mapped
        return np.memmap(stream, np.float32, "r+", shape=shape)
