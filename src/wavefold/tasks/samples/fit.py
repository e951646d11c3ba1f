"""Training of one fold: prepare its parts, fit every member on the training part, save their predictions for the rest."""

from __future__ import annotations

import inspect
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wavefold.core.device import best_device, seed_step
from wavefold.core.errors import UserError
from wavefold.core.files import write_arrays, write_json
from wavefold.core.process import is_main_process
from wavefold.core.random import key as make_key
from wavefold.core.registry import build_part, pick
from wavefold.core.run import lock_unit
from wavefold.data.dataset import Floats, Ints, Signals, shape_words
from wavefold.data.lazy import Lazy, blocks_of, by_blocks
from wavefold.data.split import Fold
from wavefold.models import MODELS, prepare_for_prediction
from wavefold.models.views import Views
from wavefold.recipe import Member, Recipe, StageRecipe, Step
from wavefold.tasks.base import Unit
from wavefold.tasks.samples.context import BASELINE, Context
from wavefold.tasks.samples.kinds import LossChoice, State, Truth
from wavefold.tasks.samples.target import Target, losses_of, target_of
from wavefold.training.checkpoint import CheckpointFile
from wavefold.training.fit_net import fit_net, keep_net, new_stage
from wavefold.training.loop import Stage, predict_all
from wavefold.training.monitor import TrainingMonitor
from wavefold.training.sampler import Augment, Batches, Mix, OnDemand, TrainingSet
from wavefold.transforms import AUGMENTATIONS, BALANCERS, MIXERS, TRANSFORMS

Values = NDArray[np.float64]


def fit_member(recipe: Recipe, unit: Unit, prepared: Prepared, monitor: TrainingMonitor) -> None:
    """Fit a member, or a baseline, on the training part of one fold."""
    fit = MemberFit(recipe, unit.member, prepared, unit.folder, _member_key(recipe, unit))
    (_fit_net if unit.member.model in MODELS else _fit_at_once)(fit, monitor)


@dataclass(frozen=True)
class Prepared:
    """One fold's prepared signals; fitted transforms and synthetic samples come from its training part only."""

    names: tuple[str, ...]  # of the outputs
    train: Signals  # (sample, channel, ...), synthetic samples last
    truth: Truth  # (sample,) or (sample, output)
    scaling: State  # of the truth
    samples: Ints  # (sample,) keys of each sample's random draws
    validation: Signals
    validation_truth: Truth
    test: Signals


@dataclass(frozen=True)
class MemberFit:
    """One member to fit in one fold, and its output folder."""

    recipe: Recipe
    member: Member
    prepared: Prepared
    folder: Path
    key: int  # key of all random draws

    @property
    def target(self) -> Target:
        """The task's target."""
        return target_of(self.recipe)

    @property
    def head(self) -> nn.Module:
        """From what a net returns to predictions."""
        return self.target.head(losses_of(self.recipe), len(self.prepared.names), self.prepared.scaling)


def prepare_fold(context: Context, fold: Fold) -> Prepared:
    """The signals and truth of a fold's parts as members get them.

    The first process that asks fits the transforms, makes the synthetic samples and writes both to the fold's folder; others
    wait meanwhile, and load them.
    """
    folder = context.run.folder / f"fold{fold.number}"
    if not (folder / "prepare.npz").exists():
        with lock_unit(folder):
            if not (folder / "prepare.npz").exists():
                return _run_steps(context, fold, None)
    return _run_steps(context, fold, _kept_states(folder / "prepare.npz"))


def _kept_states(path: Path) -> dict[str, NDArray[np.generic]] | None:
    """The states of a fold's fitted transforms, as "number.name"; None if the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _run_steps(context: Context, fold: Fold, kept: Mapping[str, NDArray[np.generic]] | None) -> Prepared:
    """Run the recipe's steps in order: fit transforms on the training part, apply them to all parts, and balance samples.

    kept: states of transforms that were fitted before; None to fit them, and to write their states.
    """
    dataset, target, folder = context.dataset, target_of(context.recipe), context.run.folder / f"fold{fold.number}"
    every, indexes = target.truth(dataset), (fold.train, fold.validation, fold.test)
    parts = [by_blocks(lambda block: block, dataset.signals, folder, index) for index in indexes]
    truth, samples = every[fold.train], fold.train
    states: dict[str, NDArray[np.generic]] = {}
    for number, step in enumerate(context.recipe.prepare):
        if step.step in TRANSFORMS:
            transform = build_part(TRANSFORMS, step.step, step.options, f"prepare.{number}")
            if kept is None:
                transform.fit(parts[0], truth)
            else:
                transform.load({k.removeprefix(f"{number}."): v for k, v in kept.items() if k.startswith(f"{number}.")})
            parts = [by_blocks(transform.apply, part, folder) for part in parts]
            states |= {f"{number}.{name}": value for name, value in transform.state().items()}
        elif step.step in BALANCERS:
            there = as_array(parts[0], f"prepare.{number}: '{step.step}'")
            made = _balance(context, number, folder / f"made{number}.npz", there, np.asarray(truth, np.int64))
            parts[0], truth = np.concatenate([there, made[0]]), np.concatenate([truth, made[1]])
            samples = np.concatenate([samples, len(every) + np.arange(len(made[1]))])
    scaling = target.scaling(truth)
    if kept is None:
        write_arrays(folder / "prepare.npz", {**states, **{f"truth.{name}": value for name, value in scaling.items()}})
    train, validation, test = parts
    return Prepared(target.outputs(dataset), train, truth, scaling, samples, validation, every[fold.validation], test)


def new_net(member: Member, shape: Sequence[int], width: int, key: int, place: str = "member") -> nn.Module:
    """Build a net with weights initialized from a key. shape: (sample, channel, ...) of the signals; place: for errors.

    width: values it returns for a sample, which its constructor takes as `classes`. The constructor also gets channels and
    length, or channels, rows and columns, as its signature requires.
    """
    axes = net_axes(member, shape, place)
    seed_step(key)
    given = {**dict(zip(axes, shape[1:], strict=True)), "classes": width}
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

STEPS: dict[str, Callable[..., object]] = {**TRANSFORMS, **BALANCERS, **AUGMENTATIONS, **MIXERS}


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


def _fit_net(fit: MemberFit, monitor: TrainingMonitor) -> None:
    """Train one net through the recipe's stages; save its weights and its predictions for validation and test samples."""
    recipe, prepared, target, device = fit.recipe, fit.prepared, fit.target, best_device()
    width = target.width(losses_of(recipe), len(prepared.names))
    model = new_net(fit.member, prepared.train.shape, width, fit.key).to(device)
    part = _part(fit, target.batches(recipe, prepared.truth, prepared.names), device)
    stages = [_stage(fit, i, s) for i, s in enumerate(recipe.stage)]
    file = CheckpointFile(fit.folder / "state.pt", recipe.batches.save_every)
    state = fit_net(model, part, _checker(fit), stages, file=file, watch=monitor)
    ready = for_inference(model, fit.member)
    keep_net(fit.folder, state, file, lambda: _keep_scores(fit, lambda signals: predict_all(ready, fit.head, signals)))


def for_inference(model: nn.Module, member: Member) -> nn.Module:
    """A trained net ready for inference: optimized, and averaged over mirror images if the member has flips."""
    ready = prepare_for_prediction(model)
    return Views(ready, member.flips).eval() if member.flips else ready


def _part(fit: MemberFit, batches: Batches, device: torch.device) -> TrainingSet:
    prepared, count = fit.prepared, len(fit.prepared.names)
    learned = fit.target.learned(prepared.truth, prepared.scaling)
    labels, samples = (torch.from_numpy(a).to(device) for a in (learned, prepared.samples))
    signals = (
        OnDemand(prepared.train, device) if isinstance(prepared.train, Lazy) else torch.from_numpy(prepared.train).to(device)
    )
    return TrainingSet(signals, labels, samples, batches, new_changes(fit.recipe.prepare, prepared.train.shape, count), count)


def _fit_at_once(fit: MemberFit, monitor: TrainingMonitor) -> None:
    """Fit a model without epochs; save it and its predictions for validation and test samples."""
    begun, target, train = time.monotonic(), fit.target, fit.prepared.train
    fitted = target.new_fitted(fit.member.model, fit.member.options, "member", fit.key & 0x7FFFFFFF)
    train = train if reads_lazily(type(fitted)) else as_array(train, f"'{fit.member.model}'")
    fitted.fit(train, fit.prepared.truth, len(fit.prepared.names))
    if is_main_process():
        fit.folder.mkdir(parents=True, exist_ok=True)
        fitted.save(fit.folder)
    write_json(fit.folder / "seconds.json", round(time.monotonic() - begun, 1))
    _keep_scores(fit, partial(_by_blocks, partial(fit.target.ask, fitted)))


def reads_lazily(fitted: Any) -> bool:
    """Whether the `fit` method of a model accepts signals that are read on demand."""
    return Lazy in get_args(get_type_hints(fitted.fit).get("signals"))


def _by_blocks(ask: Callable[[Floats], Values], signals: Signals) -> Values:
    """A fitted model's predictions, (sample, ...); signals read on demand are processed in blocks."""
    if not isinstance(signals, Lazy) or not len(signals):
        return ask(signals[:])
    return np.concatenate([ask(values) for _, values in blocks_of(signals)])


def _keep_scores(fit: MemberFit, predict: Callable[[Signals], Values]) -> None:
    """Write a member's predictions for the validation and test parts; this file marks the member as done."""
    write_arrays(fit.folder / "scores.npz", {part: predict(getattr(fit.prepared, part)) for part in ("validation", "test")})


def _member_key(recipe: Recipe, unit: Unit) -> int:
    if unit.member.seed is not None:
        return make_key(recipe.seed, unit.fold, -2, unit.member.seed)  # distinct from the keys of members without a seed
    return make_key(recipe.seed, unit.fold, -1 if unit.number == BASELINE else int(unit.number))


def _stage(fit: MemberFit, number: int, stage: StageRecipe) -> Stage:
    names = fit.prepared.names
    choice = LossChoice(stage.loss, stage.options, f"stage.{number}")
    loss = fit.target.loss(choice, fit.prepared.truth, len(names)).to(best_device())
    metric = fit.target.metrics(names)[stage.best]
    return new_stage(stage, number, loss, stage.best, higher_is_better=metric.higher_is_better, key=fit.key)


def _checker(fit: MemberFit) -> Callable[[nn.Module], dict[str, float]]:
    """The validation callback of the training loop: metrics of a model on the validation part after each epoch."""
    signals, truth, head, metrics = (
        fit.prepared.validation,
        fit.prepared.validation_truth,
        fit.head,
        fit.target.metrics(fit.prepared.names),
    )

    def check(model: nn.Module) -> dict[str, float]:
        if not len(signals):
            return {}
        predictions = predict_all(model, head, signals)
        return {name: metric.function(predictions, truth) for name, metric in metrics.items()}

    return check
