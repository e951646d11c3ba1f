"""Frames in the order of time, and the windows of past and later frames that a forecaster learns from.

Axes: frames are (time, channel, row, column) float32, NaN where there is no value. A series may consist of several stretches,
one after another: files, simulated sequences, or what lies between gaps in time. No window crosses from one to the next.
A window's values are (sample, channel, frame, row, column), its past frames first, its later frames after them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from wavefold.base.dataset import Strings
from wavefold.base.errors import DataError
from wavefold.base.lazy import Floats, Ints, Signals

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """Frames of one source."""

    frames: Signals  # (time, channel, row, column) float32, NaN where there is no value; at hand or read on demand
    starts: Ints  # (stretch,) the number of each stretch's first frame, the first one 0
    names: Strings  # (stretch,) what each stretch is called in messages and files
    times: Seconds | None = None  # (time,) seconds since 1970-01-01 UTC; None where the source has none
    step: float = 0.0  # seconds from a frame to the next; 0 where the source does not say
    channels: tuple[str, ...] = ()  # a name each
    unit: str = ""  # of the values, as people write it: "degC", "dBZ", "mm/h"
    rows: NDArray[np.float64] | None = None  # (row,) the coordinate of each row, such as latitude
    columns: NDArray[np.float64] | None = None  # (column,)
    across: str = ""  # what the columns' coordinates are, with their unit: "longitude (degrees_east)"; "" where it is not said
    up: str = ""  # likewise of the rows
    source: str = ""  # the path that was read, for messages
    digest: str = ""  # of the source's bytes
    notes: tuple[str, ...] = field(default=())  # what people should know of it, such as gaps in time

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def ends(self) -> Ints:
        """(stretch,) one past the number of each stretch's last frame."""
        return np.append(self.starts[1:], len(self)).astype(np.int64)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return self.frames.shape[2], self.frames.shape[3]

    def clock(self, numbers: Ints) -> Seconds:
        """Seconds of frames by number; frame numbers times the step where there are no times. numbers: (...,)."""
        return numbers.astype(np.float64) * (self.step or 1.0) if self.times is None else self.times[numbers]

    def with_frames(self, frames: Signals) -> Series:
        """The same series with other values."""
        return replace(self, frames=frames)


def stretches(times: Seconds, place: str, step: float = 0.0) -> tuple[Ints, float, tuple[str, ...]]:
    """Where evenly spaced times begin anew after a gap, the step in seconds, and a note on the gaps.

    times: (time,) seconds. step: where it is known, else the most common difference. DataError, which names `place`, where
    times repeat or go back.
    """
    ahead = np.diff(times)
    if len(ahead) and ahead.min() <= 0:
        at = int(np.argmax(ahead <= 0))
        raise DataError(
            f"{place} frame {at + 1}: its time {time_word(times[at + 1])} is not after {time_word(times[at])} of the one before"
        )
    usual = step or (float(_most_common(ahead)) if len(ahead) else 0.0)
    slack = _MONTHS if usual > _MONTH else _SLACK
    gaps = np.flatnonzero(np.abs(ahead - usual) > slack * usual) + 1
    starts = np.concatenate([[0], gaps]).astype(np.int64)
    if not len(gaps):
        return starts, usual, ()
    first = int(gaps[0])
    note = (
        f"{place}: {len(gaps)} gap(s) in time, the first between {time_word(times[first - 1])} and {time_word(times[first])}; "
        "no window crosses one"
    )
    return starts, usual, (note,)


def time_word(seconds: float) -> str:
    """A time as people write it: 2019-03-01 14:00, with seconds where there are some."""
    moment = datetime.fromtimestamp(float(seconds), UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S" if moment.second else "%Y-%m-%d %H:%M")


def _most_common(values: Seconds) -> float:
    distinct, counts = np.unique(np.round(values, 3), return_counts=True)
    return float(distinct[np.argmax(counts)])


_SLACK, _MONTHS = 0.01, 0.12  # of a step, that times may be off; months differ in length
_MONTH = 27 * 86400.0  # seconds
_MONTHLY = (29 * 86400.0, 32 * 86400.0)  # seconds, that the usual step of months lies between; four weeks do not


@dataclass(frozen=True)
class Windows:
    """Places in a series, each of `past` frames and the `ahead` frames after them, on `size` rows and columns."""

    series: Series
    first: Ints  # (sample,) number of each window's first frame
    top: Ints  # (sample,) first row
    left: Ints  # (sample,) first column
    past: int
    ahead: int
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def length(self) -> int:
        """Frames of a window."""
        return self.past + self.ahead

    def take(self, index: Ints | slice | NDArray[np.bool_]) -> Windows:
        """Some of the windows."""
        return replace(self, first=self.first[index], top=self.top[index], left=self.left[index])

    def of(self, series: Series) -> Windows:
        """The same places in a series of the same frames with other values."""
        return replace(self, series=series)

    def values(self, index: Ints | slice = slice(None)) -> Floats:
        """Values of some windows, (sample, channel, frame, row, column); past frames only where `ahead` is 0."""
        first, top, left = self.first[index], self.top[index], self.left[index]
        rows, columns = self.size
        numbers, back = np.unique(first[:, None] + np.arange(self.length), return_inverse=True)
        frames = self.series.frames[numbers]  # each frame once, though many windows share it
        back = back.reshape(len(first), self.length)
        made = np.empty((len(first), frames.shape[1], self.length, rows, columns), np.float32)
        for one, (places, r, c) in enumerate(zip(back, top, left, strict=True)):
            made[one] = frames[places, :, r : r + rows, c : c + columns].swapaxes(0, 1)
        return made

    def clock(self) -> Seconds:
        """Seconds of the later frames of each window, (sample, ahead), also of those past the end of its stretch."""
        series, last = self.series, self.first + self.past - 1
        numbers = last[:, None] + np.arange(1, self.ahead + 1)
        ends = series.ends[np.searchsorted(series.starts, self.first, side="right") - 1]
        reckoned = later(series.clock(last)[:, None], series.step or 1.0, np.arange(1, self.ahead + 1))
        there = numbers < ends[:, None]
        return np.where(there, series.clock(np.where(there, numbers, 0)), reckoned)


def later(seconds: Seconds, step: float, steps: Ints) -> Seconds:
    """Seconds so many steps later, or earlier where steps are below 0; of months, the same day and hour of that month."""
    if not _MONTHLY[0] < step < _MONTHLY[1]:
        return seconds + step * steps
    moment = np.round(seconds).astype("datetime64[s]")
    month = moment.astype("datetime64[M]")
    other = month + steps
    most = (other + 1).astype("datetime64[s]") - other.astype("datetime64[s]") - np.timedelta64(1, "s")  # of a shorter month
    made: Seconds = (other + np.minimum(moment - month, most)).astype("datetime64[s]").astype(np.float64)
    return made


def join_stretches(names: Sequence[str], lengths: Sequence[int]) -> tuple[Ints, Strings]:
    """Starts and names of stretches of so many frames, one after another."""
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    return starts, np.array(names, dtype=np.str_)
