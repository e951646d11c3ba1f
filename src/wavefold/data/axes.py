"""Axis values and titles of signals for plots: seconds, angstrom, rows and columns."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavefold.data.dataset import Dataset

Values = NDArray[np.float64]

_RATE = re.compile(r"1/(\d+(?:\.\d+)?) s")  # the unit of signals with a fixed sampling rate
_WAVES = ("angstrom", "micron", "nm", "um")


@dataclass(frozen=True)
class Axis:
    """The last axis of signals."""

    values: Values  # (position,)
    title: str  # name and unit


def axis_of(dataset: Dataset, title: str = "") -> Axis:
    """Return the last axis of signals (sample, channel, ..., position), as far as the source defines it.

    title: the domain's own name for the axis.
    """
    length = dataset.signals.shape[-1]
    if title:
        return Axis(np.arange(length, dtype=np.float64), title)
    step = _RATE.fullmatch(dataset.unit)
    if dataset.axis is not None:
        return Axis(np.asarray(dataset.axis, np.float64), _named(dataset.unit))
    if step:
        return Axis(np.arange(length) / float(step.group(1)), "time (s)")
    return Axis(np.arange(length, dtype=np.float64), f"position (steps of {dataset.unit})" if dataset.unit else "position")


def _named(unit: str) -> str:
    """Title of an axis given by the source; its unit is a step length and a unit name, such as "2 angstrom"."""
    word = unit.rpartition(" ")[2]
    if word in _WAVES:
        return f"wavelength ({word})"
    return f"time ({word})" if word in ("s", "ms", "min", "h") else f"position ({word})" if word else "position"
