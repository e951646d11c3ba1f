"""The validation split of classifiers and regressors, for choosing the best weights and for calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wavefold.data.dataset import Ints
from wavefold.data.split import Labels, holdout

_LEAST = 10  # samples; a score on fewer says nothing, so all are used for training


def validation_split(labels: Labels, fraction: float, groups: NDArray[np.generic] | None, seed: int) -> tuple[Ints, Ints]:
    """Indices of the training and validation samples: the latter are a fraction of each class, or whole groups.

    labels: (sample,) class numbers, or (sample, label) 0 and 1. Every class stays in the training part. There is no validation
    part if it would have fewer than ten samples, or if all samples belong to one group.
    """
    every, common = np.arange(len(labels)), _common(labels)
    several = groups is None or len(np.unique(groups[common])) > 1
    if fraction * common.sum() < _LEAST or not several:
        return every, every[:0]
    some = every[common]
    whole = None if groups is None else groups[some]
    back = some[holdout(labels[some], fraction=fraction, validation=0.0, groups=whole, seed=seed)[0].test]
    lacking = _lacking(labels[back], labels[np.setdiff1d(every, back)])
    if lacking.any():  # all samples or groups of a class were in the validation part
        back = back[~lacking] if groups is None else back[~np.isin(groups[back], groups[back[lacking]])]
    return np.setdiff1d(every, back), back


def _common(labels: Labels) -> NDArray[np.bool_]:
    """True except for the only sample of a class, which stays in training."""
    return np.ones(len(labels), bool) if labels.ndim == 2 else np.bincount(labels)[labels] > 1


def _lacking(back: Labels, learned: Labels) -> NDArray[np.bool_]:
    """Which samples held back have a class, or a label that is present or absent, that no training sample has."""
    if back.ndim == 1:
        return ~np.isin(back, learned)
    alone = (back == 1) & ~(learned == 1).any(axis=0) | (back == 0) & ~(learned == 0).any(axis=0)
    lacking: NDArray[np.bool_] = np.any(alone, axis=1)
    return lacking
