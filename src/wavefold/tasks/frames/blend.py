"""Blending of forecasts by lead: members and baselines, each with a weight of its own at every lead.

Weights are at least 0 and sum to 1, so that a blend is never far from its parts. They minimise the mean squared error over the
validation windows, which are earlier than the test part and were not trained on; the products of errors that they depend on
are averaged over neighbouring leads, and errors in common are discounted a little, as a few windows cannot tell good parts
apart. Source: Bates and Granger 1969 (combination of forecasts); weights by constrained least squares (Granger and Ramanathan
1984).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from wavefold.core.errors import UserError
from wavefold.core.files import write_arrays
from wavefold.data.lazy import Floats

Values = NDArray[np.float64]
BY_LEAD = "by_lead"
_NEIGHBOURS = 2  # leads on either side whose errors count too
_SHRINK = 0.1  # share of the mean squared error added to each part's own
_LEAST = 0.02  # of a weight; smaller ones are left out
_SURE = 1e3  # how strictly weights sum to 1


@dataclass(frozen=True)
class Blend:
    """Weights of forecasts by name, (name, lead, target)."""

    names: tuple[str, ...]
    weights: Values

    def of(self, answers: Mapping[str, Floats]) -> Floats:
        """The weighted sum of forecasts (sample, target, ahead, row, column)."""
        total = np.zeros(answers[self.names[0]].shape)
        for name, weights in zip(self.names, self.weights, strict=True):
            total += weights.T[:, :, None, None] * answers[name]
        return total.astype(np.float32)

    def among(self, names: Sequence[str]) -> Blend:
        """The blend of those of its parts that there are; at a lead where all are missing, their mean."""
        kept = [n for n, name in enumerate(self.names) if name in names]
        weights = self.weights[kept]
        total = weights.sum(axis=0)
        return Blend(
            tuple(self.names[n] for n in kept), np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / len(kept))
        )

    def save(self, path: Path) -> None:
        """Write names and weights."""
        write_arrays(path, {"names": np.array(self.names), "weights": self.weights})

    @classmethod
    def load(cls, path: Path) -> Blend:
        """Read what `save` wrote. UserError if it is not there."""
        if not path.exists():
            scores = path.parents[1] / "scores.json"
            raise UserError(f"{path}: missing, the weights of the blend; remove {scores} and train again, which fits them anew")
        with np.load(path, allow_pickle=False) as kept:
            return cls(tuple(kept["names"].tolist()), kept["weights"])


def fit_blend(pairs: Iterable[tuple[Mapping[str, Floats], Floats]]) -> Blend:
    """Fit a blend on forecasts by name and the truth, both (sample, target, ahead, row, column), batch by batch.

    Cells whose truth is missing are left out. Parts that get less than 2 % at every lead are left out of the blend.
    """
    names, sums = list[str](), list[Values]()
    for answers, truth in pairs:
        names = list(answers)
        off = np.stack([np.nan_to_num(answers[name] - truth) for name in names])  # (name, sample, target, ahead, row, column)
        flat = np.ascontiguousarray(off.transpose(2, 3, 0, 1, 4, 5)).reshape(*off.shape[2:4], len(names), -1)
        sums.append(flat.astype(np.float64) @ flat.swapaxes(-1, -2))  # (target, ahead, name, name)
    products = np.sum(sums, axis=0)
    near = np.abs(np.subtract.outer(np.arange(products.shape[1]), np.arange(products.shape[1])))
    nearness = np.maximum(0, 1 - near / (_NEIGHBOURS + 1))
    products = np.einsum("al,tlnm->tanm", nearness / nearness.sum(axis=1, keepdims=True), products)
    weights = np.array([[_weights(lead) for lead in target] for target in products]).transpose(2, 1, 0)
    weights = np.where(weights < _LEAST, 0, weights)
    whole = Blend(tuple(names), weights / weights.sum(axis=0))
    return whole.among([name for name, row in zip(names, whole.weights, strict=True) if row.any()])


def _weights(products: Values) -> Values:
    """Weights (name,), at least 0 and with sum 1, that minimise w . products . w, its diagonal raised a little."""
    size = float(np.trace(products)) / len(products)
    if not size > 0:  # all forecasts are right, or there is no truth
        return np.full(len(products), 1 / len(products))
    root = np.linalg.cholesky(products / size + _SHRINK * np.eye(len(products))).T
    sure = np.full((1, len(products)), _SURE)
    found = np.asarray(nnls(np.vstack([root, sure]), np.append(np.zeros(len(products)), _SURE))[0])
    made: Values = found / found.sum()
    return made
