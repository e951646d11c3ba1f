"""Formats numbers in [0, 1] as text with 16 decimals, a whole array at once: about ten times as fast as one at a time.

float32 values round-trip exactly; numbers outside [0, 1], or too small for 16 decimals, are formatted one by one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wavefold.data.dataset import Floats

_SMALLEST = np.float32(1e-7)  # below it 16 decimals give fewer than the nine digits that distinguish float32 numbers
_QUADS = np.array([list(b"%04d" % i) for i in range(10_000)], np.uint8)
_ZERO = b"0." + b"0" * 16


def joined(rows: Floats) -> list[bytes]:
    """Each row's numbers joined by commas. rows: (sample, position)."""
    if np.all((rows == 0) | ((rows >= _SMALLEST) & (rows <= 1))):
        return [line[:-1].replace(_ZERO, b"0.0") for line in map(bytes, _digits(rows))]
    return [",".join(map(repr, row)).encode() for row in rows.astype(np.float64).tolist()]


def _digits(rows: Floats) -> NDArray[np.uint8]:
    whole = np.round(rows.astype(np.float64) * 1e16).astype(np.int64)
    text = np.empty((*rows.shape, 19), np.uint8)
    text[..., 1], text[..., 18] = ord("."), ord(",")
    for end in (18, 14, 10, 6):
        rest = whole // 10_000  # three times as fast as np.divmod, which cannot use a constant divisor
        text[..., end - 4 : end] = _QUADS[whole - 10_000 * rest]
        whole = rest
    text[..., 0] = ord("0") + whole
    return text.reshape(len(rows), -1)
