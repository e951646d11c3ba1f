"""Which samples a run has learned from, as one number a sample: so that a score can say when it is not honest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.base.blocks import row_blocks
from wavefold.base.dataset import Floats, Ints
from wavefold.base.files import write_whole

_ODD = np.uint64(0x9E3779B97F4A7C15)  # spreads neighbouring positions over all 64 bits


def fingerprints(signals: Floats) -> NDArray[np.uint64]:
    """A 64-bit number a sample, equal for equal values. signals: (sample, channel, position); result: (sample,)."""
    pieces = [_fingerprints(signals[rows]) for rows in row_blocks(len(signals))]
    return np.concatenate([np.empty(0, np.uint64), *pieces])


def _fingerprints(signals: Floats) -> NDArray[np.uint64]:
    words = np.ascontiguousarray(signals, np.float32).reshape(len(signals), -1).view(np.uint32)
    total = np.zeros(len(words), np.uint64)
    for position in range(words.shape[1]):  # a rolling polynomial, all samples at once
        total = (total ^ words[:, position]) * _ODD
        total ^= total >> np.uint64(29)
    return total


def keep_seen(path: Path, signals: Floats, learned: Ints) -> None:
    """Write the fingerprints of the samples at `learned`, which were learned from or chosen by."""
    numbers = np.concatenate([_fingerprints(signals[learned[rows]]) for rows in row_blocks(len(learned))])
    write_whole(path, lambda stream: np.save(stream, np.unique(numbers)))


def count_seen(path: Path, signals: Floats) -> int:
    """How many of some samples were learned from or chosen by."""
    return int(np.isin(fingerprints(signals), np.load(path, allow_pickle=False)).sum())
