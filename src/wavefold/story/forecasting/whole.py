"""Entry points for forecasting recipes, called by `pipeline`: train, evaluate, forecast, score and simulate."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wavefold.base.build import pick
from wavefold.base.files import write_arrays, write_json, write_text
from wavefold.base.lazy import part_of
from wavefold.base.process import leads
from wavefold.base.runs import Run, start_run
from wavefold.base.seen import count_seen, keep_seen
from wavefold.base.series import Series, Windows
from wavefold.data import FRAME_SIMULATORS, FRAME_WRITERS
from wavefold.output.forecasts import Forecasts, write_forecasts
from wavefold.prepare.frame_scaling import frames_at
from wavefold.recipe import Recipe, digest_of
from wavefold.story.forecasting.asking import Forecaster, forecasts_of
from wavefold.story.forecasting.fitting import check_baselines, fit_members, new_baseline, new_forecaster, range_of, range_told
from wavefold.story.forecasting.judging import Verdict, frame_notes, judge_windows, verdict_notes
from wavefold.story.forecasting.picturing import clear_pictures, draw_verdict
from wavefold.story.forecasting.reading import (
    check_like,
    frames_of,
    read_frames,
    sections,
    split_windows,
    windows_in,
    with_truth,
)
from wavefold.story.forecasting.scaling import scaling_of
from wavefold.story.forecasting.work import FrameWork
from wavefold.story.work import facts_of
from wavefold.training.telling import Telling


def begin_frames(recipe: Recipe, source: str, run: Run, *, simulated: bool) -> FrameWork:
    """Read, cut and split all data before training, so that errors are raised early."""
    return begin_series(recipe, *read_frames(recipe, source), run, simulated=simulated)


def begin_series(recipe: Recipe, series: Series, targets: int, run: Run, *, simulated: bool = False) -> FrameWork:
    """Do the same for frames in memory. targets: number of leading channels to forecast."""
    windows = windows_in(recipe, series)
    work = FrameWork(run, recipe, series, windows, split_windows(recipe, windows), targets)
    for number, member in enumerate(recipe.member):
        new_forecaster(member, len(series.channels), targets, recipe, 0, f"member.{number}")
    check_baselines(recipe, series)
    with_truth(tested(work), targets)
    kept, scaling = work.folder / "prepare.npz", scaling_of(recipe)
    fresh = not kept.exists()
    if fresh:  # before the run is created, so that a failing step leaves no folder
        scaling.fit(series, frames_of(windows.take(work.split.train)))
    start_run(run.folder, {**_facts(work, simulated), "folds": 1}, recipe.toml(), work.judged)
    if fresh:
        scaling.save(kept)
    return work


def fit_and_judge_frames(work: FrameWork) -> None:
    """Fit and evaluate; scores.json is written last and marks the run as done."""
    _keep_parts(work)
    epochs = [stage.epochs for stage in work.recipe.stage]
    with Telling([len(work.split.train)], epochs, len(work.members), tensorboard=work.recipe.output.tensorboard) as telling:
        fit_members(work, telling)
    if not leads():
        return
    begun = time.monotonic()
    _keep_baselines(work)
    results = _judged(work)
    seconds = sum(float((folder / "seconds.json").read_text()) for _, _, folder in work.members)
    results["seconds"] = round(seconds + time.monotonic() - begun, 1)
    write_json(work.run.folder / "scores.json", {**results, "judged": work.judged})


def forecast(run: Run, recipe: Recipe, source: str, *, out: str, size: int) -> Forecasts:
    """Forecast whole frames after the end of every segment of a source, in their own unit; write them to `out`.

    size: batch size in windows.
    """
    forecaster, series = _open(run, recipe, source)
    made = forecasts_of(forecaster, series, size)
    write_forecasts(out, made)
    return made


@dataclass(frozen=True)
class FrameScore:
    """Scores of a run on some windows, as printed by `wavefold score`."""

    results: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The object printed by `wavefold score --json`; undefined values are None."""
        results, metric = self.results, self.results["metric"]
        row = results["score"]
        value, *ends = (_number(v) for v in row[metric])
        others = {name: _number(v) for name, v in row.items() if name not in (metric, "by-lead", "interval-by-lead")}
        beside = {b["name"]: {"value": _number(b[metric][0]), "by_lead": b["by-lead"][metric]} for b in results["baselines"]}
        return {
            "metric": metric,
            "value": value,
            "interval": ends,
            "n": results["n"],
            "others": others,
            "step": results["step"],
            "by_lead": row["by-lead"],
            "baselines": beside,
        }


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else value


def score_frames(run: Run, recipe: Recipe, source: str, *, warn: Callable[[str], None]) -> FrameScore:
    """Score a run and its baselines on every window of a source."""
    _, verdict = verdict_on(run, recipe, source, warn=warn)
    results = verdict.results()
    return FrameScore({**results, "notes": verdict_notes(results)})


def verdict_on(run: Run, recipe: Recipe, source: str, *, warn: Callable[[str], None] = print) -> tuple[Forecaster, Verdict]:
    """Load a run's forecaster and evaluate it and its baselines on every window of a source."""
    forecaster, series = _open(run, recipe, source)
    windows = windows_in(recipe, series)
    frames = frames_of(windows)
    seen = count_seen(run.folder / "seen.npy", part_of(series.frames, frames))
    if seen:
        warn(
            f"{seen:,} of these {len(frames):,} frames {'were' if seen != 1 else 'was'} used for training or validation, "
            "so the score is optimistic"
        )
    for note in series.notes:
        warn(note)
    return forecaster, judge_windows(forecaster, windows, range_told(recipe, run.facts))


def simulate_frames(recipe: Recipe, folder: Path, *, count: int, seed: int) -> Path:
    """Write simulated sequences of past and later frames."""
    make = pick(FRAME_SIMULATORS, recipe.data.simulator, "data.simulator")
    _, windows = sections(recipe)
    given = {"digits": recipe.data.digits} if recipe.data.digits else {}
    series = make(count, seed, shape=recipe.data.shape, past=windows.past, ahead=windows.ahead, **given)
    return pick(FRAME_WRITERS, recipe.data.writes, "data.writes")(series, folder)


def tested(work: FrameWork) -> Windows:
    """The windows to evaluate: the test part, or the validation part if there is no test part."""
    return work.windows.take(work.split.test if len(work.split.test) else work.split.validation)


def _judged(work: FrameWork) -> dict[str, Any]:
    """Evaluate and draw pictures; returns the contents of scores.json except the time."""
    forecaster = Forecaster(work.run, work.recipe, work.targets)
    verdict: Verdict = judge_windows(forecaster, tested(work), range_told(work.recipe, work.run.facts))
    results = verdict.results()
    notes = (
        ["trained and tested on simulated frames: the scores may not hold for real data"] if work.run.facts["simulated"] else []
    )
    if not len(work.split.test):
        notes.append(
            "no test part: scores are optimistic, since these windows chose the weights; use `wavefold score` on other frames"
        )
    notes += frame_notes(work.recipe, work.series, work.windows, work.split) + verdict_notes(results)
    clear_pictures(work.run.folder / "pictures")
    if work.recipe.output.pictures:
        notes += draw_verdict(work.run.folder / "pictures", forecaster, verdict)
    return {**results, "learned_from": len(work.split.train), "notes": notes}


def _open(run: Run, recipe: Recipe, source: str) -> tuple[Forecaster, Series]:
    """Load a run's forecaster and read matching frames."""
    series, targets = read_frames(recipe, source)
    check_like(series, run.facts)
    return Forecaster(run, recipe, targets), series


def _facts(work: FrameWork, simulated: bool) -> dict[str, Any]:
    series, train = work.series, work.windows.take(work.split.train)
    known = {
        "source": series.source,
        "simulated": simulated,
        "samples": len(work.windows),
        "frames": len(series),
        "shape": list(series.frames.shape[1:]),
        "channels": list(series.channels),
        "targets": work.targets,
        "unit": series.unit,
        "step": series.step,
        "range": range_of(series, train, work.targets),
    }
    return facts_of(work.recipe, digest_of([series.digest, list(series.channels), list(series.frames.shape)]), known)


def _keep_parts(work: FrameWork) -> None:
    """Write the position and part of each window, and fingerprints of the frames used for training or validation."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["frame", "row", "column", "part"])
    windows = work.windows
    for part in ("train", "validation", "test"):
        index = getattr(work.split, part)
        places = zip(windows.first[index].tolist(), windows.top[index].tolist(), windows.left[index].tolist(), strict=True)
        writer.writerows((*place, part) for place in places)
    write_text(work.run.folder / "splits.csv", text.getvalue())
    seen = work.run.folder / "seen.npy"
    if leads() and not seen.exists():
        both = np.concatenate([work.split.train, work.split.validation])
        keep_seen(seen, work.series.frames, frames_of(windows.take(both)))


def _keep_baselines(work: FrameWork) -> None:
    """Fit the baselines on the frames of the training windows and save them."""
    frames, clock = frames_at(work.series, frames_of(work.windows.take(work.split.train)))
    states: dict[str, Any] = {}
    for name in work.recipe.output.baselines:
        baseline = new_baseline(name, work.recipe)
        baseline.fit(frames, clock, work.series.step)
        states |= {f"{name}.{key}": value for key, value in baseline.state().items()}
    write_arrays(work.folder / "baselines.npz", states)
