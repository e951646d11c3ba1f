"""Multi-label: each label is in a sample or not, and a prediction is the probability of each label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from wavefold.core.errors import DataError, UserError
from wavefold.core.records import RunInfo, Scores
from wavefold.data.csv_text import one_named
from wavefold.data.dataset import Dataset, Floats, Ints, Strings
from wavefold.data.split import Fold
from wavefold.data.targets import check_occurring, with_flags, with_labels
from wavefold.recipe import Recipe
from wavefold.reports.held_out import HeldOut
from wavefold.reports.label_sections import label_balance, label_chapters, label_members
from wavefold.reports.page import Block, Chapter, Table, Words
from wavefold.serving.schemas import labels_model
from wavefold.tasks.samples.kinds import Labels, Truth, Values
from wavefold.tasks.samples.predictions import Predictions, csv_of_columns
from wavefold.tasks.samples.target import check_once, check_unused
from wavefold.tasks.samples.task import SampleTask

_RARE = 30  # training samples with a label, below which the report warns


@dataclass(frozen=True)
class LabelPredictions(Predictions):
    """Predicted labels: probabilities and decisions (sample, label)."""

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return id, label_<name> (0 or 1), probability_<name>, and predicted: the decided labels, joined by ;."""
        names = np.array(self.classes, object)
        joined = np.array([";".join(names[row > 0.5]) for row in self.decided], np.str_)
        labels = {f"label_{name}": self.decided[:, i] for i, name in enumerate(self.classes)}
        odds = {f"probability_{name}": self.probabilities[:, i] for i, name in enumerate(self.classes)}
        return {"id": self.ids, **labels, **odds, "predicted": joined}

    def csv_rows(self) -> Iterator[Sequence[object]]:
        """Every column under a header."""
        return csv_of_columns(self)

    def messages(self) -> list[dict[str, object]]:
        """For each sample id, the decided labels, probabilities and decisions by label."""
        odds, decided = (self.by_name(values) for values in (self.probabilities, self.decided))
        named = [[name for name, value in row.items() if value > 0.5] for row in decided]
        rows = zip(self.ids.tolist(), named, odds, decided, strict=True)
        return [{"id": i, "labels": n, "probabilities": p, "decided": d} for i, n, p, d in rows]


class MultiLabel(Labels, SampleTask):
    """Any number of labels for each sample. truth: 0 and 1 (N, label); predictions: probabilities (N, label)."""

    name = "multilabel"
    prior_name = "label shares"
    prior_words = "predicting the share of each label"
    words = "labels"
    kind = "labels"
    worst_words = "the probabilities farthest from the truth"
    unsure_words = "a label nearest to even odds"
    explained_words = "the most probable label"

    def check(self, recipe: Recipe) -> None:
        """A column of labels, or columns of 0 and 1."""
        if not recipe.data.label and not recipe.data.targets:
            raise UserError(
                "data.label: must name the column that lists each sample's labels; or data.targets the columns of 0 and 1"
            )
        check_once(self.names(recipe), "data.classes")
        if len(self.names(recipe)) < 1:
            raise UserError("data.classes: must name the labels to learn")
        why = "does not apply to multi-label recipes"
        check_unused(recipe, "data", ("target_units",), why)
        check_unused(recipe, "batches", ("fractions",), why)
        check_unused(recipe, "combine", ("threshold",), "thresholds of labels are learned")
        check_unused(recipe, "output", ("per", "submission"), why)

    def names(self, recipe: Recipe) -> tuple[str, ...]:
        """The recipe's labels."""
        return tuple(recipe.data.targets or recipe.data.classes)

    def with_truth(self, recipe: Recipe, dataset: Dataset, info: RunInfo | None) -> Dataset:
        """Read the labels from one column that lists them, or from a column of 0 and 1 for each."""
        names = info.classes if info else self.names(recipe)
        if recipe.data.targets:
            return with_flags(dataset, names)
        return with_labels(dataset, recipe.data.label, names, complete=info is None)

    def has_truth(self, recipe: Recipe, dataset: Dataset) -> bool:
        """Whether the source has the columns."""
        wanted = recipe.data.targets or [recipe.data.label]
        return all(one_named(dataset.columns, name) for name in wanted)

    def outputs(self, dataset: Dataset) -> tuple[str, ...]:
        """The labels."""
        return dataset.target_names

    def truth(self, dataset: Dataset) -> Floats:
        """0 and 1 for each label."""
        if dataset.targets is None:
            raise DataError(f"{dataset.source}: has no labels; training and scoring need them")
        return dataset.targets

    def check_truth(self, dataset: Dataset) -> None:
        """Each label must be in some samples and not in all."""
        check_occurring(dataset, self.truth(dataset), dataset.target_names)

    def check_folds(self, dataset: Dataset, folds: Sequence[Fold]) -> None:
        """Each label must be in some samples of every training part."""
        for fold in folds:
            counts = self.truth(dataset)[fold.train].sum(axis=0).tolist()
            for name, count in zip(dataset.target_names, counts, strict=True):
                if not count:
                    raise DataError(
                        f"{dataset.source}: label '{name}' is in no sample of the training part; add samples, or leave it out"
                    )

    def example(self, count: int) -> Truth:
        """Two samples, one with every label."""
        return np.array([[0.0] * count, [1.0] * count], np.float32)

    def prior(self, truth: Truth, count: int) -> Values:
        """The share of samples with each label."""
        shares: Values = truth.mean(axis=0, dtype=np.float64)
        return shares

    def decided_prior(self, prior: Values) -> Values:
        """Every label in every sample: of all constant decisions the one with the best F1."""
        return np.ones_like(prior)

    def shown(self, metric: str, names: Sequence[str]) -> list[str]:
        """The recipe's metric, AUC, macro-F1 and average precision."""
        return list(dict.fromkeys([metric, "auc", "macro-f1", "average-precision"]))

    def predictions(self, recipe: Recipe, ids: Strings, names: Sequence[str], values: Values, decided: Values) -> Predictions:
        """Labels with their probabilities."""
        return LabelPredictions(ids, tuple(names), values, decided)

    def describe(self, dataset: Dataset) -> list[str]:
        """Samples with each label."""
        counts = self.truth(dataset).sum(axis=0).astype(int).tolist()
        each = (f"{name} {n:,} ({n / len(dataset):.1%})" for name, n in zip(dataset.target_names, counts, strict=True))
        return [f"labels: {', '.join(each)}"]

    def row_model(self, names: Sequence[str]) -> type[BaseModel]:
        """What the server answers for a sample."""
        return labels_model(names)

    def sections(self, held: HeldOut, info: RunInfo, dataset: Dataset | None, note: str) -> list[Chapter]:
        """Scores and calibration of each label."""
        return label_chapters(held, info, note)

    def member_table(self, held: HeldOut, recipe: Recipe, scores: Scores) -> Table:
        """The members beside the ensemble."""
        return label_members(held, recipe, scores)

    def worst(self, predictions: Values, truth: Truth, count: int) -> Ints:
        """The rows with the probability farthest from its truth."""
        return np.argsort(-np.abs(predictions - truth).max(axis=1), kind="stable")[:count].astype(np.int64)

    def least_certain(self, predictions: Values, count: int) -> Ints:
        """The rows with a label nearest to even odds."""
        return np.argsort(np.abs(predictions - 0.5).min(axis=1), kind="stable")[:count].astype(np.int64)

    def typical(self, predictions: Values, truth: Truth, count: int) -> Ints:
        """For each label the row that has it and is predicted best, up to a limit."""
        off, found = np.abs(predictions - truth).max(axis=1), []
        for label in range(min(count, truth.shape[1])):
            rows = np.flatnonzero(truth[:, label] == 1)
            if len(rows):
                found.append(rows[np.argmin(off[rows])])
        return np.array(found, np.int64)

    def titles(self, names: Sequence[str], predictions: Values, truth: Truth) -> list[str]:
        """The likeliest labels, and the true ones."""
        titles = []
        for row, true in zip(predictions, truth, strict=True):
            said = ", ".join(f"{names[k]} {row[k]:.0%}" for k in np.argsort(-row)[:3].tolist())
            titles.append(f"{said}; true: {', '.join(np.array(names, object)[true == 1]) or 'none'}")
        return titles

    def rare(self, dataset: Dataset, train: Ints) -> list[Block]:
        """A warning on labels with few training samples."""
        counts = self.truth(dataset)[train].sum(axis=0).astype(int).tolist()
        few = [f"{name} ({n})" for name, n in zip(dataset.target_names, counts, strict=True) if n < _RARE]
        return [Words(f"Fewer than {_RARE} training samples with {', '.join(few)}.", "warning")] if few else []

    def truth_chapters(self, dataset: Dataset) -> list[Chapter]:
        """How many samples have each label."""
        return label_balance(dataset)


TASK = MultiLabel()
