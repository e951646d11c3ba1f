"""Checks of a recipe and its data before training, and a description of its nets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from wavefold.core.errors import UserError, listed, plural
from wavefold.core.registry import build_part, check_options, pick
from wavefold.data import SIMULATORS, WRITERS, check_grid, check_layout
from wavefold.data.dataset import Dataset, Signals, shape_words
from wavefold.data.lazy import Lazy
from wavefold.data.missing_codes import codes_in
from wavefold.data.split import SPLITS, Fold
from wavefold.models import MODELS, count_parameters, describe
from wavefold.models.views import MIRRORS
from wavefold.recipe import Member, Recipe, StageRecipe
from wavefold.tasks.samples.evaluate import data_notes
from wavefold.tasks.samples.fit import STEPS, check_size, net_axes, new_changes, new_net, reads_lazily
from wavefold.tasks.samples.kinds import LossChoice
from wavefold.tasks.samples.reading import axis_marks, axis_words, read_for, split_samples
from wavefold.tasks.samples.target import losses_of, target_of
from wavefold.training.loop import OPTIMISERS, SCHEDULES
from wavefold.training.sampler import Draw, EachOnce, TrainingSet, check_fractions
from wavefold.transforms import AUGMENTATIONS, BALANCERS, MIXERS


def check_recipe(recipe: Recipe) -> None:
    """Raise UserError for the first invalid name, option or value in a recipe; needs no data.

    Every component is built once; nets are built on the meta device, without memory for weights.
    """
    target = target_of(recipe)
    recipe.quickly()
    of_forecasts = recipe.changed("output", ("period", "thresholds", "scales", "range"))
    if changed := of_forecasts + recipe.changed("data", ("digits",)):
        raise UserError(f"{changed[0]}: applies only to forecasting recipes, which have a [windows] section; remove it")
    target.check(recipe)
    check_layout(recipe.data.layout)
    if recipe.data.grid is not None:
        check_grid(recipe.data.grid)
    pick(SIMULATORS, recipe.data.simulator, "data.simulator")
    pick(WRITERS, recipe.data.writes, "data.writes")
    _check_steps(recipe)
    given = ("labels", "groups", "seed", "classes", "columns")
    check_options(pick(SPLITS, recipe.split.way, "split.way"), recipe.split.options, "split", given, ("way", "group"))
    check_fractions(recipe.batches.fractions)
    _check_members(recipe)
    if not any(stage.epochs for stage in recipe.stage):
        raise UserError("stage: no stage has any epochs; set stage.0.epochs to 1 or more")
    for i, stage in enumerate(recipe.stage):
        _check_stage(recipe, stage, f"stage.{i}")
    _check_combining(recipe)
    pick(target.metrics(target.names(recipe)), recipe.output.metric, "output.metric")
    for name in recipe.output.compared:
        pick(target.fitted, name, "output.baseline" if name == recipe.output.baseline else "output.baselines")
    if len(set(recipe.output.compared)) < len(recipe.output.compared):
        raise UserError("output.baselines: names a baseline twice; name each once")


def _check_combining(recipe: Recipe) -> None:
    combine, parts = recipe.combine, target_of(recipe).parts
    pick(parts.combiners, combine.by, "combine.by")
    if "weights" in combine.options:
        raise UserError(
            "combine.weights: unknown option; set a weight for each member instead, for example --set member.0.weight=2.0"
        )
    build_part(parts.combiners, combine.by, combine.options, "combine")
    pick(parts.calibrations, combine.calibrate, "combine.calibrate")
    pick(parts.decisions, combine.decide, "combine.decide")


def _other_kind(recipe: Recipe, dataset: Dataset) -> bool:
    """Whether both the shape and every output of a dataset differ from those the recipe was written for."""
    target = target_of(recipe)
    others = not set(target.outputs(dataset)) & set(target.names(recipe))
    return tuple(dataset.signals.shape[1:]) != tuple(recipe.data.shape) and others


def check_data(recipe: Recipe, source: str) -> list[str]:
    """Describe a source and its split by the recipe, as lines of text; UserError for the first problem found."""
    dataset, target = read_for(recipe, source), target_of(recipe)
    folds = split_samples(recipe, dataset)
    check_fits(recipe, dataset, folds)
    lines = [
        f"{len(dataset):,} samples, {shape_words(dataset.signals.shape[1:])}{_extent(dataset.signals)}",
        *target.describe(dataset),
        f"{plural(len(folds), 'fold')}: {len(folds[0].train):,} training, "
        f"{len(folds[0].validation):,} validation and {len(folds[0].test):,} test samples",
    ]
    if _other_kind(recipe, dataset):
        lines.append(
            f"note: recipe '{recipe.name}' expects samples of {shape_words(recipe.data.shape)} and "
            f"{target.words} {listed(target.names(recipe))}; check that it is the right recipe for these data"
        )
    if dataset.groups is not None and recipe.split.group:
        lines.insert(-1, f"groups: {len(set(dataset.groups)):,} by {dataset.grouping}, none divided by the split")
    if dataset.axis is not None:
        lines.insert(1, f"axis: {axis_words(axis_marks(dataset) or [], dataset.unit)}")
    if dataset.attrs:
        lines.insert(1, f"as the source says: {', '.join(f'{name} {value}' for name, value in dataset.attrs.items())}")
    lines += [f"left out {name}: {why}" for name, why in dataset.left_out]
    lines += [f"note: {note}" for note in _codes(recipe, dataset)]
    return lines + [f"note: {note}" for note in data_notes(recipe, dataset, folds)]


def _codes(recipe: Recipe, dataset: Dataset) -> list[str]:
    """A note on values that may be codes for missing ones, with the option that settles it; none of signals read on demand."""
    if isinstance(dataset.signals, Lazy):
        return []
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), _SEARCHED)).round().astype(np.int64))
    values = np.asarray(dataset.take(rows).signals[:], np.float64)
    found = codes_in(values[np.isfinite(values)])
    if not found:
        return []
    said = " and ".join(f"{share:.2%} of the values are {value:g}" for value, share in found)
    codes = ",".join(f"{value:.9g}" for value in (*(recipe.data.missing or ()), *(value for value, _ in found)))
    return [f"{said}, far from all others; if they mark missing values, add --set 'data.missing=[{codes}]' --skip-bad"]


_SEARCHED = 1000  # samples searched for codes


def check_fits(recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> None:
    """Raise UserError if a net, step, flip or classifier of the recipe does not support a dataset's signals or classes."""
    shape, target = dataset.signals.shape, target_of(recipe)
    width = target.width(losses_of(recipe), len(target.outputs(dataset)))
    for i, member in enumerate(recipe.member):
        if member.model in MODELS:
            net_axes(member, shape, f"member.{i}")
            _check_net(recipe, member, shape, width, f"member.{i}")
        _check_flips(recipe, member, len(shape), f"member.{i}")
    _check_changes(recipe, shape, len(target.outputs(dataset)))
    if isinstance(dataset.signals, Lazy):
        largest = dataset.signals.at(max((fold.train for fold in folds), key=len))
        for who in _need_memory(recipe):
            check_size(largest, who)


def _check_net(recipe: Recipe, member: Member, shape: Sequence[int], width: int, place: str) -> None:
    """Build a net for the data's shape, without memory for weights; UserError if it cannot be, with a member that can."""
    try:
        with torch.device("meta"):
            new_net(member, shape, width, 0, place)
    except UserError as error:
        known = (*(m.model for m in recipe.member), *recipe.output.compared)
        fitted = next((name for name in known if name in target_of(recipe).fitted), "")
        way = f"; to leave the nets out, add --set 'member=[{{model=\"{fitted}\"}}]'" if fitted else ""
        raise UserError(f"{error}{way}") from None


def describe_members(recipe: Recipe) -> str:
    """List the layers of each net with output shapes and parameter counts, for the recipe's own shape."""
    shape, target = recipe.data.shape, target_of(recipe)
    count = len(target.names(recipe))
    blocks = []
    for number, member in enumerate(recipe.member):
        title = f"member {number}: {member.model}"
        if member.model in target.fitted:
            blocks.append(f"{title} (fitted in one step, without layers)")
            continue
        layers = describe(new_net(member, (1, *shape), target.width(losses_of(recipe), count), 0), *shape)
        lines = [f"  {x.name:<28} {x.kind:<18} {' x '.join(map(str, x.shape)):<16} {x.parameters:>12,}" for x in layers]
        head = f"{title}, {' x '.join(map(str, shape))} to {count} {target.words}"
        blocks.append("\n".join([head, *lines, f"  {count_parameters(layers):,} parameters"]))
    return "\n".join(blocks)


_FREE_STEPS = {name: part for name, part in STEPS.items() if name not in BALANCERS}  # those that need no classes


def _check_steps(recipe: Recipe) -> None:
    augmented, shape = "", (1, *recipe.data.shape)
    for i, step in enumerate(recipe.prepare):
        pick(STEPS if target_of(recipe).numbered else _FREE_STEPS, step.step, f"prepare.{i}.step")
        if step.step not in MIXERS:
            build_part(STEPS, step.step, step.options, f"prepare.{i}")
        if step.step in AUGMENTATIONS or step.step in MIXERS:
            augmented = step.step
        elif augmented:
            raise UserError(
                f"prepare.{i}: '{step.step}' must come before '{augmented}', which is applied at random to each batch"
            )
    _check_changes(recipe, shape, len(target_of(recipe).names(recipe)))


def _check_changes(recipe: Recipe, shape: Sequence[int], classes: int) -> None:
    """Run augmentations and mixers on a sample of zeros, so that each can reject its shape. shape: (sample, channel, ...)."""
    one, changes = torch.zeros(1, dtype=torch.int64), new_changes(recipe.prepare, shape, classes)
    truth = one if target_of(recipe).numbered else torch.zeros(1, classes)
    part = TrainingSet(torch.zeros(1, *shape[1:]), truth, one, EachOnce(1, 1), changes, classes)
    for _ in part.drawn([Draw(one, 0, one)]):
        pass


def _check_stage(recipe: Recipe, stage: StageRecipe, place: str) -> None:
    target = target_of(recipe)
    names = target.names(recipe)
    pick(target.losses, stage.loss, f"{place}.loss")
    given = ("counts", "samples", "targets")
    check_options(target.losses[stage.loss], stage.options, place, given, type(stage).model_fields)
    target.loss(LossChoice(stage.loss, stage.options, place), target.example(len(names)), len(names))
    pick(OPTIMISERS, stage.optimiser, f"{place}.optimiser")
    pick(SCHEDULES, stage.schedule, f"{place}.schedule")
    pick(target.metrics(names), stage.best, f"{place}.best")


def _need_memory(recipe: Recipe) -> list[str]:
    """The recipe entries that need all training signals in memory, as named in errors."""
    balancers = [f"prepare.{i}: '{step.step}'" for i, step in enumerate(recipe.prepare) if step.step in BALANCERS]
    named = {f"member.{i}": member.model for i, member in enumerate(recipe.member)}
    named |= {f"output.baselines.{i}": name for i, name in enumerate(recipe.output.baselines)}
    named |= {"output.baseline": recipe.output.baseline}
    kinds = target_of(recipe).fitted
    fitted = {place: name for place, name in named.items() if name in kinds}
    return balancers + [f"{place}: '{name}'" for place, name in fitted.items() if not reads_lazily(kinds[name])]


def _check_members(recipe: Recipe) -> None:
    shape, target = (1, *recipe.data.shape), target_of(recipe)
    width = target.width(losses_of(recipe), len(target.names(recipe)))
    for i, member in enumerate(recipe.member):
        _check_flips(recipe, member, len(shape), f"member.{i}")
        if member.model in target.fitted:
            target.new_fitted(member.model, member.options, f"member.{i}", 0)
            continue
        pick(dict.fromkeys((*MODELS, *target.fitted)), member.model, f"member.{i}.model")
        with torch.device("meta"):
            new_net(member, shape, width, 0, f"member.{i}")


def _check_flips(recipe: Recipe, member: Member, axes: int, place: str) -> None:
    """Check that flips suit the signals. axes: number of signal axes, including the sample axis."""
    for number, name in enumerate(member.flips):
        pick(MIRRORS, name, f"{place}.flips.{number}")
    if member.flips and member.model in target_of(recipe).fitted:
        raise UserError(f"{place}.flips: '{member.model}' is not a net; only nets can average predictions over mirror images")
    if member.flips and axes != 4:
        raise UserError(f"{place}.flips: only signals (sample, panel, time, frequency) can be mirrored; these have {axes} axes")


def _extent(signals: Signals) -> str:
    """The range of values as text; signals read on demand are sampled."""
    word = " values" if signals.ndim > 3 else ""
    if not isinstance(signals, Lazy):
        return f"{word} from {signals.min():g} to {signals.max():g}"
    rows = np.unique(np.linspace(0, len(signals) - 1, _LOOKED_AT).round().astype(np.int64))
    ends = [(values.min(), values.max()) for values in (signals[row] for row in rows)]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return f"{word} from {low:g} to {high:g} (in {len(rows)} sample{'s' if len(rows) != 1 else ''} checked)"


_LOOKED_AT = 64  # samples to check of signals that are read on demand
