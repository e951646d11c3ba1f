"""Injects needles into training cadences, drawn anew for each batch: unlimited positives from the available backgrounds.

This uses the injection that simulates whole cadences (base.needles), on real or simulated panels. Heights are in residual
standard deviations of each unmodified panel. Afterwards each panel is rescaled to its original mean and standard deviation
(the contest standardises after injection), so that it stays on the scale of the unmodified validation and test parts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wavefold.core import random
from wavefold.core.errors import UserError
from wavefold.domains.radio.cadence import OFF, ON, PANELS
from wavefold.domains.radio.needles import add_needles, draw_needles, levelled_as, residual

_OFF_ONLY = 0.2  # fraction of decoys in cadences without a needle that are in the OFF panels only


class Inject:
    """Randomly adds to each cadence a needle in its ON panels, which makes it positive, and a decoy in all six panels.

    needles: fraction of cadences that get a needle, whatever they contain; decoys: fraction that get a similar line that is
    also in OFF panels, a hard negative if there is no needle. A pure function of (key, sample). The second of the two classes
    is the one with a needle.
    """

    def __init__(self, needles: float = 0.45, decoys: float = 0.3) -> None:
        for name, share in (("needles", needles), ("decoys", decoys)):
            if not 0 <= share <= 1:
                raise UserError(f"inject.{name}: {share} is not a valid fraction; it must be from 0 to 1")
        self.needles, self.decoys = needles, decoys

    def __call__(self, signals: Tensor, targets: Tensor, samples: Tensor, key: int) -> tuple[Tensor, Tensor]:
        """signals: (N, 6, T, F); targets: (N, 2) float; samples: (N,) int64."""
        if signals.ndim != 4 or signals.shape[1] != PANELS or targets.shape[1] != 2:
            shape = " x ".join(map(str, signals.shape[1:]))
            raise UserError(f"inject: expected cadences of {PANELS} panels and 2 classes; got {shape} and {targets.shape[1]}")
        chance = random.uniform(random.key(key, 0), samples, 3)
        needled, decoyed = chance[:, 0] < self.needles, chance[:, 1] < self.decoys
        off_only = (chance[:, 2] < _OFF_ONLY) & ~needled & (targets[:, 1] == 0)
        sigma, rows, columns = residual(signals), *signals.shape[2:]
        decoys = draw_needles(random.key(key, 2), samples, rows, columns)
        made = add_needles(signals, decoys, decoyed[:, None] & ~(off_only[:, None] & _panels(ON, signals)), sigma)
        needles = draw_needles(random.key(key, 1), samples, rows, columns)
        made = add_needles(made, needles, needled[:, None] & ~_panels(OFF, signals), sigma)
        positive = torch.maximum(targets[:, 1], needled.to(targets.dtype))
        return levelled_as(made, signals), torch.stack([1 - positive, positive], 1)


def _panels(which: tuple[int, ...], signals: Tensor) -> Tensor:
    """A mask, (6,), that is true for the given panels."""
    return torch.tensor([p in which for p in range(PANELS)], device=signals.device)
