"""Continuum normalisation of spectra, so that lines stand out and flux calibration matters less.

The continuum is the median of each segment of `width` positions, linearly interpolated. Medians are robust to lines and bad
pixels, which would bias a fitted polynomial.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wavefold.core.errors import UserError
from wavefold.core.onnx_ops import middle
from wavefold.data.dataset import Floats, Ints, Signals
from wavefold.transforms.scale import FittedState, need_one_axis

_FLOOR = 0.1  # fraction of a sample's median |x|: a lower continuum is noise, and dividing by it would blow values up


class Continuum:
    """Computes x / continuum - 1, clipped to [-most, most], times gain, per sample and channel; nothing is fitted.

    width: positions per segment; the last segment takes the remainder. gain: lines are about a tenth of the continuum and so
    small next to a spectrum scaled to 1. keep: append the result as further channels instead of replacing the signals.
    An all-zero sample stays zero.
    """

    def __init__(self, width: int = 100, most: float = 3.0, gain: float = 1.0, keep: bool = False) -> None:
        if width < 2:
            raise UserError(f"continuum.width: {width} is too small; expected 2 positions or more")
        for name, value in (("most", most), ("gain", gain)):
            if not value > 0:
                raise UserError(f"continuum.{name}: {value} must be above 0")
        self.width, self.most, self.gain, self.keep = width, most, gain, keep

    def fit(self, signals: Signals, labels: NDArray[np.number] | None = None) -> Self:
        """Return self; there is nothing to fit."""
        need_one_axis(signals, "continuum")
        return self

    def apply(self, signals: Floats, block: int = 1024) -> Floats:
        """Lines on a flat continuum. signals: (sample, channel, position); result: the same, or twice the channels."""
        need_one_axis(signals, "continuum")
        channels = signals.shape[1]
        result = np.empty((len(signals), channels * (1 + self.keep), signals.shape[2]), np.float32)
        result[:, : channels * self.keep] = signals[:, : channels * self.keep]
        for start in range(0, len(signals), block):  # in blocks, because the continuum is as large as the signals
            part = signals[start : start + block]
            result[start : start + block, channels * self.keep :] = self._lines(part)
        return result

    def state(self) -> FittedState:
        """An empty state."""
        return {}

    def load(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Do nothing; the state is empty."""

    def module(self) -> nn.Module:
        """The same computation as a torch module, bit-identical."""
        return _ContinuumModule(self.width, self.most, self.gain, self.keep)

    def _lines(self, x: Floats) -> Floats:
        level = np.median(np.abs(x), axis=2, keepdims=True)
        floor = np.where(level > 0, _FLOOR * level, np.abs(x).max(axis=2, keepdims=True))
        safe = np.maximum(self._level(x), np.where(floor > 0, floor, np.float32(1)))
        lines: Floats = np.clip(np.where(floor > 0, x / safe - 1, 0), -self.most, self.most) * np.float32(self.gain)
        return lines

    def _level(self, x: Floats) -> Floats:
        """The continuum, (sample, channel, position)."""
        knots_at = _knots(x.shape[2], self.width)
        knots = np.stack([np.median(x[..., a:b], axis=2) for a, b in knots_at.stretches], axis=2)
        level: Floats = knots[..., knots_at.left] * (1 - knots_at.share) + knots[..., knots_at.right] * knots_at.share
        return level


@dataclass(frozen=True)
class _Knots:
    """Segments of positions with one median each; for each position its two knots and the weight of the right one."""

    stretches: tuple[tuple[int, int], ...]  # first position, and the one after the last
    left: Ints  # (position,)
    right: Ints
    share: Floats


def _knots(length: int, width: int) -> _Knots:
    starts = np.arange(0, max(1, length - width + 1), width)
    ends = np.append(starts[1:], length)
    middles = (starts + ends - 1) / 2
    at = np.clip(np.interp(np.arange(length), middles, np.arange(len(starts))), 0, len(starts) - 1)
    left = np.minimum(at.astype(np.int64), max(0, len(starts) - 2))
    stretches = tuple(zip(starts.tolist(), ends.tolist(), strict=True))
    return _Knots(stretches, left, np.minimum(left + 1, len(starts) - 1), (at - left).astype(np.float32))


class _ContinuumModule(nn.Module):
    def __init__(self, width: int, most: float, gain: float, keep: bool) -> None:
        super().__init__()
        self.width, self.most, self.gain, self.keep = width, most, gain, keep

    def forward(self, signals: Tensor) -> Tensor:
        lines = self._lines(signals)
        return torch.cat([signals, lines], 1) if self.keep else lines

    def _lines(self, x: Tensor) -> Tensor:
        size = x.abs()
        level = middle(size, 2)
        floor = torch.where(level > 0, _FLOOR * level, size.amax(2, keepdim=True))
        safe = torch.maximum(self._level(x), torch.where(floor > 0, floor, torch.ones_like(floor)))
        lines = torch.where(floor > 0, x / safe - 1, torch.zeros_like(x))
        return lines.clamp(-self.most, self.most) * self.gain

    def _level(self, x: Tensor) -> Tensor:
        knots_at = _knots(x.shape[2], self.width)
        knots = torch.cat([middle(x[..., a:b], 2) for a, b in knots_at.stretches], 2)
        left, right, share = (torch.tensor(values) for values in (knots_at.left, knots_at.right, knots_at.share))
        return knots[..., left] * (1 - share) + knots[..., right] * share
