"""Signal statistics before training: by class, by sample, and drift between training and other samples.

Signals are processed in blocks with float64 sums, so that half a million samples need little memory. Non-finite values count
as missing.

Sources: Chan, Golub and LeVeque 1983 for means and spreads that grow block by block; Stephens 1970 for the p-value of the
Kolmogorov-Smirnov distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError
from wavefold.core.registry import later
from wavefold.data.dataset import Floats, Ints, Signals, shape_words
from wavefold.data.lazy import blocks_of, part_of, values_of

special = later("scipy.special")

Values = NDArray[np.float64]
Bools = NDArray[np.bool_]

SUMMARIES = ("mean", "spread", "roughness", "share of zeros", "zero tail")  # per sample, in the order of `summaries`

_AT_ONCE = 256 << 20  # bytes of float32 up to which quantiles are computed; beyond, mean and std are used
_TAIL = 0.05  # fraction of the values below `low`, and above `high`


@dataclass(frozen=True)
class ClassStatistics:
    """Statistics of each class by position; NaN where a class has no value."""

    mean: Values  # (class, channel, ...)
    std: Values  # (class, channel, ...)
    low: Values  # (class, channel, ...) the 5 % quantile, or mean - 2 std
    high: Values  # (class, channel, ...) the 95 % quantile, or mean + 2 std
    count: Ints  # (class,) samples
    quantiles: bool  # whether low and high are quantiles


@dataclass(frozen=True)
class ValueRanges:
    """Value ranges of channels and samples; NaN where there is no finite value."""

    lowest: Values  # (channel,)
    highest: Values  # (channel,)
    mean: Values  # (channel,)
    std: Values  # (channel,)
    low: Values  # (sample,) lowest value, all channels
    high: Values  # (sample,)
    not_finite: Ints  # (sample,) number of NaN or infinite values
    flat: Bools  # (sample,) whether all values are equal
    zero_tail: Ints  # (sample,) number of all-zero positions at the end of the last axis


@dataclass(frozen=True)
class Shift:
    """How a summary statistic differs between two sets of samples."""

    name: str  # one of SUMMARIES
    distance: float  # Kolmogorov-Smirnov: largest gap between the cumulative distributions, 0 to 1; NaN if one is empty
    p: float  # p-value for independent, identically distributed samples; beats of one patient are not independent
    learned: float  # median of the training samples
    other: float  # median of the other samples


@dataclass(frozen=True)
class Drift:
    """How other samples differ from the training samples."""

    lowest: Values  # (channel,) of the training samples
    highest: Values  # (channel,)
    outside: Values  # (channel,) share of the other samples' values outside lowest to highest
    outside_by_position: Values  # (channel, ...) share of the other samples outside the training range at that position
    by_chance: float  # largest share by position expected without drift: 2 / (learned + 1)
    shifts: tuple[Shift, ...]  # one for each of SUMMARIES
    looked_at: tuple[int, int]  # training and other samples that were drawn


def class_statistics(signals: Signals, labels: Ints, classes: int) -> ClassStatistics:
    """Mean, spread and the middle 90 % of each class by position.

    signals: (sample, channel, ...); labels: (sample,) class numbers below `classes`. Quantiles if all signals take at most
    256 MB as float32, else mean -+ 2 std.
    """
    _check_labels(signals, labels, classes)
    moments = _Moments((classes, *signals.shape[1:]))
    for rows, values in blocks_of(signals):
        for number in np.unique(labels[rows]):
            moments.add(int(number), values[labels[rows] == number], axes=(0,))
    mean, std = moments.mean(), moments.std()
    small = 4 * len(signals) * values_of(signals) <= _AT_ONCE
    low, high = _quantiles(signals, labels, classes) if small else (mean - 2 * std, mean + 2 * std)
    return ClassStatistics(mean, std, low, high, np.bincount(labels, minlength=classes), small)


def value_ranges(signals: Signals) -> ValueRanges:
    """Compute value ranges by channel, and anomalies of each sample. signals: (sample, channel, ...)."""
    channels, count = signals.shape[1], len(signals)
    moments = _Moments((channels,))
    lowest, highest = np.full(channels, np.inf), np.full(channels, -np.inf)
    low, high = np.empty(count), np.empty(count)
    not_finite, zero_tail = np.empty(count, np.int64), np.empty(count, np.int64)
    for rows, values in blocks_of(signals):
        flat = values.reshape(len(values), channels, -1)
        moments.add(slice(None), flat, axes=(0, 2))
        least, most = _ends(flat, axes=(2,))  # (sample, channel) each
        lowest, highest = np.minimum(lowest, least.min(axis=0)), np.maximum(highest, most.max(axis=0))
        low[rows], high[rows] = least.min(axis=1), most.max(axis=1)
        not_finite[rows] = (~np.isfinite(flat)).sum(axis=(1, 2))
        zero_tail[rows] = _zero_tail(values)
    return ValueRanges(
        lowest=_known(lowest),
        highest=_known(highest),
        mean=moments.mean(),
        std=moments.std(),
        low=_known(low),
        high=_known(high),
        not_finite=not_finite,
        flat=~(high > low),
        zero_tail=zero_tail,
    )


def drift(learned: Signals, other: Signals, *, seed: int, most_samples: int = 20_000) -> Drift:
    """Compare `other` with `learned` (training samples): values out of range by channel and position, and summaries.

    learned, other: (sample, channel, ...) of equal sample shape. At most `most_samples` of each, drawn with the seed, are used.
    DataError if either is empty or their shapes differ.
    """
    _check_pair(learned, other)
    rng = np.random.default_rng(seed)
    learned, other = (part_of(signals, _drawn(len(signals), most_samples, rng)) for signals in (learned, other))
    low, high, shown = _learned_ends(learned)
    axes = tuple(range(1, low.ndim))
    wide = low.min(axis=axes, keepdims=True), high.max(axis=axes, keepdims=True)  # (channel, 1, ...)
    outside, outside_by_position, seen = _outside(other, wide, (low, high))
    pairs = zip(SUMMARIES, shown.T, seen.T, strict=True)
    return Drift(
        lowest=_known(wide[0].ravel()),
        highest=_known(wide[1].ravel()),
        outside=outside,
        outside_by_position=outside_by_position,
        by_chance=2 / (len(learned) + 1),
        shifts=tuple(_shift(name, of_learned, of_other) for name, of_learned, of_other in pairs),
        looked_at=(len(learned), len(other)),
    )


def summaries(signals: Floats) -> Values:
    """Compute the SUMMARIES of each sample: (sample, 5), NaN if it has no finite value. signals: (sample, channel, ...).

    They are: mean and spread (standard deviation) of all values; roughness, the mean |difference| of neighbours on the last
    axis; share of values that are 0; number of all-zero positions at the end.
    """
    known, flat = np.isfinite(signals), signals.reshape(len(signals), -1)
    count = known.reshape(flat.shape).sum(axis=1)
    mean = _mean(flat, known.reshape(flat.shape))
    spread = np.sqrt(_mean((flat - mean[:, None]) ** 2, known.reshape(flat.shape)))
    beside = known[..., 1:] & known[..., :-1]
    steps = np.abs(np.diff(np.where(known, signals, 0), axis=-1))
    roughness = _mean(steps.reshape(len(signals), -1), beside.reshape(len(signals), -1))
    zeros = np.where(count > 0, (flat == 0).sum(axis=1) / np.maximum(count, 1), np.nan)
    return np.stack([mean, spread, roughness, zeros, _zero_tail(signals)], axis=1)


class _Moments:
    """Counts, means and squared deviations, accumulated block by block."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._count, self._mean, self._squares = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)

    def add(self, at: int | slice, values: Floats, *, axes: tuple[int, ...]) -> None:
        """Add values to the cells at `at`, reducing over `axes`; the other axes are those of the cells."""
        known = np.isfinite(values)
        whole = bool(known.all())  # the usual case: nothing to fill
        count, filled = known.sum(axis=axes), values if whole else np.where(known, values, 0)
        mean = filled.sum(axis=axes, dtype=np.float64) / np.maximum(count, 1)
        apart = filled - np.expand_dims(mean, axes)
        apart = apart if whole else np.where(known, apart, 0)
        before, step = self._count[at], mean - self._mean[at]
        share = count / np.maximum(before + count, 1)
        self._squares[at] += (apart**2).sum(axis=axes) + step**2 * before * share
        self._mean[at] += step * share
        self._count[at] = before + count

    def mean(self) -> Values:
        """Mean; NaN where nothing was added."""
        return np.where(self._count > 0, self._mean, np.nan)

    def std(self) -> Values:
        """Population standard deviation of the added values; NaN where nothing was added."""
        return np.where(self._count > 0, np.sqrt(self._squares / np.maximum(self._count, 1)), np.nan)


def _quantiles(signals: Signals, labels: Ints, classes: int) -> tuple[Values, Values]:
    low, high = np.full((2, classes, *signals.shape[1:]), np.nan)
    everything = np.asarray(signals)
    for number in np.unique(labels):
        own = everything[labels == number]
        kth_smallest = np.sort(np.where(np.isfinite(own), own, np.float32(np.nan)), axis=0)  # NaN last
        low[number], high[number] = _at_share(kth_smallest, _TAIL), _at_share(kth_smallest, 1 - _TAIL)
    return low, high


def _at_share(kth_smallest: Floats, share: float) -> Values:
    """The quantile of non-NaN values, interpolated between ranks as in numpy. kth_smallest: (sample, ...), NaN last."""
    place = np.maximum((~np.isnan(kth_smallest)).sum(axis=0, keepdims=True) - 1, 0) * share
    below = np.floor(place).astype(np.int64)
    above = np.ceil(place).astype(np.int64)
    left, right = (np.take_along_axis(kth_smallest, at, axis=0).astype(np.float64) for at in (below, above))
    result: Values = (left + (right - left) * (place - below))[0]
    return result


def _ends(values: Floats, *, axes: tuple[int, ...]) -> tuple[Values, Values]:
    """Lowest and highest finite values; inf and -inf where there is none."""
    known = np.isfinite(values)
    least, most = (values, values) if known.all() else (np.where(known, values, end) for end in (np.inf, -np.inf))
    return least.min(axis=axes).astype(np.float64), most.max(axis=axes).astype(np.float64)


def _known(values: Values) -> Values:
    return np.where(np.isfinite(values), values, np.nan)


def _zero_tail(signals: Floats) -> Ints:
    """Positions at the end of the last axis at which all channels are 0: (sample,)."""
    busy = (signals != 0).reshape(len(signals), -1, signals.shape[-1]).any(axis=1)[:, ::-1]  # (sample, position), last first
    tails: Ints = np.where(busy.any(axis=1), busy.argmax(axis=1), busy.shape[1])
    return tails


def _mean(values: NDArray[np.floating], known: Bools) -> Values:
    """Mean of each row's known values; NaN if it has none. values, known: (sample, value)."""
    count = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _drawn(count: int, most: int, rng: np.random.Generator) -> Ints:
    """Numbers of at most `most` of `count` samples, ascending."""
    return np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))


def _learned_ends(learned: Signals) -> tuple[Values, Values, Values]:
    """Lowest and highest training values by position, (channel, ...) each, and the summaries of each sample."""
    low, high = np.full(learned.shape[1:], np.inf), np.full(learned.shape[1:], -np.inf)
    shown = np.empty((len(learned), len(SUMMARIES)))
    for rows, values in blocks_of(learned):
        least, most = _ends(values, axes=(0,))
        low, high = np.minimum(low, least), np.maximum(high, most)
        shown[rows] = summaries(values)
    return low, high, shown


def _outside(other: Signals, wide: tuple[Values, Values], narrow: tuple[Values, Values]) -> tuple[Values, Values, Values]:
    """Shares of values outside by channel and by position, and the summaries of each sample.

    wide: (channel, 1, ...) limits; narrow: (channel, ...) limits. Shares are NaN where there is no finite value.
    """
    count, apart, odd = (np.zeros(other.shape[1:], np.int64) for _ in range(3))
    seen = np.empty((len(other), len(SUMMARIES)))
    for rows, values in blocks_of(other):
        known = np.isfinite(values)
        count += known.sum(axis=0)
        apart += (known & ((values < wide[0]) | (values > wide[1]))).sum(axis=0)
        odd += (known & ((values < narrow[0]) | (values > narrow[1]))).sum(axis=0)
        seen[rows] = summaries(values)
    by_channel = (whole.reshape(len(whole), -1).sum(axis=1) for whole in (apart, count))
    return _share(*by_channel), _share(odd, count), seen


def _share(part: Ints, whole: Ints) -> Values:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _shift(name: str, learned: Values, other: Values) -> Shift:
    learned, other = (np.sort(values[~np.isnan(values)]) for values in (learned, other))
    if not len(learned) or not len(other):
        return Shift(name, math.nan, math.nan, math.nan, math.nan)
    every = np.concatenate([learned, other])
    reached = (np.searchsorted(values, every, side="right") / len(values) for values in (learned, other))
    distance = float(np.abs(np.subtract(*reached)).max())
    size = math.sqrt(len(learned) * len(other) / len(every))
    p = float(special.kolmogorov((size + 0.12 + 0.11 / size) * distance))  # Stephens 1970
    return Shift(name, distance, p, float(np.median(learned)), float(np.median(other)))


def _check_labels(signals: Signals, labels: Ints, classes: int) -> None:
    if len(labels) != len(signals):
        raise DataError(f"statistics: {len(labels)} labels for {len(signals)} samples; expected one per sample")
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        bad = int(np.flatnonzero((labels < 0) | (labels >= classes))[0])
        raise DataError(f"statistics: label {labels[bad]} of sample {bad} is not a class number from 0 to {classes - 1}")


def _check_pair(learned: Signals, other: Signals) -> None:
    if learned.shape[1:] != other.shape[1:]:
        words = [shape_words(signals.shape[1:]) for signals in (learned, other)]
        raise DataError(f"drift: the other samples have {words[1]}; expected {words[0]}, like the training samples")
    if not len(learned) or not len(other):
        raise DataError(f"drift: {len(learned)} training and {len(other)} other samples; expected at least one of each")
