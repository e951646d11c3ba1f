"""scikit-learn estimators built from the same parts: a classifier of signals and a forecaster of frames."""

from wavefold.estimators.classifier import SignalClassifier
from wavefold.estimators.forecaster import FrameForecaster

__all__ = ["FrameForecaster", "SignalClassifier"]
