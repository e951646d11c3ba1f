"""Checks of a forecasting recipe and its data before training, and a description of its nets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from wavefold.core.errors import UserError, listed
from wavefold.core.registry import build_part, check_options, pick
from wavefold.data import SERIES_SIMULATORS, SERIES_WRITERS
from wavefold.data.series import Series, time_word
from wavefold.data.series_reader import SERIES_LAYOUTS
from wavefold.data.windows import TimeSplit, time_blocks
from wavefold.evaluation.forecast_metrics import is_higher_better
from wavefold.models import count_parameters, describe
from wavefold.models.forecast_baselines import BASELINES
from wavefold.models.forecasters import FORECASTERS
from wavefold.recipe import Recipe, StageRecipe
from wavefold.tasks.frames.blend import BY_LEAD
from wavefold.tasks.frames.doubts import doubts
from wavefold.tasks.frames.evaluate import frame_notes, interval_notes
from wavefold.tasks.frames.fit import (
    check_baselines,
    check_blend,
    check_losses,
    metrics_of,
    new_baseline,
    new_forecaster,
    training_range,
)
from wavefold.tasks.frames.reading import FRAME_SPLITS, read_frames, sections, split_windows, windows_in
from wavefold.tasks.frames.usual_baselines import AUTO, with_usual_baselines
from wavefold.training.forecast_losses import FRAME_LOSSES, frame_loss
from wavefold.training.loop import OPTIMISERS, SCHEDULES
from wavefold.transforms.frame_scale import FRAME_TRANSFORMS
from wavefold.transforms.mirror import FRAME_AUGMENTATIONS

# options of [data] that frames have no use for
_OF_SAMPLES = ("label", "test", "limit", "missing", "skip_bad", "grid", "signal", "wavelength_unit", "medium")
STEPS: dict[str, Callable[..., object]] = {**FRAME_TRANSFORMS, **FRAME_AUGMENTATIONS}


def check_frame_recipe(recipe: Recipe) -> None:
    """Raise UserError for the first invalid name, option or value in a forecasting recipe; needs no data."""
    recipe.quickly()
    _, windows = sections(recipe)
    for key, value in {"crop": windows.crop, "crop_stride": windows.crop_stride}.items():
        if len(value) == 1:
            raise UserError(f"windows.{key}: {value} is one number; give rows and columns, or remove it")
    if windows.crop_stride and not windows.crop:
        raise UserError("windows.crop_stride: needs windows.crop; set it or remove windows.crop_stride")
    if windows.anywhere and not windows.crop:
        raise UserError("windows.anywhere: needs windows.crop; set it or remove windows.anywhere")
    pick({"auto": None, **SERIES_LAYOUTS}, recipe.data.layout, "data.layout")
    pick(SERIES_SIMULATORS, recipe.data.simulator, "data.simulator")
    if recipe.data.digits and recipe.data.simulator != "digits":
        raise UserError(f"data.digits: simulator '{recipe.data.simulator}' draws no digits; set data.simulator=digits")
    pick(SERIES_WRITERS, recipe.data.writes, "data.writes")
    if len(recipe.data.shape) != 3:
        raise UserError(f"data.shape: {recipe.data.shape} is invalid; expected channels, rows and columns")
    _check_steps(recipe)
    given = ("windows",)
    check_options(pick(FRAME_SPLITS, recipe.split.way, "split.way"), recipe.split.options, "split", given, ("way",))
    _check_unused(recipe)
    _check_members(recipe)
    if not any(stage.epochs for stage in recipe.stage):
        raise UserError("stage: no stage has any epochs; set stage.0.epochs to 1 or more")
    for number, stage in enumerate(recipe.stage):
        _check_stage(recipe, stage, f"stage.{number}")
    _check_metric(recipe, recipe.output.metric, "output.metric")
    for number, name in enumerate(recipe.output.baselines):
        pick({**BASELINES, AUTO: None}, name, f"output.baselines.{number}")
        if name == "pca_ridge" and windows.crop:
            raise UserError(f"output.baselines.{number}: pca_ridge forecasts whole frames; remove it or windows.crop")
        if name != AUTO:
            new_baseline(name, recipe)


def check_frames(recipe: Recipe, source: str) -> list[str]:
    """Describe a source and its split by the recipe, as lines of text; UserError for the first problem found."""
    series, targets = read_frames(recipe, source)
    windows = windows_in(recipe, series)
    splits = split_windows(recipe, windows)
    recipe, left_out = with_usual_baselines(recipe, series)
    check_baselines(recipe, series)
    training_range(series, windows.take(splits[-1].train), targets)
    past, ahead = sections(recipe)[1].past, sections(recipe)[1].ahead
    rows, columns = series.size
    lines = [
        f"{len(series):,} frames of {rows} x {columns} in {len(series.starts):,} "
        f"segment{'s' if len(series.starts) != 1 else ''} without gaps{_times(series)}",
        f"channels: {listed(series.channels)}; to forecast: {listed(series.channels[:targets])}; unit: {series.unit or '?'}",
        f"{_extent(series)}",
        f"{len(windows):,} windows of {past} past and {ahead} later frames of {windows.size[0]} x {windows.size[1]}",
        *(_split_line(split, number, len(splits)) for number, split in enumerate(splits)),
        f"baselines: {listed(recipe.output.baselines) or 'none'}",
    ]
    notes = left_out + frame_notes(recipe, series, windows, splits) + doubts(recipe, series)
    check_blend(recipe, splits)
    for split in splits:
        check_losses(recipe, series, windows.take(split.train), targets)
    tested = np.concatenate([split.test for split in splits])
    if len(tested):
        notes += interval_notes(len(set(time_blocks(windows.take(tested)).tolist())))
    return [*lines, *(f"note: {note}" for note in notes), *_stated(series)]


def _split_line(split: TimeSplit, number: int, count: int) -> str:
    title = "split by time" if count == 1 else f"split by time, cut {number + 1} of {count}"
    return f"{title}: {len(split.train):,} training, {len(split.validation):,} validation and {len(split.test):,} test windows"


def describe_forecasters(recipe: Recipe) -> str:
    """List the layers of each net with output shapes and parameter counts, for the recipe's own shape."""
    (_, rows, columns), (_, windows), (channels, targets) = recipe.data.shape, sections(recipe), _channels(recipe)
    blocks = []
    for number, member in enumerate(recipe.member):
        net = new_forecaster(member, channels, targets, recipe, 0)
        layers = describe(net, channels, windows.past, rows, columns)
        lines = [f"  {x.name:<36} {x.kind:<18} {' x '.join(map(str, x.shape)):<22} {x.parameters:>12,}" for x in layers]
        title = f"member {number}: {member.model}, {windows.past} to {windows.ahead} frames of {channels} x {rows} x {columns}"
        blocks.append("\n".join([title, *lines, f"  {count_parameters(layers):,} parameters"]))
    return "\n".join(blocks)


def _check_steps(recipe: Recipe) -> None:
    changed = ""
    for number, step in enumerate(recipe.prepare):
        pick(STEPS, step.step, f"prepare.{number}.step")
        build_part(STEPS, step.step, step.options, f"prepare.{number}")
        if step.step in FRAME_AUGMENTATIONS:
            changed = step.step
        elif changed:
            raise UserError(
                f"prepare.{number}: '{step.step}' must come before '{changed}', which is applied at random to each batch"
            )


def _check_unused(recipe: Recipe) -> None:
    """Raise UserError for settings that have no effect in a forecasting recipe."""
    if recipe.batches.fractions != "each":
        raise UserError("batches.fractions: frames have no classes; remove it or set it to each")
    pick(dict.fromkeys(("mean", BY_LEAD)), recipe.combine.by, "combine.by")
    if recipe.combine.options:
        raise UserError(f"combine.{next(iter(recipe.combine.options))}: no such option; {recipe.combine.by} takes none")
    if recipe.combine.calibrate != "none" or recipe.combine.decide != "probabilities":
        raise UserError("combine: calibrate and decide do not apply to forecasts; remove them")
    if recipe.split.group:
        raise UserError("split.group: frames are split by time; remove it")
    if recipe.output.baseline:
        raise UserError("output.baseline: applies only to classification; for forecasts use the list output.baselines")
    changed = recipe.changed(
        "data",
        (
            "label",
            "test",
            "limit",
            "missing",
            "skip_bad",
            "grid",
            "signal",
            "wavelength_unit",
            "medium",
            "backgrounds",
            "classes",
        ),
    )
    changed += recipe.changed("combine", ("threshold",)) + recipe.changed("output", ("per", "submission"))
    if changed:
        raise UserError(f"{changed[0]}: applies only to labelled samples; remove it from a forecasting recipe")


def _check_members(recipe: Recipe) -> None:
    channels, targets = _channels(recipe)
    for number, member in enumerate(recipe.member):
        place = f"member.{number}"
        if member.flips:
            raise UserError(f"{place}.flips: applies only to cadences; remove it")
        pick(FORECASTERS, member.model, f"{place}.model")
        check_options(FORECASTERS[member.model], member.options, place, ("channels", "targets", "past", "ahead"), ("model",))
        with torch.device("meta"):
            new_forecaster(member, channels, targets, recipe, 0, place)


def _channels(recipe: Recipe) -> tuple[int, int]:
    """The number of channels in the recipe's own shape, and of channels to forecast."""
    channels = recipe.data.shape[0]
    return channels, min(channels, len(sections(recipe)[0].targets) or channels)


def _check_stage(recipe: Recipe, stage: StageRecipe, place: str) -> None:
    pick(FRAME_LOSSES, stage.loss, f"{place}.loss")
    frame_loss(stage.loss, stage.options, place, beside=type(stage).model_fields)
    pick(OPTIMISERS, stage.optimiser, f"{place}.optimiser")
    pick(SCHEDULES, stage.schedule, f"{place}.schedule")
    _check_metric(recipe, stage.best, f"{place}.best")


def _check_metric(recipe: Recipe, name: str, place: str) -> None:
    """Raise UserError for a metric that does not exist or that cannot rank forecasts."""
    known, (short, *_) = metrics_of(recipe, 1.0), name.split("-")
    if name not in known and short in ("csi", "fss", "bias"):
        there = listed(n for n in known if n.startswith(short)) or "none"
        raise UserError(
            f"{place}: no metric '{name}'; available {short} metrics: {there}; set thresholds, as in "
            "--set output.thresholds=[7,20]"
        )
    pick(known, name, place)
    if is_higher_better(name) is None:
        raise UserError(f"{place}: '{name}' is best at 1, so it cannot rank forecasts; choose another metric")


def _stated(series: Series) -> list[str]:
    """A line on what was taken from the source: variable, axes and calendar, and the ends of rows and columns."""
    words = [f"{name}: {value}" for name, value in series.attrs.items()]
    for name, values, title in (("rows", series.rows, series.up), ("columns", series.columns, series.across)):
        if values is not None:
            words.append(f"{name}: {title + ' ' if title else ''}{values[0]:g} to {values[-1]:g}")
    return ["; ".join(words)] if words else []


def _times(series: Series) -> str:
    if series.times is None:
        return ", times unknown"
    return f", {time_word(series.times[0])} to {time_word(series.times[-1])}, a frame every {_step_word(series.step)}"


def _step_word(seconds: float) -> str:
    for size, word in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.4g} {word}"
    return f"{seconds:g} s"


def _extent(series: Series) -> str:
    """The range of values and the share of missing cells in some frames, as text."""
    looked = np.unique(np.linspace(0, len(series) - 1, 64).round().astype(np.int64))
    values = series.frames[looked]
    missing = np.isnan(values).mean()
    if missing == 1:
        return f"no values in {len(looked)} frame{'s' if len(looked) != 1 else ''} checked"
    word = f", {missing:.1%} of the cells missing" if missing else ""
    return (
        f"values from {np.nanmin(values):g} to {np.nanmax(values):g}{word} "
        f"(in {len(looked)} frame{'s' if len(looked) != 1 else ''} checked)"
    )
