"""Report sections of classification: confusion matrix, calibration, and how members and ensemble agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wavefold.core.records import Scores
from wavefold.data.dataset import Dataset, Ints
from wavefold.evaluation.reliability import by_class, confusion_counts, reliability_bins
from wavefold.plots.charts import class_bars, confusion, reliability_diagram
from wavefold.recipe import Recipe
from wavefold.reports.chapters import metric_words, number, some_of
from wavefold.reports.held_out import HeldOut
from wavefold.reports.page import Block, Chapter, Table, Words

_MATRIX = 40  # most classes in a confusion matrix


def errors_by_class(held: HeldOut, classes: Sequence[str], note: str) -> Chapter:
    """Confusion matrix, precision, recall and F1. note: a sentence on repeated folds."""
    matrix = confusion_counts(held.labels, held.probabilities.argmax(axis=1), len(classes))
    found = by_class(matrix)
    columns = zip(classes, found.precision, found.recall, found.f1, found.support.tolist(), strict=True)
    rows = [[name, *(number(v) for v in values), n] for name, *values, n in columns]
    drawn: list[Block] = [confusion(matrix, classes)] if len(classes) <= _MATRIX else []
    table = Table(["class", "precision", "recall", "F1", "samples"], rows)
    lead = "Rows are true classes, columns predicted classes."
    return Chapter("Confusion matrix", [*drawn, table], lead + note)


def calibration(held: HeldOut) -> Chapter:
    """Reliability diagram."""
    bins = reliability_bins(held.probabilities, held.labels)
    drawn = reliability_diagram(bins.confidence, bins.share_right, bins.low, bins.high, bins.count)
    lead = (
        "Confidence against accuracy; dots of a calibrated ensemble lie on the diagonal, where 80 % of the predictions with "
        "80 % confidence are correct. Bars are 95 % intervals that assume independent samples."
    )
    return Chapter("Calibration", [drawn], lead)


def agreement(held: HeldOut, recipe: Recipe, scores: Scores) -> Table:
    """Compare each member with the ensemble: how often they agree, and which is correct where they differ."""
    predicted = held.probabilities.argmax(axis=1)
    right = predicted == held.labels
    rows = []
    for n, member in enumerate(recipe.member):
        own = held.members[n].argmax(axis=1)
        mends, spoils = (own == held.labels) & ~right, (own != held.labels) & right
        value = scores.members[n].value(scores.metric)
        rows.append(
            [f"{n} {member.model}", number(value), f"{(own == predicted).mean():.1%}", int(mends.sum()), int(spoils.sum())]
        )
    head = ["member", metric_words(scores), "agreement with the ensemble", "only member correct", "only ensemble correct"]
    return Table(head, rows)


def class_balance(dataset: Dataset) -> list[Chapter]:
    """Samples and groups of each class."""
    if dataset.labels is None:
        return [
            Chapter("Class balance", [Words("The source has no labels: it can be used for prediction but not for training.")])
        ]
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    rows = [
        [name, int(n), f"{n / len(dataset):.2%}", *_groups_of(dataset, k)]
        for k, (name, n) in enumerate(_pairs(dataset, counts))
    ]
    by_group = [] if dataset.groups is None else ["groups"]
    blocks: list[Block] = [
        class_bars(dataset.classes, {"samples": counts.tolist()}),
        Table(["class", "samples", "share", *by_group], rows),
    ]
    rare = [name for name, n in _pairs(dataset, counts) if 0 < n < _FEW]
    if rare:
        words = f"Fewer than {_FEW} samples: {some_of(rare, 8)}. Scores of these classes are unreliable."
        blocks.append(Words(words, "warning"))
    return [
        Chapter(
            "Class balance", blocks, "Samples per class. Rare classes need balancing, or a metric that weights classes equally."
        )
    ]


_FEW = 30


def _pairs(dataset: Dataset, counts: Ints) -> list[tuple[str, int]]:
    return list(zip(dataset.classes, counts.tolist(), strict=True))


def _groups_of(dataset: Dataset, number: int) -> list[int]:
    """Number of groups with samples of a class."""
    if dataset.groups is None or dataset.labels is None:
        return []
    return [len(set(dataset.groups[dataset.labels == number].tolist()))]
