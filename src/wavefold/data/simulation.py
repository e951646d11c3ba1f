"""Helpers shared by simulators of one-dimensional signals: the requested length, and integer counts in given shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wavefold.core.errors import UserError
from wavefold.data.dataset import Ints


def length_of(shape: Sequence[int], simulator: str) -> int:
    """Return the length from a shape [1, length]; UserError for more channels or other axes. simulator: its name."""
    if len(shape) != 2:
        raise UserError(f"data.shape: simulator '{simulator}' needs [1, length], got {list(shape)}")
    if shape[0] != 1:
        raise UserError(f"data.shape: simulator '{simulator}' needs 1 channel, got {shape[0]}")
    return shape[1]


def whole_parts(count: int, shares: tuple[float, ...]) -> Ints:
    """Split `count` into integers in the given shares, by largest remainder."""
    exact = count * np.array(shares) / sum(shares)
    parts = np.floor(exact).astype(np.int64)
    parts[np.argsort(parts - exact, kind="stable")[: count - parts.sum()]] += 1
    return parts
