"""Kernel features compiled by Numba: the same numbers as `kernels.py` counts with NumPy, to the bit, in a quarter of the time.

Import this only where Numba is installed (the extra `fast`). The machine code is kept on disk, so that it is compiled once.

Legend: N samples, C channels, T positions, D dilations, F features, S sets of channels; 84 kernels in groups of 7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from wavefold.data.dataset import Floats, Ints

_Function = TypeVar("_Function", bound=Callable[..., object])


def _compiled(function: _Function) -> _Function:
    return cast(_Function, numba.njit(nogil=True, cache=True)(function))


@_compiled
def _prepare(signal: Floats, members: NDArray[np.bool_], dilation: int, tripled: Floats, total: Floats) -> None:
    """Three times a set's sum of channels, with zeros around it (T + 8 dilation,), and the sum of its nine shifts (T,)."""
    channels, length = signal.shape
    edge = 4 * dilation
    tripled[:] = 0
    inner = tripled[edge : edge + length]
    for channel in range(channels):
        if members[channel]:
            for t in range(length):
                inner[t] += signal[channel, t]
    total[:] = tripled[:length]
    for tap in range(1, 9):
        shifted = tripled[tap * dilation : tap * dilation + length]
        for t in range(length):
            total[t] += shifted[t]
    for t in range(length):
        inner[t] *= np.float32(3)


@_compiled
def _extremes(output: Floats, highest: Floats, lowest: Floats) -> None:
    """The highest and the lowest of seven kernels' outputs (7, T) at each position; NaN where all are the same."""
    for t in range(len(highest)):
        a, b, c, d = output[0, t], output[1, t], output[2, t], output[3, t]
        e, f, g = output[4, t], output[5, t], output[6, t]
        high, other, last = a if a > b else b, c if c > d else d, e if e > f else f  # written out, it becomes vector code
        high = high if high > other else other
        high = high if high > last else last
        high = high if high > g else g
        low, other, last = a if a < b else b, c if c < d else d, e if e < f else f
        low = low if low < other else other
        low = low if low < last else last
        low = low if low < g else g
        highest[t] = high if high > low else np.float32(np.nan)
        lowest[t] = low if high > low else np.float32(np.nan)


@_compiled
def count_rows(
    signals: Floats,
    taps: Ints,
    members: NDArray[np.bool_],
    set_of: Ints,
    dilations: Ints,
    starts: Ints,
    biases: Floats,
    wins: bool,
    features: Floats,
) -> None:
    """Fill features (N, F) of signals (N, C, T): shares above biases, then with `wins` those where a kernel beats its group.

    taps: (84, 3); members: (D, S, C); set_of: (D, 84); dilations: (D,); starts: (D + 1,) into biases, all in one row.
    """
    length = signals.shape[2]
    widest = length + 8 * dilations.max()
    tripled = np.empty((members.shape[1], widest), np.float32)
    total = np.empty((members.shape[1], length), np.float32)
    output = np.empty((7, length), np.float32)
    highest, lowest = np.empty(length, np.float32), np.empty(length, np.float32)
    whole = np.float32(length)
    for n in range(len(signals)):
        won = starts[-1]
        for number in range(len(dilations)):
            dilation = dilations[number]
            each, edge = (starts[number + 1] - starts[number]) // len(taps), 4 * dilation
            for one in range(set_of[number].max() + 1):
                _prepare(signals[n], members[number, one], dilation, tripled[one, : length + 8 * dilation], total[one])
            for group in range(len(taps) // 7):
                for k in range(7):
                    kernel = 7 * group + k
                    chosen = np.uint64(set_of[number, kernel])
                    i, j, last = (
                        np.uint64(taps[kernel, 0] * dilation),
                        np.uint64(taps[kernel, 1] * dilation),
                        np.uint64(taps[kernel, 2] * dilation),
                    )
                    row = output[k]
                    for t in range(length):
                        u = np.uint64(t)  # no wrapping of negative indices, which would keep this from becoming vector code
                        row[t] = ((tripled[chosen, i + u] + tripled[chosen, j + u]) - total[chosen, u]) + tripled[
                            chosen, last + u
                        ]
                    inner = row if (number + kernel) % 2 == 0 else row[edge : length - edge]
                    share = np.float32(len(inner))
                    first = starts[number] + kernel * each
                    for feature in range(first, first + each):
                        bias, count = biases[feature], np.int32(0)
                        for t in range(len(inner)):
                            count = np.int32(count + (inner[t] > bias))
                        features[n, feature] = np.float32(count) / share
                if not wins:
                    continue
                _extremes(output, highest, lowest)
                for k in range(7):
                    row, high, low = output[k], np.int32(0), np.int32(0)
                    for t in range(length):
                        high = np.int32(high + (row[t] == highest[t]))
                    for t in range(length):
                        low = np.int32(low + (row[t] == lowest[t]))
                    features[n, won] = np.sqrt(np.float32(high) / whole)
                    features[n, won + 1] = np.sqrt(np.float32(low) / whole)
                    won += 2
