"""Metrics of class probabilities, and scores with a confidence interval of these and of any other metrics.

Each metric is written once, for weighted samples: weights of 1 give its value, and the weights of bootstrap resamples
(Efron 1979: how often a resample drew each sample) give its interval, many resamples at a time.

Legend: N samples, C classes, R resamples. probabilities (N, C), labels (N,) int64 class numbers, weights (R, N). Metrics of
other tasks have predictions (N, ...) and a truth (N, K).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.core.errors import DataError, plural
from wavefold.core.records import ScoreRow
from wavefold.core.registry import Table, pick
from wavefold.data.dataset import Ints, class_names
from wavefold.evaluation.intervals import bootstrap_interval, f1_ends, least_share, separation_ends, share_ends
from wavefold.evaluation.metric import Ends, Metric, Truth, Values, Weighted, area, mean_over, truth_array, weighted_mean

__all__ = ["METRICS", "Cut", "Metric", "Score", "Values", "Weighted", "cut_score", "f1_by_class", "score"]

_BINS = 15  # for ECE, as in Guo and others 2017


@dataclass(frozen=True)
class Score:
    """A metric's value on labelled samples, its 95 % interval, and the other applicable metrics; NaN if undefined."""

    metric: str
    value: float
    interval: tuple[float, float]
    n: int  # samples
    others: dict[str, float]
    by: dict[str, dict[str, Cut]] = field(default_factory=dict)  # column -> value -> the metric of its samples
    standing: str = ""  # a line: how the ensemble stands to the best baseline
    baselines: tuple[ScoreRow, ...] = ()
    per: int = 0  # rows for which a summed metric is quoted
    units: dict[str, str] = field(default_factory=dict)  # metric -> unit, where it has one

    def as_json(self) -> dict[str, object]:
        """The object that `wavefold score --json` prints; undefined values are None."""
        cuts = {column: {value: cut.as_json() for value, cut in cuts.items()} for column, cuts in self.by.items()}
        return {
            "metric": self.metric,
            "value": _json(self.value),
            "interval": [_json(end) for end in self.interval],
            "n": self.n,
            "others": {name: _json(value) for name, value in self.others.items()},
            **({"by": cuts} if cuts else {}),
            **({"standing": self.standing, "baselines": [row.as_json() for row in self.baselines]} if self.standing else {}),
            **({"units": self.units} if self.units else {}),
        }

    def text(self) -> str:
        """The lines that `wavefold score` prints: how it stands to the baselines first."""
        lines = [self.standing] if self.standing else []
        unit = self.units.get(self.metric, "")
        lines.append(f"{self.line()}{f' ({unit})' if unit else ''}")
        if self.metric == "l1" and self.per:
            value, low, high = (v * self.per / self.n for v in (self.value, *self.interval))
            lines.append(f"l1 per {plural(self.per, 'row')} {value:,.0f} [{low:,.0f}, {high:,.0f}]")
        lines += [
            f"{name} {_text(value)}{f' {self.units[name]}' if name in self.units else ''}"
            for name, value in self.others.items()
        ]
        for column, cuts in self.by.items():
            lines += [f"{self.metric} by {column}:", *(f"  {value:<20} {cut.line()}" for value, cut in cuts.items())]
        return "\n".join(lines)

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

    def as_json(self) -> dict[str, object]:
        """value, interval and n; undefined values are None."""
        return {"value": _json(self.value), "interval": [_json(end) for end in self.interval], "n": self.n}

    def line(self) -> str:
        """One line of text, as in Score, without the metric's name."""
        return _line(self.value, self.interval, self.n)


def score(
    values: ArrayLike,
    truth: ArrayLike,
    *,
    metric: str,
    table: Mapping[str, Metric] | None = None,
    decided: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Score:
    """Compute the named metric with its interval, and all others of its table, on samples whose truth is known.

    values: (N, C) probabilities, or other predictions. truth: (N,) labels or (N, K). table: the metrics, by default those of
    classes. decided: decisions to submit, shaped as values; if given, metrics of decisions (l1) are computed on them.
    groups: (N,) names of the resampling units for the interval (patients, stars).
    """
    metrics = METRICS if table is None else table
    pick(metrics, metric, "metric")
    given, known = _checked(values, truth)
    submitted = given if decided is None else _checked(decided, truth)[0]
    taken = {name: submitted if m.decided else given for name, m in metrics.items()}
    return Score(
        metric=metric,
        value=metrics[metric].function(taken[metric], known),
        interval=bootstrap_interval(metrics[metric], taken[metric], known, groups=groups, seed=seed),
        n=len(known),
        others={name: m.function(taken[name], known) for name, m in metrics.items() if name != metric},
        units={name: m.unit for name, m in metrics.items() if m.unit},
    )


def cut_score(
    metric: str | Metric,
    values: ArrayLike,
    truth: ArrayLike,
    marks: NDArray[np.str_],
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, Cut]:
    """Compute a metric for each mark of the samples, in the marks' natural order; "" is no mark.

    values: (N, C) or as the metric takes them; marks: (N,). If the truth is class numbers (N,), each mark is scored on its own
    samples and all samples of the classes that it lacks: positives of one family against every negative. Otherwise it is
    scored on its own samples.
    """
    part, (odds, known) = _metric(metric), _checked(values, truth)
    cuts = {}
    for mark in sorted(class_names([m for m in marks.tolist() if m]), key=_start):
        own = marks == mark
        rows = own | ~np.isin(known, known[own]) if known.ndim == 1 else own
        units = None if groups is None else np.asarray(groups)[rows]
        ends = bootstrap_interval(part, odds[rows], known[rows], groups=units, seed=seed)
        cuts[mark] = Cut(part.function(odds[rows], known[rows]), ends, int(own.sum()))
    return cuts


def _start(mark: str) -> tuple[float, str]:
    """Sorts ranges such as "8.4 to 16.6" by their first number, after it other marks in their own order."""
    low, to, _ = mark.partition(" to ")
    try:
        return (float(low), "") if to else (math.inf, "")
    except ValueError:
        return math.inf, ""


def f1_by_class(probabilities: ArrayLike, labels: ArrayLike) -> list[float]:
    """F1 of each class for the most probable class; 0 for a class that neither occurs nor is predicted."""
    values, numbers = _checked(probabilities, labels)
    guessed, classes = values.argmax(axis=1), np.arange(values.shape[1])
    right = np.bincount(numbers[guessed == numbers], minlength=len(classes))
    both = np.bincount(numbers, minlength=len(classes)) + np.bincount(guessed, minlength=len(classes))
    return [float(v) for v in 2 * right / np.maximum(both, 1)]


def _accuracy(probabilities: Values, labels: Ints) -> Weighted:
    return weighted_mean((probabilities.argmax(axis=1) == labels).astype(np.float64))


def _macro_f1(probabilities: Values, labels: Ints) -> Weighted:
    """Mean F1 of the classes that occur in labels or predictions, as in scikit-learn."""
    classes = np.eye(probabilities.shape[1])
    predicted, actual = classes[probabilities.argmax(axis=1)], classes[labels]  # (N, C) one-hot
    hits, either = predicted * actual, predicted + actual

    def value(weights: Values) -> Values:
        both, sums = weights @ hits, weights @ either  # (R, C)
        f1 = 2 * both / np.where(sums > 0, sums, 1.0)
        mean: Values = f1.sum(axis=1) / (sums > 0).sum(axis=1)
        return mean

    return value


def _l1(probabilities: Values, labels: Ints) -> Weighted:
    """Sum over samples of |p - y| over classes; resamples with more or fewer samples are scaled to N."""
    distance = np.abs(probabilities - np.eye(probabilities.shape[1])[labels]).sum(axis=1)
    mean = weighted_mean(distance)
    return lambda weights: len(labels) * mean(weights)


def _l1_ends(value: float, truth: Truth, unit: Ints, level: float) -> Ends | None:
    """Ends of l1 at 0 and at its most, 2 N: 2 N times those of the share of wrong samples, the worst case of their distance."""
    share = share_ends(value / (2 * len(truth)), truth, unit, level)
    return share and (2 * len(truth) * share[0], 2 * len(truth) * share[1])


def _auc(probabilities: Values, labels: Ints) -> Weighted:
    """Area under the ROC curve: of class 1 if there are two classes, else the mean over classes of one against the rest."""
    classes = probabilities.shape[1]
    return mean_over([area(probabilities[:, c], labels == c) for c in ([1] if classes == 2 else range(classes))])


def _log_loss(probabilities: Values, labels: Ints) -> Weighted:
    given = probabilities[np.arange(len(labels)), labels]
    return weighted_mean(-np.log(np.maximum(given, np.finfo(np.float64).eps)))  # a certain mistake costs 36, not infinity


def _ece(probabilities: Values, labels: Ints) -> Weighted:
    """Expected calibration error: |accuracy - confidence| over 15 equal bins (low, high] of the top probability."""
    top = probabilities.max(axis=1)
    bins = np.clip(np.ceil(top * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
    excess = (probabilities.argmax(axis=1) == labels) - top
    parts = np.eye(_BINS)[bins] * excess[:, None]  # (N, bins)
    return lambda weights: np.abs(weights @ parts).sum(axis=1) / weights.sum(axis=1)


def _ece_ends(value: float, truth: Truth, unit: Ints, level: float) -> Ends | None:
    """Ends of ECE at 0 in every resample, where all is certain and right: the greatest share of certain mistakes."""
    return (0.0, 1.0 - least_share(len(np.unique(unit)), level)) if value == 0.0 else None


METRICS: Table[Metric] = Table(
    "metrics",
    {
        metric.name: metric
        for metric in (
            Metric("accuracy", _accuracy, higher_is_better=True, exact=share_ends),
            Metric("macro-f1", _macro_f1, higher_is_better=True, exact=f1_ends),
            Metric("l1", _l1, higher_is_better=False, decided=True, total=True, exact=_l1_ends),
            Metric("auc", _auc, higher_is_better=True, resamples=200, exact=separation_ends),  # ranks every class
            Metric("log-loss", _log_loss, higher_is_better=False),
            Metric("ece", _ece, higher_is_better=False, exact=_ece_ends),
        )
    },
)


def _metric(metric: str | Metric) -> Metric:
    return metric if isinstance(metric, Metric) else pick(METRICS, metric, "metric")


def _checked(values: ArrayLike, truth: ArrayLike) -> tuple[Values, Truth]:
    """Both as arrays; DataError unless they have a row for each sample and, if the truth is (N,), it is class numbers."""
    given, known = np.asarray(values, np.float64), truth_array(truth)
    what, these = ("probabilities", "labels") if known.ndim == 1 else ("predictions", "truths")
    if not len(known) or given.ndim != 2 or len(given) != len(known):
        raise DataError(f"score: {what} {given.shape} do not match {len(known)} {these}; expected one row each, at least one")
    if known.ndim == 1 and (known.min() < 0 or known.max() >= given.shape[1]):
        bad = int(np.flatnonzero((known < 0) | (known >= given.shape[1]))[0])
        raise DataError(f"score: label {known[bad]} of sample {bad} is not a class number from 0 to {given.shape[1] - 1}")
    if not np.isfinite(given).all():
        raise DataError(f"score: {what} of sample {int(np.argmin(np.isfinite(given).all(axis=1)))} are not finite")
    return given, known


def _line(value: float, ends: tuple[float, float], n: int) -> str:
    return f"{_text(value)} [{_text(ends[0])}, {_text(ends[1])}], n {n:,}"


def _json(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _text(value: float) -> str:
    if math.isnan(value):
        return "undefined"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.2f}"
