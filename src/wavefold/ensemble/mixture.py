"""Combines members' Gaussians into one mean and one spread.

Legend: M members, R rows, T targets. Predictions (M, R, 2T): T means, then T spreads (standard deviations).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from wavefold.core.errors import DataError
from wavefold.ensemble.parts import Values
from wavefold.ensemble.vote import Mean, WeightsModule


class Mixture(Mean):
    """Mean and standard deviation of the members' mixture of Gaussians: nothing to fit.

    Its variance is the members' mean variance plus the variance of their means, so members that disagree make it wider
    (as in Lakshminarayanan and others 2017). weights: one per member, equal by default.
    """

    def probabilities(self, members: ArrayLike) -> Values:
        """Means and spreads (R, 2T) from members (M, R, 2T)."""
        given = np.asarray(members, np.float64)
        if given.ndim != 3 or not len(given) or given.shape[2] % 2:
            raise DataError(f"mixture: members of shape {given.shape}; expected (member, row, means and spreads), one or more")
        if self.weights is not None and len(self.weights) != len(given):
            raise DataError(f"mixture: {len(self.weights)} weights for {len(given)} members; expected one each")
        mixed: Values = _MixtureModule(self.weights)(torch.from_numpy(given)).numpy()
        return mixed

    def module(self) -> nn.Module:
        """The same in torch: (M, N, 2T) float64 to (N, 2T)."""
        return _MixtureModule(self.weights)


class _MixtureModule(WeightsModule):
    def forward(self, members: Tensor) -> Tensor:
        weights = torch.tensor(self.weights or [1.0] * len(members), dtype=members.dtype)
        shares = (weights / weights.sum())[:, None, None]
        means, spreads = members.chunk(2, dim=2)
        mean = (shares * means).sum(0)
        # about the mean, since E[m^2] - mean^2 loses its digits where means are far from 0
        variance = (shares * (spreads.square() + (means - mean).square())).sum(0)
        return torch.cat([mean, variance.sqrt()], dim=1)
