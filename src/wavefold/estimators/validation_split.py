"""The validation split of the classifier, for choosing the best weights and for calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefold.data.dataset import Ints
from wavefold.data.split import holdout

_LEAST = 10  # samples; of fewer a score says nothing, and all are learned from


def validation_split(labels: Ints, fraction: float, groups: NDArray[Any] | None, seed: int) -> tuple[Ints, Ints]:
    """Numbers of the samples to learn from and of those held back: a fraction of each class, or whole groups.

    Every class stays among those to learn from. Nothing is held back where that would be fewer than ten samples, or where
    all are of one group.
    """
    every, common = np.arange(len(labels)), np.bincount(labels)[labels] > 1  # one of a kind can only be learned from
    several = groups is None or len(np.unique(groups[common])) > 1
    if fraction * common.sum() < _LEAST or not several:
        return every, every[:0]
    some = every[common]
    fold = holdout(labels[some], fraction=fraction, validation=0.0, groups=None if groups is None else groups[some], seed=seed)[
        0
    ]
    back = some[fold.test]
    learned = np.setdiff1d(every, back)
    lacking = ~np.isin(labels[back], labels[learned])
    if lacking.any() and groups is not None:  # the only groups of a class were held back
        back = back[~np.isin(groups[back], groups[back[lacking]])]
    return np.setdiff1d(every, back), back
