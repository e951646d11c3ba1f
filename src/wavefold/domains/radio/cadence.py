"""The cadence: six time-frequency panels, alternately ON and OFF the target star; and its two mirror images.

cadences: (N, 6, T, F) = sample, panel, time, frequency; torch tensors. The panels are in time order, ON and OFF alternating:
A B A C A D, where A is the target star.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PANELS = 6
ON = (0, 2, 4)
OFF = (1, 3, 5)
NAMES = ("ON A", "OFF B", "ON A", "OFF C", "ON A", "OFF D")
STEEPEST = 0.5  # columns per row, in either direction: the steepest needles of samples
_REVERSED = (4, 3, 2, 1, 0, 5)  # time-reversed, except that the last OFF panel stays last


def play_backwards(cadences: Tensor) -> Tensor:
    """Reverse a cadence in time, keeping the ON panels first, third and fifth.

    The panels and their rows are both reversed, so that a drifting line remains one line through the first five panels.
    """
    order = _REVERSED if cadences.shape[1] == PANELS else range(cadences.shape[1])[::-1]
    return cadences[:, list(order)].flip(2)


def mirror_frequency(cadences: Tensor) -> Tensor:
    """Flip the frequency axis of a cadence: drifts change sign."""
    return cadences.flip(3)


MIRRORS = {"time": play_backwards, "frequency": mirror_frequency}
