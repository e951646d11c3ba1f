"""Members that are scikit-learn classifiers: one line each, here or from Python, with scikit-learn's parameter names."""

from __future__ import annotations

from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from wavefold.models.sklearn_adapter import Estimator, checked, sklearn_member


def support_vectors(*, C: float = 1.0, kernel: str = "rbf", gamma: str | float = "scale", cv: int = 3) -> Estimator:
    """A support vector classifier whose decisions are calibrated to probabilities by a sigmoid fitted on `cv` folds."""
    vectors = checked(SVC, {"C": C, "kernel": kernel, "gamma": gamma})
    return checked(CalibratedClassifierCV, {"estimator": vectors, "cv": cv, "ensemble": False})


# trusted: full names of private scikit-learn classes that contain only numbers and fitted estimators
NearestNeighbours = sklearn_member(KNeighborsClassifier)
SupportVectorMachine = sklearn_member(
    support_vectors, trusted=("sklearn.calibration._CalibratedClassifier", "sklearn.calibration._SigmoidCalibration")
)
HistBoosting = sklearn_member(
    HistGradientBoostingClassifier, trusted=("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
)
Perceptron = sklearn_member(MLPClassifier, trusted=("sklearn.neural_network._stochastic_optimizers.AdamOptimizer",))
