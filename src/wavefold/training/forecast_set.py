"""Training windows for a forecaster: cut from scaled frames batch by batch, augmented, and split into past and future frames.

Legend: N samples, C channels, values (N, C, frame, row, column) float32. Missing values are NaN: they are filled in past
frames and stay in later ones, where losses ignore them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from wavefold.core.random import key as make_key
from wavefold.core.random import uniform
from wavefold.data.dataset import Floats
from wavefold.data.lazy import Lazy, read_ahead
from wavefold.data.series import Windows
from wavefold.training.sampler import Batches, Draw, Pair

Change = Callable[[Tensor, Tensor, int], Tensor]  # (values, samples, key) -> values

_VALUES = 1 << 23  # number of windows predicted at a time


@dataclass(frozen=True)
class ForecastTrainingSet:
    """Windows to train on; their frames lie on the device, or are read as batches need them."""

    windows: Windows  # of scaled frames
    batches: Batches
    device: torch.device
    targets: int  # channels to forecast: the first ones
    changes: tuple[Change, ...] = ()
    anywhere: bool = False  # crops at places drawn anew each time

    @property
    def index_device(self) -> torch.device:
        """Device of the row indices: that of the frames if they are on the device."""
        return torch.device("cpu") if isinstance(self.windows.series.frames, Lazy) else self.device

    def known(self, rows: Tensor) -> Tensor | None:
        """None: each batch brings its own targets."""
        return None

    def weights_of(self, rows: Tensor) -> Tensor | None:
        """None: all windows have equal weight."""
        return None

    def drawn(self, draws: Iterable[Draw]) -> Generator[Pair]:
        """The past frames of each sample in the batch, and the frames after them."""
        if isinstance(self.windows.series.frames, Lazy):
            return self._read(draws)
        return (self._changed(draw, cut(self._there, *self._places(draw), self.windows)) for draw in draws)

    @cached_property
    def _there(self) -> Tensor:
        """The frames on the device, moved there once."""
        return torch.from_numpy(np.asarray(self.windows.series.frames)).to(self.device)

    def _read(self, draws: Iterable[Draw]) -> Generator[Pair]:
        with closing(read_ahead(self._load, draws)) as coming:
            for draw, values in coming:
                yield self._changed(draw, torch.from_numpy(values).to(self.device))

    def _load(self, draw: Draw) -> Floats:
        first, top, left = (places.numpy() for places in self._places(draw))
        windows = self.windows
        return Windows(windows.series, first, top, left, windows.past, windows.ahead, windows.size).values()

    @cached_property
    def _corners(self) -> tuple[Tensor, Tensor, Tensor]:
        """First frame, top row and left column of every window, on the row indices' device, so no step waits for a copy."""
        places = (self.windows.first, self.windows.top, self.windows.left)
        first, top, left = (torch.from_numpy(np.ascontiguousarray(place)).to(self.index_device) for place in places)
        return first, top, left

    def _places(self, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        """First frame, top row and left column of the windows of a batch, (N,) each."""
        rows = draw.index[draw.own]
        first, top, left = (places[rows] for places in self._corners)
        if not self.anywhere:
            return first, top, left
        share = uniform(make_key(draw.key, -1), rows, 2)
        free = [whole - part + 1 for whole, part in zip(self.windows.series.size, self.windows.size, strict=True)]
        return first, (share[:, 0] * free[0]).long(), (share[:, 1] * free[1]).long()

    def _changed(self, draw: Draw, values: Tensor) -> Pair:
        samples = draw.index[draw.own].to(self.device)
        for number, change in enumerate(self.changes):
            values = change(values, samples, make_key(draw.key, number))
        return past_of(values, self.windows.past), values[:, : self.targets, self.windows.past :]


def cut(frames: Tensor, first: Tensor, top: Tensor, left: Tensor, windows: Windows) -> Tensor:
    """Cut windows out of frames: (N, C, frame, row, column). frames: (time, C, row, column); first, top, left: (N,) int64."""
    (rows, columns), at = windows.size, frames.device
    numbers = (first[:, None] + torch.arange(windows.length, device=at)).view(len(first), -1, 1, 1)
    if (rows, columns) == tuple(frames.shape[2:]):
        return frames[numbers[..., 0, 0]].transpose(1, 2)
    r = (top[:, None] + torch.arange(rows, device=at)).view(len(first), 1, rows, 1)
    c = (left[:, None] + torch.arange(columns, device=at)).view(len(first), 1, 1, columns)
    return frames.permute(0, 2, 3, 1)[numbers, r, c].permute(0, 4, 1, 2, 3)


def past_of(values: Tensor, past: int) -> Tensor:
    """The past frames of windows as input of a net: a missing value is the cell's latest known one, or 0 if there is none."""
    frames = [values[:, :, 0].nan_to_num(nan=0.0)]
    for number in range(1, past):
        frame = values[:, :, number]
        frames.append(torch.where(frame.isnan(), frames[-1], frame))
    return torch.stack(frames, dim=2)


def forecast_windows(model: nn.Module, windows: Windows, size: int = 32) -> Iterator[tuple[slice, Floats]]:
    """Yield a net's forecasts for windows, block by block: row indices and (some, target, ahead, row, column).

    windows: of scaled frames; only their past frames are read. size: windows at a time, fewer if they are large.
    """
    device = next(model.parameters()).device
    seen = Windows(windows.series, windows.first, windows.top, windows.left, windows.past, 0, windows.size)
    values = windows.series.frames.shape[1] * windows.past * int(np.prod(windows.size))
    rows = min(size, max(1, _VALUES // values))
    model.eval()
    for start in range(0, len(windows), rows):
        block = slice(start, min(start + rows, len(windows)))
        with torch.inference_mode():
            past = past_of(torch.from_numpy(seen.values(block)).to(device), windows.past)
            yield block, model(past).float().cpu().numpy()
