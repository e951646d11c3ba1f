"""A small net that corrects a first forecast with the same weights at every lead, for series too short to train a large net.

It learns the systematic errors of a simple forecast: rain that grows or decays, edges without information from outside, detail
that does not persist. This is statistical post-processing of forecasts (model output statistics, Glahn and Lowry 1972).

Legend: N samples, C channels, P past frames, K targets, A ahead frames, E features, R rows, W columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.core.errors import UserError
from wavefold.models.first_forecast import (
    Activation,
    FirstForecast,
    Start,
    answer,
    need_known,
    need_targets,
    quiet,
    time_first,
    time_inside,
)
from wavefold.models.layers import need_least


class Refine(nn.Module):
    """Applies dilated convolutions to a frame of the first forecast, the last past frames and their mean; embeds the lead.

    width: features; depth: convolutions, each with twice the dilation of the one before; recent: past frames used besides
    their mean; start: the first forecast, not "none"; with a linear output, a learned factor scales it at each lead.
    """

    def __init__(
        self,
        channels: int,
        targets: int,
        past: int,
        ahead: int,
        *,
        width: int = 16,
        depth: int = 4,
        recent: int = 3,
        activation: Activation = "linear",
        start: Start = "last",
    ) -> None:
        super().__init__()
        need_least("refine", 1, past=past, ahead=ahead, width=width, depth=depth, recent=recent)
        need_targets("refine", channels, targets)
        need_known("refine", start, activation)
        if start == "none":
            raise UserError("refine: start 'none' gives no forecast to refine; choose another start, such as 'last'")
        self.ahead, self.activation, self.recent = ahead, activation, min(recent, past)
        self.first = FirstForecast(start, targets, ahead)
        self.weights = nn.Parameter(torch.ones(targets, ahead)) if activation == "linear" else None
        self.see = nn.Conv2d(channels * (self.recent + 1), width, 3, padding=1)
        self.enter = nn.Conv2d(targets, width, 3, padding=1)
        self.lead = nn.Parameter(0.1 * torch.randn(ahead, width))
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=2**place, dilation=2**place) for place in range(depth))
        self.head = nn.Conv2d(width, targets, 3, padding=1)
        quiet(self.head, start)

    def forward(self, past: Tensor) -> Tensor:
        first = self.first(past)  # (N, K, A, R, W)
        seen = torch.cat([past[:, :, -self.recent :].flatten(1, 2), past.mean(2)], dim=1)
        context = self.see(seen)  # (N, E, R, W)
        features = time_inside(self.enter(time_first(first)), self.ahead)  # (N, E, A, R, W)
        lead = self.lead.T[:, :, None, None]  # (E, A, 1, 1)
        x = time_first(F.silu(features + context[:, :, None] + lead))
        for convolution in self.blocks:
            x = x + F.silu(convolution(x))
        change = time_inside(self.head(x), self.ahead)
        weighed = first if self.weights is None else first * self.weights[..., None, None]
        return answer(change, weighed, self.activation)
