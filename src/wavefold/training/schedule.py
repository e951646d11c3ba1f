"""Learning-rate schedules as pure functions of the completed share of the stage: there is no state to save."""

from __future__ import annotations

import math
from collections.abc import Callable


def constant(done: float) -> float:
    """The full rate throughout."""
    return 1.0


def cosine(done: float) -> float:
    """From the full rate to zero along half a cosine (Loshchilov and Hutter 2017), after a warm-up of 2 %."""
    return min(1.0, done / 0.02 + 1e-3) * 0.5 * (1 + math.cos(math.pi * done))


def one_cycle(done: float) -> float:
    """Up from 1/25 over the first 30 %, then down to zero, both along cosines (Smith and Topin 2018)."""
    if done < 0.3:
        return 1 - 0.96 * 0.5 * (1 + math.cos(math.pi * done / 0.3))
    return 0.5 * (1 + math.cos(math.pi * (done - 0.3) / 0.7))


SCHEDULES: dict[str, Callable[[float], float]] = {"constant": constant, "cosine": cosine, "one_cycle": one_cycle}
