"""Confidence intervals of metrics: the percentile bootstrap (Efron 1979), over samples or over whole groups.

Where every resample gives the best or the worst possible value, the percentile interval is that one value: 24 right of 24
would be certain to be right for ever. There the ends come from the exact interval of a share (Clopper and Pearson 1934): if
all of n independent units agree, the chance that the next one does is, at 95 %, at least .025 ** (1 / n). The ends built on
it here are conservative: they cover the truth at least as often as promised.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.core.errors import DataError, plural
from wavefold.data.dataset import Ints
from wavefold.evaluation.metric import Ends, Exact, Metric, Truth, Values, truth_array

_CHUNK = 2_000_000  # weights held at once: 16 MB


def bootstrap_interval(
    metric: Metric,
    values: ArrayLike,
    truth: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    resamples: int | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> Ends:
    """Ends of the percentile interval of a metric, or of its exact interval where all resamples give the extreme value.

    values: (N, ...) predictions. truth: (N,) or (N, K). groups: (N,) names of the units to resample, by default the samples.
    (NaN, NaN) if there are fewer than two units, or if the metric is defined in no resample.
    """
    known, unit = truth_array(truth), _units(len(np.asarray(truth)), groups)
    weighted = metric.weighted(np.asarray(values, np.float64), known)
    if unit.max() == 0:
        return math.nan, math.nan
    drawn = np.concatenate([weighted(w) for w in _resample(unit, resamples or metric.resamples, seed)])
    low, high = _ends(drawn, level)
    if low == high and metric.exact:
        return metric.exact(low, known, unit, level) or (low, high)
    return low, high


def paired_difference(
    metric: Metric,
    ours: ArrayLike,
    theirs: ArrayLike,
    truth: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """A metric of our predictions minus that of theirs, and the ends of its percentile interval on the same resamples.

    ours, theirs: (N, ...) predictions of the same samples. truth: (N,) or (N, K). groups: (N,) names of the units to
    resample, by default the samples. The ends are NaN if there are fewer than two units. Where both are equal in every
    resample the interval is [0, 0]: these samples do not tell them apart.
    """
    known, unit = truth_array(truth), _units(len(np.asarray(truth)), groups)
    mine, other = (metric.weighted(np.asarray(values, np.float64), known) for values in (ours, theirs))
    whole = np.ones((1, len(known)))
    difference = float((mine(whole) - other(whole))[0])
    if unit.max() == 0:
        return difference, math.nan, math.nan
    drawn = [mine(weights) - other(weights) for weights in _resample(unit, metric.resamples, seed)]
    return difference, *_ends(np.concatenate(drawn), level)


def least_share(units: int, level: float = 0.95) -> float:
    """Lower end of the Clopper-Pearson interval of a share if all of `units` agree; NaN if there are none."""
    return float(((1 - level) / 2) ** (1 / units)) if units else math.nan


def share_ends(value: float, truth: Truth, unit: Ints, level: float) -> Ends | None:
    """Exact ends of a share of samples at 0 or 1, from the number of units: Clopper-Pearson."""
    return _at_ends(value, least_share(len(np.unique(unit)), level))


def separation_ends(value: float, truth: Truth, unit: Ints, level: float) -> Ends | None:
    """Ends at 0 or 1 of an area or an average precision: a class is as certain as its rarer side, positive or negative.

    Of each class or label that has both sides, least_share of the units of the rarer one; the mean over them.
    """
    hot = _columns(truth)
    rarer = [min(a, b) for a, b in zip(_counts(hot, unit), _counts(~hot, unit), strict=True)]
    return _at_ends(value, _mean_least(rarer, level))


def f1_ends(value: float, truth: Truth, unit: Ints, level: float) -> Ends | None:
    """Ends of macro-F1 at 1, where recall and precision of each class are at least the least share of its units.

    The lower end is the mean of that over the classes or labels present.
    """
    least = _mean_least(_counts(_columns(truth), unit), level)
    return (least, 1.0) if value == 1.0 and not math.isnan(least) else None


def known_share_ends(column: int | None = None) -> Exact:
    """share_ends for truths with gaps: of one column of the truth, or the mean over all columns with known truths."""

    def ends(value: float, truth: Truth, unit: Ints, level: float) -> Ends | None:
        known = ~np.isnan(truth if column is None else truth[:, [column]])
        return _at_ends(value, _mean_least(_counts(known, unit), level))

    return ends


def _at_ends(value: float, least: float) -> Ends | None:
    if math.isnan(least):
        return None
    return {1.0: (least, 1.0), 0.0: (0.0, 1.0 - least)}.get(value)


def _mean_least(counts: list[int], level: float) -> float:
    there = [least_share(count, level) for count in counts if count]
    return float(np.mean(there)) if there else math.nan


def _columns(truth: Truth) -> NDArray[np.bool_]:
    """(N, K) where each class that occurs, or each label, is."""
    hot: NDArray[np.bool_] = truth > 0 if truth.ndim == 2 else truth[:, None] == np.unique(truth)
    return hot


def _counts(there: NDArray[np.bool_], unit: Ints) -> list[int]:
    """Units with a sample in each column of `there` (N, K)."""
    return [len(np.unique(unit[column])) for column in there.T]


def _units(count: int, groups: ArrayLike | None) -> Ints:
    """Number of each sample's resampling unit, (N,)."""
    if groups is None:
        return np.arange(count)
    names = np.asarray(groups)
    if names.shape != (count,):
        raise DataError(f"interval: groups of shape {names.shape} do not match {plural(count, 'sample')}; expected one each")
    numbers: Ints = np.unique(names, return_inverse=True)[1]
    return numbers


def _resample(unit: Ints, resamples: int, seed: int) -> Iterator[Values]:
    """Yield weights (some R, N): how often each sample's unit was drawn. unit: (N,) numbers of the resampling units."""
    rng = np.random.default_rng(seed)
    units = int(unit.max()) + 1
    rows = max(1, _CHUNK // len(unit))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(units, size=(count, units)) + units * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)
        yield weights if units == len(unit) else weights[:, unit]


def _ends(drawn: Values, level: float) -> Ends:
    """The percentile interval of the resamples in which the metric is defined; NaN if there are none."""
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return math.nan, math.nan
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
