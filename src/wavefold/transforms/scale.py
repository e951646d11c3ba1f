"""Scaling of signals: per sample, or per position with statistics of the training part.

A Transform is fitted on a fold's training part only and then applied to every part; its state is a few arrays that a run
saves beside its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wavefold.core.errors import UserError
from wavefold.core.onnx_ops import middle
from wavefold.core.registry import pick
from wavefold.data.dataset import Floats, Signals, shape_words
from wavefold.data.lazy import Lazy, blocks_of

Values = NDArray[np.float32]  # (sample, 1, 1, ...): one number per sample, or (sample, channel, 1, ...)
Axes = tuple[int, ...]  # the axes that a statistic is computed over
FittedState = dict[str, NDArray[np.generic]]


_TINY, _HUGE = np.float32(1e-15), np.float32(1e15)  # between them, squares and sums of float32 neither vanish nor overflow


class Transform(Protocol):
    """A preprocessing step that may be fitted on the training part. signals: (sample, channel, ...)."""

    def fit(self, signals: Signals, labels: NDArray[np.number] | None = None) -> Self:
        """Fit on the training part and return self."""

    def apply(self, signals: Floats) -> Floats:
        """The transformed signals; the input is not modified."""

    def state(self) -> FittedState:
        """The fitted state, as arrays to save."""

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore what `state` returned."""

    def module(self) -> nn.Module:
        """`apply` as a torch module: signals (N, channel, ...) float32 to transformed signals."""


class Scale:
    """Scales each sample by its own values, all channels together or separately; nothing is fitted, so nothing can leak.

    by constant: x / constant; max: x / max |x|; range: (x - min) / (max - min), in 0 to 1; std: (x - mean) / std;
    median: x / median |x|; l2: x / sqrt(sum x^2). A sample whose divisor would be 0, because it is
    all zeros or constant, is divided by 1. per: "channel" scales each channel (for cadences: each panel) separately; "dataset"
    scales all samples by one level and one size, the medians over the samples of the training part, so that steps after it
    may speak of sizes whatever the values' unit is.
    """

    def __init__(
        self,
        by: Literal["constant", "max", "range", "std", "median", "l2"] = "range",
        constant: float = 1.0,
        per: Literal["sample", "channel", "dataset"] = "sample",
    ) -> None:
        if constant == 0:
            raise UserError("scale.constant: 0 is not a valid divisor; expected a nonzero number")
        self._measure, self._by = pick(_MEASURES, by, "scale.by"), by
        self._constant = np.float32(constant) if by == "constant" else np.float32(1)
        self._first = 2 if per == "channel" else 1  # first of the axes that statistics are computed over
        self._fitted: dict[str, Values] = {"level": np.zeros((), np.float32), "size": np.ones((), np.float32)}
        self._shared = per == "dataset"

    def fit(self, signals: Signals, labels: NDArray[np.number] | None = None) -> Self:
        """Fit level and size with per = "dataset"; otherwise there is nothing to fit. signals: (sample, channel, ...)."""
        if self._shared:
            parts = [self._measured(values[values.any(axis=tuple(range(1, values.ndim)))]) for _, values in blocks_of(signals)]
            level, size = (np.concatenate([part[at].ravel() for part in parts]) for at in (0, 1))
            if len(size):  # samples of zeros alone say nothing of the unit
                self._fitted = {"level": np.median(level).astype(np.float32), "size": np.median(size).astype(np.float32)}
        return self

    def apply(self, signals: Floats) -> Floats:
        """Scaled signals. signals and result: (sample, channel, ...)."""
        level, size = (self._fitted["level"], self._fitted["size"]) if self._shared else self._measured(signals)
        result: Floats = (signals - level) / (size * self._constant)
        return result

    def _measured(self, signals: Floats) -> tuple[Values, Values]:
        """Level and size of each sample; very small and very large ones are measured near 1, where squares fit in float32."""
        axes = tuple(range(self._first, signals.ndim))
        largest = np.abs(signals).max(axis=axes, keepdims=True, initial=0)
        if not ((largest > _TINY) & (largest < _HUGE) | (largest == 0)).all():
            _, power = np.frexp(largest)
            level, size = self._measure(np.ldexp(signals, -power), axes)
            return np.ldexp(level, power), np.ldexp(size, power)
        return self._measure(signals, axes)

    def state(self) -> FittedState:
        """level and size of the dataset, if one serves all samples; otherwise nothing."""
        return dict(self._fitted) if self._shared else {}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore level and size."""
        self._fitted |= {name: np.asarray(state[name], np.float32) for name in self._fitted if self._shared}

    def module(self) -> nn.Module:
        """The same in torch; means and squares are summed in float64, since numpy's last digit depends on summation order."""
        if self._shared:
            level, size = (torch.from_numpy(np.asarray(self._fitted[name], np.float32)) for name in ("level", "size"))
            return _StandardiseModule(level, size * float(self._constant))
        return _ScaleModule(self._by, self._first, float(self._constant))


class Standardise:
    """Subtracts each position's mean and divides by its standard deviation, both fitted on the training part.

    per: "channel" has one mean and one standard deviation for all positions of a channel, which keeps the signals' shapes.
    centre: False only divides.
    """

    def __init__(self, per: Literal["position", "channel"] = "position", *, centre: bool = True) -> None:
        self._mean = np.zeros((1, 1), np.float32)  # (channel, ...)
        self._std = np.ones((1, 1), np.float32)
        self._per_channel, self._centre = pick({"position": False, "channel": True}, per, "standardise.per"), centre

    def fit(self, signals: Signals, labels: NDArray[np.number] | None = None) -> Self:
        """Fit mean and standard deviation of each position or channel. signals: (sample, channel, ...)."""
        if isinstance(signals, Lazy):
            mean, std = _moments(signals)
        else:
            mean, std = signals.mean(axis=0, dtype=np.float64), signals.std(axis=0, dtype=np.float64)
        if self._per_channel:
            mean, std = _over_positions(mean, std)
        self._std = _sized(std.astype(np.float32), np.abs(mean).astype(np.float32))
        self._mean = (mean if self._centre else 0 * mean).astype(np.float32)
        return self

    def apply(self, signals: Floats) -> Floats:
        """Signals of mean 0 and standard deviation 1 at each position, or over them, if distributed as the training part."""
        result: Floats = (signals - self._mean) / self._std
        return result

    def state(self) -> FittedState:
        """mean and std: (channel, ...)."""
        return {"mean": self._mean, "std": self._std}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore mean and std."""
        self._mean, self._std = (state[name].astype(np.float32, copy=False) for name in ("mean", "std"))

    def module(self) -> nn.Module:
        """The same in torch."""
        return _StandardiseModule(torch.from_numpy(self._mean), torch.from_numpy(self._std))


def _over_positions(mean: NDArray[np.float64], std: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and standard deviations of channels, (channel, 1, ...), from those of their positions, (channel, ...)."""
    axes = tuple(range(1, mean.ndim))
    whole = mean.mean(axis=axes, keepdims=True)
    variance = (np.square(std) + np.square(mean - whole)).mean(axis=axes, keepdims=True)
    return whole, np.sqrt(variance)


def need_one_axis(signals: Signals, step: str) -> None:
    """Raise UserError unless signals are (sample, channel, position). step: the transform's name in recipes."""
    if signals.ndim != 3:
        raise UserError(
            f"{step}: expected signals (sample, channel, position), but a sample is {shape_words(signals.shape[1:])}"
        )


def _moments(signals: Lazy) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation over samples in a single pass (Chan, Golub and LeVeque 1979)."""
    mean, squares = np.zeros(signals.shape[1:]), np.zeros(signals.shape[1:])
    for rows, values in blocks_of(signals):
        here = values.mean(axis=0, dtype=np.float64)
        step = here - mean
        mean += step * (len(values) / rows.stop)
        squares += np.square(values - here).sum(axis=0) + step**2 * (rows.start * len(values) / rows.stop)
    return mean, np.sqrt(squares / max(1, len(signals)))


def _by_constant(x: Floats, axes: Axes) -> tuple[Values, Values]:
    return np.zeros([1] * x.ndim, np.float32), np.ones([1] * x.ndim, np.float32)


def _by_max(x: Floats, axes: Axes) -> tuple[Values, Values]:
    size = _largest(x, axes)
    return np.zeros_like(size), _sized(size, size)


def _by_range(x: Floats, axes: Axes) -> tuple[Values, Values]:
    low = x.min(axis=axes, keepdims=True)
    return low, _sized(x.max(axis=axes, keepdims=True) - low, _largest(x, axes))


def _by_std(x: Floats, axes: Axes) -> tuple[Values, Values]:
    mean, spread = (of(axis=axes, keepdims=True, dtype=np.float64) for of in (x.mean, x.std))  # as in the exported module
    return mean.astype(np.float32), _sized(spread.astype(np.float32), _largest(x, axes))


def _by_median(x: Floats, axes: Axes) -> tuple[Values, Values]:
    size = np.median(np.abs(x), axis=axes, keepdims=True)
    return np.zeros_like(size), _sized(size, _largest(x, axes))


def _by_l2(x: Floats, axes: Axes) -> tuple[Values, Values]:
    size = np.sqrt(np.square(x, dtype=np.float64).sum(axis=axes, keepdims=True)).astype(np.float32)
    return np.zeros_like(size), _sized(size, _largest(x, axes))


_MEASURES: dict[str, Callable[[Floats, Axes], tuple[Values, Values]]] = {  # (signals, axes) -> (level, size)
    "constant": _by_constant,
    "max": _by_max,
    "range": _by_range,
    "std": _by_std,
    "median": _by_median,
    "l2": _by_l2,
}


def _largest(x: Floats, axes: Axes) -> Values:
    largest: Values = np.abs(x).max(axis=axes, keepdims=True)
    return largest


def _sized(size: Values, values: Values) -> Values:
    """Divisors, with 1 in place of those that are zero up to float32 rounding."""
    return np.where(size > 1e-6 * values, size, np.float32(1))


class _ScaleModule(nn.Module):
    def __init__(self, by: str, first: int, constant: float) -> None:
        super().__init__()
        self.by, self.first, self.constant = by, first, constant

    def forward(self, signals: Tensor) -> Tensor:
        flat = signals.flatten(self.first)  # (N, value) or (N, channel, value)
        level, size = _TORCH_MEASURES[self.by](flat)
        largest = flat.abs().amax(-1, keepdim=True)
        if self.by != "constant":
            size = torch.where(size > 1e-6 * largest, size, torch.ones_like(size))
        return ((flat - level) / (size * self.constant)).view_as(signals)


class _StandardiseModule(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, signals: Tensor) -> Tensor:
        return (signals - self.mean) / self.std


def _torch_std(x: Tensor) -> tuple[Tensor, Tensor]:
    exact = x.double()
    mean = exact.mean(-1, keepdim=True)
    return mean.to(x.dtype), (exact - mean).square().mean(-1, keepdim=True).sqrt().to(x.dtype)


def _torch_range(x: Tensor) -> tuple[Tensor, Tensor]:
    low = x.amin(-1, keepdim=True)
    return low, x.amax(-1, keepdim=True) - low


def _no_level(size: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(size), size


_TORCH_MEASURES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {  # (..., value) -> (level, size), both (..., 1)
    "constant": lambda x: _no_level(torch.ones_like(x[..., :1])),
    "max": lambda x: _no_level(x.abs().amax(-1, keepdim=True)),
    "range": _torch_range,
    "std": _torch_std,
    "median": lambda x: _no_level(middle(x.abs(), x.ndim - 1)),
    "l2": lambda x: _no_level(x.double().square().sum(-1, keepdim=True).sqrt().to(x.dtype)),
}
