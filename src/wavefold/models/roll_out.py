"""An autoregressive ConvLSTM: it reads the past frames, then predicts one later frame at a time from its own predictions.

Source: the encoder-forecaster of Shi et al. 2015 and the scheduled sampling of Bengio et al. 2015.
Differences: the same layers read and forecast; each later frame is a change to the one before, so that training starts
at persistence; frames are folded (downsample x downsample cells into channels) before the layers and unfolded after.

Legend: N samples, C channels, P past frames, A ahead frames, K targets, H hidden channels, r x c the folded rows x columns.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.core.distributed import drawn_for_rows
from wavefold.models.conv_lstm import CellState, ConvLSTMLayer
from wavefold.models.first_forecast import (
    Activation,
    FirstForecast,
    Start,
    answer,
    need_known,
    need_odd,
    need_one_of,
    need_share,
    need_targets,
    quiet,
    time_first,
    time_inside,
    to_multiple,
)
from wavefold.models.layers import need_least


class RollOut(nn.Module):
    """ConvLSTM layers that read the past frames and roll out frame by frame, feeding back their own forecast.

    Scheduled sampling: in training, each frame fed back is the true one with a probability of `teacher` at first, decreasing
    linearly to 0 at half of the stage (`set_done`), drawn per sample and frame. In eval mode none are. Where a true cell is
    NaN, the prediction is fed. Channels beyond the targets are held at their last past value.
    start "last" adds each frame's change to the frame before (the true one if that was fed), other starts to that first
    forecast's frame, "none" to nothing.
    """

    takes_truth: ClassVar[bool] = True

    def __init__(
        self,
        channels: int,
        targets: int,
        past: int,
        ahead: int,
        *,
        hidden: int = 32,
        depth: int = 2,
        kernel: int = 3,
        peephole: bool = False,
        downsample: int = 2,
        teacher: float = 0.5,
        activation: Activation = "linear",
        start: Start = "last",
    ) -> None:
        super().__init__()
        need_least("roll_out", 1, past=past, ahead=ahead, depth=depth, hidden=hidden)
        need_targets("roll_out", channels, targets)
        need_odd("roll_out", kernel)
        need_one_of("roll_out", "downsample", downsample, (1, 2, 4))
        need_known("roll_out", start, activation)
        need_share("roll_out", "teacher", teacher)
        self.targets, self.ahead, self.downsample, self.start = targets, ahead, downsample, start
        self.activation, self.teacher, self.share = activation, teacher, teacher
        cells = downsample**2
        self.read = nn.Conv2d(channels * cells, hidden, 3, padding=1)
        self.layers = nn.ModuleList(ConvLSTMLayer(hidden, hidden, kernel, peephole) for _ in range(depth))
        self.head = nn.Conv2d(2 * hidden, targets * cells, 3, padding=1)
        quiet(self.head, start)
        self.first = FirstForecast(start, targets, ahead)

    def set_done(self, done: float) -> None:
        """Set the completed fraction of the training stage, 0 to 1, which determines the share of true frames fed."""
        self.share = self.teacher * max(0.0, 1 - 2 * done)

    def forward(self, past: Tensor, truth: Tensor | None = None) -> Tensor:
        rows, columns = past.shape[3:]
        past = to_multiple(past, self.downsample)
        truth = to_multiple(truth, self.downsample) if truth is not None and self.training else None
        first = None if self.start == "last" else self.first(past)
        held, fed = past[:, self.targets :, -1], past[:, : self.targets, -1]
        change, states = self._read(past, [None] * len(self.layers))
        forecast = []
        for lead in range(self.ahead):
            base = fed if self.start == "last" else None if first is None else first[:, :, lead]
            forecast.append(answer(change, base, self.activation))
            if lead + 1 < self.ahead:
                fed = forecast[-1] if truth is None else self._mixed(forecast[-1], truth[:, :, lead])
                change, states = self._read(torch.cat([fed, held], 1).unsqueeze(2), states)
        return torch.stack(forecast, 2)[..., :rows, :columns]

    def _read(self, frames: Tensor, states: list[CellState | None]) -> tuple[Tensor, list[CellState | None]]:
        """Read frames (N, C, T, R, W); returns the predicted change (N, K, R, W) after the last one, and the layers' states."""
        count, after = frames.shape[2], list[CellState | None]()
        folded = F.silu(self.read(F.pixel_unshuffle(time_first(frames), self.downsample)))  # (T N, H, r, c)
        x = time_inside(folded, count)
        for layer, state in zip(self.layers, states, strict=True):
            x, state = layer(x, state)  # (N, H, T, r, c)
            after.append(state)
        seen = torch.cat([x[:, :, -1], time_inside(folded, count)[:, :, -1]], 1)  # (N, 2H, r, c)
        return F.pixel_shuffle(self.head(seen), self.downsample), after

    def _mixed(self, own: Tensor, true: Tensor) -> Tensor:
        """Frames (N, K, R, W) to feed back: the true ones for a random fraction of the samples."""
        heads = drawn_for_rows(lambda rows: torch.rand(rows, 1, 1, 1, device=own.device), len(own)) < self.share
        return torch.where(heads & ~true.isnan(), true.to(own.dtype), own)
