"""Report page of a forecasting run: scores, skill by lead, forecasts against the truth, and distribution shift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from wavefold.core.errors import UserError, plural
from wavefold.core.records import Scores
from wavefold.core.run import RunFolder
from wavefold.data.dataset import Floats, Ints
from wavefold.data.series import Series, Windows, time_word
from wavefold.data.statistics import drift
from wavefold.data.windows import TimeSplit
from wavefold.evaluation.spectrum import radial_power
from wavefold.plots.canvas import lead_word
from wavefold.plots.charts import by_lead, forecast_player, in_order, map_grid, power_spectrum, scores_with_intervals
from wavefold.recipe import Recipe, digest_of
from wavefold.reports.chapters import (
    drifted,
    headline,
    learning_chapter,
    measured_words,
    predictor_rows,
    repeat_chapter,
    report_lead,
    standing_block,
)
from wavefold.reports.page import Block, Chapter, Page, Table, Words
from wavefold.reports.score_table import with_unit
from wavefold.tasks.frames.explore import Cells, cells_of
from wavefold.tasks.frames.fit import truth_of
from wavefold.tasks.frames.inference import Forecaster, where_seen
from wavefold.tasks.frames.reading import frames_of, read_frames, split_windows, windows_in, with_truth

Log = Callable[[str], None]
Values = NDArray[np.float64]

_LOOKED = 48  # most test windows to forecast again, evenly spread
_CURVES = ("rmse", "mae", "ssim", "csi", "fss", "sharpness")  # drawn by lead in addition to the recipe's metric
_FRAMES = 1000  # per part, whose values are compared
_PANELS = 8  # leads per figure of maps


def report_frames(run: RunFolder, recipe: Recipe, data: str, warn: Log) -> Page:
    """Build the report page of a forecasting run. data: new location of its frames, or '' if they have not moved."""
    scores, info = run.scores, run.metadata
    again = _frames_again(run, recipe, data, warn)
    chapters = [_score(scores), _by_lead(scores), learning_chapter(run, recipe, scores.metric)]
    if again is not None:
        chapters += _forecasts(run, recipe, *again)
    chapters.append(repeat_chapter(run, recipe))
    return Page(
        title=f"{info.recipe}: run report",
        lead=report_lead(run, scores, info),
        chapters=chapters,
        headline=headline(scores, "windows"),
    )


def _score(scores: Scores) -> Chapter:
    rows = predictor_rows(scores)
    value, low, high = np.array([row.measure(scores.metric) for _, _, row in rows], np.float64).T
    name, kinds = with_unit(scores.metric, scores), [kind for _, kind, _ in rows]
    blocks: list[Block] = [*standing_block(scores), *(Words(note, "warning") for note in scores.notes)]
    blocks.append(scores_with_intervals([n for n, _, _ in rows], value, low, high, name, kinds))
    names = list(scores.score.by_lead)
    cells = [[row_name, *(measured_words(row.measure(m)) for m in names)] for row_name, _, row in rows]
    blocks.append(Table(["", *(with_unit(m, scores) for m in names)], cells, "Over all leads."))
    blocks += _differences(scores)
    better = "higher is better" if scores.higher_is_better else "lower is better"
    where = (
        f"over all leads of {plural(scores.n, 'window')} in {plural(scores.blocks, 'block')} of time"
        f"{', with 95 % intervals' if np.isfinite(low).any() else ''}"
    )
    return Chapter("Score", blocks, f"{name} ({better}) {where}.")


def _differences(scores: Scores) -> list[Block]:
    """A table of ensemble - baseline on the same windows, by metric; none for runs of earlier versions."""
    rows = [row for row in scores.baselines if row.differences]
    if not rows:
        return []
    cells = [[with_unit(name, scores), *(measured_words(row.compared(name)) for row in rows)] for name in scores.score.by_lead]
    return [Table(["", *(f"ensemble - {row.name}" for row in rows)], cells, "Paired differences over all leads.")]


def _by_lead(scores: Scores) -> Chapter:
    """Metrics by lead time of the ensemble and the baselines; and skill against each baseline."""
    leads = [lead_word(k + 1, scores.step or 0.0) for k in range(scores.leads)]
    rows = {"ensemble": scores.score, **{row.name: row for row in scores.baselines}}
    blocks: list[Block] = []
    for metric in dict.fromkeys([scores.metric, *(m for m in _CURVES if m in scores.score.by_lead)]):
        lines = {name: _known(row.by_lead[metric]) for name, row in rows.items()}
        blocks.append(by_lead(lines, metric, leads, scores.units.get(metric, "")))
    skill = {f"against {row.name}": _known([v[0] for v in row.skill]) for row in scores.baselines}
    if skill:
        blocks.append(by_lead(skill, "skill", leads, "1 - mse / baseline mse"))
    lead = "Skill above 0 is better than the baseline; 1 is perfect."
    return Chapter("Skill by lead time", blocks, lead)


def _known(values: Sequence[float | None]) -> list[float]:
    return [np.nan if v is None else v for v in values]


def _frames_again(run: RunFolder, recipe: Recipe, data: str, warn: Log) -> tuple[Series, int] | None:
    """Read the frames the run was trained and tested on; None, with a warning, if they are unavailable."""
    source = data or run.source
    try:
        series, targets = read_frames(recipe, source)
    except UserError as error:
        if data:
            raise
        warn(f"{error}; the report shows no forecasts (give the location of the frames with --data)")
        return None
    own = digest_of([series.digest, list(series.channels), list(series.frames.shape)])
    if own != run.metadata.identity.data:
        if data:
            raise UserError(
                f"{data}: does not match the training data of the run, {run.metadata.source}; "
                "give their location with --data, or omit it"
            )
        warn(f"{source}: no longer matches the training data; the report shows no forecasts (give their location with --data)")
        return None
    return series, targets


def _forecasts(run: RunFolder, recipe: Recipe, series: Series, targets: int) -> list[Chapter]:
    """Forecasts of test windows against the truth, errors, sharpness, and distribution shift."""
    windows = windows_in(recipe, series)
    split = split_windows(recipe, windows)[-1]  # of the fold that forecasts, the last one
    tested = with_truth(windows.take(split.judged), targets)
    some = tested.take(np.unique(np.linspace(0, len(tested) - 1, min(len(tested), _LOOKED)).round().astype(np.int64)))
    forecaster = Forecaster(run, recipe, targets)
    requested = _InputBatch(forecaster, some, "test" if len(split.test) else "validation")
    return [
        _played(
            requested,
            "Forecast with the most change",
            requested.liveliest,
            f"The {requested.part} window whose frames change most. Press play or drag the slider.",
        ),
        _played(
            requested,
            "Worst forecast",
            requested.worst,
            f"The largest error among {len(some):,} {requested.part} window{'s' if len(some) != 1 else ''}.",
        ),
        _errors(requested),
        _sharpness(requested),
        _past(requested),
        _not_shown(recipe, windows, split, targets),
    ]


class _InputBatch:
    """Some test windows with truth and forecasts, in the unit of the frames."""

    def __init__(self, forecaster: Forecaster, windows: Windows, part: str) -> None:
        self.windows, self.forecaster, self.part = windows, forecaster, part
        parts = [answers for _, answers in forecaster.answers(windows)]
        self.answers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self.past = replace(windows, ahead=0).values()[:, : forecaster.targets]
        self.truth = truth_of(windows, forecaster.targets)
        off = (self.answers["ensemble"] - self.truth).astype(np.float64) ** 2
        self.error = np.nanmean(off, axis=(1, 2, 3, 4))  # (sample,)
        self.by_cell = _mean_known(off, axes=(0, 2))  # (target, row, column)

    @property
    def liveliest(self) -> int:
        """The window whose later frames change most."""
        change = np.nan_to_num(np.abs(np.diff(self.truth, axis=2)))
        return int(np.argmax(change.mean(axis=(1, 2, 3, 4)))) if self.truth.shape[2] > 1 else int(np.argmax(self.error))

    @property
    def worst(self) -> int:
        """The window with the largest error."""
        return int(np.argmax(self.error))


def _mean_known(values: Values, axes: tuple[int, ...]) -> Values:
    known = np.isfinite(values)
    mean: Values = np.where(known, values, 0).sum(axis=axes) / np.maximum(known.sum(axis=axes), 1)
    return np.where(known.any(axis=axes), mean, np.nan)


def _played(requested: _InputBatch, title: str, one: int, lead: str) -> Chapter:
    series, windows = requested.windows.series, requested.windows
    steps = [lead_word(k + 1, series.step) for k in range(windows.ahead)]
    blocks: list[Block] = []
    if series.times is not None:
        blocks.append(Words(f"Starts at {time_word(series.times[windows.first[one]])} UTC."))
    before = [f"{k - windows.past + 1} frames" for k in range(windows.past - 1)] + ["the last"]
    for target in range(requested.forecaster.targets):
        past, truth = requested.past[one, target], requested.truth[one, target]
        predicted = where_seen(requested.answers["ensemble"][one, target], past)
        if requested.forecaster.targets > 1:
            blocks.append(Words(series.channels[target]))
        blocks.append(
            forecast_player(truth, predicted, past, [*before, *steps], series.unit or "value", **_cells(windows, one))
        )
        blocks.append(_at_leads(requested, one, target, steps))
    return Chapter(title, blocks, lead)


def _at_leads(requested: _InputBatch, one: int, target: int, steps: list[str]) -> Block:
    """Truth, ensemble and baselines at the last lead, side by side, for print."""
    past, last = requested.past[one, target], len(steps) - 1
    names = ["ensemble", *requested.forecaster.recipe.output.baselines]
    maps = [requested.truth[one, target, last], *(where_seen(requested.answers[n][one, target], past)[last] for n in names)]
    titles = [f"{name} {steps[last]}" for name in ("truth", *names)]
    return map_grid(np.stack(maps), titles, requested.windows.series.unit, **_cells(requested.windows, one))


def _cells(windows: Windows, one: int) -> Cells:
    """Coordinates and axis titles of one window's cells."""
    (rows, columns), top, left = windows.size, int(windows.top[one]), int(windows.left[one])
    return cells_of(windows.series, slice(top, top + rows), slice(left, left + columns))


def _errors(requested: _InputBatch) -> Chapter:
    series = requested.windows.series
    if requested.windows.size != series.size:
        return Chapter("Error map", [Words("Not available: windows are crops at different positions.")])
    maps = np.sqrt(requested.by_cell).astype(np.float32)
    titles = [f"{name}: root mean square error" for name in series.channels[: requested.forecaster.targets]]
    drawn = map_grid(maps, titles, series.unit, **cells_of(series))
    return Chapter(
        "Error map",
        [drawn],
        f"Over all leads of {len(requested.windows):,} {requested.part} window{'s' if len(requested.windows) != 1 else ''}.",
    )


def _sharpness(requested: _InputBatch) -> Chapter:
    """Power spectra of truth, ensemble and baselines at the last lead."""
    truth = requested.truth[:, 0, -1]
    named = {"truth": truth, **{n: v[:, 0, -1] for n, v in requested.answers.items()}}
    powers: dict[str, list[float]] = {}
    for name, frames in named.items():
        seen = np.where(np.isnan(truth), np.nan, frames)
        powers[name] = radial_power(torch.from_numpy(seen.astype(np.float64))).mean(dim=0)[1:].tolist()
    cells = (min(truth.shape[-2:]) / np.arange(1, len(powers["truth"]) + 1)).tolist()
    last = lead_word(requested.windows.ahead, requested.windows.series.step)
    of = f" of {requested.windows.series.channels[0]}" if requested.forecaster.targets > 1 else ""
    lead = f"Power spectrum{of} at {last}; a forecast with less power than the truth at small scales is blurred."
    return Chapter("Sharpness", [power_spectrum(cells, powers)], lead)


def _past(requested: _InputBatch) -> Chapter:
    """Importance of past frames: the change of a forecast when one is replaced by the mean of the past."""
    spread = np.unique(np.linspace(0, len(requested.windows) - 1, _HIDDEN).round().astype(np.int64))
    title, few = "Importance of past frames", requested.windows.take(spread)
    if few.size != few.series.size:
        return Chapter(title, [Words("Not available: windows are crops, and only whole frames can be occluded.")])
    values = replace(few, ahead=0).values()  # (sample, channel, past, row, column)
    whole = _predicted(requested.forecaster, few, values)
    changed = [
        (_predicted(requested.forecaster, few, _without(values, k)) - whole).astype(np.float64) ** 2 for k in range(few.past)
    ]
    curve = {"change of the forecast": [float(np.sqrt(_mean_known(v, (0, 1, 2, 3, 4)))) for v in changed]}
    names = [f"{k - few.past + 1} frames" if k < few.past - 1 else "the last" for k in range(few.past)]
    lead = "Root mean square change of the ensemble's forecast over all leads when one past frame is occluded."
    up = f"change ({few.series.unit})" if few.series.unit else "change"
    return Chapter(title, [in_order(curve, names, "occluded past frame", up)], lead)


_HIDDEN = 8  # windows whose past frames are occluded in turn


def _without(values: Floats, frame: int) -> Floats:
    """Replace one past frame of windows by the mean of all; (sample, channel, past, row, column)."""
    made = values.copy()
    known = np.isfinite(values)
    mean = np.where(known, values, 0).sum(axis=2) / np.maximum(known.sum(axis=2), 1)
    made[:, :, frame] = np.where(known[:, :, frame], mean, np.nan)
    return made


def _predicted(forecaster: Forecaster, windows: Windows, values: Floats) -> Floats:
    """Forecast with the ensemble from other past frames at the same times, (sample, target, ahead, row, column)."""
    count, channels, past, rows, columns = values.shape
    frames = np.ascontiguousarray(values.swapaxes(1, 2)).reshape(count * past, channels, rows, columns)
    starts = np.arange(count, dtype=np.int64) * past
    times = windows.series.clock(windows.first[:, None] + np.arange(past)).ravel()
    names = np.array([str(n) for n in range(count)])
    series = replace(windows.series, frames=frames, starts=starts, names=names, times=times)
    own = replace(windows, series=series, first=starts)
    return np.concatenate([answers["ensemble"] for _, answers in forecaster.answers(own, baselines=False)])


def _not_shown(recipe: Recipe, windows: Windows, split: TimeSplit, targets: int) -> Chapter:
    """Distribution shift between the training frames and the tested frames."""
    series, name = windows.series, "test part" if len(split.test) else "validation part"
    learned, tested = _some(frames_of(windows.take(split.train))), _some(frames_of(windows.take(split.judged)))
    found = drift(series.frames[learned], series.frames[tested], seed=recipe.seed)
    blocks: list[Block] = [Words(_spans(series, learned, tested)), *drifted(name, found)]
    return Chapter(
        "Distribution shift",
        blocks,
        "Forecasts of conditions absent from the training part, such as other seasons, are extrapolations.",
    )


def _spans(series: Series, learned: Ints, tested: Ints) -> str:
    if series.times is None:
        return f"Trained on frames {learned[0]:,} to {learned[-1]:,}, tested on {tested[0]:,} to {tested[-1]:,}."
    words = [time_word(series.times[n]) for n in (learned[0], learned[-1], tested[0], tested[-1])]
    return f"Trained on {words[0]} to {words[1]}, tested on {words[2]} to {words[3]} (UTC); other times of year were not seen."


def _some(numbers: Ints) -> Ints:
    return np.sort(np.random.default_rng(0).permutation(numbers)[:_FRAMES])
