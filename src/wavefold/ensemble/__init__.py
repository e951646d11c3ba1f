"""From member predictions to the submission: combine scores, calibrate, decide.

Anything fitted here (a stacker, a temperature) must be fitted on out-of-fold scores: those of samples that the members were
not trained on. The heartbeat system fitted its stacker on its members' training samples, where it did well, but it did badly
in the contest.
"""

from collections.abc import Callable
from typing import Any

from wavefold.ensemble.calibrate import CALIBRATIONS
from wavefold.ensemble.combine import COMBINERS, Ensemble, OutOfFold, cross_fit
from wavefold.ensemble.decide import keep_probabilities, l1_decision, one_hot, over_thresholds

DECISIONS: dict[str, Callable[..., Any]] = {
    "probabilities": keep_probabilities,
    "argmax": one_hot,
    "thresholds": over_thresholds,
    "l1": l1_decision,
}

__all__ = ["CALIBRATIONS", "COMBINERS", "DECISIONS", "Ensemble", "OutOfFold", "cross_fit"]
