"""Inference: forecasts of a finished run from past frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from wavefold.core.device import best_device
from wavefold.core.errors import DataError
from wavefold.core.run import RunFolder
from wavefold.data.dataset import Floats
from wavefold.data.series import Series, Windows
from wavefold.models.forecast_baselines import FrameBaseline
from wavefold.recipe import Recipe
from wavefold.tasks.frames.blend import BY_LEAD, Blend
from wavefold.tasks.frames.fit import new_baseline, new_forecaster, scaling_of
from wavefold.tasks.frames.forecasts import Forecasts
from wavefold.tasks.frames.reading import sections
from wavefold.training.checkpoint import read_weights
from wavefold.training.forecast_set import forecast_windows
from wavefold.transforms.frame_scaling import corners_of

Answers = dict[str, Floats]  # by forecaster, (sample, target, ahead, row, column) in the unit of the frames

_BLOCK = 32  # windows at a time


class Forecaster:
    """The members and baselines of one fold of a run, ready for inference.

    fold: by default the last one, which has learned from the most frames. blended: False before the blend is fitted.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, targets: int, fold: int | None = None, *, blended: bool = True) -> None:
        self.recipe, self.targets = recipe, targets
        self._fold = last_fold(run) if fold is None else fold
        self._folder = run.folder / f"fold{self._fold}"
        self.scaling = scaling_of(recipe).load(self._folder / "prepare.npz")
        self.names = [f"{n} {m.model}" for n, m in enumerate(recipe.member)]
        weights = np.array([m.weight for m in recipe.member])
        mean = Blend(tuple(self.names), np.broadcast_to((weights / weights.sum())[:, None, None], (len(weights), 1, 1)))
        self.blend = Blend.load(self._folder / "blend.npz") if blended and recipe.combine.by == BY_LEAD else mean
        self._nets = [load_forecaster(run, recipe, n, self._fold).to(best_device()).eval() for n in range(len(recipe.member))]
        self.baselines = {name: self._baseline(name) for name in recipe.output.baselines}
        self.blend = self.blend.among([*self.names, *self.baselines])

    def past_frames(self, step: float) -> int:
        """Frames up to the last past one that the ensemble can use, for frames `step` seconds apart: more than a net's own."""
        parts = [self.baselines[name].past_frames(step) for name in self.blend.names if name in self.baselines]
        return max([sections(self.recipe)[1].past, *parts])

    def forecast(self, windows: Windows, size: int = _BLOCK) -> Iterator[tuple[slice, Floats]]:
        """Yield the ensemble's forecasts in blocks of windows, in the unit of the frames; only past frames are used."""
        for rows, answers in self.answers(windows, baselines=False, size=size):
            yield rows, answers["ensemble"]

    def answers(self, windows: Windows, *, baselines: bool = True, size: int = _BLOCK) -> Iterator[tuple[slice, Answers]]:
        """Yield forecasts of the ensemble, and, with `baselines`, of its members if several, and of the baselines.

        In blocks of windows.
        """
        scaled = windows.of(self.scaling.apply(windows.series))
        for start in range(0, len(windows), size):
            rows = slice(start, min(start + size, len(windows)))
            some, requested = windows.take(rows), scaled.take(rows)
            each = {name: self._ask(net, requested, some) for name, net in zip(self.names, self._nets, strict=True)}
            asked = self.baselines if baselines else {n: b for n, b in self.baselines.items() if n in self.blend.names}
            beside = {name: self._ask_baseline(baseline, some) for name, baseline in asked.items()}
            members = each if len(each) > 1 or self.blend.names != tuple(self.names) else {}
            yield rows, {"ensemble": self.blend.of(each | beside), **members, **beside}

    def parts(self, windows: Windows) -> Iterator[tuple[slice, Answers]]:
        """Yield forecasts of every member and baseline, in blocks of windows: what a blend is fitted on."""
        for rows, answers in self.answers(windows):
            alone = {self.names[0]: answers["ensemble"]} if self.names[0] not in answers else {}
            yield rows, alone | {name: values for name, values in answers.items() if name != "ensemble"}

    def _ask(self, net: nn.Module, scaled: Windows, windows: Windows) -> Floats:
        predicted = np.concatenate([forecast for _, forecast in forecast_windows(net, scaled)])
        return self.scaling.undo(predicted, windows)

    def _ask_baseline(self, baseline: FrameBaseline, windows: Windows) -> Floats:
        frames = max(windows.past, baseline.past_frames(windows.series.step))
        return baseline.forecast(windows.before(frames), windows.clock(), corners_of(windows))[:, : self.targets]

    def _baseline(self, name: str) -> FrameBaseline:
        baseline = new_baseline(name, self.recipe)
        with np.load(self._folder / "baselines.npz", allow_pickle=False) as kept:
            baseline.load({k.partition(".")[2]: kept[k] for k in kept if k.startswith(f"{name}.")})
        return baseline


def last_fold(run: RunFolder) -> int:
    """The fold that forecasts what follows the data: the last one, which has learned from the most frames."""
    return run.metadata.folds - 1


def load_forecaster(run: RunFolder, recipe: Recipe, number: int, fold: int) -> nn.Module:
    """Load a member's net with its weights, on the CPU."""
    member, metadata = recipe.member[number], run.metadata
    net = new_forecaster(member, len(metadata.channels), metadata.targets, recipe, 0)
    net.load_state_dict(read_weights(run.member(fold, number, member.model)))
    return net


def last_windows(recipe: Recipe, series: Series) -> tuple[Windows, NDArray[np.int64]]:
    """A whole-frame window at the end of every long enough segment without gaps; and the numbers of those segments."""
    _, wanted = sections(recipe)
    long = np.flatnonzero(series.ends - series.starts >= wanted.past)
    if not len(long):
        longest = int((series.ends - series.starts).max())
        raise DataError(
            f"{series.source}: the longest segment without a gap has {longest} frame{'s' if longest != 1 else ''}; "
            f"a forecast needs {wanted.past} (windows.past)"
        )
    first = series.ends[long] - wanted.past
    none = np.zeros(len(long), np.int64)
    return Windows(series, first, none, none, wanted.past, wanted.ahead, series.size), long


def forecasts_of(forecaster: Forecaster, series: Series, size: int = _BLOCK) -> Forecasts:
    """Forecast whole frames after the end of every segment, in their own unit; NaN in cells without any past value.

    size: batch size in windows, at most 32.
    """
    windows, long = last_windows(forecaster.recipe, series)
    frames = np.concatenate([predicted for _, predicted in forecaster.forecast(windows, min(size, _BLOCK))])
    past = replace(windows, ahead=0).values()[:, : forecaster.targets]
    return Forecasts(
        frames=where_seen(frames, past),
        clock=None if series.times is None else windows.clock(),
        names=series.names[long],
        channels=series.channels[: forecaster.targets],
        unit=series.unit,
        step=series.step,
        rows=series.rows,
        columns=series.columns,
        up=series.up,
        across=series.across,
        past=past,
    )


def where_seen(frames: Floats, past: Floats) -> Floats:
    """Set later frames to NaN in cells without a value in any past frame; both (..., frame, row, column)."""
    never = np.isnan(past).all(axis=-3, keepdims=True)
    made: Floats = np.where(never, np.float32(np.nan), frames)
    return made
