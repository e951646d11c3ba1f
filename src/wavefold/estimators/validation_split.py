"""The classifier's validation split, for choosing the best weights and for calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefold.data.dataset import Ints
from wavefold.data.split import holdout

_LEAST = 10  # samples; a score on fewer says nothing, so all are used for training


def validation_split(labels: Ints, fraction: float, groups: NDArray[Any] | None, seed: int) -> tuple[Ints, Ints]:
    """Indices of the training and validation samples: the latter are a fraction of each class, or whole groups.

    Every class stays in the training part. There is no validation part if it would have fewer than ten samples, or if all
    samples belong to one group.
    """
    every, common = np.arange(len(labels)), np.bincount(labels)[labels] > 1  # the only sample of a class stays in training
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
    if lacking.any() and groups is not None:  # all groups of a class were in the validation part
        back = back[~np.isin(groups[back], groups[back[lacking]])]
    return np.setdiff1d(every, back), back
