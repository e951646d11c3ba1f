"""Training of forecasting members, with weights chosen on the validation windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from wavefold.core.device import best_device, seed_step
from wavefold.core.errors import DataError, UserError
from wavefold.core.random import key as make_key
from wavefold.core.records import RunInfo
from wavefold.core.registry import build_part, pick
from wavefold.data.series import Series, Windows
from wavefold.data.windows import TimeSplit
from wavefold.evaluation.forecast_metrics import FrameMetric, FrameScores, metrics_of_frames
from wavefold.models.forecast_baselines import FrameBaseline, build_baseline
from wavefold.models.forecasters import FORECASTERS
from wavefold.recipe import Member, Recipe, StageRecipe
from wavefold.tasks.base import Unit
from wavefold.tasks.frames.blend import BY_LEAD
from wavefold.tasks.frames.context import ForecastContext
from wavefold.tasks.frames.reading import frames_of, sections
from wavefold.training.checkpoint import CheckpointFile
from wavefold.training.fit_net import fit_net, keep_net, new_stage
from wavefold.training.forecast_losses import frame_loss
from wavefold.training.forecast_set import Change, ForecastTrainingSet, forecast_windows
from wavefold.training.loop import Stage
from wavefold.training.monitor import TrainingMonitor
from wavefold.training.sampler import EachOnce
from wavefold.transforms.frame_scale import FRAME_TRANSFORMS
from wavefold.transforms.frame_scaling import FrameScaling, frames_at
from wavefold.transforms.mirror import FRAME_AUGMENTATIONS

_CHECKED = 256  # most validation windows evaluated after each epoch, evenly spread


def scaling_of(recipe: Recipe) -> FrameScaling:
    """Build the recipe's frame transforms, not yet fitted."""
    return FrameScaling(
        [
            (number, build_part(FRAME_TRANSFORMS, step.step, step.options, f"prepare.{number}"))
            for number, step in enumerate(recipe.prepare)
            if step.step in FRAME_TRANSFORMS
        ]
    )


def new_forecaster(member: Member, channels: int, targets: int, recipe: Recipe, key: int, place: str = "member") -> nn.Module:
    """Build a net with weights initialized from a key. place: for errors."""
    _, windows = sections(recipe)
    seed_step(key)
    given = {"channels": channels, "targets": targets, "past": windows.past, "ahead": windows.ahead}
    net: nn.Module = build_part(FORECASTERS, member.model, member.options, place, **given)
    return net


def metrics_of(recipe: Recipe, data_range: float) -> dict[str, FrameMetric]:
    """The recipe's metrics by name; `csi` and `fss` use the first threshold."""
    output = recipe.output
    made = metrics_of_frames(data_range, output.thresholds, output.scales)
    for short in ("csi", "fss"):
        named = [name for name in made if name.startswith(f"{short}-")]
        if named:
            made[short] = made[named[0]]
    return made


def training_range(series: Series, windows: Windows, targets: int) -> float:
    """The range (maximum - minimum) of the target channels in some windows' frames; DataError if they have no values."""
    frames = frames_at(series, frames_of(windows))[0][:, :targets]
    if np.isnan(frames).all():
        raise DataError(f"{series.source}: the target channels have no values in the {len(frames):,} training frames")
    return float(np.nanmax(frames) - np.nanmin(frames)) or 1.0


def value_range(recipe: Recipe, info: RunInfo) -> float:
    """The data range for SSIM and PSNR: the recipe's, if set, or that of the training part."""
    return recipe.output.range or info.range


def new_frame_changes(recipe: Recipe) -> tuple[Change, ...]:
    """Build the augmentations among a recipe's steps, in order."""
    return tuple(
        build_part(FRAME_AUGMENTATIONS, step.step, step.options, f"prepare.{number}")
        for number, step in enumerate(recipe.prepare)
        if step.step in FRAME_AUGMENTATIONS
    )


def new_baseline(name: str, recipe: Recipe, place: str = "output.baselines") -> FrameBaseline:
    """Build a baseline by name."""
    _, windows = sections(recipe)
    return build_baseline(name, place, period=recipe.output.period, past=windows.past, ahead=windows.ahead)


def check_baselines(recipe: Recipe, series: Series) -> None:
    """Raise UserError, before training, if a baseline cannot be fitted on such frames."""
    few = np.arange(min(2, len(series)))
    for name in recipe.output.baselines:
        new_baseline(name, recipe).fit(series.frames[few], series.clock(few), series.step)


def check_blend(recipe: Recipe, splits: Sequence[TimeSplit]) -> None:
    """Raise UserError, before training, if there are no validation windows to fit a blend on."""
    if recipe.combine.by == BY_LEAD and not all(len(split.validation) for split in splits):
        raise UserError("combine.by: by_lead needs validation windows; set split.validation above 0, or combine.by=mean")


def check_losses(recipe: Recipe, series: Series, windows: Windows, targets: int) -> None:
    """Raise UserError, before training, if a loss of probabilities would learn values outside 0 to 1, which it cuts off."""
    used = [n for n, stage in enumerate(recipe.stage) if stage.epochs and "bce" in _losses_in(stage)]
    if not used:
        return
    numbers, scaling = frames_of(windows), scaling_of(recipe)
    scaling.fit(series, numbers)
    few = numbers[np.unique(np.linspace(0, len(numbers) - 1, min(len(numbers), _CHECKED)).round().astype(np.int64))]
    part = replace(series, frames=series.frames[few], times=series.clock(few), starts=np.zeros(1, np.int64))
    values = scaling.apply(part).frames[:][:, :targets]
    known = values[np.isfinite(values)]
    outside = float(np.mean((known < -_BIT) | (known > 1 + _BIT))) if known.size else 0.0
    if outside > _BIT:
        raise UserError(
            f"stage.{used[0]}.loss: bce needs values from 0 to 1, but {outside:.1%} of the training frames' values are outside "
            f'after prepare ({known.min():.3g} to {known.max():.3g}); set prepare=[{{step="min_max"}}] or another loss'
        )


_BIT = 1e-3  # share of values, and distance from 0 and 1, that is left to rounding


def _losses_in(stage: StageRecipe) -> list[str]:
    """The names of a stage's loss and of those that it sums."""
    parts = stage.options.get("parts", [])
    return [stage.loss, *(str(part.get("loss")) for part in parts if isinstance(part, Mapping))]


def fit_forecaster(
    context: ForecastContext, unit: Unit, scaled: Series, scaling: FrameScaling, monitor: TrainingMonitor
) -> None:
    """Train one net through the recipe's stages and save its weights; seconds.json marks it as done.

    scaled: the frames after `scaling`, which was fitted when the run began.
    """
    recipe, member, folder, device = context.recipe, unit.member, unit.folder, best_device()
    own = (-2, member.seed) if member.seed is not None else (int(unit.number),)
    key = make_key(recipe.seed, unit.fold, *own)
    model = new_forecaster(member, len(scaled.channels), context.targets, recipe, key).to(device)
    part = _part(context, unit.fold, scaled, device)
    stages = [frame_stage(stage, i, context, key) for i, stage in enumerate(recipe.stage)]
    file = CheckpointFile(folder / "state.pt", recipe.batches.save_every)
    state = fit_net(model, part, _checker(context, unit.fold, scaled, scaling), stages, file=file, watch=monitor)
    keep_net(folder, state, file)


def _part(context: ForecastContext, fold: int, scaled: Series, device: torch.device) -> ForecastTrainingSet:
    recipe, windows = context.recipe, context.windows.take(context.splits[fold].train).of(scaled)
    anywhere = sections(recipe)[1].anywhere
    batches = EachOnce(len(windows), recipe.batches.size, recipe.batches.steps)
    return ForecastTrainingSet(windows, batches, device, context.targets, new_frame_changes(recipe), anywhere)


def frame_stage(stage: StageRecipe, number: int, context: ForecastContext, key: int) -> Stage:
    """Convert a stage of the recipe for the training loop."""
    metric = pick(metrics_of(context.recipe, 1.0), stage.best, f"stage.{number}.best")
    loss = frame_loss(stage.loss, stage.options, f"stage.{number}")
    return new_stage(stage, number, loss, stage.best, higher_is_better=metric.higher_is_better, key=key)


def _checker(
    context: ForecastContext, fold: int, scaled: Series, scaling: FrameScaling
) -> Callable[[nn.Module], dict[str, float]]:
    """The validation callback after each epoch: metrics of forecasts of a fold's validation windows, in the frames' unit."""
    index = context.splits[fold].validation
    if len(index) > _CHECKED:
        index = index[np.linspace(0, len(index) - 1, _CHECKED).round().astype(np.int64)]
    there = context.windows.take(index)
    every = metrics_of(context.recipe, value_range(context.recipe, context.run.metadata))
    names = dict.fromkeys(["mse", "mae", context.recipe.output.metric, *(s.best for s in context.recipe.stage)])

    def check(model: nn.Module) -> dict[str, float]:
        if not len(there):
            return {}
        scores = FrameScores({name: every[name] for name in names})
        for rows, forecast in forecast_windows(model, there.of(scaled)):
            if not np.isfinite(forecast).all():
                raise UserError(
                    "stage: the net's forecasts are no longer finite; lower stage.*.learning_rate or change the loss"
                )
            some = there.take(rows)
            scores.add(scaling.undo(forecast, some), truth_of(some, context.targets))
        return {name: scores.value(name) for name in names}

    return check


def truth_of(windows: Windows, targets: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The later frames of windows, (sample, target, ahead, row, column)."""
    later = replace(windows, first=windows.first + windows.past, past=windows.ahead, ahead=0)
    return later.values()[:, :targets]
