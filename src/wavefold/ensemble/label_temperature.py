"""Temperature scaling of several labels a sample, each with odds of its own."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from wavefold.ensemble.calibrate import Temperature
from wavefold.ensemble.parts import Values


class LabelTemperature(Temperature):
    """One temperature for the odds of all labels. probabilities and labels: (N, K)."""

    def fit(self, probabilities: ArrayLike, labels: ArrayLike) -> Self:
        """Fit it on samples that the model was not trained on."""
        return super().fit(_as_pairs(probabilities), np.asarray(labels).reshape(-1))

    def apply(self, probabilities: ArrayLike) -> Values:
        """The calibrated probabilities, (N, K)."""
        return super().apply(_as_pairs(probabilities))[:, 1].reshape(np.shape(probabilities))


def _as_pairs(probabilities: ArrayLike) -> Values:
    """Each label on its own as two classes: (N, K) to (N K, 2)."""
    present = np.asarray(probabilities, np.float64).reshape(-1)
    return np.stack([1 - present, present], axis=1)
