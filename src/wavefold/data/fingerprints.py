"""Hashes the samples that a run was trained on, so that scoring can warn when it meets them again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.core.files import write_whole
from wavefold.core.progress import Progress
from wavefold.data.dataset import Floats, Ints, Signals
from wavefold.data.lazy import Lazy, blocks_of

Words = NDArray[np.uint64]

_ODD = np.uint64(0x9E3779B97F4A7C15)  # spreads neighbouring positions over all 64 bits
_NOTHING = np.uint64(0)  # for constant samples, which equal many others
_MANY = 8192  # values per sample; larger ones are hashed sample by sample, not position by position


def fingerprints(signals: Signals) -> Words:
    """A 64-bit hash of each sample. signals: (sample, channel, ...); result: (sample,).

    Constant samples, such as rain maps of dry hours, all get 0, because equality between them means nothing.
    """
    numbers = np.empty(len(signals), np.uint64)
    with Progress("hashing samples", len(signals), "samples") as progress:
        for rows, values in blocks_of(signals):
            numbers[rows] = np.where(_still(values), _NOTHING, _fingerprints(values))
            progress.update(rows.stop)
    return numbers


def _still(signals: Floats) -> NDArray[np.bool_]:
    """Which samples are constant, or all NaN."""
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
    """Hash as a sum over pairs of values, each mixed and weighted by an odd number for its place. words: (sample, value)."""
    pairs = -(-words.shape[1] // 2)
    weights = np.arange(1, pairs + 1, dtype=np.uint64) * _ODD | np.uint64(1)
    padded, total = np.zeros(2 * pairs, np.uint32), np.empty(len(words), np.uint64)
    for row, values in enumerate(words):
        padded[: len(values)] = values
        mixed = padded.view(np.uint64).copy()
        mixed ^= mixed >> np.uint64(32)  # otherwise the upper value of a pair would only affect the upper half of the sum
        mixed *= _ODD
        mixed ^= mixed >> np.uint64(29)
        total[row] = (mixed * weights).sum(dtype=np.uint64)
    return total


def save_fingerprints(path: Path, signals: Signals, learned: Ints) -> None:
    """Write the fingerprints of the samples at `learned`: those used for training or validation."""
    numbers = np.unique(fingerprints(Lazy(lambda index: signals[index], learned, signals.shape[1:])))
    write_whole(path, lambda stream: np.save(stream, numbers))


def count_known(path: Path, signals: Signals) -> int:
    """Count the samples that were used for training or validation."""
    numbers = fingerprints(signals)
    return int((np.isin(numbers, np.load(path, allow_pickle=False)) & (numbers != _NOTHING)).sum())
