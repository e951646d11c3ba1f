"""Regression: each sample has one or more numbers, with gaps, and a prediction is their means and standard deviations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from wavefold.core.errors import DataError, UserError, plural
from wavefold.core.records import RunInfo, Scores
from wavefold.data.csv_text import one_named
from wavefold.data.dataset import Dataset, Ints, Strings
from wavefold.data.split import Fold
from wavefold.data.targets import with_numbers
from wavefold.ensemble.mixture import Mixture
from wavefold.recipe import Recipe
from wavefold.reports.held_out import HeldOut
from wavefold.reports.number_sections import number_histograms, number_members, residual_chapters
from wavefold.reports.page import Block, Chapter, Table, Words
from wavefold.serving.schemas import values_model
from wavefold.tasks.samples.kinds import Reals, Truth, Values
from wavefold.tasks.samples.predicted_numbers import NumberPredictions
from wavefold.tasks.samples.predictions import Predictions
from wavefold.tasks.samples.target import check_once, check_unused, losses_of
from wavefold.tasks.samples.task import SampleTask

_FEWEST = 10  # known training values of a number
_RARE = 30  # known truths, below which the report warns


class Regression(Reals, SampleTask):
    """Numbers for each sample. truth: (N, T), NaN where unknown; predictions: means and standard deviations (N, 2 T)."""

    name = "regression"
    prior_name = "mean"
    prior_words = "predicting the mean"
    words = "numbers"
    kind = "values"
    output = "values"
    difference_unit = "standard deviations"
    difference_words = "a prediction, in standard deviations"
    worst_words = "the largest errors in units of the spread of all truths"
    unsure_words = "the widest predicted spread"
    explained_words = "a higher first number"

    def check(self, recipe: Recipe) -> None:
        """One target or more, and none of the keys of classes."""
        names, units = self.names(recipe), recipe.data.target_units or []
        check_once(names, "data.targets")
        if not names:
            raise UserError("data.targets: must name the columns to predict, such as --set 'data.targets=[\"teff\"]'")
        if units and len(units) != len(names):
            raise UserError(
                f"data.target_units: {plural(len(units), 'unit')} for {plural(len(names), 'target')}; expected one each"
            )
        why = "applies only to classification; regression has data.targets"
        check_unused(recipe, "data", ("classes", "label"), why)
        check_unused(recipe, "batches", ("fractions",), why)
        check_unused(recipe, "combine", ("threshold",), why)
        check_unused(recipe, "output", ("per", "submission"), why)
        for number, stage in enumerate(recipe.stage):
            self._check_ranks(recipe, stage.best, f"stage.{number}.best")
        self._check_ranks(recipe, recipe.output.metric, "output.metric")
        self.last_loss(losses_of(recipe), len(names))

    def _check_ranks(self, recipe: Recipe, name: str, place: str) -> None:
        metric = self.metrics(self.names(recipe)).get(name)
        if metric is not None and not metric.ranks:
            raise UserError(f"{place}: '{name}' is best at 0.95, so it cannot rank predictions; choose another metric")

    def names(self, recipe: Recipe) -> tuple[str, ...]:
        """The recipe's targets."""
        return tuple(recipe.data.targets or ())

    def with_truth(self, recipe: Recipe, dataset: Dataset, info: RunInfo | None) -> Dataset:
        """Read the numbers of the targets' columns."""
        return with_numbers(dataset, info.classes if info else self.names(recipe))

    def has_truth(self, recipe: Recipe, dataset: Dataset) -> bool:
        """Whether the source has a column of every target."""
        return all(one_named(dataset.columns, name) for name in self.names(recipe))

    def classes_of(self, names: Sequence[str]) -> list[str]:
        """None: simulators know their own numbers."""
        return []

    def outputs(self, dataset: Dataset) -> tuple[str, ...]:
        """The names of the numbers."""
        return dataset.target_names

    def truth(self, dataset: Dataset) -> Truth:
        """The numbers, NaN where unknown."""
        if dataset.targets is None:
            raise DataError(f"{dataset.source}: has no numbers to predict; training and scoring need them")
        return dataset.targets

    def check_truth(self, dataset: Dataset) -> None:
        """Each target needs two different known values."""
        for name, values in zip(dataset.target_names, self.truth(dataset).T, strict=True):
            if len(np.unique(values[~np.isnan(values)])) < 2:
                raise DataError(
                    f"{dataset.source}: {name} has no two different values, so there is nothing to learn; leave it out of "
                    "data.targets"
                )

    def check_folds(self, dataset: Dataset, folds: Sequence[Fold]) -> None:
        """Each target needs ten known values in every training part."""
        for fold in folds:
            known = (~np.isnan(self.truth(dataset)[fold.train])).sum(axis=0).tolist()
            for name, count in zip(dataset.target_names, known, strict=True):
                if count < _FEWEST:
                    raise DataError(
                        f"{dataset.source}: {name} has {plural(count, 'known value')} in the training part, regression needs "
                        f"{_FEWEST}; add samples, or leave it out of data.targets"
                    )

    def example(self, count: int) -> Truth:
        """Two samples."""
        return np.array([[0.0] * count, [1.0] * count], np.float32)

    def strata_names(self, dataset: Dataset) -> tuple[str, ...]:
        """None: the strata are tenths."""
        return ()

    def prior(self, truth: Truth, count: int) -> Values:
        """Mean and standard deviation of the training part."""
        known = self.scaling(truth)
        return np.concatenate([known["mean"], known["deviation"]])

    def average(self, folds: Sequence[Values]) -> Values:
        """The mixture of what the folds predict."""
        return Mixture().probabilities(np.stack(folds))

    def shown(self, metric: str, names: Sequence[str]) -> list[str]:
        """The recipe's metric; for one number all metrics, for several RMSE of each, then the rest."""
        every = list(self.metrics(names))
        first = [metric, *(name for name in every if name.startswith("rmse-"))]
        return list(dict.fromkeys([*first, *every]))

    def notes(self, recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
        """How many truths are unknown."""
        gaps = np.isnan(self.truth(dataset)).sum(axis=0).tolist()
        few = [f"{name} {n:,}" for name, n in zip(dataset.target_names, gaps, strict=True) if n]
        return [f"unknown values, left out of training and scores of their target: {', '.join(few)}"] if few else []

    def predictions(self, recipe: Recipe, ids: Strings, names: Sequence[str], values: Values, decided: Values) -> Predictions:
        """Numbers with their standard deviations."""
        return NumberPredictions(ids, tuple(names), values, values)

    def scale_of(self, predictions: Values) -> Values:
        """The standard deviation of the predictions, or what they are expected to be off by if that is more, by column."""
        means, spreads = np.split(predictions, 2, axis=1)
        size = np.maximum(means.std(axis=0), spreads.mean(axis=0))
        return np.tile(np.where(size > 0, size, 1.0), 2)

    def explained(self, values: Values) -> Ints:
        """The first number."""
        return np.zeros(len(values), np.int64)

    def describe(self, dataset: Dataset) -> list[str]:
        """Range and gaps of each target."""
        parts = []
        for name, values in zip(dataset.target_names, self.truth(dataset).T, strict=True):
            gaps = int(np.isnan(values).sum())
            parts.append(f"{name} {np.nanmin(values):g} to {np.nanmax(values):g}{f' ({gaps:,} unknown)' if gaps else ''}")
        return [f"targets: {', '.join(parts)}"]

    def row_model(self, names: Sequence[str]) -> type[BaseModel]:
        """What the server answers for a sample."""
        return values_model(names)

    def sections(self, held: HeldOut, info: RunInfo, dataset: Dataset | None, note: str) -> list[Chapter]:
        """Residuals against truth and signal to noise, and coverage of the spread."""
        return residual_chapters(held, info, dataset, note)

    def member_table(self, held: HeldOut, recipe: Recipe, scores: Scores) -> Table:
        """The members beside the ensemble."""
        return number_members(held, recipe, scores)

    def worst(self, predictions: Values, truth: Truth, count: int) -> Ints:
        """The rows with the largest error of any target, in units of the truths' spread."""
        return np.argsort(-self._error(predictions, truth), kind="stable")[:count].astype(np.int64)

    def least_certain(self, predictions: Values, count: int) -> Ints:
        """The rows with the widest spread of any target, in units of the predictions' own."""
        spread = predictions[:, predictions.shape[1] // 2 :] / self.scale_of(predictions)[: predictions.shape[1] // 2]
        return np.argsort(-spread.max(axis=1), kind="stable")[:count].astype(np.int64)

    def typical(self, predictions: Values, truth: Truth, count: int) -> Ints:
        """Rows with small errors, evenly spread over the first target."""
        near = np.argsort(self._error(predictions, truth), kind="stable")[: max(count, len(truth) // 4)]
        ordered = near[np.argsort(predictions[near, 0], kind="stable")]
        return ordered[np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(np.int64))]

    def _error(self, predictions: Values, truth: Truth) -> Values:
        deviation = np.where(np.nanstd(truth, axis=0) > 0, np.nanstd(truth, axis=0), 1.0)
        off = np.abs(predictions[:, : truth.shape[1]] - truth) / deviation
        error: Values = np.where(np.isnan(off), 0.0, off).max(axis=1)
        return error

    def titles(self, names: Sequence[str], predictions: Values, truth: Truth) -> list[str]:
        """Each number with its spread, and the true one."""
        titles = []
        for row, true in zip(predictions, truth, strict=True):
            means, spreads = np.split(row, 2)
            each = zip(names, means, spreads, true, strict=True)
            titles.append(", ".join(f"{n} {m:.4g} ± {s:.2g} ({'?' if np.isnan(t) else f'{t:.4g}'})" for n, m, s, t in each))
        return titles

    def rare(self, dataset: Dataset, train: Ints) -> list[Block]:
        """A warning on targets with few known values."""
        known = (~np.isnan(self.truth(dataset)[train])).sum(axis=0).tolist()
        few = [f"{name} ({n})" for name, n in zip(dataset.target_names, known, strict=True) if n < _RARE]
        return [Words(f"Fewer than {_RARE} known training values of {', '.join(few)}.", "warning")] if few else []

    def truth_chapters(self, dataset: Dataset) -> list[Chapter]:
        """A histogram of each target."""
        return number_histograms(dataset)


TASK = Regression()
