"""A learned mixture of simple forecasts by lead: a first forecast, the last frame, the mean of the past, plain and blurred.

The least that can be learned, and the last to fail on an event unlike the one it was learned from: how far each simple
forecast is to be trusted after so many steps, and how coarse what is still known has become. Weights of a linear mixture
(Granger and Ramanathan 1984); that small structures are lost first, Germann and Zawadzki 2002.

Legend: N samples, C channels, P past frames, K targets, A ahead frames, B ingredients, R rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wavefold.base.errors import UserError
from wavefold.models.blur import blurred
from wavefold.models.layers import need_least
from wavefold.models.start import Activation, FirstForecast, Start, answer, need_known, need_targets


class Blend(nn.Module):
    """Each lead a weighted sum of ingredients and a constant, the same in every cell; at first the first forecast alone.

    blurs: standard deviations in cells of the Gaussians that blur each ingredient besides leaving it plain. start: the first
    forecast; "none" begins at nothing, and mixes the last frame and the mean.
    """

    def __init__(
        self,
        channels: int,
        targets: int,
        past: int,
        ahead: int,
        *,
        blurs: Sequence[float] = (1.0, 2.0, 4.0, 8.0),
        activation: Activation = "linear",
        start: Start = "last",
    ) -> None:
        super().__init__()
        need_least("blend", 1, past=past, ahead=ahead)
        need_targets("blend", channels, targets)
        need_known("blend", start, activation)
        for blur in blurs:
            if not blur > 0:
                raise UserError(f"blend: a blur of {blur} cells; blurs are above 0")
        self.targets, self.blurs, self.activation = targets, tuple(blurs), activation
        self.first = FirstForecast(start, targets, ahead)
        moving, still = (start != "none") * (1 + len(blurs)), 2 * (1 + len(blurs))
        self.moving = nn.Parameter(torch.zeros(targets, ahead, moving)) if moving else None
        self.still = nn.Parameter(torch.zeros(targets, ahead, still))
        self.constant = nn.Parameter(torch.zeros(targets, ahead))

    def forward(self, past: Tensor) -> Tensor:
        seen = past[:, : self.targets]
        still = torch.cat([seen[:, :, -1:], seen.mean(2, keepdim=True)], dim=2)  # (N, K, 2, R, W)
        ingredients = torch.cat([still, *(blurred(still, blur, edges=True) for blur in self.blurs)], dim=2)
        change = torch.einsum("nkbrw,kab->nkarw", ingredients, self.still) + self.constant[..., None, None]
        first = self.first(past)
        if first is not None and self.moving is not None:
            every = torch.stack(
                [first, *(blurred(first, blur, edges=True) for blur in self.blurs)], dim=3
            )  # (N, K, A, B, R, W)
            change = change + torch.einsum("nkabrw,kab->nkarw", every, self.moving)
        return answer(change, first, self.activation)
