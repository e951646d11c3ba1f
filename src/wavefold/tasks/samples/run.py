"""Entry points for classification recipes: read, split, fit and evaluate; then predict, score and simulate samples."""

from __future__ import annotations

import csv
import inspect
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from wavefold.core.distributed import main_process_first
from wavefold.core.errors import UserError, plural
from wavefold.core.files import write_json, write_text
from wavefold.core.process import is_main_process
from wavefold.core.records import RunInfo, ScoreRow
from wavefold.core.registry import pick
from wavefold.core.run import RunFolder, start_run
from wavefold.data import SIMULATORS, WRITERS, test_files
from wavefold.data.dataset import Dataset
from wavefold.data.fingerprints import count_known, save_fingerprints
from wavefold.evaluation.intervals import paired_difference
from wavefold.evaluation.metric import Metric
from wavefold.evaluation.metrics import Score, cut_score, score
from wavefold.evaluation.standing import standing
from wavefold.models import MODELS
from wavefold.recipe import Recipe
from wavefold.tasks.base import Unit, check_same_data, new_run_info
from wavefold.tasks.samples.context import Context, baseline_file
from wavefold.tasks.samples.evaluate import decide_prior, decision_of, evaluate
from wavefold.tasks.samples.fit import Prepared, fit_member, prepare_fold
from wavefold.tasks.samples.inference import predictions_for
from wavefold.tasks.samples.kinds import Truth, Values
from wavefold.tasks.samples.predictions import Predictions, write_predictions
from wavefold.tasks.samples.reading import (
    axis_marks,
    column_marks,
    data_digest,
    even_grid,
    read_backgrounds,
    read_for,
    read_labelled,
    read_like,
    split_samples,
    warn_of,
)
from wavefold.tasks.samples.target import target_of
from wavefold.tasks.samples.validation import check_fits
from wavefold.training.monitor import TrainingMonitor

Log = Callable[[str], None]


class SampleTraining:
    """A training on labelled samples: what `Training` in `tasks/base.py` asks."""

    def __init__(self, context: Context) -> None:
        self.run, self.recipe, self.units = context.run, context.recipe, context.units
        self._context = context
        self._prepared: dict[int, Prepared] = {}  # the parts of the fold that was asked for last

    def samples(self, unit: Unit) -> int:
        """Samples of the fold's training part for a net, 0 for a member without epochs."""
        return len(self._context.folds[unit.fold].train) if unit.member.model in MODELS else 0

    def keep_parts(self) -> None:
        """Write splits.csv and seen.npy."""
        _keep_splits(self._context)

    def prepare(self, fold: int) -> None:
        """Fit the fold's transforms and make its synthetic samples."""
        if not (self.run.folder / f"fold{fold}" / "prepare.npz").exists():
            self._parts(fold)

    def fit(self, unit: Unit, monitor: TrainingMonitor) -> None:
        """Fit a member, or a baseline, on its fold's training part."""
        fit_member(self.recipe, unit, self._parts(unit.fold), monitor)

    def choice(self) -> tuple[str, bool]:
        """The last stage's metric for the validation part, and whether higher is better."""
        metric = self._metric()
        return metric.name, metric.higher_is_better

    def validated(self, unit: Unit) -> float:
        """That metric of a fitted member on its fold's validation samples."""
        index = self._context.folds[unit.fold].validation
        with np.load(unit.folder / "scores.npz", allow_pickle=False) as kept:
            return self._metric().function(kept["validation"], target_of(self.recipe).truth(self._context.dataset)[index])

    def _metric(self) -> Metric:
        target = target_of(self.recipe)
        metrics: Mapping[str, Metric] = target.metrics(target.outputs(self._context.dataset))
        return metrics[self.recipe.stage[-1].best]

    def evaluate(self) -> None:
        """Combine, calibrate, decide and score; predict the test files."""
        evaluate_samples(self._context)

    def _parts(self, fold: int) -> Prepared:
        if fold not in self._prepared:
            self._prepared.clear()  # one fold at a time is in memory
            with main_process_first():
                self._prepared[fold] = prepare_fold(self._context, self._context.folds[fold])
        return self._prepared[fold]


def begin_samples(recipe: Recipe, source: str, run: RunFolder, *, simulated: bool) -> SampleTraining:
    """Read and split all data before training, so that problems are reported early."""
    dataset = read_for(recipe, source)
    named = [Path(recipe.data.test)] if recipe.data.test else test_files(source)
    info = _info_of(recipe, dataset, simulated)
    tests = [read_like(recipe, str(path), info) for path in named]
    folds = split_samples(recipe, dataset)
    check_fits(recipe, dataset, folds)
    context = Context(run, recipe, dataset, tests, folds)
    start_run(run.folder, info.model_copy(update={"folds": len(folds)}), recipe.toml(), context.scores_digest)
    _keep_left_out(context)
    return SampleTraining(context)


def rejoin_samples(recipe: Recipe, source: str, run: RunFolder) -> SampleTraining:
    """Read and split the data of a run that another process has begun; test files are left to that one."""
    dataset = read_for(recipe, source)
    check_same_data(run, source, data_digest(recipe, dataset))
    return SampleTraining(Context(run, recipe, dataset, [], split_samples(recipe, dataset)))


def evaluate_samples(context: Context) -> None:
    """Score a run whose units are fitted; scores.json is written last and marks the run as finished."""
    if not is_main_process():
        return
    begun = time.monotonic()
    results, held_out = evaluate(context)
    write_predictions(context.run.folder / "held_out.csv", held_out)
    for dataset in context.tests:
        name = "submission.csv" if len(context.tests) == 1 else f"submission-{Path(dataset.source).name.partition('.')[0]}.csv"
        write_predictions(context.run.folder / name, _predicted(context.run, context.recipe, dataset))
    seconds = round(_seconds(context) + time.monotonic() - begun, 1)
    write_json(context.run.folder / "scores.json", {**results.as_json(), "seconds": seconds, "judged": context.scores_digest})


def _predicted(run: RunFolder, recipe: Recipe, dataset: Dataset, size: int = 512) -> Predictions:
    values = predictions_for(run, dataset, size)
    return target_of(recipe).predictions(
        recipe, dataset.ids, run.metadata.classes, values, decision_of(run, recipe).apply(values)
    )


def predict_samples(run: RunFolder, recipe: Recipe, source: str, *, size: int, warn: Log) -> Predictions:
    """Predict every sample of a source, with decisions, in order; for a folder, of its only test file."""
    dataset = read_like(recipe, file_to_predict(source), run.metadata)
    warn_of(dataset, warn)
    return _predicted(run, recipe, dataset, size)


def file_to_predict(source: str) -> str:
    """The source itself, or a folder's only test file; UserError if it contains several."""
    tests = test_files(source)
    if len(tests) > 1:
        raise UserError(f"{source}: contains the test files {', '.join(t.name for t in tests)}; name one of them")
    return str(tests[0]) if tests else source


def score_samples(run: RunFolder, recipe: Recipe, source: str, *, size: int, warn: Log, by: Sequence[str]) -> Score:
    """Score a run on a labelled source: the recipe's metric with a 95 % interval, and others. by: columns of subgroups."""
    target, dataset = target_of(recipe), read_labelled(recipe, source, run.metadata, warn)
    warn_of(dataset, warn)
    marks = {column: column_marks(dataset, column) for column in by}
    values = predictions_for(run, dataset, size)
    _warn_of_known(run, dataset, warn)
    decided, truth = decision_of(run, recipe).apply(values), target.truth(dataset)
    metrics = target.metrics(run.metadata.classes, run.metadata.units)
    metric, groups, seed = metrics[recipe.output.metric], dataset.groups if recipe.split.group else None, recipe.seed
    whole = score(values, truth, metric=metric.name, table=metrics, decided=decided, groups=groups, seed=seed)
    shown = decided if metric.decided else values
    cuts = {c: cut_score(metric, shown, truth, words, groups=groups, seed=seed) for c, words in marks.items()}
    baselines = _compared(run, recipe, dataset, size, metric, shown, truth)
    line = standing(metric.name, baselines, {metric.name: metric.higher_is_better}, {metric.name: metric.unit})
    return replace(whole, by=cuts, per=recipe.output.per, standing=line, baselines=tuple(baselines))


def _compared(
    run: RunFolder, recipe: Recipe, dataset: Dataset, size: int, metric: Metric, ours: Values, truth: Truth
) -> list[ScoreRow]:
    """The metric of a run's baselines on new samples, and how the ensemble differs; none for runs that kept no baselines."""
    rows, groups = [], dataset.groups if recipe.split.group else None
    for name, values, decided in baselines_for(run, recipe, dataset, size):
        theirs = decided if metric.decided else values
        differences = {metric.name: paired_difference(metric, ours, theirs, truth, groups=groups, seed=recipe.seed)}
        rows.append(ScoreRow.of({metric.name: metric.function(theirs, truth)}, name=name, differences=differences))
    return rows


def baselines_for(run: RunFolder, recipe: Recipe, dataset: Dataset, size: int) -> Iterator[tuple[str, Values, Values]]:
    """Name, predictions and decisions of each of a run's baselines for new samples."""
    if not (run.folder / "prior.npz").exists():
        return
    with np.load(run.folder / "prior.npz", allow_pickle=False) as kept:
        prior = np.repeat(kept["prior"][None], len(dataset), axis=0)
    yield target_of(recipe).prior_name, prior, decide_prior(recipe, prior)
    for name in recipe.output.compared:
        values = predictions_for(run, dataset, size, baseline=name)
        yield name, values, decision_of(run, recipe, baseline_file(name)).apply(values)


def _warn_of_known(run: RunFolder, dataset: Dataset, warn: Log) -> None:
    known = count_known(run.folder / "seen.npy", dataset.signals)
    if known:
        were = "were" if known > 1 else "was"
        warn(
            f"{known:,} of these {plural(len(dataset), 'sample')} {were} used for training or validation: "
            "the score is too optimistic"
        )


def simulate_samples(recipe: Recipe, folder: Path, *, count: int, seed: int) -> Path:
    """Write simulated samples in the file layout of the recipe's real data."""
    make = pick(SIMULATORS, recipe.data.simulator, "data.simulator")
    target = target_of(recipe)
    names = target.classes_of(target.names(recipe))
    dataset = make(count, seed, shape=recipe.data.shape, classes=names, **_backgrounds(recipe, make))
    rate = recipe.data.rate
    if rate and dataset.unit and dataset.unit != f"1/{rate} s":
        raise UserError(
            f"data.rate: simulator '{recipe.data.simulator}' makes steps of {dataset.unit}, not of 1/{rate} s; leave it out"
        )
    return pick(WRITERS, recipe.data.writes, "data.writes")(dataset, folder)


def _backgrounds(recipe: Recipe, make: Callable[..., Dataset]) -> dict[str, Dataset]:
    """Backgrounds for the simulator, if the recipe names any; UserError if the simulator does not take them."""
    if not recipe.data.backgrounds:
        return {}
    if "backgrounds" not in inspect.signature(make).parameters:
        raise UserError(f"data.backgrounds: the simulator {recipe.data.simulator} makes its own backgrounds; remove this key")
    return {"backgrounds": read_backgrounds(recipe)}


def _info_of(recipe: Recipe, dataset: Dataset, simulated: bool) -> RunInfo:
    names = target_of(recipe).outputs(dataset)
    units = {"units": tuple(recipe.data.target_units)} if recipe.data.target_units else {}
    return new_run_info(
        recipe,
        data_digest(recipe, dataset),
        source=dataset.source,
        simulated=simulated,
        samples=len(dataset),
        shape=dataset.signals.shape[1:],
        unit=dataset.unit,
        axis=axis_marks(dataset),
        grid=even_grid(dataset),
        attrs=dict(dataset.attrs),
        positions=dataset.positions,
        left_out=len(dataset.left_out),
        classes=names,
        **units,
    )


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
    return sum(float((unit.folder / "seconds.json").read_text()) for unit in context.units)
