"""Samples of unequal length: a sequence of arrays, each with its own number of positions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.core.errors import plural
from wavefold.estimators.errors import BadValue


def padded(X: ArrayLike, length: int | None = None) -> ArrayLike:
    """Samples of unequal length as one array (sample, channel, position), filled with zeros at the end; any other X as it is.

    X: a list or tuple of arrays (position,) or (channel, position). length: positions of the result, by default those of the
    longest sample; longer samples lose their end, which is warned of.
    """
    if not isinstance(X, list | tuple) or not all(isinstance(sample, np.ndarray) and sample.ndim in (1, 2) for sample in X):
        return X
    lengths = np.array([sample.shape[-1] for sample in X])
    longest = max(lengths, default=0) if length is None else length
    if (lengths == longest).all():
        return X
    channels = {sample.shape[:-1] for sample in X}
    if len(channels) > 1:
        other = next(number for number, sample in enumerate(X) if sample.shape[:-1] != X[0].shape[:-1])
        raise BadValue(
            f"X: sample {other} has shape {X[other].shape}; expected as many channels as in {X[0].shape} of sample 0"
        )
    cut = int((lengths > longest).sum())
    if cut:
        warnings.warn(
            f"X: {plural(cut, 'sample')} longer than {longest} positions, the longest in fit; the rest is left out",
            stacklevel=3,
        )
    return _filled(X, channels.pop(), int(longest))


def _filled(samples: Sequence[NDArray[np.generic]], channels: tuple[int, ...], length: int) -> NDArray[np.generic]:
    array = np.zeros((len(samples), *channels, length), np.result_type(*samples))
    for row, sample in zip(array, samples, strict=True):
        count = min(length, sample.shape[-1])
        row[..., :count] = sample[..., :count]
    return array
