"""Reads an array, images, a grid or a table of timed events into one series of frames."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, UserError, listed, nearest, plural
from wavefold.core.registry import Table
from wavefold.data.cache import content_digest
from wavefold.data.layout import SeriesLayout
from wavefold.data.lazy import LARGE, Floats, Ints, Lazy, Signals, row_blocks, values_of
from wavefold.data.numbered import by_name
from wavefold.data.remote import local
from wavefold.data.series import Series, join_stretches, stretches, time_word
from wavefold.data.series_options import Reading

SERIES_LAYOUTS: Table[SeriesLayout] = Table("series_layouts")

_AS_STORED = Reading()


def read_series(source: str | Path, reading: Reading = _AS_STORED, *, layout: str = "auto") -> Series:
    """Read the frames of a file or folder, (time, channel, row, column) float32, NaN for missing values.

    layout: "auto" uses the suffix: .npy and .npz are arrays, .nc and .zarr grids, a folder has images or several files, which
    are joined in time order; with reading.events the source is a table of events. value = stored * scale + offset; stored
    codes in reading.missing become NaN. DataError for infinite values, files of different frame size, times that are not
    increasing, or no finite value at all.
    """
    path = local(source)
    if not reading.scale or not math.isfinite(reading.scale) or not math.isfinite(reading.offset):
        raise UserError(f"scale {reading.scale:g}, offset {reading.offset:g}: expected finite numbers and a scale other than 0")
    if layout not in ("auto", *SERIES_LAYOUTS):
        raise UserError(f"layout '{layout}' is not one of auto, {listed(SERIES_LAYOUTS)}{nearest(layout, SERIES_LAYOUTS)}")
    if not path.exists():
        beside = [f.name for f in path.parent.iterdir() if f.name != path.name] if path.parent.is_dir() else []
        raise DataError(f"{path}: no such file or folder{nearest(path.name, beside)}")
    name = _surest(path, reading) if layout == "auto" else layout
    files = SERIES_LAYOUTS[name].parts(path)
    if not files:
        raise DataError(f"{path}: contains no files of layout {name}")
    if list(files) == [path]:
        return replace(_one(path, name, reading), source=str(source))
    within = replace(reading, in_folder=True)
    joined = _joined([_one(file, _surest(file, within), within) for file in files], path)
    return replace(joined, source=str(source))


def _surest(path: Path, reading: Reading) -> str:
    """Return the layout with the highest confidence for a path; if none recognises it, raise the first test's error."""
    sure, wrong = {"": 0.0}, list[UserError]()
    for name, layout in SERIES_LAYOUTS.items():
        try:
            sure[name] = layout.sniff(path, reading)
        except UserError as error:
            wrong.append(error)
    best = max(sure, key=sure.__getitem__)
    if best:
        return best
    raise wrong[0] if wrong else DataError(f"{path}: no layout knows it; name one of {listed(SERIES_LAYOUTS)}")


def _one(path: Path, name: str, reading: Reading) -> Series:
    layout = SERIES_LAYOUTS[name]
    series = layout.read(path, reading)
    series = replace(series, digest=series.digest or _digest(path, layout))
    return series if layout.has_units else _with_meaning(_kept(series, reading, path.name), reading, path.name)


def _kept(series: Series, reading: Reading, place: str) -> Series:
    """The series with only the requested channels, in that order."""
    if not reading.channels or reading.channels == series.channels:
        return series
    for name in reading.channels:
        if name not in series.channels:
            raise UserError(
                f"{place}: no channel '{name}'; available: {listed(series.channels)}{nearest(name, series.channels)}"
            )
    if len(set(reading.channels)) < len(reading.channels):
        raise UserError(f"{place}: duplicate in channels {listed(reading.channels)}")
    index = np.array([series.channels.index(name) for name in reading.channels])
    frames = series.frames
    kept = frames.then(partial(_take, index)) if isinstance(frames, Lazy) else frames[:, index]
    return replace(series, frames=kept, channels=tuple(reading.channels))


def _take(index: Ints, frames: Floats) -> Floats:
    return frames[:, index]


@dataclass(frozen=True)
class _Meaning:
    """Decoding of stored values: value = stored * scale + offset, NaN for missing-value codes."""

    scale: float
    offset: float
    missing: tuple[float, ...]
    place: str

    def of(self, stored: NDArray[np.generic], numbers: Ints) -> Floats:
        """Decoded values of frames; DataError for an infinite value. numbers: the frames' numbers, for the message."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.scale == 1 and self.offset == 0:
                values = stored.astype(np.float32)
            else:
                values = (stored.astype(np.float64) * self.scale + self.offset).astype(np.float32)
            held = stored.astype(np.float32) if self.missing and stored.dtype == np.float64 else stored
            for code in self.missing:  # 1e20 in single precision is the same code in double
                values[held == (np.float32(code) if held is not stored else code)] = np.nan
        if np.isinf(values).any():
            frame, channel, row, column = (int(i) for i in np.argwhere(np.isinf(values))[0])
            raise DataError(
                f"{self.place} frame {numbers[frame]}, row {row}, column {column}: the value "
                f"{stored[frame, channel, row, column]:g} is not finite; if it is a missing-value code, add it to missing"
            )
        return values

    def load(self, frames: Lazy, numbers: Ints) -> Floats:
        """The same for frames read on demand."""
        return self.of(frames[numbers], numbers)


def _with_meaning(series: Series, reading: Reading, place: str) -> Series:
    """The series with its values decoded to float32 and checked; lazily if it is read on demand."""
    meaning = _Meaning(reading.scale, reading.offset, tuple(reading.missing), place)
    stored, count = series.frames, len(series)
    blocks = list(row_blocks(count, values=values_of(stored)))
    if isinstance(stored, Lazy):
        lazy = Lazy(partial(meaning.load, stored), np.arange(count), stored.one)
        _check_any((lazy[block] for block in blocks), place)
        return series.with_frames(lazy)
    values = np.empty(stored.shape, np.float32)
    for block in blocks:
        values[block] = meaning.of(stored[block], np.arange(block.start, block.stop))
    _check_any((values[block] for block in blocks), place)
    return series.with_frames(values)


def _check_any(blocks: Iterable[Floats], place: str) -> None:
    if not any(np.isfinite(block).any() for block in blocks):  # normally the first block is enough
        raise DataError(f"{place}: no value is finite; check missing, scale and offset")


def _joined(series: Sequence[Series], path: Path) -> Series:
    """Several files as one series, in time order if all have times, else in name order."""
    first = series[0]
    for one in series[1:]:
        _check_like(one, first)
    if len(series) > 1 and all(len(one) == 1 and one.times is None for one in series):
        return _one_frame_each(series, path)
    if all(one.times is not None for one in series):
        series = sorted(series, key=lambda one: float(one.times[0]) if one.times is not None else 0.0)
    counts = [len(one) for one in series]
    begins, _ = join_stretches([""] * len(counts), counts)
    joined = replace(
        series[0],
        frames=_together([one.frames for one in series]),
        starts=np.concatenate([one.starts + begin for one, begin in zip(series, begins, strict=True)]),
        names=np.array([_name(one, name) for one in series for name in one.names.tolist()], np.str_),
        times=None,
        step=max(one.step for one in series),
        digest=_digest_of(series),
        notes=_few(series),
    )
    if any(one.times is None for one in series):
        return joined
    times = np.concatenate([one.times for one in series if one.times is not None])
    return _continued(replace(joined, times=times), begins[1:], [Path(one.source).name for one in series], path.name)


def _one_frame_each(series: Sequence[Series], path: Path) -> Series:
    """Files of a frame each as one series, by the numbers or dates in their names."""
    numbered = by_name([Path(one.source).name for one in series], path.name)
    series = [series[i] for i in numbered.order]
    count = len(numbered.starts)
    names = [path.name] if count == 1 else [f"{path.name}-{i + 1}" for i in range(count)]
    gaps = numbered.gaps
    counted = plural(len(gaps), "gap")
    more = [f"{path.name}: {counted} in the numbers, the first: {gaps[0]}; {_GAP}"] if gaps else []
    return replace(
        series[0],
        frames=_together([one.frames for one in series]),
        starts=numbered.starts,
        names=np.array(names, np.str_),
        times=numbered.times,
        step=numbered.step or max(one.step for one in series),
        digest=_digest_of(series),
        notes=(*_few(series), *numbered.notes, *more),
    )


_GAP = "no window crosses a gap"  # how notes on gaps end
_NOTES = 3  # files of a folder whose notes are kept


def _few(series: Sequence[Series]) -> tuple[str, ...]:
    """The notes of the first files that have some; a folder may hold thousands."""
    noted = [one for one in series if one.notes]
    more = [f"... and {plural(len(noted) - _NOTES, 'more file')} with such notes"] if len(noted) > _NOTES else []
    return (*(note for one in noted[:_NOTES] for note in one.notes), *more)


def _digest_of(series: Sequence[Series]) -> str:
    return hashlib.sha256("".join(f"{s.digest}  {Path(s.source).name}\n" for s in series).encode()).hexdigest()


def _check_like(one: Series, first: Series) -> None:
    name, other = Path(one.source).name, Path(first.source).name
    if one.size != first.size:
        sizes = [f"{rows} x {columns}" for rows, columns in (one.size, first.size)]
        raise DataError(f"{name}: frame size is {sizes[0]} (rows x columns), but that of {other} is {sizes[1]}")
    if one.channels != first.channels:
        raise DataError(f"{name}: has channels {listed(one.channels)}, but {other} has {listed(first.channels)}")
    if one.unit != first.unit:
        raise DataError(f"{name}: unit is '{one.unit}', but that of {other} is '{first.unit}'")
    if one.step and first.step and abs(one.step - first.step) > 0.12 * first.step:  # months differ by that much
        raise DataError(f"{name}: has a frame every {one.step:g} s, but {other} every {first.step:g} s")
    if (one.times is None) != (first.times is None):
        bare, timed = (name, other) if one.times is None else (other, name)
        raise DataError(f"{bare}: has no times, but {timed} does")


def _name(series: Series, name: str) -> str:
    stem = Path(series.source).name.split(".")[0]
    return name if name.startswith(stem) else f"{stem}-{name}"


def _continued(joined: Series, begins: Ints, files: Sequence[str], place: str) -> Series:
    """Merge the stretches of consecutive files when one starts exactly one step after the previous one ends."""
    times = joined.times
    assert times is not None
    for begin, before, after in zip(begins, files[:-1], files[1:], strict=True):
        if times[begin] <= times[begin - 1]:
            raise DataError(
                f"{after}: begins at {time_word(times[begin])}, before {before} ends at {time_word(times[begin - 1])}; "
                "files must not overlap"
            )
    if np.any(np.diff(times) <= 0):  # sequences in one file overlap in time: nothing to merge
        return joined
    starts, step, gaps = stretches(times, place, joined.step)
    notes = (*(note for note in joined.notes if not note.endswith(_GAP)), *gaps)
    kept = np.isin(joined.starts, starts)
    if kept.sum() == len(starts):
        return replace(joined, starts=joined.starts[kept], names=joined.names[kept], step=step, notes=notes)
    names = np.array([f"{place}-{i + 1}" for i in range(len(starts))], np.str_)  # files of a frame each have no gaps
    return replace(joined, starts=starts, names=names, step=step, notes=notes)


def _together(parts: Sequence[Signals]) -> Signals:
    """Frames of several files as one, in memory if they are small enough."""
    total = sum(4 * len(part) * values_of(part) for part in parts)
    if total <= LARGE or not any(isinstance(part, Lazy) for part in parts):
        return np.concatenate([np.asarray(part) for part in parts])
    ends = np.cumsum([len(part) for part in parts])
    return Lazy(partial(_of_parts, tuple(parts), ends), np.arange(ends[-1]), parts[0].shape[1:])


def _of_parts(parts: tuple[Signals, ...], ends: Ints, numbers: Ints) -> Floats:
    made = np.empty((len(numbers), *parts[0].shape[1:]), np.float32)
    which = np.searchsorted(ends, numbers, side="right")
    for i in np.unique(which):
        made[which == i] = parts[i][numbers[which == i] - (ends[i] - len(parts[i]))]
    return made


def _digest(path: Path, layout: SeriesLayout) -> str:
    return content_digest([path]) if layout.digest is None else layout.digest(path)
