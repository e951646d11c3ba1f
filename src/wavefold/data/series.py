"""Frames in time order, and the windows of past and future frames that a forecaster is trained on.

Axes: frames are (time, channel, row, column) float32, NaN where there is no value. A series may consist of several stretches
in a row: files, simulated sequences, or the frames between gaps in time. No window spans two stretches. A window's values are
(sample, channel, frame, row, column), past frames first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, plural
from wavefold.data.dataset import Strings
from wavefold.data.lazy import Floats, Ints, Signals

Seconds = NDArray[np.float64]
FILE_UNIT = "file's unit"  # in the attrs of a series: the unit that the source states, even if series.unit replaces it


@dataclass(frozen=True)
class Series:
    """Frames of one source."""

    frames: Signals  # (time, channel, row, column) float32, NaN where there is no value; may be lazy
    starts: Ints  # (stretch,) number of each stretch's first frame, starting with 0
    names: Strings  # (stretch,) name of each stretch in messages and files
    times: Seconds | None = None  # (time,) seconds since 1970-01-01 UTC; None if the source has none
    step: float = 0.0  # seconds between frames; 0 if unknown
    channels: tuple[str, ...] = ()  # channel names
    unit: str = ""  # of the values, for display: "degC", "dBZ", "mm/h"
    rows: NDArray[np.float64] | None = None  # (row,) coordinate of each row, such as latitude
    columns: NDArray[np.float64] | None = None  # (column,)
    across: str = ""  # name and unit of the columns' coordinates: "longitude (degrees_east)"; "" if unknown
    up: str = ""  # the same for the rows
    source: str = ""  # path that was read, for messages
    digest: str = ""  # hash of the source's bytes
    attrs: Mapping[str, str] = field(default_factory=dict)  # what was taken from the source: its variable, axes, calendar
    notes: tuple[str, ...] = field(default=())  # notes for the user, such as gaps in time

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
        """Times in seconds of frames by number; without times, frame number x step. numbers: (...,)."""
        return numbers.astype(np.float64) * (self.step or 1.0) if self.times is None else self.times[numbers]

    def with_frames(self, frames: Signals) -> Series:
        """The same series with other values."""
        return replace(self, frames=frames)


def stretches(times: Seconds, place: str, step: float = 0.0, *, dated: bool = True) -> tuple[Ints, float, tuple[str, ...]]:
    """Find where evenly spaced times restart after a gap; returns the starts, the step in seconds and a note on the gaps.

    times: (time,) seconds. step: if known, otherwise the most common difference. dated: whether they are dates, for messages.
    DataError, naming `place`, if times repeat or go backwards.
    """
    ahead = np.diff(times)
    word = time_word if dated else _days
    if len(ahead) and ahead.min() <= 0:
        at = int(np.argmax(ahead <= 0))
        raise DataError(
            f"{place} frame {at + 1}: its time {word(times[at + 1])} is not after {word(times[at])}, the previous one"
        )
    usual = step or (float(_most_common(ahead)) if len(ahead) else 0.0)
    slack = _MONTHS if usual > _MONTH else _SLACK
    gaps = np.flatnonzero(np.abs(ahead - usual) > slack * usual) + 1
    starts = np.concatenate([[0], gaps]).astype(np.int64)
    if not len(gaps):
        return starts, usual, ()
    first = int(gaps[0])
    note = (
        f"{place}: {plural(len(gaps), 'gap')} in time, {'the first ' if len(gaps) > 1 else ''}between "
        f"{word(times[first - 1])} and {word(times[first])}; no window crosses a gap"
    )
    return starts, usual, (note,)


def time_word(seconds: float) -> str:
    """Format a time: 2019-03-01 14:00, with seconds if they are not 0."""
    moment = datetime.fromtimestamp(float(seconds), UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S" if moment.second else "%Y-%m-%d %H:%M")


def _days(seconds: float) -> str:
    return f"day {seconds / 86400:.10g}"


def _most_common(values: Seconds) -> float:
    distinct, counts = np.unique(np.round(values, 3), return_counts=True)
    return float(distinct[np.argmax(counts)])


_SLACK, _MONTHS = 0.01, 0.12  # deviation allowed, as a share of a step; months differ in length
_MONTH = 27 * 86400.0  # seconds
_MONTHLY = (29 * 86400.0, 32 * 86400.0)  # seconds, range of a step of one month; four weeks are outside


@dataclass(frozen=True)
class Windows:
    """Windows of a series, each of `past` frames and the `ahead` frames after them, with `size` rows and columns."""

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
        """Number of frames in a window."""
        return self.past + self.ahead

    def take(self, index: Ints | slice | NDArray[np.bool_]) -> Windows:
        """Select windows."""
        return replace(self, first=self.first[index], top=self.top[index], left=self.left[index])

    def of(self, series: Series) -> Windows:
        """The same windows in a series with the same frames but other values."""
        return replace(self, series=series)

    def values(self, index: Ints | slice = slice(None)) -> Floats:
        """Values of windows, (sample, channel, frame, row, column); only past frames if `ahead` is 0."""
        first, top, left = self.first[index], self.top[index], self.left[index]
        rows, columns = self.size
        numbers, back = np.unique(first[:, None] + np.arange(self.length), return_inverse=True)
        frames = self.series.frames[numbers]  # read each frame once, even if many windows share it
        back = back.reshape(len(first), self.length)
        made = np.empty((len(first), frames.shape[1], self.length, rows, columns), np.float32)
        for one, (places, r, c) in enumerate(zip(back, top, left, strict=True)):
            made[one] = frames[places, :, r : r + rows, c : c + columns].swapaxes(0, 1)
        return made

    def before(self, frames: int) -> Floats:
        """The last `frames` frames up to the last past one, (sample, channel, frames, row, column).

        They may begin before the window; NaN before the first frame of the stretch.
        """
        more = frames - self.past
        begin = self.series.starts[np.searchsorted(self.series.starts, self.first, side="right") - 1]
        first = np.maximum(self.first - more, begin)
        longest = replace(self, first=first, past=frames, ahead=0)
        short = first - (self.first - more)  # frames that do not exist
        if not short.any():
            return longest.values()
        inside = np.minimum(first, len(self.series) - frames)  # any frames will do where there are too few
        made = replace(longest, first=np.maximum(inside, 0), past=min(frames, len(self.series))).values()
        whole = np.full((*made.shape[:2], frames, *made.shape[3:]), np.nan, np.float32)
        for one, (lack, off) in enumerate(zip(short, first - np.maximum(inside, 0), strict=True)):
            whole[one, :, lack:] = made[one, :, off : off + frames - lack]
        return whole

    def clock(self) -> Seconds:
        """Times in seconds of each window's future frames, (sample, ahead), even past the end of its stretch."""
        series, last = self.series, self.first + self.past - 1
        numbers = last[:, None] + np.arange(1, self.ahead + 1)
        ends = series.ends[np.searchsorted(series.starts, self.first, side="right") - 1]
        reckoned = later(series.clock(last)[:, None], series.step or 1.0, np.arange(1, self.ahead + 1))
        there = numbers < ends[:, None]
        return np.where(there, series.clock(np.where(there, numbers, 0)), reckoned)


def later(seconds: Seconds, step: float, steps: Ints) -> Seconds:
    """Times `steps` steps later, or earlier if negative; monthly steps keep the day and hour of the month."""
    if not _MONTHLY[0] < step < _MONTHLY[1]:
        return seconds + step * steps
    moment = np.round(seconds).astype("datetime64[s]")
    month = moment.astype("datetime64[M]")
    other = month + steps
    most = (other + 1).astype("datetime64[s]") - other.astype("datetime64[s]") - np.timedelta64(1, "s")  # for shorter months
    made: Seconds = (other + np.minimum(moment - month, most)).astype("datetime64[s]").astype(np.float64)
    return made


def mean_step(step: float) -> tuple[float, float]:
    """Mean seconds between frames whose usual step is known, and by how much of it a step may differ: months are uneven."""
    return (_MEAN_MONTH, _MONTHS) if _MONTHLY[0] < step < _MONTHLY[1] else (step, _SLACK)


_MEAN_MONTH = 31556952.0 / 12  # seconds


def join_stretches(names: Sequence[str], lengths: Sequence[int]) -> tuple[Ints, Strings]:
    """Starts and names of consecutive stretches with these numbers of frames."""
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    return starts, np.array(names, dtype=np.str_)
