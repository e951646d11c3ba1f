"""Defines Target: what a task on labelled samples says about its target; the steps of `tasks/samples` ask it.

The legend is that of `kinds.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

import numpy as np
from pydantic import BaseModel

from wavefold.core.errors import UserError
from wavefold.core.records import RunInfo, Scores
from wavefold.data.dataset import Dataset, Ints, Strings
from wavefold.data.split import Fold
from wavefold.recipe import Recipe
from wavefold.reports.held_out import HeldOut
from wavefold.reports.page import Block, Chapter, Table
from wavefold.tasks.base import task_of
from wavefold.tasks.samples.kinds import Kind, LossChoice, Truth, Values
from wavefold.tasks.samples.predictions import Predictions
from wavefold.training.sampler import Batches, EachOnce


class Target(Kind):
    """What the target of a task is, and how it is decided and shown; how it is learned and measured is its kind's."""

    name: str
    prior_name: str  # the baseline that ignores the signals
    prior_words: str  # what it does
    words: str  # for its outputs: "classes"
    kind: str  # word for the server's page and description
    output: str = "probabilities"  # name of what an exported file returns
    difference_unit: str = ""  # of these differences, "" for probabilities
    difference_words: str = "a probability"  # what the differences of an exported file are measured in

    # the target

    @abstractmethod
    def check(self, recipe: Recipe) -> None:
        """Raise UserError for keys of a recipe that this target does not have, or lacks."""

    @abstractmethod
    def names(self, recipe: Recipe) -> tuple[str, ...]:
        """The names of the outputs that a recipe itself gives, for simulation and for describing nets."""

    @abstractmethod
    def with_truth(self, recipe: Recipe, dataset: Dataset, info: RunInfo | None) -> Dataset:
        """Attach the truth to samples that were read; UserError for values that it cannot be. info: of the run, if any."""

    @abstractmethod
    def has_truth(self, recipe: Recipe, dataset: Dataset) -> bool:
        """Whether the samples that were read have a truth."""

    @abstractmethod
    def outputs(self, dataset: Dataset) -> tuple[str, ...]:
        """The names of the outputs."""

    @abstractmethod
    def truth(self, dataset: Dataset) -> Truth:
        """The truth, (N,) or (N, K); DataError if there is none."""

    @abstractmethod
    def check_truth(self, dataset: Dataset) -> None:
        """Raise DataError if nothing can be learned from the truth."""

    @abstractmethod
    def check_folds(self, dataset: Dataset, folds: Sequence[Fold]) -> None:
        """Raise DataError if nothing can be learned from the training part of a fold."""

    @abstractmethod
    def example(self, count: int) -> Truth:
        """The truth of a few samples, to build a loss with before there are data."""

    def strata_names(self, dataset: Dataset) -> tuple[str, ...]:
        """The names of the strata, for messages."""
        return self.outputs(dataset)

    # training

    def batches(self, recipe: Recipe, truth: Truth, names: Sequence[str]) -> Batches:
        """The batches of an epoch."""
        return EachOnce(len(truth), recipe.batches.size, recipe.batches.steps)

    @abstractmethod
    def prior(self, truth: Truth, count: int) -> Values:
        """The prediction (P,) of the baseline that knows only the training part's truth."""

    def average(self, folds: Sequence[Values]) -> Values:
        """The mean of what the ensembles of several folds predict, each (N, P)."""
        total = np.zeros_like(folds[0])
        for values in folds:
            total += values / len(folds)
        return total

    def decided_prior(self, prior: Values) -> Values:
        """The decision of that baseline, from what a decision that does not learn makes of it; both (N, P)."""
        return prior

    # evaluation

    @abstractmethod
    def shown(self, metric: str, names: Sequence[str]) -> list[str]:
        """The metrics that get an interval, the recipe's first; the first three are the columns of text tables."""

    def details(self, predictions: Values, decided: Values, truth: Truth) -> dict[str, object]:
        """Further values of a row of scores."""
        return {}

    def options(self, recipe: Recipe, decide: str) -> dict[str, object]:
        """A recipe's options of a decision."""
        return {}

    def notes(self, recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
        """Notes on how the data affect the recipe's settings."""
        return []

    def predictions(self, recipe: Recipe, ids: Strings, names: Sequence[str], values: Values, decided: Values) -> Predictions:
        """The predictions as they are written to files and sent by the server."""
        return Predictions(ids, tuple(names), values, decided, recipe.output.submission)

    @abstractmethod
    def row_model(self, names: Sequence[str]) -> type[BaseModel]:
        """Documents what the server answers for a sample."""

    def explained(self, values: Values) -> Ints:
        """The column of each prediction that is explained, (N,)."""
        columns: Ints = values.argmax(axis=1).astype(np.int64)
        return columns

    def scale_of(self, predictions: Values) -> Values:
        """What differences of an exported file are measured by, (P,)."""
        return np.ones(predictions.shape[1])

    def describe(self, dataset: Dataset) -> list[str]:
        """Lines on the truth of a dataset."""
        return []

    # reports

    worst_words: str  # of the hardest samples
    unsure_words: str  # of the most uncertain ones
    explained_words: str  # what saliency maps are evidence for

    @abstractmethod
    def sections(self, held: HeldOut, info: RunInfo, dataset: Dataset | None, note: str) -> list[Chapter]:
        """The chapters on errors and calibration. dataset: None if the samples are gone; note: a sentence on repeated folds."""

    @abstractmethod
    def member_table(self, held: HeldOut, recipe: Recipe, scores: Scores) -> Table:
        """The members beside the ensemble."""

    @abstractmethod
    def worst(self, predictions: Values, truth: Truth, count: int) -> Ints:
        """The rows that are predicted worst."""

    @abstractmethod
    def least_certain(self, predictions: Values, count: int) -> Ints:
        """The rows whose prediction is most uncertain."""

    @abstractmethod
    def typical(self, predictions: Values, truth: Truth, count: int) -> Ints:
        """Rows that are predicted well, of different kinds."""

    @abstractmethod
    def titles(self, names: Sequence[str], predictions: Values, truth: Truth) -> list[str]:
        """For each row, its prediction and whether it is right, in words."""

    def rare(self, dataset: Dataset, train: Ints) -> list[Block]:
        """Warnings on outputs with few training samples."""
        return []

    @abstractmethod
    def truth_chapters(self, dataset: Dataset) -> list[Chapter]:
        """The chapters on the truth in an overview of data."""

    # shared

    def classes_of(self, names: Sequence[str]) -> list[str]:
        """The classes that a simulator is asked for, from the names of the outputs."""
        return list(names)


def target_of(recipe: Recipe) -> Target:
    """The target of a recipe's task; UserError for a task that is not on labelled samples."""
    task = task_of(recipe)
    if task.series:
        raise UserError(f"task: '{recipe.kind}' is not on labelled samples")
    return cast(Target, task)


def losses_of(recipe: Recipe) -> list[LossChoice]:
    """The losses of the stages that a net is trained in."""
    return [LossChoice(s.loss, s.options, f"stage.{i}") for i, s in enumerate(recipe.stage) if s.epochs]


def check_unused(recipe: Recipe, section: str, keys: Sequence[str], why: str) -> None:
    """Raise UserError if keys of a section that do not apply to the task are set."""
    changed = recipe.changed(section, keys)
    if changed:
        raise UserError(f"{changed[0]}: {why}; remove it")


def check_once(names: Sequence[str], place: str) -> None:
    """Raise UserError if a list names something twice, in whatever case."""
    lower = [name.lower() for name in names]
    twice = [name for name, word in zip(names, lower, strict=True) if lower.count(word) > 1]
    if twice:
        raise UserError(f"{place}: names '{twice[0]}' twice; name each once")
