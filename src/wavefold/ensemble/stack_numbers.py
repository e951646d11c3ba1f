"""Stacks members that predict numbers: for each target, the weights with the least squared error on out-of-fold predictions.

Breiman (1996) showed that weights of 0 or more, fitted on predictions for samples that the members were not trained on, do no
worse than the best member. Here they also sum to 1, so that the mixture of the members' Gaussians keeps its meaning.

Legend: M members, R rows, T targets. Predictions (M, R, 2T): T means, then T spreads (standard deviations).
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from wavefold.core.registry import later
from wavefold.ensemble.parts import State, Values

optimize = later("scipy.optimize")

_FEWEST = 20  # rows for each target, below which all members count the same
_SUM = 1e3  # how much the sum of the weights counts, in units of the members' own values


class StackNumbers:
    """Mixture of the members' Gaussians with weights fitted for each target; equal weights before it is fitted."""

    learns, needs = True, 1

    def __init__(self) -> None:  # declares that there are no options
        self.weights: Values | None = None  # (M, T)

    def fit(self, members: ArrayLike, targets: ArrayLike, seed: int) -> Self:
        """Fit on out-of-fold predictions. members: (M, R, 2T); targets: (R, T), NaN if unknown."""
        given, truth = np.asarray(members, np.float64), np.asarray(targets, np.float64)
        means = given[:, :, : truth.shape[1]]
        self.weights = np.stack([_weights(means[:, :, k].T, truth[:, k]) for k in range(truth.shape[1])], axis=1)
        return self

    def probabilities(self, members: ArrayLike) -> Values:
        """Means and spreads (R, 2T) from members (M, R, 2T)."""
        mixed: Values = self.module()(torch.from_numpy(np.asarray(members, np.float64))).numpy()
        return mixed

    def state(self) -> dict[str, Values]:
        """weights: (M, T)."""
        return {} if self.weights is None else {"weights": self.weights}

    def load(self, state: State) -> Self:
        """Restore the result of `state()`."""
        self.weights = np.array(state["weights"], np.float64) if "weights" in state else None
        return self

    def module(self) -> nn.Module:
        """The same in torch: (M, N, 2T) float64 to (N, 2T)."""
        return _StackModule(self.weights)


class _StackModule(nn.Module):
    def __init__(self, weights: Values | None) -> None:
        super().__init__()
        self.weights = None if weights is None else torch.from_numpy(weights.copy())

    def forward(self, members: Tensor) -> Tensor:
        means, spreads = members.chunk(2, dim=2)
        weights = torch.ones_like(means[:, 0]) if self.weights is None else self.weights.to(members)
        shares = (weights / weights.sum(0))[:, None]  # (M, 1, T)
        mean = (shares * means).sum(0)
        variance = (shares * (spreads.square() + (means - mean).square())).sum(0)
        return torch.cat([mean, variance.sqrt()], dim=1)


def _weights(means: Values, truth: Values) -> Values:
    """Weights (M,) of 0 or more that sum to 1. means: (R, M) of one target; truth: (R,)."""
    known = ~np.isnan(truth)
    members = means.shape[1]
    if known.sum() < _FEWEST:
        return np.full(members, 1 / members)
    centre, size = truth[known].mean(), truth[known].std() or 1.0
    rows, wanted = (means[known] - centre) / size, (truth[known] - centre) / size
    heavy = _SUM * np.sqrt(known.sum())
    found = optimize.nnls(np.vstack([rows, np.full(members, heavy)]), np.append(wanted, heavy))[0]
    return np.asarray(found / found.sum() if found.sum() > 0 else np.full(members, 1 / members))
