"""A mean of members' probabilities whose weights are learned: a linear opinion pool."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from wavefold.core.errors import UserError
from wavefold.ensemble.vote import Mean

_STEPS = 500
_CLOSE = 1e-7  # change of a weight that ends the fit
_SMALLEST = 1e-12


class Weighted(Mean):
    """The mean with the weights that have the least log loss on out-of-fold scores, drawn towards the given ones.

    The loss is convex in the weights, and the steps of expectation maximisation (Dempster and others 1977) lower it without a
    rate to choose. weights: one per member, equal by default. rows: the given weights count as this many rows a member, so that
    a few dozen held-back rows do not silence a member.
    """

    learns, needs = True, 1

    def __init__(self, weights: Sequence[float] | None = None, *, rows: float = 2.0) -> None:
        if not 0 <= rows < math.inf:
            raise UserError(f"weighted.rows: {rows} is out of range; expected a finite number, 0 or more")
        super().__init__(weights)
        self._given, self._rows = weights, rows

    def fit(self, member_scores: ArrayLike, labels: ArrayLike, seed: int) -> Self:
        """Fit on out-of-fold scores: (member, sample, class), labels (sample,)."""
        scores, numbers = np.asarray(member_scores, np.float64), np.asarray(labels)
        known = scores[:, np.arange(len(numbers)), numbers].clip(_SMALLEST)  # (member, sample) of the true class
        given = np.ones(len(scores)) if self._given is None else np.array(self._given, np.float64)
        given = given / given.sum()
        weights, drawn = given, self._rows * len(scores)
        for _ in range(_STEPS if len(numbers) + drawn else 0):
            shares = weights[:, None] * known
            counts = (shares / shares.sum(0)).sum(1) + drawn * given
            before, weights = weights, counts / counts.sum()
            if np.abs(weights - before).max() < _CLOSE:
                break
        self.weights = weights.tolist()
        return self
