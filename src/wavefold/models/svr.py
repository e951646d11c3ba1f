"""Support vector regression on principal components: scikit-learn's, saved as arrays, with a net that says the same.

A smooth function of the shape of a whole signal, where kernel features and ridge regression add up local patterns: the two
make different errors. Source: Drucker and others 1997, Support Vector Regression Machines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.svm import SVR
from torch import Tensor, nn

from wavefold.core.errors import DataError, UserError
from wavefold.core.files import write_json, write_whole
from wavefold.data.dataset import Floats
from wavefold.models.classical import in_rows
from wavefold.models.layers import need_least

Reals = NDArray[np.float64]

_HALF = 0.5
_OPTIONS = ("seed", "components", "cost", "clip", "rows")
_TUBE = 0.05  # errors that cost nothing, in standard deviations of the target
_FOLDS = 5
_FEWEST = 2 * _FOLDS  # known values of a target


class SupportVectors:
    """Support vector regression with a radial kernel on the leading principal components; deterministic for a given seed.

    components: at most so many. cost: scikit-learn's C, for standardised targets. clip: of each channel's training values so
    many are held at either end, since components follow outliers. rows: more samples are thinned at random, since the fit
    takes the square of their number. The standard deviation is the root mean square error of five-fold cross-validation.
    """

    def __init__(
        self, *, seed: int, components: int = 200, cost: float = 10.0, clip: float = 0.005, rows: int | None = 5000
    ) -> None:
        need_least("svr", 1, components=components)
        if rows is not None:
            need_least("svr", _FEWEST, rows=rows)
        if not (cost > 0 and 0 <= clip < _HALF):
            raise UserError(f"svr: cost {cost} and clip {clip} are out of range; expected above 0, and from 0 to below 0.5")
        self.seed, self.components, self.cost, self.clip, self.rows = seed, components, cost, clip, rows
        self.net: _Machines | None = None
        self.shape: tuple[int, ...] = ()  # (channel, position) of the training signals

    def fit(self, signals: Floats, targets: NDArray[np.floating], outputs: int) -> Self:
        """Fit on signals (sample, channel, position) and targets (sample, output), NaN where unknown.

        DataError if a target has fewer than ten known values.
        """
        if self.rows is not None and len(signals) > self.rows:
            kept = np.sort(np.random.default_rng(self.seed).choice(len(signals), self.rows, replace=False))
            signals, targets = signals[kept], targets[kept]
        self.shape = signals.shape[1:]
        ends = np.quantile(signals, [self.clip, 1 - self.clip], axis=(0, 2)).astype(np.float32)  # (end, channel)
        flat = in_rows(np.clip(signals, ends[0][:, None], ends[1][:, None])).astype(np.float64)
        parts = PCA(min(self.components, *flat.shape), random_state=self.seed).fit(flat)
        features, truth = parts.transform(flat), targets.reshape(len(flat), outputs).astype(np.float64)
        machine = SVR(C=self.cost, epsilon=_TUBE)
        names = [f"target {k + 1} of {outputs}" for k in range(outputs)]
        machines = [_fit_one(machine, features, truth[:, k], name, self.seed) for k, name in enumerate(names)]
        tensors = {"components": torch.from_numpy(parts.components_), "middle": torch.from_numpy(parts.mean_)}
        tensors |= {"low": torch.from_numpy(ends[0]), "high": torch.from_numpy(ends[1])}
        self.net = _Machines({**tensors, **{f"{name}.{k}": v for k, made in enumerate(machines) for name, v in made.items()}})
        return self

    def predict(self, signals: Floats) -> Reals:
        """Means, then standard deviations (sample, 2 x output), in the targets' units."""
        net = self._fitted(signals.shape[1:])
        pieces = torch.split(torch.from_numpy(np.ascontiguousarray(signals, np.float32)), _BLOCK)
        with torch.inference_mode():
            return np.concatenate([net(piece).numpy() for piece in pieces])

    def save(self, folder: Path) -> None:
        """Write the machines to svr.safetensors and the rest to svr.json."""
        packed = save({name: value.contiguous() for name, value in self._fitted(self.shape).tensors.items()})
        write_whole(folder / "svr.safetensors", lambda stream: stream.write(packed))
        chosen = {name: getattr(self, name) for name in _OPTIONS}
        write_json(folder / "svr.json", {**chosen, "shape": self.shape})

    def module(self, shape: Sequence[int]) -> nn.Module:
        """`predict` in torch: signals (N, channel, position) to (N, 2 x output) float64. shape: of one sample."""
        return self._fitted(shape)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The regressor that `save` wrote."""
        kept = json.loads((folder / "svr.json").read_text())
        made = cls(**{name: kept[name] for name in _OPTIONS})
        made.shape, made.net = tuple(kept["shape"]), _Machines(load_file(folder / "svr.safetensors"))
        return made

    def _fitted(self, shape: Sequence[int]) -> _Machines:
        if self.net is None:
            raise UserError("svr: not fitted yet; call fit first")
        if tuple(shape) != self.shape:
            raise UserError(f"svr: got signals of shape {tuple(shape)}, but it was fitted on {self.shape}")
        return self.net


class _Machines(nn.Module):
    """The machine of each target on shared components. tensors: as `_fit_one` returns them, numbered by target."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        # copies: what BLAS computes depends on strides and alignment, and a loaded file has its own
        self.tensors = {name: value.clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
        self.targets = sum(name.startswith("scale.") for name in tensors)

    def forward(self, signals: Tensor) -> Tensor:
        held = torch.minimum(torch.maximum(signals, self.tensors["low"][:, None]), self.tensors["high"][:, None])
        features = (held.flatten(1).double() - self.tensors["middle"]) @ self.tensors["components"].t()
        means = [self._mean(features, k) for k in range(self.targets)]
        spreads = [torch.zeros_like(means[0]) + self.tensors[f"deviation.{k}"] for k in range(self.targets)]
        return torch.stack([*means, *spreads], dim=1)

    def _mean(self, features: Tensor, k: int) -> Tensor:
        vectors, weights, bias, gamma, centre, scale = (self.tensors[f"{name}.{k}"] for name in _PARTS)
        squares = features.square().sum(1)[:, None] + vectors.square().sum(1) - 2 * features @ vectors.t()
        return (torch.exp(-gamma * squares.clamp(min=0)) @ weights + bias) * scale + centre


_PARTS = ("vectors", "weights", "bias", "gamma", "centre", "scale")
_BLOCK = 1024  # samples predicted at once


def _fit_one(machine: SVR, features: Reals, truth: Reals, where: str, seed: int) -> dict[str, Tensor]:
    """One target's machine: support vectors, their weights, bias and width; centre, scale and deviation of the target."""
    known = ~np.isnan(truth)
    if known.sum() < _FEWEST:
        raise DataError(
            f"svr: {where} has {known.sum()} known values in the training samples, it needs at least {_FEWEST}; leave it out"
        )
    x, centre, scale = features[known], truth[known].mean(), truth[known].std() or 1.0
    y = (truth[known] - centre) / scale
    left_out = cross_val_predict(machine, x, y, cv=KFold(_FOLDS, shuffle=True, random_state=seed))
    made = clone(machine).fit(x, y)
    error = float(np.sqrt(np.mean((left_out - y) ** 2))) * scale
    plain = {"bias": made.intercept_[0], "gamma": made._gamma, "centre": centre, "scale": scale}
    plain["deviation"] = max(error, float(np.spacing(np.float32(np.abs(truth[known]).max()))))  # of float32 at least
    arrays = {"vectors": made.support_vectors_, "weights": made.dual_coef_[0]}
    numbers = {name: torch.tensor(float(value), dtype=torch.float64) for name, value in plain.items()}
    return {**{name: torch.from_numpy(np.array(value, np.float64)) for name, value in arrays.items()}, **numbers}
