"""What the positions of signals are, for people: seconds, angstrom, rows and columns; with the words that an axis carries."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavefold.base.dataset import Dataset

Values = NDArray[np.float64]

_RATE = re.compile(r"1/(\d+(?:\.\d+)?) s")  # the unit of signals that are sampled so many times a second
_WAVES = ("angstrom", "micron", "nm", "um")


@dataclass(frozen=True)
class Axis:
    """The last axis of signals."""

    values: Values  # (position,)
    title: str  # name and unit


def axis_of(dataset: Dataset) -> Axis:
    """What the positions of samples (sample, channel, ..., position) are, so far as the source says it."""
    length = dataset.signals.shape[-1]
    if dataset.signals.ndim > 3:
        return Axis(np.arange(length, dtype=np.float64), "frequency channel")
    step = _RATE.fullmatch(dataset.unit)
    if dataset.axis is not None:
        return Axis(np.asarray(dataset.axis, np.float64), _named(dataset.unit))
    if step:
        return Axis(np.arange(length) / float(step.group(1)), "time (s)")
    return Axis(np.arange(length, dtype=np.float64), f"position (steps of {dataset.unit})" if dataset.unit else "position")


def _named(unit: str) -> str:
    """An axis that the source brings: its unit is "2 angstrom" or the like, a step's length and what it is counted in."""
    word = unit.rpartition(" ")[2]
    if word in _WAVES:
        return f"wavelength ({word})"
    return f"time ({word})" if word in ("s", "ms", "min", "h") else f"position ({word})" if word else "position"
