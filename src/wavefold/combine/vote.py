"""The mean vote of the heartbeat system, divided by the number of members where the source always divides by six."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.base.errors import DataError

Values = NDArray[np.float64]


def mean_vote(scores: Sequence[ArrayLike]) -> Values:
    """The members' mean scores, each vote alike. scores: (sample, class) of each member; result: (sample, class)."""
    members = [np.asarray(s, np.float64) for s in scores]
    if not members:
        raise DataError("vote: there is no member to vote")
    for number, member in enumerate(members):
        if member.shape != members[0].shape:
            raise DataError(f"vote: member {number} has scores {member.shape}, member 0 {members[0].shape}; they must agree")
    return sum(members, np.zeros_like(members[0])) / len(members)


class Mean:
    """The mean vote as a combiner: nothing to fit, nothing to keep."""

    learns, needs = False, 1

    def fit(self, member_scores: ArrayLike, labels: ArrayLike, seed: int) -> Self:
        """Do nothing: a mean learns nothing."""
        return self

    def probabilities(self, member_scores: ArrayLike) -> Values:
        """(sample, class) from member_scores (member, sample, class)."""
        return mean_vote(list(np.asarray(member_scores, np.float64)))

    def state(self) -> dict[str, NDArray[Any]]:
        """Nothing."""
        return {}

    def load(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Do nothing: there is no state."""
        return self
