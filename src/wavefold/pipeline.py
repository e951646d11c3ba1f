"""The story: read, prepare, split, members, stages, combine, output. Start here.

Each function is a sentence of it. What a sentence needs is made from a recipe by short name, in `base.build`.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

import wavefold
from wavefold.base.blocks import by_blocks, row_blocks
from wavefold.base.build import build_part, check_options, pick
from wavefold.base.dataset import Dataset, Floats, Ints, Strings
from wavefold.base.device import be_repeatable, best_device, first_process_first, seed_step
from wavefold.base.errors import DataError, MissingGroup, UserError, listed
from wavefold.base.files import write_arrays, write_json, write_text, write_whole
from wavefold.base.keyed import key as make_key
from wavefold.base.process import leads
from wavefold.base.runs import Run, hold_folder, start_run
from wavefold.base.seen import count_seen, keep_seen
from wavefold.combine import CALIBRATIONS, COMBINERS, DECISIONS, Ensemble, HeldBack, cross_fit
from wavefold.data import SIMULATORS, WRITERS, check_grid, check_layout, read, test_files
from wavefold.models import CLASSIFIERS, MODELS, count_parameters, describe, prepare_for_prediction
from wavefold.output import Predictions, check_target, score_table, write_predictions
from wavefold.prepare import AUGMENTATIONS, BALANCERS, SPLITS, TRANSFORMS, Fold, holdout
from wavefold.recipe import Member, Recipe, StageRecipe, digest_of
from wavefold.training.batches import Batches, ByClass, EachOnce, check_fractions, class_fractions, named_for_others
from wavefold.training.loop import OPTIMISERS, Part, Stage, fit_stage, probabilities_of, unfinished
from wavefold.training.losses import LOSSES
from wavefold.training.metrics import METRICS, Score, f1_by_class, interval, score
from wavefold.training.schedule import SCHEDULES
from wavefold.training.state import StateFile
from wavefold.training.telling import Telling

Values = NDArray[np.float64]
Say = Callable[[str], None]

BASELINE = "baseline"  # stands for a member's number in the folder of a baseline's scores


# ---------------------------------------------------------------- train


@dataclass(frozen=True)
class Work:
    """One training: the run it fills, the recipe, the samples, the files to predict, the folds."""

    run: Run
    recipe: Recipe
    dataset: Dataset
    tests: list[Dataset]
    folds: list[Fold]

    @property
    def members(self) -> list[tuple[int | str, Member]]:
        """The members with their numbers; the baseline, if any, comes last."""
        members: list[tuple[int | str, Member]] = list(enumerate(self.recipe.member))
        baseline = self.recipe.output.baseline
        return members + ([(BASELINE, Member(model=baseline))] if baseline else [])

    @property
    def judged(self) -> str:
        """A digest of all that scores.json depends on beside the members."""
        tree = self.recipe.tree()
        left_out = [d.left_out for d in (self.dataset, *self.tests)]
        weights = [m.weight for m in self.recipe.member]
        return digest_of(
            [tree["combine"], weights, tree["output"], [t.digest for t in self.tests], left_out, wavefold.__version__]
        )


def train(recipe: Recipe, *, data: str = "", out: Path, fresh: bool = False, say: Say = print) -> Run:
    """Train a recipe on labelled data, or on simulated data where none is named, and score it on what it never saw.

    The same call again goes on where the last one stopped, and ends with the same bits. A call that only combines or
    measures otherwise uses the members that are there.
    """
    check_recipe(recipe)
    be_repeatable()
    if fresh and data:
        split_samples(recipe, read_for(recipe, data))  # what is wrong with the data is said before the old run is gone
    with _disk_errors(out, "nothing half-written is left, and the same command goes on"), hold_folder(out, fresh=fresh):
        with first_process_first():
            work = _begin(recipe, data or _simulated(out / "simulated", recipe, say), Run(out), simulated=not data)
        if not (out / "scores.json").exists():
            if leads() and (out / "fold0").exists():
                say(f"{out}: going on where the last training stopped")
            _fit_and_judge(work)
    if leads():
        say(describe_scores(work.run))
    return work.run


def _begin(recipe: Recipe, source: str, run: Run, *, simulated: bool) -> Work:
    """Read and split everything before anything is fitted, so that what is wrong is said at once."""
    dataset = read_for(recipe, source)
    named = [Path(recipe.data.test)] if recipe.data.test else test_files(source)
    facts = _facts(recipe, dataset, simulated)
    tests = [_read_like(recipe, str(path), facts) for path in named]
    folds = split_samples(recipe, dataset)
    _check_fractions_of(recipe, dataset)
    work = Work(run, recipe, dataset, tests, folds)
    start_run(run.folder, {**facts, "folds": len(folds)}, recipe.toml(), work.judged)
    _keep_left_out(work)
    return work


def _fit_and_judge(work: Work) -> None:
    """Fit every fold, then score; scores.json comes last and says that the run is done."""
    _keep_splits(work)
    with _telling(work) as telling:
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
        write_predictions(work.run.folder / name, _predictions(work.recipe, dataset.ids, dataset.classes, probabilities))
    seconds = round(_seconds(work) + time.monotonic() - begun, 1)
    write_json(work.run.folder / "scores.json", {**results, "seconds": seconds, "judged": work.judged})


def check_recipe(recipe: Recipe) -> None:
    """UserError for the first name, option or value in a recipe that no part takes; needs no data.

    Every part is made once, the nets without memory for their weights.
    """
    recipe.quickly()
    check_layout(recipe.data.layout)
    if recipe.data.grid is not None:
        check_grid(recipe.data.grid)
    pick(SIMULATORS, recipe.data.simulator, "data.simulator")
    pick(WRITERS, recipe.data.writes, "data.writes")
    _check_steps(recipe)
    given = ("labels", "groups", "seed", "classes")
    check_options(pick(SPLITS, recipe.split.way, "split.way"), recipe.split.options, "split", given, ("way", "group"))
    check_fractions(recipe.batches.fractions)
    _check_members(recipe)
    for i, stage in enumerate(recipe.stage):
        pick(LOSSES, stage.loss, f"stage.{i}.loss")
        counts = torch.ones(len(recipe.data.classes))
        check_options(LOSSES[stage.loss], stage.options, f"stage.{i}", ("counts",), type(stage).model_fields)
        build_part(LOSSES, stage.loss, stage.options, f"stage.{i}", counts=counts)
        pick(OPTIMISERS, stage.optimiser, f"stage.{i}.optimiser")
        pick(SCHEDULES, stage.schedule, f"stage.{i}.schedule")
        pick(METRICS, stage.best, f"stage.{i}.best")
    pick(COMBINERS, recipe.combine.by, "combine.by")
    if "weights" in recipe.combine.options:
        raise UserError("combine.weights: no such option; give each member a weight, as in --set member.0.weight=2.0")
    build_part(COMBINERS, recipe.combine.by, recipe.combine.options, "combine")
    pick(CALIBRATIONS, recipe.combine.calibrate, "combine.calibrate")
    pick(DECISIONS, recipe.combine.decide, "combine.decide")
    pick(METRICS, recipe.output.metric, "output.metric")
    if recipe.output.baseline:
        pick(CLASSIFIERS, recipe.output.baseline, "output.baseline")


def _check_steps(recipe: Recipe) -> None:
    augmented = ""
    for i, step in enumerate(recipe.prepare):
        pick(_STEPS, step.step, f"prepare.{i}.step")
        build_part(_STEPS, step.step, step.options, f"prepare.{i}")
        if step.step in AUGMENTATIONS:
            augmented = step.step
        elif augmented:
            raise UserError(
                f"prepare.{i}: '{step.step}' comes after '{augmented}', which is drawn anew for each batch: put it before"
            )


def _check_members(recipe: Recipe) -> None:
    shape, classes = (1, *recipe.data.shape), len(recipe.data.classes)
    for i, member in enumerate(recipe.member):
        if member.model in CLASSIFIERS:
            build_part(CLASSIFIERS, member.model, member.options, f"member.{i}", seed=0)
            continue
        pick({**MODELS, **CLASSIFIERS}, member.model, f"member.{i}.model")
        with torch.device("meta"):
            _new_net(member, shape, classes, 0, f"member.{i}")


def read_for(recipe: Recipe, source: str) -> Dataset:
    """The labelled samples of a source, as a recipe asks for them."""
    dataset = read(source, group=recipe.split.group, **_reading(recipe))
    labels, limit = dataset.known_labels(), recipe.data.limit
    if not 0 < limit < len(dataset):
        return dataset
    with _named(f"{source}, of which data.limit takes {limit}"):
        some = holdout(labels, fraction=limit / len(dataset), validation=0, seed=recipe.seed, classes=dataset.classes)
    return replace(dataset.take(some[0].test), source=f"{dataset.source}, of which data.limit takes {limit}")


def _reading(recipe: Recipe, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What `read` is told by a recipe; and by a run's facts, when its samples are to be like those it learned from."""
    data = recipe.data
    told: dict[str, Any] = {"layout": data.layout, "label_column": data.label, "grid": data.grid, "skip_bad": data.skip_bad}
    if facts is None:
        return told
    return {**told, "classes": tuple(facts["classes"]), "grid": facts.get("grid") or data.grid}


def split_samples(recipe: Recipe, dataset: Dataset) -> list[Fold]:
    """The folds of a dataset; by whole groups where the recipe names a group."""
    labels = dataset.known_labels()
    if len(np.unique(labels)) < 2:
        raise DataError(f"{dataset.source}: all samples are of class '{dataset.classes[labels[0]]}'; two classes are needed")
    given = {"labels": labels, "groups": dataset.groups if recipe.split.group else None, "classes": dataset.classes}
    with _named(dataset.source):
        folds: list[Fold] = build_part(SPLITS, recipe.split.way, recipe.split.options, "split", seed=recipe.seed, **given)
    held_back = len(folds[0].validation) if len(folds) == 1 else len(labels) - max(len(f.test) for f in folds)
    needed = COMBINERS[recipe.combine.by].needs
    if held_back < needed:
        raise UserError(
            f"split: holds back {held_back} samples, and combine.by='{recipe.combine.by}' needs {needed} to learn from; "
            "raise split.validation or bring more samples"
        )
    return folds


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Say of which file a split's complaint is."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{source}: {error}") from None


def fit_fold(work: Work, fold: Fold, telling: Telling) -> None:
    """Fit every member, and the baseline, on the training part of one fold."""
    folders = [(n, m, work.run.member(fold.number, n, m.model)) for n, m in work.members]
    if all((folder / "scores.npz").exists() for _, _, folder in folders):
        telling.skip_fold(len(fold.train))
        return
    with first_process_first():
        prepared = prepare_fold(work, fold)
    for number, member, folder in folders:
        telling.begin(fold.number, len(fold.train), f"{number} {member.model}", folder)
        if not (folder / "scores.npz").exists():
            task = Task(work.recipe, member, prepared, folder, _member_key(work.recipe, member, number, fold))
            (_fit_net if member.model in MODELS else _fit_classifier)(task, telling)
        telling.end(member.model in MODELS)


@dataclass(frozen=True)
class Prepared:
    """One fold's signals as members take them; what was learned or invented came from its training part only."""

    classes: tuple[str, ...]
    train: Floats  # (sample, channel, position), invented samples last
    labels: Ints  # (sample,)
    samples: Ints  # (sample,) numbers that key each sample's random draws
    validation: Floats
    validation_labels: Ints
    test: Floats


@dataclass(frozen=True)
class Task:
    """One member to fit in one fold, and where what it learns goes."""

    recipe: Recipe
    member: Member
    prepared: Prepared
    folder: Path
    key: int  # of all that is drawn at random


def prepare_fold(work: Work, fold: Fold) -> Prepared:
    """Take the recipe's steps in order: transforms learned on the training part, then applied to all; samples balanced."""
    dataset, folder = work.dataset, work.run.folder / f"fold{fold.number}"
    every, indexes = dataset.known_labels(), (fold.train, fold.validation, fold.test)
    parts = [by_blocks(lambda block: block, dataset.signals, folder, index) for index in indexes]
    labels, samples = every[fold.train], fold.train
    states: dict[str, NDArray[Any]] = {}
    for number, step in enumerate(work.recipe.prepare):
        if step.step in TRANSFORMS:
            transform = build_part(TRANSFORMS, step.step, step.options, f"prepare.{number}")
            transform.fit(parts[0], labels)
            parts = [by_blocks(transform.apply, part, folder) for part in parts]
            states |= {f"{number}.{name}": value for name, value in transform.state().items()}
        elif step.step in BALANCERS:
            made = _balance(work, number, folder / f"made{number}.npz", parts[0], labels)
            parts[0], labels = np.concatenate([parts[0], made[0]]), np.concatenate([labels, made[1]])
            samples = np.concatenate([samples, len(every) + np.arange(len(made[1]))])
    write_arrays(folder / "prepare.npz", states)
    train, validation, test = parts
    return Prepared(dataset.classes, train, labels, samples, validation, every[fold.validation], test)


def _balance(work: Work, number: int, path: Path, signals: Floats, labels: Ints) -> tuple[Floats, Ints]:
    """The samples that a balancer invents from a training part; kept in the run, so that a restart need not again."""
    if not path.exists():
        step = work.recipe.prepare[number]
        balancer = build_part(BALANCERS, step.step, step.options, f"prepare.{number}")
        seed = make_key(work.recipe.seed, number) & 0x7FFFFFFF
        both, numbers, made = balancer.resample(signals, labels, seed, work.dataset.classes)
        write_arrays(path, {"signals": both[len(both) - made :], "labels": numbers[len(numbers) - made :]})
    with np.load(path, allow_pickle=False) as kept:
        return kept["signals"], kept["labels"]


def _fit_net(task: Task, telling: Telling) -> None:
    """Train one net through the recipe's stages; keep its weights and its probabilities of what was held back."""
    recipe, prepared, device = task.recipe, task.prepared, best_device()
    model = _new_net(task.member, prepared.train.shape, len(prepared.classes), task.key).to(device)
    steps = [s for s in recipe.prepare if s.step in AUGMENTATIONS]
    augmentations = tuple(build_part(AUGMENTATIONS, s.step, s.options, "prepare") for s in steps)
    signals, labels, samples = (torch.from_numpy(a).to(device) for a in (prepared.train, prepared.labels, prepared.samples))
    part = Part(signals, labels, samples, _batches(task), augmentations)
    stages = [_stage(task, i, s) for i, s in enumerate(recipe.stage)]
    file = StateFile(task.folder / "state.pt", recipe.batches.save_every)
    state = file.read()
    telling.resume(state)
    for stage in unfinished(stages, state):
        fit_stage(model, part, _checker(prepared), stage, state, file, telling)
    model.load_state_dict(state.best_weights)
    weights = {name: value.contiguous() for name, value in state.best_weights.items()}
    write_whole(task.folder / "weights.safetensors", lambda stream: stream.write(safetensors.torch.save(weights)))
    ready = prepare_for_prediction(model)
    file.count_time(state)
    _keep_scores(task, lambda signals: probabilities_of(ready, torch.from_numpy(signals)), state.seconds)
    file.remove()


def _fit_classifier(task: Task, telling: Telling) -> None:
    """Fit a classifier that learns in one go; keep it and its probabilities of what was held back."""
    begun = time.monotonic()
    classifier = build_part(CLASSIFIERS, task.member.model, task.member.options, "member", seed=task.key & 0x7FFFFFFF)
    classifier.fit(task.prepared.train, task.prepared.labels, len(task.prepared.classes))
    if leads():
        task.folder.mkdir(parents=True, exist_ok=True)
        classifier.save(task.folder)
    _keep_scores(task, classifier.probabilities, time.monotonic() - begun)


def _keep_scores(task: Task, ask: Callable[[Floats], Values], seconds: float) -> None:
    """Write a member's probabilities of the validation and the test part; that they are there says that it is done."""
    scores = {part: ask(getattr(task.prepared, part)) for part in ("validation", "test")}
    write_json(task.folder / "seconds.json", round(seconds, 1))
    write_arrays(task.folder / "scores.npz", scores)


def _new_net(member: Member, shape: Sequence[int], classes: int, key: int, place: str = "member") -> nn.Module:
    seed_step(key)
    given = {"channels": shape[1], "length": shape[2], "classes": classes}
    net: nn.Module = build_part(MODELS, member.model, member.options, place, **given)
    return net


def _member_key(recipe: Recipe, member: Member, number: int | str, fold: Fold) -> int:
    if member.seed is not None:
        return make_key(recipe.seed, fold.number, -2, member.seed)  # apart from every number of a member without a seed
    return make_key(recipe.seed, fold.number, -1 if number == BASELINE else int(number))


def _stage(task: Task, number: int, stage: StageRecipe) -> Stage:
    counts = torch.from_numpy(np.bincount(task.prepared.labels, minlength=len(task.prepared.classes)))
    return Stage(
        number=number,
        loss=build_part(LOSSES, stage.loss, stage.options, f"stage.{number}", counts=counts).to(best_device()),
        metric=stage.best,
        higher_is_better=METRICS[stage.best].higher_is_better,
        key=task.key,
        **{name: getattr(stage, name) for name in _SHARED},
    )


def _batches(task: Task) -> Batches:
    batches, labels = task.recipe.batches, task.prepared.labels
    if batches.fractions == "each":
        return EachOnce(len(labels), batches.size, batches.steps)
    fractions = class_fractions(batches.fractions, labels, task.prepared.classes)
    return ByClass(labels, fractions, batches.size, batches.steps)


def _check_fractions_of(recipe: Recipe, dataset: Dataset) -> None:
    """UserError where the classes that batches.fractions names are not those of the data."""
    if recipe.batches.fractions != "each":
        class_fractions(recipe.batches.fractions, dataset.known_labels(), dataset.classes)


_SHARED = ("epochs", "rate", "optimiser", "weight_decay", "schedule", "patience", "average")
_STEPS = {**TRANSFORMS, **BALANCERS, **AUGMENTATIONS}


def _checker(prepared: Prepared) -> Callable[[nn.Module], dict[str, float]]:
    """What the loop asks after each epoch: the metrics of a model on the validation part."""
    signals = torch.from_numpy(prepared.validation)

    def check(model: nn.Module) -> dict[str, float]:
        if not len(signals):
            return {}
        probabilities = probabilities_of(model, signals)
        return {name: m.function(probabilities, prepared.validation_labels) for name, m in METRICS.items()}

    return check


def _telling(work: Work) -> Telling:
    nets = sum(member.model in MODELS for member in work.recipe.member)
    epochs = [stage.epochs for stage in work.recipe.stage]
    return Telling([len(f.train) for f in work.folds], epochs, nets, tensorboard=work.recipe.output.tensorboard)


# ---------------------------------------------------------------- judge


def judge(work: Work) -> tuple[dict[str, Any], Predictions]:
    """Score the ensemble, each other choice, each member and the baselines on the test parts; keep the ensemble.

    Returns what scores.json says, and the ensemble's predictions of the test parts.
    """
    recipe, dataset, combine = work.recipe, work.dataset, work.recipe.combine
    jury = _Jury(recipe, dataset, _tested(work), _held_back(work))
    members = range(len(recipe.member))
    _fit_ensemble(recipe, jury.learned).save(work.run.folder / "ensemble.npz")
    probabilities = jury.ask(members, combine.by, combine.calibrate)
    choices, notes = jury.compare(members)
    results: dict[str, Any] = {
        "metric": recipe.output.metric,
        "per": recipe.output.per,
        "n": len(np.unique(jury.tested.rows)),
        "rows": len(jury.tested.rows),  # more than n where folds are repeated
        "learned_from": round(float(np.mean([len(f.train) for f in work.folds]))),
        "score": jury.row(probabilities, combine.decide),
        "choices": choices,
        "members": [{"name": f"{n} {m.model}", **jury.alone(n)} for n, m in enumerate(recipe.member)],
        "baselines": _baselines(work, jury),
        "notes": _notes(work) + notes,
    }
    results["notes"] += _no_better(results)
    return results, _predictions(recipe, dataset.ids[jury.tested.rows], dataset.classes, probabilities)


@dataclass(frozen=True)
class _Jury:
    """What scores an answer: the test parts' scores, and the held-back ones that combining may learn from.

    These are other samples than the ones scored: the validation part where there is one fold, the other folds' test
    parts where there are more.
    """

    recipe: Recipe
    dataset: Dataset
    tested: HeldBack
    learned: HeldBack

    def ask(self, members: Sequence[int], by: str, calibrate: str) -> Values:
        """Probabilities of the test parts by some members, combined and calibrated."""
        seed, options = self.recipe.seed, _combining(self.recipe, by, members)
        return cross_fit(self.tested, self.learned, members, by=by, calibrate=calibrate, seed=seed, options=options)

    def alone(self, member: int) -> dict[str, Any]:
        """Metrics of one member, calibrated and decided as the recipe says."""
        return self.row(self.ask([member], "mean", self.recipe.combine.calibrate), self.recipe.combine.decide)

    def compare(self, members: Sequence[int]) -> tuple[list[dict[str, Any]], list[str]]:
        """Metrics of every choice of combiner, calibration and decision; and notes on those that could not be made."""
        choices, notes = [], []
        for by in COMBINERS if len(members) > 1 else ["mean"]:
            try:
                asked = [(calibrate, self.ask(members, by, calibrate)) for calibrate in CALIBRATIONS]
            except DataError as error:  # too few held-back samples for a choice that nobody asked for
                notes.append(f"not compared: {error}")
                continue
            for (calibrate, answer), decide in product(asked, DECISIONS):
                choices.append({"by": by, "calibrate": calibrate, "decide": decide, **self.row(answer, decide)})
        return choices, notes

    def row(self, probabilities: Values, decide: str) -> dict[str, Any]:
        """Metrics of an answer: value and 95 % interval, drawn over groups where the split keeps them whole."""
        labels, output = self.tested.labels, self.recipe.output
        decided, groups = _decide(self.recipe, decide, probabilities), self._drawn_whole()
        row: dict[str, Any] = {}
        for name in dict.fromkeys([output.metric, "accuracy", "macro-f1", "l1"]):
            values = decided if name == "l1" else probabilities
            scale = output.per / len(labels) if name == "l1" and output.per else 1.0
            ends = interval(name, values, labels, groups=groups, seed=self.recipe.seed)
            row[name] = [scale * v for v in (METRICS[name].function(values, labels), *ends)]
        row |= {name: METRICS[name].function(probabilities, labels) for name in ("log-loss", "ece", "auc")}
        return {**row, "f1-by-class": f1_by_class(probabilities, labels)}

    def _drawn_whole(self) -> NDArray[Any] | None:
        rows = self.tested.rows
        if self.recipe.split.group and self.dataset.groups is not None:
            return self.dataset.groups[rows]
        return rows if len(np.unique(rows)) < len(rows) else None  # repeats of a sample are drawn together


def _combining(recipe: Recipe, by: str, members: Sequence[int]) -> dict[str, Any]:
    """Options of a combiner of some members, the baseline's number being one past the last; the mean weighs them."""
    if by == "mean":
        weights = [*(m.weight for m in recipe.member), 1.0]
        return {"weights": [weights[n] for n in members]}
    return recipe.combine.options if by == recipe.combine.by else {}


def _fit_ensemble(recipe: Recipe, learned: HeldBack) -> Ensemble:
    """The ensemble that predicts new samples: fitted on all that was held back."""
    combine, every = recipe.combine, np.ones(len(learned.rows), bool)
    members, labels = learned.take(every, range(len(recipe.member)))
    more: dict[str, Any] = {"labels": labels, "samples": learned.rows, "seed": recipe.seed}
    more["options"] = _combining(recipe, combine.by, range(len(recipe.member)))
    return Ensemble.fit(combine.by, combine.calibrate, members, **more)


def _baselines(work: Work, jury: _Jury) -> list[dict[str, Any]]:
    rows = [{"name": "majority", **jury.row(_majority(work), work.recipe.combine.decide)}]
    if work.recipe.output.baseline:
        rows.append({"name": work.recipe.output.baseline, **jury.alone(len(work.recipe.member))})
    return rows


def _tested(work: Work) -> HeldBack:
    """Every member's scores of the test parts, the baseline's last."""
    return _gather(work, "test")


def _held_back(work: Work) -> HeldBack:
    """What a combiner may learn from: other samples than one fold's test part, or all test parts of several folds."""
    return _gather(work, "test" if len(work.folds) > 1 else "validation")


def _gather(work: Work, part: str) -> HeldBack:
    indexes = [getattr(fold, part) for fold in work.folds]
    rows = np.concatenate(indexes)
    fold = np.concatenate([np.full(len(index), f.number) for f, index in zip(work.folds, indexes, strict=True)])
    scores = [[_kept_scores(work.run.member(f.number, n, m.model), part) for f in work.folds] for n, m in work.members]
    return HeldBack(rows, fold, work.dataset.known_labels()[rows], np.stack([np.concatenate(s) for s in scores]))


def _kept_scores(folder: Path, part: str) -> Values:
    with np.load(folder / "scores.npz", allow_pickle=False) as kept:
        scores: Values = kept[part]
    return scores


def _decide(recipe: Recipe, decide: str, probabilities: Values) -> Values:
    options = {"threshold": recipe.combine.threshold} if decide == "thresholds" else {}
    decided: Values = DECISIONS[decide](probabilities, **options)
    return decided


def _majority(work: Work) -> Values:
    """Each test sample gets the class shares of its fold's training part."""
    labels, classes = work.dataset.known_labels(), len(work.dataset.classes)
    shares = [np.bincount(labels[f.train], minlength=classes) / len(f.train) for f in work.folds]
    return np.concatenate([np.tile(s, (len(f.test), 1)) for s, f in zip(shares, work.folds, strict=True)])


def _no_better(results: Mapping[str, Any]) -> list[str]:
    """A word where the ensemble is no better than a class that is always answered."""
    metric = results["metric"]
    value, majority = results["score"][metric][0], results["baselines"][0][metric][0]
    if value > majority if METRICS[metric].higher_is_better else value < majority:
        return []
    return ["no better than the majority class: it has learned nothing; more epochs, smaller batches or more samples may help"]


def _notes(work: Work) -> list[str]:
    """What a reader of the score must know beside it."""
    simulated = ["learned from and tested on simulated samples: this says nothing about real ones"]
    notes = simulated if work.run.facts["simulated"] else []
    return notes + _data_notes(work.recipe, work.dataset, work.folds)


def _data_notes(recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
    """What the data did to a recipe's wishes."""
    notes = []
    if dataset.left_out:
        notes.append(f"{len(dataset.left_out):,} samples could not be read and were left out")
    if named_for_others(recipe.batches.fractions, dataset.classes) and any(m.model in MODELS for m in recipe.member):
        names = listed(recipe.batches.fractions)
        notes.append(f"batches.fractions names {names}, none of them a class here: batches have the data's own shares")
    return notes + _few_to_choose_by(dataset, folds) + _straddling(recipe, dataset, folds)


def _few_to_choose_by(dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
    """A word on the class that a validation part hardly holds: what is chosen there is chosen by luck."""
    labels, classes = dataset.known_labels(), dataset.classes
    counts = [np.bincount(labels[f.validation], minlength=len(classes)) for f in folds if len(f.validation)]
    least = np.min(counts, axis=0) if counts else np.full(len(classes), _FEW)
    if least.min() >= _FEW:
        return []
    rarest = int(least.argmin())
    return [
        f"only {least[rarest]} of class '{classes[rarest]}' to choose the best weights by: "
        "raise split.validation or add samples"
    ]


_FEW = 3  # samples of a class in a validation part, below which a note is due


def _straddling(recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
    groups = dataset.groups
    if groups is None or recipe.split.group:
        return []
    both = {g for f in folds for g in set(groups[f.train]) & set(groups[f.test])}
    if not both:
        return []
    return [
        f"{len(both)} of {len(set(groups))} groups ({dataset.grouping}) stand on both sides of the split: this is a score for "
        f"known ones. For unseen ones add --set split.group={dataset.grouping}"
    ]


# ---------------------------------------------------------------- predict and score


def predict(run: Run, source: str, *, out: str, size: int = 512, skip_bad: bool = False, warn: Say = print) -> Predictions:
    """Probabilities and decisions for every sample of a source, in its order; written to `out`, '-' for standard output.

    Of a folder its one test file is taken, or else its training file; labels that a file may hold are not looked at.
    skip_bad: go on without samples that cannot be read. warn: takes a line for each of those.
    """
    check_target(out)
    if out != "-" and Path(out).exists() and Path(source).exists() and Path(out).samefile(source):
        raise UserError(f"{out}: is the input itself; name another file with --out")
    recipe, facts, _ = _recipe_of(run, skip_bad), run.facts, run.scores
    tests = test_files(source)
    if len(tests) > 1:
        raise UserError(f"{source}: holds {', '.join(t.name for t in tests)}; name one of them")
    dataset = _read_like(recipe, str(tests[0]) if tests else source, facts)
    _warn_left_out(dataset, warn)
    predictions = _predictions(recipe, dataset.ids, facts["classes"], probabilities_for(run, dataset, size))
    with _disk_errors(Path(out), "nothing half-written is left"):
        write_predictions(out, predictions)
    return predictions


def score_run(run: Run, source: str, *, size: int = 512, skip_bad: bool = False, warn: Say = print) -> Score:
    """The recipe's metric and the others that fit, with n and a 95 % interval, on a labelled source.

    skip_bad: go on without samples that cannot be read. warn: takes a line for each of those, and where the run has learned
    from samples of the source.
    """
    recipe, facts, _ = _recipe_of(run, skip_bad), run.facts, run.scores
    dataset = _read_labelled(recipe, source, facts, warn)
    _warn_left_out(dataset, warn)
    _check_shape(dataset, facts)
    probabilities = probabilities_for(run, dataset, size)
    seen = count_seen(run.folder / "seen.npy", dataset.signals)
    if seen:
        warn(f"{seen:,} of these {len(dataset):,} samples were learned from or chosen by: for them this is no honest score")
    return score(
        probabilities,
        dataset.known_labels(),
        metric=recipe.output.metric,
        decided=_decide(recipe, recipe.combine.decide, probabilities),
        groups=dataset.groups if recipe.split.group else None,
        seed=recipe.seed,
    )


def probabilities_for(run: Run, dataset: Dataset, size: int = 512) -> Values:
    """What a run's whole ensemble says of new samples, whatever the batch size; result: (sample, class).

    Each fold's members are combined and calibrated as they were measured; the folds' answers are averaged.
    """
    recipe, facts = _recipe_of(run), run.facts
    ensemble = Ensemble.load(recipe.combine.by, recipe.combine.calibrate, run.folder / "ensemble.npz")
    total: Values = np.zeros((len(dataset), len(facts["classes"])))
    for fold, rows in product(range(facts["folds"]), row_blocks(len(dataset))):
        signals = _prepare_like(run, recipe, fold, dataset.signals[rows])
        shape = (*signals.shape, len(facts["classes"]))
        asked = [_ask_member(m, run.member(fold, n, m.model), signals, shape, size) for n, m in enumerate(recipe.member)]
        total[rows] += ensemble.probabilities(np.stack(asked)) / facts["folds"]
    return total


def describe_score(run: Run, result: Score) -> str:
    """A score as lines for people; a summed metric also for the rows that the recipe quotes it for."""
    per = _recipe_of(run).output.per
    lines = [result.line()]
    if result.metric == "l1" and per:
        value, low, high = (v * per / result.n for v in (result.value, *result.interval))
        lines.append(f"l1 per {per:,} rows {value:,.0f} [{low:,.0f}, {high:,.0f}]")
    return "\n".join([*lines, *(f"{name} {value:.4f}" for name, value in result.others.items())])


def _read_like(recipe: Recipe, source: str, facts: Mapping[str, Any]) -> Dataset:
    """Samples to predict: of the shape that was learned from; labels are not looked at."""
    dataset = read(source, labels=False, group=recipe.split.group, **_reading(recipe, facts))
    _check_shape(dataset, facts)
    return dataset


def _read_labelled(recipe: Recipe, source: str, facts: Mapping[str, Any], warn: Say) -> Dataset:
    """Samples to score: a folder's one test file where that has labels, else its training file, or the file itself."""
    options, tests = _reading(recipe, facts), test_files(source)
    if len(tests) == 1 and read(tests[0], **options).labels is not None:
        source = str(tests[0])
    try:
        dataset = read(source, group=recipe.split.group, **options)
    except MissingGroup:
        dataset = read(source, **options)
        warn(f"{source}: has no column '{recipe.split.group}'; the interval is over samples, not over groups")
    dataset.known_labels()
    return dataset


def _warn_left_out(dataset: Dataset, warn: Say) -> None:
    for name, why in dataset.left_out:
        warn(f"left out {name}: {why}")


def _check_shape(dataset: Dataset, facts: Mapping[str, Any]) -> None:
    """DataError where signals are of another shape, or of other wavelengths, than those that were learned from."""
    have, shape = dataset.signals.shape[1:], facts["shape"]
    if tuple(have) != tuple(shape):
        raise DataError(
            f"{dataset.source}: samples have {have[0]} channel(s) of {have[1]} values; "
            f"the run learned from {shape[0]} of {shape[1]}"
        )
    learned, there = facts.get("axis"), _axis_marks(dataset)
    if learned and there and not np.allclose(learned, there, rtol=1e-5):
        raise DataError(
            f"{dataset.source}: its axis is {_axis_words(there, dataset.unit)}; "
            f"the run learned from {_axis_words(learned, facts['unit'])}"
        )


def _axis_marks(dataset: Dataset) -> list[float] | None:
    """The axis at 33 positions from the first to the last, where the source says it: enough to tell one from another."""
    if dataset.axis is None:
        return None
    marks: list[float] = dataset.axis[np.linspace(0, len(dataset.axis) - 1, 33).round().astype(np.int64)].tolist()
    return marks


def _even_grid(dataset: Dataset) -> list[float] | None:
    """First, last and step of an even axis in angstrom, which FITS files can be resampled to."""
    axis = dataset.axis
    if axis is None or len(axis) < 2 or not dataset.unit.endswith("angstrom"):
        return None
    step = (axis[-1] - axis[0]) / (len(axis) - 1)
    return [float(axis[0]), float(axis[-1]), float(step)] if np.allclose(np.diff(axis), step, rtol=1e-3) else None


def _axis_words(marks: Sequence[float], unit: str) -> str:
    return f"{marks[0]:g} to {marks[-1]:g} ({unit or 'of no unit'})"


def _prepare_like(run: Run, recipe: Recipe, fold: int, signals: Floats) -> Floats:
    """Apply a fold's learned transforms to new signals (sample, channel, position)."""
    with np.load(run.folder / f"fold{fold}" / "prepare.npz", allow_pickle=False) as kept:
        for number, step in enumerate(recipe.prepare):
            if step.step in TRANSFORMS:
                transform = build_part(TRANSFORMS, step.step, step.options, f"prepare.{number}")
                transform.load({k.removeprefix(f"{number}."): kept[k] for k in kept if k.startswith(f"{number}.")})
                signals = transform.apply(signals)
    return np.ascontiguousarray(signals)


def _ask_member(member: Member, folder: Path, signals: Floats, shape: Sequence[int], size: int) -> Values:
    """One member's probabilities of prepared signals. shape: of the signals, then the number of classes."""
    if member.model in CLASSIFIERS:
        classifier: Any = CLASSIFIERS[member.model]
        result: Values = classifier.load(folder).probabilities(signals)
        return result
    model = _new_net(member, shape[:3], shape[3], 0)
    model.load_state_dict(safetensors.torch.load_file(folder / "weights.safetensors"))
    return probabilities_of(prepare_for_prediction(model.to(best_device())), torch.from_numpy(signals), size)


def _predictions(recipe: Recipe, ids: Strings, classes: Sequence[str], probabilities: Values) -> Predictions:
    decided = _decide(recipe, recipe.combine.decide, probabilities)
    submission = recipe.output.submission
    return Predictions(ids, tuple(classes), probabilities, decided, submission)


# ---------------------------------------------------------------- look at a recipe, make samples


def simulate(recipe: Recipe, folder: Path, *, count: int, seed: int) -> Path:
    """Write simulated samples in the layout that the recipe's users have; returns the file."""
    channels, length = recipe.data.shape
    if channels != 1:
        raise UserError(f"data.shape: the simulator {recipe.data.simulator} makes 1 channel, not {channels}")
    make = pick(SIMULATORS, recipe.data.simulator, "data.simulator")
    dataset = make(count, seed, length=length, classes=recipe.data.classes)
    with _disk_errors(folder, "nothing half-written is left"):
        return pick(WRITERS, recipe.data.writes, "data.writes")(dataset, folder)


def check_data(recipe: Recipe, source: str) -> list[str]:
    """What a source holds and how the recipe would split it, as lines; UserError for the first thing that is wrong."""
    dataset = read_for(recipe, source)
    folds = split_samples(recipe, dataset)
    _check_fractions_of(recipe, dataset)
    counts = np.bincount(dataset.known_labels(), minlength=len(dataset.classes))
    shares = ", ".join(f"{c} {n:,} ({n / len(dataset):.1%})" for c, n in zip(dataset.classes, counts, strict=True))
    channels, length = dataset.signals.shape[1:]
    lines = [
        f"{len(dataset):,} samples, {channels} channel(s) of {length} values "
        f"from {dataset.signals.min():g} to {dataset.signals.max():g}",
        f"classes: {shares}",
        f"{len(folds)} fold(s): {len(folds[0].train):,} samples to learn from, "
        f"{len(folds[0].validation):,} to choose by, {len(folds[0].test):,} to test",
    ]
    if dataset.groups is not None and recipe.split.group:
        lines.insert(2, f"groups: {len(set(dataset.groups)):,} by {dataset.grouping}, each on one side of the split")
    if dataset.axis is not None:
        lines.insert(1, f"axis: {_axis_words(_axis_marks(dataset) or [], dataset.unit)}")
    lines += [f"left out {name}: {why}" for name, why in dataset.left_out]
    return lines + [f"note: {note}" for note in _data_notes(recipe, dataset, folds)]


def describe_members(recipe: Recipe) -> str:
    """The layers of each net with output shapes and parameter counts, for the recipe's own shape."""
    channels, length = recipe.data.shape
    blocks = []
    for number, member in enumerate(recipe.member):
        title = f"member {number}: {member.model}"
        if member.model in CLASSIFIERS:
            blocks.append(f"{title} (no layers: it is fitted whole)")
            continue
        layers = describe(_new_net(member, (1, channels, length), len(recipe.data.classes), 0), channels, length)
        lines = [f"  {x.name:<28} {x.kind:<18} {' x '.join(map(str, x.shape)):<16} {x.parameters:>12,}" for x in layers]
        total = count_parameters(layers)
        blocks.append(
            "\n".join(
                [
                    f"{title}, {channels} x {length} to {len(recipe.data.classes)} classes",
                    *lines,
                    f"  {total:,} parameters",
                ]
            )
        )
    return "\n".join(blocks)


def describe_scores(run: Run) -> str:
    """The scores of a run as a table for people: the ensemble, its members, the baselines."""
    return f"{run.facts['recipe']}: {score_table(run.scores)}\nrun: {run.folder}"


# ---------------------------------------------------------------- what a run keeps


def _facts(recipe: Recipe, dataset: Dataset, simulated: bool) -> dict[str, Any]:
    digest = digest_of([dataset.digest, list(dataset.classes), list(dataset.signals.shape)])
    return {
        "recipe": recipe.name,
        "identity": {"recipe": recipe.digest(), "data": digest, "wavefold": wavefold.__version__},
        "source": dataset.source,
        "simulated": simulated,
        "samples": len(dataset),
        "shape": list(dataset.signals.shape[1:]),
        "unit": dataset.unit,
        "axis": _axis_marks(dataset),
        "grid": _even_grid(dataset),
        "left_out": len(dataset.left_out),
        "classes": list(dataset.classes),
        "command": sys.argv,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {best_device().type}",
    }


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
    learned = np.unique(np.concatenate([index for f in work.folds for index in (f.train, f.validation)]))
    keep_seen(work.run.folder / "seen.npy", work.dataset.signals, learned)


def _seconds(work: Work) -> float:
    """What fitting took, over all sessions."""
    folders = [work.run.member(f.number, n, m.model) for f in work.folds for n, m in work.members]
    return sum(float((folder / "seconds.json").read_text()) for folder in folders)


def _simulated(folder: Path, recipe: Recipe, say: Say) -> str:
    """Simulated samples in the run's own folder, as a user's folder would be; made once, whole or not at all."""
    if not folder.exists() and leads():
        say(f"no --data: simulating {recipe.data.count:,} samples into {folder}")
        part = folder.with_name(".simulated.part")
        simulate(recipe, part, count=recipe.data.count, seed=recipe.seed)
        os.replace(part, folder)
    return str(folder)


def _recipe_of(run: Run, skip_bad: bool = False) -> Recipe:
    recipe = Recipe.from_toml(run.recipe_text, str(run.folder / "recipe.toml"))
    return recipe.with_({"data.skip_bad": True}) if skip_bad else recipe


@contextmanager
def _disk_errors(folder: Path, rest: str) -> Iterator[None]:
    """A full or read-only disk, said in one line with what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise UserError(f"{error.filename or folder}: {os.strerror(error.errno)}; {rest}") from None
