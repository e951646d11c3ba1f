"""The drift search of cadences compiled by Numba: the numbers of `drift_lines` and `dedoppler`, to the bit.

Import this only where Numba is installed (the extra `fast`).
"""

from __future__ import annotations

import numpy as np

from wavefold.core.compiled import numba
from wavefold.data.dataset import Floats, Ints

_QUARTER = np.float32(2**-0.5)
_THIRD = np.float32(3**-0.5)


@numba.njit(nogil=True, cache=True, parallel=True)  # type: ignore[untyped-decorator]  # Numba's
def search_cadences(
    cadences: Floats,
    joints: Ints,
    size: int,
    of_drift: Ints,
    scales: Floats,
    places: Ints,
    beside: int,
    quiet: float,
    penalty: float,
    score: Floats,
    start: Ints,
    values: Floats,
) -> None:
    """Fill score, start (N, D, 3) and the S/N of the ON panels there, values (N, D, 3, 3), for each drift and third of a drift.

    cadences: (N, 6, T, F), clean. joints: (joint, 4) of `drift_lines.joints_of`; size: rows of sums that they need. of_drift:
    (D,) row of each drift's sum. scales: (D, F) from sums to S/N. places: (D, 3, 6) columns by which each panel is shifted.
    """
    count, _, _, columns = cadences.shape
    drifts, thirds = places.shape[0], places.shape[1]
    for n in numba.prange(count):
        sums = np.empty((size, columns), np.float32)
        snr = np.empty((drifts, 6, columns), np.float32)
        for panel in range(6):
            own = cadences[n, panel]
            for number in range(len(joints)):
                to, one, two, moved = joints[number, 0], joints[number, 1], joints[number, 2], joints[number, 3]
                first = own[-1 - one] if one < 0 else sums[one]
                second = own[-1 - two] if two < 0 else sums[two]
                out = sums[to]
                low, high = max(0, -moved), min(columns, columns - moved)
                if high <= low:
                    out[:] = first
                    continue
                out[:low] = first[:low]
                for f in range(low, high):
                    out[f] = first[f] + second[f + moved]
                out[high:] = first[high:]
            for drift in range(drifts):
                at = of_drift[drift]
                whole = own[-1 - at] if at < 0 else sums[at]
                for f in range(columns):
                    snr[drift, panel, f] = whole[f] * scales[drift, f]
        widest = 0
        for drift in range(drifts):
            for third in range(thirds):
                for panel in range(6):
                    widest = max(widest, places[drift, third, panel])
        padded = np.zeros((6, columns + widest), np.float32)
        near = np.empty((6, columns), np.float32)
        edged = np.empty(columns + 2 * beside, np.float32)
        for drift in range(drifts):
            off = np.zeros(columns, np.float32)
            for panel in range(1, 6, 2):
                edged[:] = 0
                edged[beside : beside + columns] = snr[drift, panel]
                length, reach = columns + 2 * beside, 1
                while reach < 2 * beside + 1:
                    step = min(reach, 2 * beside + 1 - reach)
                    length -= step
                    for f in range(length):
                        edged[f] = max(edged[f], edged[f + step])
                    reach += step
                for f in range(columns):
                    value = max(edged[f] - np.float32(quiet), np.float32(0)) * np.float32(penalty)
                    near[panel, f] = value
                    off[f] = max(off[f], value)
            for panel in range(0, 6, 2):
                for f in range(columns):
                    near[panel, f] = snr[drift, panel, f] - off[f]
            for third in range(thirds):
                most = 0
                for panel in range(6):
                    most = max(most, places[drift, third, panel])
                width = columns + most
                for panel in range(6):
                    place = places[drift, third, panel]
                    padded[panel, :place] = 0
                    padded[panel, place : place + columns] = near[panel]
                    padded[panel, place + columns : width] = 0
                best, where = np.float32(-np.inf), 0
                a, b, c = padded[0, :width], padded[2, :width], padded[4, :width]
                x, y, z = padded[1, :width], padded[3, :width], padded[5, :width]
                for f in range(width):
                    total = a[f] + b[f] + c[f]
                    least, largest = min(min(a[f], b[f]), c[f]), max(max(a[f], b[f]), c[f])
                    mixed = max(max(largest, (total - least) * _QUARTER), total * _THIRD)
                    a[f] = mixed - max(max(x[f], y[f]), z[f])
                for f in range(width):
                    if a[f] > best:
                        best, where = a[f], f
                score[n, drift, third], start[n, drift, third] = best, where
                for on in range(3):
                    at = where - places[drift, third, 2 * on]
                    values[n, drift, third, on] = snr[drift, 2 * on, at] if 0 <= at < columns else np.float32(0)
