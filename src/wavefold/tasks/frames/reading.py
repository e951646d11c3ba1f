"""Reads frames, cuts windows and splits them by time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wavefold.core.errors import DataError, UserError, listed, nearest
from wavefold.core.registry import build_part
from wavefold.data.dataset import Ints
from wavefold.data.series import Series, Windows
from wavefold.data.series_options import Events, Reading
from wavefold.data.series_reader import read_series
from wavefold.data.windows import TimeSplit, cut_windows, finite_share, split_by_time, split_rolling
from wavefold.recipe import Recipe, SeriesRecipe, WindowsRecipe

FRAME_SPLITS: dict[str, Callable[..., TimeSplit | list[TimeSplit]]] = {"rolling": split_rolling, "time": split_by_time}


def sections(recipe: Recipe) -> tuple[SeriesRecipe, WindowsRecipe]:
    """The recipe sections specific to forecasting."""
    assert recipe.windows is not None
    return recipe.series or SeriesRecipe(), recipe.windows


def read_frames(recipe: Recipe, source: str) -> tuple[Series, int]:
    """Read the frames of a source, target channels first; also returns the number of targets."""
    requested, _ = sections(recipe)
    series = read_series(source, _reading(requested, tuple(requested.channels)), layout=_layout(recipe))
    if not requested.targets:
        return series, len(series.channels)
    for name in requested.targets:
        if name not in series.channels:
            near = nearest(name, series.channels)
            raise UserError(
                f"series.targets: {source} has no channel '{name}'; available channels: {listed(series.channels)}{near}"
            )
    rest = [name for name in series.channels if name not in requested.targets]
    if list(series.channels) != [*requested.targets, *rest]:
        series = read_series(source, _reading(requested, (*requested.targets, *rest)), layout=_layout(recipe))
    return series, len(requested.targets)


def windows_in(recipe: Recipe, series: Series) -> Windows:
    """The recipe's windows in a series. DataError, with settings that would work, if it is too short for one."""
    try:
        return _windows(recipe, series)
    except DataError as error:
        raise DataError(f"{error}{_what_works(recipe, series)}") from None


def _windows(recipe: Recipe, series: Series) -> Windows:
    _, wanted = sections(recipe)
    return cut_windows(
        series,
        past=wanted.past,
        ahead=wanted.ahead,
        stride=wanted.stride,
        crop=wanted.crop,
        crop_stride=wanted.crop_stride,
    )


def with_truth(windows: Windows, targets: int) -> Windows:
    """Select the windows with any value in a later frame; DataError if there are none."""
    there = finite_share(windows, targets=targets) > 0
    if not there.any():
        raise DataError(
            f"{windows.series.source}: the later frames of the {len(windows):,} "
            f"test window{'s' if len(windows) != 1 else ''} have no values"
        )
    return windows.take(np.flatnonzero(there))


def split_windows(recipe: Recipe, windows: Windows) -> tuple[TimeSplit, ...]:
    """Split windows into parts by the recipe's method, once or several times, in time order.

    UserError, with settings that would work, if a part gets no window.
    """
    try:
        return _splits(recipe, windows)
    except UserError as error:
        raise UserError(f"{error}{_what_works(recipe, windows.series)}") from None


def _splits(recipe: Recipe, windows: Windows) -> tuple[TimeSplit, ...]:
    made = build_part(FRAME_SPLITS, recipe.split.way, recipe.split.options, "split", windows=windows)
    splits = (made,) if isinstance(made, TimeSplit) else tuple(made)
    for split in splits:
        if not len(split.train):
            raise UserError(f"{windows.series.source}: the training part has no windows; lower split.test or split.validation")
        if not len(split.validation) and not len(split.test):
            raise UserError("split: the test and validation parts are both empty; raise split.test")
    return splits


def _what_works(recipe: Recipe, series: Series) -> str:
    """Settings with which a series can be cut and split, nearest to the recipe's, as the end of a message; '' if none do."""
    _, wanted = sections(recipe)
    cuts = [{}, {"split.cuts": 2}, {"split.cuts": 1}] if recipe.split.way == "rolling" else [{}]
    lengths = [(wanted.past, wanted.ahead)]
    while max(lengths[-1]) > 1:
        lengths.append((max(1, lengths[-1][0] // 2), max(1, lengths[-1][1] // 2)))
    for past, ahead in lengths:
        for gap in ({}, {"split.gap": 0}):
            for cut in cuts:
                changes = {**cut, **gap}
                if (past, ahead) != (wanted.past, wanted.ahead):
                    changes |= {"windows.past": past, "windows.ahead": ahead}
                try:
                    changed = recipe.with_(changes)
                    _splits(changed, _windows(changed, series))
                except UserError:
                    continue
                return (
                    f"; this would do: {' '.join(f'--set {key}={value}' for key, value in changes.items())}" if changes else ""
                )
    return ""


def frames_of(windows: Windows) -> Ints:
    """The sorted indexes of all frames in some windows."""
    touched = np.zeros(len(windows.series) + 1, np.int64)
    firsts = np.unique(windows.first)
    np.add.at(touched, firsts, 1)
    np.add.at(touched, firsts + windows.length, -1)
    return np.flatnonzero(np.cumsum(touched)[:-1])


def _reading(requested: SeriesRecipe, channels: tuple[str, ...]) -> Reading:
    plain = requested.model_dump(include={"variable", "axes", "scale", "offset", "unit"})
    return Reading(**plain, channels=channels, missing=tuple(requested.missing), events=_events(requested))


def _events(requested: SeriesRecipe) -> Events | None:
    if requested.events is None:
        return None
    given = requested.events.model_dump(exclude={"box", "cells", "kinds"})
    (west, east, south, north), (rows, columns) = requested.events.box, requested.events.cells
    kinds = {channel: tuple(names) for channel, names in requested.events.kinds.items()}
    return Events(box=(west, east, south, north), cells=(rows, columns), kinds=kinds, **given)


def _layout(recipe: Recipe) -> str:
    return recipe.data.layout
