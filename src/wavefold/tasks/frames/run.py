"""Entry points for forecasting recipes, called by `api`: train, evaluate, forecast, score and simulate."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.core.files import write_arrays, write_json, write_text
from wavefold.core.process import is_main_process
from wavefold.core.records import RunInfo, ScoreRow, Scores
from wavefold.core.registry import pick
from wavefold.core.run import RunFolder, start_run
from wavefold.data import SERIES_SIMULATORS, SERIES_WRITERS
from wavefold.data.fingerprints import count_known, save_fingerprints
from wavefold.data.lazy import part_of
from wavefold.data.series import Series, Windows
from wavefold.data.windows import TimeSplit
from wavefold.recipe import Recipe, digest_of
from wavefold.reports.score_table import lead_table
from wavefold.tasks.base import Unit, check_same_data, new_run_info
from wavefold.tasks.frames.blend import BY_LEAD, fit_blend
from wavefold.tasks.frames.context import ForecastContext
from wavefold.tasks.frames.doubts import doubts
from wavefold.tasks.frames.evaluate import Evaluation, evaluate_windows, evaluation_notes, frame_notes
from wavefold.tasks.frames.fit import (
    check_baselines,
    check_blend,
    check_losses,
    fit_forecaster,
    metrics_of,
    new_baseline,
    new_forecaster,
    scaling_of,
    training_range,
    truth_of,
    value_range,
)
from wavefold.tasks.frames.forecasts import Forecasts
from wavefold.tasks.frames.inference import Forecaster, forecasts_of
from wavefold.tasks.frames.likeness import as_source, like_run
from wavefold.tasks.frames.pictures import clear_pictures, draw_evaluation
from wavefold.tasks.frames.reading import (
    frames_of,
    read_frames,
    sections,
    split_windows,
    windows_in,
    with_truth,
)
from wavefold.tasks.frames.usual_baselines import with_usual_baselines, without_unfit_baselines
from wavefold.training.monitor import TrainingMonitor
from wavefold.transforms.frame_scaling import FrameScaling, frames_at


class FrameTraining:
    """A training on frames: what `Training` in `tasks/base.py` asks. The scaling was fitted when the run began."""

    def __init__(self, context: ForecastContext) -> None:
        self.run, self.recipe, self.units = context.run, context.recipe, context.units
        self._context = context
        self._of_fold: tuple[int, tuple[Series, FrameScaling]] | None = None

    def samples(self, unit: Unit) -> int:
        """Windows of the fold's training part."""
        return len(self._context.splits[unit.fold].train)

    def keep_parts(self) -> None:
        """Write splits.csv and seen.npy."""
        _keep_parts(self._context)

    def prepare(self, fold: int) -> None:
        """Do nothing: frames have no synthetic samples."""

    def fit(self, unit: Unit, monitor: TrainingMonitor) -> None:
        """Fit a member on the fold's training windows."""
        fit_forecaster(self._context, unit, *self._scaled(unit.fold), monitor)

    def choice(self) -> tuple[str, bool]:
        """The last stage's metric for the validation windows, and whether higher is better."""
        name = self.recipe.stage[-1].best
        return name, metrics_of(self.recipe, 1.0)[name].higher_is_better

    def validated(self, unit: Unit) -> float:
        """That metric of a fitted member, as it was when its weights were kept."""
        name, number = self.recipe.stage[-1].best, len(self.recipe.stage) - 1
        lines = [json.loads(line) for line in (unit.folder / "metrics.jsonl").read_text().splitlines()]
        kept = [float(line[name]) for line in lines if line["stage"] == number and line["kept"] and name in line]
        return kept[-1] if kept else math.nan

    def evaluate(self) -> None:
        """Fit the baselines, score by lead and draw."""
        evaluate_frames(self._context)

    def _scaled(self, fold: int) -> tuple[Series, FrameScaling]:
        """The frames by a fold's transforms; of one fold at a time, to bound memory."""
        if self._of_fold is None or self._of_fold[0] != fold:
            self._of_fold = None
            scaling = scaling_of(self.recipe).load(self._context.folder(fold) / "prepare.npz")
            self._of_fold = fold, (scaling.apply(self._context.series), scaling)
        return self._of_fold[1]


def begin_frames(recipe: Recipe, source: str, run: RunFolder, *, simulated: bool) -> FrameTraining:
    """Read, cut and split all data before training, so that errors are raised early."""
    return begin_series(recipe, *read_frames(recipe, source), run, simulated=simulated)


def begin_series(recipe: Recipe, series: Series, targets: int, run: RunFolder, *, simulated: bool = False) -> FrameTraining:
    """Do the same for frames in memory. targets: number of leading channels to forecast."""
    windows = windows_in(recipe, series)
    recipe, notes = with_usual_baselines(recipe, series)
    context = ForecastContext(run, recipe, series, windows, split_windows(recipe, windows), targets, tuple(notes))
    for number, member in enumerate(recipe.member):
        new_forecaster(member, len(series.channels), targets, recipe, 0, f"member.{number}")
    check_baselines(recipe, series)
    check_blend(recipe, context.splits)
    for split in context.splits:
        check_losses(recipe, series, windows.take(split.train), targets)
        with_truth(tested(context, split), targets)
    fitted = {}  # before the run is created, so that a failing step leaves no folder
    for fold, split in enumerate(context.splits):
        kept = context.folder(fold) / "prepare.npz"
        if not kept.exists():
            fitted[kept] = scaling_of(recipe).fit(series, frames_of(windows.take(split.train)))
    start_run(run.folder, _info_of(context, simulated), recipe.toml(), context.scores_digest)
    for kept, scaling in fitted.items():
        scaling.save(kept)
    return FrameTraining(context)


def rejoin_frames(recipe: Recipe, source: str, run: RunFolder) -> FrameTraining:
    """Read, cut and split the data of a run that another process has begun."""
    series, targets = read_frames(recipe, source)
    check_same_data(run, source, _data_digest(series))
    windows = windows_in(recipe, series)
    return FrameTraining(ForecastContext(run, recipe, series, windows, split_windows(recipe, windows), targets))


def evaluate_frames(context: ForecastContext) -> None:
    """Evaluate a run whose members are fitted; scores.json is written last and marks the run as finished."""
    if not is_main_process():
        return
    begun = time.monotonic()
    _keep_baselines(context)
    _keep_blends(context)
    results = _results(context)
    seconds = sum(float((unit.folder / "seconds.json").read_text()) for unit in context.units)
    took = {"seconds": round(seconds + time.monotonic() - begun, 1), "judged": context.scores_digest}
    write_json(context.run.folder / "scores.json", {**results.as_json(), **took})


def forecast(run: RunFolder, recipe: Recipe, source: str, *, size: int, warn: Callable[[str], None]) -> Forecasts:
    """Forecast whole frames after the end of every segment of a source, in the run's unit and the source's order of cells.

    size: batch size in windows.
    """
    read, targets = read_frames(recipe, source)
    series = like_run(read, run.metadata, recipe)
    recipe, left_out = without_unfit_baselines(recipe, series, run.metadata)
    for note in [*series.notes, *(left_out if recipe.combine.by == BY_LEAD else [])]:
        warn(note)
    return as_source(forecasts_of(Forecaster(run, recipe, targets), series, size), read.rows, read.columns)


@dataclass(frozen=True)
class FrameScore:
    """Scores of a run on some windows, as printed by `wavefold score`."""

    results: Scores

    def as_json(self) -> dict[str, object]:
        """The object printed by `wavefold score --json`; undefined values are None."""
        results, row = self.results, self.results.score
        value, *ends = (_number(v) for v in row.measure(results.metric))
        return {
            "metric": results.metric,
            "unit": results.units.get(results.metric, ""),
            "value": value,
            "interval": ends,
            "n": results.n,
            "others": {name: _number(m.value) for name, m in row.measures.items() if name != results.metric},
            "step": results.step,
            "by_lead": dict(row.by_lead),
            "standing": results.standing,
            "baselines": {row.name: self._beside(row) for row in results.baselines},
        }

    def _beside(self, row: ScoreRow) -> dict[str, object]:
        metric = self.results.metric
        return {"value": _number(row.value(metric)), "by_lead": row.by_lead[metric], "differences": dict(row.differences)}

    def text(self) -> str:
        """The lines that `wavefold score` prints."""
        return lead_table(self.results)


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def score_frames(run: RunFolder, recipe: Recipe, source: str, *, warn: Callable[[str], None]) -> FrameScore:
    """Score a run and its baselines on every window of a source."""
    _, evaluation = evaluate_source(run, recipe, source, warn=warn)
    results = evaluation.results()
    return FrameScore(results.model_copy(update={"notes": tuple(evaluation_notes(results))}))


def evaluate_source(
    run: RunFolder, recipe: Recipe, source: str, *, warn: Callable[[str], None] = print
) -> tuple[Forecaster, Evaluation]:
    """Load a run's forecaster and evaluate it and its baselines on every window of a source."""
    series, targets = _read(run, recipe, source)
    recipe, left_out = without_unfit_baselines(recipe, series, run.metadata)
    forecaster, windows = Forecaster(run, recipe, targets), windows_in(recipe, series)
    frames = frames_of(windows)
    seen = count_known(run.folder / "seen.npy", part_of(series.frames, frames))
    if seen:
        warn(
            f"{seen:,} of these {len(frames):,} frames {'were' if seen != 1 else 'was'} used for training or validation, "
            "so the score is optimistic"
        )
    for note in [*series.notes, *left_out]:
        warn(note)
    return forecaster, evaluate_windows(forecaster, windows, value_range(recipe, run.metadata))


def simulate_frames(recipe: Recipe, folder: Path, *, count: int, seed: int) -> Path:
    """Write simulated sequences of past and later frames."""
    make = pick(SERIES_SIMULATORS, recipe.data.simulator, "data.simulator")
    _, windows = sections(recipe)
    given = {"digits": recipe.data.digits} if recipe.data.digits else {}
    series = make(count, seed, shape=recipe.data.shape, past=windows.past, ahead=windows.ahead, **given)
    return pick(SERIES_WRITERS, recipe.data.writes, "data.writes")(series, folder)


def tested(context: ForecastContext, split: TimeSplit) -> Windows:
    """The windows of a split to evaluate: the test part, or the validation part if there is no test part."""
    return context.windows.take(split.judged)


def _results(context: ForecastContext) -> Scores:
    """Evaluate and draw pictures; returns the contents of scores.json except the time."""
    data_range = value_range(context.recipe, context.run.metadata)
    each = []
    for fold, split in enumerate(context.splits):
        forecaster = Forecaster(context.run, context.recipe, context.targets, fold)
        each.append(evaluate_windows(forecaster, tested(context, split), data_range))
    evaluation = Evaluation.joined(each)
    results = evaluation.results()
    notes = (
        ["trained and tested on simulated frames: the scores may not hold for real data"]
        if context.run.metadata.simulated
        else []
    )
    if not len(context.splits[-1].test):
        notes.append(
            "no test part: scores are optimistic, since these windows chose the weights; use `wavefold score` on other frames"
        )
    notes += context.notes
    notes += frame_notes(context.recipe, context.series, context.windows, context.splits) + evaluation_notes(results)
    notes += doubts(context.recipe, context.series)
    clear_pictures(context.run.folder / "pictures")
    if context.recipe.output.pictures:
        notes += draw_evaluation(context.run.folder / "pictures", forecaster, evaluation)
    return results.model_copy(update={"learned_from": len(context.splits[-1].train), "notes": tuple(notes)})


def _read(run: RunFolder, recipe: Recipe, source: str) -> tuple[Series, int]:
    """Read frames that match the run's, target channels first; also returns the number of targets."""
    series, targets = read_frames(recipe, source)
    return like_run(series, run.metadata, recipe), targets


def _info_of(context: ForecastContext, simulated: bool) -> RunInfo:
    series, train = context.series, context.windows.take(context.splits[-1].train)
    return new_run_info(
        context.recipe,
        _data_digest(series),
        source=series.source,
        simulated=simulated,
        samples=len(context.windows),
        frames=len(series),
        shape=series.frames.shape[1:],
        channels=series.channels,
        targets=context.targets,
        unit=series.unit,
        step=series.step,
        timed=series.times is not None,
        attrs=dict(series.attrs),
        rows=None if series.rows is None else series.rows.tolist(),
        columns=None if series.columns is None else series.columns.tolist(),
        up=series.up,
        across=series.across,
        range=training_range(series, train, context.targets),
        folds=len(context.splits),
    )


def _data_digest(series: Series) -> str:
    return digest_of([series.digest, list(series.channels), list(series.frames.shape)])


def _keep_parts(context: ForecastContext) -> None:
    """Write the position and part of each window by fold, and fingerprints of frames used for training or validation."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["frame", "row", "column", "part", "fold"])
    windows = context.windows
    for fold, split in enumerate(context.splits):
        for part in ("train", "validation", "test"):
            index = getattr(split, part)
            places = zip(windows.first[index].tolist(), windows.top[index].tolist(), windows.left[index].tolist(), strict=True)
            writer.writerows((*place, part, fold) for place in places)
    write_text(context.run.folder / "splits.csv", text.getvalue())
    seen = context.run.folder / "seen.npy"
    if is_main_process() and not seen.exists():
        last = context.splits[-1]  # that of the nets that forecast other frames
        both = np.concatenate([last.train, last.validation])
        save_fingerprints(seen, context.series.frames, frames_of(windows.take(both)))


def _keep_blends(context: ForecastContext) -> None:
    """Fit each fold's blend by lead on its validation windows, if the recipe blends."""
    for fold, split in enumerate(context.splits):
        kept = context.folder(fold) / "blend.npz"
        kept.unlink(missing_ok=True)
        if context.recipe.combine.by != BY_LEAD:
            continue
        some = np.unique(np.linspace(0, len(split.validation) - 1, min(len(split.validation), _BLENDED)).round().astype(int))
        windows = context.windows.take(split.validation[some])
        forecaster = Forecaster(context.run, context.recipe, context.targets, fold, blended=False)
        pairs = ((parts, truth_of(windows.take(rows), context.targets)) for rows, parts in forecaster.parts(windows))
        fit_blend(pairs).save(kept)


_BLENDED = 256  # validation windows that a blend is fitted on, evenly spread


def _keep_baselines(context: ForecastContext) -> None:
    """Fit the baselines on the frames of each fold's training windows and save them."""
    for fold, split in enumerate(context.splits):
        frames, clock = frames_at(context.series, frames_of(context.windows.take(split.train)))
        states: dict[str, NDArray[np.generic]] = {}
        for name in context.recipe.output.baselines:
            baseline = new_baseline(name, context.recipe)
            baseline.fit(frames, clock, context.series.step)
            states |= {f"{name}.{key}": value for key, value in baseline.state().items()}
        write_arrays(context.folder(fold) / "baselines.npz", states)
