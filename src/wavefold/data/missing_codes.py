"""Codes for missing values among numbers: extreme values that are repeated and far from all others, such as -9999."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_OFTEN, _APART, _MANY = 0.001, 0.5, 9  # share of the values; distance in ranges of the others; distinct others
_FAR = 1e6  # spreads of the others beyond which even a single value is doubted
_CODES = 3  # codes searched for at each end


def codes_in(held: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Extreme values far from all others, with their share of all values: (value,) finite."""
    found: list[tuple[float, float]] = []
    left, count = held, len(held)
    for _ in range(2 * _CODES):
        ends = sorted({float(left.min()), float(left.max())}, key=lambda end: -abs(end)) if left.size else []
        odd = next((end for end in ends if _is_code(end, left, count)), None)
        if odd is None:
            break
        found.append((odd, float((left == odd).sum() / count)))
        left = left[left != odd]
    return found


def _is_code(end: float, held: NDArray[np.float64], count: int) -> bool:
    """Whether an extreme value is repeated and far from the others, or absurdly far from them."""
    others = held[held != end]
    if not others.size:
        return False
    apart, width = float(np.abs(others - end).min()), float(np.ptp(others))
    low, high = np.quantile(others, [0.05, 0.95])
    spread = float(high - low)
    if spread > 0 and apart > _FAR * spread:
        return True
    often = (len(held) - len(others)) / count > _OFTEN
    several = len(np.unique(others[:: max(1, len(others) // 4096)])) > _MANY
    code = end == round(end) and abs(end) >= 99 and abs(end) > 2 * float(np.abs(others).max())  # -999, -9999, 32767, 1e20
    return often and several and (apart > _APART * width or (code and apart > _APART * spread))
