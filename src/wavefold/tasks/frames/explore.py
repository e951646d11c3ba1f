"""Data overview page of a source of frames, before training."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import UserError
from wavefold.data.dataset import Floats, Ints
from wavefold.data.fingerprints import fingerprints
from wavefold.data.lazy import blocks_of
from wavefold.data.series import Series, time_word
from wavefold.plots.canvas import lead_word
from wavefold.plots.charts import histogram, in_order, map_grid
from wavefold.recipe import Recipe
from wavefold.reports.page import Block, Chapter, Facts, Page, Table, Words
from wavefold.tasks.frames.doubts import doubts
from wavefold.tasks.frames.reading import read_frames, sections, split_windows, windows_in

Values = NDArray[np.float64]

_SHOWN = 6  # frames drawn per channel
_CHANNELS = 6
_COUNTED = 20_000  # values per histogram
_POINTS = 1000  # per curve in time


def explore_frames(recipe: Recipe, source: str) -> Page:
    """Build the page of a source of frames."""
    series, targets = read_frames(recipe, source)
    found = _Sums(series)
    chapters = [
        _there(series, targets),
        *_parts(recipe, series),
        _in_time(series, found),
        _maps(series, found),
        _frames(series),
        _values(series, found, recipe.seed),
        _defects(recipe, series, found),
    ]
    name = Path(series.source).name or series.source
    return Page(
        title=f"{name}: data overview",
        lead=f"{series.source}, read with recipe '{recipe.name}'. No model was trained.",
        chapters=chapters,
        headline=_headline(series, found),
    )


class _Sums:
    """Mean, spread and missing cells of a series, by frame and by cell, computed in one pass."""

    def __init__(self, series: Series) -> None:
        channels, (rows, columns) = len(series.channels), series.size
        shape = (channels, rows, columns)
        count, total, square = (np.zeros(shape) for _ in range(3))
        self.by_frame = np.full((len(series), channels, 3), np.nan)  # mean, lowest, highest
        self.missing = np.zeros(len(series))  # share of cells
        for at, frames in blocks_of(series.frames):
            known = np.isfinite(frames)
            values = np.where(known, frames, 0).astype(np.float64)
            count += known.sum(axis=0)
            total += values.sum(axis=0)
            square += (values**2).sum(axis=0)
            each = known.sum(axis=(2, 3))
            ends = [np.where(known, frames, np.inf).min(axis=(2, 3)), np.where(known, frames, -np.inf).max(axis=(2, 3))]
            mean = values.sum(axis=(2, 3)) / np.maximum(each, 1)
            self.by_frame[at] = np.where(each[..., None] > 0, np.stack([mean, *ends], axis=-1), np.nan)
            self.missing[at] = 1 - known.mean(axis=(1, 2, 3))
        self.never = count == 0  # (channel, row, column)
        some = np.maximum(count, 1)
        self.mean = np.where(self.never, np.nan, total / some)
        self.std = np.where(self.never, np.nan, np.sqrt(np.maximum(square / some - (total / some) ** 2, 0)))


def _headline(series: Series, found: _Sums) -> list[tuple[str, str]]:
    return [
        ("frames", f"{len(series):,}"),
        ("rows x columns", f"{series.size[0]} x {series.size[1]}"),
        (f"segment{'s' if len(series.starts) != 1 else ''} without gaps", f"{len(series.starts):,}"),
        ("missing cells", f"{found.missing.mean():.2%}"),
    ]


def _there(series: Series, targets: int) -> Chapter:
    lengths = series.ends - series.starts
    pairs = [
        ("source", series.source),
        ("frames", f"{len(series):,} of {series.size[0]} rows and {series.size[1]} columns"),
        ("channels", ", ".join(series.channels) or "1"),
        ("to forecast", ", ".join(series.channels[:targets])),
        ("unit", series.unit or "not given by the source"),
        ("step", step_words(series.step) if series.step else "not given by the source"),
        ("segments without gaps", f"{len(lengths):,}, of {int(lengths.min()):,} to {int(lengths.max()):,} frames"),
    ]
    if series.times is not None:
        pairs.append(("time", f"{time_word(series.times[0])} to {time_word(series.times[-1])} UTC"))
    for name, values, title in (("rows", series.rows, series.up), ("columns", series.columns, series.across)):
        if values is not None:
            pairs.append((name, f"{title} {values[0]:g} to {values[-1]:g}".strip()))
    pairs += [(name, value) for name, value in series.attrs.items()]
    pairs.append(("SHA-256", series.digest))
    return Chapter("Overview", [Facts(pairs)])


def step_words(seconds: float) -> str:
    """Format a time step: 5 min, 1 h, 1 d, 1 month."""
    return lead_word(1, seconds).removeprefix("+")


def _parts(recipe: Recipe, series: Series) -> list[Chapter]:
    """The recipe's split of the windows by time."""
    _, wanted = sections(recipe)
    lead = f"Windows of {wanted.past} past and {wanted.ahead} later frames, split by time; in each cut a window is in one part."
    try:
        windows = windows_in(recipe, series)
        splits = split_windows(recipe, windows)
    except UserError as error:
        return [Chapter("Split", [Words(str(error), "warning")], lead)]
    rows = []
    for fold, split in enumerate(splits):
        for name in ("train", "validation", "test"):
            part: Ints = getattr(split, name)
            ends = [] if not len(part) else [windows.first[part].min(), windows.first[part].max() + windows.length - 1]
            clock = [_moment(series, int(n)) for n in ends]
            rows.append([*([fold + 1] if len(splits) > 1 else []), name, len(part), *(clock or ["–", "–"])])
    heads = [*(["cut"] if len(splits) > 1 else []), "part", "windows", "first frame", "last frame"]
    return [Chapter("Split", [Table(heads, rows)], lead)]


def _moment(series: Series, number: int) -> str:
    return f"frame {number:,}" if series.times is None else time_word(series.times[number])


def _in_time(series: Series, found: _Sums) -> Chapter:
    """Mean, minimum and maximum of each frame over time."""
    some = np.unique(np.linspace(0, len(series) - 1, min(len(series), _POINTS)).round().astype(np.int64))
    titles = [_moment(series, int(n)) for n in some]
    blocks: list[Block] = []
    for c, channel in enumerate(series.channels[:_CHANNELS]):
        values = found.by_frame[some, c]
        curves = {"mean": values[:, 0].tolist(), "minimum": values[:, 1].tolist(), "maximum": values[:, 2].tolist()}
        up = f"{channel} ({series.unit})" if channel and series.unit else channel or series.unit or "value"
        blocks.append(in_order(curves, titles, "time (UTC)" if series.times is not None else "frame", up))
    return Chapter(
        "Time series", blocks, "Mean, minimum and maximum of each frame. Look for steps, trends and constant periods."
    )


def _maps(series: Series, found: _Sums) -> Chapter:
    blocks: list[Block] = []
    for c, channel in enumerate(series.channels[:_CHANNELS]):
        given = cells_of(series)
        blocks.append(map_grid(found.mean[c : c + 1].astype(np.float32), [f"{channel} mean"], series.unit, **given))
        blocks.append(
            map_grid(found.std[c : c + 1].astype(np.float32), [f"{channel} standard deviation"], series.unit, **given)
        )
    return Chapter("Mean and spread by cell", blocks, "Over all frames; empty cells are missing in every frame.")


class Cells(TypedDict):
    """Coordinates and axis titles of cells, as arguments of map charts."""

    rows: NDArray[np.float64] | None  # (row,)
    columns: NDArray[np.float64] | None  # (column,)
    across: str
    up: str


def cells_of(series: Series, rows: slice = slice(None), columns: slice = slice(None)) -> Cells:
    """Coordinates and axis titles of a series' cells, or of some of its rows and columns."""
    along = None if series.rows is None else series.rows[rows]
    across = None if series.columns is None else series.columns[columns]
    return {"rows": along, "columns": across, "across": series.across, "up": series.up}


def _frames(series: Series) -> Chapter:
    some = np.unique(np.linspace(0, len(series) - 1, min(len(series), _SHOWN)).round().astype(np.int64))
    frames: Floats = series.frames[some]
    titles = [_moment(series, int(n)) for n in some]
    blocks: list[Block] = []
    for c, channel in enumerate(series.channels[:_CHANNELS]):
        blocks += [Words(channel)] if len(series.channels) > 1 else []
        blocks.append(map_grid(frames[:, c], titles, series.unit, **cells_of(series)))
    return Chapter("Frames", blocks, "Evenly spaced over the source.")


def _values(series: Series, found: _Sums, seed: int) -> Chapter:
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(len(series))[:64])
    frames = series.frames[some]
    counts = {}
    for c, channel in enumerate(series.channels[:_CHANNELS]):
        values = frames[:, c][np.isfinite(frames[:, c])]
        counts[channel or "value"] = rng.permutation(values)[:_COUNTED].tolist()
    head = ["channel", "minimum", "mean", "maximum", "mean standard deviation of a cell"]
    rows = []
    for c, channel in enumerate(series.channels):
        each = found.by_frame[:, c]
        numbers = (np.nanmin(each[:, 1]), np.nanmean(each[:, 0]), np.nanmax(each[:, 2]), np.nanmean(found.std[c]))
        rows.append([channel, *(f"{v:.5g}" for v in numbers)])
    return Chapter("Values", [Table(head, rows), histogram(counts, series.unit or "value", log=True)], "")


def _defects(recipe: Recipe, series: Series, found: _Sums) -> Chapter:
    blocks: list[Block] = [Words(note, "warning") for note in series.notes]
    blocks += [Words(line, "warning") for line in doubts(recipe, series)]
    empty = int((found.missing == 1).sum())
    some = int(((found.missing > 0) & (found.missing < 1)).sum())
    if empty:
        blocks.append(Words(f"{empty:,} frame{'s have' if empty != 1 else ' has'} no values.", "warning"))
    if some:
        blocks.append(
            Words(
                f"{some:,} frame{'s have' if some != 1 else ' has'} missing cells; "
                f"{found.never.mean():.1%} of the cells are missing in every frame.",
                "warning",
            )
        )
    equal = _repeated(series)
    if equal:
        blocks.append(
            Words(
                f"{equal:,} frame{'s are' if equal != 1 else ' is'} identical to an earlier one: a stuck sensor or filled gap.",
                "warning",
            )
        )
    if not blocks:
        blocks.append(Words("None found: no gaps in time, missing cells or repeated frames.", "good"))
    return Chapter("Defects", blocks)


def _repeated(series: Series) -> int:
    """The number of frames that repeat an earlier one, not counting constant frames."""
    marks = fingerprints(series.frames)
    marks = marks[marks != 0]
    return len(marks) - len(np.unique(marks))
