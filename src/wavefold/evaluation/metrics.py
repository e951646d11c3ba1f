"""Metrics of class probabilities, each with a confidence interval.

Each metric is written once, for weighted samples: weights of 1 give its value, and the weights of bootstrap resamples
(Efron 1979: how often a resample drew each sample) give its interval, many resamples at a time.

Legend: N samples, C classes, R resamples. probabilities (N, C), labels (N,) int64 class numbers, weights (R, N).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.core.errors import DataError
from wavefold.core.registry import Table, pick
from wavefold.data.dataset import Ints, class_names

Values = NDArray[np.float64]
Weighted = Callable[[Values], Values]  # weights (R, N) to the metric of each resample (R,)

_BINS = 15  # for ECE, as in Guo and others 2017
_CHUNK = 2_000_000  # weights held at once: 16 MB


@dataclass(frozen=True)
class Metric:
    """One metric by its short name. weighted: from probabilities (N, C) and labels (N,) to a function of weights."""

    name: str
    weighted: Callable[[Values, Ints], Weighted]
    higher_is_better: bool
    resamples: int = 1000  # default number for an interval

    def function(self, probabilities: ArrayLike, labels: ArrayLike) -> float:
        """The metric's value; NaN where it is undefined. probabilities: (N, C); labels: (N,)."""
        values, numbers = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
        return float(self.weighted(values, numbers)(np.ones((1, len(numbers))))[0])


@dataclass(frozen=True)
class Score:
    """A metric's value on labelled samples, its 95 % interval, and the other applicable metrics; NaN if undefined."""

    metric: str
    value: float
    interval: tuple[float, float]
    n: int  # samples
    others: dict[str, float]
    by: dict[str, dict[str, Cut]] = field(default_factory=dict)  # column -> value -> the metric of its samples

    def as_json(self) -> dict[str, Any]:
        """The object that `wavefold score --json` prints; undefined values are None."""
        cuts = {column: {value: cut.as_json() for value, cut in cuts.items()} for column, cuts in self.by.items()}
        return {
            "metric": self.metric,
            "value": _json(self.value),
            "interval": [_json(end) for end in self.interval],
            "n": self.n,
            "others": {name: _json(value) for name, value in self.others.items()},
            **({"by": cuts} if cuts else {}),
        }

    def line(self) -> str:
        """One line of text: macro-f1 0.9721 [0.9680, 0.9759], n 14,895."""
        return f"{self.metric} {_line(self.value, self.interval, self.n)}"

    def __str__(self) -> str:
        return self.line()


@dataclass(frozen=True)
class Cut:
    """A metric on the samples with one value of a column, together with all samples of the classes that the value lacks."""

    value: float
    interval: tuple[float, float]
    n: int  # samples with the value

    def as_json(self) -> dict[str, Any]:
        """value, interval and n; undefined values are None."""
        return {"value": _json(self.value), "interval": [_json(end) for end in self.interval], "n": self.n}

    def line(self) -> str:
        """One line of text, as in Score, without the metric's name."""
        return _line(self.value, self.interval, self.n)


def score(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    metric: str,
    decided: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Score:
    """Compute the named metric with its interval, and all others, on labelled samples.

    probabilities: (N, C). labels: (N,). decided: (N, C) decisions to submit; if given, l1 is computed on them.
    groups: (N,) names of the resampling units for the interval (patients, stars).
    """
    pick(METRICS, metric, "metric")
    values, numbers = _checked(probabilities, labels)
    submitted = values if decided is None else _checked(decided, labels)[0]
    taken = {name: submitted if name == "l1" else values for name in METRICS}
    return Score(
        metric=metric,
        value=METRICS[metric].function(taken[metric], numbers),
        interval=interval(metric, taken[metric], numbers, groups=groups, seed=seed),
        n=len(numbers),
        others={name: m.function(taken[name], numbers) for name, m in METRICS.items() if name != metric},
    )


def interval(
    metric: str,
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    resamples: int | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Ends of the percentile bootstrap interval of a metric, over samples or, if given, over whole groups.

    probabilities: (N, C). labels: (N,). groups: (N,) names. (NaN, NaN) if there are fewer than two samples or groups. If no
    sample is wrong, the interval cannot reflect how often one would be: consider n too.
    """
    part = pick(METRICS, metric, "metric")
    values, numbers = _checked(probabilities, labels)
    unit = np.arange(len(numbers)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if unit.max() == 0:
        return math.nan, math.nan
    weighted = part.weighted(values, numbers)
    drawn = np.concatenate([weighted(w) for w in _resample(unit, resamples or part.resamples, seed)])
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return math.nan, math.nan
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def cut_score(
    metric: str,
    values: ArrayLike,
    labels: ArrayLike,
    marks: NDArray[np.str_],
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, Cut]:
    """Compute a metric for each mark of the samples, in the marks' natural order; "" is no mark.

    values: (N, C), the metric's input; marks: (N,). Each mark is scored on its own samples and all samples of the classes
    that it lacks: positives of one family against every negative.
    """
    odds, numbers = _checked(values, labels)
    cuts = {}
    for mark in class_names([m for m in marks.tolist() if m]):
        own = marks == mark
        rows = own | ~np.isin(numbers, numbers[own])
        part = None if groups is None else np.asarray(groups)[rows]
        ends = interval(metric, odds[rows], numbers[rows], groups=part, seed=seed)
        cuts[mark] = Cut(METRICS[metric].function(odds[rows], numbers[rows]), ends, int(own.sum()))
    return cuts


def f1_by_class(probabilities: ArrayLike, labels: ArrayLike) -> list[float]:
    """F1 of each class for the most probable class; 0 for a class that neither occurs nor is predicted."""
    values, numbers = _checked(probabilities, labels)
    guessed, classes = values.argmax(axis=1), np.arange(values.shape[1])
    right = np.bincount(numbers[guessed == numbers], minlength=len(classes))
    both = np.bincount(numbers, minlength=len(classes)) + np.bincount(guessed, minlength=len(classes))
    return [float(v) for v in 2 * right / np.maximum(both, 1)]


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


def _accuracy(probabilities: Values, labels: Ints) -> Weighted:
    return _weighted_mean((probabilities.argmax(axis=1) == labels).astype(np.float64))


def _macro_f1(probabilities: Values, labels: Ints) -> Weighted:
    """Mean F1 of the classes that occur in labels or predictions, as in scikit-learn."""
    classes = np.eye(probabilities.shape[1])
    predicted, actual = classes[probabilities.argmax(axis=1)], classes[labels]  # (N, C) one-hot
    hits, either = predicted * actual, predicted + actual

    def value(weights: Values) -> Values:
        both, sums = weights @ hits, weights @ either  # (R, C)
        f1 = 2 * both / np.where(sums > 0, sums, 1.0)
        return f1.sum(axis=1) / (sums > 0).sum(axis=1)  # type: ignore[no-any-return]  # NumPy types a quotient as Any

    return value


def _l1(probabilities: Values, labels: Ints) -> Weighted:
    """Sum over samples of |p - y| over classes; resamples with more or fewer samples are scaled to N."""
    distance = np.abs(probabilities - np.eye(probabilities.shape[1])[labels]).sum(axis=1)
    mean = _weighted_mean(distance)
    return lambda weights: len(labels) * mean(weights)


def _auc(probabilities: Values, labels: Ints) -> Weighted:
    """Area under the ROC curve: of class 1 if there are two classes, else the mean over classes of one against the rest."""
    classes = probabilities.shape[1]
    areas = [_area(probabilities[:, c], labels == c) for c in ([1] if classes == 2 else range(classes))]

    def value(weights: Values) -> Values:
        each = np.stack([area(weights) for area in areas])  # (C, R), NaN where a class or its rest is absent
        known = ~np.isnan(each)
        count = known.sum(axis=0)
        return np.where(count > 0, np.where(known, each, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)

    return value


def _area(scores: Values, positive: NDArray[np.bool_]) -> Weighted:
    """Probability that a positive sample scores above a negative one, with ties counted as half."""
    order = np.argsort(scores)
    kth_smallest = scores[order]
    steps = np.flatnonzero(np.r_[True, kth_smallest[1:] != kth_smallest[:-1]])  # where each distinct score starts
    hit = positive[order].astype(np.float64)

    def value(weights: Values) -> Values:
        sorted_weights = weights[:, order]
        total = np.add.reduceat(sorted_weights, steps, axis=1)  # (R, distinct scores)
        good = np.add.reduceat(sorted_weights * hit, steps, axis=1)
        bad = total - good
        pairs = good.sum(axis=1) * bad.sum(axis=1)
        wins = (good * (bad.cumsum(axis=1) - bad / 2)).sum(axis=1)
        return np.where(pairs > 0, wins / np.where(pairs > 0, pairs, 1.0), np.nan)

    return value


def _log_loss(probabilities: Values, labels: Ints) -> Weighted:
    given = probabilities[np.arange(len(labels)), labels]
    return _weighted_mean(-np.log(np.maximum(given, np.finfo(np.float64).eps)))  # a certain mistake costs 36, not infinity


def _ece(probabilities: Values, labels: Ints) -> Weighted:
    """Expected calibration error: |accuracy - confidence| over 15 equal bins (low, high] of the top probability."""
    top = probabilities.max(axis=1)
    bins = np.clip(np.ceil(top * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
    excess = (probabilities.argmax(axis=1) == labels) - top
    parts = np.eye(_BINS)[bins] * excess[:, None]  # (N, bins)
    return lambda weights: np.abs(weights @ parts).sum(axis=1) / weights.sum(axis=1)


def _weighted_mean(parts: Values) -> Weighted:
    return lambda weights: (weights @ parts) / weights.sum(axis=1)


METRICS: Table[Metric] = Table(
    "metrics",
    {
        metric.name: metric
        for metric in (
            Metric("accuracy", _accuracy, higher_is_better=True),
            Metric("macro-f1", _macro_f1, higher_is_better=True),
            Metric("l1", _l1, higher_is_better=False),
            Metric("auc", _auc, higher_is_better=True, resamples=200),  # each resample goes through every class's ranking
            Metric("log-loss", _log_loss, higher_is_better=False),
            Metric("ece", _ece, higher_is_better=False),
        )
    },
)


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Values, Ints]:
    values, numbers = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
    if not len(numbers) or values.ndim != 2 or len(values) != len(numbers):
        raise DataError(
            f"score: probabilities {values.shape} do not match {len(numbers)} labels; expected one row each, at least one"
        )
    if numbers.min() < 0 or numbers.max() >= values.shape[1]:
        bad = int(np.flatnonzero((numbers < 0) | (numbers >= values.shape[1]))[0])
        raise DataError(f"score: label {numbers[bad]} of sample {bad} is not a class number from 0 to {values.shape[1] - 1}")
    if not np.isfinite(values).all():
        raise DataError(f"score: probabilities of sample {int(np.argmin(np.isfinite(values).all(axis=1)))} are not finite")
    return values, numbers


def _line(value: float, ends: tuple[float, float], n: int) -> str:
    return f"{_text(value)} [{_text(ends[0])}, {_text(ends[1])}], n {n:,}"


def _json(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _text(value: float) -> str:
    if math.isnan(value):
        return "undefined"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.2f}"
