"""Kernel features compiled by Numba: the same numbers as `kernels.py` counts with NumPy, to the bit, in a quarter of the time.

Import this only where Numba is installed (the extra `fast`). The machine code is kept on disk, so that it is compiled once.

Legend: N samples, C channels, T positions, D dilations, F features, S sets of channels; 84 kernels in groups of 7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from wavefold.core.compiled import numba
from wavefold.data.dataset import Floats, Ints

_Function = TypeVar("_Function", bound=Callable[..., object])


def _compiled(function: _Function) -> _Function:
    return cast(_Function, numba.njit(nogil=True, cache=True)(function))


@_compiled
def _prepare(signal: Floats, members: NDArray[np.bool_], dilation: int, tripled: Floats, total: Floats) -> None:
    """Three times a set's sum of channels, with zeros around it (T + 8 dilation,), and the sum of its nine shifts (T,)."""
    channels, length = len(signal), len(total)
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
def _convolve(tripled: Floats, total: Floats, taps: Ints, dilation: int, output: Floats) -> None:
    """A kernel's output (T,): three times the positions of its three taps, less the sum of all nine."""
    i, j, k = np.uint64(taps[0] * dilation), np.uint64(taps[1] * dilation), np.uint64(taps[2] * dilation)
    for t in range(len(output)):
        u = np.uint64(t)  # no wrapping of negative indices, which would keep this from becoming vector code
        output[u] = ((tripled[i + u] + tripled[j + u]) - total[u]) + tripled[k + u]


@_compiled
def _shares(output: Floats, biases: Floats, shares: Floats) -> None:
    """The share of an output's positions above each bias."""
    for number in range(len(biases)):
        bias, count = biases[number], np.int32(0)
        for t in range(len(output)):
            count = np.int32(count + (output[t] > bias))
        shares[number] = np.float32(count) / np.float32(len(output))


@_compiled
def _wins(output: Floats, best: Floats) -> np.floating:
    """The square root of the share of positions where an output is the best of its group."""
    count = np.int32(0)
    for t in range(len(output)):
        count = np.int32(count + (output[t] == best[t]))
    root: np.floating = np.sqrt(np.float32(count) / np.float32(len(output)))
    return root


@_compiled
def count_rows(
    signals: Floats,
    taps: Ints,
    members: NDArray[np.bool_],
    set_of: Ints,
    dilations: Ints,
    starts: Ints,
    biases: Floats,
    competing: NDArray[np.bool_],
    features: Floats,
) -> None:
    """Fill features (N, F) of signals (N, C, T): shares above biases, then shares where a kernel beats its group.

    The latter first of the signals, then of their differences. taps: (84, 3); members: (D, S, C); set_of: (D, 84); dilations:
    (D,); starts: (D + 1,) into biases, all in one row; competing: (D,) whether the kernels of a dilation compete.
    """
    channels, length = signals.shape[1:]
    signal = np.empty((channels, length), np.float32)
    for order in range(2 if competing.any() else 1):
        size = length - order
        tripled = np.empty((members.shape[1], size + 8 * dilations.max()), np.float32)
        total = np.empty((members.shape[1], size), np.float32)
        outputs = np.empty((7, size), np.float32)
        highest, lowest = np.empty(size, np.float32), np.empty(size, np.float32)
        for n in range(len(signals)):
            for channel in range(channels):
                for t in range(size):
                    last = np.float32(0) if order == 0 else signals[n, channel, t]
                    signal[channel, t] = signals[n, channel, t + order] - last
            won = starts[-1] + order * 2 * len(taps) * competing.sum()
            for number in range(len(dilations)):
                if order and not competing[number]:
                    continue
                dilation = dilations[number]
                each, edge = (starts[number + 1] - starts[number]) // len(taps), 4 * dilation
                for one in range(set_of[number].max() + 1):
                    _prepare(signal, members[number, one], dilation, tripled[one, : size + 8 * dilation], total[one])
                for first in range(0, len(taps), 7):
                    for k in range(7):
                        kernel, output = first + k, outputs[k]
                        one = set_of[number, kernel]
                        _convolve(tripled[one], total[one], taps[kernel], dilation, output)
                        if order == 0:
                            inner = output if (number + kernel) % 2 == 0 else output[edge : size - edge]
                            place = starts[number] + kernel * each
                            _shares(inner, biases[place : place + each], features[n, place : place + each])
                    if competing[number]:
                        _extremes(outputs, highest, lowest)
                        for k in range(7):
                            features[n, won] = _wins(outputs[k], highest)
                            features[n, won + 1] = _wins(outputs[k], lowest)
                            won += 2
