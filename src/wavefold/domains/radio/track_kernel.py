"""The sums of `track_sums` compiled by Numba. Import this only where Numba is installed (the extra `fast`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wavefold.core.compiled import numba
from wavefold.data.dataset import Floats, Ints

_BLOCK = 1024  # start channels at a time, so that all sums of a group stay in the processor's cache


@numba.njit(nogil=True, cache=True, parallel=True)  # type: ignore[untyped-decorator]  # Numba's
def raise_best(
    rows: Floats,
    pad: int,
    counts: Ints,
    first: Ints,
    second: Ints,
    offset: Ints,
    begin: Ints,
    length: Ints,
    of_drift: Ints,
    start: Ints,
    numbers: NDArray[np.int32],
    best: Floats,
    which: NDArray[np.int32],
) -> None:
    """The legend is that of `track_sums.best_drifts` and `ScanPlan`, whose arrays have a row for each scan here."""
    scans, each, channels = rows.shape[0], rows.shape[1], len(best)
    blocks = (channels + _BLOCK - 1) // _BLOCK
    for block in numba.prange(blocks):
        low = block * _BLOCK
        size = min(_BLOCK, channels - low)
        places = np.empty((scans, begin.shape[1]), np.int64)  # of each entry's first column in `sums`
        total = 0
        for scan in range(scans):
            for entry in range(each, each + counts[scan]):
                places[scan, entry] = total
                total += length[scan, entry] + size
        sums = np.empty(total, np.float32)
        for scan in range(scans):
            origin = low + pad
            for number in range(counts[scan]):
                entry = each + number
                one, two = first[scan, number], second[scan, number]
                width = length[scan, entry] + size
                place = places[scan, entry]
                out = sums[place : place + width]
                here = begin[scan, entry]
                there = here + offset[scan, number]
                if one < each:
                    left = rows[scan, one, origin + here : origin + here + width]
                else:
                    at = places[scan, one] + here - begin[scan, one]
                    left = sums[at : at + width]
                if two < each:
                    right = rows[scan, two, origin + there : origin + there + width]
                else:
                    at = places[scan, two] + there - begin[scan, two]
                    right = sums[at : at + width]
                for i in range(width):
                    out[i] = left[i] + right[i]
        whole = np.empty(size, np.float32)
        high, number_of = best[low : low + size], which[low : low + size]
        for drift in range(of_drift.shape[1]):
            for scan in range(scans):
                entry = of_drift[scan, drift]
                if entry < each:
                    at = low + pad + start[scan, drift]
                    part = rows[scan, entry, at : at + size]
                else:
                    at = places[scan, entry] + start[scan, drift] - begin[scan, entry]
                    part = sums[at : at + size]
                if scan == 0:
                    for i in range(size):
                        whole[i] = part[i]
                else:
                    for i in range(size):
                        whole[i] += part[i]
            number_here = numbers[drift]
            for i in range(size):
                better = whole[i] > high[i]
                high[i] = whole[i] if better else high[i]
                number_of[i] = number_here if better else number_of[i]
