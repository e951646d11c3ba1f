"""How far probabilities can be trusted, by class and by sample, as shown on a page beside the score.

Legend: N samples, C classes. probabilities (N, C), labels (N,) class numbers.

Sources: Guo and others 2017 for the confidence bins; Wilson 1927 for the interval of a share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.core.errors import DataError
from wavefold.data.dataset import Ints

Values = NDArray[np.float64]

_SIGMAS = 1.959964  # standard deviations of a normal distribution that contain 95 % of it


@dataclass(frozen=True)
class Bins:
    """Samples binned by their largest probability; NaN for empty bins."""

    edges: Values  # (bin + 1,) from 0 to 1; a bin includes its upper edge
    confidence: Values  # (bin,) mean largest probability
    share_right: Values  # (bin,) share of samples whose most likely class is right
    low: Values  # (bin,) end of share_right's 95 % interval
    high: Values  # (bin,)
    count: Ints  # (bin,) samples


@dataclass(frozen=True)
class ByClass:
    """A confusion matrix summarised by class; NaN if a share's denominator is 0."""

    precision: Values  # (class,) share of the class's predictions that are right
    recall: Values  # (class,) share of the class's samples that are found
    f1: Values  # (class,) NaN only if a class neither occurs nor is predicted
    support: Ints  # (class,) samples of the class


def reliability_bins(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> Bins:
    """Accuracy of the most likely class, binned by its probability; the bins are those of `ece`.

    probabilities: (N, C); labels: (N,). DataError if they do not match.
    """
    values, numbers = _checked(probabilities, labels)
    top = values.max(axis=1)
    place = np.clip(np.ceil(top * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    right = np.bincount(place, weights=values.argmax(axis=1) == numbers, minlength=bins)
    low, high = wilson_interval(right, count)
    confidence = _share(np.bincount(place, weights=top, minlength=bins), count)
    return Bins(np.linspace(0, 1, bins + 1), confidence, _share(right, count), low, high, count)


def wilson_interval(hits: ArrayLike, count: ArrayLike) -> tuple[Values, Values]:
    """Ends of the 95 % interval of a share, within 0 to 1 even for 0 or all hits; NaN for no samples. The shape is free."""
    part, whole = np.asarray(hits, np.float64), np.asarray(count, np.float64)
    share, wider = _share(part, whole), _SIGMAS**2 / np.maximum(whole, 1)
    middle = (share + wider / 2) / (1 + wider)
    reach = np.sqrt(wider * (share * (1 - share) + wider / 4)) / (1 + wider)
    return np.clip(middle - reach, 0, 1), np.clip(middle + reach, 0, 1)


def confusion_counts(labels: ArrayLike, predicted: ArrayLike, classes: int) -> Ints:
    """Number of samples of each class (row) predicted as each class (column). labels, predicted: (N,) class numbers."""
    truth, guess = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
    if len(truth) != len(guess):
        raise DataError(f"confusion: {len(guess)} decisions do not match {len(truth)} labels; expected one per label")
    for numbers, what in ((truth, "label"), (guess, "decision")):
        _check_numbers(numbers, classes, what, "confusion")
    return np.bincount(truth * classes + guess, minlength=classes**2).reshape(classes, classes)


def by_class(matrix: Ints) -> ByClass:
    """Precision, recall, F1 and support of each class. matrix: (truth, predicted) counts."""
    right, there, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    return ByClass(_share(right, predicted), _share(right, there), _share(2 * right, there + predicted), there)


def certainty(probabilities: ArrayLike) -> Values:
    """Margin between the two most probable classes: (N,), 0 to 1. probabilities: (N, C)."""
    kth_smallest = np.sort(np.asarray(probabilities, np.float64), axis=1)
    lead: Values = kth_smallest[:, -1] - kth_smallest[:, -2] if kth_smallest.shape[1] > 1 else kth_smallest[:, -1]
    return lead


def worst(probabilities: ArrayLike, labels: ArrayLike, count: int) -> Ints:
    """Indices of samples by the probability of their true class, lowest first. probabilities: (N, C); labels: (N,)."""
    values, numbers = _checked(probabilities, labels)
    return np.argsort(values[np.arange(len(numbers)), numbers], kind="stable")[:count]


def least_certain(probabilities: ArrayLike, count: int) -> Ints:
    """Indices of samples by the margin of their most probable class, lowest first. probabilities: (N, C)."""
    return np.argsort(certainty(probabilities), kind="stable")[:count]


def _share(part: Values | Ints, whole: Values | Ints) -> Values:
    """part / whole, NaN where whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Values, Ints]:
    values, numbers = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
    if values.ndim != 2 or len(values) != len(numbers):
        raise DataError(
            f"reliability: probabilities {values.shape} do not match {len(numbers)} labels; expected one row per label"
        )
    _check_numbers(numbers, values.shape[1], "label", "reliability")
    return values, numbers


def _check_numbers(numbers: Ints, classes: int, what: str, place: str) -> None:
    if len(numbers) and (numbers.min() < 0 or numbers.max() >= classes):
        bad = int(np.flatnonzero((numbers < 0) | (numbers >= classes))[0])
        raise DataError(f"{place}: {what} {numbers[bad]} of sample {bad} is not a class number from 0 to {classes - 1}")
