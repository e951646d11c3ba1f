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

from wavefold.core.device import best_device, main_process_first, seed_step
from wavefold.core.errors import UserError
from wavefold.core.files import write_arrays, write_json, write_whole
from wavefold.core.process import is_main_process
from wavefold.core.random import key as make_key
from wavefold.core.registry import build_part, pick
from wavefold.data.dataset import Floats, Ints, Signals, shape_words
from wavefold.data.lazy import Lazy, blocks_of, by_blocks
from wavefold.data.split import Fold
from wavefold.evaluation.metrics import METRICS
from wavefold.models import CLASSIFIERS, MODELS, prepare_for_prediction
from wavefold.models.views import Views
from wavefold.recipe import Member, Recipe, StageRecipe, Step
from wavefold.tasks.samples.context import BASELINE, Context
from wavefold.training.checkpoint import CheckpointFile
from wavefold.training.loop import Stage, fit_stage, probabilities_of, unfinished
from wavefold.training.losses import LOSSES
from wavefold.training.monitor import TrainingMonitor
from wavefold.training.sampler import Augment, Batches, ByClass, EachOnce, Mix, OnDemand, TrainingSet, class_fractions
from wavefold.transforms import AUGMENTATIONS, BALANCERS, MIXERS, TRANSFORMS

Values = NDArray[np.float64]


def fit_fold(context: Context, fold: Fold, monitor: TrainingMonitor) -> None:
    """Fit every member, and the baseline, on the training part of one fold."""
    folders = [(n, m, context.run.member(fold.number, n, m.model)) for n, m in context.members]
    if all((folder / "scores.npz").exists() for _, _, folder in folders):
        monitor.skip_fold(len(fold.train))
        return
    with main_process_first():
        prepared = prepare_fold(context, fold)
    for number, member, folder in folders:
        monitor.begin(fold.number, len(fold.train), f"{number} {member.model}", folder)
        there = (folder / "scores.npz").exists()
        if not there:
            member_fit = MemberFit(context.recipe, member, prepared, folder, _member_key(context.recipe, member, number, fold))
            (_fit_net if member.model in MODELS else _fit_classifier)(member_fit, monitor)
        monitor.end(member.model in MODELS, earlier=there)


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
class MemberFit:
    """One member to fit in one fold, and its output folder."""

    recipe: Recipe
    member: Member
    prepared: Prepared
    folder: Path
    key: int  # key of all random draws


def prepare_fold(context: Context, fold: Fold) -> Prepared:
    """Run the recipe's steps in order: fit transforms on the training part, apply them to all parts, and balance samples."""
    dataset, folder = context.dataset, context.run.folder / f"fold{fold.number}"
    every, indexes = dataset.known_labels(), (fold.train, fold.validation, fold.test)
    parts = [by_blocks(lambda block: block, dataset.signals, folder, index) for index in indexes]
    labels, samples = every[fold.train], fold.train
    states: dict[str, NDArray[Any]] = {}
    for number, step in enumerate(context.recipe.prepare):
        if step.step in TRANSFORMS:
            transform = build_part(TRANSFORMS, step.step, step.options, f"prepare.{number}")
            transform.fit(parts[0], labels)
            parts = [by_blocks(transform.apply, part, folder) for part in parts]
            states |= {f"{number}.{name}": value for name, value in transform.state().items()}
        elif step.step in BALANCERS:
            there = as_array(parts[0], f"prepare.{number}: '{step.step}'")
            made = _balance(context, number, folder / f"made{number}.npz", there, labels)
            parts[0], labels = np.concatenate([there, made[0]]), np.concatenate([labels, made[1]])
            samples = np.concatenate([samples, len(every) + np.arange(len(made[1]))])
    write_arrays(folder / "prepare.npz", states)
    train, validation, test = parts
    return Prepared(dataset.classes, train, labels, samples, validation, every[fold.validation], test)


def new_monitor(context: Context) -> TrainingMonitor:
    """The progress listener of a training run, over all its folds and nets."""
    nets = sum(member.model in MODELS for member in context.recipe.member)
    epochs = [stage.epochs for stage in context.recipe.stage]
    return TrainingMonitor([len(f.train) for f in context.folds], epochs, nets, tensorboard=context.recipe.output.tensorboard)


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


def as_array(signals: Signals, who: str) -> Floats:
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


def _balance(context: Context, number: int, path: Path, signals: Floats, labels: Ints) -> tuple[Floats, Ints]:
    """The synthetic samples a balancer makes from a training part; saved in the run and reused after a restart."""
    if not path.exists():
        step = context.recipe.prepare[number]
        balancer = build_part(BALANCERS, step.step, step.options, f"prepare.{number}")
        seed = make_key(context.recipe.seed, number) & 0x7FFFFFFF
        both, numbers, made = balancer.resample(signals, labels, seed, context.dataset.classes)
        write_arrays(path, {"signals": both[len(both) - made :], "labels": numbers[len(numbers) - made :]})
    with np.load(path, allow_pickle=False) as kept:
        return kept["signals"], kept["labels"]


def _fit_net(member_fit: MemberFit, monitor: TrainingMonitor) -> None:
    """Train one net through the recipe's stages; save its weights and its probabilities of validation and test samples."""
    recipe, prepared, device = member_fit.recipe, member_fit.prepared, best_device()
    model = new_net(member_fit.member, prepared.train.shape, len(prepared.classes), member_fit.key).to(device)
    batches = _batches(member_fit)
    part = _part(member_fit, batches, device)
    stages = [_stage(member_fit, i, s) for i, s in enumerate(recipe.stage)]
    file = CheckpointFile(member_fit.folder / "state.pt", recipe.batches.save_every)
    state = file.read()
    monitor.resume(state, batches.steps)
    for stage in unfinished(stages, state):
        fit_stage(model, part, _checker(prepared), stage, state, file, monitor)
    model.load_state_dict(state.best_weights)
    weights = {name: value.contiguous() for name, value in state.best_weights.items()}
    write_whole(member_fit.folder / "weights.safetensors", lambda stream: stream.write(safetensors.torch.save(weights)))
    ready = for_inference(model, member_fit.member)
    file.count_time(state)
    _keep_scores(member_fit, lambda signals: probabilities_of(ready, signals), state.seconds)
    file.remove()


def for_inference(model: nn.Module, member: Member) -> nn.Module:
    """A trained net ready for inference: optimized, and averaged over mirror images if the member has flips."""
    ready = prepare_for_prediction(model)
    return Views(ready, member.flips).eval() if member.flips else ready


def _part(member_fit: MemberFit, batches: Batches, device: torch.device) -> TrainingSet:
    prepared = member_fit.prepared
    labels, samples = (torch.from_numpy(a).to(device) for a in (prepared.labels, prepared.samples))
    signals = (
        OnDemand(prepared.train, device) if isinstance(prepared.train, Lazy) else torch.from_numpy(prepared.train).to(device)
    )
    classes = len(prepared.classes)
    return TrainingSet(
        signals, labels, samples, batches, new_changes(member_fit.recipe.prepare, prepared.train.shape, classes), classes
    )


def _fit_classifier(member_fit: MemberFit, monitor: TrainingMonitor) -> None:
    """Fit a classifier without epochs; save it and its probabilities of validation and test samples."""
    begun = time.monotonic()
    classifier = build_part(
        CLASSIFIERS, member_fit.member.model, member_fit.member.options, "member", seed=member_fit.key & 0x7FFFFFFF
    )
    train = member_fit.prepared.train
    train = train if reads_lazily(type(classifier)) else as_array(train, f"'{member_fit.member.model}'")
    classifier.fit(train, member_fit.prepared.labels, len(member_fit.prepared.classes))
    if is_main_process():
        member_fit.folder.mkdir(parents=True, exist_ok=True)
        classifier.save(member_fit.folder)
    _keep_scores(member_fit, lambda signals: classifier_probabilities(classifier, signals), time.monotonic() - begun)


def reads_lazily(classifier: Any) -> bool:
    """Whether the `fit` method of a classifier class accepts signals that are read on demand."""
    return Lazy in get_args(get_type_hints(classifier.fit).get("signals"))


def classifier_probabilities(classifier: Any, signals: Signals) -> Values:
    """A classifier's probabilities, (sample, class); signals read on demand are processed in blocks."""
    if not isinstance(signals, Lazy) or not len(signals):
        return classifier.probabilities(signals[:])  # type: ignore[no-any-return]  # classifiers share no base class
    return np.concatenate([classifier.probabilities(values) for _, values in blocks_of(signals)])


def _keep_scores(member_fit: MemberFit, predict: Callable[[Signals], Values], seconds: float) -> None:
    """Write a member's probabilities of the validation and test parts; this file marks the member as done."""
    scores = {part: predict(getattr(member_fit.prepared, part)) for part in ("validation", "test")}
    write_json(member_fit.folder / "seconds.json", round(seconds, 1))
    write_arrays(member_fit.folder / "scores.npz", scores)


def _member_key(recipe: Recipe, member: Member, number: int | str, fold: Fold) -> int:
    if member.seed is not None:
        return make_key(recipe.seed, fold.number, -2, member.seed)  # distinct from the keys of members without a seed
    return make_key(recipe.seed, fold.number, -1 if number == BASELINE else int(number))


def _stage(member_fit: MemberFit, number: int, stage: StageRecipe) -> Stage:
    counts = torch.from_numpy(np.bincount(member_fit.prepared.labels, minlength=len(member_fit.prepared.classes)))
    return Stage(
        number=number,
        loss=build_part(LOSSES, stage.loss, stage.options, f"stage.{number}", counts=counts).to(best_device()),
        metric=stage.best,
        higher_is_better=METRICS[stage.best].higher_is_better,
        key=member_fit.key,
        **{name: getattr(stage, name) for name in _SHARED},
    )


def _batches(member_fit: MemberFit) -> Batches:
    batches, labels = member_fit.recipe.batches, member_fit.prepared.labels
    if batches.fractions == "each":
        return EachOnce(len(labels), batches.size, batches.steps)
    fractions = class_fractions(batches.fractions, labels, member_fit.prepared.classes)
    return ByClass(labels, fractions, batches.size, batches.steps)


_SHARED = ("epochs", "learning_rate", "optimiser", "weight_decay", "schedule", "patience", "average")


def _checker(prepared: Prepared) -> Callable[[nn.Module], dict[str, float]]:
    """The validation callback of the training loop: metrics of a model on the validation part after each epoch."""
    signals = prepared.validation

    def check(model: nn.Module) -> dict[str, float]:
        if not len(signals):
            return {}
        probabilities = probabilities_of(model, signals)
        return {name: m.function(probabilities, prepared.validation_labels) for name, m in METRICS.items()}

    return check
