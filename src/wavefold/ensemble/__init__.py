"""From member predictions to the submission: combine scores, calibrate, decide.

Anything fitted here (a stacker, a temperature) must be fitted on out-of-fold scores: those of samples that the members were
not trained on. The heartbeat system fitted its stacker on its members' training samples, where it did well, but it did badly
in the contest.
"""

from wavefold.ensemble.calibrate import CALIBRATIONS
from wavefold.ensemble.combine import CLASSIFYING, COMBINERS, DECISIONS, Ensemble, EnsembleParts, OutOfFold, cross_fit

__all__ = ["CALIBRATIONS", "CLASSIFYING", "COMBINERS", "DECISIONS", "Ensemble", "EnsembleParts", "OutOfFold", "cross_fit"]
