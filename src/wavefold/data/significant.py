"""Formats numbers as text with five significant digits, a whole array at once: about three times as fast as one by one.

The text equals "%.5g": 43.216, 38.48, 0.00012, -7, 0. A table holds every mantissa from 10000 to 99999 for each position of
the decimal point; numbers that need an exponent (below 0.0001, or 99999.5 and above) or are not finite are formatted singly.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from wavefold.data.dataset import Floats

_LOWEST, _HIGHEST = -4, 4  # powers of ten that are written without an exponent
_POWERS = 10.0 ** np.arange(8, -1, -1)  # factors that scale 10^-4 ... 10^4 to five digits before the point
_WIDTH = 13  # sign, eleven characters at most, comma


def five_digits(row: Floats) -> bytes:
    """Format one row (position,) as comma-separated text; minus zero becomes 0."""
    values = row.astype(np.float64)
    size = np.abs(values)
    plain = (size >= 1e-4) & (size < 99_999.4)
    power = np.floor(np.log10(np.where(plain, size, 1.0))).astype(np.int64)
    mantissa = np.rint(np.where(plain, size, 1.0) * _POWERS[power - _LOWEST]).astype(np.int64)
    over = mantissa > 99_999  # 9.99996 is 10
    mantissa[over], power[over] = 10_000, power[over] + 1
    cells = np.empty((len(values), _WIDTH), np.uint8)
    cells[:, 0] = np.where(values < 0, ord("-"), 0)
    # If the logarithm rounds up to the next power of ten, the mantissa may be 9999.99: use 10000.
    cells[:, 1:-1] = _table()[(power - _LOWEST) * 90_000 + np.maximum(mantissa - 10_000, 0)]
    for at in np.flatnonzero(~plain).tolist():
        cells[at, :-1] = np.frombuffer(f"{values[at] + 0.0:.5g}".encode().ljust(_WIDTH - 1, b"\0"), np.uint8)
    cells[:, -1] = ord(",")
    return cells.tobytes().translate(None, b"\0")[:-1]


@cache
def _table() -> NDArray[np.uint8]:
    """Text (power of ten and mantissa, character) of 1.0000e-4 to 9.9999e4, padded with zero bytes."""
    mantissa = np.arange(10_000, 100_000)
    digits = (mantissa[:, None] // 10 ** np.arange(4, -1, -1) % 10 + ord("0")).astype(np.uint8)
    used = 5 - (mantissa[:, None] % 10 ** np.arange(1, 5) == 0).sum(axis=1)  # digits before the zeros at the end
    tables = []
    for power in range(_LOWEST, _HIGHEST + 1):
        lead = b"0." + b"0" * (-power - 1) if power < 0 else b""
        kept = np.arange(5) < np.maximum(used, power + 1)[:, None]
        text = np.zeros((len(mantissa), _WIDTH - 2), np.uint8)
        text[:, : len(lead)] = np.frombuffer(lead, np.uint8)
        place = len(lead) + np.arange(5) + ((np.arange(5) > power) if power >= 0 else 0)  # leaves a place for the point
        text[:, place] = np.where(kept, digits, 0)
        if 0 <= power < _HIGHEST:
            text[:, power + 1] = np.where(used > power + 1, ord("."), 0)
        tables.append(text)
    return np.concatenate(tables)
