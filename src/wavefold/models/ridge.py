"""Ridge regression of several targets on many features, each with its own penalty and expected error.

The penalty is the one with the smallest leave-one-out error, which needs no refit: a row's leave-one-out residual is its
residual / (1 - leverage) (Allen 1974, PRESS). One eigendecomposition of the smaller Gram matrix serves all penalties, and
all targets that are known for the same rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wavefold.core.errors import DataError
from wavefold.data.dataset import Floats

Reals = NDArray[np.float64]

STRENGTHS = torch.logspace(3, -6, 28, dtype=torch.float64)  # strong first, so that a tie chooses the strongest
_FLAT = 1e-6  # features that vary less than this share of the most variable one are ignored rather than amplified
_SMALL = 1e-12  # smallest eigenvalue that is kept, as a share of the largest
LEAST_SPARE = 1e-10  # lower limit of 1 - leverage
_MARGIN = 0.1  # of the range of the training targets, by which predictions may exceed it
_BLOCK = 1024  # rows or columns converted to float64 at once


@dataclass(frozen=True)
class RidgeHead:
    """Fitted weights, all float64: means are features @ weight.T + bias, in the targets' units.

    Means are held within `low` and `high`, a tenth of their range beyond the training targets: a linear head has no bounds,
    and one odd sample far from all others would otherwise be predicted far outside.
    """

    weight: Tensor  # (target, feature)
    bias: Tensor  # (target,)
    low: Tensor  # (target,)
    high: Tensor  # (target,)
    deviation: Tensor  # (target,) root mean square of the leave-one-out residuals
    strength: Tensor  # (target,) the chosen penalty per mean squared norm of a row

    def predict(self, features: Floats) -> Reals:
        """Means, then standard deviations (sample, 2 x target) of features (sample, feature)."""
        return np.asarray(self.module()(torch.as_tensor(features)).numpy())

    def tensors(self) -> dict[str, Tensor]:
        """The tensors to save with safetensors."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    def module(self) -> nn.Module:
        """`predict` as a torch module: features (N, feature) to (N, 2 x target) float64."""
        return _RidgeModule(self)

    def on_signals(self, components: Floats, centre: Floats) -> RidgeHead:
        """The same regression on signals x (value,), where its features are components (feature, value) @ (x - centre)."""
        weight = self.weight @ torch.as_tensor(components).double()
        bias = self.bias - weight @ torch.as_tensor(centre).double()
        return replace(self, weight=weight, bias=bias)

    @classmethod
    def from_tensors(cls, kept: dict[str, Tensor]) -> Self:
        """Rebuild the head from what `tensors` returned."""
        return cls(**{part.name: kept[part.name] for part in fields(cls)})


class _RidgeModule(nn.Module):
    weight: Tensor
    bias: Tensor
    low: Tensor
    high: Tensor
    deviation: Tensor

    def __init__(self, head: RidgeHead) -> None:
        super().__init__()
        for name in ("weight", "bias", "low", "high", "deviation"):
            self.register_buffer(name, getattr(head, name))

    def forward(self, features: Tensor) -> Tensor:
        means = torch.minimum(torch.maximum(features.double() @ self.weight.t() + self.bias, self.low), self.high)
        return torch.cat([means, torch.zeros_like(means) + self.deviation], 1)


def fit_ridge(
    features: Floats, targets: NDArray[np.floating], part: str, weights: NDArray[np.floating] | None = None
) -> RidgeHead:
    """Fit to features (sample, feature) and targets (sample, target), on the rows where a target is not NaN.

    weights: of the samples in the squared error, (sample,). DataError if a target has fewer than two known values; `part` is
    the regressor's name in the message.
    """
    known = ~np.isnan(targets)
    _need_two(known, part)
    masks, which = np.unique(known, axis=1, return_inverse=True)
    fitted = torch.empty(targets.shape[1], features.shape[1], dtype=torch.float64)
    facts = torch.empty(3, targets.shape[1], dtype=torch.float64)  # bias, deviation, strength
    for number, mask in enumerate(masks.T):
        of = np.flatnonzero(which.ravel() == number)
        rows = slice(None) if mask.all() else mask
        y = torch.from_numpy(targets[rows][:, of].astype(np.float64))
        share = None if weights is None else torch.from_numpy(weights[rows].astype(np.float64))
        fitted[of], facts[:, of] = _fit(torch.as_tensor(features[rows]), y, share)
    low, high = (torch.from_numpy(of(targets.astype(np.float64), axis=0)) for of in (np.nanmin, np.nanmax))
    margin = _MARGIN * (high - low)
    bias, deviation, strength = facts.clone().unbind()
    return RidgeHead(fitted, bias, low - margin, high + margin, deviation, strength)


def _need_two(known: NDArray[np.bool_], part: str) -> None:
    counts = known.sum(0)
    if (counts < 2).any():
        place = int(np.argmin(counts))
        raise DataError(
            f"{part}: target {place + 1} of {len(counts)} has {counts[place]} known values among the training samples, "
            "but needs at least 2; leave it out"
        )


def _fit(x: Tensor, y: Tensor, share: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weights (target, feature), and bias, deviation and strength (3, target), of rows x whose targets y are all known."""
    root = torch.ones(len(x), 1, dtype=torch.float64) if share is None else (share / share.mean()).sqrt()[:, None]
    spread, mean = torch.std_mean(x, dim=0, correction=0)
    spread = torch.where(spread > _FLAT * spread.max(), spread, torch.inf)
    scaled = (x - mean) / spread
    rest = _weighted_mean(scaled, share)  # without weights, what rounding left of the mean: it would count as a feature
    scaled.sub_(rest).mul_(root)
    values, left = decompose(scaled, None if share is None else root / math.sqrt(len(x)))
    centre = _weighted_mean(y, share)
    target = root * (y - centre)
    across = left.t() @ target
    penalties = STRENGTHS * (values.sum() / len(x))
    errors, chosen = _leave_one_out(left, values, target, root.square() / len(x), penalties).min(0)
    inner = across / (values[:, None] + penalties[chosen])
    scores = transposed_product(scaled, left @ inner).t()
    weight = scores / spread
    bias = centre - scores @ rest - weight @ mean.double()
    return weight, torch.stack([bias, errors.sqrt().maximum(_rounding(y)), STRENGTHS[chosen]])


def _weighted_mean(values: Tensor, share: Tensor | None) -> Tensor:
    """The mean over rows, in float64."""
    return values.mean(0, dtype=torch.float64) if share is None else (share @ values.double()) / share.sum()


def decompose(x: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Squared singular values (k,) and left singular vectors (row, k) of x, in float64.

    weight: unit vector (row, 1) to which the columns of x are orthogonal up to rounding; by default their mean is zero.
    """
    wide = x.shape[0] <= x.shape[1]
    values, vectors = torch.linalg.eigh(_centred(_gram(x), weight) if wide else _gram(x.t()))
    kept = values > _SMALL * values.max()
    values, vectors = values[kept], vectors[:, kept]
    if not wide:
        vectors = torch.cat([rows.double() @ vectors for rows in torch.split(x, _BLOCK)]) / values.sqrt()
    return values, vectors


def _gram(x: Tensor) -> Tensor:
    """x @ x.T in float64."""
    total = torch.zeros(len(x), len(x), dtype=torch.float64)
    for columns in torch.split(x, _BLOCK, 1):
        part = columns.double()
        total.addmm_(part, part.t())
    return total


def _centred(gram: Tensor, weight: Tensor | None) -> Tensor:
    """The Gram matrix of rows whose (weighted) mean is zero to the last bit, not to float32 precision only."""
    if weight is None:
        return gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()
    along = gram @ weight
    return gram - along @ weight.t() - weight @ along.t() + (weight.t() @ along) * (weight @ weight.t())


def _leave_one_out(left: Tensor, values: Tensor, y: Tensor, mean: Tensor, penalties: Tensor) -> Tensor:
    """Mean squared leave-one-out residuals (penalty, target) of centred targets y (row, target). mean: its leverage."""
    shrunk = values[:, None] / (values[:, None] + penalties)  # (k, penalty)
    levers = torch.cat([rows.square() @ shrunk for rows in torch.split(left, _BLOCK)])
    spare = (1 - mean - levers).clamp(min=LEAST_SPARE)  # (row, penalty)
    across = left.t() @ y
    residuals = [(y - left @ (across * shrunk[:, [n]])) / spare[:, [n]] for n in range(len(penalties))]
    return torch.stack([r.square().mean(0) for r in residuals])


def transposed_product(x: Tensor, other: Tensor) -> Tensor:
    """x.T @ other in float64."""
    return torch.cat([columns.double().t() @ other for columns in torch.split(x, _BLOCK, 1)])


def _rounding(y: Tensor) -> Tensor:
    """The rounding error (target,) of the largest value as float32: no prediction can claim to be closer."""
    largest = y.abs().max(0).values.numpy().astype(np.float32)
    return torch.from_numpy(np.spacing(largest).astype(np.float64))
