"""Baseline forecasts reported next to every model's scores: persistence, past mean, climatology, damped anomaly, advection.

Frames are in physical units with NaN for missing values; forecasts are finite. A baseline forecasts every channel of the
past frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavefold.data.lazy import Floats, Signals, row_blocks
from wavefold.models.advection import advect, latest
from wavefold.models.damped_anomaly import DampedAnomaly
from wavefold.models.spectral import fading_advection
from wavefold.transforms.climatology import Corners, Cycle

Seconds = NDArray[np.float64]
TrainingState = dict[str, NDArray[np.generic]]


class FrameBaseline(Protocol):
    """A forecaster fitted, if at all, to simple statistics of the training part."""

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Fit on training frames (time, channel, row, column) at `clock` (time,) seconds, `step` seconds apart."""

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """Forecast later frames, (n, channel, ahead, row, column), from past frames (n, channel, past, row, column).

        clock: (n, ahead) seconds of the later frames. corners: first row and column of each window on the training frames,
        if windows are crops of them.
        """

    def state(self) -> TrainingState:
        """The fitted state, as arrays to save."""

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore what `state` returned."""


class _Unlearned:
    """A baseline that uses only the past frames of each window."""

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Do nothing; there is nothing to fit."""

    def state(self) -> TrainingState:
        """An empty state."""
        return {}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Do nothing; the state is empty."""


class Persistence(_Unlearned):
    """Repeats the last past frame; a cell missing there takes its latest value."""

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The last frame at every lead, (n, channel, ahead, row, column)."""
        return _repeated(_by_torch(latest, past), clock.shape[1])


class PastMean(_Unlearned):
    """Forecasts each cell's mean over the past frames at every lead, ignoring NaN."""

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The mean of the past frames at every lead, (n, channel, ahead, row, column)."""
        there = np.isfinite(past)
        counts = there.sum(axis=2)
        mean = np.where(there, past, 0).sum(axis=2, dtype=np.float64) / np.maximum(counts, 1)
        if not counts.all():
            mean = np.where(counts > 0, mean, _by_torch(latest, past))
        return _repeated(mean.astype(np.float32), clock.shape[1])


class Climatology:
    """Each cell's training mean at the phase of a cycle: the day (period 86400 seconds) or the year (31556952).

    The cycle is counted in whole time steps of the frames (UserError if they do not fit); beyond 400 steps a phase
    spans several. smooth: phases on either side that are averaged in. A phase without data takes the cell's overall mean.
    """

    def __init__(self, *, period: float = 86400.0, smooth: int = 0) -> None:
        self._cycle = Cycle(period=period, smooth=smooth, place="climatology")

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Fit the mean of each cell and phase on training frames (time, channel, row, column)."""
        self._cycle.fit(frames, clock, step)

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The means at the later frames' times, (n, channel, ahead, row, column)."""
        usual = self._cycle.at(clock, (past.shape[1], *past.shape[3:]), corners)  # (n, ahead, channel, row, column)
        return np.ascontiguousarray(usual.swapaxes(1, 2))

    def state(self) -> TrainingState:
        """means: (phase, channel, row, column); origin: seconds of phase 0."""
        return self._cycle.state()

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore means and origin."""
        self._cycle.load(state)


class Advection(_Unlearned):
    """Extrapolates the last frame along the motion of the past frames; values from outside are the nearest value inside."""

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The extrapolated last frame, (n, channel, ahead, row, column)."""
        ahead = clock.shape[1]
        return _by_torch(lambda some: advect(some, ahead), past)


class Spectral(_Unlearned):
    """Advection whose small structures fade at the rate seen in the window's past frames: S-PROG."""

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The extrapolated last frame, smoother at longer leads, (n, channel, ahead, row, column)."""
        ahead = clock.shape[1]
        return _by_torch(lambda some: fading_advection(some, ahead), past)


BASELINES: dict[str, Callable[..., FrameBaseline]] = {
    "persistence": Persistence,
    "mean": PastMean,
    "climatology": Climatology,
    "damped_anomaly": DampedAnomaly,
    "advection": Advection,
    "spectral": Spectral,
}


def _repeated(frame: Floats, ahead: int) -> Floats:
    """(n, channel, row, column) to (n, channel, ahead, row, column)."""
    return np.repeat(frame[:, :, None], ahead, axis=2)


def _by_torch(function: Callable[[Tensor], Tensor], past: Floats) -> Floats:
    """Apply a torch function to windows in blocks, to bound memory."""
    blocks = row_blocks(len(past), 64, values=int(np.prod(past.shape[1:])))
    made = [function(torch.from_numpy(np.array(past[rows], np.float32))).numpy() for rows in blocks]
    return np.concatenate(made) if made else function(torch.zeros((1, *past.shape[1:])))[:0].numpy()
