"""What a cadence is: six panels of time and frequency, ON and OFF the star in turn; and its two mirror images.

cadences: (N, 6, T, F) = sample, panel, time, frequency; torch tensors. The panels follow each other in time: ON, OFF, ON, OFF,
ON, OFF, the star being A in A B A C A D.
"""

from __future__ import annotations

from torch import Tensor

PANELS = 6
ON = (0, 2, 4)
OFF = (1, 3, 5)
NAMES = ("ON A", "OFF B", "ON A", "OFF C", "ON A", "OFF D")
_REVERSED = (4, 3, 2, 1, 0, 5)  # played backwards, less the last OFF panel, which then comes first and is put last


def play_backwards(cadences: Tensor) -> Tensor:
    """The cadence in reversed time, with the ON panels still first, third and fifth.

    Panels change their order as well as their rows, so that a drifting line stays one line through the first five.
    """
    order = _REVERSED if cadences.shape[1] == PANELS else range(cadences.shape[1])[::-1]
    return cadences[:, list(order)].flip(2)


def mirror_frequency(cadences: Tensor) -> Tensor:
    """The cadence with its frequency axis the other way round: drifts change their sign."""
    return cadences.flip(3)


MIRRORS = {"time": play_backwards, "frequency": mirror_frequency}
