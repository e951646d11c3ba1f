"""Makes frames of another source like those of a run: channels by name, cells by coordinate, values in the run's unit.

What a source states is compared with what the run's source stated: it is put in order, converted, or refused by name.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, UserError, listed
from wavefold.core.records import RunInfo
from wavefold.data.lazy import Floats, Ints, Lazy
from wavefold.data.series import FILE_UNIT, Series
from wavefold.data.units import conversion, is_same
from wavefold.recipe import Recipe
from wavefold.tasks.frames.forecasts import Forecasts
from wavefold.tasks.frames.reading import read_frames, sections

_MONTH = 27 * 86400.0  # seconds
_SLACK, _MONTHS = 0.01, 0.12  # relative tolerance of a step; months differ in length
_NEAR = 0.02  # tolerance of a coordinate, in cells
_ANY = ("value", "frames", "film", "data", "array", "arr_0")  # names of a channel that say nothing
_IN_BRACKETS = re.compile(r"\(([^()]*)\)\s*$")


def read_like_run(recipe: Recipe, source: str, info: RunInfo) -> Series:
    """Read frames as a run's were: its channels, target channels first, in its order of cells and in its unit."""
    return like_run(read_frames(recipe, source)[0], info, recipe)


def like_run(series: Series, info: RunInfo, recipe: Recipe) -> Series:
    """The frames in the order and unit of the run's; UserError if channels, unit, step or region differ otherwise.

    What was changed, or could not be compared because the source does not state it, is added to the notes.
    """
    series = _channelled(series, info)
    _check_step(series, info)
    series = _placed(series, info, anywhere=bool(sections(recipe)[1].crop))
    return _in_unit(series, info, named=bool(sections(recipe)[0].unit))


def as_source(forecasts: Forecasts, rows: NDArray[np.float64] | None, columns: NDArray[np.float64] | None) -> Forecasts:
    """Forecasts with rows and columns in the order of their source, whose coordinates are given."""
    for axis, ours in ((-2, rows), (-1, columns)):
        theirs = forecasts.rows if axis == -2 else forecasts.columns
        if ours is None or theirs is None or np.array_equal(ours, theirs):
            continue
        order = _order(ours, theirs, round_earth=True)
        take = np.arange(len(ours)) if order is None else order
        past = None if forecasts.past is None else np.take(forecasts.past, take, axis)
        frames = np.take(forecasts.frames, take, axis)
        located = replace(forecasts, rows=ours) if axis == -2 else replace(forecasts, columns=ours)
        forecasts = replace(located, frames=frames, past=past)
    return forecasts


def _channelled(series: Series, info: RunInfo) -> Series:
    """The run's channels by name. A single one may have another name, which is noted."""
    learned, have = info.channels, series.channels
    if have == learned:
        return series
    if len(have) == len(learned) == 1:
        if {have[0], learned[0]} & set(_ANY):
            return replace(series, channels=learned)
        return _noted(replace(series, channels=learned), f"channel '{have[0]}' is taken for '{learned[0]}', the run's only one")
    if set(learned) != set(have):
        raise UserError(f"{series.source}: channels are {listed(have)}; the run was trained on {listed(learned)}")
    order = np.array([have.index(name) for name in learned])
    return _noted(replace(_taken(series, order, -3), channels=learned), "channels put in the order of the run, by name")


def _check_step(series: Series, info: RunInfo) -> None:
    if series.step and info.step:
        slack = _MONTHS if info.step > _MONTH else _SLACK
        if abs(series.step - info.step) > slack * info.step:
            raise UserError(f"{series.source}: the step is {series.step:g} s; the run was trained on a step of {info.step:g} s")


def _placed(series: Series, info: RunInfo, *, anywhere: bool) -> Series:
    """Rows and columns in the run's order, by coordinate; another region of the same size is refused.

    anywhere: whether the run was trained on crops, and so forecasts other regions too, with a note.
    """
    for axis, word, learned, title in ((-2, "rows", info.rows, info.up), (-1, "columns", info.columns, info.across)):
        there, mine = (series.rows, series.up) if axis == -2 else (series.columns, series.across)
        if learned is None or len(learned) != series.frames.shape[axis]:
            continue
        ours = np.array(learned, np.float64)
        if there is None:
            note = f"states no coordinates of {word}: they are taken to be those of the run, {_ends(ours, title)}"
            series = _noted(_located(series, axis, ours, title), note)
            continue
        try:
            order = _order(ours, _converted(there, mine, title), round_earth=_is_longitude(title) and _is_longitude(mine))
        except DataError:
            if not anywhere:
                raise DataError(
                    f"{series.source}: {word} are at {_ends(there, mine)}; the run was trained on {_ends(ours, title)} and "
                    "forecasts that region only; train on these frames, or set windows.crop in training for a run that "
                    "forecasts any region"
                ) from None
            series = _noted(series, f"{word} are at {_ends(there, mine)}, not at {_ends(ours, title)} as in training")
            continue
        if order is not None:
            series = _noted(_taken(series, order, axis), f"{word} put in the order of the run, {_ends(ours, title)}")
        series = _located(series, axis, ours, title)
    return series


def _in_unit(series: Series, info: RunInfo, *, named: bool) -> Series:
    """Values in the run's unit. named: whether series.unit replaces the unit that sources state."""
    ours, theirs = info.unit, series.unit
    if named:
        ours, theirs = info.attrs.get(FILE_UNIT, ""), series.attrs.get(FILE_UNIT, "")
        if ours and theirs and not is_same(theirs, ours):
            raise UserError(
                f"{series.source}: the file states the unit {theirs}; that of the run's training stated {ours}, which "
                f"series.unit calls {info.unit}; convert the file to {ours}"
            )
        return series
    if not ours or ours == theirs:
        return series
    if not theirs:
        return _noted(replace(series, unit=ours), f"states no unit: values are taken to be in {ours}, as in training")
    try:
        factor, offset = conversion(theirs, ours)
    except DataError as error:
        raise DataError(f"{series.source}: {error}, the unit of the run") from None
    if (factor, offset) == (1.0, 0.0):
        return replace(series, unit=ours)
    step = partial(_scaled, factor, offset)
    frames = series.frames.then(step) if isinstance(series.frames, Lazy) else step(series.frames)
    return _noted(replace(series, frames=frames, unit=ours), f"values converted from {theirs} to {ours}, as in training")


def _scaled(factor: float, offset: float, frames: Floats) -> Floats:
    return (frames * np.float64(factor) + offset).astype(np.float32)


def _taken(series: Series, order: Ints, axis: int) -> Series:
    """The series with some axis of its frames in another order. axis: -3 channels, -2 rows, -1 columns."""
    step = partial(np.take, indices=order, axis=axis)
    frames = series.frames.then(step) if isinstance(series.frames, Lazy) else step(series.frames)
    return series.with_frames(frames)


def _located(series: Series, axis: int, values: NDArray[np.float64], title: str) -> Series:
    return replace(series, rows=values, up=title) if axis == -2 else replace(series, columns=values, across=title)


def _noted(series: Series, note: str) -> Series:
    return replace(series, notes=(*series.notes, f"{series.source}: {note}"))


def _order(ours: NDArray[np.float64], theirs: NDArray[np.float64], *, round_earth: bool) -> Ints | None:
    """The numbers of their cells in our order, by coordinate; None if they are in it. DataError for other coordinates.

    round_earth: whether 350 degrees is -10 degrees.
    """
    near = _NEAR * float(np.median(np.abs(np.diff(ours)))) if len(ours) > 1 else 1e-6 * max(1.0, abs(float(ours[0])))
    if round_earth:
        least = float(ours.min()) - near
        theirs = (theirs - least) % 360 + least
    if np.allclose(theirs, ours, rtol=0, atol=near):
        return None
    order = np.empty(len(ours), np.int64)
    order[np.argsort(ours, kind="stable")] = np.argsort(theirs, kind="stable")
    if not np.allclose(theirs[order], ours, rtol=0, atol=near):
        raise DataError("other coordinates")
    return order


def _converted(values: NDArray[np.float64], title: str, into: str) -> NDArray[np.float64]:
    """Coordinates in the unit of others, if both state one: "y (km)", "y (m)"."""
    mine, other = (_IN_BRACKETS.search(word) for word in (title, into))
    if mine is None or other is None or mine[1].startswith("degree") or mine[1] == other[1]:
        return values
    factor, offset = conversion(mine[1], other[1])
    return values * factor + offset


def _is_longitude(title: str) -> bool:
    word = title.lower()
    return "lon" in word or "degree" in word


def _ends(values: NDArray[np.float64], title: str) -> str:
    name = f"{title} " if title else ""
    return f"{name}{values[0]:g} to {values[-1]:g}"
