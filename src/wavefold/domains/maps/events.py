"""Bins a table of timed events on a grid: counts per cell and time step, or a smoothed rate.

The table is a CSV (plain or gzip) or an .npz of columns: time, x, y and optionally a kind. Times are treated as UTC unless they
carry an offset. Frames are (time, channel, row, column), row 0 in the north. Smoothing is spatial within a step and causal over
steps, so that no frame depends on later events.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, UserError, listed, nearest
from wavefold.core.files import digest_file
from wavefold.core.registry import later
from wavefold.data.csv_text import column_names, column_place, csv_fields, first_line, is_row, line_blocks, one_named, shown
from wavefold.data.dataset import Floats, Ints
from wavefold.data.series import Seconds, Series, join_stretches, time_word
from wavefold.data.series_options import Events, Reading

ndimage = later("scipy.ndimage")

_USUAL = {  # usual column names, the likeliest first
    "time": "datetime,timestamp,date,time,occurred,second,seconds,minute,minutes,hour,hours,day,days,week,weeks",
    "x": "longitude,lon,lng,long,x",
    "y": "latitude,lat,y",
    "kind": "kind,type,category,primary type,primary_type,class,offense",
}
_UNITS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "week": 604800.0}
_DAY = 86400.0
_MOST = 1 << 32  # bytes of frames; 4 GiB hold a year of minutes on 45 x 45 cells
_OTHERS = (".parquet", ".json", ".geojson", ".xlsx", ".xls", ".shp", ".gpkg", ".npy")  # suffixes of tables that are not CSV
_EXAMPLE = "time,x,y,kind"
_Column = NDArray[np.generic] | list[str]  # (event,) as stored, or a CSV's fields
_NO_KIND = "events"  # the channel of a table without kinds


def read_events(path: Path, reading: Reading) -> Series:
    """Read events from a CSV or .npz into frames: counts, or rates if `reading.events` smooths.

    The first frame is the step of the first event: steps up to a day are counted from midnight, longer ones start at midnight
    before the first event. The last frame is the last complete step, assuming that the table covers the whole day (or shorter
    step) of its last event. Events outside the box (edges included) and rows without coordinates (NaN in an .npz) are counted
    in the notes. A row without a time, or with non-numeric coordinates, is a DataError that names it.
    """
    if reading.events is None:
        raise UserError(f"{path.name}: this is a table of events; set events.box and events.cells to grid it")
    events = reading.events
    seconds = _check(events)
    if path.is_dir() or path.suffix.lower() in _OTHERS:
        raise DataError(f"{path.name}: unsupported table format; save it as CSV (plain or gzip) or .npz")
    happened = _read_npz(path, events) if path.suffix.lower() == ".npz" else _read_csv(path, events)
    channels = _kept(_channels(happened, events, path.name), reading.channels, path.name)
    start, count = _steps(happened.times, seconds, path.name)
    _check_room((count, len(channels), *events.cells), events)
    frames, notes = _count_events(happened, events, list(channels.values()), (start, seconds, count), path.name)
    _smooth_cells(frames, events.smooth)
    _remember(frames, events.memory)
    starts, names = join_stretches([path.name.split(".")[0]], [count])
    west, east, south, north = events.box
    rows, columns = events.cells
    return Series(
        frames,
        starts,
        names,
        times=start + seconds * np.arange(count, dtype=np.float64),
        step=seconds,
        channels=tuple(channels),
        unit=reading.unit or f"events per {events.every.removeprefix('1 ')}",
        rows=north - (np.arange(rows) + 0.5) * (north - south) / rows,
        columns=west + (np.arange(columns) + 0.5) * (east - west) / columns,
        source=str(path),
        digest=digest_file(path),
        notes=(*happened.notes, *_midnights(happened.times, seconds, path.name), *notes),
    )


@dataclass(frozen=True, eq=False)
class _Happened:
    """The events of a table, in row order."""

    times: Seconds  # (event,) seconds since 1970
    x: Seconds  # (event,) NaN where the row has no coordinates
    y: Seconds  # (event,)
    kinds: Ints  # (event,) numbers of their names
    names: tuple[str, ...]  # of the kinds; () where the table has none
    notes: tuple[str, ...] = ()  # on how the times were read


def _check(events: Events) -> float:
    """Seconds per step; UserError for invalid options."""
    west, east, south, north = events.box
    if not (np.isfinite(events.box).all() and west < east and south < north):
        raise UserError(f"events.box: {list(events.box)}: expected west, east, south, north with west < east and south < north")
    if min(events.cells) < 1:
        raise UserError(f"events.cells: {list(events.cells)}: expected rows and columns of 1 or more")
    for key, value in (("smooth", events.smooth), ("memory", events.memory)):
        if not 0 <= value < np.inf:
            raise UserError(f"events.{key}: {value:g}: expected 0 or more")
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([a-z]+?)s?", events.every)
    if not found or found[2] not in _UNITS or not float(found[1]):
        raise UserError(f"events.every: '{events.every}': expected a number and one of {listed(_UNITS)}, such as '1 day'")
    return float(found[1]) * _UNITS[found[2]]


def _check_room(shape: tuple[int, ...], events: Events) -> None:
    size = 4 * int(np.prod([float(s) for s in shape]))
    if size > _MOST:
        words = f"{shape[0]:,} frames of {shape[1]} x {shape[2]} x {shape[3]} (channel, row, column)"
        raise UserError(f"events.every: '{events.every}' makes {words}, {size / 2**30:.1f} GiB; the limit is {_MOST >> 30} GiB")


# Reading the columns


def _read_csv(path: Path, events: Events) -> _Happened:
    columns = column_names(first_line(path), path.name, example=_EXAMPLE)
    wanted = _wanted(columns, events, path.name)
    numbers, words = _words(path, columns, [columns.index(name) for name in wanted.values()])

    def place(row: int) -> str:
        return f"{path.name} line {numbers[row]}"

    by_role = dict(zip(wanted, words, strict=True))
    kinds, names = _named_kinds(by_role["kind"]) if "kind" in by_role else _one_kind(len(numbers))
    times, notes = _times(by_role["time"], wanted["time"], events, events.epoch, path.name, place)
    x, y = (_places(by_role[role], wanted[role], place) for role in ("x", "y"))
    return _Happened(times, x, y, kinds, names, notes)


def _words(path: Path, columns: list[str], places: list[int]) -> tuple[list[int], list[list[str]]]:
    """Read the line number of each row and the fields of some columns; DataError for a row that does not match the header."""
    numbers: list[int] = []
    words: list[list[str]] = [[] for _ in places]
    for first, lines in line_blocks(path):
        inside = [(number, line) for number, line in enumerate(lines, first) if number > 1 and line.strip()]
        numbers += [number for number, _ in inside]
        rows = _rows_of([line for _, line in inside], len(columns)) or _rows_singly(inside, len(columns), path.name)
        for known, at in zip(words, places, strict=True):
            known += map(itemgetter(at), rows)
    if not numbers:
        raise DataError(f"{path.name}: contains no events, expected a header such as {_EXAMPLE} and rows below it")
    return numbers, words


def _rows_of(lines: list[bytes], width: int) -> list[list[str]]:
    """Split all lines into fields at once, which is twice as fast; empty if a line does not match."""
    try:
        rows = list(csv.reader(b"\n".join(lines).decode().split("\n"), strict=True))
    except (csv.Error, UnicodeDecodeError):
        return []
    return rows if len(rows) == len(lines) and all(len(row) == width for row in rows) else []


def _rows_singly(lines: list[tuple[int, bytes]], width: int, name: str) -> list[list[str]]:
    """Split each line into fields; DataError names a line that does not match."""
    rows = []
    for number, line in lines:
        is_row(line, name, number)
        rows.append(csv_fields(line, f"{name} line {number}"))
        if len(rows[-1]) != width:
            raise DataError(
                f"{name} line {number}: has {len(rows[-1])} field{'s' if len(rows[-1]) != 1 else ''}, expected {width}"
            )
    return rows


def _read_npz(path: Path, events: Events) -> _Happened:
    arrays = _arrays(path)
    columns = {name: values for name, values in arrays.items() if values.ndim == 1}
    wanted = _wanted(list(columns), events, path.name)
    time = columns[wanted["time"]]
    for name in wanted.values():
        if len(columns[name]) != len(time) or not len(time):
            raise DataError(
                f"{path.name}: {name} has {len(columns[name])} values, but {wanted['time']} has {len(time)}; "
                "expected equal lengths above 0"
            )
    epoch = events.epoch or str(arrays.get("epoch", ""))

    def place(row: int) -> str:
        return f"{path.name} event {row}"

    times, notes = _times(time, wanted["time"], events, epoch, path.name, place)
    x, y = (_places(columns[wanted[role]], wanted[role], place) for role in ("x", "y"))
    if "kind" not in wanted:
        return _Happened(times, x, y, *_one_kind(len(time)), notes)
    kinds, names = columns[wanted["kind"]], columns.get(f"{wanted['kind']}_names")
    if names is None or kinds.dtype.kind not in "iu":
        return _Happened(times, x, y, *_named_kinds(kinds.astype(np.str_).tolist()), notes)
    numbers = kinds.astype(np.int64)
    strange = (numbers >= len(names)) | (numbers < 0)
    if strange.any():
        at = int(np.argmax(strange))
        raise DataError(f"{place(at)}: {wanted['kind']} is {kinds[at]}, expected 0 to {len(names) - 1}, one per name")
    return _Happened(times, x, y, numbers, tuple(map(str, names.tolist())), notes)


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # NumPy, zipfile and zlib raise errors of many kinds for damaged files
        raise DataError(f"{path.name}: cannot be read as .npz: {' '.join(str(error).split())}") from None


def _wanted(columns: list[str], events: Events, name: str) -> dict[str, str]:
    """Map time, x, y and kind to their columns; without kind if there is no such column."""
    found = {}
    for role, usual in _USUAL.items():
        requested = getattr(events, role)
        if requested:
            found[role] = columns[column_place(columns, requested, name)]
        elif column := next(filter(None, (one_named(columns, word) for word in usual.split(","))), ""):
            found[role] = column
        elif role != "kind":
            raise DataError(f"{name}: no column for {role}, such as {usual}; available: {shown(columns)}; set events.{role}")
    return found


def _one_kind(count: int) -> tuple[Ints, tuple[str, ...]]:
    return np.zeros(count, np.int64), ()


def _named_kinds(words: Sequence[str]) -> tuple[Ints, tuple[str, ...]]:
    words = [word.strip() or "unknown" for word in words]
    names = tuple(sorted(set(words)))
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[word] for word in words], np.int64), names


def _places(values: _Column, column: str, place: Callable[[int], str]) -> Seconds:
    """(event,) coordinates, NaN if a row has none: an empty field in a CSV, NaN in an .npz."""
    if isinstance(values, np.ndarray):
        none = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), np.bool_)
        values = values.copy()
        values[none] = 0
    else:
        none = np.fromiter((not word.strip() for word in values), np.bool_, len(values))
        values = [word if word.strip() else "0" for word in values] if none.any() else values
    numbers = _coordinates(values, column, place)
    numbers[none] = np.nan
    return numbers


def _coordinates(values: _Column, column: str, place: Callable[[int], str]) -> Seconds:
    try:
        numbers = np.array(values, np.float64)
    except ValueError:
        at = next(i for i, word in enumerate(values) if not _number(word))
        raise DataError(f"{place(at)}: {column} is '{values[at]}', expected a number") from None
    if not np.isfinite(numbers).all():
        at = int(np.argmin(np.isfinite(numbers)))
        raise DataError(f"{place(at)}: {column} is {numbers[at]}, expected a number")
    return numbers


def _number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


# Times


@dataclass(frozen=True)
class _Dates:
    """How the dates of a table are written."""

    month_first: bool | None = None  # of 03/04/2023; None if dates are not written so
    local: bool = False  # whether offsets are left out
    notes: tuple[str, ...] = ()


def _times(
    values: _Column, column: str, events: Events, epoch: str, name: str, place: Callable[[int], str]
) -> tuple[Seconds, tuple[str, ...]]:
    """(event,) seconds from dates, text, or numbers that count from `epoch` in the unit given by the column name; and notes."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        if np.isnat(values).any():
            raise DataError(f"{place(int(np.argmax(np.isnat(values))))}: {column} is missing, expected a time")
        return values.astype("M8[us]").astype(np.int64) / 1e6, ()
    words = values.tolist() if isinstance(values, np.ndarray) and values.dtype.kind in "US" else values
    if isinstance(words, list) and not _number(words[0]):
        dates = _written(words, column, events, name)
        return np.fromiter(_moments(words, column, dates, place), np.float64, len(words)), dates.notes
    return _counted(_coordinates(words, column, place), column, epoch, name), ()


def _written(words: Sequence[str], column: str, events: Events, name: str) -> _Dates:
    """How dates are written, decided from all rows; DataError if the order of day and month remains open."""
    local = events.clock == "local"
    if not _SLASHED.match(words[0].strip()):
        ends = [word for word in (words[0], words[-1]) if _offset(word.strip())]
        note = (
            (
                f"{name}: {column} has offsets from UTC, such as '{ends[0]}': steps are counted in UTC; for days by the local "
                'clock set series.events.clock="local"'
            )
            if ends and not local
            else ""
        )
        return _Dates(None, local, (note,) if note else ())
    days = {word.strip().partition(" ")[0] for word in {word[:12] for word in words}}
    found = [(int(m[1]), int(m[2])) for day in days if (m := _SLASHED.match(day))]
    first, second = max(n for n, _ in found), max(n for _, n in found)
    if events.dates:
        return _Dates(events.dates == "month first", local)
    if first > 12 and second > 12:
        odd = [next(day for day in sorted(days) if (m := _SLASHED.match(day)) and int(m[i]) > 12) for i in (1, 2)]
        raise DataError(f"{name}: {column} has both {odd[0]} and {odd[1]}, one with the day first, one with the month first")
    if first > 12:
        return _Dates(False, local, (f"{name}: dates of {column} have the day first, as {words[0].strip()}",))
    if second > 12:
        return _Dates(True, local)
    if any(word[-2:].upper() in ("AM", "PM") for word in words):
        taken = (
            f"{name}: dates of {column} such as {words[0].strip()} are taken to have the month first, as AM and PM suggest; "
        )
        return _Dates(True, local, (taken + 'else set series.events.dates="day first"',))
    raise DataError(
        f"{name}: dates of {column} such as {words[0].strip()} could have the day or the month first, since no row has a "
        'number above 12 there; set series.events.dates="day first" or "month first"'
    )


_SLASHED = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-]\d{4}(?!\d)", re.ASCII)


def _offset(word: str) -> bool:
    """Whether a time has an offset from UTC other than 0."""
    try:
        return bool(datetime.fromisoformat(word).utcoffset())
    except ValueError:
        return False


def _counted(numbers: Seconds, column: str, epoch: str, name: str) -> Seconds:
    units = [unit for word in re.findall("[a-z]+", column.lower()) if (unit := word.removesuffix("s")) in _UNITS]
    if not units:
        raise DataError(f"{name}: column '{column}' has numbers; expected dates, or a unit in its name ({listed(_UNITS)})")
    if not epoch:
        raise DataError(f"{name}: column '{column}' counts {units[0]}s since an unknown date; set events.epoch")
    try:
        start = _seconds_of(epoch, _Dates())
    except ValueError:
        raise UserError(f"events.epoch: '{epoch}' is not a date, expected one such as 1970-01-01") from None
    return start + numbers * _UNITS[units[0]]


def _moments(words: Iterable[str], column: str, dates: _Dates, place: Callable[[int], str]) -> Iterator[float]:
    for row, word in enumerate(words):
        try:
            yield _seconds_of(word.strip(), dates)
        except ValueError:
            expected = "2016-01-31 23:05:00 or 01/31/2016 11:05:00 PM"
            if dates.month_first is False:
                expected = "31/01/2016 23:05:00, the day first as in other rows"
            raise DataError(f"{place(row)}: {column} is '{word}', expected a time such as {expected}") from None


def _seconds_of(word: str, dates: _Dates) -> float:
    """Parse ISO 8601, or a date with the year last as `dates` says, to seconds since 1970."""
    if dates.month_first is not None:
        day, _, clock = word.partition(" ")
        return _day(day, dates.month_first) + _clock(clock.strip())
    moment = datetime.fromisoformat(word)
    return (moment if moment.tzinfo and not dates.local else moment.replace(tzinfo=UTC)).timestamp()


@lru_cache(1 << 16)  # many events share a day
def _day(word: str, month_first: bool) -> float:
    first, second, year = re.split("[/.-]", word)
    if len(year) != 4:
        raise ValueError(word)
    month, day = (first, second) if month_first else (second, first)
    return datetime(int(year), int(month), int(day), tzinfo=UTC).timestamp()


@lru_cache(1 << 17)  # a day has 86,400 seconds
def _clock(word: str) -> float:
    if not word:
        return 0.0
    numbers, _, half = word.partition(" ")
    parts = numbers.split(":")
    hour, minute, second = map(int, parts if len(parts) != 2 else [*parts, "0"])
    if half:
        if half.upper() not in ("AM", "PM") or not 1 <= hour <= 12:
            raise ValueError(word)
        hour = hour % 12 + 12 * (half.upper() == "PM")
    if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 61):
        raise ValueError(word)
    return hour * 3600.0 + minute * 60.0 + second


# Counting and smoothing


def _channels(happened: _Happened, events: Events, name: str) -> dict[str, Ints]:
    """Channel names, and the numbers of the kinds counted in each."""
    names = happened.names
    if not events.kinds:
        return {names[i]: np.array([i]) for i in np.argsort(names)} if names else {_NO_KIND: np.array([0])}
    if not names:
        raise DataError(f"{name}: events.kinds is set, but the table has no column of kinds; set events.kind to a column")
    known = {word.casefold(): i for i, word in enumerate(names)}
    for channel, kinds in events.kinds.items():
        for kind in kinds:
            if kind.casefold() not in known:
                near = nearest(kind.casefold(), known)
                raise UserError(f"events.kinds.{channel}: '{kind}' is not one of {shown(names)}{near}")
    return {channel: np.array([known[kind.casefold()] for kind in kinds]) for channel, kinds in events.kinds.items()}


def _kept(channels: dict[str, Ints], wanted: Sequence[str], name: str) -> dict[str, Ints]:
    for channel in wanted:
        if channel not in channels:
            raise UserError(f"{name}: no channel '{channel}'; available: {shown(channels)}{nearest(channel, channels)}")
    return {channel: channels[channel] for channel in wanted or channels}


def _steps(times: Seconds, seconds: float, name: str) -> tuple[float, int]:
    """The start of the first step and the number of complete steps."""
    first, last = float(times.min()), float(times.max())
    midnight = first // _DAY * _DAY
    start = midnight + (first - midnight) // seconds * seconds
    cover = min(seconds, _DAY)
    end = start + ((last - start) // cover + 1) * cover
    count = int((end - start) / seconds + 1e-9)  # for steps without an exact binary representation
    if count < 1:
        days = (last - first) / _DAY
        raise DataError(f"{name}: events span {days:.1f} days, less than one step of events.every")
    return start, count


def _count_events(
    happened: _Happened, events: Events, channels: list[Ints], steps: tuple[float, float, int], name: str
) -> tuple[Floats, tuple[str, ...]]:
    """Count events, (time, channel, row, column), with notes on those left out. steps: start, seconds and count."""
    start, seconds, count = steps
    west, east, south, north = events.box
    row = _cell((north - happened.y) / (north - south), events.cells[0])
    column = _cell((happened.x - west) / (east - west), events.cells[1])
    step = ((happened.times - start) // seconds).astype(np.int64)
    inside, placed = (row >= 0) & (column >= 0), np.isfinite(happened.x) & np.isfinite(happened.y)
    if not placed.any():
        raise DataError(f"{name}: none of the {len(step):,} events has coordinates")
    if not inside.any():
        x, y = (f"{v[placed].min():.6g} to {v[placed].max():.6g}" for v in (happened.x, happened.y))
        raise DataError(f"{name}: no event is in events.box {list(events.box)} (west, east, south, north); x is {x}, y {y}")
    frames = np.zeros((count, len(channels), *events.cells), np.float32)
    for channel, kinds in enumerate(channels):
        chosen = inside & (step < count) & np.isin(happened.kinds, kinds)
        np.add.at(frames[:, channel], (step[chosen], row[chosen], column[chosen]), 1.0)
    left_out = {
        "have no coordinates": np.sum(~placed),
        "are outside the box": np.sum(placed & ~inside),
        "are after the last complete step": np.sum(inside & (step >= count)),
    }
    notes = [f"{name}: {n:,} of {len(step):,} events {why}" for why, n in left_out.items() if n]
    return frames, (*notes, *_silence(happened.times, seconds, count, name))


def _silence(times: Seconds, seconds: float, count: int, name: str) -> tuple[str, ...]:
    """A note if most steps fall between two consecutive events: one wrong date makes a century of empty frames."""
    ordered = np.sort(times)
    waits = np.diff(ordered)
    if not len(waits) or waits.max() < max(30, count / 2) * seconds:
        return ()
    at = int(np.argmax(waits))
    between = f"{time_word(ordered[at])} and {time_word(ordered[at + 1])}"
    return (f"{name}: no events between {between}, {int(waits[at] // seconds):,} of {count:,} steps; check for a wrong date",)


_MIDNIGHTS = 0.9  # of the times


def _midnights(times: Seconds, seconds: float, name: str) -> tuple[str, ...]:
    """A note if steps are shorter than a day, but most times are at 00:00, where tables put days without a clock."""
    share = float(np.mean(times % _DAY == 0))
    if seconds >= _DAY or share < _MIDNIGHTS or len(times) < 4:
        return ()
    many = "all times are" if share == 1 else f"{share:.0%} of the times are"
    return (f'{name}: {many} at 00:00, as where only the day is known; set series.events.every="1 day" for steps of days',)


def _cell(share: Seconds, cells: int) -> Ints:
    """The cell at a fraction of an axis's length, end included; -1 outside and for NaN."""
    inside = (share >= 0) & (share <= 1)  # NaN is outside
    return np.where(inside, np.minimum(np.floor(np.where(inside, share, 0) * cells), cells - 1).astype(np.int64), -1)


def _smooth_cells(frames: Floats, sigma: float) -> None:
    """Smooth with a Gaussian over rows and columns, in place; what spreads beyond the edge is lost."""
    if sigma:
        for frame in frames:
            frame[:] = ndimage.gaussian_filter(frame, (0, sigma, sigma), mode="constant")


def _remember(frames: Floats, half_life: float) -> None:
    """Exponential moving mean over a step and earlier ones, in place; weights halve every `half_life` steps."""
    if not half_life:
        return
    keep = np.float32(0.5 ** (1 / half_life))
    weight = np.float32(1.0)
    for before, frame in pairwise(frames):
        frame += keep * weight * before  # from the mean before back to its sum
        weight = 1 + keep * weight
        frame /= weight
