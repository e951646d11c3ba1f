"""Forecasting: the frames that follow those of a series, with the same channels and cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from numpy.typing import ArrayLike

from wavefold.core.errors import UserError
from wavefold.core.records import Scores
from wavefold.core.run import RunFolder
from wavefold.data.pack import Packed
from wavefold.recipe import Recipe
from wavefold.reports.page import Page
from wavefold.reports.score_table import lead_table
from wavefold.serving.handlers import ServedModel
from wavefold.tasks.base import Unit
from wavefold.tasks.frames.context import frame_units
from wavefold.tasks.frames.explore import explore_frames
from wavefold.tasks.frames.export import export_forecaster
from wavefold.tasks.frames.forecasts import Forecasts, check_forecast_target
from wavefold.tasks.frames.report import report_frames
from wavefold.tasks.frames.run import (
    FrameScore,
    FrameTraining,
    begin_frames,
    forecast,
    rejoin_frames,
    score_frames,
    simulate_frames,
)
from wavefold.tasks.frames.serve import served_forecaster
from wavefold.tasks.frames.validation import check_frame_recipe, check_frames, describe_forecasters

Log = Callable[[str], None]


class Forecasting:
    """Every verb is a function of `tasks/frames`."""

    name = "forecasting"
    series = True

    def check_recipe(self, recipe: Recipe) -> None:
        """Raise UserError for the first invalid name, option or value; needs no data."""
        check_frame_recipe(recipe)

    def describe_data(self, recipe: Recipe, source: str) -> list[str]:
        """Describe a source and its split, as lines; UserError for the first problem."""
        return check_frames(recipe, source)

    def describe_nets(self, recipe: Recipe) -> str:
        """List the layers of each net for the recipe's own shape."""
        return describe_forecasters(recipe)

    def simulate(self, recipe: Recipe, folder: Path, *, count: int, seed: int) -> Path:
        """Write simulated sequences in the file layout of the recipe's real data."""
        return simulate_frames(recipe, folder, count=count, seed=seed)

    def columns_of(self, recipe: Recipe, labels: ArrayLike) -> dict[str, ArrayLike]:
        """None: frames have no labels."""
        raise UserError("labels: frames have none; they are forecast from the frames before them")

    def pack(self, recipe: Recipe, source: str, folder: Path, *, workers: int) -> Packed:
        """Refused: frames are mapped or read on demand as they are."""
        raise UserError(f"{source}: frames are not packed; large .npy, NetCDF and Zarr files are read on demand as they are")

    def begin(self, recipe: Recipe, source: str, run: RunFolder, *, simulated: bool) -> FrameTraining:
        """Read, cut and split all data, and create the run or reopen the same one."""
        return begin_frames(recipe, source, run, simulated=simulated)

    def rejoin(self, recipe: Recipe, source: str, run: RunFolder) -> FrameTraining:
        """Read, cut and split the data of a run that another process has begun."""
        return rejoin_frames(recipe, source, run)

    def units(self, recipe: Recipe, run: RunFolder) -> list[Unit]:
        """The members, fold after fold."""
        return frame_units(run, recipe, run.metadata.folds)

    def predict(self, run: RunFolder, recipe: Recipe, source: str, *, size: int, warn: Log) -> Forecasts:
        """Forecast the frames after the end of every segment."""
        return forecast(run, recipe, source, size=size, warn=warn)

    def predict_file(self, run: RunFolder, recipe: Recipe, source: str, out: str, *, size: int, warn: Log) -> int:
        """Forecast into a file the frames after the end of every segment."""
        forecasts = self.predict(run, recipe, source, size=size, warn=warn)
        forecasts.write(out)
        return len(forecasts)

    def check_target(self, path: str) -> None:
        """Raise UserError if the suffix is unknown or its package is missing."""
        check_forecast_target(path)

    def score(self, run: RunFolder, recipe: Recipe, source: str, *, size: int, warn: Log, by: Sequence[str]) -> FrameScore:
        """Score a run and its baselines on every window of a source."""
        return score_frames(run, recipe, source, warn=warn)

    def table(self, scores: Scores) -> str:
        """The scores of a run as a text table, by lead."""
        return lead_table(scores)

    def explore(self, recipe: Recipe, source: str) -> Page:
        """A page about the frames of a source."""
        return explore_frames(recipe, source)

    def report(self, run: RunFolder, recipe: Recipe, data: str, warn: Log) -> Page:
        """A page about a run."""
        return report_frames(run, recipe, data, warn)

    def export(self, run: RunFolder, recipe: Recipe, out: Path, *, member: int | None, log: Log) -> str:
        """Write one ONNX file, checked against torch."""
        return export_forecaster(run, out, member=member, log=log).line()

    def served(self, run: RunFolder, recipe: Recipe, *, log: Log) -> ServedModel:
        """The run as the server needs it."""
        return served_forecaster(run, log=log)


TASK = Forecasting()
