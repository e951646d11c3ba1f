"""Training of one fold: prepare its parts, fit every member on the training part, save their predictions for the rest."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from wavefold.base.blocks import blocks_of, by_blocks
from wavefold.base.build import build_part, pick
from wavefold.base.dataset import Floats, Ints, Signals, shape_words
from wavefold.base.device import best_device, first_process_first, seed_step
from wavefold.base.errors import UserError
from wavefold.base.files import write_arrays, write_json, write_whole
from wavefold.base.keyed import key as make_key
from wavefold.base.lazy import Lazy
from wavefold.base.process import leads
from wavefold.models import CLASSIFIERS, MODELS, prepare_for_prediction
from wavefold.models.views import Views
from wavefold.prepare import AUGMENTATIONS, BALANCERS, MIXERS, TRANSFORMS, Fold
from wavefold.recipe import Member, Recipe, StageRecipe, Step
from wavefold.story.work import BASELINE, Work
from wavefold.training.batches import Batches, ByClass, EachOnce, class_fractions
from wavefold.training.loop import Stage, fit_stage, probabilities_of, unfinished
from wavefold.training.losses import LOSSES
from wavefold.training.metrics import METRICS
from wavefold.training.part import Augment, Mix, OnDemand, Part
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
    """One fold's prepared signals; fitted transforms and synthetic samples come from its training part only."""

    classes: tuple[str, ...]
    train: Signals  # (sample, channel, ...), synthetic samples last
    labels: Ints  # (sample,)
    samples: Ints  # (sample,) keys of each sample's random draws
    validation: Signals
    validation_labels: Ints
    test: Signals


@dataclass(frozen=True)
class Task:
    """One member to fit in one fold, and its output folder."""

    recipe: Recipe
    member: Member
    prepared: Prepared
    folder: Path
    key: int  # of all random draws


def prepare_fold(work: Work, fold: Fold) -> Prepared:
    """Run the recipe's steps in order: fit transforms on the training part, apply them to all parts, and balance samples."""
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
            there = in_memory(parts[0], f"prepare.{number}: '{step.step}'")
            made = _balance(work, number, folder / f"made{number}.npz", there, labels)
            parts[0], labels = np.concatenate([there, made[0]]), np.concatenate([labels, made[1]])
            samples = np.concatenate([samples, len(every) + np.arange(len(made[1]))])
    write_arrays(folder / "prepare.npz", states)
    train, validation, test = parts
    return Prepared(dataset.classes, train, labels, samples, validation, every[fold.validation], test)


def watch_of(work: Work) -> Telling:
    """The progress listener of a training, over all its folds and nets."""
    nets = sum(member.model in MODELS for member in work.recipe.member)
    epochs = [stage.epochs for stage in work.recipe.stage]
    return Telling([len(f.train) for f in work.folds], epochs, nets, tensorboard=work.recipe.output.tensorboard)


def new_net(member: Member, shape: Sequence[int], classes: int, key: int, place: str = "member") -> nn.Module:
    """Build a net with weights initialized from a key. shape: (sample, channel, ...) of the signals; place: for errors.

    Besides the classes, the constructor gets channels and length, or channels, rows and columns, as its signature requires.
    """
    axes = net_axes(member, shape, place)
    seed_step(key)
    given = {**dict(zip(axes, shape[1:], strict=True)), "classes": classes}
    net: nn.Module = build_part(MODELS, member.model, member.options, place, **given)
    return net


def net_axes(member: Member, shape: Sequence[int], place: str = "member") -> tuple[str, ...]:
    """The axes a net expects, without the sample axis; UserError if the signals have others. shape: (sample, ...)."""
    net = pick(MODELS, member.model, f"{place}.model")
    axes, words = _SQUARE if "rows" in inspect.signature(net).parameters else _LINE
    if len(shape) != 1 + len(axes):
        raise UserError(
            f"{place}.model: '{member.model}' expects signals {words}, but samples here are {shape_words(shape[1:])}"
        )
    return axes


_LINE = ("channels", "length"), "(sample, channel, position)"
_SQUARE = ("channels", "rows", "columns"), "(sample, channel, row, column)"

STEPS = {**TRANSFORMS, **BALANCERS, **AUGMENTATIONS, **MIXERS}


def new_changes(steps: Sequence[Step], shape: Sequence[int], classes: int) -> tuple[Augment | Mix, ...]:
    """Build the augmentations and mixers among a recipe's steps, in order. shape: (sample, channel, ...) of the signals.

    A mixer whose constructor has a parameter `classes` or `shape` gets the number of classes or the shape of a sample.
    """
    changes: list[Augment | Mix] = []
    for number, step in enumerate(steps):
        if step.step in AUGMENTATIONS:
            changes.append(build_part(AUGMENTATIONS, step.step, step.options, f"prepare.{number}"))
        elif step.step in MIXERS:
            named = inspect.signature(MIXERS[step.step]).parameters
            given = {k: v for k, v in {"classes": classes, "shape": tuple(shape[1:])}.items() if k in named}
            changes.append(Mix(build_part(MIXERS, step.step, step.options, f"prepare.{number}", **given)))
    return tuple(changes)


def in_memory(signals: Signals, who: str) -> Floats:
    """Load all signals into one array; UserError if they are too large for memory."""
    if not isinstance(signals, Lazy):
        return signals
    check_size(signals, who)
    return signals[:]


def check_size(signals: Lazy, who: str) -> None:
    """Raise UserError if signals are too large to be in memory at once."""
    size = 4 * int(np.prod(signals.shape))
    if size > _IN_MEMORY:
        raise UserError(
            f"{who} needs all signals in memory, but these {len(signals):,} samples of {shape_words(signals.one)} take "
            f"{size / 1e9:.1f} GB; remove it from the recipe, or set data.limit"
        )


_IN_MEMORY = 2 << 30  # bytes


def _balance(work: Work, number: int, path: Path, signals: Floats, labels: Ints) -> tuple[Floats, Ints]:
    """The synthetic samples a balancer makes from a training part; saved in the run and reused after a restart."""
    if not path.exists():
        step = work.recipe.prepare[number]
        balancer = build_part(BALANCERS, step.step, step.options, f"prepare.{number}")
        seed = make_key(work.recipe.seed, number) & 0x7FFFFFFF
        both, numbers, made = balancer.resample(signals, labels, seed, work.dataset.classes)
        write_arrays(path, {"signals": both[len(both) - made :], "labels": numbers[len(numbers) - made :]})
    with np.load(path, allow_pickle=False) as kept:
        return kept["signals"], kept["labels"]


def _fit_net(task: Task, telling: Telling) -> None:
    """Train one net through the recipe's stages; save its weights and its probabilities of validation and test samples."""
    recipe, prepared, device = task.recipe, task.prepared, best_device()
    model = new_net(task.member, prepared.train.shape, len(prepared.classes), task.key).to(device)
    batches = _batches(task)
    part = _part(task, batches, device)
    stages = [_stage(task, i, s) for i, s in enumerate(recipe.stage)]
    file = StateFile(task.folder / "state.pt", recipe.batches.save_every)
    state = file.read()
    telling.resume(state, batches.steps)
    for stage in unfinished(stages, state):
        fit_stage(model, part, _checker(prepared), stage, state, file, telling)
    model.load_state_dict(state.best_weights)
    weights = {name: value.contiguous() for name, value in state.best_weights.items()}
    write_whole(task.folder / "weights.safetensors", lambda stream: stream.write(safetensors.torch.save(weights)))
    ready = ready_to_ask(model, task.member)
    file.count_time(state)
    _keep_scores(task, lambda signals: probabilities_of(ready, signals), state.seconds)
    file.remove()


def ready_to_ask(model: nn.Module, member: Member) -> nn.Module:
    """A trained net ready for inference: optimized, and averaged over mirror images if the member has flips."""
    ready = prepare_for_prediction(model)
    return Views(ready, member.flips).eval() if member.flips else ready


def _part(task: Task, batches: Batches, device: torch.device) -> Part:
    prepared = task.prepared
    labels, samples = (torch.from_numpy(a).to(device) for a in (prepared.labels, prepared.samples))
    signals = (
        OnDemand(prepared.train, device) if isinstance(prepared.train, Lazy) else torch.from_numpy(prepared.train).to(device)
    )
    classes = len(prepared.classes)
    return Part(signals, labels, samples, batches, new_changes(task.recipe.prepare, prepared.train.shape, classes), classes)


def _fit_classifier(task: Task, telling: Telling) -> None:
    """Fit a classifier without epochs; save it and its probabilities of validation and test samples."""
    begun = time.monotonic()
    classifier = build_part(CLASSIFIERS, task.member.model, task.member.options, "member", seed=task.key & 0x7FFFFFFF)
    train = task.prepared.train
    train = train if reads_lazily(type(classifier)) else in_memory(train, f"'{task.member.model}'")
    classifier.fit(train, task.prepared.labels, len(task.prepared.classes))
    if leads():
        task.folder.mkdir(parents=True, exist_ok=True)
        classifier.save(task.folder)
    _keep_scores(task, lambda signals: ask_classifier(classifier, signals), time.monotonic() - begun)


def reads_lazily(classifier: Any) -> bool:
    """Whether the `fit` method of a classifier class accepts signals that are read on demand."""
    return Lazy in get_args(get_type_hints(classifier.fit).get("signals"))


def ask_classifier(classifier: Any, signals: Signals) -> Values:
    """A classifier's probabilities, (sample, class); signals read on demand are processed in blocks."""
    if not isinstance(signals, Lazy) or not len(signals):
        return classifier.probabilities(signals[:])  # type: ignore[no-any-return]
    return np.concatenate([classifier.probabilities(values) for _, values in blocks_of(signals)])


def _keep_scores(task: Task, ask: Callable[[Signals], Values], seconds: float) -> None:
    """Write a member's probabilities of the validation and test parts; this file marks the member as done."""
    scores = {part: ask(getattr(task.prepared, part)) for part in ("validation", "test")}
    write_json(task.folder / "seconds.json", round(seconds, 1))
    write_arrays(task.folder / "scores.npz", scores)


def _member_key(recipe: Recipe, member: Member, number: int | str, fold: Fold) -> int:
    if member.seed is not None:
        return make_key(recipe.seed, fold.number, -2, member.seed)  # distinct from the keys of members without a seed
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
    """The validation callback of the training loop: metrics of a model on the validation part after each epoch."""
    signals = prepared.validation

    def check(model: nn.Module) -> dict[str, float]:
        if not len(signals):
            return {}
        probabilities = probabilities_of(model, signals)
        return {name: m.function(probabilities, prepared.validation_labels) for name, m in METRICS.items()}

    return check
