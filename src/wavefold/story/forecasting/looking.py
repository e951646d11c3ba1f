"""What a source of frames holds, as a page to look at before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefold.base.blocks import blocks_of
from wavefold.base.dataset import Floats, Ints
from wavefold.base.errors import UserError
from wavefold.base.seen import fingerprints
from wavefold.base.series import Series, time_word
from wavefold.output.canvas import lead_word
from wavefold.output.charts import histogram, in_order, map_grid
from wavefold.output.page import Block, Chapter, Facts, Page, Table, Words
from wavefold.recipe import Recipe
from wavefold.story.forecasting.reading import read_frames, sections, split_windows, windows_in

Values = NDArray[np.float64]

_SHOWN = 6  # frames that are drawn, of each channel
_CHANNELS = 6
_COUNTED = 20_000  # values of a histogram
_POINTS = 1000  # of a curve in time


def look_at_frames(recipe: Recipe, source: str) -> Page:
    """The page of a source of frames."""
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
        title=f"{name}: a look at the frames",
        lead=f"{series.source}, read as the recipe {recipe.name} reads it. Nothing was trained.",
        chapters=chapters,
        headline=_headline(series, found),
    )


class _Sums:
    """Mean, spread and missing cells of a series, by frame and by cell, read once."""

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
        ("stretches without a gap", f"{len(series.starts):,}"),
        ("cells without a value", f"{found.missing.mean():.2%}"),
    ]


def _there(series: Series, targets: int) -> Chapter:
    lengths = series.ends - series.starts
    pairs = [
        ("source", series.source),
        ("frames", f"{len(series):,} of {series.size[0]} rows and {series.size[1]} columns"),
        ("channels", ", ".join(series.channels) or "1"),
        ("to forecast", ", ".join(series.channels[:targets])),
        ("unit", series.unit or "not said by the source"),
        ("step", step_words(series.step) if series.step else "not said by the source"),
        ("stretches", f"{len(lengths):,}, of {int(lengths.min()):,} to {int(lengths.max()):,} frames"),
    ]
    if series.times is not None:
        pairs.append(("time", f"{time_word(series.times[0])} to {time_word(series.times[-1])} UTC"))
    for name, values in (("rows", series.rows), ("columns", series.columns)):
        if values is not None:
            pairs.append((name, f"{values[0]:g} to {values[-1]:g}"))
    pairs.append(("SHA-256", series.digest))
    return Chapter("What is there", [Facts(pairs)])


def step_words(seconds: float) -> str:
    """A step for people: 5 min, 1 h, 1 d, 1 month."""
    return lead_word(1, seconds).removeprefix("+")


def _parts(recipe: Recipe, series: Series) -> list[Chapter]:
    """How the recipe would split the windows in time."""
    _, wanted = sections(recipe)
    lead = f"Windows of {wanted.past} past frames and {wanted.ahead} later ones, split by time; no window is in two parts."
    try:
        windows = windows_in(recipe, series)
        split = split_windows(recipe, windows)
    except UserError as error:
        return [Chapter("Parts", [Words(str(error), "warning")], lead)]
    rows = []
    for name in ("train", "validation", "test"):
        part: Ints = getattr(split, name)
        ends = [] if not len(part) else [windows.first[part].min(), windows.first[part].max() + windows.length - 1]
        clock = [_moment(series, int(n)) for n in ends]
        rows.append([name, len(part), *(clock or ["–", "–"])])
    return [Chapter("Parts", [Table(["part", "windows", "first frame", "last frame"], rows)], lead)]


def _moment(series: Series, number: int) -> str:
    return f"frame {number:,}" if series.times is None else time_word(series.times[number])


def _in_time(series: Series, found: _Sums) -> Chapter:
    """The mean of each frame and its ends, in the order of time."""
    some = np.unique(np.linspace(0, len(series) - 1, min(len(series), _POINTS)).round().astype(np.int64))
    titles = [_moment(series, int(n)) for n in some]
    blocks: list[Block] = []
    for c, channel in enumerate(series.channels[:_CHANNELS]):
        values = found.by_frame[some, c]
        curves = {"mean": values[:, 0].tolist(), "lowest": values[:, 1].tolist(), "highest": values[:, 2].tolist()}
        up = f"{channel} ({series.unit})" if channel and series.unit else channel or series.unit or "value"
        blocks.append(in_order(curves, titles, "time (UTC)" if series.times is not None else "frame", up))
    return Chapter(
        "In time", blocks, "Mean, lowest and highest value of each frame. Steps, trends and dead stretches show here."
    )


def _maps(series: Series, found: _Sums) -> Chapter:
    blocks: list[Block] = []
    for c, channel in enumerate(series.channels[:_CHANNELS]):
        given = cells_of(series)
        blocks.append(map_grid(found.mean[c : c + 1].astype(np.float32), [f"{channel} mean"], series.unit, **given))
        blocks.append(
            map_grid(found.std[c : c + 1].astype(np.float32), [f"{channel} standard deviation"], series.unit, **given)
        )
    return Chapter("Mean and spread by cell", blocks, "Over all frames; empty cells never have a value.")


def cells_of(series: Series) -> dict[str, Any]:
    """The coordinates of a series' cells, and what they are, as charts of maps take them."""
    return {"rows": series.rows, "columns": series.columns, "across": series.across, "up": series.up}


def _frames(series: Series) -> Chapter:
    some = np.unique(np.linspace(0, len(series) - 1, min(len(series), _SHOWN)).round().astype(np.int64))
    frames: Floats = series.frames[some]
    titles = [_moment(series, int(n)) for n in some]
    blocks: list[Block] = []
    for c, channel in enumerate(series.channels[:_CHANNELS]):
        blocks += [Words(channel)] if len(series.channels) > 1 else []
        blocks.append(map_grid(frames[:, c], titles, series.unit, **cells_of(series)))
    return Chapter("Frames", blocks, "Evenly spread over the whole source.")


def _values(series: Series, found: _Sums, seed: int) -> Chapter:
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(len(series))[:64])
    frames = series.frames[some]
    counts = {}
    for c, channel in enumerate(series.channels[:_CHANNELS]):
        values = frames[:, c][np.isfinite(frames[:, c])]
        counts[channel or "value"] = rng.permutation(values)[:_COUNTED].tolist()
    head = ["channel", "lowest", "mean", "highest", "spread (standard deviation by cell, mean)"]
    rows = []
    for c, channel in enumerate(series.channels):
        each = found.by_frame[:, c]
        numbers = (np.nanmin(each[:, 1]), np.nanmean(each[:, 0]), np.nanmax(each[:, 2]), np.nanmean(found.std[c]))
        rows.append([channel, *(f"{v:.5g}" for v in numbers)])
    return Chapter("Values", [Table(head, rows), histogram(counts, series.unit or "value", log=True)], "")


def _defects(recipe: Recipe, series: Series, found: _Sums) -> Chapter:
    blocks: list[Block] = [Words(note, "warning") for note in series.notes]
    blocks += [Words(line, "warning") for line in _codes(recipe, series)]
    empty = int((found.missing == 1).sum())
    some = int(((found.missing > 0) & (found.missing < 1)).sum())
    if empty:
        blocks.append(Words(f"{empty:,} frames have no value at all.", "warning"))
    if some:
        blocks.append(
            Words(f"{some:,} frames lack some cells; {found.never.mean():.1%} of the cells never have a value.", "warning")
        )
    equal = _repeated(series)
    if equal:
        blocks.append(Words(f"{equal:,} frames are equal, value by value, to an earlier one: stuck, or filled in.", "warning"))
    if not blocks:
        blocks.append(Words("None found: no gap in time, no missing cell, no repeated frame.", "good"))
    return Chapter("Defects", blocks)


def _codes(recipe: Recipe, series: Series) -> list[str]:
    """A line for each end of the values that many cells hold and none comes near: likely a code of no value."""
    some = np.unique(np.linspace(0, len(series) - 1, min(len(series), _CODED)).round().astype(np.int64))
    frames, options, lines = series.frames[some], sections(recipe)[0], []
    for c, channel in enumerate(series.channels):
        held = frames[:, c][np.isfinite(frames[:, c])].astype(np.float64)
        for end in {float(held.min()), float(held.max())} if held.size else ():
            others = held[held != end]
            share = 1 - len(others) / len(held)
            if share > _OFTEN and len(np.unique(others)) > _MANY and np.abs(others - end).min() > _APART * np.ptp(others):
                code = (end - options.offset) / options.scale
                code = round(code) if abs(code - round(code)) < _ROUNDING * max(1, abs(code)) else code
                words = f"{share:.1%} of the values are {end:g}, far from all others: a code of no value?"
                lines.append(f"{channel}: {words} Then read with --set series.missing=[{code:.9g}]")
    return lines


_CODED = 16  # frames that are searched for codes
_ROUNDING = 1e-5  # of a value that is kept as float32
_OFTEN, _APART, _MANY = 0.001, 0.5, 9  # of the values; of the range of the others, which are more than counts of a few


def _repeated(series: Series) -> int:
    """Frames that repeat an earlier one; frames of one value throughout are left out."""
    marks = fingerprints(series.frames)
    marks = marks[marks != 0]
    return len(marks) - len(np.unique(marks))
