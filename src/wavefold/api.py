"""The pipeline: read, split, fit every fold, evaluate, save; then predict and score. Start here.

Each stage is a module of `story`: `checking` (recipe and data, before anything else), `reading` (samples and folds),
`fitting` (one fold: prepare, members, stages), `judging` (combine, decide, evaluate), `asking` (predictions for new samples),
`searching` (a whole observation). Parts are built from the recipe's short names in `base.build`.
"""

from __future__ import annotations

import csv
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
from numpy.typing import NDArray

from wavefold.core.device import main_process_first, make_deterministic
from wavefold.core.errors import UserError, plural
from wavefold.core.files import NO_ROOM, write_json, write_text
from wavefold.core.interrupt import stop_on_signals
from wavefold.core.outputs import check_fresh, check_output
from wavefold.core.plugins import domains
from wavefold.core.process import is_main_process
from wavefold.core.registry import pick
from wavefold.core.run import Run, lock_folder, start_run
from wavefold.data import SIMULATORS, WRITERS, test_files
from wavefold.data.dataset import Dataset
from wavefold.data.fingerprints import count_known, save_fingerprints
from wavefold.data.lazy import Lazy
from wavefold.data.sources import files_read
from wavefold.domains.base import domain_of
from wavefold.evaluation.metrics import Score, cut_score, score
from wavefold.export.classification import export_run
from wavefold.export.forecasting import export_forecaster
from wavefold.recipe import Recipe, digest_of
from wavefold.reports.classification import report_samples
from wavefold.reports.explore_frames import explore_frames
from wavefold.reports.explore_samples import explore_samples
from wavefold.reports.forecasting import report_frames
from wavefold.reports.page import write_page
from wavefold.reports.score_table import lead_table, score_table
from wavefold.serving.app import Limits, check_server, new_app, run_server
from wavefold.serving.classification import served_run
from wavefold.tasks.classification.context import Context, run_metadata
from wavefold.tasks.classification.evaluate import decided_by, evaluate, predictions_of
from wavefold.tasks.classification.fit import fit_fold, new_monitor
from wavefold.tasks.classification.inference import probabilities_for, recipe_of
from wavefold.tasks.classification.predictions import Predictions, check_target, write_predictions
from wavefold.tasks.classification.reading import (
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
from wavefold.tasks.classification.validation import check_data, check_fits, check_recipe, describe_members
from wavefold.tasks.forecasting.forecasts import Forecasts, check_forecast_target
from wavefold.tasks.forecasting.run import (
    FrameScore,
    begin_frames,
    fit_and_evaluate_frames,
    forecast,
    score_frames,
    simulate_frames,
)
from wavefold.tasks.forecasting.validation import check_frame_recipe, check_frames, describe_forecasters

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

Log = Callable[[str], None]

_NO_SKIPPING = "--skip-bad: applies only to labelled samples; frames may have missing cells without it"


def check(recipe: Recipe, data: str = "") -> list[str]:
    """Raise UserError for the first problem with a recipe or its data; otherwise describe the data, as lines."""
    (check_frame_recipe if recipe.windows else check_recipe)(recipe)
    if not data:
        return []
    return (check_frames if recipe.windows else check_data)(recipe, data)


def describe_nets(recipe: Recipe) -> str:
    """The layers of each net with output shapes and parameter counts, for the recipe's own shape."""
    return (describe_forecasters if recipe.windows else describe_members)(recipe)


@stop_on_signals()
def train(recipe: Recipe, *, data: str = "", out: Path, fresh: bool = False, log: Log = print) -> Run:
    """Train a recipe on labelled data, or on simulated data if none is given, and score it on held-out samples.

    Repeating the call resumes where the last one stopped and gives bit-identical results. If only combination or evaluation
    changed, the trained members are reused.
    """
    check(recipe)
    make_deterministic()
    if fresh:
        check_fresh(out, [Path(s).expanduser() for s in (data, *_named_in(recipe)) if s])
    if fresh and data:
        check(recipe, data)  # report problems with the data before deleting the old run
    begin, fit_and_evaluate = (begin_frames, fit_and_evaluate_frames) if recipe.windows else (_begin, _fit_and_evaluate)
    with (
        _disk_errors(out, "no partial file was left; fix this and repeat the same command to resume"),
        lock_folder(out, fresh=fresh),
    ):
        begun = (out / "fold0").exists()
        with main_process_first():
            context: Any = begin(recipe, data or _simulated(out / "simulated", recipe, log), Run(out), simulated=not data)
        if not (out / "scores.json").exists():
            if is_main_process() and begun:
                log(f"{out}: resuming where the last training stopped")
            fit_and_evaluate(context)
    if is_main_process():
        log(describe_scores(Run(out)))
    return Run(out)


def look(recipe: Recipe, source: str, *, out: Path) -> Path:
    """Write a page that describes the data, before any training: counts, classes, statistics, samples, defects."""
    (check_frame_recipe if recipe.windows else check_recipe)(recipe)
    _check_page(out)
    _check_out(out, [source, recipe.data.test])
    page = (explore_frames if recipe.windows else explore_samples)(recipe, source)
    with _disk_errors(out, "no partial file was left"):
        write_page(out, page)
    return out


def report(run: Run, *, out: Path | None = None, data: str = "", warn: Log = print) -> Path:
    """Write a page about a run: scores, learning curves, errors, explanations, limits, how to reproduce it.

    out: by default report.html in the run's folder. data: path of the run's data, if they were moved. warn: receives a line
    if the page has no samples because the data are missing.
    """
    recipe, target = recipe_of(run), out or run.folder / "report.html"
    _ = run.scores
    _check_page(target)
    _check_out(target, [data or run.source], run)
    page = (report_frames if recipe.windows else report_samples)(run, recipe, data, warn)
    with _disk_errors(target, "no partial file was left"):
        write_page(target, page)
    return target


def _check_page(out: Path) -> None:
    """UserError, before any work, for a page that would not be an .html file."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{out}: a page is an .html file; name one with --out")
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file with --out")


def _check_out(out: str | Path, sources: Sequence[str], run: Run | None = None) -> None:
    """UserError, before any work, for an output on a file of what is read, of the run or of what it learned from."""
    if out == "-":
        return
    learned = [run.source, *_named_in(recipe_of(run))] if run else []
    read = [file for source in (*sources, *learned) if source for file in files_read(source)]
    check_output(out, [*(Path(s).expanduser() for s in sources if s), *read], run.folder if run else None)


def _named_in(recipe: Recipe) -> list[str]:
    """The files and folders that a recipe itself names, '' where it names none."""
    return [recipe.data.test, recipe.data.backgrounds, recipe.data.digits]


def export(run: Run, *, out: Path, member: int | None = None, log: Log = print) -> Path:
    """Export a run as one ONNX file, from raw samples to probabilities or from raw frames to future ones.

    The file is checked against torch on real samples before it gets its name. member: export only this one.
    """
    recipe, _ = recipe_of(run), run.scores
    _check_out(out, [run.source], run)
    with _disk_errors(out, "no partial file was left"):
        if recipe.windows:
            return export_forecaster(run, out, member=member, log=log).path
        made = export_run(run, out, member=member, log=log)
    log(made.line())
    return made.path


def serve(run: Run, *, host: str, port: int, log: Log = print) -> None:
    """Serve a run's predictions over HTTP until stopped."""
    check_server()
    _ = run.scores
    run_server(new_app(served_run(run, log=log), Limits()), host, port, log=log)


def predict(
    run: Run, source: str, *, out: str, size: int = 512, skip_bad: bool = False, warn: Log = print
) -> Predictions | Forecasts:
    """Predict every sample of a source, in order; probabilities and decisions go to `out`, '-' for standard output.

    In a folder, its one test file is used, or else its training file; labels in the file are ignored. skip_bad: skip samples
    that cannot be read. warn: receives a line for each of those. For frames: forecasts after the end of every stretch.
    """
    recipe = recipe_of(run, skip_bad)
    (check_forecast_target if recipe.windows else check_target)(out)
    _check_out(out, [source], run)
    metadata, _ = run.metadata, run.scores
    _need_samples(recipe, skip_bad, _NO_SKIPPING)
    if recipe.windows:
        with _disk_errors(Path(out), "no partial file was left"):
            return forecast(run, recipe, source, out=out, size=size)
    tests = test_files(source)
    if len(tests) > 1:
        raise UserError(f"{source}: contains the test files {', '.join(t.name for t in tests)}; name one of them")
    dataset = read_like(recipe, str(tests[0]) if tests else source, metadata)
    warn_left_out(dataset, warn)
    predictions = predictions_of(recipe, dataset.ids, metadata["classes"], probabilities_for(run, dataset, size))
    with _disk_errors(Path(out), "no partial file was left"):
        write_predictions(out, predictions)
    return predictions


def search(
    run: Run, scans: Sequence[str], *, out: str, threshold: float = 0.5, size: int = 512, warn: Log = print
) -> list[Any]:
    """Search six scans of a cadence, filterbank files in time order, for needles; written to `out`, the best first.

    Pictures of the best go to the folder `<stem of out>_pictures` beside it, unless `out` is '-'. Lines may drift by up to half
    a fine channel per row. threshold: lowest probability of a window. warn: receives a line with that limit in Hz/s, and lines
    for skipped windows, for scans that do not share one clock, and if pictures cannot be drawn.
    """
    domain, metadata = domain_of(recipe_of(run).data.simulator), run.metadata
    if domain.search is None:
        raise UserError(f"{run.folder}: a run of {domain.words.sample[1]} takes one file or folder; got {len(scans)}")
    check_target(out)
    _check_out(out, scans, run)
    _ = run.scores
    classes = tuple(metadata["classes"])

    def predict_windows(windows: Lazy) -> NDArray[np.float64]:
        ids = np.arange(len(windows)).astype(np.str_)
        return probabilities_for(run, Dataset(windows, ids, classes=classes, source="windows"), size)[:, -1]

    with _disk_errors(Path(out), "no partial file was left"):
        return domain.search(predict_windows, metadata, scans, out=out, threshold=threshold, warn=warn)


def is_scan(path: str) -> bool:
    """Whether a file is one of those that a domain searches several of at once."""
    return any(domain.searches is not None and domain.searches(path) for domain in domains().values())


def score_run(
    run: Run, source: str, *, size: int = 512, skip_bad: bool = False, warn: Log = print, by: Sequence[str] = ()
) -> Score | FrameScore:
    """Score a run on a labelled source, or on frames: the recipe's metric with a 95 % interval, and the others that apply.

    by: columns of the source whose values are also scored one by one. skip_bad: skip samples that cannot be read. warn:
    receives a line for each of those, and one if the run was trained on samples of the source.
    """
    recipe, metadata, _ = recipe_of(run, skip_bad), run.metadata, run.scores
    _need_samples(recipe, skip_bad, _NO_SKIPPING)
    _need_samples(recipe, by, "--by: applies only to labelled samples; forecasts are scored by lead time")
    if recipe.windows:
        return score_frames(run, recipe, source, warn=warn)
    dataset = read_labelled(recipe, source, metadata, warn)
    warn_left_out(dataset, warn)
    check_shape(dataset, metadata)
    marks = {column: column_marks(dataset, column) for column in by}
    probabilities = probabilities_for(run, dataset, size)
    seen = count_known(run.folder / "seen.npy", dataset.signals)
    if seen:
        warn(
            f"{seen:,} of these {plural(len(dataset), 'sample')} {'were' if seen > 1 else 'was'} used for training or "
            "validation: the score is too optimistic"
        )
    decided = decided_by(recipe, recipe.combine.decide, probabilities)
    labels, metric = dataset.known_labels(), recipe.output.metric
    drawn: dict[str, Any] = {"groups": dataset.groups if recipe.split.group else None, "seed": recipe.seed}
    whole = score(probabilities, labels, metric=metric, decided=decided, **drawn)
    values = decided if metric == "l1" else probabilities
    return replace(whole, by={column: cut_score(metric, values, labels, words, **drawn) for column, words in marks.items()})


def simulate(recipe: Recipe, folder: Path, *, count: int, seed: int) -> Path:
    """Write simulated samples in the file layout of the recipe's real data; returns the file."""
    if recipe.windows:
        check(recipe)
        with _disk_errors(folder, "no partial file was left"):
            return simulate_frames(recipe, folder, count=count, seed=seed)
    make = pick(SIMULATORS, recipe.data.simulator, "data.simulator")
    dataset = make(count, seed, shape=recipe.data.shape, classes=recipe.data.classes, **_backgrounds(recipe, make))
    with _disk_errors(folder, "no partial file was left"):
        return pick(WRITERS, recipe.data.writes, "data.writes")(dataset, folder)


def _backgrounds(recipe: Recipe, make: Callable[..., Dataset]) -> dict[str, Dataset]:
    """Backgrounds for the simulator, if the recipe names any; UserError if the simulator does not take them."""
    if not recipe.data.backgrounds:
        return {}
    if "backgrounds" not in inspect.signature(make).parameters:
        raise UserError(f"data.backgrounds: the simulator {recipe.data.simulator} makes its own backgrounds; remove this key")
    return {"backgrounds": read_backgrounds(recipe)}


def _need_samples(recipe: Recipe, requested: object, word: str) -> None:
    """Raise UserError if a recipe of frames is given an option that applies only to labelled samples."""
    if recipe.windows and requested:
        raise UserError(word)


def describe_score(run: Run, result: Score | FrameScore) -> str:
    """Format a score as text; a summed metric also per the number of rows set in the recipe."""
    if isinstance(result, FrameScore):
        return lead_table(result.results)
    per = recipe_of(run).output.per
    lines = [result.line()]
    if result.metric == "l1" and per:
        value, low, high = (v * per / result.n for v in (result.value, *result.interval))
        lines.append(f"l1 per {plural(per, 'row')} {value:,.0f} [{low:,.0f}, {high:,.0f}]")
    lines += [f"{name} {value:.4f}" for name, value in result.others.items()]
    for column, cuts in result.by.items():
        lines += [f"{result.metric} by {column}:", *(f"  {value:<20} {cut.line()}" for value, cut in cuts.items())]
    return "\n".join(lines)


def describe_scores(run: Run) -> str:
    """Format the scores of a run as a table: the ensemble, its members, the baselines."""
    if "leads" in run.scores:
        return f"{run.metadata['recipe']}: {lead_table(run.scores)}\nrun: {run.folder}"
    lines = [f"{run.metadata['recipe']}: {score_table(run.scores)}", *_by_fold(run.scores), f"run: {run.folder}"]
    return "\n".join(lines)


def _by_fold(scores: Mapping[str, Any]) -> list[str]:
    """The ensemble's metric in each fold, as one line, if there are several."""
    values = [fold[scores["metric"]][0] for fold in scores.get("folds", [])]
    words = " ".join("?" if v is None else f"{v:,.0f}" if scores["metric"] == "l1" else f"{v:.4f}" for v in values)
    return [f"by fold: {scores['metric']} {words}"] if values else []


def _begin(recipe: Recipe, source: str, run: Run, *, simulated: bool) -> Context:
    """Read and split everything before fitting anything, so that problems are reported at once."""
    dataset = read_for(recipe, source)
    named = [Path(recipe.data.test)] if recipe.data.test else test_files(source)
    metadata = _metadata_of(recipe, dataset, simulated)
    tests = [read_like(recipe, str(path), metadata) for path in named]
    folds = split_samples(recipe, dataset)
    check_fits(recipe, dataset, folds)
    context = Context(run, recipe, dataset, tests, folds)
    start_run(run.folder, {**metadata, "folds": len(folds)}, recipe.toml(), context.scores_digest)
    _keep_left_out(context)
    return context


def _fit_and_evaluate(context: Context) -> None:
    """Fit every fold, then score; scores.json is written last and marks the run as finished."""
    _keep_splits(context)
    with new_monitor(context) as monitor:
        for fold in context.folds:
            fit_fold(context, fold, monitor)
    if not is_main_process():
        return
    begun = time.monotonic()
    results, held_out = evaluate(context)
    write_predictions(context.run.folder / "held_out.csv", held_out)
    for dataset in context.tests:
        name = "submission.csv" if len(context.tests) == 1 else f"submission-{Path(dataset.source).name.partition('.')[0]}.csv"
        probabilities = probabilities_for(context.run, dataset)
        write_predictions(
            context.run.folder / name, predictions_of(context.recipe, dataset.ids, dataset.classes, probabilities)
        )
    seconds = round(_seconds(context) + time.monotonic() - begun, 1)
    write_json(context.run.folder / "scores.json", {**results, "seconds": seconds, "judged": context.scores_digest})


def _metadata_of(recipe: Recipe, dataset: Dataset, simulated: bool) -> dict[str, Any]:
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
    return run_metadata(recipe, digest_of([dataset.digest, list(dataset.classes), list(dataset.signals.shape)]), known)


def _keep_left_out(context: Context) -> None:
    """List the skipped samples of the training data and of the test files."""
    rows = [(*row, dataset.source) for dataset in (context.dataset, *context.tests) for row in dataset.left_out]
    path = context.run.folder / "left_out.csv"
    if rows:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("id", "why", "source"), *rows])
        write_text(path, text.getvalue())
    elif is_main_process():
        path.unlink(missing_ok=True)


def _keep_splits(context: Context) -> None:
    """Write the ids of every part, one line per sample and fold, and the fingerprints of the samples used in training."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "fold", "part"])
    for fold in context.folds:
        for part in ("train", "validation", "test"):
            writer.writerows((name, fold.number, part) for name in context.dataset.ids[getattr(fold, part)].tolist())
    write_text(context.run.folder / "splits.csv", text.getvalue())
    seen = context.run.folder / "seen.npy"
    if is_main_process() and not seen.exists():  # only once, since it reads all samples; other data would be another run
        learned = np.unique(np.concatenate([index for f in context.folds for index in (f.train, f.validation)]))
        save_fingerprints(seen, context.dataset.signals, learned)


def _seconds(context: Context) -> float:
    """Seconds spent on fitting, over all sessions."""
    folders = [context.run.member(f.number, n, m.model) for f in context.folds for n, m in context.members]
    return sum(float((folder / "seconds.json").read_text()) for folder in folders)


def _simulated(folder: Path, recipe: Recipe, log: Log) -> str:
    """Simulate samples into the run's own folder, in the layout of real data; done once, atomically."""
    if not folder.exists() and is_main_process():
        log(f"no --data: simulating {plural(recipe.data.count, 'sample')} into {folder}")
        part = folder.with_name(".simulated.part")
        shutil.rmtree(part, ignore_errors=True)  # left by a killed process
        simulate(recipe, part, count=recipe.data.count, seed=recipe.seed)
        os.replace(part, folder)
    return str(folder)


@contextmanager
def _disk_errors(folder: Path, rest: str) -> Iterator[None]:
    """Report a full or read-only disk as one line with advice."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno not in NO_ROOM:
            raise
        raise UserError(f"{error.filename or folder}: {os.strerror(error.errno)}; {rest}") from None
