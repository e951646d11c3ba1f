"""Members to one answer and its scores, beside every other choice and the baselines; and what to know beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefold.base.dataset import Dataset, Strings
from wavefold.base.errors import DataError, listed
from wavefold.base.files import write_arrays
from wavefold.combine import CALIBRATIONS, COMBINERS, DECISIONS, Ensemble, HeldBack, cross_fit
from wavefold.models import MODELS
from wavefold.output import Predictions
from wavefold.prepare import MIXERS, Fold
from wavefold.recipe import Recipe
from wavefold.story.work import Work
from wavefold.training.batches import named_for_others
from wavefold.training.metrics import METRICS, f1_by_class, interval

Values = NDArray[np.float64]


def judge(work: Work) -> tuple[dict[str, Any], Predictions]:
    """Score the ensemble, each other choice, each member and the baselines on the test parts; keep the ensemble.

    Returns what scores.json says, and the ensemble's predictions of the test parts.
    """
    recipe, dataset, combine = work.recipe, work.dataset, work.recipe.combine
    jury = _Jury(recipe, dataset, _tested(work), _held_back(work))
    members = range(len(recipe.member))
    _fit_ensemble(recipe, jury.learned).save(work.run.folder / "ensemble.npz")
    probabilities = jury.ask(members, combine.by, combine.calibrate)
    _keep_held_out(work, jury.tested, probabilities)
    choices, notes = jury.compare(members)
    results: dict[str, Any] = {
        "metric": recipe.output.metric,
        "per": recipe.output.per,
        "n": len(np.unique(jury.tested.rows)),
        "rows": len(jury.tested.rows),  # more than n where folds are repeated
        "learned_from": round(float(np.mean([len(f.train) for f in work.folds]))),
        "score": jury.row(probabilities, combine.decide),
        "choices": choices,
        "members": [{"name": f"{n} {m.model}", **jury.alone(n)} for n, m in enumerate(recipe.member)],
        "baselines": _baselines(work, jury),
        "notes": _notes(work) + notes,
    }
    if len(work.folds) > 1:
        results["folds"] = jury.by_fold(probabilities, combine.decide)
    results["notes"] += _no_better(results)
    return results, predictions_of(recipe, dataset.ids[jury.tested.rows], dataset.classes, probabilities)


def _keep_held_out(work: Work, tested: HeldBack, probabilities: Values) -> None:
    """What the ensemble and its members said of the test parts, a row a sample and repeat: what a page is drawn from."""
    members = tested.members[: len(work.recipe.member)]
    kept = {"rows": tested.rows, "fold": tested.fold, "labels": tested.labels, "members": members}
    ids = work.dataset.ids[tested.rows]
    write_arrays(work.run.folder / "held_out.npz", {**kept, "ids": ids, "probabilities": probabilities})


def data_notes(recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
    """What the data did to a recipe's wishes."""
    notes = []
    if dataset.left_out:
        notes.append(f"{len(dataset.left_out):,} samples could not be read and were left out")
    nets = any(m.model in MODELS for m in recipe.member)
    if nets and named_for_others(recipe.batches.fractions, dataset.classes):
        names = listed(recipe.batches.fractions)
        notes.append(f"batches.fractions names {names}, none of them a class here: batches have the data's own shares")
    few = _few_to_choose_by(dataset, folds) if nets else []
    return notes + few + _last_class(recipe, dataset.classes) + _straddling(recipe, dataset, folds)


def predictions_of(recipe: Recipe, ids: Strings, classes: Sequence[str], probabilities: Values) -> Predictions:
    """Probabilities (sample, class) with what the recipe decides from them, as its contest's files hold them."""
    decided = decided_by(recipe, recipe.combine.decide, probabilities)
    submission = recipe.output.submission
    return Predictions(ids, tuple(classes), probabilities, decided, submission)


def decided_by(recipe: Recipe, decide: str, probabilities: Values) -> Values:
    """What is handed in, (sample, class), from probabilities (sample, class), by the decision of that name."""
    options = {"threshold": recipe.combine.threshold} if decide == "thresholds" else {}
    decided: Values = DECISIONS[decide](probabilities, **options)
    return decided


@dataclass(frozen=True)
class _Jury:
    """What scores an answer: the test parts' scores, and the held-back ones that combining may learn from.

    These are other samples than the ones scored: the validation part where there is one fold, the other folds' test
    parts where there are more.
    """

    recipe: Recipe
    dataset: Dataset
    tested: HeldBack
    learned: HeldBack

    def ask(self, members: Sequence[int], by: str, calibrate: str) -> Values:
        """Probabilities of the test parts by some members, combined and calibrated."""
        seed, options = self.recipe.seed, _combining(self.recipe, by, members)
        return cross_fit(self.tested, self.learned, members, by=by, calibrate=calibrate, seed=seed, options=options)

    def alone(self, member: int) -> dict[str, Any]:
        """Metrics of one member, calibrated and decided as the recipe says."""
        return self.row(self.ask([member], "mean", self.recipe.combine.calibrate), self.recipe.combine.decide)

    def compare(self, members: Sequence[int]) -> tuple[list[dict[str, Any]], list[str]]:
        """Metrics of every choice of combiner, calibration and decision; and notes on those that could not be made."""
        choices, notes = [], []
        for by in COMBINERS if len(members) > 1 else ["mean"]:
            try:
                asked = [(calibrate, self.ask(members, by, calibrate)) for calibrate in CALIBRATIONS]
            except DataError as error:  # too few held-back samples for a choice that nobody asked for
                notes.append(f"not compared: {error}")
                continue
            for (calibrate, answer), decide in product(asked, DECISIONS):
                choices.append({"by": by, "calibrate": calibrate, "decide": decide, **self.row(answer, decide)})
        return choices, notes

    def row(self, probabilities: Values, decide: str) -> dict[str, Any]:
        """Metrics of an answer: value and 95 % interval."""
        decided, every = decided_by(self.recipe, decide, probabilities), np.ones(len(probabilities), bool)
        measured = dict.fromkeys([self.recipe.output.metric, "accuracy", "macro-f1", "l1"])
        row: dict[str, Any] = {name: self._measure(name, probabilities, decided, every) for name in measured}
        for name in ("log-loss", "ece", "auc"):
            row.setdefault(name, METRICS[name].function(probabilities, self.tested.labels))
        return {**row, "f1-by-class": f1_by_class(probabilities, self.tested.labels)}

    def by_fold(self, probabilities: Values, decide: str) -> list[dict[str, Any]]:
        """The recipe's metric in each fold's test part, with n and interval."""
        metric, rows = self.recipe.output.metric, []
        decided = decided_by(self.recipe, decide, probabilities)
        for fold in np.unique(self.tested.fold):
            here = self.tested.fold == fold
            measured = self._measure(metric, probabilities, decided, here)
            rows.append({"fold": int(fold), "n": int(here.sum()), metric: measured})
        return rows

    def _measure(self, name: str, probabilities: Values, decided: Values, rows: NDArray[np.bool_]) -> list[float]:
        """A metric of some rows with the ends of its interval, drawn over groups where the split keeps them whole."""
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
        return rows if len(np.unique(rows)) < len(rows) else None  # repeats of a sample are drawn together


def _combining(recipe: Recipe, by: str, members: Sequence[int]) -> dict[str, Any]:
    """Options of a combiner of some members, the baseline's number being one past the last; the mean weighs them."""
    if by == "mean":
        weights = [*(m.weight for m in recipe.member), 1.0]
        return {"weights": [weights[n] for n in members]}
    return recipe.combine.options if by == recipe.combine.by else {}


def _fit_ensemble(recipe: Recipe, learned: HeldBack) -> Ensemble:
    """The ensemble that predicts new samples: fitted on all that was held back."""
    combine, every = recipe.combine, np.ones(len(learned.rows), bool)
    members, labels = learned.take(every, range(len(recipe.member)))
    more: dict[str, Any] = {"labels": labels, "samples": learned.rows, "seed": recipe.seed}
    more["options"] = _combining(recipe, combine.by, range(len(recipe.member)))
    return Ensemble.fit(combine.by, combine.calibrate, members, **more)


def _baselines(work: Work, jury: _Jury) -> list[dict[str, Any]]:
    rows = [{"name": "majority", **jury.row(_majority(work), work.recipe.combine.decide)}]
    if work.recipe.output.baseline:
        rows.append({"name": work.recipe.output.baseline, **jury.alone(len(work.recipe.member))})
    return rows


def _tested(work: Work) -> HeldBack:
    """Every member's scores of the test parts, the baseline's last."""
    return _gather(work, "test")


def _held_back(work: Work) -> HeldBack:
    """What a combiner may learn from: other samples than one fold's test part, or all test parts of several folds."""
    return _gather(work, "test" if len(work.folds) > 1 else "validation")


def _gather(work: Work, part: str) -> HeldBack:
    indexes = [getattr(fold, part) for fold in work.folds]
    rows = np.concatenate(indexes)
    fold = np.concatenate([np.full(len(index), f.number) for f, index in zip(work.folds, indexes, strict=True)])
    scores = [[_kept_scores(work.run.member(f.number, n, m.model), part) for f in work.folds] for n, m in work.members]
    return HeldBack(rows, fold, work.dataset.known_labels()[rows], np.stack([np.concatenate(s) for s in scores]))


def _kept_scores(folder: Path, part: str) -> Values:
    with np.load(folder / "scores.npz", allow_pickle=False) as kept:
        scores: Values = kept[part]
    return scores


def _majority(work: Work) -> Values:
    """Each test sample gets the class shares of its fold's training part."""
    labels, classes = work.dataset.known_labels(), len(work.dataset.classes)
    shares = [np.bincount(labels[f.train], minlength=classes) / len(f.train) for f in work.folds]
    return np.concatenate([np.tile(s, (len(f.test), 1)) for s, f in zip(shares, work.folds, strict=True)])


def _no_better(results: Mapping[str, Any]) -> list[str]:
    """A word where the ensemble is no better than a class that is always answered."""
    metric = results["metric"]
    value, majority = results["score"][metric][0], results["baselines"][0][metric][0]
    if value > majority if METRICS[metric].higher_is_better else value < majority:
        return []
    return ["no better than the majority class: it has learned nothing; more epochs, smaller batches or more samples may help"]


def _notes(work: Work) -> list[str]:
    """What a reader of the score must know beside it."""
    simulated = ["learned from and tested on simulated samples: this says nothing about real ones"]
    notes = simulated if work.run.facts["simulated"] else []
    return notes + data_notes(work.recipe, work.dataset, work.folds)


def _few_to_choose_by(dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
    """A word on the class that a validation part hardly holds: what is chosen there is chosen by luck."""
    labels, classes = dataset.known_labels(), dataset.classes
    counts = [np.bincount(labels[f.validation], minlength=len(classes)) for f in folds if len(f.validation)]
    least = np.min(counts, axis=0) if counts else np.full(len(classes), _FEW)
    if least.min() >= _FEW:
        return []
    rarest = int(least.argmin())
    return [
        f"only {least[rarest]} of class '{classes[rarest]}' to choose the best weights by: "
        "raise split.validation or add samples"
    ]


_FEW = 3  # samples of a class in a validation part, below which a note is due


def _last_class(recipe: Recipe, classes: Sequence[str]) -> list[str]:
    """A word on which of two classes is looked for, where that matters and the recipe does not name them."""
    matters = recipe.output.submission == "target" or any(step.step in MIXERS for step in recipe.prepare)
    if not matters or len(classes) != 2 or set(classes) == set(recipe.data.classes):
        return []
    first, last = classes
    return [
        f"class '{last}' is taken for what is looked for; if it is '{first}', add --set 'data.classes=[\"{last}\",\"{first}\"]'"
    ]


def _straddling(recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
    groups = dataset.groups
    if groups is None or recipe.split.group:
        return []
    both = {g for f in folds for g in set(groups[f.train]) & set(groups[f.test])}
    if not both:
        return []
    return [
        f"{len(both)} of {len(set(groups))} groups ({dataset.grouping}) stand on both sides of the split: this is a score for "
        f"known ones. For unseen ones add --set split.group={dataset.grouping}"
    ]
