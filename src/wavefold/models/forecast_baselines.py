"""Baseline forecasts reported next to every model's scores, and the table of all of them.

Frames are in physical units with NaN for missing values; forecasts are finite. A baseline forecasts every channel of the
past frames.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavefold.core.registry import pick
from wavefold.data.lazy import Floats, Signals
from wavefold.models.advection import advect, frames_apart, latest
from wavefold.models.baseline_module import BaselineModule, by_torch
from wavefold.models.damped_anomaly import DampedAnomaly
from wavefold.models.pca_ridge import PcaRidge
from wavefold.models.seasonal import SeasonalChange, SeasonalNaive
from wavefold.models.spectral import fading_advection, matched_advection
from wavefold.transforms.climatology import Corners, Cycle, UsualFrames

Seconds = NDArray[np.float64]
TrainingState = dict[str, NDArray[np.generic]]


class FrameBaseline(Protocol):
    """A forecaster fitted, if at all, to simple statistics of the training part."""

    def past_frames(self, step: float) -> int:
        """Frames up to the last past one that a forecast uses, for frames `step` seconds apart; others may be missing."""

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Fit on training frames (time, channel, row, column) at `clock` (time,) seconds, `step` seconds apart."""

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """Forecast later frames, (n, channel, ahead, row, column), from past frames (n, channel, past, row, column).

        past: at least as many frames as `past_frames` says, NaN where they are not known. clock: (n, ahead) seconds of the
        later frames. corners: first row and column of each window on the training frames, if windows are crops of them.
        """

    def module(self) -> BaselineModule:
        """The same for whole frames as a torch module, with the current state."""

    def state(self) -> TrainingState:
        """The fitted state, as arrays to save."""

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore what `state` returned."""


class _Unlearned:
    """A baseline that uses only the past frames of each window."""

    past = 1  # frames used

    def past_frames(self, step: float) -> int:
        """A fixed number."""
        return self.past

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The later frames, (n, channel, ahead, row, column)."""
        return by_torch(self.module(), past, clock)

    def module(self) -> BaselineModule:
        """The forecast in torch."""
        raise NotImplementedError

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Do nothing; there is nothing to fit."""

    def state(self) -> TrainingState:
        """An empty state."""
        return {}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Do nothing; the state is empty."""


class Persistence(_Unlearned):
    """Repeats the last past frame; a cell missing there takes its latest value."""

    def module(self) -> BaselineModule:
        """The last frame at every lead."""
        return _Moved(lambda past, ahead: latest(past)[:, :, None].expand(-1, -1, ahead, -1, -1))


class PastMean(_Unlearned):
    """Forecasts each cell's mean over the past frames at every lead, ignoring NaN."""

    def module(self) -> BaselineModule:
        """The mean of the past frames at every lead."""
        return _Moved(_mean)


class Climatology:
    """Each cell's training mean at the phase of a cycle: the day (period 86400 seconds) or the year (31556952).

    The cycle is counted in whole time steps of the frames (UserError if they do not fit); beyond 400 steps a phase
    spans several. smooth: phases on either side that are averaged in. A phase without data takes the cell's overall mean.
    """

    def __init__(self, *, period: float = 86400.0, smooth: int = 0) -> None:
        self._cycle, self._period = Cycle(period=period, smooth=smooth, place="climatology"), period

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Fit the mean of each cell and phase on training frames (time, channel, row, column)."""
        self._cycle.fit(frames, clock, step)

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The means at the later frames' times, (n, channel, ahead, row, column)."""
        usual = self._cycle.at(clock, (past.shape[1], *past.shape[3:]), corners)  # (n, ahead, channel, row, column)
        return np.ascontiguousarray(usual.swapaxes(1, 2))

    def past_frames(self, step: float) -> int:
        """None: only the time counts."""
        return 0

    def module(self) -> BaselineModule:
        """The same in torch."""
        return _Usual(UsualFrames(self._cycle.means, self._cycle.origin, self._period))

    def state(self) -> TrainingState:
        """means: (phase, channel, row, column); origin: seconds of phase 0."""
        return self._cycle.state()

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore means and origin."""
        self._cycle.load(state)


class _Usual(BaselineModule):
    needs_clock = True

    def __init__(self, usual: UsualFrames) -> None:
        super().__init__()
        self.usual = usual

    def forward(self, past: Tensor, clock: Tensor) -> Tensor:
        made: Tensor = self.usual(clock, past.shape[1])
        return made


class _Carried(_Unlearned):
    """A forecast along the motion of the past frames, seen over as many steps as training frames repeat their values."""

    name = ""
    carry: Callable[[Tensor, int, int], Tensor]

    def __init__(self) -> None:
        self.apart = 1

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Find how many frames apart motion shows."""
        self.apart = frames_apart(np.asarray(frames[max(0, len(frames) - 16) :]))

    def module(self) -> BaselineModule:
        """The extrapolated last frame."""
        carry, apart = type(self).carry, self.apart
        return _Moved(lambda past, ahead: carry(past, ahead, apart), self.name)

    def state(self) -> TrainingState:
        """apart: frames between those that motion is seen in."""
        return {"apart": np.array(self.apart)}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore what `state` returned; runs of earlier versions saw motion from frame to frame."""
        self.apart = int(state["apart"].item()) if "apart" in state else 1


class Advection(_Carried):
    """Extrapolates the last frame along the motion of the past frames; values from outside are the nearest value inside."""

    name, carry = "advection", staticmethod(advect)


class Spectral(_Carried):
    """Advection whose structures fade, grow and shrink by size as they did in the window's past frames: S-PROG."""

    name, carry = "spectral", staticmethod(fading_advection)


class SpectralMatched(_Carried):
    """The same with the last frame's distribution of values: heavy rain stays heavy, at the cost of squared error."""

    name, carry = "spectral_matched", staticmethod(matched_advection)


class _Moved(BaselineModule):
    """A function of past frames and the number of later ones, and its name."""

    def __init__(self, function: Callable[[Tensor, int], Tensor], name: str = "") -> None:
        super().__init__()
        self.function, self.name = function, name

    def forward(self, past: Tensor, clock: Tensor) -> Tensor:
        return self.function(past, clock.shape[1])


def _mean(past: Tensor, ahead: int) -> Tensor:
    known = past.isfinite()
    count = known.sum(dim=2)
    mean = (torch.where(known, past, 0).double().sum(dim=2) / count.clamp(min=1)).float()
    return torch.where(count > 0, mean, latest(past))[:, :, None].expand(-1, -1, ahead, -1, -1)


BASELINES: dict[str, Callable[..., FrameBaseline]] = {
    "persistence": Persistence,
    "mean": PastMean,
    "climatology": Climatology,
    "damped_anomaly": DampedAnomaly,
    "seasonal_naive": SeasonalNaive,
    "seasonal_change": SeasonalChange,
    "pca_ridge": PcaRidge,
    "advection": Advection,
    "spectral": Spectral,
    "spectral_matched": SpectralMatched,
}


def build_baseline(name: str, place: str, **known: object) -> FrameBaseline:
    """Build a baseline, not yet fitted, with those of the known options that it takes. place: for errors."""
    taken = inspect.signature(pick(BASELINES, name, place)).parameters
    return BASELINES[name](**{key: value for key, value in known.items() if key in taken})
