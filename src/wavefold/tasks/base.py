"""Defines Task: what wavefold asks of one kind of target. `recipe.task` names it; each task is one file beside this one.

Tasks are found through the entry-point group `wavefold.tasks`, ours in the same way as anyone else's.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike

from wavefold.core import version
from wavefold.core.device import best_device, thread_counts
from wavefold.core.errors import UserError
from wavefold.core.records import Identity, RunInfo, Scores
from wavefold.core.registry import Table, pick
from wavefold.core.run import RUN_FORMAT, RunFolder
from wavefold.data.pack import Packed
from wavefold.recipe import Member, Recipe
from wavefold.reports.page import Page
from wavefold.serving.handlers import ServedModel
from wavefold.training.monitor import TrainingMonitor

Log = Callable[[str], None]


class Scored(Protocol):
    """What `score` returns."""

    def as_json(self) -> dict[str, object]:
        """The object that `wavefold score --json` prints."""

    def text(self) -> str:
        """The lines that `wavefold score` prints."""


class Predicted(Protocol):
    """What `predict` returns."""

    def __len__(self) -> int: ...

    def write(self, path: str | Path) -> None:
        """Write a file in the form that its suffix names; "-" is CSV to standard output."""


@dataclass(frozen=True)
class Unit:
    """One member, or one fitted baseline, in one fold: the smallest piece of a training that can be fitted by itself."""

    fold: int
    number: int | str  # of a member; a word of a baseline
    member: Member
    folder: Path
    mark: str  # the file in it that is written last

    @property
    def name(self) -> str:
        """fold0/member1, or fold0/baseline-logistic."""
        return f"fold{self.fold}/{self.folder.name if isinstance(self.number, str) else f'member{self.number}'}"

    @property
    def done(self) -> bool:
        """Whether it is fitted and saved."""
        return (self.folder / self.mark).exists()


class Training(Protocol):
    """A run whose data are read and split: its units are fitted, in any order, and then evaluated."""

    run: RunFolder
    recipe: Recipe
    units: Sequence[Unit]  # of fold after fold, each fold's baselines last

    def samples(self, unit: Unit) -> int:
        """How many samples, or windows, a unit learns from in one epoch; 0 if it is fitted without epochs."""

    def keep_parts(self) -> None:
        """Write which sample is in which part, and fingerprints of those that members learn from."""

    def prepare(self, fold: int) -> None:
        """Fit the transforms of a fold and make its synthetic samples; does nothing where they are saved already."""

    def fit(self, unit: Unit, monitor: TrainingMonitor) -> None:
        """Fit a unit, from its checkpoint if there is one, and save it in its folder."""

    def choice(self) -> tuple[str, bool]:
        """The metric by which the last stage chooses weights on the validation part, and whether higher is better."""

    def validated(self, unit: Unit) -> float:
        """That metric of a fitted member on its validation part; NaN if there is none."""

    def evaluate(self) -> None:
        """Evaluate the fitted units; scores.json is written last and marks the run as finished."""


class Task(Protocol):
    """One kind of target: how it is checked, learned, predicted, scored, drawn, exported and served."""

    name: str
    series: bool  # whether data are series in time order rather than separate samples

    def check_recipe(self, recipe: Recipe) -> None:
        """Raise UserError for the first invalid name, option or value; needs no data."""

    def describe_data(self, recipe: Recipe, source: str) -> list[str]:
        """Describe a source and its split, as lines; UserError for the first problem."""

    def describe_nets(self, recipe: Recipe) -> str:
        """List the layers of each net for the recipe's own shape."""

    def simulate(self, recipe: Recipe, folder: Path, *, count: int, seed: int) -> Path:
        """Write simulated data in the file layout of the recipe's real data."""

    def columns_of(self, recipe: Recipe, labels: ArrayLike) -> dict[str, ArrayLike]:
        """The columns, name to (sample,), that hold labels passed in memory."""

    def pack(self, recipe: Recipe, source: str, folder: Path, *, workers: int) -> Packed:
        """Write data as training maps them. workers: processes, 0 for one per processor."""

    def begin(self, recipe: Recipe, source: str, run: RunFolder, *, simulated: bool) -> Training:
        """Read and split all data, and create the run or reopen the same one."""

    def rejoin(self, recipe: Recipe, source: str, run: RunFolder) -> Training:
        """Read and split the data of a run that another process has begun; UserError if they are not its data."""

    def units(self, recipe: Recipe, run: RunFolder) -> list[Unit]:
        """The units of a run that was begun; reads no data."""

    def predict(self, run: RunFolder, recipe: Recipe, source: str, *, size: int, warn: Log) -> Predicted:
        """Predict new data. size: batch size; warn: receives a line for each sample left out."""

    def predict_file(self, run: RunFolder, recipe: Recipe, source: str, out: str, *, size: int, warn: Log) -> int:
        """Predict new data into a file, in as little memory as may be; returns the number of predictions."""

    def check_target(self, path: str) -> None:
        """Raise UserError, before any work, if predictions cannot be written to such a file."""

    def score(self, run: RunFolder, recipe: Recipe, source: str, *, size: int, warn: Log, by: Sequence[str]) -> Scored:
        """Score on labelled data: the recipe's metric with its interval, and others."""

    def table(self, scores: Scores) -> str:
        """The scores of a run as a text table."""

    def explore(self, recipe: Recipe, source: str) -> Page:
        """A page about the data."""

    def report(self, run: RunFolder, recipe: Recipe, data: str, warn: Log) -> Page:
        """A page about a run. data: new location of its data, or ''."""

    def export(self, run: RunFolder, recipe: Recipe, out: Path, *, member: int | None, log: Log) -> str:
        """Write one ONNX file, checked against torch; returns a line about it."""

    def served(self, run: RunFolder, recipe: Recipe, *, log: Log) -> ServedModel:
        """The run as the server needs it."""


TASKS: Table[Task] = Table("tasks")


def task_of(recipe: Recipe) -> Task:
    """The task of a recipe; UserError if there is none of that name."""
    return pick(TASKS, recipe.kind, "task")


def recipe_of(run: RunFolder, skip_bad: bool = False) -> Recipe:
    """Load the run's recipe; skip_bad: skip samples that cannot be read."""
    recipe = Recipe.from_toml(run.recipe_text, str(run.folder / "recipe.toml"))
    return recipe.with_({"data.skip_bad": True}) if skip_bad else recipe


def check_same_data(run: RunFolder, source: str, data_digest: str) -> None:
    """Raise UserError if the data of a source are not those that a run was begun with."""
    if data_digest != run.metadata.identity.data:
        raise UserError(f"{source}: holds other data than those that {run.folder} was begun with; name the run's data")


def new_run_info(recipe: Recipe, data_digest: str, **known: object) -> RunInfo:
    """The contents of run.json: identity, data, command and environment. known: of the data, by field."""
    shared = {
        "recipe": recipe.name,
        "identity": Identity(recipe=recipe.digest(), data=data_digest, format=RUN_FORMAT),
        "command": tuple(sys.argv),
        "wavefold": version.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {best_device().type}",
        "threads": thread_counts(),
    }
    return RunInfo.model_validate({**shared, **known})
