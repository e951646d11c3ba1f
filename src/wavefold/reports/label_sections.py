"""Report sections of multi-label recipes: each label's scores and threshold, calibration, and how often labels occur."""

from __future__ import annotations

import numpy as np

from wavefold.core.records import RunInfo, Scores
from wavefold.data.dataset import Dataset
from wavefold.evaluation.multilabel_metrics import MULTILABEL_METRICS
from wavefold.evaluation.reliability import reliability_bins
from wavefold.plots.charts import class_bars, reliability_diagram
from wavefold.recipe import Recipe
from wavefold.reports.chapters import measured_words, metric_words, number
from wavefold.reports.held_out import HeldOut
from wavefold.reports.page import Block, Chapter, Table, Words


def label_chapters(held: HeldOut, info: RunInfo, note: str) -> list[Chapter]:
    """Scores of each label, and the calibration of all probabilities. note: a sentence on repeated folds."""
    decided = held.probabilities > 0.5 if held.decided is None else held.decided > 0.5
    rows = []
    for k, name in enumerate(info.classes):
        truth, own = held.labels[:, [k]].astype(np.float64), held.probabilities[:, [k]]
        hit = decided[:, k] & (truth[:, 0] == 1)
        precision, recall = hit.sum() / max(1, decided[:, k].sum()), hit.sum() / max(1.0, truth.sum())
        area, mean_precision = (MULTILABEL_METRICS[m].function(own, truth) for m in ("auc", "average-precision"))
        f1 = MULTILABEL_METRICS["macro-f1"].function(decided[:, [k]].astype(np.float64), truth)
        cells = [area, mean_precision, float(precision), float(recall), f1]
        rows.append([name, int(truth.sum()), int(decided[:, k].sum()), *(number(v) for v in cells)])
    head = ["label", "samples with it", "decided", "AUC", "average precision", "precision", "recall", "F1"]
    lead = f"Each label on its own; decisions use thresholds chosen on samples that were not tested.{note}"
    return [Chapter("Scores of each label", [Table(head, rows)], lead), _calibration(held)]


def _calibration(held: HeldOut) -> Chapter:
    """Reliability of every probability of every label."""
    odds = held.probabilities.ravel()
    bins = reliability_bins(np.stack([1 - odds, odds], axis=1), held.labels.ravel().astype(np.int64))
    drawn = reliability_diagram(bins.confidence, bins.share_right, bins.low, bins.high, bins.count)
    lead = "Confidence that a label is there, or is not, against how often that is right, over all labels."
    return Chapter("Calibration", [drawn], lead)


def label_members(held: HeldOut, recipe: Recipe, scores: Scores) -> Table:
    """The recipe's metric of each member, and its mean distance from the ensemble."""
    apart = [float(np.abs(own - held.probabilities).mean()) for own in held.members]
    rows = [
        [row.name, measured_words(row.measure(scores.metric)), f"{far:.3f}"]
        for row, far in zip(scores.members, apart, strict=True)
    ]
    return Table(["member", metric_words(scores), "mean distance from the ensemble's probabilities"], rows)


def label_balance(dataset: Dataset) -> list[Chapter]:
    """How many samples have each label, and how many labels samples have."""
    if dataset.targets is None:
        return [Chapter("Labels", [Words("The source has no labels: it can be used for prediction but not for training.")])]
    counts, each = dataset.targets.sum(axis=0).astype(int), np.bincount(dataset.targets.sum(axis=1).astype(int))
    rows = [[name, n, f"{n / len(dataset):.2%}"] for name, n in zip(dataset.target_names, counts.tolist(), strict=True)]
    blocks: list[Block] = [
        class_bars(dataset.target_names, {"samples": counts.tolist()}),
        Table(["label", "samples", "share"], rows),
        Table(["labels a sample has", "samples"], [[k, n] for k, n in enumerate(each.tolist())]),
    ]
    return [Chapter("Labels", blocks, "A sample may have several labels, or none.")]
