"""Evaluation: combine members, score the ensemble, the alternatives and the baselines, and collect notes on the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, listed
from wavefold.core.files import write_arrays
from wavefold.data.dataset import Dataset, Strings
from wavefold.data.split import Fold
from wavefold.ensemble import CALIBRATIONS, COMBINERS, DECISIONS, Ensemble, OutOfFold, cross_fit
from wavefold.evaluation.metrics import METRICS, f1_by_class, interval
from wavefold.models import MODELS
from wavefold.recipe import Recipe
from wavefold.tasks.samples.context import Context
from wavefold.tasks.samples.predictions import Predictions
from wavefold.training.sampler import names_other_classes
from wavefold.transforms import MIXERS

Values = NDArray[np.float64]


def evaluate(context: Context) -> tuple[dict[str, Any], Predictions]:
    """Score the ensemble, the alternatives, each member and the baselines on the test parts; save the ensemble.

    Returns the contents of scores.json and the ensemble's predictions for the test parts.
    """
    recipe, dataset, combine = context.recipe, context.dataset, context.recipe.combine
    evaluator = _Evaluator(recipe, dataset, _tested(context), _out_of_fold(context))
    members = range(len(recipe.member))
    _fit_ensemble(recipe, evaluator.learned).save(context.run.folder / "ensemble.npz")
    probabilities = evaluator.predict(members, combine.by, combine.calibrate)
    _keep_held_out(context, evaluator.tested, probabilities)
    choices, notes = evaluator.compare(members)
    results: dict[str, Any] = {
        "metric": recipe.output.metric,
        "per": recipe.output.per,
        "n": len(np.unique(evaluator.tested.rows)),
        "rows": len(evaluator.tested.rows),  # more than n if folds are repeated
        "learned_from": round(float(np.mean([len(f.train) for f in context.folds]))),
        "score": evaluator.row(probabilities, combine.decide),
        "choices": choices,
        "members": [{"name": f"{n} {m.model}", **evaluator.alone(n)} for n, m in enumerate(recipe.member)],
        "baselines": _baselines(context, evaluator),
        "notes": _notes(context) + notes,
    }
    if len(context.folds) > 1:
        results["folds"] = evaluator.by_fold(probabilities, combine.decide)
    results["notes"] += _no_better(results)
    return results, predictions_of(recipe, dataset.ids[evaluator.tested.rows], dataset.classes, probabilities)


def _keep_held_out(context: Context, tested: OutOfFold, probabilities: Values) -> None:
    """Save the predictions of the ensemble and its members for the test parts, one row per sample and repeat, for reports."""
    members = tested.members[: len(context.recipe.member)]
    kept = {"rows": tested.rows, "fold": tested.fold, "labels": tested.labels, "members": members}
    ids = context.dataset.ids[tested.rows]
    write_arrays(context.run.folder / "held_out.npz", {**kept, "ids": ids, "probabilities": probabilities})


def data_notes(recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
    """Notes on how the data affect the recipe's settings."""
    notes = []
    if dataset.left_out:
        notes.append(
            f"{len(dataset.left_out):,} sample{'s' if len(dataset.left_out) != 1 else ''} could not be read and were skipped"
        )
    nets = any(m.model in MODELS for m in recipe.member)
    if nets and names_other_classes(recipe.batches.fractions, dataset.classes):
        names = listed(recipe.batches.fractions)
        notes.append(
            f"batches.fractions lists {names}, but the data have no such class: batches follow the class shares of the data"
        )
    few = _few_to_choose_by(dataset, folds) if nets else []
    return notes + few + _last_class(recipe, dataset.classes) + _straddling(recipe, dataset, folds)


def predictions_of(recipe: Recipe, ids: Strings, classes: Sequence[str], probabilities: Values) -> Predictions:
    """Predictions from probabilities (sample, class): with the recipe's decision rule and submission format."""
    decided = decided_by(recipe, recipe.combine.decide, probabilities)
    submission = recipe.output.submission
    return Predictions(ids, tuple(classes), probabilities, decided, submission)


def decided_by(recipe: Recipe, decide: str, probabilities: Values) -> Values:
    """Apply the decision rule of that name to probabilities; both (sample, class)."""
    options = {"threshold": recipe.combine.threshold} if decide == "thresholds" else {}
    decided: Values = DECISIONS[decide](probabilities, **options)
    return decided


@dataclass(frozen=True)
class _Evaluator:
    """Evaluates predictions from member scores of the test parts, with combiners fitted on held-out scores.

    The two never overlap: combiners are fitted on the validation part if there is one fold, and on the test parts of the
    other folds if there are several.
    """

    recipe: Recipe
    dataset: Dataset
    tested: OutOfFold
    learned: OutOfFold

    def predict(self, members: Sequence[int], by: str, calibrate: str) -> Values:
        """Combined and calibrated probabilities of the test parts from some members."""
        seed, options = self.recipe.seed, _combining(self.recipe, by, members)
        return cross_fit(self.tested, self.learned, members, by=by, calibrate=calibrate, seed=seed, options=options)

    def alone(self, member: int) -> dict[str, Any]:
        """Metrics of one member, with the recipe's calibration and decision rule."""
        return self.row(self.predict([member], "mean", self.recipe.combine.calibrate), self.recipe.combine.decide)

    def compare(self, members: Sequence[int]) -> tuple[list[dict[str, Any]], list[str]]:
        """Metrics of every combiner, calibration and decision rule; and notes on combinations that could not be fitted."""
        choices, notes = [], []
        for by in COMBINERS if len(members) > 1 else ["mean"]:
            try:
                requested = [(calibrate, self.predict(members, by, calibrate)) for calibrate in CALIBRATIONS]
            except DataError as error:  # too few held-out samples for an alternative that is not in the recipe
                notes.append(f"not compared: {error}")
                continue
            for (calibrate, answer), decide in product(requested, DECISIONS):
                choices.append({"by": by, "calibrate": calibrate, "decide": decide, **self.row(answer, decide)})
        return choices, notes

    def row(self, probabilities: Values, decide: str) -> dict[str, Any]:
        """Metrics of some predictions: value and 95 % interval."""
        decided, every = decided_by(self.recipe, decide, probabilities), np.ones(len(probabilities), bool)
        measured = dict.fromkeys([self.recipe.output.metric, "accuracy", "macro-f1", "l1"])
        row: dict[str, Any] = {name: self._measure(name, probabilities, decided, every) for name in measured}
        for name in ("log-loss", "ece", "auc"):
            row.setdefault(name, METRICS[name].function(probabilities, self.tested.labels))
        return {**row, "f1-by-class": f1_by_class(probabilities, self.tested.labels)}

    def by_fold(self, probabilities: Values, decide: str) -> list[dict[str, Any]]:
        """The recipe's metric in each fold's test part, with sample count n and interval."""
        metric, rows = self.recipe.output.metric, []
        decided = decided_by(self.recipe, decide, probabilities)
        for fold in np.unique(self.tested.fold):
            here = self.tested.fold == fold
            measured = self._measure(metric, probabilities, decided, here)
            rows.append({"fold": int(fold), "n": int(here.sum()), metric: measured})
        return rows

    def _measure(self, name: str, probabilities: Values, decided: Values, rows: NDArray[np.bool_]) -> list[float]:
        """A metric of some rows with its interval, resampled by group if the split keeps groups whole."""
        values, labels, output = (
            (decided if name == "l1" else probabilities)[rows],
            self.tested.labels[rows],
            self.recipe.output,
        )
        whole, scale = self._drawn_whole(), output.per / len(labels) if name == "l1" and output.per else 1.0
        ends = interval(name, values, labels, groups=None if whole is None else whole[rows], seed=self.recipe.seed)
        return [scale * v for v in (METRICS[name].function(values, labels), *ends)]

    def _drawn_whole(self) -> NDArray[Any] | None:
        rows = self.tested.rows
        if self.recipe.split.group and self.dataset.groups is not None:
            return self.dataset.groups[rows]
        return rows if len(np.unique(rows)) < len(rows) else None  # repeats of a sample are resampled together


def _combining(recipe: Recipe, by: str, members: Sequence[int]) -> dict[str, Any]:
    """Options of a combiner of some members; the mean uses their weights. The baseline's number is one past the last member."""
    if by == "mean":
        weights = [*(m.weight for m in recipe.member), 1.0]
        return {"weights": [weights[n] for n in members]}
    return recipe.combine.options if by == recipe.combine.by else {}


def _fit_ensemble(recipe: Recipe, learned: OutOfFold) -> Ensemble:
    """Fit the ensemble for new samples on all held-out samples."""
    combine, every = recipe.combine, np.ones(len(learned.rows), bool)
    members, labels = learned.take(every, range(len(recipe.member)))
    more: dict[str, Any] = {"labels": labels, "samples": learned.rows, "seed": recipe.seed}
    more["options"] = _combining(recipe, combine.by, range(len(recipe.member)))
    return Ensemble.fit(combine.by, combine.calibrate, members, **more)


def _baselines(context: Context, evaluator: _Evaluator) -> list[dict[str, Any]]:
    rows = [{"name": "majority", **evaluator.row(_majority(context), context.recipe.combine.decide)}]
    if context.recipe.output.baseline:
        rows.append({"name": context.recipe.output.baseline, **evaluator.alone(len(context.recipe.member))})
    return rows


def _tested(context: Context) -> OutOfFold:
    """Every member's scores of the test parts, with the baseline last."""
    return _gather(context, "test")


def _out_of_fold(context: Context) -> OutOfFold:
    """Samples to fit a combiner on: the validation part of a single fold, or the test parts of several folds."""
    return _gather(context, "test" if len(context.folds) > 1 else "validation")


def _gather(context: Context, part: str) -> OutOfFold:
    indexes = [getattr(fold, part) for fold in context.folds]
    rows = np.concatenate(indexes)
    fold = np.concatenate([np.full(len(index), f.number) for f, index in zip(context.folds, indexes, strict=True)])
    scores = [[_kept_scores(context.run.member(f.number, n, m.model), part) for f in context.folds] for n, m in context.members]
    return OutOfFold(rows, fold, context.dataset.known_labels()[rows], np.stack([np.concatenate(s) for s in scores]))


def _kept_scores(folder: Path, part: str) -> Values:
    with np.load(folder / "scores.npz", allow_pickle=False) as kept:
        scores: Values = kept[part]
    return scores


def _majority(context: Context) -> Values:
    """Predict, for each test sample, the class shares of its fold's training part."""
    labels, classes = context.dataset.known_labels(), len(context.dataset.classes)
    shares = [np.bincount(labels[f.train], minlength=classes) / len(f.train) for f in context.folds]
    return np.concatenate([np.tile(s, (len(f.test), 1)) for s, f in zip(shares, context.folds, strict=True)])


def _no_better(results: Mapping[str, Any]) -> list[str]:
    """A note if the ensemble is no better than always predicting the majority class."""
    metric = results["metric"]
    value, majority = results["score"][metric][0], results["baselines"][0][metric][0]
    if value > majority if METRICS[metric].higher_is_better else value < majority:
        return []
    return ["no better than predicting the majority class; try more epochs, smaller batches or more samples"]


def _notes(context: Context) -> list[str]:
    """Caveats for reading the score."""
    simulated = ["trained and tested on simulated samples: the scores may not hold for real data"]
    notes = simulated if context.run.metadata["simulated"] else []
    return notes + data_notes(context.recipe, context.dataset, context.folds)


def _few_to_choose_by(dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
    """A note if a validation part has so few samples of a class that choosing weights by it is unreliable."""
    labels, classes = dataset.known_labels(), dataset.classes
    counts = [np.bincount(labels[f.validation], minlength=len(classes)) for f in folds if len(f.validation)]
    least = np.min(counts, axis=0) if counts else np.full(len(classes), _FEW)
    if least.min() >= _FEW:
        return []
    rarest = int(least.argmin())
    return [
        f"the validation part has only {least[rarest]} sample{'s' if least[rarest] != 1 else ''} of class '{classes[rarest]}': "
        "the choice of the best weights is unreliable; raise split.validation or add samples"
    ]


_FEW = 3  # samples of a class in a validation part, below which a note is added


def _last_class(recipe: Recipe, classes: Sequence[str]) -> list[str]:
    """A note on which of two classes is the positive one, if that matters and the recipe does not name them."""
    matters = recipe.output.submission == "target" or any(step.step in MIXERS for step in recipe.prepare)
    if not matters or len(classes) != 2 or set(classes) == set(recipe.data.classes):
        return []
    first, last = classes
    return [
        f"class '{last}' is taken as the positive class; if it is '{first}', add --set 'data.classes=[\"{last}\",\"{first}\"]'"
    ]


def _straddling(recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
    groups = dataset.groups
    if groups is None or recipe.split.group:
        return []
    both = {g for f in folds for g in set(groups[f.train]) & set(groups[f.test])}
    if not both:
        return []
    return [
        f"{len(both)} of {len(set(groups))} groups by {dataset.grouping} {'are' if len(both) != 1 else 'is'} in both the "
        "training and the test part, so the score does not measure generalization to new groups; to measure it, add "
        f"--set split.group={dataset.grouping}"
    ]
