"""Scaling of frames for training, and its inverse, which returns forecasts to physical units.

A FrameTransform is fitted on the training frames only; its state is a few arrays that a run saves beside its weights. Frames
are (time, channel, row, column) float32 with NaN for missing values, which stay NaN. `undo` also takes forecasts of the first
channels only and of crops, whose positions on the training frames are `corners`. `module` is the same in torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wavefold.core.errors import DataError, UserError
from wavefold.core.registry import pick
from wavefold.data.lazy import Floats, Signals, blocks_of
from wavefold.transforms.climatology import Corners, Cycle, UsualFrames, at_cells

Seconds = NDArray[np.float64]
FittedState = dict[str, NDArray[np.generic]]


class FrameTransform(Protocol):
    """An invertible preprocessing step for frames that may be fitted on the training part."""

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Fit on training frames (time, channel, row, column) at `clock` (time,) seconds, `step` seconds apart."""

    def apply(self, frames: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The transformed frames, float32 and of the same shape; the input is not modified.

        corners: first row and column of each frame on the training frames, if the frames are crops.
        """

    def undo(self, frames: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The inverse of `apply`, for all channels or the first ones."""

    def state(self) -> FittedState:
        """The fitted state, as arrays to save."""

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore what `state` returned."""

    def module(self) -> FrameModule:
        """The same computation as a torch module, with the current state."""


class FrameModule(nn.Module):
    """A FrameTransform in torch, for whole frames: `forward` applies it and `undo` undoes it; it can be exported.

    frames: (sample, channel, frame, row, column) float32, NaN where missing. clock: (sample, frame) float64 seconds,
    used only if `needs_clock`. Values that `apply` rejects become NaN instead of raising an error.
    """

    needs_clock = False

    def forward(self, frames: Tensor, clock: Tensor) -> Tensor:
        """The transformed frames."""
        raise NotImplementedError

    def undo(self, frames: Tensor, clock: Tensor) -> Tensor:
        """The inverse, of all channels or the first ones."""
        raise NotImplementedError


class _Linear:
    """(frames - level) / size, with level and size per channel, or per channel and cell."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._level = np.zeros((1, 1, 1), np.float32)  # (channel, 1, 1) or (channel, row, column)
        self._size = np.ones((1, 1, 1), np.float32)

    def apply(self, frames: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """Subtract the level from frames and divide by the size."""
        made: Floats = (frames - self._at(self._level, frames, corners)) / self._at(self._size, frames, corners)
        return made.astype(np.float32, copy=False)

    def undo(self, frames: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """Multiply frames by the size and add the level."""
        made: Floats = frames * self._at(self._size, frames, corners) + self._at(self._level, frames, corners)
        return made.astype(np.float32, copy=False)

    def state(self) -> FittedState:
        """level and size: (channel, 1, 1) or (channel, row, column)."""
        return {"level": self._level, "size": self._size}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore level and size."""
        self._level, self._size = (state[name].astype(np.float32, copy=False) for name in ("level", "size"))

    def module(self) -> FrameModule:
        """The same in torch."""
        return _LinearModule(self._level, self._size)

    def _at(self, learned: Floats, frames: Floats, corners: Corners | None) -> Floats:
        """The fitted values for these frames: (channel, 1, 1) or (time or 1, channel, row, column)."""
        if learned.shape[1:] == (1, 1):
            return learned[: frames.shape[1]]
        index = np.zeros(1 if corners is None else len(frames), np.int64)
        return at_cells(learned[None], index, frames.shape[1:], corners, self._place)


class FrameStandardise(_Linear):
    """Subtracts the mean and divides by the standard deviation of the training frames, ignoring NaN.

    per: "channel" pools all cells of a channel, "cell" treats each cell separately. Constant values are divided by 1.
    """

    def __init__(self, *, per: Literal["channel", "cell"] = "channel") -> None:
        super().__init__("standardise")
        self._axes = pick({"channel": (0, 2, 3), "cell": (0,)}, per, "standardise.per")

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Fit mean and standard deviation."""
        count = _summed(frames, self._axes, np.isfinite)
        mean = _summed(frames, self._axes, np.nan_to_num) / np.maximum(count, 1)
        square = _summed(frames, self._axes, lambda values: np.nan_to_num(values - mean) ** 2)
        spread = np.sqrt(square / np.maximum(count, 1))
        self._level = mean.astype(np.float32)
        self._size = np.where(spread > 1e-6 * np.abs(mean), spread, 1).astype(np.float32)  # else rounding of a constant


class MinMax(_Linear):
    """Scales each channel to 0..1 by the minimum and maximum of the training frames.

    low, high: physical values that map to 0 and 1 instead of those found. clip: clip later values outside them to 0..1.
    """

    def __init__(self, *, low: float | None = None, high: float | None = None, clip: bool = False) -> None:
        super().__init__("min_max")
        if low is not None and high is not None:
            _need_order("min_max", low, high)
        self._low, self._high, self._clip = low, high, clip

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Fit the minimum and maximum of each channel."""
        low, high = _extremes(frames)
        low = low if self._low is None else np.full_like(low, self._low)
        high = high if self._high is None else np.full_like(high, self._high)
        self._level, self._size = low, np.where(high > low, high - low, np.float32(1))

    def apply(self, frames: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """Scale frames so that the minimum is 0 and the maximum is 1."""
        made = super().apply(frames, clock, corners)
        return np.clip(made, 0, 1) if self._clip else made

    def module(self) -> FrameModule:
        """The same in torch."""
        return _LinearModule(self._level, self._size, (0, 1) if self._clip else (None, None))


class _Unlearned:
    """A transform without fitted state."""

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Do nothing; there is nothing to fit."""

    def state(self) -> FittedState:
        """An empty state."""
        return {}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Do nothing; the state is empty."""


class LogOnePlus(_Unlearned):
    """log(1 + x / scale) of non-negative values, which compresses heavy tails such as those of counts and rain rates.

    DataError for a negative value.
    """

    def __init__(self, *, scale: float = 1.0) -> None:
        if not scale > 0:
            raise UserError(f"log1p.scale: {scale:g} is not a valid divisor; expected a number above 0")
        self._scale = np.float32(scale)

    def apply(self, frames: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The logarithm of 1 + frames / scale."""
        if (frames < 0).any():
            raise DataError(f"log1p: the frames contain {float(np.nanmin(frames)):g}; expected values of at least 0")
        made: Floats = np.log1p(frames / self._scale)
        return made.astype(np.float32, copy=False)

    def undo(self, frames: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """(exp(frames) - 1) x scale."""
        made: Floats = np.expm1(frames) * self._scale
        return made.astype(np.float32, copy=False)

    def module(self) -> FrameModule:
        """The same in torch."""
        return _LogModule(float(self._scale))


class Clip(_Unlearned):
    """Clips values to `low` and `high`; this cannot be inverted, so `undo` returns its input."""

    def __init__(self, *, low: float | None = None, high: float | None = None) -> None:
        if low is None and high is None:
            raise UserError("clip: neither low nor high is set; set at least one of them")
        if low is not None and high is not None:
            _need_order("clip", low, high)
        self._low, self._high = low, high

    def apply(self, frames: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """Clip frames to low and high."""
        return np.clip(frames, self._low, self._high).astype(np.float32, copy=False)

    def undo(self, frames: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """Return the frames unchanged."""
        return frames

    def module(self) -> FrameModule:
        """The same in torch."""
        return _ClipModule(self._low, self._high)


class Anomaly:
    """Subtracts each cell's climatology at the phase of a cycle: the day (period 86400 seconds) or the year (31556952).

    The climatology is that of the climatology baseline, whose forecast is thus an anomaly of 0. smooth: phases on either side
    that are averaged in.
    """

    def __init__(self, *, period: float = 86400.0, smooth: int = 0) -> None:
        self._cycle, self._period = Cycle(period=period, smooth=smooth, place="anomaly"), period

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Fit the mean of each cell and phase."""
        self._cycle.fit(frames, clock, step)

    def apply(self, frames: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """Subtract the means at the frames' times."""
        return (frames - self._cycle.at(clock, frames.shape[1:], corners)).astype(np.float32, copy=False)

    def undo(self, frames: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """Add the means at the frames' times."""
        return (frames + self._cycle.at(clock, frames.shape[1:], corners)).astype(np.float32, copy=False)

    def state(self) -> FittedState:
        """means: (phase, channel, row, column); origin: seconds of phase 0."""
        return self._cycle.state()

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore means and origin."""
        self._cycle.load(state)

    def module(self) -> FrameModule:
        """The same in torch."""
        return _AnomalyModule(UsualFrames(self._cycle.means, self._cycle.origin, self._period))


class _LinearModule(FrameModule):
    level: Tensor  # (channel, 1, 1, 1) or (channel, 1, row, column)
    size: Tensor  # likewise

    def __init__(self, level: Floats, size: Floats, held: tuple[float | None, float | None] = (None, None)) -> None:
        super().__init__()
        self._held = held  # minimum and maximum of the scaled values
        self.register_buffer("level", torch.from_numpy(level[:, None].copy()))
        self.register_buffer("size", torch.from_numpy(size[:, None].copy()))

    def forward(self, frames: Tensor, clock: Tensor) -> Tensor:
        return _held((frames - self.level) / self.size, *self._held)

    def undo(self, frames: Tensor, clock: Tensor) -> Tensor:
        channels = frames.shape[1]
        made: Tensor = frames * self.size[:channels] + self.level[:channels]
        return made


class _LogModule(FrameModule):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self._scale = scale

    def forward(self, frames: Tensor, clock: Tensor) -> Tensor:
        values = torch.where(frames < 0, torch.nan, frames).double()  # exported log1p is log(1 + x), too coarse in float32
        return torch.log1p(values / self._scale).float()

    def undo(self, frames: Tensor, clock: Tensor) -> Tensor:
        return (torch.expm1(frames.double()) * self._scale).float()


class _ClipModule(FrameModule):
    def __init__(self, low: float | None, high: float | None) -> None:
        super().__init__()
        self._low, self._high = low, high

    def forward(self, frames: Tensor, clock: Tensor) -> Tensor:
        return _held(frames, self._low, self._high)

    def undo(self, frames: Tensor, clock: Tensor) -> Tensor:
        return frames


class _AnomalyModule(FrameModule):
    needs_clock = True

    def __init__(self, usual: UsualFrames) -> None:
        super().__init__()
        self.usual = usual

    def forward(self, frames: Tensor, clock: Tensor) -> Tensor:
        made: Tensor = frames - self.usual(clock, frames.shape[1])
        return made

    def undo(self, frames: Tensor, clock: Tensor) -> Tensor:
        made: Tensor = frames + self.usual(clock, frames.shape[1])
        return made


def _held(values: Tensor, low: float | None, high: float | None) -> Tensor:
    """Clamp values between two numbers; NaN stays NaN, which other runtimes' clamping does not guarantee."""
    values = values if low is None else torch.where(values < low, low, values)
    return values if high is None else torch.where(values > high, high, values)


FRAME_TRANSFORMS: dict[str, Callable[..., FrameTransform]] = {
    "standardise": FrameStandardise,
    "min_max": MinMax,
    "log1p": LogOnePlus,
    "clip": Clip,
    "anomaly": Anomaly,
}


def _summed(
    frames: Signals, axes: tuple[int, ...], of: Callable[[Floats], NDArray[np.floating | np.bool_]]
) -> NDArray[np.float64]:
    """Sum a function of the values over `axes`, block by block: (channel, 1, 1) or (channel, row, column)."""
    whole = [1 if axis in axes else size for axis, size in enumerate(frames.shape)]
    total = np.zeros(whole[1:])
    for _, values in blocks_of(frames):
        total += of(values).sum(axis=axes, dtype=np.float64, keepdims=True)[0]
    return total


def _extremes(frames: Signals) -> tuple[Floats, Floats]:
    """Minimum and maximum of each channel, (channel, 1, 1) each; 0 if it has no values."""
    low = np.full((frames.shape[1], 1, 1), np.inf, np.float32)
    high = -low
    for _, values in blocks_of(frames):
        there = np.isfinite(values)
        low = np.minimum(low, np.where(there, values, np.inf).min(axis=(0, 2, 3), keepdims=True)[0])
        high = np.maximum(high, np.where(there, values, -np.inf).max(axis=(0, 2, 3), keepdims=True)[0])
    return np.where(np.isfinite(low), low, 0).astype(np.float32), np.where(np.isfinite(high), high, 0).astype(np.float32)


def _need_order(place: str, low: float, high: float) -> None:
    if low >= high:
        raise UserError(f"{place}: low = {low:g} must be below high = {high:g}")
