"""A linear blend of simple forecasts with weights learned per lead: a first forecast, the last frame and the past mean.

Each ingredient is used both unblurred and blurred. The model has very few parameters, so it generalises best to events unlike
the training data: it learns how far to trust each simple forecast at each lead, and at which scale. Sources: Granger and
Ramanathan 1984 (linear combination of forecasts); Germann and Zawadzki 2002 (small scales become unpredictable first).

Legend: N samples, C channels, P past frames, K targets, A ahead frames, B ingredients, R rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wavefold.core.errors import UserError
from wavefold.models.blur import blurred
from wavefold.models.first_forecast import Activation, FirstForecast, Start, answer, need_known, need_targets
from wavefold.models.layers import need_least


class Blend(nn.Module):
    """Forecasts each lead as a weighted sum of ingredients and a constant, the same in every cell.

    blurs: standard deviations in cells of the Gaussian blurs; each ingredient is also used unblurred. start: the first
    forecast, which is the initial output; with "none" the output starts at zero and only the last frame and mean are blended.
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
                raise UserError(f"blend: blurs contains {blur}; every blur must be above 0 cells")
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
