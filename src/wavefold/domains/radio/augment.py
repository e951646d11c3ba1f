"""Random augmentations of cadences per batch: mirror images and rolls along the frequency axis.

Each is a pure function of (key, sample). cadences: (N, P, T, F) = sample, panel, time, frequency; samples: (N,) int64 numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from wavefold.core import random
from wavefold.domains.radio.cadence import MIRRORS
from wavefold.transforms.augment import need_axes, not_negative, whole_steps


class Flip:
    """Mirrors each of the given axes of a cadence in half of the samples; ON panels stay first, third and fifth."""

    def __init__(self, axes: Sequence[Literal["time", "frequency"]] = ("time", "frequency")) -> None:
        self.axes = tuple(dict.fromkeys(axes))

    def __call__(self, signals: Tensor, samples: Tensor, key: int) -> Tensor:
        """signals: (N, P, T, F)."""
        need_axes(signals, 4, "flip")
        drawn = random.uniform(key, samples, len(MIRRORS)) < 0.5
        for number, (axis, mirror) in enumerate(MIRRORS.items()):
            if axis in self.axes:
                signals = torch.where(drawn[:, number, None, None, None], mirror(signals), signals)
        return signals


class Roll:
    """Rolls a cadence by a random integer of up to `most` frequency bins in either direction, wrapping around."""

    def __init__(self, most: int = 128) -> None:
        self.most = int(not_negative(most, "roll.most"))

    def __call__(self, signals: Tensor, samples: Tensor, key: int) -> Tensor:
        """signals: (N, P, T, F), all panels of a sample shift together."""
        need_axes(signals, 4, "roll")
        steps = whole_steps(key, samples, self.most)[:, 0].tolist()
        moved = torch.empty_like(signals)
        for number, step in enumerate(steps):
            moved[number] = signals[number].roll(step, -1)
        return moved
