"""Damped anomaly: the usual value of an hour or season, plus what is left of the last frame's departure from it.

The share that is left is one number for each lead and channel, by least squares on the training frames. It is persistence at
short leads and climatology at long ones, and hard to beat where the weather has a cycle.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavefold.data.lazy import Floats, Ints, Signals, blocks_of
from wavefold.data.series import mean_step
from wavefold.models.baseline_module import BaselineModule
from wavefold.transforms.climatology import Corners, Cycle, UsualFrames

_LEADS = 200  # beyond it the share stays that of the last
_CELLS, _FRAMES = 1024, 4000  # of the training frames, that shares are fitted on: even cells, the latest frames


class DampedAnomaly:
    """Climatology of a cycle, as the baseline `climatology`, plus a share of the last past frame's anomaly.

    period: seconds of the cycle. smooth: phases on either side that are averaged in. A cell that is missing in the last past
    frame has no anomaly.
    """

    def __init__(self, *, period: float = 86400.0, smooth: int = 0) -> None:
        self._cycle, self._period = Cycle(period=period, smooth=smooth, place="damped_anomaly"), period
        self.shares = np.zeros((1, 1), np.float32)  # (lead, channel)
        self.step = 1.0  # seconds

    def past_frames(self, step: float) -> int:
        """The last frame."""
        return 1

    def fit(self, frames: Signals, clock: NDArray[np.float64], step: float) -> None:
        """Fit the cycle, and the share that is left at each lead, on training frames (time, channel, row, column)."""
        self._cycle.fit(frames, clock, step)
        self.step = step
        first, every = looked_at(len(clock), frames.shape)
        parts = []
        for at, values in blocks_of(frames):
            kept = slice(max(first - at.start, 0), None)
            usual = self._cycle.at(clock[at][kept], frames.shape[1:])
            parts.append((values[kept] - usual)[:, :, ::every, ::every].reshape(len(usual), frames.shape[1], -1))
        self.shares = left_shares(np.concatenate(parts), clock[first:], step)

    def forecast(self, past: Floats, clock: NDArray[np.float64], corners: Corners | None = None) -> Floats:
        """The usual later frames and what is left of the anomaly, (n, channel, ahead, row, column)."""
        shape = (past.shape[1], *past.shape[3:])
        ahead = clock.shape[1]
        usual = self._cycle.at(clock, shape, corners)  # (n, ahead, channel, row, column)
        before = self._cycle.at(clock[:, 0] - self.step, shape, corners)
        anomaly = np.nan_to_num(past[:, :, -1] - before)
        lead = np.minimum(np.arange(ahead), len(self.shares) - 1)
        left = self.shares[lead, : shape[0]][:, :, None, None]
        return np.ascontiguousarray((usual + left * anomaly[:, None]).swapaxes(1, 2), np.float32)

    def module(self) -> BaselineModule:
        """The same in torch."""
        return _Damped(UsualFrames(self._cycle.means, self._cycle.origin, self._period), self.shares, self.step)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The cycle's state, shares (lead, channel), and the step in seconds."""
        return {**self._cycle.state(), "shares": self.shares, "step": np.array(self.step)}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore what `state` returned."""
        self._cycle.load(state)
        self.shares, self.step = state["shares"].astype(np.float32), float(state["step"].item())


class _Damped(BaselineModule):
    needs_clock = True
    shares: Tensor  # (lead, channel)

    def __init__(self, usual: UsualFrames, shares: Floats, step: float) -> None:
        super().__init__()
        self.usual, self.step = usual, step
        self.register_buffer("shares", torch.from_numpy(shares.copy()))

    def forward(self, past: Tensor, clock: Tensor) -> Tensor:
        channels, ahead = past.shape[1], clock.shape[1]
        anomaly = torch.nan_to_num(past[:, :, -1:] - self.usual(clock[:, :1] - self.step, channels))
        lead = torch.arange(ahead).clamp(max=len(self.shares) - 1)
        made: Tensor = self.usual(clock, channels) + self.shares[lead, :channels].T[:, :, None, None] * anomaly
        return made


def looked_at(count: int, shape: tuple[int, ...]) -> tuple[int, int]:
    """Which of `count` training frames (time, channel, row, column) shares are fitted on: from which one, and each nth cell."""
    return max(0, count - _FRAMES), max(1, round((shape[2] * shape[3] / _CELLS) ** 0.5))


def spaced(clock: NDArray[np.float64], steps: int, step: float) -> tuple[Ints, Ints]:
    """Places of all pairs of frames that are `steps` apart in time, the earlier and the later ones."""
    step, near = mean_step(step)
    place = np.minimum(np.searchsorted(clock, clock + (steps - near) * step), len(clock) - 1)
    early = np.flatnonzero(np.abs(clock[place] - clock - steps * step) < near * step)
    return early, place[early]


def left_shares(anomalies: Floats, clock: NDArray[np.float64], step: float) -> Floats:
    """Shares (lead, channel), 0 to 1, of anomalies (time, channel, cell) that are left after 1, 2, ... steps."""
    there = np.isfinite(anomalies)
    known = np.where(there, anomalies, 0).astype(np.float64)
    found = []
    for lead in range(1, min(_LEADS, max(2, len(clock))) + 1):
        early, late = spaced(clock, lead, step)
        both = np.einsum("tck,tck->c", known[early], known[late])
        own = np.einsum("tck,tck->c", known[early], known[early] * there[late])
        found.append(np.clip(np.where(own > 0, both / np.where(own > 0, own, 1), 0), 0, 1))
    return np.array(found, np.float32)
