"""Decisions: from probabilities to what is submitted. Each maps (sample, class) to (sample, class).

Which one is right depends on the metric: log-loss and auc need probabilities, accuracy and macro-f1 need one class, and the
sum of |p - y| needs `l1_decision`. `over_thresholds` is the heartbeat system's own rule.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from wavefold.core.errors import UserError
from wavefold.ensemble.parts import Values


def keep_probabilities(probabilities: ArrayLike) -> Values:
    """The probabilities as they are."""
    return np.array(probabilities, np.float64)


def one_hot(probabilities: ArrayLike) -> Values:
    """1 for the most probable class (the first on a tie), 0 for the others."""
    values = np.asarray(probabilities, np.float64)
    hot: Values = np.eye(values.shape[1])[values.argmax(axis=1)]
    return hot


def over_thresholds(probabilities: ArrayLike, *, threshold: float = 0.49) -> Values:
    """The source's rule: classes 1, 2, ... and then 0 each take the samples whose value for them exceeds the threshold.

    A sample that is taken becomes one-hot before the next class is tested; one that no class takes keeps its probabilities.
    """
    if not 0.0 <= threshold < 1.0:
        raise UserError(f"decision.threshold: {threshold} is out of range; expected at least 0 and below 1")
    values = np.array(probabilities, np.float64)
    for number in [*range(1, values.shape[1]), 0]:
        taken = values[:, number] > threshold
        values[taken] = 0.0
        values[taken, number] = 1.0
    return values


def l1_decision(probabilities: ArrayLike) -> Values:
    """The decision with the least expected sum of |a - y|: 1 where p > 0.5, else 0; all zeros if no class exceeds 0.5.

    E|a - y| = sum_c p_c (1 - a_c) + (1 - p_c) a_c is linear in each a_c, with slope 1 - 2 p_c: its minimum is at
    a_c = 1 where p_c > 0.5 and at 0 elsewhere. All zeros cost 1; one-hot would cost 2 (1 - max p), which is more.
    """
    return (np.asarray(probabilities, np.float64) > 0.5).astype(np.float64)
