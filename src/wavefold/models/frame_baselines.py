"""Forecasts without a net, which stand beside every score: the last frame, the mean, the usual, the last frame moved on.

Frames are in physical units with NaN where there is no value; forecasts are finite. A baseline forecasts every channel of the
past it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavefold.base.blocks import row_blocks
from wavefold.base.cycle import Corners, Cycle
from wavefold.base.lazy import Floats, Signals
from wavefold.models.advection import advect, latest
from wavefold.models.spectral import fading_advection

Seconds = NDArray[np.float64]
State = dict[str, NDArray[Any]]


class FrameBaseline(Protocol):
    """A forecaster that learns from the training part at most by counting."""

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Learn from training frames (time, channel, row, column) at `clock` (time,) seconds, `step` seconds apart."""

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """Later frames, (n, channel, ahead, row, column), after past ones (n, channel, past, row, column).

        clock: (n, ahead) seconds of the later frames. corners: first row and column of each window on the training frames,
        where windows are crops of them.
        """

    def state(self) -> State:
        """What was learned, as arrays to keep."""

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `state` gave."""


class _Unlearned:
    """A baseline that knows nothing but the window's past."""

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Nothing is learned."""

    def state(self) -> State:
        """Nothing."""
        return {}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take nothing back."""


class Persistence(_Unlearned):
    """The last past frame again and again; a cell without a value there has its latest one."""

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """Each lead the last frame, (n, channel, ahead, row, column)."""
        return _repeated(_by_torch(latest, past), clock.shape[1])


class PastMean(_Unlearned):
    """The mean of the past frames at every lead, by cell; NaN has no say."""

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """Each lead the mean of the past frames, (n, channel, ahead, row, column)."""
        there = np.isfinite(past)
        counts = there.sum(axis=2)
        mean = np.where(there, past, 0).sum(axis=2, dtype=np.float64) / np.maximum(counts, 1)
        if not counts.all():
            mean = np.where(counts > 0, mean, _by_torch(latest, past))
        return _repeated(mean.astype(np.float32), clock.shape[1])


class Climatology:
    """Each cell's mean over the training part at that phase of a cycle: the day (86400 seconds), the year (31556952).

    The cycle is counted in whole steps of the frames (UserError where it has none); beyond 400 a phase is several steps.
    smooth: phases on either side that are averaged in. A phase never seen has the cell's mean over all.
    """

    def __init__(self, *, period: float = 86400.0, smooth: int = 0) -> None:
        self._cycle = Cycle(period=period, smooth=smooth, place="climatology")

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Learn the mean of each cell and phase from training frames (time, channel, row, column)."""
        self._cycle.fit(frames, clock, step)

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The means at the later frames' times, (n, channel, ahead, row, column)."""
        usual = self._cycle.at(clock, (past.shape[1], *past.shape[3:]), corners)  # (n, ahead, channel, row, column)
        return np.ascontiguousarray(usual.swapaxes(1, 2))

    def state(self) -> State:
        """means: (phase, channel, row, column); origin: seconds of phase 0."""
        return self._cycle.state()

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take back means and origin."""
        self._cycle.load(state)


class Advection(_Unlearned):
    """The last frame carried on along the motion of the past frames; what comes in from outside is the nearest value inside."""

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The last frame moved on, (n, channel, ahead, row, column)."""
        ahead = clock.shape[1]
        return _by_torch(lambda some: advect(some, ahead), past)


class Spectral(_Unlearned):
    """Advection whose small structures fade as they did in the past of the same window: S-PROG."""

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The last frame moved on and smoothed by lead, (n, channel, ahead, row, column)."""
        ahead = clock.shape[1]
        return _by_torch(lambda some: fading_advection(some, ahead), past)


BASELINES: dict[str, Callable[..., FrameBaseline]] = {
    "persistence": Persistence,
    "mean": PastMean,
    "climatology": Climatology,
    "advection": Advection,
    "spectral": Spectral,
}


def _repeated(frame: Floats, ahead: int) -> Floats:
    """(n, channel, row, column) to (n, channel, ahead, row, column)."""
    return np.repeat(frame[:, :, None], ahead, axis=2)


def _by_torch(function: Callable[[Tensor], Tensor], past: Floats) -> Floats:
    """`function` of windows, some at a time so that its own arrays stay small."""
    blocks = row_blocks(len(past), 64, values=int(np.prod(past.shape[1:])))
    made = [function(torch.from_numpy(np.array(past[rows], np.float32))).numpy() for rows in blocks]
    return np.concatenate(made) if made else function(torch.zeros((1, *past.shape[1:])))[:0].numpy()
