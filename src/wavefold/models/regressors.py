"""Regressors fitted in one step: they predict each target's mean and standard deviation.

Ridge regression on kernel features or on principal components. A regressor has `fit`, `predict`, `save`, `load` and `module`.
Its standard deviation is one number per target: the root mean square of the leave-one-out residuals on the training samples.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import nn

from wavefold.core.errors import UserError
from wavefold.core.files import write_json, write_whole
from wavefold.core.registry import Table, later
from wavefold.data.dataset import Floats
from wavefold.models.classical import in_rows
from wavefold.models.kernels import KernelMember
from wavefold.models.layers import need_least
from wavefold.models.ridge import Reals, RidgeHead, fit_ridge

decomposition = later("sklearn.decomposition")


class KernelRegressor(KernelMember[RidgeHead]):
    """Kernel features and ridge regression, fitted in one step; deterministic for a given seed."""

    head_type = RidgeHead

    def fit(self, signals: Floats, targets: NDArray[np.floating], outputs: int, weights: Floats | None = None) -> Self:
        """Fit on signals (sample, channel, position) and targets (sample, output), NaN where unknown.

        weights: of the samples, (sample,). More than `rows` samples are thinned at random. DataError if a target has fewer than
        two known values.
        """
        rng = np.random.default_rng(self.seed)
        if self.rows is not None and len(signals) > self.rows:
            kept = np.sort(rng.choice(len(signals), self.rows, replace=False))
            signals, targets, weights = signals[kept], targets[kept], None if weights is None else weights[kept]
        self.head = fit_ridge(self._draw(signals, rng), targets.reshape(len(signals), outputs), "kernels", weights)
        return self

    def predict(self, signals: Floats) -> Reals:
        """Means, then standard deviations (sample, 2 x output), in the targets' units."""
        head = self._fitted()
        return np.concatenate([head.predict(features) for features in self._in_blocks(signals)])


class PcaRidge:
    """Ridge regression on the signals' leading principal components, at most `components` of them."""

    def __init__(self, *, seed: int, components: int = 50) -> None:
        need_least("pca_ridge", 1, components=components)
        self.seed, self.components = seed, components
        self.head: RidgeHead | None = None
        self.shape: tuple[int, ...] = ()  # (channel, position) of the training signals

    def fit(self, signals: Floats, targets: NDArray[np.floating], outputs: int) -> Self:
        """Fit on signals (sample, channel, position) and targets (sample, output), NaN where unknown.

        DataError if a target has fewer than two known values.
        """
        flat, self.shape = in_rows(signals), signals.shape[1:]
        parts = decomposition.PCA(min(self.components, *flat.shape), random_state=self.seed).fit(flat)
        head = fit_ridge(parts.transform(flat), targets.reshape(len(flat), outputs), "pca_ridge")
        self.head = head.on_signals(parts.components_, parts.mean_)
        return self

    def predict(self, signals: Floats) -> Reals:
        """Means, then standard deviations (sample, 2 x output), in the targets' units."""
        return self._fitted(signals.shape[1:]).predict(in_rows(signals))

    def save(self, folder: Path) -> None:
        """Write the weights to pca_ridge.safetensors and the rest to pca_ridge.json."""
        packed = save(self._fitted(self.shape).tensors())
        write_whole(folder / "pca_ridge.safetensors", lambda stream: stream.write(packed))
        write_json(folder / "pca_ridge.json", {"seed": self.seed, "components": self.components, "shape": self.shape})

    def module(self, shape: Sequence[int]) -> nn.Module:
        """`predict` in torch: signals (N, channel, position) to (N, 2 x output) float64. shape: of one sample."""
        return nn.Sequential(nn.Flatten(), self._fitted(shape).module())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The regressor that `save` wrote."""
        kept = json.loads((folder / "pca_ridge.json").read_text())
        made = cls(seed=kept["seed"], components=kept["components"])
        made.shape, made.head = tuple(kept["shape"]), RidgeHead.from_tensors(load_file(folder / "pca_ridge.safetensors"))
        return made

    def _fitted(self, shape: Sequence[int]) -> RidgeHead:
        if self.head is None:
            raise UserError("pca_ridge: not fitted yet; call fit first")
        if tuple(shape) != self.shape:
            raise UserError(f"pca_ridge: got signals of shape {tuple(shape)}, but it was fitted on {self.shape}")
        return self.head


REGRESSORS: Table[type] = Table(
    "regressors", {"kernels": KernelRegressor, "pca_ridge": PcaRidge, "svr": "wavefold.models.svr:SupportVectors"}
)
