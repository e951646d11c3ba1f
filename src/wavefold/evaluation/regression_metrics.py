"""Metrics of predicted numbers with gaps in the truth, for one target or for several in different units.

Legend: N samples, T targets, R resamples. Predictions (N, 2T): T means, then T standard deviations (spreads), in the targets'
units; truths (N, T), NaN where unknown, which is left out of that target only. weights (R, N).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from wavefold.core.errors import DataError, UserError, listed, plural
from wavefold.evaluation.intervals import known_share_ends
from wavefold.evaluation.metric import Metric, Values, Weighted, mean_over, quotient

OfTarget = Callable[[Values, Values, Values], Weighted]  # means, spreads and truths (N,) of a target with truths known

_NOMINAL = 1.96  # standard deviations either side of the mean: 95 % of a Gaussian
_FLAT = 1e-12  # smallest share of the truths' variation that is not rounding


def regression_metrics(names: Sequence[str], units: Sequence[str] = ()) -> dict[str, Metric]:
    """All metrics by name. names: of the T targets; units: theirs, for display.

    For one target rmse, mae, r2, median-ae (median absolute error), nrmse (rmse / standard deviation of the truths) and
    coverage: the share of truths within the mean +- 1.96 spreads, nominally .95, so that neither more nor less is better. For
    several r2, nrmse and coverage, each the mean over targets, and all but nrmse of each target as rmse-NAME and so on. r2 and
    nrmse are NaN where the truths do not vary, every metric where none is known. UserError if names repeat or units do not
    match.
    """
    _check_names(names, units)
    every = range(len(names))
    if len(names) == 1:
        nrmse = Metric("nrmse", partial(_mean_of, _nrmse, every), higher_is_better=False)
        return {**_of_one(0, 1, "", (*units, "")[0]), "nrmse": nrmse}
    metrics = {
        "r2": Metric("r2", partial(_mean_of, _r2, every), higher_is_better=True),
        "nrmse": Metric("nrmse", partial(_mean_of, _nrmse, every), higher_is_better=False),
        "coverage": _covering("coverage", partial(_mean_of, _coverage, every), None),
    }
    for target, name in enumerate(names):
        metrics |= _of_one(target, len(names), f"-{name}", units[target] if units else "")
    return metrics


def _of_one(target: int, targets: int, suffix: str, unit: str) -> dict[str, Metric]:
    """The five metrics of one target."""

    def metric(name: str, part: OfTarget, unit: str, higher_is_better: bool = False) -> Metric:
        return Metric(name + suffix, partial(_of, part, target, targets), higher_is_better, unit=unit)

    made = [
        metric("rmse", _rmse, unit),
        metric("mae", _mae, unit),
        metric("r2", _r2, "", higher_is_better=True),
        metric("median-ae", _median_error, unit),
        _covering(f"coverage{suffix}", partial(_of, _coverage, target, targets), target),
    ]
    return {m.name: m for m in made}


def _covering(name: str, weighted: Callable[[Values, Values], Weighted], target: int | None) -> Metric:
    return Metric(name, weighted, higher_is_better=True, ranks=False, exact=known_share_ends(target))


def _mean_of(part: OfTarget, every: range, predictions: Values, truth: Values) -> Weighted:
    return mean_over([_of(part, target, len(every), predictions, truth) for target in every])


def _of(part: OfTarget, target: int, targets: int, predictions: Values, truth: Values) -> Weighted:
    """A metric of one target, from the samples whose truth is known."""
    if predictions.shape != (len(truth), 2 * targets) or truth.shape != (len(truth), targets):
        raise DataError(
            f"score: predictions {predictions.shape} do not match truths {truth.shape}; expected {2 * targets} columns, "
            f"means then spreads, and {targets} of truths"
        )
    known = ~np.isnan(truth[:, target])
    means, spreads = predictions[known, target], predictions[known, targets + target]
    weighted = part(means, spreads, truth[known, target])
    return lambda weights: weighted(weights[:, known])


def _rmse(means: Values, spreads: Values, truth: Values) -> Weighted:
    mean = _mean((means - truth) ** 2)
    return lambda weights: np.sqrt(mean(weights))


def _mae(means: Values, spreads: Values, truth: Values) -> Weighted:
    return _mean(np.abs(means - truth))


def _coverage(means: Values, spreads: Values, truth: Values) -> Weighted:
    return _mean((np.abs(means - truth) <= _NOMINAL * spreads).astype(np.float64))


def _r2(means: Values, spreads: Values, truth: Values) -> Weighted:
    relative = _relative_square(means, truth)
    return lambda weights: 1.0 - relative(weights)


def _nrmse(means: Values, spreads: Values, truth: Values) -> Weighted:
    relative = _relative_square(means, truth)
    return lambda weights: np.sqrt(relative(weights))


def _relative_square(means: Values, truth: Values) -> Weighted:
    """Sum of squared errors / sum of squares about the resample's own mean; NaN where the truths do not vary."""
    centred = truth - (truth.mean() if len(truth) else 0.0)  # far from 0, squares would lose their digits
    errors, parts = (means - truth) ** 2, np.stack([np.ones(len(truth)), centred, centred**2], axis=1)

    def value(weights: Values) -> Values:
        count, total, squares = (weights @ parts).T
        about_mean = squares - total**2 / np.maximum(count, 1e-300)
        return quotient(weights @ errors, np.where(about_mean > _FLAT * squares, about_mean, 0.0))

    return value


def _median_error(means: Values, spreads: Values, truth: Values) -> Weighted:
    """Median absolute error: the mean of the lower and the upper one, as of each sample repeated by its weight."""
    error = np.abs(means - truth)
    order = np.argsort(error)
    kth_smallest = error[order]

    def value(weights: Values) -> Values:
        below = weights[:, order].cumsum(axis=1)  # (R, known)
        if not below.shape[1]:
            return np.full(len(weights), np.nan)
        half = below[:, -1:] / 2
        middle = (kth_smallest[(below >= half).argmax(axis=1)] + kth_smallest[(below > half).argmax(axis=1)]) / 2
        return np.where(half[:, 0] > 0, middle, np.nan)

    return value


def _mean(parts: Values) -> Weighted:
    """The weighted mean, NaN where all weights are 0."""
    return lambda weights: quotient(weights @ parts, weights.sum(axis=1))


def _check_names(names: Sequence[str], units: Sequence[str]) -> None:
    if not names or len(set(names)) < len(names):
        raise UserError(f"targets: {listed(names) or 'no names'}; expected one or more different names")
    if units and len(units) != len(names):
        raise UserError(f"targets: {plural(len(units), 'unit')} for {plural(len(names), 'target')}; expected one each, or none")
