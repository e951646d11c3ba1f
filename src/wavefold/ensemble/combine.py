"""Combines member scores into one prediction; the combiner and the calibration are fitted on out-of-fold scores.

Legend: M members, R rows (a sample in one repeat of the folds), C columns of a prediction (classes, labels, or numbers with
their spread); scores (M, R, C), probabilities (R, C) whatever the task predicts; labels (R,) or (R, outputs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from wavefold.core.errors import DataError
from wavefold.core.files import write_arrays
from wavefold.core.registry import build_part
from wavefold.data.dataset import Ints
from wavefold.ensemble.calibrate import CALIBRATIONS
from wavefold.ensemble.decide import keep_probabilities, l1_decision, one_hot, over_thresholds
from wavefold.ensemble.parts import Calibration, Combiner, Decision, State, Values
from wavefold.ensemble.stack import StackLogistic, StackNet, even_parts
from wavefold.ensemble.vote import Mean
from wavefold.ensemble.weighted import Weighted

Labels = NDArray[np.number]

COMBINERS: dict[str, type[Combiner]] = {
    "mean": Mean,
    "weighted": Weighted,
    "stack_net": StackNet,
    "stack_logistic": StackLogistic,
}

DECISIONS: dict[str, Callable[..., Values]] = {
    "probabilities": keep_probabilities,
    "argmax": one_hot,
    "thresholds": over_thresholds,
    "l1": l1_decision,
}

_PARTS = 5  # a fitted combiner is calibrated on predictions for each fifth, made by a fit on the other four
_NO_OPTIONS: Mapping[str, object] = {}


class Rule:
    """A decision that is a function of the predictions alone: nothing to fit."""

    learns = False

    def __init__(self, function: Callable[[Values], Values]) -> None:
        self.apply = function

    def fit(self, probabilities: Values, labels: ArrayLike) -> Self:
        """Do nothing."""
        return self

    def state(self) -> State:
        """Nothing."""
        return {}

    def load(self, state: State) -> Self:
        """Do nothing: there is no state."""
        return self


@dataclass(frozen=True)
class EnsembleParts:
    """The combiners, calibrations and decisions of a task, by name. A decision is a function, or a class that can be fitted."""

    combiners: Mapping[str, type[Combiner]]
    calibrations: Mapping[str, type[Calibration]]
    decisions: Mapping[str, type[Decision] | Callable[..., Values]]

    def decision(self, name: str, options: Mapping[str, object]) -> Decision:
        """Build a decision."""
        part = self.decisions[name]
        return part(**options) if isinstance(part, type) else Rule(partial(part, **options))


CLASSIFYING = EnsembleParts(COMBINERS, CALIBRATIONS, DECISIONS)


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold scores, one row per sample and repeat."""

    rows: Ints  # (row,) the sample
    fold: Ints  # (row,) the fold that held it out
    labels: Labels  # (row,) or (row, output)
    members: Values  # (member, row, class)

    def take(self, chosen: NDArray[np.bool_], members: Sequence[int]) -> tuple[Values, Labels]:
        """Scores and labels of the chosen rows, for some members."""
        return self.members[list(members)][:, chosen], self.labels[chosen]


@dataclass(frozen=True)
class Ensemble:
    """A combiner followed by a calibration, both fitted on out-of-fold scores.

    A combiner is overconfident on the rows it was fitted on, and a temperature fitted there would make it worse. So the
    calibration is fitted on predictions for rows that the combiner was fitted without.
    """

    combiner: Combiner
    calibration: Calibration

    @classmethod
    def fit(
        cls,
        by: str,
        calibrate: str,
        members: Values,
        *,
        labels: Labels,
        seed: int,
        options: Mapping[str, object] = _NO_OPTIONS,
        samples: Ints | None = None,
        parts: EnsembleParts = CLASSIFYING,
    ) -> Ensemble:
        """Fit on out-of-fold scores. members: (member, row, class); labels: (row,) or (row, output).

        options: the combiner's own. samples: (row,) the sample of each row, if repeated folds give several rows per sample;
        by default each row is a sample.
        """
        combiner, calibration = build_part(parts.combiners, by, options, "combine"), parts.calibrations[calibrate]()
        if len(labels) < combiner.needs:
            raise DataError(f"combine: {by} needs at least {combiner.needs} held-out samples to fit; got {len(labels)}")
        if combiner.learns and calibration.learns:
            fifths = _sample_parts(labels, np.arange(len(labels)) if samples is None else samples, seed)
            answers, known = _unseen_answers(combiner, members, labels, fifths, seed)
            if known.any():
                calibration.fit(answers[known], labels[known])
            combiner.fit(members, labels, seed)
        else:
            calibration.fit(combiner.fit(members, labels, seed).probabilities(members), labels)
        return cls(combiner, calibration)

    def probabilities(self, members: Values) -> Values:
        """(sample, class) probabilities from (member, sample, class) scores."""
        return self.calibration.apply(self.combiner.probabilities(members))

    def module(self) -> nn.Module:
        """The same in torch: (member, N, class) float64 scores to (N, class) probabilities."""
        return nn.Sequential(self.combiner.module(), self.calibration.module())

    def save(self, path: Path, decision: Decision | None = None) -> None:
        """Save the fitted state, and that of a decision fitted on the ensemble's predictions."""
        states = {
            "combiner": self.combiner.state(),
            "calibration": self.calibration.state(),
            "decision": decision.state() if decision else {},
        }
        flat = {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}
        write_arrays(path, flat)

    @classmethod
    def load(cls, by: str, calibrate: str, path: Path, parts: EnsembleParts = CLASSIFYING) -> Ensemble:
        """Load a fitted state."""
        combiner, calibration = parts.combiners[by](), parts.calibrations[calibrate]()
        return cls(combiner.load(_state(path, "combiner")), calibration.load(_state(path, "calibration")))


def load_decision(decision: Decision, path: Path) -> Decision:
    """Restore the state of a decision that `Ensemble.save` wrote."""
    return decision.load(_state(path, "decision"))


def _state(path: Path, part: str) -> State:
    with np.load(path, allow_pickle=False) as kept:
        return {k.removeprefix(f"{part}."): kept[k] for k in kept if k.startswith(f"{part}.")}


@dataclass(frozen=True)
class CrossFitted:
    """What ensembles say of samples that they were fitted without."""

    probabilities: Values  # (row, class)
    decided: dict[str, Values]  # decision -> (row, class)


def cross_fit(
    tested: OutOfFold,
    learned: OutOfFold,
    members: Sequence[int],
    *,
    by: str,
    calibrate: str,
    seed: int,
    options: Mapping[str, object] = _NO_OPTIONS,
    parts: EnsembleParts = CLASSIFYING,
    decide: Mapping[str, Mapping[str, object]] | None = None,
) -> CrossFitted:
    """Predictions for each test part from an ensemble fitted without its samples. decide: decisions and their options."""
    result, wanted = np.empty(tested.members.shape[1:]), dict(decide or {})
    decided = {name: np.empty_like(result) for name in wanted}
    for fold in np.unique(tested.fold):
        mine = tested.fold == fold
        others = ~np.isin(learned.rows, tested.rows[mine])
        scores, labels = learned.take(others, members)
        ensemble = Ensemble.fit(
            by, calibrate, scores, labels=labels, seed=seed, options=options, samples=learned.rows[others], parts=parts
        )
        result[mine] = ensemble.probabilities(tested.take(mine, members)[0])
        for name, given in wanted.items():
            decided[name][mine] = fit_decision(parts, name, given, ensemble, scores, labels).apply(result[mine])
    return CrossFitted(result, decided)


def fit_decision(
    parts: EnsembleParts, name: str, options: Mapping[str, object], ensemble: Ensemble, scores: Values, labels: Labels
) -> Decision:
    """A decision, fitted on an ensemble's predictions for out-of-fold scores (member, row, class) if it learns."""
    decision = parts.decision(name, options)
    return decision.fit(ensemble.probabilities(scores), labels) if decision.learns else decision


def _sample_parts(labels: Labels, samples: Ints, seed: int) -> Ints:
    """(row,) part numbers: classes, if labels are numbers of classes, spread evenly, all rows of a sample in one part."""
    _, first, sample = np.unique(samples, return_index=True, return_inverse=True)
    classes = labels[first] if labels.ndim == 1 else np.zeros(len(first), np.int64)
    return even_parts(classes, _PARTS, seed)[sample]


def _unseen_answers(
    combiner: Combiner, members: Values, labels: Labels, parts: Ints, seed: int
) -> tuple[Values, NDArray[np.bool_]]:
    """Predictions (row, class) for each part by a fit on the others, and a mask (row,) of rows whose class is in that fit.

    A fit on the other parts lacks a class whose rows are all in one part; the fit on all rows has it.
    """
    answers, known = np.empty(members.shape[1:]), np.zeros(len(labels), bool)
    for part in np.unique(parts):
        held = parts == part
        answers[held] = combiner.fit(members[:, ~held], labels[~held], seed).probabilities(members[:, held])
        known[held] = np.isin(labels[held], labels[~held]) if labels.ndim == 1 else True
    return answers, known
