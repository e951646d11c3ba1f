"""scikit-learn estimators built from the same parts: a classifier and a regressor of signals, and a forecaster of frames."""

from wavefold.estimators.classifier import SignalClassifier
from wavefold.estimators.forecaster import FrameForecaster
from wavefold.estimators.regressor import SignalRegressor

__all__ = ["FrameForecaster", "SignalClassifier", "SignalRegressor"]
