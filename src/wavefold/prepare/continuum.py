"""Spectra divided by their continuum, so that lines stand out and the flux calibration matters less.

The continuum is what varies slowly: the median of each stretch of `width` positions, joined by straight lines. Medians
pass over lines and bad pixels, which a fitted polynomial follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

from wavefold.base.dataset import Floats, Ints, Signals
from wavefold.base.errors import UserError
from wavefold.prepare.scale import State, need_one_axis

_FLOOR = 0.1  # of a sample's median |x|: below it a continuum is noise, and would blow up what it divides


class Continuum:
    """x / continuum - 1, clipped to [-most, most], times gain; each sample by itself and each channel, so nothing is learned.

    width: positions a stretch; the last stretch takes what is left over. gain: lines are a tenth of the continuum, and small
    beside a spectrum scaled to 1. keep: put it beside the signals as they are, as further channels, instead of in their
    place. A sample that is all zeros stays so.
    """

    def __init__(self, width: int = 100, most: float = 3.0, gain: float = 1.0, keep: bool = False) -> None:
        if width < 2:
            raise UserError(f"continuum.width: {width} is too few positions; expected 2 or more")
        for name, value in (("most", most), ("gain", gain)):
            if not value > 0:
                raise UserError(f"continuum.{name}: {value} is not above 0")
        self.width, self.most, self.gain, self.keep = width, most, gain, keep

    def fit(self, signals: Signals, labels: Ints | None = None) -> Self:
        """Itself: nothing is learned."""
        need_one_axis(signals, "continuum")
        return self

    def apply(self, signals: Floats, block: int = 1024) -> Floats:
        """Lines on a flat continuum. signals: (sample, channel, position); result: the same, or twice the channels."""
        need_one_axis(signals, "continuum")
        channels = signals.shape[1]
        result = np.empty((len(signals), channels * (1 + self.keep), signals.shape[2]), np.float32)
        result[:, : channels * self.keep] = signals[:, : channels * self.keep]
        for start in range(0, len(signals), block):  # the continua of all samples at once are as large as they are
            part = signals[start : start + block]
            result[start : start + block, channels * self.keep :] = self._lines(part)
        return result

    def state(self) -> State:
        """Nothing."""
        return {}

    def load(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Take nothing back."""

    def _lines(self, x: Floats) -> Floats:
        level = np.median(np.abs(x), axis=2, keepdims=True)
        floor = np.where(level > 0, _FLOOR * level, np.abs(x).max(axis=2, keepdims=True))
        safe = np.maximum(self._level(x), np.where(floor > 0, floor, np.float32(1)))
        lines: Floats = np.clip(np.where(floor > 0, x / safe - 1, 0), -self.most, self.most) * np.float32(self.gain)
        return lines

    def _level(self, x: Floats) -> Floats:
        """The continuum, (sample, channel, position)."""
        length = x.shape[2]
        starts = np.arange(0, max(1, length - self.width + 1), self.width)
        ends = np.append(starts[1:], length)
        knots = np.stack([np.median(x[..., a:b], axis=2) for a, b in zip(starts, ends, strict=True)], axis=2)
        middles = (starts + ends - 1) / 2
        at = np.clip(np.interp(np.arange(length), middles, np.arange(len(starts))), 0, len(starts) - 1)
        left = np.minimum(at.astype(np.int64), max(0, len(starts) - 2))
        share = (at - left).astype(np.float32)
        level: Floats = knots[..., left] * (1 - share) + knots[..., np.minimum(left + 1, len(starts) - 1)] * share
        return level
