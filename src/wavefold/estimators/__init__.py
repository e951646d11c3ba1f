"""The same parts with scikit-learn's face: a classifier of signals and a forecaster of frames."""

from wavefold.estimators.classifier import SignalClassifier
from wavefold.estimators.forecaster import FrameForecaster

__all__ = ["FrameForecaster", "SignalClassifier"]
