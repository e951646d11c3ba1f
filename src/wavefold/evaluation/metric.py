"""Defines Metric, a score written once for weighted samples, and what several metrics share.

Weights of 1 give a metric's value; the weights of bootstrap resamples, how often each drew each sample, give its interval.

Legend: N samples, K columns of the truth, R resamples. weights (R, N); truth (N,) class numbers, or (N, K) numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.data.dataset import Ints

Values = NDArray[np.float64]
Truth = NDArray[np.int64 | np.float64]  # (N,) int64 class numbers, or (N, K) float64
Weighted = Callable[[Values], Values]  # weights (R, N) to the metric of each resample (R,)
Ends = tuple[float, float]
Exact = Callable[[float, Truth, Ints, float], Ends | None]  # (value, truth, units (N,), level); None inside the range


@dataclass(frozen=True)
class Metric:
    """One metric by its short name. weighted: from predictions (N, ...) and truth (N,) or (N, K) to a function of weights.

    exact: ends of the interval where the value is the best or worst possible in every resample, which are then all equal.
    """

    name: str
    weighted: Callable[[Values, Any], Weighted]
    higher_is_better: bool
    resamples: int = 1000  # default number for an interval
    decided: bool = False  # computed on decisions, not on probabilities
    total: bool = False  # a sum over samples
    unit: str = ""  # of the value, for display
    ranks: bool = True  # False if neither more nor less is better, as for coverage
    exact: Exact | None = None

    def function(self, values: ArrayLike, truth: ArrayLike) -> float:
        """The metric's value; NaN where it is undefined. values: (N, ...) predictions; truth: (N,) or (N, K)."""
        known = truth_array(truth)
        return float(self.weighted(np.asarray(values, np.float64), known)(np.ones((1, len(known))))[0])


def truth_array(truth: ArrayLike) -> Truth:
    """(N,) class numbers as int64, (N, K) as float64."""
    given = np.asarray(truth)
    return given.astype(np.int64 if given.ndim == 1 else np.float64, copy=False)


def weighted_mean(parts: Values) -> Weighted:
    """The mean over samples of parts (N,)."""
    return lambda weights: (weights @ parts) / weights.sum(axis=1)


def mean_of_known(each: Values) -> Values:
    """The mean over the first axis without NaN, NaN where all are NaN. each: (K, R); result: (R,)."""
    known = ~np.isnan(each)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, each, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def mean_over(parts: Sequence[Weighted]) -> Weighted:
    """The mean of several metrics over those that are defined."""
    return lambda weights: mean_of_known(np.stack([part(weights) for part in parts]))


def quotient(top: Values, bottom: Values) -> Values:
    """top / bottom, NaN where bottom is not above 0."""
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan)


def area(scores: Values, positive: NDArray[np.bool_]) -> Weighted:
    """Area under the ROC curve: the probability that a positive sample scores above a negative one, ties counted as half."""
    parts = _by_score(scores, positive)

    def value(weights: Values) -> Values:
        good, bad = parts(weights)
        pairs = good.sum(axis=1) * bad.sum(axis=1)
        wins = (good * (bad.cumsum(axis=1) - bad / 2)).sum(axis=1)
        return quotient(wins, pairs)

    return value


def average_precision(scores: Values, positive: NDArray[np.bool_]) -> Weighted:
    """Sum over distinct scores, from the highest, of the gain in recall times the precision; NaN without positives."""
    parts = _by_score(-scores, positive)

    def value(weights: Values) -> Values:
        good, bad = parts(weights)
        found = good.cumsum(axis=1)
        precision = found / np.maximum(found + bad.cumsum(axis=1), 1e-300)
        return quotient((good * precision).sum(axis=1), found[:, -1])

    return value


def _by_score(scores: Values, positive: NDArray[np.bool_]) -> Callable[[Values], tuple[Values, Values]]:
    """From weights to the weights of positives and of negatives at each distinct score, ascending: (R, distinct) each."""
    order = np.argsort(scores)
    kth_smallest = scores[order]
    steps = np.flatnonzero(np.r_[True, kth_smallest[1:] != kth_smallest[:-1]])  # where each distinct score starts
    hit = positive[order].astype(np.float64)

    def parts(weights: Values) -> tuple[Values, Values]:
        sorted_weights = weights[:, order]
        total = np.add.reduceat(sorted_weights, steps, axis=1)
        good = np.add.reduceat(sorted_weights * hit, steps, axis=1)
        return good, total - good

    return parts
