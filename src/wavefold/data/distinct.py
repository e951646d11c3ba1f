"""Finds an id that occurs twice among millions, by a 64-bit hash of each: 24 bytes a row while it looks, and no text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wavefold.data.dataset import Ints, Strings

Hashes = NDArray[np.uint64]

_ODD = np.uint64(0x9E3779B97F4A7C15)  # spreads neighbouring characters over all 64 bits


def id_hashes(ids: Strings) -> Hashes:
    """A hash of each id, (sample,); it does not depend on how wide the array's text is."""
    letters = np.ascontiguousarray(ids).view(np.uint32).reshape(len(ids), ids.dtype.itemsize // 4)
    total = np.zeros(len(ids), np.uint64)
    for at in range(letters.shape[1]):
        mixed = (total ^ letters[:, at]) * _ODD
        total = np.where(letters[:, at] == 0, total, mixed ^ (mixed >> np.uint64(29)))
    return total


def first_repeat(hashes: Hashes, ids_at: Callable[[Ints], Strings]) -> tuple[int, int] | None:
    """The first row whose id occurred before, and where it did; None if all ids are distinct.

    ids_at: the ids of some rows; it is asked only for rows of equal hashes.
    """
    order = np.argsort(hashes, kind="stable")
    again = np.flatnonzero(np.diff(hashes[order]) == 0)
    if not len(again):
        return None
    rows = np.unique(order[np.concatenate([again, again + 1])]).astype(np.int64)
    seen: dict[str, int] = {}
    for row, word in zip(rows.tolist(), ids_at(rows).tolist(), strict=True):
        if word in seen:
            return row, seen[word]
        seen[word] = row
    return None  # two ids of one hash
