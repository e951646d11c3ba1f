"""One fold: its parts prepared, every member fitted on the training part, what they say of the rest kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from wavefold.base.blocks import by_blocks
from wavefold.base.build import build_part
from wavefold.base.dataset import Floats, Ints
from wavefold.base.device import best_device, first_process_first, seed_step
from wavefold.base.files import write_arrays, write_json, write_whole
from wavefold.base.keyed import key as make_key
from wavefold.base.process import leads
from wavefold.models import CLASSIFIERS, MODELS, prepare_for_prediction
from wavefold.prepare import AUGMENTATIONS, BALANCERS, TRANSFORMS, Fold
from wavefold.recipe import Member, Recipe, StageRecipe
from wavefold.story.work import BASELINE, Work
from wavefold.training.batches import Batches, ByClass, EachOnce, class_fractions
from wavefold.training.loop import Part, Stage, fit_stage, probabilities_of, unfinished
from wavefold.training.losses import LOSSES
from wavefold.training.metrics import METRICS
from wavefold.training.state import StateFile
from wavefold.training.telling import Telling

Values = NDArray[np.float64]


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
        there = (folder / "scores.npz").exists()
        if not there:
            task = Task(work.recipe, member, prepared, folder, _member_key(work.recipe, member, number, fold))
            (_fit_net if member.model in MODELS else _fit_classifier)(task, telling)
        telling.end(member.model in MODELS, earlier=there)


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


def watch_of(work: Work) -> Telling:
    """What tells how far a training is, over all its folds and nets."""
    nets = sum(member.model in MODELS for member in work.recipe.member)
    epochs = [stage.epochs for stage in work.recipe.stage]
    return Telling([len(f.train) for f in work.folds], epochs, nets, tensorboard=work.recipe.output.tensorboard)


def new_net(member: Member, shape: Sequence[int], classes: int, key: int, place: str = "member") -> nn.Module:
    """A net with the first weights of a key. shape: (sample, channel, position) of the signals; place: for errors."""
    seed_step(key)
    given = {"channels": shape[1], "length": shape[2], "classes": classes}
    net: nn.Module = build_part(MODELS, member.model, member.options, place, **given)
    return net


STEPS = {**TRANSFORMS, **BALANCERS, **AUGMENTATIONS}


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
    model = new_net(task.member, prepared.train.shape, len(prepared.classes), task.key).to(device)
    steps = [s for s in recipe.prepare if s.step in AUGMENTATIONS]
    augmentations = tuple(build_part(AUGMENTATIONS, s.step, s.options, "prepare") for s in steps)
    signals, labels, samples = (torch.from_numpy(a).to(device) for a in (prepared.train, prepared.labels, prepared.samples))
    batches = _batches(task)
    part = Part(signals, labels, samples, batches, augmentations)
    stages = [_stage(task, i, s) for i, s in enumerate(recipe.stage)]
    file = StateFile(task.folder / "state.pt", recipe.batches.save_every)
    state = file.read()
    telling.resume(state, batches.steps)
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


_SHARED = ("epochs", "rate", "optimiser", "weight_decay", "schedule", "patience", "average")


def _checker(prepared: Prepared) -> Callable[[nn.Module], dict[str, float]]:
    """What the loop asks after each epoch: the metrics of a model on the validation part."""
    signals = torch.from_numpy(prepared.validation)

    def check(model: nn.Module) -> dict[str, float]:
        if not len(signals):
            return {}
        probabilities = probabilities_of(model, signals)
        return {name: m.function(probabilities, prepared.validation_labels) for name, m in METRICS.items()}

    return check
