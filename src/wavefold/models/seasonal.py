"""Seasonal forecasts: the frame of the same hour yesterday or month last year, alone or corrected by what is new since then.

Both learn little or nothing of the past weather, so they follow a change of weather that a climatology does not know. They
look one cycle back, also where a net sees fewer frames. Source: Hyndman and Athanasopoulos 2021, Forecasting: principles and
practice, 5.2 (seasonal naive method).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavefold.data.lazy import Floats, Ints, Signals, blocks_of
from wavefold.models.advection import latest
from wavefold.models.baseline_module import BaselineModule, by_torch
from wavefold.models.damped_anomaly import left_shares, looked_at, spaced
from wavefold.transforms.climatology import Corners, Cycle

Seconds = NDArray[np.float64]


class SeasonalNaive:
    """Repeats the last whole cycle: the frame of the same hour yesterday, or of the same month last year.

    period: seconds of the cycle, a whole number of the frames' steps. A cell that is missing then takes its latest value.
    """

    def __init__(self, *, period: float = 86400.0) -> None:
        self._cycle = Cycle(period=period, smooth=0, place=self._place)
        self.steps = 1  # of a cycle

    _place = "seasonal_naive"

    def past_frames(self, step: float) -> int:
        """A cycle of frames up to the last one."""
        return self._cycle.steps(step)

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Count the steps of a cycle."""
        self.steps = self._cycle.steps(step)

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The frames of one cycle earlier, (n, channel, ahead, row, column)."""
        return by_torch(self.module(), past, clock)

    def module(self) -> BaselineModule:
        """The same in torch."""
        return _Repeated(self.steps, None)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """steps: of a cycle."""
        return {"steps": np.array(self.steps)}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore what `state` returned."""
        self.steps = int(state["steps"].item())


class SeasonalChange(SeasonalNaive):
    """The seasonal naive forecast plus a share of the last frame's difference from that of one cycle earlier.

    The share is one number for each lead and channel, by least squares on the training frames: persistence at short leads,
    the seasonal naive forecast at long ones.
    """

    def __init__(self, *, period: float = 86400.0) -> None:
        super().__init__(period=period)
        self.shares = np.zeros((1, 1), np.float32)  # (lead, channel)

    _place = "seasonal_change"

    def past_frames(self, step: float) -> int:
        """A cycle of frames before the last one."""
        return self._cycle.steps(step) + 1

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Fit the share of a difference that is left at each lead on training frames (time, channel, row, column)."""
        super().fit(frames, clock, step)
        first, every = looked_at(len(clock), frames.shape)
        values = np.concatenate(
            [
                part[max(first - at.start, 0) :, :, ::every, ::every].reshape(-1, frames.shape[1], _cells(part, every))
                for at, part in blocks_of(frames)
            ]
        )
        early, late = spaced(clock[first:], self.steps, step)
        self.shares = left_shares(values[late] - values[early], clock[first:][late], step)

    def module(self) -> BaselineModule:
        """The same in torch."""
        return _Repeated(self.steps, self.shares)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """steps: of a cycle; shares: (lead, channel)."""
        return {**super().state(), "shares": self.shares}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore what `state` returned."""
        super().load(state)
        self.shares = state["shares"].astype(np.float32)


class _Repeated(BaselineModule):
    shares: Tensor | None

    def __init__(self, steps: int, shares: Floats | None) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("shares", None if shares is None else torch.from_numpy(shares.copy()))

    def forward(self, past: Tensor, clock: Tensor) -> Tensor:
        ahead, frames = clock.shape[1], past.shape[2]
        leads = np.arange(1, ahead + 1)
        places: Ints = frames - 1 + leads - self.steps * -(-leads // self.steps)
        last = latest(past)[:, :, None]
        known = torch.from_numpy(np.maximum(places, 0))
        then = torch.where(torch.from_numpy(places >= 0)[:, None, None], past[:, :, known], torch.nan)
        then = torch.where(then.isnan(), last, then)
        if self.shares is None:
            return then
        before = past[:, :, -1 - self.steps][:, :, None] if frames > self.steps else torch.full_like(last, torch.nan)
        new = torch.nan_to_num(past[:, :, -1:] - before, nan=0.0)
        at = torch.from_numpy(np.minimum(leads - 1, len(self.shares) - 1))
        left = self.shares[at, : past.shape[1]].T[:, :, None, None]  # (channel, lead, 1, 1)
        return then + left * new


def _cells(part: Floats, every: int) -> int:
    rows, columns = part.shape[2:]
    return int(-(-rows // every) * -(-columns // every))
