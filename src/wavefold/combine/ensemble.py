"""Members' scores to one answer, and the honest way to fit what combines and calibrates: on scores that were held back.

Legend: M members, R rows (a sample in one repeat of the folds), C classes; scores (M, R, C), probabilities (R, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefold.base.dataset import Ints
from wavefold.base.files import write_arrays
from wavefold.combine.calibrate import CALIBRATIONS
from wavefold.combine.stack import StackLogistic, StackNet
from wavefold.combine.vote import Mean

Values = NDArray[np.float64]

COMBINERS: dict[str, Any] = {"mean": Mean, "stack_net": StackNet, "stack_logistic": StackLogistic}


@dataclass(frozen=True)
class HeldBack:
    """Scores of samples by members that never learned from them, a row a sample and repeat."""

    rows: Ints  # (row,) the sample
    fold: Ints  # (row,) the fold that left it out
    labels: Ints  # (row,)
    members: Values  # (member, row, class)

    def take(self, chosen: NDArray[np.bool_], members: Sequence[int]) -> tuple[Values, Ints]:
        """Scores and labels of the chosen rows, of some members."""
        return self.members[list(members)][:, chosen], self.labels[chosen]


@dataclass(frozen=True)
class Ensemble:
    """Members' scores to one answer: a combiner, then a calibration, both fitted on held-back scores."""

    combiner: Any
    calibration: Any

    @classmethod
    def fit(cls, by: str, calibrate: str, members: Values, labels: Ints, seed: int) -> Ensemble:
        """Learn from held-back scores. members: (member, sample, class); labels: (sample,)."""
        combiner, calibration = COMBINERS[by](), CALIBRATIONS[calibrate]()
        combiner.fit(members, labels, seed)
        calibration.fit(combiner.probabilities(members), labels)
        return cls(combiner, calibration)

    def probabilities(self, members: Values) -> Values:
        """(member, sample, class) scores to (sample, class) probabilities."""
        result: Values = self.calibration.apply(self.combiner.probabilities(members))
        return result

    def save(self, path: Path) -> None:
        """Write what was learned."""
        states = {"combiner": self.combiner.state(), "calibration": self.calibration.state()}
        flat = {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}
        write_arrays(path, flat)

    @classmethod
    def load(cls, by: str, calibrate: str, path: Path) -> Ensemble:
        """Read what was learned."""
        combiner, calibration = COMBINERS[by](), CALIBRATIONS[calibrate]()
        with np.load(path, allow_pickle=False) as kept:
            for name, part in (("combiner", combiner), ("calibration", calibration)):
                part.load({k.removeprefix(f"{name}."): kept[k] for k in kept if k.startswith(f"{name}.")})
        return cls(combiner, calibration)


def cross_fit(tested: HeldBack, learned: HeldBack, members: Sequence[int], by: str, calibrate: str, seed: int) -> Values:
    """Probabilities of the test parts, each by an ensemble that was fitted without its samples."""
    result = np.empty(tested.members.shape[1:])
    for fold in np.unique(tested.fold):
        mine = tested.fold == fold
        others = ~np.isin(learned.rows, tested.rows[mine])
        ensemble = Ensemble.fit(by, calibrate, *learned.take(others, members), seed)
        result[mine] = ensemble.probabilities(tested.take(mine, members)[0])
    return result
