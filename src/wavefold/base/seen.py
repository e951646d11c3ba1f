"""Which samples a run has learned from, as one number a sample: so that a score can say when it is not honest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.base.blocks import blocks_of
from wavefold.base.dataset import Floats, Ints, Signals
from wavefold.base.files import write_whole
from wavefold.base.lazy import Lazy
from wavefold.base.progress import Progress

Words = NDArray[np.uint64]

_ODD = np.uint64(0x9E3779B97F4A7C15)  # spreads neighbouring positions over all 64 bits
_NOTHING = np.uint64(0)  # of a sample that is like many others
_MANY = 8192  # values a sample, past which each sample is taken at once rather than each position


def fingerprints(signals: Signals) -> Words:
    """A 64-bit number a sample, equal for equal values. signals: (sample, channel, ...); result: (sample,).

    Samples of one value throughout, such as dry frames of rain, are all 0: that two of them are equal says nothing.
    """
    numbers = np.empty(len(signals), np.uint64)
    with Progress("marking what is seen", len(signals), "samples") as progress:
        for rows, values in blocks_of(signals):
            numbers[rows] = np.where(_still(values), _NOTHING, _fingerprints(values))
            progress.update(rows.stop)
    return numbers


def _still(signals: Floats) -> NDArray[np.bool_]:
    """Which samples hold one value throughout, or none."""
    flat = signals.reshape(len(signals), -1)
    still: NDArray[np.bool_] = ((flat == flat[:, :1]) | (np.isnan(flat) & np.isnan(flat[:, :1]))).all(axis=1)
    return still


def _fingerprints(signals: Floats) -> Words:
    words = np.ascontiguousarray(signals, np.float32).reshape(len(signals), -1).view(np.uint32)
    if words.shape[1] > _MANY:
        return _of_large(words)
    total = np.zeros(len(words), np.uint64)
    for position in range(words.shape[1]):  # a rolling polynomial, all samples at once
        total = (total ^ words[:, position]) * _ODD
        total ^= total >> np.uint64(29)
    return total


def _of_large(words: NDArray[np.uint32]) -> Words:
    """A sum over pairs of values, each pair mixed and weighed by an odd number of its place. words: (sample, value)."""
    pairs = -(-words.shape[1] // 2)
    weights = np.arange(1, pairs + 1, dtype=np.uint64) * _ODD | np.uint64(1)
    padded, total = np.zeros(2 * pairs, np.uint32), np.empty(len(words), np.uint64)
    for row, values in enumerate(words):
        padded[: len(values)] = values
        mixed = padded.view(np.uint64).copy()
        mixed ^= mixed >> np.uint64(32)  # else the upper value of a pair would reach the upper half of the sum only
        mixed *= _ODD
        mixed ^= mixed >> np.uint64(29)
        total[row] = (mixed * weights).sum(dtype=np.uint64)
    return total


def keep_seen(path: Path, signals: Signals, learned: Ints) -> None:
    """Write the fingerprints of the samples at `learned`, which were learned from or chosen by."""
    numbers = np.unique(fingerprints(Lazy(lambda index: signals[index], learned, signals.shape[1:])))
    write_whole(path, lambda stream: np.save(stream, numbers))


def count_seen(path: Path, signals: Signals) -> int:
    """How many of some samples were learned from or chosen by."""
    numbers = fingerprints(signals)
    return int((np.isin(numbers, np.load(path, allow_pickle=False)) & (numbers != _NOTHING)).sum())
