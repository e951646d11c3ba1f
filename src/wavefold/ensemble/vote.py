"""The mean vote of the heartbeat system, divided by the number of members; the source always divides by six."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from wavefold.core.errors import DataError
from wavefold.ensemble.parts import State, Values


def mean_vote(scores: Sequence[ArrayLike], weights: Sequence[float] | None = None) -> Values:
    """The members' mean scores. scores: (sample, class) of each member; weights: one per member, equal by default.

    Result: (sample, class).
    """
    members = [np.asarray(s, np.float64) for s in scores]
    if not members:
        raise DataError("vote: no members to average")
    for number, member in enumerate(members):
        if member.shape != members[0].shape:
            raise DataError(
                f"vote: member {number} has scores of shape {member.shape}, member 0 {members[0].shape}; expected equal"
            )
    weights = [1.0] * len(members) if weights is None else weights
    weighed = (w * m for w, m in zip(weights, members, strict=True))
    return sum(weighed, np.zeros_like(members[0])) / sum(weights)


class Mean:
    """The mean vote as a combiner: nothing to fit. weights: one per member, equal by default."""

    learns, needs = False, 1

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        self.weights = weights

    def fit(self, member_scores: ArrayLike, labels: ArrayLike, seed: int) -> Self:
        """Do nothing: a mean learns nothing."""
        return self

    def probabilities(self, member_scores: ArrayLike) -> Values:
        """(sample, class) from member_scores (member, sample, class)."""
        return mean_vote(list(np.asarray(member_scores, np.float64)), self.weights)

    def state(self) -> dict[str, Values]:
        """weights: (member,), if given."""
        return {} if self.weights is None else {"weights": np.array(self.weights, np.float64)}

    def load(self, state: State) -> Self:
        """Restore the weights."""
        self.weights = state["weights"].tolist() if "weights" in state else None
        return self

    def module(self) -> nn.Module:
        """The same in torch: (member, N, class) float64 to (N, class)."""
        return _MeanModule(self.weights)


class WeightsModule(nn.Module):
    """Holds the members' weights; None where all are equal."""

    def __init__(self, weights: Sequence[float] | None) -> None:
        super().__init__()
        self.weights = None if weights is None else list(weights)


class _MeanModule(WeightsModule):
    def forward(self, scores: Tensor) -> Tensor:
        weights = torch.tensor(self.weights or [1.0] * len(scores), dtype=scores.dtype)
        return (weights[:, None, None] * scores).sum(0) / weights.sum()
