"""Calibrates predicted spreads: multiply those of each target by one factor.

Legend: R rows, T targets. Predictions (R, 2T): T means, then T spreads (standard deviations); targets (R, T), NaN if unknown.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from wavefold.core.errors import DataError
from wavefold.ensemble.parts import State, Values


class SpreadScale:
    """Multiplies spreads so that deviations from the mean are one spread in the root mean square (Laves and others 2020).

    This is the factor of greatest Gaussian likelihood on the rows it is fitted on, which must be out-of-fold.
    """

    learns = True

    def __init__(self) -> None:
        self.factors = np.ones(1)  # broadcasts until it is fitted

    def fit(self, predictions: ArrayLike, targets: ArrayLike) -> Self:
        """Fit a factor for each target, 1 for one without known truths. predictions: (R, 2T); targets: (R, T)."""
        given, truth = np.asarray(predictions, np.float64), np.asarray(targets, np.float64)
        if truth.ndim != 2 or given.shape != (len(truth), 2 * truth.shape[1]):
            raise DataError(f"spread: predictions {given.shape} do not match targets {truth.shape}; expected twice the columns")
        means, spreads = np.split(given, 2, axis=1)
        known = ~np.isnan(truth)
        if not (spreads[known] > 0).all():
            row, target = np.argwhere(known & ~(spreads > 0))[0]
            raise DataError(f"spread: the spread of target {target} in row {row} is {spreads[row, target]:g}; expected above 0")
        deviations = np.divide(truth - means, spreads, out=np.zeros_like(truth), where=known)
        count = known.sum(axis=0)
        self.factors = np.where(count > 0, np.sqrt((deviations**2).sum(axis=0) / np.maximum(count, 1)), 1.0)
        return self

    def apply(self, predictions: ArrayLike) -> Values:
        """Means as they are and calibrated spreads, (R, 2T)."""
        means, spreads = np.split(np.asarray(predictions, np.float64), 2, axis=1)
        return np.hstack([means, spreads * self.factors])

    def state(self) -> dict[str, Values]:
        """The state: factors (T,)."""
        return {"factors": self.factors.copy()}

    def load(self, state: State) -> Self:
        """Restore the result of `state()`."""
        self.factors = np.array(state["factors"], np.float64)
        return self

    def module(self) -> nn.Module:
        """The same in torch: (N, 2T) float64 to the same."""
        return _SpreadModule(self.factors)


class _SpreadModule(nn.Module):
    factors: Tensor

    def __init__(self, factors: Values) -> None:
        super().__init__()
        self.register_buffer("factors", torch.from_numpy(factors.copy()))

    def forward(self, predictions: Tensor) -> Tensor:
        means, spreads = predictions.chunk(2, dim=1)
        return torch.cat([means, spreads * self.factors], dim=1)
