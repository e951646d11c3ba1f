"""Reads frames from NumPy .npy and .npz files, with times and coordinates from the other arrays; nothing is unpickled."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from wavefold.core.errors import DataError, UserError, listed, nearest
from wavefold.data.lazy import LARGE, Floats, Ints, Lazy
from wavefold.data.series import Seconds, Series, stretches
from wavefold.data.series_options import Reading

AXES = ("sequence", "time", "row", "column", "channel")
EVENTS_WORD = "events = {box = [west, east, south, north], cells = [rows, columns]}"  # the option that a table of events needs
Beside = Mapping[str, NDArray[np.generic]]  # the arrays beside the frames, by name

_COLOURS = 4  # an axis of up to so many values is one of channels: grey, colours and opacity
_READINGS = {  # possible roles by the number of axes, the likeliest first
    3: (("time", "row", "column"),),
    4: (("time", "row", "column", "channel"), ("time", "channel", "row", "column")),
    5: (AXES, ("sequence", "time", "channel", "row", "column"), ("time", "sequence", "channel", "row", "column")),
}
_NAMED = {  # what an array of so many axes may be, for an error
    3: (("time", "row", "column"), ("row", "column", "channel"), ("channel", "row", "column")),
    4: (("sequence", "time", "row", "column"), ("time", "sequence", "row", "column"), *_READINGS[4]),
    5: _READINGS[5],
}
_ORDER = ("sequence", "time", "channel", "row", "column")  # the axis order of a series
_CLOCKS = ("time", "times", "time_utc", "times_utc", "timestamp", "timestamps")
_DATES = (*_CLOCKS, "date", "dates", "datetime", "month", "months", "day", "days")  # beyond _CLOCKS, only if they hold text
_ROWS = ("rows", "row", "lat", "latitude", "y")
_COLUMNS = ("columns", "column", "lon", "longitude", "x")
_UNITS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0}
_SINCE = re.compile(r"(seconds|minutes|hours|days)_since_(\S+)")
_DATE = re.compile(
    r"(\d{4})-?(\d\d)?(?:-?(\d\d))?(?:[T _-]?(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,9}))?)?)?)?\s*(Z|UTC|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_EARLIEST, _LATEST = -62135596800.0, 32503680000.0  # seconds, the years 1 and 3000


def read_array(path: Path, reading: Reading) -> Series:
    """Read the frames of a .npy or .npz, (time, channel, row, column), as stored: `read_series` applies codes and scale.

    From an .npz, reads the array named reading.variable, else the only one with three or more axes. Times, coordinates,
    channels and unit come from the other arrays: `time`, `hours_since_1970`, `lat`, `lon`, `channels`, `unit` and the like.
    A large .npy is read on demand. DataError for anything but plain numbers, and for times that are not increasing.
    """
    if path.suffix.lower() == ".npy":
        if reading.variable:
            raise UserError(f"{path.name}: an .npy file has one unnamed array; unset variable '{reading.variable}'")
        return _series(path, "value", _mapped(path), {}, reading)
    heads = _heads(path)
    with ExitStack() as opened:
        with _reading(path):
            arrays = opened.enter_context(np.load(opened.enter_context(open(path, "rb")), allow_pickle=False))
        name = _variable(heads, reading, path.name)
        return _series(path, name, _member(arrays, name, path.name), _Members(arrays, heads, path.name), reading)


def seconds_of(name: str, values: NDArray[np.generic], place: str) -> Seconds:
    """Convert times to seconds since 1970-01-01 UTC: dates, ISO text, or numbers whose array name gives the unit and epoch.

    values: any shape. Numbers named `hours_since_1970` (or seconds, minutes, days; any date) count from that date; others
    are seconds since 1970. DataError names `place` and the frame of an invalid time.
    """
    if values.dtype.kind == "M":
        seconds = np.where(np.isnat(values), np.nan, values.astype("datetime64[ms]").astype(np.int64) / 1000)
    elif values.dtype.kind in "US":
        words = values.astype(np.str_).ravel().tolist()
        seconds = np.array([_second(word, f"{place} frame {i}") for i, word in enumerate(words)]).reshape(values.shape)
    elif since := _SINCE.fullmatch(name):
        seconds = values.astype(np.float64) * _UNITS[since[1]] + _second(since[2], place)
    else:
        seconds = values.astype(np.float64)
    bad = ~((seconds >= _EARLIEST) & (seconds < _LATEST))
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(f"{place} frame {at}: {values.ravel()[at]} is not a time; expected dates, or seconds since 1970")
    return seconds


def in_pieces(times: Seconds, starts: Ints, names: Sequence[str], place: str, step: float = 0.0) -> _Pieces:
    """Split stretches with the given starts further at gaps in time.

    times: (time,) seconds; starts: (piece,). DataError if times within a piece go backwards.
    """
    found: list[Ints] = []
    called: list[str] = []
    notes: tuple[str, ...] = ()
    for begin, end, name in zip(starts, [*starts[1:], len(times)], names, strict=True):
        inner, usual, note = stretches(times[begin:end], place if len(starts) == 1 else f"{place} {name}", step)
        step, notes = step or usual, notes + note
        found.append(inner + begin)
        called += [name] if len(inner) == 1 else [f"{name}-{i + 1}" for i in range(len(inner))]
    more = (f"... and {len(notes) - 1} more stretches with gaps",) if len(notes) > 1 else ()
    return _Pieces(np.concatenate(found), tuple(called), step, notes[:1] + more)


def channel_names(count: int, name: str = "value") -> tuple[str, ...]:
    """Default channel names: the variable's name for a single channel, else channel-1 and so on."""
    return (name,) if count == 1 else tuple(f"channel-{i + 1}" for i in range(count))


@dataclass(frozen=True)
class _Pieces:
    starts: Ints
    names: tuple[str, ...]
    step: float
    notes: tuple[str, ...]


@contextmanager
def _reading(path: Path, member: str = "") -> Iterator[None]:
    """Turn errors from reading a file into a one-line DataError."""
    place = f"{path.name} {member}".strip()
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # NumPy, zipfile and zlib raise errors of many kinds for damaged files
        if "pickle" in str(error) or "Python objects" in str(error) or "Object arrays" in str(error):
            raise DataError(f"{place}: contains pickled Python objects or no array; expected an array of numbers") from None
        word = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{place}: cannot be read as a NumPy array ({word})") from None


def _mapped(path: Path) -> NDArray[np.generic]:
    """Load an .npy's array, memory-mapped if it is large."""
    with _reading(path):
        with open(path, "rb") as stream:
            shape, _ = _head(stream)
        if 4 * math.prod(shape) > LARGE:
            mapped: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
            return mapped
        return np.asarray(np.load(path, allow_pickle=False))


def _head(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = npy_format.read_magic(stream)
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


_Heads = dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]


def _heads(path: Path) -> _Heads:
    """Shapes and types of the arrays in an .npz, without reading them."""
    heads: _Heads = {}
    with _reading(path), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as stream:
                    heads[member.removesuffix(".npy")] = _head(stream)
    return heads


def _member(arrays: Beside, name: str, place: str) -> NDArray[np.generic]:
    with _reading(Path(place), name):
        return np.asarray(arrays[name])


class _Members(dict[str, NDArray[np.generic]]):
    """The arrays of an .npz with at most two axes, each read on access."""

    def __init__(self, arrays: Beside, heads: _Heads, place: str) -> None:
        super().__init__({name: np.empty(0) for name, (shape, _) in heads.items() if len(shape) <= 2})
        self._arrays, self._place = arrays, place

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        return _member(self._arrays, name, self._place)


def _variable(heads: _Heads, reading: Reading, place: str) -> str:
    there = listed(f"{name} ({' x '.join(map(str, shape)) or 'one value'})" for name, (shape, _) in heads.items())
    if reading.variable:
        if reading.variable not in heads:
            raise UserError(
                f"{place}: no variable '{reading.variable}'; available: {there or 'none'}{nearest(reading.variable, heads)}"
            )
        return reading.variable
    many = [name for name, (shape, _) in heads.items() if len(shape) >= 3]
    many = many or [name for name, (shape, _) in heads.items() if len(shape) == 2 and reading.in_folder]
    if len(many) == 1:
        return many[0]
    if many:
        raise UserError(f"{place}: any of {listed(many)} could be the frames; set variable to one of them; available: {there}")
    raise DataError(
        f"{place}: has no array with 3 or more axes (time row column); available: {there or 'none'}; "
        f"a table of timed events needs the option {EVENTS_WORD}"
    )


def _series(path: Path, name: str, stored: NDArray[np.generic], beside: Beside, reading: Reading) -> Series:
    place = path.name if name == "value" else f"{path.name} {name}"
    if stored.dtype.kind not in "biuf":
        raise DataError(f"{place}: has values of type {stored.dtype}, expected numbers")
    doubts: tuple[str, ...] = ()
    if reading.axes.strip():
        axes = _axes(reading.axes, stored.ndim, place, one_frame=reading.in_folder)
    else:
        axes, doubts = _guessed(stored.shape, beside, place, one_frame=reading.in_folder)
    if "time" not in axes:
        stored, axes = stored[None], ("time", *axes)
    size = dict(zip(axes, stored.shape, strict=True))
    if not stored.size:
        raise DataError(f"{place}: is empty, {' x '.join(map(str, stored.shape))} for {' '.join(axes)}")
    sequences, length = size.get("sequence", 1), size["time"]
    starts, names = _parts(beside, sequences, length, path.name)
    times = _times(beside, sequences if "sequence" in axes else 0, length, path.name)
    step = _number(beside, "step", path.name)
    pieces = _Pieces(starts, names, step, ()) if times is None else in_pieces(times, starts, names, path.name, step)
    return Series(
        frames=_frames(stored, axes),  # still as stored
        starts=pieces.starts,
        names=np.array(pieces.names, np.str_),
        times=times,
        step=pieces.step,
        channels=_channels(beside, size.get("channel", 1), name, path.name),
        unit=reading.unit or _text(beside, ("unit", "units")),
        rows=_coordinates(beside, _ROWS, size["row"]),
        columns=_coordinates(beside, _COLUMNS, size["column"]),
        across="longitude (degrees)" if any(name in beside for name in _COLUMNS if name.startswith("lon")) else "",
        up="latitude (degrees)" if any(name in beside for name in _ROWS if name.startswith("lat")) else "",
        source=str(path),
        attrs={"axes": " ".join(axes)},
        notes=(*doubts, *pieces.notes),
    )


def _axes(words: str, count: int, place: str, *, one_frame: bool) -> tuple[str, ...]:
    """The role of each array axis, as named; UserError for unknown or repeated axis names, or a wrong number of them.

    one_frame: whether the array may be a single frame, without an axis of time.
    """
    axes = tuple(words.replace(",", " ").lower().split())
    for word in axes:
        if word not in AXES:
            raise UserError(f"{place}: axes: '{word}' is not one of {listed(AXES)}{nearest(word, AXES)}")
    if len(set(axes)) < len(axes):
        twice = next(word for word in axes if axes.count(word) > 1)
        raise UserError(f"{place}: axes '{words}' names {twice} twice")
    if absent := [word for word in AXES[1:4] if word not in axes and not (one_frame and word == "time")]:
        raise UserError(f"{place}: axes '{words}' lacks {listed(absent)}, expected at least time row column")
    if len(axes) != count:
        raise UserError(f"{place}: axes '{words}' has {len(axes)} names, expected {count} for an array with {count} axes")
    return axes


def _guessed(shape: tuple[int, ...], beside: Beside, place: str, *, one_frame: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The likeliest role of each axis by the array's shape and the arrays beside it, and a note if it is doubtful.

    Axes of 1 to 4 values in the place of channels are channels. DataError, with the words that settle it, if no reading or
    more than one is likely.
    """
    if len(shape) not in _READINGS and not (one_frame and len(shape) == 2):
        ends = "2 (row column) to 5" if one_frame else "3 (time row column) to 5"
        raise DataError(f"{place}: has {len(shape)} axes, expected {ends}; set series.axes to their names")
    words = " x ".join(map(str, shape))
    if "axes" in beside and beside["axes"].dtype.kind == "U" and beside["axes"].size == 1:
        return _axes(str(beside["axes"].item()), len(shape), place, one_frame=one_frame), ()
    if len(shape) < 4:
        return _flat(shape, place, one_frame=one_frame)
    usual, *others = _READINGS[len(shape)]
    named = [axes for axes in (usual, *others) if _fits(axes, shape, beside)]
    if named and len(named) <= len(others) and (named[0] == usual or _plane(named[0], shape) > _COLOURS):
        return named[0], () if named[0] == usual else (_taken(named[0], words, place),)
    few = [axes for axes in (usual, *others) if _of(axes, shape, "channel") <= _COLOURS]
    if plain := [axes for axes in few if _plane(axes, shape) > _COLOURS]:
        return plain[0], () if plain == [usual] else (_taken(plain[0], words, place),)
    tiny = all(_plane(axes, shape) <= _COLOURS for axes in (usual, *others))
    if tiny or 2 * _of(usual, shape, "channel") <= _plane(usual, shape):
        return usual, () if few == [usual] else (_taken(usual, words, place),)
    options = " or ".join(f'"{" ".join(axes)}"' for axes in _NAMED[len(shape)])
    raise DataError(f"{place}: the {len(shape)} axes of {words} could be several; set series.axes to one of {options}")


def _flat(shape: tuple[int, ...], place: str, *, one_frame: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The roles of two or three axes, and a note if they could well be others."""
    words = " x ".join(map(str, shape))
    if len(shape) == 2:
        return ("row", "column"), ()
    if shape[2] <= _COLOURS < min(shape[:2]):
        colours = ("row", "column", "channel")
        if one_frame:
            return colours, (_taken(colours, words, place),)
        return AXES[1:4], (_taken(AXES[1:4], words, place),)
    if shape[0] == shape[1] != shape[2] and shape[0] > _COLOURS:
        note = f"{place}: {words} is taken for time row column, although its first two axes are equal; if time comes last, "
        return AXES[1:4], (note + 'set series.axes="row column time"',)
    return AXES[1:4], ()


def _plane(axes: tuple[str, ...], shape: tuple[int, ...]) -> int:
    return min(_of(axes, shape, "row"), _of(axes, shape, "column"))


def _of(axes: tuple[str, ...], shape: tuple[int, ...], word: str) -> int:
    return shape[axes.index(word)] if word in axes else 1


def _fits(axes: tuple[str, ...], shape: tuple[int, ...], beside: Beside) -> bool:
    """Whether names of channels and coordinates beside the array are as many as the axes are long."""
    for word, names in (("channel", ("channels",)), ("row", _ROWS), ("column", _COLUMNS)):
        lengths = [len(beside[name]) for name in names if name in beside and beside[name].ndim == 1]
        if lengths and _of(axes, shape, word) not in lengths:
            return False
    return True


def _taken(axes: tuple[str, ...], words: str, place: str) -> str:
    others = [" ".join(other) for other in (*_READINGS[len(axes)], *_NAMED[len(axes)]) if other != axes]
    return f'{place}: {words} is taken for {" ".join(axes)}; if it is another order, set series.axes="{others[0]}" or the like'


def _frames(stored: NDArray[np.generic], axes: tuple[str, ...]) -> NDArray[Any] | Lazy:
    """Reorder an array's axes to those of a series: (time, channel, row, column), sequences one after another."""
    view = stored.transpose([axes.index(word) for word in _ORDER if word in axes])
    if "channel" not in axes:
        view = np.expand_dims(view, -3)
    if "sequence" not in axes:
        view = view[None]
    if isinstance(stored, np.memmap):
        return Lazy(partial(_mapped_frames, view), np.arange(view.shape[0] * view.shape[1]), view.shape[2:])
    return view.reshape(-1, *view.shape[2:])


def _mapped_frames(view: NDArray[np.generic], numbers: Ints) -> Floats:
    """Read frames by number. view: (sequence, time, channel, row, column), memory-mapped."""
    return np.ascontiguousarray(view[numbers // view.shape[1], numbers % view.shape[1]], np.float32)


def _parts(beside: Beside, sequences: int, length: int, place: str) -> tuple[Ints, tuple[str, ...]]:
    """Starts and names of the sequences, or of the stretches given by an array `starts`."""
    starts = np.arange(sequences, dtype=np.int64) * length
    if sequences == 1 and "starts" in beside:
        stated = beside["starts"]
        if stated.ndim != 1 or stated.dtype.kind not in "iu" or not len(stated):
            raise DataError(f"{place} starts: expected the index of each stretch's first frame")
        starts = stated.astype(np.int64)
        if starts[0] != 0 or np.any(np.diff(starts) <= 0) or starts[-1] >= length:
            raise DataError(f"{place} starts: expected increasing numbers from 0, all below {length}")
    names = beside["names"] if "names" in beside else np.empty(0)
    if names.shape == starts.shape and names.dtype.kind == "U":
        return starts, tuple(names.tolist())
    stem = place.rsplit(".", 1)[0]
    return starts, (stem,) if len(starts) == 1 else tuple(f"sequence-{i + 1}" for i in range(len(starts)))


def _times(beside: Beside, sequences: int, length: int, place: str) -> Seconds | None:
    """(time,) seconds from the first array whose name denotes times. sequences: 0 if there is no such axis."""
    shapes = [(length,), (sequences, length)] if sequences else [(length,)]
    wrong = ""
    for name in beside:
        if not (name.lower() in _DATES or _SINCE.fullmatch(name)):
            continue
        values = beside[name]
        if values.dtype.kind not in "MUS" and not (values.dtype.kind in "iuf" and name.lower() not in _DATES[len(_CLOCKS) :]):
            continue
        if values.shape in shapes:
            seconds = seconds_of(name, values, f"{place} {name}")
            return np.tile(seconds, max(1, sequences)) if seconds.ndim == 1 else seconds.ravel()
        wrong = wrong or f"{place} {name}: has {' x '.join(map(str, values.shape)) or 'one'} times for {length} frames"
    if wrong:
        raise DataError(wrong)
    return None


def _second(word: str, place: str) -> float:
    """Parse a date in common notations to seconds since 1970: 2010-01, 2016-09-28 14:45, 20160928T1445Z."""
    found = _DATE.fullmatch(word.strip())
    try:
        if not found:
            raise ValueError
        year, month, day, hour, minute, second = (
            int(part or low) for part, low in zip(found.groups()[:6], (1, 1, 1, 0, 0, 0), strict=True)
        )
        moment = datetime(year, month, day, hour, minute, second, int((found[7] or "0").ljust(6, "0")[:6]), tzinfo=UTC)
        return moment.timestamp() - _zone(found[8])
    except ValueError:
        raise DataError(f"{place}: '{word}' is not a time, expected one such as 2016-09-28 14:45 or 2016-09") from None


def _zone(word: str | None) -> float:
    """Seconds that a clock is ahead of UTC: +01:00 is 3600."""
    if not word or word[0] not in "+-":
        return 0.0
    digits = word[1:].replace(":", "")
    return (1 if word[0] == "+" else -1) * (int(digits[:2]) * 3600.0 + int(digits[2:]) * 60.0)


def _coordinates(beside: Beside, names: Sequence[str], count: int) -> NDArray[np.float64] | None:
    for name in names:
        if name in beside:
            values = beside[name]
            if values.shape == (count,) and values.dtype.kind in "iuf":
                return values.astype(np.float64)
    return None


def _channels(beside: Beside, count: int, name: str, place: str) -> tuple[str, ...]:
    for key in ("channels", "channel"):
        if key in beside and (values := np.atleast_1d(beside[key])).dtype.kind == "U":
            if len(values) != count or len(set(values.tolist())) < count:
                raise DataError(f"{place} {key}: {listed(values.tolist())}; expected {count} different names")
            return tuple(values.tolist())
    return channel_names(count, name)


def _text(beside: Beside, names: Sequence[str]) -> str:
    values = (beside[name] for name in names if name in beside)
    return next((str(v.ravel()[0]) for v in values if v.dtype.kind == "U" and v.size == 1), "")


def _number(beside: Beside, name: str, place: str) -> float:
    values = beside[name] if name in beside else np.zeros(1)
    if values.size != 1 or values.dtype.kind not in "iuf" or not 0 <= float(values.item()) < math.inf:
        raise DataError(f"{place} {name}: expected one number, the seconds between frames")
    return float(values.item())
