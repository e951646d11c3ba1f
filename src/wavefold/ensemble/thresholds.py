"""Decides several labels a sample: each is present where its probability exceeds a threshold of its own.

Legend: R rows, L labels; probabilities and labels (R, L).
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.core.errors import DataError
from wavefold.ensemble.parts import State, Values

_HALF = 0.5


class LabelThresholds:
    """For each label the threshold with the best F1 on out-of-fold rows; before it is fitted, and without positives, 0.5."""

    learns = True

    def __init__(self) -> None:
        self.thresholds = np.full(1, _HALF)  # broadcasts until it is fitted

    def fit(self, probabilities: ArrayLike, labels: ArrayLike) -> Self:
        """Choose thresholds, half-way between two probabilities; of equally good ones that nearest to 0.5.

        probabilities: (R, L) of samples that the members were not trained on; labels: (R, L) 0 or 1.
        """
        odds, truth = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
        if odds.ndim != 2 or odds.shape != truth.shape or not len(odds):
            raise DataError(f"thresholds: probabilities {odds.shape} do not match labels {truth.shape}; expected rows of both")
        self.thresholds = np.array([_best_threshold(o, t > _HALF) for o, t in zip(odds.T, truth.T, strict=True)])
        return self

    def apply(self, probabilities: ArrayLike) -> Values:
        """Decisions (R, L): 1 where the probability exceeds the label's threshold, else 0."""
        return (np.asarray(probabilities, np.float64) > self.thresholds).astype(np.float64)

    def state(self) -> dict[str, Values]:
        """The state: thresholds (L,)."""
        return {"thresholds": self.thresholds.copy()}

    def load(self, state: State) -> Self:
        """Restore the result of `state()`."""
        self.thresholds = np.array(state["thresholds"], np.float64)
        return self


def _best_threshold(odds: Values, present: NDArray[np.bool_]) -> float:
    """The threshold of one label. odds, present: (R,)."""
    if not present.any():
        return _HALF
    order = np.argsort(odds)
    ranked, below = odds[order], np.r_[0, present[order].cumsum()]  # positives among the first k rows
    steps = np.unique(np.r_[0.0, odds, 1.0])
    tried = np.r_[_HALF, (steps[1:] + steps[:-1]) / 2]
    first = np.searchsorted(ranked, tried, side="right")  # rows at or below the threshold
    f1 = 2 * (below[-1] - below[first]) / (len(odds) - first + below[-1])
    best = tried[f1 == f1.max()]
    return float(best[np.abs(best - _HALF).argmin()])
