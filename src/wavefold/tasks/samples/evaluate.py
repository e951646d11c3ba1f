"""Evaluation: combine members, score the ensemble, the alternatives and the baselines, and collect notes on the scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, plural
from wavefold.core.files import write_arrays
from wavefold.core.records import SCORES_FORMAT, ScoreRow, Scores
from wavefold.core.run import RunFolder
from wavefold.data.dataset import Dataset, Ints, Strings
from wavefold.data.split import Fold
from wavefold.ensemble.combine import CrossFitted, Ensemble, OutOfFold, cross_fit, fit_decision, load_decision
from wavefold.ensemble.parts import Decision
from wavefold.ensemble.vote import Mean
from wavefold.evaluation.intervals import bootstrap_interval, paired_difference
from wavefold.evaluation.metrics import Metric
from wavefold.evaluation.standing import standing
from wavefold.models import MODELS
from wavefold.recipe import Recipe
from wavefold.tasks.samples.context import Context, baseline_file
from wavefold.tasks.samples.inference import transforms_of
from wavefold.tasks.samples.predictions import Predictions
from wavefold.tasks.samples.target import Target, target_of

Values = NDArray[np.float64]


def evaluate(context: Context) -> tuple[Scores, Predictions]:
    """Score the ensemble, the alternatives, each member and the baselines on the test parts; save the ensemble.

    Returns the contents of scores.json and the ensemble's predictions for the test parts.
    """
    recipe, dataset, combine = context.recipe, context.dataset, context.recipe.combine
    evaluator = _Evaluator.of(context)
    members = range(len(recipe.member))
    _keep_ensembles(context, evaluator)
    whole = evaluator.predict(members, combine.by, combine.calibrate, [combine.decide])
    decided = whole.decided[combine.decide]
    _keep_held_out(context, evaluator, whole.probabilities, decided)
    choices, notes = evaluator.compare(members)
    ours = ScoreRow.of(evaluator.row(whole.probabilities, decided))
    baselines = _baselines(context, evaluator, whole)
    results = Scores(
        format=SCORES_FORMAT,
        task=recipe.kind,
        metric=recipe.output.metric,
        higher_is_better=evaluator.metric.higher_is_better,
        units=evaluator.units,
        per=recipe.output.per,
        n=len(np.unique(evaluator.tested.rows)),
        rows=len(evaluator.tested.rows),  # more than n if folds are repeated
        learned_from=round(float(np.mean([len(f.train) for f in context.folds]))),
        score=ours,
        choices=tuple(choices),
        members=tuple(ScoreRow.of(evaluator.alone(n), name=f"{n} {m.model}") for n, m in enumerate(recipe.member)),
        baselines=tuple(baselines),
        standing=standing(evaluator.metric.name, baselines, evaluator.higher, evaluator.units),
        notes=(*_notes(context), *notes, *_no_better(context, evaluator, ours, baselines[0])),
    )
    if len(context.folds) > 1:
        results = results.model_copy(update={"folds": tuple(evaluator.by_fold(whole.probabilities, decided))})
    names = evaluator.target.outputs(dataset)
    return results, evaluator.target.predictions(
        recipe, dataset.ids[evaluator.tested.rows], names, whole.probabilities, decided
    )


def _keep_ensembles(context: Context, evaluator: _Evaluator) -> None:
    """Fit the ensemble for new samples, and the baselines to compare it with, on all held-out samples, and save them."""
    recipe, folder = context.recipe, context.run.folder
    members = range(len(recipe.member))
    _keep_ensemble(folder / "ensemble.npz", evaluator, members, recipe.combine.by)
    write_arrays(folder / "prior.npz", {"prior": evaluator.target.average(_priors(context))[0]})
    for number, name in enumerate(recipe.output.compared, start=len(members)):
        _keep_ensemble(folder / baseline_file(name), evaluator, [number], "mean")


def _keep_ensemble(path: Path, evaluator: _Evaluator, members: Sequence[int], by: str) -> None:
    recipe, learned, target = evaluator.recipe, evaluator.learned, evaluator.target
    scores, labels = learned.take(np.ones(len(learned.rows), bool), members)
    ensemble = Ensemble.fit(
        by,
        recipe.combine.calibrate,
        scores,
        labels=labels,
        seed=recipe.seed,
        options=_combining(recipe, by, members),
        samples=learned.rows,
        parts=target.parts,
    )
    name = recipe.combine.decide
    ensemble.save(path, fit_decision(target.parts, name, target.options(recipe, name), ensemble, scores, labels))


def _keep_held_out(context: Context, evaluator: _Evaluator, probabilities: Values, decided: Values) -> None:
    """Save the predictions of the ensemble and its members for the test parts, one row per sample and repeat, for reports."""
    tested, learns = evaluator.tested, evaluator.learns_decision
    members = tested.members[: len(context.recipe.member)]
    kept: dict[str, NDArray[np.generic]] = {"rows": tested.rows, "fold": tested.fold, "labels": tested.labels}
    kept |= {"members": members, "ids": context.dataset.ids[tested.rows], "probabilities": probabilities}
    write_arrays(context.run.folder / "held_out.npz", {**kept, **({"decided": decided} if learns else {})})


def data_notes(recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
    """Notes on how the data affect the recipe's settings."""
    left_out, said = len(dataset.left_out), list(dataset.notes)
    notes = [f"{plural(left_out, 'sample')} could not be read and {'were' if left_out != 1 else 'was'} skipped"]
    made = target_of(recipe).notes(recipe, dataset, folds)
    return said + (notes if left_out else []) + made + _straddling(recipe, dataset, folds)


def decision_of(run: RunFolder, recipe: Recipe, file: str = "ensemble.npz") -> Decision:
    """The decision of a run's ensemble, or of its baseline, as fitted."""
    target, name = target_of(recipe), recipe.combine.decide
    return load_decision(target.parts.decision(name, target.options(recipe, name)), run.folder / file)


@dataclass(frozen=True)
class _Evaluator:
    """Evaluates predictions from member scores of the test parts, with combiners fitted on held-out scores.

    The two never overlap: combiners are fitted on the validation part if there is one fold, and on the test parts of the
    other folds if there are several.
    """

    recipe: Recipe
    dataset: Dataset
    tested: OutOfFold  # every member's scores of the test parts, with the baselines last
    learned: OutOfFold

    @classmethod
    def of(cls, context: Context) -> _Evaluator:
        """Collect the members' scores of a run."""
        learned = "test" if len(context.folds) > 1 else "validation"
        return cls(context.recipe, context.dataset, _gather(context, "test"), _gather(context, learned))

    @property
    def target(self) -> Target:
        """The task's target."""
        return target_of(self.recipe)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The task's metrics by name."""
        return self.target.metrics(self.target.outputs(self.dataset), self.recipe.data.target_units or ())

    @property
    def metric(self) -> Metric:
        """The recipe's metric."""
        return self.metrics[self.recipe.output.metric]

    @property
    def units(self) -> dict[str, str]:
        """The units of metrics that have one."""
        return {name: metric.unit for name, metric in self.metrics.items() if metric.unit}

    @property
    def higher(self) -> dict[str, bool]:
        """The metrics that rank, and whether more is better."""
        return {name: metric.higher_is_better for name, metric in self.metrics.items() if metric.ranks}

    @property
    def learns_decision(self) -> bool:
        """Whether the decision is fitted."""
        name = self.recipe.combine.decide
        return self.target.parts.decision(name, self.target.options(self.recipe, name)).learns

    def predict(self, members: Sequence[int], by: str, calibrate: str, decisions: Iterable[str]) -> CrossFitted:
        """Combined and calibrated predictions for the test parts from some members, with decisions."""
        return cross_fit(
            self.tested,
            self.learned,
            members,
            by=by,
            calibrate=calibrate,
            seed=self.recipe.seed,
            options=_combining(self.recipe, by, members),
            parts=self.target.parts,
            decide={name: self.target.options(self.recipe, name) for name in decisions},
        )

    def of_one(self, member: int) -> CrossFitted:
        """Predictions of one member, with the recipe's calibration and decision."""
        return self.predict([member], "mean", self.recipe.combine.calibrate, [self.recipe.combine.decide])

    def alone(self, member: int) -> dict[str, object]:
        """Metrics of one member, with the recipe's calibration and decision."""
        made = self.of_one(member)
        return self.row(made.probabilities, made.decided[self.recipe.combine.decide])

    def compare(self, members: Sequence[int]) -> tuple[list[ScoreRow], list[str]]:
        """Metrics of every combiner, calibration and decision; and notes on combinations that could not be fitted."""
        parts, choices, notes = self.target.parts, list[ScoreRow](), list[str]()
        for by in parts.combiners if len(members) > 1 else ["mean"]:
            try:
                made = [(calibrate, self.predict(members, by, calibrate, parts.decisions)) for calibrate in parts.calibrations]
            except DataError as error:  # too few held-out samples for an alternative that is not in the recipe
                notes.append(f"not compared: {error}")
                continue
            for (calibrate, answer), decided in product(made, parts.decisions):
                row = self.row(answer.probabilities, answer.decided[decided])
                choices.append(ScoreRow.of(row, by=by, calibrate=calibrate, decide=decided))
        return choices, notes

    def row(self, probabilities: Values, decided: Values) -> dict[str, object]:
        """Metrics of some predictions: value and 95 % interval."""
        every, truth = np.ones(len(probabilities), bool), self.tested.labels
        shown = dict.fromkeys(self.target.shown(self.recipe.output.metric, self.target.outputs(self.dataset)))
        row: dict[str, object] = {name: self._measure(self.metrics[name], probabilities, decided, every) for name in shown}
        for name, metric in self.metrics.items():
            if name not in row:
                row[name] = metric.function(decided if metric.decided else probabilities, truth)
        return {**row, **self.target.details(probabilities, decided, truth)}

    def by_fold(self, probabilities: Values, decided: Values) -> list[ScoreRow]:
        """The recipe's metric in each fold's test part, with sample count n and interval."""
        rows = []
        for fold in np.unique(self.tested.fold):
            here = self.tested.fold == fold
            measured = {self.metric.name: self._measure(self.metric, probabilities, decided, here)}
            rows.append(ScoreRow.of(measured, fold=int(fold), n=int(here.sum())))
        return rows

    def differences(self, ours: CrossFitted, theirs: CrossFitted) -> dict[str, list[float]]:
        """The difference of two predictors by each metric that is shown, with its interval on the same resamples."""
        found, truth, name = {}, self.tested.labels, self.recipe.combine.decide
        whole = self._drawn_whole()
        for shown in self.target.shown(self.recipe.output.metric, self.target.outputs(self.dataset)):
            metric = self.metrics[shown]
            one, other = (made.decided[name] if metric.decided else made.probabilities for made in (ours, theirs))
            scale = self._scale(metric, len(truth))
            measured = paired_difference(metric, one, other, truth, groups=whole, seed=self.recipe.seed)
            found[shown] = [scale * value for value in measured]
        return found

    def _measure(self, metric: Metric, probabilities: Values, decided: Values, rows: NDArray[np.bool_]) -> list[float]:
        """A metric of some rows with its interval, resampled by group if the split keeps groups whole."""
        values, truth = (decided if metric.decided else probabilities)[rows], self.tested.labels[rows]
        whole, scale = self._drawn_whole(), self._scale(metric, len(truth))
        groups = None if whole is None else whole[rows]
        ends = bootstrap_interval(metric, values, truth, groups=groups, seed=self.recipe.seed)
        return [scale * v for v in (metric.function(values, truth), *ends)]

    def _scale(self, metric: Metric, count: int) -> float:
        return self.recipe.output.per / count if metric.total and self.recipe.output.per else 1.0

    def _drawn_whole(self) -> Strings | Ints | None:
        rows = self.tested.rows
        if self.recipe.split.group and self.dataset.groups is not None:
            return self.dataset.groups[rows]
        return rows if len(np.unique(rows)) < len(rows) else None  # repeats of a sample are resampled together


def _combining(recipe: Recipe, by: str, members: Sequence[int]) -> Mapping[str, object]:
    """Options of a combiner of some members; means use their weights. Baselines have the numbers after those of members."""
    options: Mapping[str, object] = recipe.combine.options if by == recipe.combine.by else {}
    if not issubclass(target_of(recipe).parts.combiners[by], Mean):
        return options
    weights = [m.weight for m in recipe.member]
    return {"weights": [weights[n] if n < len(weights) else 1.0 for n in members], **options}


def _baselines(context: Context, evaluator: _Evaluator, ours: CrossFitted) -> list[ScoreRow]:
    """Scores of the baselines, and how the ensemble differs from each."""
    recipe, name, prior = context.recipe, context.recipe.combine.decide, _prior(context)
    made = [(evaluator.target.prior_name, CrossFitted(prior, {name: decide_prior(recipe, prior)}))]
    made += [(other, evaluator.of_one(n)) for n, other in enumerate(recipe.output.compared, start=len(recipe.member))]
    rows = []
    for baseline, theirs in made:
        row = evaluator.row(theirs.probabilities, theirs.decided[name])
        rows.append(ScoreRow.of(row, name=baseline, differences=evaluator.differences(ours, theirs)))
    return rows


def decide_prior(recipe: Recipe, prior: Values) -> Values:
    """The decision of the baseline that ignores the signals, from its predictions; both (sample, ...)."""
    target, name = target_of(recipe), recipe.combine.decide
    rule = target.parts.decision(name, target.options(recipe, name))
    return target.decided_prior(prior) if rule.learns else rule.apply(prior)


def _gather(context: Context, part: str) -> OutOfFold:
    indexes = [getattr(fold, part) for fold in context.folds]
    rows = np.concatenate(indexes)
    fold = np.concatenate([np.full(len(index), f.number) for f, index in zip(context.folds, indexes, strict=True)])
    scores = [[_kept_scores(context.run.member(f.number, n, m.model), part) for f in context.folds] for n, m in context.members]
    truth = target_of(context.recipe).truth(context.dataset)
    return OutOfFold(rows, fold, truth[rows], np.stack([np.concatenate(s) for s in scores]))


def _kept_scores(folder: Path, part: str) -> Values:
    with np.load(folder / "scores.npz", allow_pickle=False) as kept:
        scores: Values = kept[part]
    return scores


def _prior(context: Context) -> Values:
    """Predict, for each test sample, what its fold's training part says without a look at the signals."""
    return np.concatenate([np.repeat(s, len(f.test), axis=0) for s, f in zip(_priors(context), context.folds, strict=True)])


def _priors(context: Context) -> list[Values]:
    """What the training part of each fold says, (1, P)."""
    target = target_of(context.recipe)
    truth, count = target.truth(context.dataset), len(target.outputs(context.dataset))
    return [target.prior(truth[f.train], count)[None] for f in context.folds]


def _no_better(context: Context, evaluator: _Evaluator, ours: ScoreRow, prior: ScoreRow) -> list[str]:
    """A note, with the likely cause, if the ensemble is no better than the baseline that ignores the signals."""
    metric = evaluator.metric
    value, theirs = ours.value(metric.name), prior.value(metric.name)
    if np.isnan([value, theirs]).any() or (value > theirs if metric.higher_is_better else value < theirs):
        return []
    what = evaluator.target.prior_words
    return [f"no better than {what}; {_likely_cause(context)}"]


def _likely_cause(context: Context) -> str:
    """Why members have not learned, as far as the data and the recipe show it, and what to change."""
    recipe, train = context.recipe, context.folds[0].train
    if any(member.model in MODELS for member in recipe.member):
        if wrong := _wrong_size(context):
            return wrong
        epochs = sum(stage.epochs for stage in recipe.stage)
        batches = recipe.batches.steps or -(-len(train) // recipe.batches.size)
        if epochs * batches < _STEPS:
            size, most = min(recipe.batches.size, _SMALL), max(stage.epochs for stage in recipe.stage)
            wanted = max(-(-_STEPS // -(-len(train) // size)), most + 1)
            return (
                f"the nets were trained for only {plural(epochs * batches, 'batch', 'batches')}; try more epochs and small "
                f"batches: --set 'stage.*.epochs={wanted}' --set batches.size={size} --set batches.steps=0"
            )
    return "try more samples; the signals may not hold what is to be predicted"


def _wrong_size(context: Context) -> str:
    """What to change if the values that the nets get are far from the size that they expect, about 1; '' if they are not."""
    train = context.folds[0].train
    most = max(_LOOKED_AT // math.prod(context.dataset.signals.shape[1:]), 1)  # samples
    some = context.dataset.take(train[:: -(-len(train) // most)]).signals[:]
    transforms = transforms_of(context.run, context.recipe, context.folds[0].number)
    for transform in transforms:
        some = transform.apply(some)
    values = np.asarray(some[:], np.float64)
    level, spread = abs(float(values.mean())), float(values.std())
    if 1 / _FAR <= spread <= _FAR and level <= _FAR * spread:
        return ""
    step = 'step = "standardise"' if level > _FAR * spread else 'step = "scale", by = "max", per = "dataset"'
    return (
        f"the nets got values with mean {values.mean():.2g} and spread {spread:.2g}, but expect about 0 and 1: add [[prepare]] "
        f"{step} to the recipe, {'after its other transforms' if transforms else 'as its first step'}"
    )


_FAR = 30.0  # times the size that nets expect, from which they learn badly
_STEPS = 200  # batches below which nets may not have learned
_SMALL = 32  # samples in a small batch
_LOOKED_AT = 1 << 22  # values


def _notes(context: Context) -> list[str]:
    """Caveats for reading the score."""
    simulated = ["trained and tested on simulated samples: the scores may not hold for real data"]
    notes = simulated if context.run.metadata.simulated else []
    return notes + data_notes(context.recipe, context.dataset, context.folds)


def _straddling(recipe: Recipe, dataset: Dataset, folds: Sequence[Fold]) -> list[str]:
    groups = dataset.groups
    if groups is None or recipe.split.group:
        return []
    both = {g for f in folds for g in set(groups[f.train]) & set(groups[f.test])}
    if not both:
        return []
    count = len(set(groups))
    way = f"add --set split.group={dataset.grouping}" if count > _FEW_GROUPS else f"add data of more than {_FEW_GROUPS} groups"
    return [
        f"{len(both)} of {count} groups by {dataset.grouping} {'are' if len(both) != 1 else 'is'} in both the "
        f"training and the test part, so the score does not measure generalization to new groups; to measure it, {way}"
    ]


_FEW_GROUPS = 2  # a training, a validation and a test part need three
