"""The story: read, split, fit every fold, judge, keep; then predict and score. Start here.

Each chapter is a file of `story`: `checking` (recipe and data, before anything), `reading` (samples and folds), `fitting` (a
fold: prepare, members, stages), `judging` (combine, decide, measure), `asking` (what a run says of new samples),
`searching` (of a whole observation). What a chapter needs is made from a recipe by short name, in `base.build`.
"""

from __future__ import annotations

import csv
import errno
import inspect
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wavefold.base.build import pick
from wavefold.base.dataset import Dataset
from wavefold.base.device import be_repeatable, first_process_first
from wavefold.base.errors import UserError
from wavefold.base.files import write_json, write_text
from wavefold.base.interrupt import stop_on_signals
from wavefold.base.process import leads
from wavefold.base.runs import Run, hold_folder, start_run
from wavefold.base.seen import count_seen, keep_seen
from wavefold.data import SIMULATORS, WRITERS, test_files
from wavefold.data.observation import is_scan, open_observation
from wavefold.output import Predictions, check_target, lead_table, score_table, write_predictions
from wavefold.output.candidates import Candidate, write_candidates
from wavefold.output.forecasts import Forecasts, check_forecast_target
from wavefold.output.page import write_page
from wavefold.output.serve import Limits, check_server, new_app, run_server
from wavefold.recipe import Recipe, digest_of
from wavefold.story.asking import probabilities_for, recipe_of
from wavefold.story.checking import check_data, check_fits, check_recipe, describe_members
from wavefold.story.exporting import export_run
from wavefold.story.fitting import fit_fold, watch_of
from wavefold.story.forecasting.checking import check_frame_recipe, check_frames, describe_forecasters
from wavefold.story.forecasting.exporting import export_forecaster
from wavefold.story.forecasting.looking import look_at_frames
from wavefold.story.forecasting.reporting import report_frames
from wavefold.story.forecasting.whole import (
    FrameScore,
    begin_frames,
    fit_and_judge_frames,
    forecast,
    score_frames,
    simulate_frames,
)
from wavefold.story.judging import decided_by, judge, predictions_of
from wavefold.story.looking import look_at_samples
from wavefold.story.reading import (
    axis_marks,
    check_shape,
    column_marks,
    even_grid,
    read_backgrounds,
    read_for,
    read_labelled,
    read_like,
    split_samples,
    warn_left_out,
)
from wavefold.story.reporting import report_samples
from wavefold.story.searching import candidates_of, draw_candidates, pictures_folder, search_observation
from wavefold.story.serving import served_run
from wavefold.story.work import Work, facts_of
from wavefold.training.metrics import Score, cut_score, score

__all__ = [
    "check",
    "check_data",
    "check_recipe",
    "describe_nets",
    "describe_score",
    "describe_scores",
    "export",
    "is_scan",
    "look",
    "predict",
    "probabilities_for",
    "read_for",
    "report",
    "score_run",
    "search",
    "serve",
    "simulate",
    "split_samples",
    "train",
]

Say = Callable[[str], None]

_NO_SKIPPING = "--skip-bad: passes over labelled samples; of frames, cells without a value need no option"


def check(recipe: Recipe, data: str = "") -> list[str]:
    """UserError for the first thing that is wrong with a recipe, or with data for it; else what the data hold, as lines."""
    (check_frame_recipe if recipe.windows else check_recipe)(recipe)
    if not data:
        return []
    return (check_frames if recipe.windows else check_data)(recipe, data)


def describe_nets(recipe: Recipe) -> str:
    """The layers of each net with output shapes and parameter counts, for the recipe's own shape."""
    return (describe_forecasters if recipe.windows else describe_members)(recipe)


@stop_on_signals()
def train(recipe: Recipe, *, data: str = "", out: Path, fresh: bool = False, say: Say = print) -> Run:
    """Train a recipe on labelled data, or on simulated data where none is named, and score it on what it never saw.

    The same call again goes on where the last one stopped, and ends with the same bits. A call that only combines or
    measures otherwise uses the members that are there.
    """
    check(recipe)
    be_repeatable()
    if fresh and data:
        check(recipe, data)  # what is wrong with the data is said before the old run is gone
    begin, fit_and_judge = (begin_frames, fit_and_judge_frames) if recipe.windows else (_begin, _fit_and_judge)
    with _disk_errors(out, "nothing half-written is left, and the same command goes on"), hold_folder(out, fresh=fresh):
        begun = (out / "fold0").exists()
        with first_process_first():
            work: Any = begin(recipe, data or _simulated(out / "simulated", recipe, say), Run(out), simulated=not data)
        if not (out / "scores.json").exists():
            if leads() and begun:
                say(f"{out}: going on where the last training stopped")
            fit_and_judge(work)
    if leads():
        say(describe_scores(Run(out)))
    return Run(out)


def look(recipe: Recipe, source: str, *, out: Path) -> Path:
    """Write a page of what a source holds, before any training: counts, classes, statistics, samples, defects."""
    (check_frame_recipe if recipe.windows else check_recipe)(recipe)
    _check_page(out, source)
    page = (look_at_frames if recipe.windows else look_at_samples)(recipe, source)
    with _disk_errors(out, "nothing half-written is left"):
        write_page(out, page)
    return out


def report(run: Run, *, out: Path | None = None, data: str = "", warn: Say = print) -> Path:
    """Write a page of what a run did: score, learning, errors, reasons, what it was not shown, how to repeat it.

    out: report.html in the run's folder where none is named. data: where the run's data lie, if they were moved. warn: takes
    a line where the page lacks the samples because their data are not there.
    """
    recipe, target = recipe_of(run), out or run.folder / "report.html"
    _ = run.scores
    _check_page(target, data)
    page = (report_frames if recipe.windows else report_samples)(run, recipe, data, warn)
    with _disk_errors(target, "nothing half-written is left"):
        write_page(target, page)
    return target


def _check_page(out: Path, source: str) -> None:
    """UserError, before any work, for a page that would not be an .html file, or that would replace the data."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{out}: a page is an .html file; name one with --out")
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file with --out")
    if out.exists() and source and Path(source).exists() and out.samefile(source):
        raise UserError(f"{out}: is the input itself; name another file with --out")


def export(run: Run, *, out: Path, member: int | None = None, say: Say = print) -> Path:
    """Write a run as one ONNX file that takes raw samples and gives probabilities, or raw frames and gives later ones.

    It is checked against torch on real rows before it takes its name. member: that one alone, not the whole ensemble.
    """
    recipe, _ = recipe_of(run), run.scores
    with _disk_errors(out, "nothing half-written is left"):
        if recipe.windows:
            return export_forecaster(run, out, member=member, say=say).path
        made = export_run(run, out, member=member, say=say)
    say(made.line())
    return made.path


def serve(run: Run, *, host: str, port: int, say: Say = print) -> None:
    """Answer HTTP requests with a run's predictions until it is stopped."""
    check_server()
    _ = run.scores
    run_server(new_app(served_run(run, say=say), Limits()), host, port, say=say)


def predict(
    run: Run, source: str, *, out: str, size: int = 512, skip_bad: bool = False, warn: Say = print
) -> Predictions | Forecasts:
    """Probabilities and decisions for every sample of a source, in its order; written to `out`, '-' for standard output.

    Of a folder its one test file is taken, or else its training file; labels that a file may hold are not looked at.
    skip_bad: go on without samples that cannot be read. warn: takes a line for each of those. Of frames: those that come
    after the last ones of every stretch.
    """
    recipe = recipe_of(run, skip_bad)
    (check_forecast_target if recipe.windows else check_target)(out)
    if out != "-" and Path(out).exists() and Path(source).exists() and Path(out).samefile(source):
        raise UserError(f"{out}: is the input itself; name another file with --out")
    facts, _ = run.facts, run.scores
    _need_samples(recipe, skip_bad, _NO_SKIPPING)
    if recipe.windows:
        with _disk_errors(Path(out), "nothing half-written is left"):
            return forecast(run, recipe, source, out=out, size=size)
    tests = test_files(source)
    if len(tests) > 1:
        raise UserError(f"{source}: holds {', '.join(t.name for t in tests)}; name one of them")
    dataset = read_like(recipe, str(tests[0]) if tests else source, facts)
    warn_left_out(dataset, warn)
    predictions = predictions_of(recipe, dataset.ids, facts["classes"], probabilities_for(run, dataset, size))
    with _disk_errors(Path(out), "nothing half-written is left"):
        write_predictions(out, predictions)
    return predictions


def search(
    run: Run, scans: Sequence[str], *, out: str, threshold: float = 0.5, size: int = 512, warn: Say = print
) -> list[Candidate]:
    """The needles in six scans of a cadence, filterbank files in the order of time; written to `out`, the best first.

    The best are pictured in the folder `<stem of out>_pictures` beside it; nothing is where `out` is '-'. Lines may drift by up
    to half a fine channel a row. threshold: the least probability of a window. warn: takes a line for that limit in Hz/s, for
    windows that were passed over, for scans that are not on one clock, and where pictures cannot be drawn.
    """
    if recipe_of(run).windows:
        raise UserError(f"{run.folder}: forecasts frames, from one file or folder; {len(scans)} were named")
    check_target(out)
    if out != "-" and Path(out).exists() and any(Path(s).exists() and Path(out).samefile(s) for s in scans):
        raise UserError(f"{out}: is one of the scans; name another file with --out")
    _, observation = run.scores, open_observation(scans)
    found = search_observation(run, observation, threshold=threshold, size=size, warn=warn)
    candidates = candidates_of(found, observation)
    with _disk_errors(Path(out), "nothing half-written is left"):
        write_candidates(out, candidates)
        if out != "-":
            draw_candidates(pictures_folder(out), found, observation, run.facts["shape"][2], warn=warn)
    return candidates


def score_run(
    run: Run, source: str, *, size: int = 512, skip_bad: bool = False, warn: Say = print, by: Sequence[str] = ()
) -> Score | FrameScore:
    """The recipe's metric and the others that fit, with n and a 95 % interval, on a labelled source, or on frames.

    by: columns of the source that the metric is cut by. skip_bad: go on without samples that cannot be read. warn: takes a
    line for each of those, and where the run has learned from samples of the source.
    """
    recipe, facts, _ = recipe_of(run, skip_bad), run.facts, run.scores
    _need_samples(recipe, skip_bad, _NO_SKIPPING)
    _need_samples(recipe, by, "--by: cuts a score by a column of labelled samples; forecasts are scored by lead time")
    if recipe.windows:
        return score_frames(run, recipe, source, warn=warn)
    dataset = read_labelled(recipe, source, facts, warn)
    warn_left_out(dataset, warn)
    check_shape(dataset, facts)
    marks = {column: column_marks(dataset, column) for column in by}
    probabilities = probabilities_for(run, dataset, size)
    seen = count_seen(run.folder / "seen.npy", dataset.signals)
    if seen:
        warn(f"{seen:,} of these {len(dataset):,} samples were learned from or chosen by: for them this is no honest score")
    decided = decided_by(recipe, recipe.combine.decide, probabilities)
    labels, metric = dataset.known_labels(), recipe.output.metric
    drawn: dict[str, Any] = {"groups": dataset.groups if recipe.split.group else None, "seed": recipe.seed}
    whole = score(probabilities, labels, metric=metric, decided=decided, **drawn)
    values = decided if metric == "l1" else probabilities
    return replace(whole, by={column: cut_score(metric, values, labels, words, **drawn) for column, words in marks.items()})


def simulate(recipe: Recipe, folder: Path, *, count: int, seed: int) -> Path:
    """Write simulated samples in the layout that the recipe's users have; returns the file."""
    if recipe.windows:
        check(recipe)
        with _disk_errors(folder, "nothing half-written is left"):
            return simulate_frames(recipe, folder, count=count, seed=seed)
    make = pick(SIMULATORS, recipe.data.simulator, "data.simulator")
    dataset = make(count, seed, shape=recipe.data.shape, classes=recipe.data.classes, **_backgrounds(recipe, make))
    with _disk_errors(folder, "nothing half-written is left"):
        return pick(WRITERS, recipe.data.writes, "data.writes")(dataset, folder)


def _backgrounds(recipe: Recipe, make: Callable[..., Dataset]) -> dict[str, Dataset]:
    """What a simulator is to put its signals into, where the recipe names it; UserError where the simulator takes none."""
    if not recipe.data.backgrounds:
        return {}
    if "backgrounds" not in inspect.signature(make).parameters:
        raise UserError(f"data.backgrounds: the simulator {recipe.data.simulator} makes its own, and takes none")
    return {"backgrounds": read_backgrounds(recipe)}


def _need_samples(recipe: Recipe, asked: object, word: str) -> None:
    """UserError for what is asked of a recipe of frames and only labelled samples have."""
    if recipe.windows and asked:
        raise UserError(word)


def describe_score(run: Run, result: Score | FrameScore) -> str:
    """A score as lines for people; a summed metric also for the rows that the recipe quotes it for."""
    if isinstance(result, FrameScore):
        return lead_table(result.results)
    per = recipe_of(run).output.per
    lines = [result.line()]
    if result.metric == "l1" and per:
        value, low, high = (v * per / result.n for v in (result.value, *result.interval))
        lines.append(f"l1 per {per:,} rows {value:,.0f} [{low:,.0f}, {high:,.0f}]")
    lines += [f"{name} {value:.4f}" for name, value in result.others.items()]
    for column, cuts in result.by.items():
        lines += [f"{result.metric} by {column}:", *(f"  {value:<20} {cut.line()}" for value, cut in cuts.items())]
    return "\n".join(lines)


def describe_scores(run: Run) -> str:
    """The scores of a run as a table for people: the ensemble, its members, the baselines."""
    if "leads" in run.scores:
        return f"{run.facts['recipe']}: {lead_table(run.scores)}\nrun: {run.folder}"
    lines = [f"{run.facts['recipe']}: {score_table(run.scores)}", *_by_fold(run.scores), f"run: {run.folder}"]
    return "\n".join(lines)


def _by_fold(scores: Mapping[str, Any]) -> list[str]:
    """A line of the ensemble's metric in each fold, where there are several."""
    values = [fold[scores["metric"]][0] for fold in scores.get("folds", [])]
    words = " ".join("?" if v is None else f"{v:,.0f}" if scores["metric"] == "l1" else f"{v:.4f}" for v in values)
    return [f"by fold: {scores['metric']} {words}"] if values else []


def _begin(recipe: Recipe, source: str, run: Run, *, simulated: bool) -> Work:
    """Read and split everything before anything is fitted, so that what is wrong is said at once."""
    dataset = read_for(recipe, source)
    named = [Path(recipe.data.test)] if recipe.data.test else test_files(source)
    facts = _facts(recipe, dataset, simulated)
    tests = [read_like(recipe, str(path), facts) for path in named]
    folds = split_samples(recipe, dataset)
    check_fits(recipe, dataset, folds)
    work = Work(run, recipe, dataset, tests, folds)
    start_run(run.folder, {**facts, "folds": len(folds)}, recipe.toml(), work.judged)
    _keep_left_out(work)
    return work


def _fit_and_judge(work: Work) -> None:
    """Fit every fold, then score; scores.json comes last and says that the run is done."""
    _keep_splits(work)
    with watch_of(work) as telling:
        for fold in work.folds:
            fit_fold(work, fold, telling)
    if not leads():
        return
    begun = time.monotonic()
    results, held_out = judge(work)
    write_predictions(work.run.folder / "held_out.csv", held_out)
    for dataset in work.tests:
        name = "submission.csv" if len(work.tests) == 1 else f"submission-{Path(dataset.source).name.partition('.')[0]}.csv"
        probabilities = probabilities_for(work.run, dataset)
        write_predictions(work.run.folder / name, predictions_of(work.recipe, dataset.ids, dataset.classes, probabilities))
    seconds = round(_seconds(work) + time.monotonic() - begun, 1)
    write_json(work.run.folder / "scores.json", {**results, "seconds": seconds, "judged": work.judged})


def _facts(recipe: Recipe, dataset: Dataset, simulated: bool) -> dict[str, Any]:
    known = {
        "source": dataset.source,
        "simulated": simulated,
        "samples": len(dataset),
        "shape": list(dataset.signals.shape[1:]),
        "unit": dataset.unit,
        "axis": axis_marks(dataset),
        "grid": even_grid(dataset),
        "left_out": len(dataset.left_out),
        "classes": list(dataset.classes),
    }
    return facts_of(recipe, digest_of([dataset.digest, list(dataset.classes), list(dataset.signals.shape)]), known)


def _keep_left_out(work: Work) -> None:
    """List what was passed over, of the samples to learn from and of those to predict."""
    rows = [(*row, dataset.source) for dataset in (work.dataset, *work.tests) for row in dataset.left_out]
    path = work.run.folder / "left_out.csv"
    if rows:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("id", "why", "source"), *rows])
        write_text(path, text.getvalue())
    elif leads():
        path.unlink(missing_ok=True)


def _keep_splits(work: Work) -> None:
    """Write the ids of every part, a line a sample and fold; and what tells a known sample from a new one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "fold", "part"])
    for fold in work.folds:
        for part in ("train", "validation", "test"):
            writer.writerows((name, fold.number, part) for name in work.dataset.ids[getattr(fold, part)].tolist())
    write_text(work.run.folder / "splits.csv", text.getvalue())
    seen = work.run.folder / "seen.npy"
    if leads() and not seen.exists():  # once, for it reads them all; other data would be another run
        learned = np.unique(np.concatenate([index for f in work.folds for index in (f.train, f.validation)]))
        keep_seen(seen, work.dataset.signals, learned)


def _seconds(work: Work) -> float:
    """What fitting took, over all sessions."""
    folders = [work.run.member(f.number, n, m.model) for f in work.folds for n, m in work.members]
    return sum(float((folder / "seconds.json").read_text()) for folder in folders)


def _simulated(folder: Path, recipe: Recipe, say: Say) -> str:
    """Simulated samples in the run's own folder, as a user's folder would be; made once, whole or not at all."""
    if not folder.exists() and leads():
        say(f"no --data: simulating {recipe.data.count:,} samples into {folder}")
        part = folder.with_name(".simulated.part")
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed before it took its name
        simulate(recipe, part, count=recipe.data.count, seed=recipe.seed)
        os.replace(part, folder)
    return str(folder)


@contextmanager
def _disk_errors(folder: Path, rest: str) -> Iterator[None]:
    """A full or read-only disk, said in one line with what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise UserError(f"{error.filename or folder}: {os.strerror(error.errno)}; {rest}") from None
