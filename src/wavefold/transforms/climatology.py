"""Mean frames by phase of a cycle: the usual value of a cell at an hour of the day or a day of the year.

Shared by the climatology baseline and the anomaly transform.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wavefold.core.errors import UserError
from wavefold.data.lazy import Floats, Ints, Signals, blocks_of

Corners = tuple[Ints, Ints]  # (n,) first row and (n,) first column of each crop
_Number = TypeVar("_Number", np.float64, np.int32)
_MOST = 400  # phases per cycle; a longer cycle has phases of several steps
_UNEVEN = 0.025  # relative tolerance when rounding a period to whole steps: a year has 11.8 months of 31 days


class Cycle:
    """Mean frame of each phase of a period, by cell and channel; NaN is ignored.

    period: seconds. smooth: neighbouring phases on either side to average over. place: name used in errors, such as
    "climatology". A phase without data at a cell gets the cell's mean, and a cell without data its channel's mean.
    """

    def __init__(self, *, period: float, smooth: int, place: str) -> None:
        if not period > 0:
            raise UserError(f"{place}.period: {period:g} is not a cycle length; expected seconds above 0, such as 86400")
        if smooth < 0:
            raise UserError(f"{place}.smooth: {smooth} is negative; expected a number of phases, 0 or more")
        self._period, self._smooth, self._place = period, smooth, place
        self.origin = 0.0  # seconds, in the middle of phase 0
        self.means: Floats = np.zeros((1, 1, 1, 1), np.float32)  # (phase, channel, row, column)

    def fit(self, frames: Signals, clock: NDArray[np.float64], step: float) -> None:
        """Fit the means. frames: (time, channel, row, column); clock: (time,) seconds; step: seconds between frames."""
        count = self.phases(step)
        self.origin = float(clock[0]) if len(clock) else 0.0
        phase = self._phase(clock, count)
        sums, counts = np.zeros((count, *frames.shape[1:])), np.zeros((count, *frames.shape[1:]), np.int32)
        for rows, values in blocks_of(frames):
            for one in np.unique(phase[rows]):
                chosen = values[phase[rows] == one]
                there = np.isfinite(chosen)
                sums[one] += np.where(there, chosen, 0).sum(axis=0, dtype=np.float64)
                counts[one] += there.sum(axis=0)
        usual = _usual(sums, counts)
        sums, counts = _neighbours(sums, self._smooth), _neighbours(counts, self._smooth)
        self.means = np.where(counts > 0, sums / np.maximum(counts, 1), usual).astype(np.float32)

    def at(self, clock: NDArray[np.float64], shape: tuple[int, ...], corners: Corners | None = None) -> Floats:
        """The means at given times. clock: (n, ...) seconds; shape: (channel, row, column); result: (n, ..., *shape)."""
        return at_cells(self.means, self._phase(clock, len(self.means)), shape, corners, self._place)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """means: (phase, channel, row, column); origin: seconds of phase 0."""
        return {"means": self.means, "origin": np.array(self.origin)}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore what `state` returned."""
        self.means, self.origin = state["means"].astype(np.float32, copy=False), float(state["origin"].item())

    def phases(self, step: float) -> int:
        """Number of phases for frames `step` seconds apart; UserError if the period is not a whole number of steps."""
        steps = self.steps(step)
        return round(steps / -(-steps // _MOST))

    def steps(self, step: float) -> int:
        """Steps of the cycle for frames `step` seconds apart; UserError if the period is not a whole number of them."""
        key = f"{self._place}.period"
        if not step > 0:
            raise UserError(f"{key}: a period of {self._period:g} seconds needs frames with a known time step; these have none")
        steps = self._period / step
        if steps < 1.5 or abs(steps - round(steps)) > _UNEVEN * steps:
            raise UserError(
                f"{key}: {self._period:g} seconds is not a whole number, 2 or more, of the frames' {step:g}-second time steps"
            )
        return round(steps)

    def _phase(self, clock: NDArray[np.float64], count: int) -> Ints:
        return np.round((clock - self.origin) * (count / self._period)).astype(np.int64) % count


class UsualFrames(nn.Module):
    """The means of a cycle in torch, for whole frames. means: (phase, channel, row, column)."""

    means: Tensor

    def __init__(self, means: Floats, origin: float, period: float) -> None:
        super().__init__()
        self.register_buffer("means", torch.from_numpy(means.copy()))
        self._origin, self._period = origin, period

    def forward(self, clock: Tensor, channels: int) -> Tensor:
        """The means of the first channels at times (sample, frame) in seconds, (sample, channel, frame, row, column)."""
        count = self.means.shape[0]
        phase = torch.round((clock - self._origin) * (count / self._period)).long() % count
        return self.means[:, :channels][phase].transpose(1, 2)


def at_cells(values: Floats, index: Ints, shape: tuple[int, ...], corners: Corners | None, place: str) -> Floats:
    """Select per-cell arrays for frames that may be crops of the frames used for fitting.

    values: (m, channel, row, column); index: (n, ...) into m; shape: (channel, row, column) of the frames, possibly only the
    first channels; corners: position of each of the n crops, None for whole frames. Result: (n, ..., *shape). UserError,
    naming `place`, if the frames have another size.
    """
    channels, rows, columns = shape
    if corners is not None:
        cut = [values[i, :channels, r : r + rows, c : c + columns] for i, r, c in zip(index, *corners, strict=True)]
        return np.stack(cut) if cut else np.empty((*index.shape, *shape), np.float32)
    if values.shape[2:] != (rows, columns):
        learned = " x ".join(map(str, values.shape[2:]))
        raise UserError(f"{place}: a frame has {rows} x {columns} cells; it was fitted cell by cell on frames of {learned}")
    found: Floats = values[index, :channels]
    return found


def _usual(sums: NDArray[np.float64], counts: NDArray[np.int32]) -> NDArray[np.float64]:
    """Mean of each cell over all phases, or of its channel, or 0, (channel, row, column)."""
    total, number = sums.sum(axis=0), counts.sum(axis=0)
    channel = total.sum(axis=(1, 2), keepdims=True) / np.maximum(number.sum(axis=(1, 2), keepdims=True), 1)
    usual: NDArray[np.float64] = np.where(number > 0, total / np.maximum(number, 1), channel)
    return usual


def _neighbours(values: NDArray[_Number], reach: int) -> NDArray[_Number]:
    """Sums over each phase and `reach` phases on either side, wrapping around the cycle."""
    reach = min(reach, (len(values) - 1) // 2)
    return sum((np.roll(values, k, axis=0) for k in range(-reach, reach + 1)), np.zeros_like(values))
