"""The story: read, prepare, split, members, stages, combine, output. Start here.

Each function is a sentence of it. What a sentence needs is made from a recipe by short name, in `base.build`.
"""

from __future__ import annotations

import errno
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

import wavefold
from wavefold.base.build import build_part, check_options, pick
from wavefold.base.dataset import Dataset, Floats, Ints, Strings
from wavefold.base.device import be_repeatable, best_device, first_process_first, seed_step
from wavefold.base.errors import DataError, UserError
from wavefold.base.files import write_arrays, write_json, write_text, write_whole
from wavefold.base.keyed import key as make_key
from wavefold.base.process import leads
from wavefold.base.runs import Run, only_process, start_run
from wavefold.combine import CALIBRATIONS, COMBINERS, DECISIONS, Ensemble, HeldBack, cross_fit
from wavefold.data import SIMULATORS, WRITERS, read
from wavefold.models import CLASSIFIERS, MODELS, describe, prepare_for_prediction
from wavefold.output import Predictions, score_table, write_predictions
from wavefold.prepare import AUGMENTATIONS, BALANCERS, SPLITS, TRANSFORMS, Fold
from wavefold.recipe import Member, Recipe, StageRecipe
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


def train(recipe: Recipe, *, data: str = "", out: Path, fresh: bool = False, say: Say = print) -> Run:
    """Train a recipe on labelled data, or on simulated data where none is named, and score it on what it never saw.

    The same call again goes on where the last one stopped, and ends with the same bits.
    """
    check_recipe(recipe)
    be_repeatable()
    with only_process(out), _disk_errors(out):
        with first_process_first():
            source = data or _simulate_into(out / "data", recipe, say)
            dataset = read_for(recipe, source)
            folds = split_samples(recipe, dataset)
            run = start_run(out, _facts(recipe, dataset, len(folds)), recipe.toml(), fresh)
        if not (run.folder / "scores.json").exists():
            _fit_and_judge(run, recipe, dataset, folds, source)
    if leads():
        say(describe_scores(run))
    return run


def _fit_and_judge(run: Run, recipe: Recipe, dataset: Dataset, folds: Sequence[Fold], source: str) -> None:
    """Fit every fold, then score; scores.json comes last and says that the run is done."""
    begun = time.monotonic()
    _keep_splits(run, dataset, folds)
    with _telling(recipe, folds) as telling:
        for fold in folds:
            fit_fold(run, recipe, dataset, fold, telling)
    if leads():
        results, held_out = judge(run, recipe, dataset, folds)
        write_predictions(str(run.folder / "held_out.csv"), held_out)
        _write_submission(run, recipe, dataset, source)
        write_json(run.folder / "scores.json", {**results, "seconds": round(time.monotonic() - begun, 1)})


def check_recipe(recipe: Recipe) -> None:
    """UserError for the first name or option in a recipe that no part knows; needs no data."""
    pick(SIMULATORS, recipe.data.simulator, "data.simulator")
    for i, step in enumerate(recipe.prepare):
        place = f"prepare.{i}"
        check_options(pick(_STEPS, step.step, f"{place}.step"), step.options, place)
    given = ("labels", "groups", "seed", "classes")
    check_options(pick(SPLITS, recipe.split.way, "split.way"), recipe.split.options, "split", given)
    for i, member in enumerate(recipe.member):
        part = pick({**MODELS, **CLASSIFIERS}, member.model, f"member.{i}.model")
        check_options(part, member.options, f"member.{i}", ("channels", "length", "classes", "seed"))
    for i, stage in enumerate(recipe.stage):
        check_options(pick(LOSSES, stage.loss, f"stage.{i}.loss"), stage.options, f"stage.{i}", ("counts",))
        pick(OPTIMISERS, stage.optimiser, f"stage.{i}.optimiser")
        pick(SCHEDULES, stage.schedule, f"stage.{i}.schedule")
        pick(METRICS, stage.best, f"stage.{i}.best")
    pick(COMBINERS, recipe.combine.by, "combine.by")
    pick(CALIBRATIONS, recipe.combine.calibrate, "combine.calibrate")
    pick(DECISIONS, recipe.combine.decide, "combine.decide")
    pick(METRICS, recipe.output.metric, "output.metric")
    if recipe.output.baseline:
        pick(CLASSIFIERS, recipe.output.baseline, "output.baseline")


def read_for(recipe: Recipe, source: str) -> Dataset:
    """The labelled samples of a source, as a recipe asks for them."""
    dataset = read(source, layout=recipe.data.layout, group=recipe.split.group)
    dataset.known_labels()
    return dataset.take(slice(recipe.data.limit)) if recipe.data.limit else dataset


def split_samples(recipe: Recipe, dataset: Dataset) -> list[Fold]:
    """The folds of a dataset; by whole groups where the recipe names a group."""
    folds: list[Fold] = build_part(
        SPLITS,
        recipe.split.way,
        recipe.split.options,
        "split",
        labels=dataset.known_labels(),
        groups=dataset.groups if recipe.split.group else None,
        seed=recipe.seed,
        classes=dataset.classes,
    )
    if len(folds) == 1 and not len(folds[0].validation):
        raise UserError("split.validation: leaves nothing to choose, combine and calibrate by; set it higher")
    return folds


def fit_fold(run: Run, recipe: Recipe, dataset: Dataset, fold: Fold, telling: Telling) -> None:
    """Fit every member, and the baseline, on the training part of one fold."""
    members = _all_members(recipe)
    if all((_folder(run, fold.number, number, m) / "scores.npz").exists() for number, m in members):
        telling.skip_fold(len(fold.train))
        return
    with first_process_first():
        prepared = prepare_fold(run, recipe, dataset, fold)
    for number, member in members:
        folder = _folder(run, fold.number, number, member)
        telling.begin(fold.number, len(fold.train), f"{number} {member.model}", folder)
        if not (folder / "scores.npz").exists():
            fit = _fit_net if member.model in MODELS else _fit_classifier
            _keep_scores(folder, *fit(recipe, member, number, prepared, folder, telling))
        telling.end(member.model in MODELS)


def _telling(recipe: Recipe, folds: Sequence[Fold]) -> Telling:
    nets = sum(member.model in MODELS for member in recipe.member)
    epochs = [stage.epochs for stage in recipe.stage]
    return Telling([len(f.train) for f in folds], epochs, nets, tensorboard=recipe.output.tensorboard)


@dataclass(frozen=True)
class Prepared:
    """One fold's signals as members take them; what was learned or invented came from its training part only."""

    fold: Fold
    classes: int
    train: Floats  # (sample, channel, position), invented samples last
    labels: Ints  # (sample,)
    samples: Ints  # (sample,) numbers that key each sample's random draws
    validation: Floats
    validation_labels: Ints
    test: Floats


def prepare_fold(run: Run, recipe: Recipe, dataset: Dataset, fold: Fold) -> Prepared:
    """Take the recipe's steps in order: transforms learned on the training part, then applied to all; samples balanced."""
    folder = run.folder / f"fold{fold.number}"
    labels = dataset.known_labels()
    parts = [np.ascontiguousarray(dataset.signals[index]) for index in (fold.train, fold.validation, fold.test)]
    train_labels, samples = labels[fold.train], fold.train
    states: dict[str, NDArray[Any]] = {}
    for number, step in enumerate(recipe.prepare):
        if step.step in TRANSFORMS:
            transform = build_part(TRANSFORMS, step.step, step.options, f"prepare.{number}")
            transform.fit(parts[0], train_labels)
            parts = [transform.apply(part) for part in parts]
            states |= {f"{number}.{name}": value for name, value in transform.state().items()}
        elif step.step in BALANCERS:
            made = _balance(recipe, dataset, number, folder, parts[0], train_labels)
            parts[0], train_labels = np.concatenate([parts[0], made[0]]), np.concatenate([train_labels, made[1]])
            samples = np.concatenate([samples, len(labels) + np.arange(len(made[1]))])
    write_arrays(folder / "prepare.npz", states)
    return Prepared(fold, len(dataset.classes), parts[0], train_labels, samples, parts[1], labels[fold.validation], parts[2])


def _balance(recipe: Recipe, dataset: Dataset, number: int, folder: Path, signals: Floats, labels: Ints) -> tuple[Floats, Ints]:
    """The samples that a balancer invents from a training part; kept in the run, so that a restart need not again."""
    path = folder / f"made{number}.npz"
    if not path.exists():
        step = recipe.prepare[number]
        balancer = build_part(BALANCERS, step.step, step.options, f"prepare.{number}")
        seed = make_key(recipe.seed, number) & 0x7FFFFFFF
        both, numbers, made = balancer.resample(signals, labels, seed, dataset.classes)
        write_arrays(path, {"signals": both[len(both) - made :], "labels": numbers[len(numbers) - made :]})
    with np.load(path, allow_pickle=False) as kept:
        return kept["signals"], kept["labels"]


def _fit_net(
    recipe: Recipe, member: Member, number: int | str, prepared: Prepared, folder: Path, telling: Telling
) -> tuple[Values, Values]:
    """Train one net through the recipe's stages; returns its probabilities of the validation and the test part."""
    device, key = best_device(), _member_key(recipe, member, number, prepared.fold)
    model = _new_net(member, prepared.train.shape, prepared.classes, key).to(device)
    steps = [s for s in recipe.prepare if s.step in AUGMENTATIONS]
    augmentations = tuple(build_part(AUGMENTATIONS, s.step, s.options, "prepare") for s in steps)
    signals, labels, samples = (torch.from_numpy(a).to(device) for a in (prepared.train, prepared.labels, prepared.samples))
    part = Part(signals, labels, samples, augmentations)
    stages = [_stage(recipe, i, s, prepared, key) for i, s in enumerate(recipe.stage)]
    file = StateFile(folder / "state.pt", recipe.batches.save_every)
    state = file.read()
    telling.resume(state)
    for stage in unfinished(stages, state):
        fit_stage(model, part, _checker(prepared), stage, state, file, telling)
    model.load_state_dict(state.best_weights)
    weights = {name: value.contiguous() for name, value in state.best_weights.items()}
    write_whole(folder / "weights.safetensors", lambda stream: stream.write(safetensors.torch.save(weights)))
    ready = prepare_for_prediction(model)
    scores = tuple(probabilities_of(ready, torch.from_numpy(x)) for x in (prepared.validation, prepared.test))
    return scores[0], scores[1]


def _fit_classifier(
    recipe: Recipe, member: Member, number: int | str, prepared: Prepared, folder: Path, telling: Telling
) -> tuple[Values, Values]:
    """Fit a classifier that learns in one go; returns its probabilities of the validation and the test part."""
    seed = _member_key(recipe, member, number, prepared.fold) & 0x7FFFFFFF
    classifier = build_part(CLASSIFIERS, member.model, member.options, f"member.{number}", seed=seed)
    classifier.fit(prepared.train, prepared.labels, prepared.classes)
    if leads():
        folder.mkdir(parents=True, exist_ok=True)
        classifier.save(folder)
    return classifier.probabilities(prepared.validation), classifier.probabilities(prepared.test)


def _new_net(member: Member, shape: Sequence[int], classes: int, key: int) -> nn.Module:
    seed_step(key)
    net: nn.Module = build_part(
        MODELS, member.model, member.options, "member", channels=shape[1], length=shape[2], classes=classes
    )
    return net


def _member_key(recipe: Recipe, member: Member, number: int | str, fold: Fold) -> int:
    own = member.seed if member.seed is not None else (-1 if number == BASELINE else int(number))
    return make_key(recipe.seed, fold.number, own)


def _stage(recipe: Recipe, number: int, stage: StageRecipe, prepared: Prepared, key: int) -> Stage:
    counts = torch.from_numpy(np.bincount(prepared.labels, minlength=prepared.classes))
    return Stage(
        number=number,
        loss=build_part(LOSSES, stage.loss, stage.options, f"stage.{number}", counts=counts).to(best_device()),
        size=recipe.batches.size,
        metric=stage.best,
        higher_is_better=METRICS[stage.best].higher_is_better,
        key=key,
        **{name: getattr(stage, name) for name in _SHARED},
    )


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


def _keep_scores(folder: Path, validation: Values, test: Values) -> None:
    """Write a member's probabilities; that they are there says that the member is done."""
    write_arrays(folder / "scores.npz", {"validation": validation, "test": test})
    StateFile(folder / "state.pt", 0).remove()


# ---------------------------------------------------------------- judge


def judge(run: Run, recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> tuple[dict[str, Any], Predictions]:
    """Score the ensemble, each other choice, each member and the baselines on the test parts; keep the ensemble.

    Returns what scores.json says, and the ensemble's predictions of the test parts.
    """
    jury = _Jury(recipe, dataset, _tested(run, recipe, dataset, folds), _held_back(run, recipe, dataset, folds))
    by, calibrate, members = recipe.combine.by, recipe.combine.calibrate, range(len(recipe.member))
    every = np.ones(len(jury.learned.rows), bool)
    Ensemble.fit(by, calibrate, *jury.learned.take(every, members), recipe.seed).save(run.folder / "ensemble.npz")
    probabilities = jury.ask(members, by, calibrate)
    choices, notes = jury.compare(members)
    results = {
        "metric": recipe.output.metric,
        "per": recipe.output.per,
        "n": len(jury.tested.rows),
        "learned_from": round(float(np.mean([len(f.train) for f in folds]))),
        "score": jury.row(probabilities, recipe.combine.decide),
        "choices": choices,
        "members": [{"name": f"{n} {m.model}", **jury.alone(n)} for n, m in enumerate(recipe.member)],
        "baselines": _baselines(recipe, dataset, folds, jury),
        "notes": _notes(recipe, dataset, folds) + notes,
    }
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
        return cross_fit(self.tested, self.learned, members, by, calibrate, self.recipe.seed)

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


def _baselines(recipe: Recipe, dataset: Dataset, folds: Sequence[Fold], jury: _Jury) -> list[dict[str, Any]]:
    rows = [{"name": "majority", **jury.row(_majority(dataset, folds), recipe.combine.decide)}]
    if recipe.output.baseline:
        rows.append({"name": recipe.output.baseline, **jury.alone(len(recipe.member))})
    return rows


def _tested(run: Run, recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> HeldBack:
    """Every member's scores of the test parts, the baseline's last."""
    return _gather(run, recipe, dataset, [(f, f.test, "test") for f in folds])


def _held_back(run: Run, recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> HeldBack:
    """What a combiner may learn from: other samples than one fold's test part, or all test parts of several folds."""
    if len(folds) > 1:
        return _tested(run, recipe, dataset, folds)
    return _gather(run, recipe, dataset, [(f, f.validation, "validation") for f in folds])


def _gather(run: Run, recipe: Recipe, dataset: Dataset, parts: Sequence[tuple[Fold, Ints, str]]) -> HeldBack:
    members = _all_members(recipe)
    scores = [[_kept_scores(_folder(run, f.number, n, m), part) for f, _, part in parts] for n, m in members]
    rows = np.concatenate([index for _, index, _ in parts])
    fold = np.concatenate([np.full(len(index), f.number) for f, index, _ in parts])
    return HeldBack(rows, fold, dataset.known_labels()[rows], np.stack([np.concatenate(s) for s in scores]))


def _kept_scores(folder: Path, part: str) -> Values:
    with np.load(folder / "scores.npz", allow_pickle=False) as kept:
        scores: Values = kept[part]
    return scores


def _decide(recipe: Recipe, decide: str, probabilities: Values) -> Values:
    options = {"threshold": recipe.combine.threshold} if decide == "thresholds" else {}
    decided: Values = DECISIONS[decide](probabilities, **options)
    return decided


def _majority(dataset: Dataset, folds: Sequence[Fold]) -> Values:
    """Each test sample gets the class shares of its fold's training part."""
    labels, classes = dataset.known_labels(), len(dataset.classes)
    shares = [np.bincount(labels[f.train], minlength=classes) / len(f.train) for f in folds]
    return np.concatenate([np.tile(s, (len(f.test), 1)) for s, f in zip(shares, folds, strict=True)])


def _notes(recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
    """What a reader of the score must know beside it."""
    if dataset.groups is None or recipe.split.group:
        return []
    straddling = {g for f in folds for g in set(dataset.groups[f.train]) & set(dataset.groups[f.test])}
    if not straddling:
        return []
    return [
        f"{len(straddling)} of {len(set(dataset.groups))} groups stand on both sides of the split: this is a score for known "
        "ones. For unseen groups name their column, as in --set split.group=record"
    ]


# ---------------------------------------------------------------- predict and score


def predict(run: Run, source: str, *, out: str, size: int = 512) -> Predictions:
    """Probabilities and decisions for every sample of a source, in its order; written to `out`, '-' for standard output."""
    _ = run.scores  # says so where the training is not done
    recipe = _recipe_of(run)
    dataset = _read_like(run, recipe, source, labelled=False)
    predictions = _predictions(recipe, dataset.ids, run.facts["classes"], probabilities_for(run, dataset, size))
    with _disk_errors(Path(out)):
        write_predictions(out, predictions)
    return predictions


def score_run(run: Run, source: str, *, size: int = 512) -> Score:
    """The recipe's metric and the others that fit, with n and a 95 % interval, on a labelled source."""
    _ = run.scores  # says so where the training is not done
    recipe = _recipe_of(run)
    dataset = _read_like(run, recipe, source, labelled=True)
    probabilities = probabilities_for(run, dataset, size)
    groups = dataset.groups if recipe.split.group else None
    return score(
        probabilities,
        dataset.known_labels(),
        metric=recipe.output.metric,
        decided=_decide(recipe, recipe.combine.decide, probabilities),
        groups=groups,
        seed=recipe.seed,
    )


def probabilities_for(run: Run, dataset: Dataset, size: int = 512) -> Values:
    """What a run's whole ensemble says of new samples, whatever the batch size; result: (sample, class)."""
    recipe, facts = _recipe_of(run), run.facts
    if list(dataset.signals.shape[1:]) != facts["shape"]:
        have, want = dataset.signals.shape[1:], facts["shape"]
        raise DataError(
            f"{dataset.source}: samples have {have[0]} channel(s) of {have[1]} values; "
            f"the run learned from {want[0]} of {want[1]}"
        )
    total = np.zeros((len(recipe.member), len(dataset), len(facts["classes"])))
    for fold in range(facts["folds"]):
        signals = _prepare_like(run, recipe, fold, dataset.signals)
        for number, member in enumerate(recipe.member):
            total[number] += _member_probabilities(run, member, number, fold, signals, len(facts["classes"]), size)
    ensemble = Ensemble.load(recipe.combine.by, recipe.combine.calibrate, run.folder / "ensemble.npz")
    return ensemble.probabilities(total / facts["folds"])


def _read_like(run: Run, recipe: Recipe, source: str, *, labelled: bool) -> Dataset:
    options: dict[str, Any] = {"layout": recipe.data.layout, "classes": tuple(run.facts["classes"])}
    unlabelled = None if labelled else read(source, part="test", **options)
    dataset = read(source, **options) if unlabelled is None else unlabelled
    if labelled:
        dataset.known_labels()
    return dataset


def _prepare_like(run: Run, recipe: Recipe, fold: int, signals: Floats) -> Floats:
    """Apply a fold's learned transforms to new signals (sample, channel, position)."""
    with np.load(run.folder / f"fold{fold}" / "prepare.npz", allow_pickle=False) as kept:
        for number, step in enumerate(recipe.prepare):
            if step.step in TRANSFORMS:
                transform = build_part(TRANSFORMS, step.step, step.options, f"prepare.{number}")
                transform.load({k.removeprefix(f"{number}."): kept[k] for k in kept if k.startswith(f"{number}.")})
                signals = transform.apply(signals)
    return np.ascontiguousarray(signals)


def _member_probabilities(run: Run, member: Member, number: int, fold: int, signals: Floats, classes: int, size: int) -> Values:
    folder = run.member(fold, number, member.model)
    if member.model in CLASSIFIERS:
        classifier: Any = CLASSIFIERS[member.model]
        result: Values = classifier.load(folder).probabilities(signals)
        return result
    model = _new_net(member, signals.shape, classes, 0)
    model.load_state_dict(safetensors.torch.load_file(folder / "weights.safetensors"))
    return probabilities_of(prepare_for_prediction(model.to(best_device())), torch.from_numpy(signals), size)


def _predictions(recipe: Recipe, ids: Strings, classes: Sequence[str], probabilities: Values) -> Predictions:
    decided = _decide(recipe, recipe.combine.decide, probabilities)
    return Predictions(ids=ids, classes=tuple(classes), probabilities=probabilities, decided=decided)


# ---------------------------------------------------------------- look at a recipe, make samples


def simulate(recipe: Recipe, folder: Path, *, count: int, seed: int) -> Path:
    """Write simulated samples in the layout that the recipe's users have; returns the file."""
    channels, length = recipe.data.shape
    if channels != 1:
        raise UserError(f"data.shape: the simulator {recipe.data.simulator} makes 1 channel, not {channels}")
    dataset = pick(SIMULATORS, recipe.data.simulator, "data.simulator")(count, seed, length=length)
    with _disk_errors(folder):
        return pick(WRITERS, recipe.data.writes, "data.writes")(dataset, folder)


def check_data(recipe: Recipe, source: str) -> list[str]:
    """What a source holds and how the recipe would split it, as lines; UserError for the first thing that is wrong."""
    dataset = read_for(recipe, source)
    folds = split_samples(recipe, dataset)
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
    return lines + [f"note: {note}" for note in _notes(recipe, dataset, folds)]


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
        total = sum(x.parameters for x in layers)
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


def _facts(recipe: Recipe, dataset: Dataset, folds: int) -> dict[str, Any]:
    identity = {"recipe": recipe.digest(), "data": dataset.digest, "wavefold": wavefold.__version__}
    return {
        "recipe": recipe.name,
        "identity": identity,
        "source": dataset.source,
        "samples": len(dataset),
        "shape": list(dataset.signals.shape[1:]),
        "unit": dataset.unit,
        "classes": list(dataset.classes),
        "folds": folds,
        "command": sys.argv,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {best_device().type}",
    }


def _keep_splits(run: Run, dataset: Dataset, folds: Sequence[Fold]) -> None:
    """Write the ids of every part: a line a sample and fold."""
    lines = ["id,fold,part"]
    for fold in folds:
        for part in ("train", "validation", "test"):
            lines += [f"{name},{fold.number},{part}" for name in dataset.ids[getattr(fold, part)].tolist()]
    write_text(run.folder / "splits.csv", "\n".join(lines) + "\n")


def _write_submission(run: Run, recipe: Recipe, dataset: Dataset, source: str) -> None:
    """Predict the unlabelled file, where the recipe names one or the data's folder holds one."""
    options: dict[str, Any] = {"layout": recipe.data.layout, "classes": dataset.classes}
    test = read(recipe.data.test, **options) if recipe.data.test else read(source, part="test", **options)
    if test is not None and test.digest != dataset.digest:  # a single file is its own test part
        predictions = _predictions(recipe, test.ids, dataset.classes, probabilities_for(run, test))
        write_predictions(str(run.folder / "submission.csv"), predictions)


def _simulate_into(folder: Path, recipe: Recipe, say: Say) -> str:
    """Simulated samples in the run's own folder, as a user's file would be."""
    say(f"no --data: simulating {recipe.data.count:,} samples into {folder}")
    return str(simulate(recipe, folder, count=recipe.data.count, seed=recipe.seed))


def _recipe_of(run: Run) -> Recipe:
    return Recipe.from_toml(run.recipe_text, str(run.folder / "recipe.toml"))


def _all_members(recipe: Recipe) -> list[tuple[int | str, Member]]:
    """The members with their numbers; the baseline, if any, comes last."""
    members: list[tuple[int | str, Member]] = list(enumerate(recipe.member))
    return members + ([(BASELINE, Member(model=recipe.output.baseline))] if recipe.output.baseline else [])


def _folder(run: Run, fold: int, number: int | str, member: Member) -> Path:
    return run.folder / f"fold{fold}" / f"{number}-{member.model}"


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """A full or read-only disk, said in one line with what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise UserError(
            f"{error.filename or folder}: {os.strerror(error.errno)}; "
            "nothing half-written is left, and the same command goes on"
        ) from None
