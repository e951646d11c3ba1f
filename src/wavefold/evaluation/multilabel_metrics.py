"""Metrics of several labels a sample, each present or absent on its own.

Legend: N samples, L labels, R resamples. Predictions (N, L) probabilities, or decisions 0 and 1 for metrics marked `decided`,
which count a probability above 0.5 as 1; truths (N, L) 0 or 1. weights (R, N).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError
from wavefold.core.registry import Table
from wavefold.evaluation.intervals import f1_ends, separation_ends, share_ends
from wavefold.evaluation.metric import (
    Metric,
    Values,
    Weighted,
    area,
    average_precision,
    mean_of_known,
    mean_over,
    quotient,
    weighted_mean,
)


def _auc(probabilities: Values, labels: Values) -> Weighted:
    """Mean area under the ROC curve over the labels that are both present and absent in the samples."""
    there = _present(probabilities, labels)
    return mean_over([area(scores, hit) for scores, hit in zip(probabilities.T, there.T, strict=True)])


def _average_precision(probabilities: Values, labels: Values) -> Weighted:
    """Mean average precision over the labels present, as in scikit-learn."""
    there = _present(probabilities, labels)
    return mean_over([average_precision(scores, hit) for scores, hit in zip(probabilities.T, there.T, strict=True)])


def _macro_f1(decisions: Values, labels: Values) -> Weighted:
    """Mean F1 of the labels that occur in the truth or in the decisions; NaN if none does."""
    actual, decided = _present(decisions, labels), decisions > 0.5
    hits, either = (actual & decided).astype(np.float64), actual.astype(np.float64) + decided
    return lambda weights: mean_of_known(quotient(2 * (weights @ hits), weights @ either).T)


def _log_loss(probabilities: Values, labels: Values) -> Weighted:
    """Mean binary cross-entropy over labels."""
    given = np.where(_present(probabilities, labels), probabilities, 1.0 - probabilities)
    return weighted_mean(-np.log(np.maximum(given, np.finfo(np.float64).eps)).mean(axis=1))  # a certain mistake costs 36


def _accuracy(decisions: Values, labels: Values) -> Weighted:
    """Share of samples with every label right."""
    return weighted_mean(((decisions > 0.5) == _present(decisions, labels)).all(axis=1).astype(np.float64))


MULTILABEL_METRICS: Table[Metric] = Table(
    "multilabel_metrics",
    {
        metric.name: metric
        for metric in (
            Metric("auc", _auc, higher_is_better=True, resamples=200, exact=separation_ends),  # ranks every label
            Metric("macro-f1", _macro_f1, higher_is_better=True, decided=True, exact=f1_ends),
            Metric("average-precision", _average_precision, higher_is_better=True, resamples=200, exact=separation_ends),
            Metric("log-loss", _log_loss, higher_is_better=False),
            Metric("accuracy", _accuracy, higher_is_better=True, decided=True, exact=share_ends),
        )
    },
)


def _present(predictions: Values, labels: Values) -> NDArray[np.bool_]:
    """Where each label is present, (N, L); DataError if the shapes differ or a label is neither 0 nor 1."""
    if predictions.shape != labels.shape or labels.ndim != 2:
        raise DataError(f"score: predictions {predictions.shape} do not match labels {labels.shape}; expected one each")
    present: NDArray[np.bool_] = labels == 1
    if not (present | (labels == 0)).all():
        row, label = np.argwhere(~present & (labels != 0))[0]
        raise DataError(f"score: label {label} of sample {row} is {labels[row, label]:g}; expected 0 or 1")
    return present
