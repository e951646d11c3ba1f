"""Classification: each sample has one class, and a prediction is the probability of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import BaseModel

from wavefold.core.errors import DataError, UserError, listed, plural
from wavefold.core.records import RunInfo, Scores
from wavefold.data.dataset import Dataset, Ints
from wavefold.data.split import Fold
from wavefold.evaluation.metrics import f1_by_class
from wavefold.evaluation.reliability import least_certain, worst
from wavefold.models import MODELS
from wavefold.recipe import Recipe
from wavefold.reports.chapters import some_of
from wavefold.reports.class_sections import agreement, calibration, class_balance, errors_by_class
from wavefold.reports.held_out import HeldOut
from wavefold.reports.page import Block, Chapter, Table, Words
from wavefold.serving.schemas import prediction_model
from wavefold.tasks.samples.kinds import Classes, Truth, Values
from wavefold.tasks.samples.target import check_unused
from wavefold.tasks.samples.task import SampleTask
from wavefold.training.sampler import Batches, ByClass, EachOnce, class_fractions, names_other_classes
from wavefold.transforms import MIXERS

_FEW = 3  # samples of a class in a validation part, below which a note is added
_RARE = 30  # training samples of a class, below which the report warns
_SHOWN = ("accuracy", "macro-f1", "l1")  # metrics with an interval, beside the recipe's


class Classification(Classes, SampleTask):
    """One class for each sample. truth: class numbers (N,); predictions: probabilities (N, class)."""

    name = "classification"
    prior_name = "majority"
    prior_words = "predicting the majority class"
    words = "classes"
    kind = "classes"

    def check(self, recipe: Recipe) -> None:
        """Two classes at least; no key of other targets."""
        if len(recipe.data.classes) < 2:
            raise UserError(
                f"{recipe.name}: data.classes: must name two or more classes; a forecasting recipe has a [windows] section "
                "instead"
            )
        check_unused(recipe, "data", ("targets", "target_units"), "applies only to regression and multi-label recipes")

    def names(self, recipe: Recipe) -> tuple[str, ...]:
        """The recipe's classes."""
        return tuple(recipe.data.classes)

    def with_truth(self, recipe: Recipe, dataset: Dataset, info: RunInfo | None) -> Dataset:
        """Order two classes as in the recipe if it names the same ones: the last one is the positive class."""
        classes = tuple(recipe.data.classes)
        if info is not None or len(classes) != 2 or dataset.labels is None or dataset.classes != classes[::-1]:
            return dataset
        return replace(dataset, classes=classes, labels=1 - dataset.known_labels())

    def has_truth(self, recipe: Recipe, dataset: Dataset) -> bool:
        """Whether the source has labels."""
        return dataset.labels is not None

    def outputs(self, dataset: Dataset) -> tuple[str, ...]:
        """The classes."""
        return dataset.classes

    def truth(self, dataset: Dataset) -> Ints:
        """The class numbers."""
        return dataset.known_labels()

    def check_truth(self, dataset: Dataset) -> None:
        """Two classes must occur."""
        labels = dataset.known_labels()
        if len(np.unique(labels)) < 2:
            raise DataError(
                f"{dataset.source}: all samples are of class '{dataset.classes[labels[0]]}'; "
                "training needs at least two classes"
            )

    def check_folds(self, dataset: Dataset, folds: Sequence[Fold]) -> None:
        """Nothing further: splits keep every class in the training part where they can."""

    def example(self, count: int) -> Ints:
        """One sample of each class."""
        return np.arange(count)

    def batches(self, recipe: Recipe, truth: Truth, names: Sequence[str]) -> Batches:
        """Every sample once an epoch, or each class in fixed fractions."""
        batches = recipe.batches
        if batches.fractions == "each":
            return EachOnce(len(truth), batches.size, batches.steps)
        labels = np.asarray(truth, np.int64)
        return ByClass(labels, class_fractions(batches.fractions, labels, names), batches.size, batches.steps)

    def prior(self, truth: Truth, count: int) -> Values:
        """The shares of the classes."""
        shares: Values = np.bincount(truth, minlength=count) / len(truth)
        return shares

    def shown(self, metric: str, names: Sequence[str]) -> list[str]:
        """The recipe's metric, accuracy, macro-F1 and L1."""
        return list(dict.fromkeys([metric, *_SHOWN]))

    def details(self, predictions: Values, decided: Values, truth: Truth) -> dict[str, object]:
        """F1 by class."""
        return {"f1-by-class": f1_by_class(predictions, truth)}

    def options(self, recipe: Recipe, decide: str) -> dict[str, object]:
        """The threshold, for decisions that have one."""
        return {"threshold": recipe.combine.threshold} if decide == "thresholds" else {}

    def notes(self, recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
        """Fractions of other classes, few samples to choose weights by, and which of two classes is the positive one."""
        notes, nets = [], any(m.model in MODELS for m in recipe.member)
        if nets and names_other_classes(recipe.batches.fractions, dataset.classes):
            names = listed(recipe.batches.fractions)
            notes.append(
                f"batches.fractions lists {names}, but the data have no such class: batches follow the class shares of the data"
            )
        few = _few_to_choose_by(dataset, folds) if nets else []
        return notes + few + _alike(dataset.classes) + _last_class(recipe, dataset.classes)

    def describe(self, dataset: Dataset) -> list[str]:
        """The classes with their shares."""
        counts = np.bincount(dataset.known_labels(), minlength=len(dataset.classes))
        shares = (f"{c} {n:,} ({n / len(dataset):.1%})" for c, n in zip(dataset.classes, counts, strict=True))
        return [f"classes: {', '.join(shares)}"]

    worst_words = "the lowest predicted probability of the true class"
    unsure_words = "nearly tied class probabilities"
    explained_words = "the predicted class"

    def row_model(self, names: Sequence[str]) -> type[BaseModel]:
        """What the server answers for a sample."""
        return prediction_model(names)

    def sections(self, held: HeldOut, info: RunInfo, dataset: Dataset | None, note: str) -> list[Chapter]:
        """Confusion matrix and calibration."""
        return [errors_by_class(held, info.classes, note), calibration(held)]

    def member_table(self, held: HeldOut, recipe: Recipe, scores: Scores) -> Table:
        """How often each member agrees with the ensemble, and which is right where they differ."""
        return agreement(held, recipe, scores)

    def typical(self, predictions: Values, truth: Truth, count: int) -> Ints:
        """The most confident correct row of each class, up to a limit."""
        found, right = [], predictions.argmax(axis=1) == truth
        for number in np.unique(truth)[:count]:
            rows = np.flatnonzero(right & (truth == number))
            if len(rows):
                found.append(rows[np.argmax(predictions[rows, number])])
        return np.array(found, np.int64)

    def titles(self, names: Sequence[str], predictions: Values, truth: Truth) -> list[str]:
        """The predicted class with its probability, and the true class where it is another."""
        best = predictions.argmax(axis=1)
        rows = zip(best.tolist(), predictions.max(axis=1).tolist(), truth.tolist(), strict=True)
        return [f"{names[b]} {sure:.0%}, {'correct' if b == true else f'true class {names[true]}'}" for b, sure, true in rows]

    def rare(self, dataset: Dataset, train: Ints) -> list[Block]:
        """A warning on classes with fewer than 30 training samples."""
        counts = np.bincount(dataset.known_labels()[train], minlength=len(dataset.classes))
        few = [f"{name} ({n})" for name, n in zip(dataset.classes, counts.tolist(), strict=True) if n < _RARE]
        return [Words(f"Fewer than {_RARE} training samples of {some_of(few, 8)}.", "warning")] if few else []

    def truth_chapters(self, dataset: Dataset) -> list[Chapter]:
        """The balance of the classes."""
        return class_balance(dataset)

    def worst(self, predictions: Values, truth: Truth, count: int) -> Ints:
        """The rows whose own class got the lowest probability."""
        return worst(predictions, truth, count)

    def least_certain(self, predictions: Values, count: int) -> Ints:
        """The rows whose highest probabilities are nearly tied."""
        return least_certain(predictions, count)


def _few_to_choose_by(dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
    """A note if a validation part has so few samples of a class that choosing weights by it is unreliable."""
    labels, classes = dataset.known_labels(), dataset.classes
    counts = [np.bincount(labels[f.validation], minlength=len(classes)) for f in folds if len(f.validation)]
    least = np.min(counts, axis=0) if counts else np.full(len(classes), _FEW)
    least[np.bincount(labels, minlength=len(classes)) == 0] = _FEW  # nothing can be done about a class that is not there
    if least.min() >= _FEW:
        return []
    rarest = int(least.argmin())
    return [
        f"the validation part has only {plural(int(least[rarest]), 'sample')} of class '{classes[rarest]}': "
        "the choice of the best weights is unreliable; raise split.validation or add samples"
    ]


def _alike(classes: Sequence[str]) -> list[str]:
    """A note on classes that differ only in case and blanks."""
    folded: dict[str, list[str]] = {}
    for name in classes:
        folded.setdefault("".join(name.casefold().split()), []).append(name)
    pairs = [" and ".join(f"'{name}'" for name in names) for names in folded.values() if len(names) > 1]
    if not pairs:
        return []
    return [f"classes {listed(pairs)} differ only in case or blanks; if they are one class, spell it one way in the file"]


def _last_class(recipe: Recipe, classes: Sequence[str]) -> list[str]:
    """A note on which of two classes is the positive one, if that matters and the recipe does not name them."""
    matters = recipe.output.submission == "target" or any(step.step in MIXERS for step in recipe.prepare)
    if not matters or len(classes) != 2 or set(classes) == set(recipe.data.classes):
        return []
    first, last = classes
    return [
        f"class '{last}' is taken as the positive class; if it is '{first}', add --set 'data.classes=[\"{last}\",\"{first}\"]'"
    ]


TASK = Classification()
