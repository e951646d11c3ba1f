"""From a source to frames, windows and the parts of time that they fall into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wavefold.base.build import build_part
from wavefold.base.errors import DataError, UserError, listed, nearest
from wavefold.base.series import Series, Windows
from wavefold.data.frames import read_series
from wavefold.data.reading_as import Events, Reading
from wavefold.prepare.windows import TimeSplit, cut_windows, finite_share, split_by_time
from wavefold.recipe import Recipe, SeriesRecipe, WindowsRecipe

FRAME_SPLITS = {"time": split_by_time}


def sections(recipe: Recipe) -> tuple[SeriesRecipe, WindowsRecipe]:
    """The sections that only recipes of frames have."""
    assert recipe.windows is not None
    return recipe.series or SeriesRecipe(), recipe.windows


def read_frames(recipe: Recipe, source: str) -> tuple[Series, int]:
    """The frames of a source with the channels to forecast first; and how many those are."""
    asked, _ = sections(recipe)
    series = read_series(Path(source), _reading(asked, tuple(asked.channels)), layout=_layout(recipe))
    if not asked.targets:
        return series, len(series.channels)
    for name in asked.targets:
        if name not in series.channels:
            near = nearest(name, series.channels)
            raise UserError(f"series.targets: {source} has no channel '{name}'; there are {listed(series.channels)}{near}")
    rest = [name for name in series.channels if name not in asked.targets]
    if list(series.channels) != [*asked.targets, *rest]:
        series = read_series(Path(source), _reading(asked, (*asked.targets, *rest)), layout=_layout(recipe))
    return series, len(asked.targets)


def windows_in(recipe: Recipe, series: Series) -> Windows:
    """The recipe's windows in a series."""
    _, wanted = sections(recipe)
    places: dict[str, Any] = {"crop": wanted.crop, "crop_stride": wanted.crop_stride}
    return cut_windows(series, past=wanted.past, ahead=wanted.ahead, stride=wanted.stride, **places)


def with_truth(windows: Windows, targets: int) -> Windows:
    """The windows that a score can be of: a later frame has a value somewhere. DataError where there is none."""
    there = finite_share(windows, targets=targets) > 0
    if not there.any():
        raise DataError(
            f"{windows.series.source}: none of the {len(windows):,} windows to test on has a value in a later frame"
        )
    return windows.take(np.flatnonzero(there))


def split_windows(recipe: Recipe, windows: Windows) -> TimeSplit:
    """The parts that windows fall into, by the recipe's way."""
    made: TimeSplit = build_part(FRAME_SPLITS, recipe.split.way, recipe.split.options, "split", windows=windows)
    if not len(made.train):
        raise UserError(f"{windows.series.source}: no window is left to learn from; lower split.test and split.validation")
    if not len(made.validation) and not len(made.test):
        raise UserError("split: there is neither a test nor a validation part; raise split.test")
    return made


def frames_of(windows: Windows) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The numbers of all frames that some windows touch, in their order."""
    touched = np.zeros(len(windows.series) + 1, np.int64)
    firsts = np.unique(windows.first)
    np.add.at(touched, firsts, 1)
    np.add.at(touched, firsts + windows.length, -1)
    return np.flatnonzero(np.cumsum(touched)[:-1])


def check_like(series: Series, facts: dict[str, Any]) -> None:
    """UserError unless frames have the channels, the unit and the step that a run learned from, where both are known."""
    learned, place = tuple(facts["channels"]), series.source
    alone = len(series.channels) == len(learned) == 1  # which then needs no name
    if series.channels != learned and not alone:
        raise UserError(f"{place}: has channels {listed(series.channels)}; the run learned from {listed(learned)}")
    if series.unit and facts["unit"] and series.unit != facts["unit"]:
        raise UserError(f"{place}: its unit is '{series.unit}'; the run learned from '{facts['unit']}'")
    if series.step and facts["step"] and abs(series.step - facts["step"]) > _SLACK * facts["step"]:
        raise UserError(f"{place}: has a frame every {series.step:g} s; the run learned from one every {facts['step']:g} s")


_SLACK = 0.12  # of a step; months differ by that much


def _reading(asked: SeriesRecipe, channels: tuple[str, ...]) -> Reading:
    plain = asked.model_dump(include={"variable", "axes", "scale", "offset", "unit"})
    return Reading(**plain, channels=channels, missing=tuple(asked.missing), events=_events(asked))


def _events(asked: SeriesRecipe) -> Events | None:
    if asked.events is None:
        return None
    given = asked.events.model_dump(exclude={"box", "cells", "kinds"})
    (west, east, south, north), (rows, columns) = asked.events.box, asked.events.cells
    kinds = {channel: tuple(names) for channel, names in asked.events.kinds.items()}
    return Events(box=(west, east, south, north), cells=(rows, columns), kinds=kinds, **given)


def _layout(recipe: Recipe) -> str:
    return recipe.data.layout
