"""Defines SampleTask: the verbs of a task on labelled samples. A task is a subclass that says what its target is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from wavefold.core.errors import UserError, listed
from wavefold.core.records import Scores
from wavefold.core.run import RunFolder
from wavefold.data.pack import Packed, pack
from wavefold.evaluation.metrics import Score
from wavefold.recipe import Recipe
from wavefold.reports.page import Page
from wavefold.reports.score_table import score_table
from wavefold.serving.handlers import ServedModel
from wavefold.tasks.base import Unit
from wavefold.tasks.samples.context import sample_units
from wavefold.tasks.samples.explore import explore_samples
from wavefold.tasks.samples.export import export_run
from wavefold.tasks.samples.parts import predict_to_file
from wavefold.tasks.samples.predictions import Predictions, check_target
from wavefold.tasks.samples.reading import how_of
from wavefold.tasks.samples.report import report_samples
from wavefold.tasks.samples.run import (
    SampleTraining,
    begin_samples,
    file_to_predict,
    predict_samples,
    rejoin_samples,
    score_samples,
    simulate_samples,
)
from wavefold.tasks.samples.serve import served_run
from wavefold.tasks.samples.target import Target
from wavefold.tasks.samples.validation import check_data, check_recipe, describe_members

Log = Callable[[str], None]


class SampleTask(Target):
    """A task on labelled samples: every verb is a function of `tasks/samples`, which asks the target."""

    series = False

    def check_recipe(self, recipe: Recipe) -> None:
        """Raise UserError for the first invalid name, option or value; needs no data."""
        check_recipe(recipe)

    def describe_data(self, recipe: Recipe, source: str) -> list[str]:
        """Describe a source and its split, as lines; UserError for the first problem."""
        return check_data(recipe, source)

    def describe_nets(self, recipe: Recipe) -> str:
        """List the layers of each net for the recipe's own shape."""
        return describe_members(recipe)

    def simulate(self, recipe: Recipe, folder: Path, *, count: int, seed: int) -> Path:
        """Write simulated samples in the file layout of the recipe's real data."""
        return simulate_samples(recipe, folder, count=count, seed=seed)

    def columns_of(self, recipe: Recipe, labels: ArrayLike) -> dict[str, ArrayLike]:
        """The columns that hold labels passed in memory: one of classes, or one for each number or label of a matrix."""
        given = np.asarray(labels)
        if self.numbered:
            return {"labels": labels}
        names, matrix = self.names(recipe), given.reshape(len(given), -1) if given.ndim else given
        if matrix.ndim != 2 or matrix.shape[1] != len(names):
            raise UserError(
                f"labels: shape {given.shape}; expected (sample, {len(names)}), in the order {listed(names)} of the recipe"
            )
        return dict(zip(names, matrix.T, strict=True))

    def pack(self, recipe: Recipe, source: str, folder: Path, *, workers: int) -> Packed:
        """Pack a source's samples, with the columns that the recipe names."""
        return pack(source, folder, how_of(recipe), workers=workers)

    def begin(self, recipe: Recipe, source: str, run: RunFolder, *, simulated: bool) -> SampleTraining:
        """Read and split all data, and create the run or reopen the same one."""
        return begin_samples(recipe, source, run, simulated=simulated)

    def rejoin(self, recipe: Recipe, source: str, run: RunFolder) -> SampleTraining:
        """Read and split the data of a run that another process has begun."""
        return rejoin_samples(recipe, source, run)

    def units(self, recipe: Recipe, run: RunFolder) -> list[Unit]:
        """The members and baselines of every fold."""
        return sample_units(run, recipe, run.metadata.folds)

    def predict(self, run: RunFolder, recipe: Recipe, source: str, *, size: int, warn: Log) -> Predictions:
        """Predict every sample of a source, in order."""
        return predict_samples(run, recipe, source, size=size, warn=warn)

    def predict_file(self, run: RunFolder, recipe: Recipe, source: str, out: str, *, size: int, warn: Log) -> int:
        """Predict every sample of a source into a file, in order; of a large one part by part."""
        return predict_to_file(run, recipe, file_to_predict(source), out, size=size, warn=warn)

    def check_target(self, path: str) -> None:
        """Raise UserError if the suffix is unknown or its package is missing."""
        check_target(path)

    def score(self, run: RunFolder, recipe: Recipe, source: str, *, size: int, warn: Log, by: Sequence[str]) -> Score:
        """Score a run on a labelled source."""
        return score_samples(run, recipe, source, size=size, warn=warn, by=by)

    def table(self, scores: Scores) -> str:
        """The scores of a run as a text table."""
        return score_table(scores)

    def explore(self, recipe: Recipe, source: str) -> Page:
        """A page about the samples of a source."""
        return explore_samples(recipe, source)

    def report(self, run: RunFolder, recipe: Recipe, data: str, warn: Log) -> Page:
        """A page about a run."""
        return report_samples(run, recipe, data, warn)

    def export(self, run: RunFolder, recipe: Recipe, out: Path, *, member: int | None, log: Log) -> str:
        """Write one ONNX file, checked against torch."""
        return export_run(run, out, member=member, log=log).line()

    def served(self, run: RunFolder, recipe: Recipe, *, log: Log) -> ServedModel:
        """The run as the server needs it."""
        return served_run(run, log=log)
