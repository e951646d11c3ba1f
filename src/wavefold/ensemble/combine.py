"""Combines member scores into one prediction; the combiner and the calibration are fitted on out-of-fold scores.

Legend: M members, R rows (a sample in one repeat of the folds), C classes; scores (M, R, C), probabilities (R, C).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from wavefold.core.errors import DataError
from wavefold.core.files import write_arrays
from wavefold.core.registry import build_part
from wavefold.data.dataset import Ints
from wavefold.ensemble.calibrate import CALIBRATIONS
from wavefold.ensemble.stack import StackLogistic, StackNet, even_parts
from wavefold.ensemble.vote import Mean

Values = NDArray[np.float64]

# `learns`: has parameters to fit; `needs`: minimum number of out-of-fold rows to fit and calibrate it
COMBINERS: dict[str, Any] = {"mean": Mean, "stack_net": StackNet, "stack_logistic": StackLogistic}

_PARTS = 5  # a fitted combiner is calibrated on predictions for each fifth, made by a fit on the other four
_NO_OPTIONS: Mapping[str, object] = {}


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold scores, one row per sample and repeat."""

    rows: Ints  # (row,) the sample
    fold: Ints  # (row,) the fold that held it out
    labels: Ints  # (row,)
    members: Values  # (member, row, class)

    def take(self, chosen: NDArray[np.bool_], members: Sequence[int]) -> tuple[Values, Ints]:
        """Scores and labels of the chosen rows, for some members."""
        return self.members[list(members)][:, chosen], self.labels[chosen]


@dataclass(frozen=True)
class Ensemble:
    """A combiner followed by a calibration, both fitted on out-of-fold scores.

    A combiner is overconfident on the rows it was fitted on, and a temperature fitted there would make it worse. So the
    calibration is fitted on predictions for rows that the combiner was fitted without.
    """

    combiner: Any
    calibration: Any

    @classmethod
    def fit(
        cls,
        by: str,
        calibrate: str,
        members: Values,
        *,
        labels: Ints,
        seed: int,
        options: Mapping[str, object] = _NO_OPTIONS,
        samples: Ints | None = None,
    ) -> Ensemble:
        """Fit on out-of-fold scores. members: (member, row, class); labels: (row,).

        options: the combiner's own. samples: (row,) the sample of each row, if repeated folds give several rows per sample;
        by default each row is a sample.
        """
        combiner, calibration = build_part(COMBINERS, by, options, "combine"), CALIBRATIONS[calibrate]()
        if len(labels) < combiner.needs:
            raise DataError(f"combine: {by} needs at least {combiner.needs} held-out samples to fit; got {len(labels)}")
        if combiner.learns and calibration.learns:
            parts = _sample_parts(labels, np.arange(len(labels)) if samples is None else samples, seed)
            answers, known = _unseen_answers(combiner, members, labels, parts, seed)
            if known.any():
                calibration.fit(answers[known], labels[known])
            combiner.fit(members, labels, seed)
        else:
            calibration.fit(combiner.fit(members, labels, seed).probabilities(members), labels)
        return cls(combiner, calibration)

    def probabilities(self, members: Values) -> Values:
        """(sample, class) probabilities from (member, sample, class) scores."""
        result: Values = self.calibration.apply(self.combiner.probabilities(members))
        return result

    def module(self) -> nn.Module:
        """The same in torch: (member, N, class) float64 scores to (N, class) probabilities."""
        return nn.Sequential(self.combiner.module(), self.calibration.module())

    def save(self, path: Path) -> None:
        """Save the fitted state."""
        states = {"combiner": self.combiner.state(), "calibration": self.calibration.state()}
        flat = {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}
        write_arrays(path, flat)

    @classmethod
    def load(cls, by: str, calibrate: str, path: Path) -> Ensemble:
        """Load a fitted state."""
        combiner, calibration = COMBINERS[by](), CALIBRATIONS[calibrate]()
        with np.load(path, allow_pickle=False) as kept:
            for name, part in (("combiner", combiner), ("calibration", calibration)):
                part.load({k.removeprefix(f"{name}."): kept[k] for k in kept if k.startswith(f"{name}.")})
        return cls(combiner, calibration)


def cross_fit(
    tested: OutOfFold,
    learned: OutOfFold,
    members: Sequence[int],
    *,
    by: str,
    calibrate: str,
    seed: int,
    options: Mapping[str, object] = _NO_OPTIONS,
) -> Values:
    """Probabilities of each test part from an ensemble fitted without its samples."""
    result = np.empty(tested.members.shape[1:])
    for fold in np.unique(tested.fold):
        mine = tested.fold == fold
        others = ~np.isin(learned.rows, tested.rows[mine])
        scores, labels = learned.take(others, members)
        kept = learned.rows[others]
        ensemble = Ensemble.fit(by, calibrate, scores, labels=labels, seed=seed, options=options, samples=kept)
        result[mine] = ensemble.probabilities(tested.take(mine, members)[0])
    return result


def _sample_parts(labels: Ints, samples: Ints, seed: int) -> Ints:
    """(row,) part numbers: classes spread evenly, all rows of a sample in one part."""
    _, first, sample = np.unique(samples, return_index=True, return_inverse=True)
    return even_parts(labels[first], _PARTS, seed)[sample]


def _unseen_answers(combiner: Any, members: Values, labels: Ints, parts: Ints, seed: int) -> tuple[Values, NDArray[np.bool_]]:
    """Predictions (row, class) for each part by a fit on the others, and a mask (row,) of rows whose class is in that fit.

    A fit on the other parts lacks a class whose rows are all in one part; the fit on all rows has it.
    """
    answers, known = np.empty(members.shape[1:]), np.zeros(len(labels), bool)
    for part in np.unique(parts):
        held = parts == part
        answers[held] = combiner.fit(members[:, ~held], labels[~held], seed).probabilities(members[:, held])
        known[held] = np.isin(labels[held], labels[~held])
    return answers, known
