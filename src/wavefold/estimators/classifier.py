"""A scikit-learn classifier of signals, built from the same nets, steps and training loop as recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags, column_or_1d, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from wavefold.core.errors import plural
from wavefold.data.dataset import Floats
from wavefold.ensemble.thresholds import LabelThresholds
from wavefold.estimators.base import Samples, SignalEstimator
from wavefold.estimators.errors import BadValue
from wavefold.estimators.fitted import NetName
from wavefold.estimators.parameters import BATCH, LEARNING, NAME, SWITCH, WEIGHTS
from wavefold.estimators.steps import Step
from wavefold.estimators.targets import CalibratedLabels, Target
from wavefold.tasks.samples.kinds import Classes, LossChoice, Truth, Values

_SMALLEST = 1e-12  # minimum probability before taking its logarithm
_PARAMETERS = {
    **LEARNING,
    "batch_size": BATCH,
    "best": NAME,
    "class_weight": WEIGHTS,
    "calibrate": NAME,
    "warm_start": SWITCH,
}


class SignalClassifier(ClassifierMixin, SignalEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A scikit-learn classifier of signals: kernel features with a linear head, a neural net, or another classifier.

    Signals are (sample, position), (sample, channel, position) or (…, row, column), or a list of arrays of unequal length.

    model: a short name in `wavefold.models.MODELS` or `CLASSIFIERS` ("kernels", "lightgbm", ...), or a net class whose
        constructor takes channels, length (or rows, columns) and classes; model_options: its further arguments. "auto" is
        "kernels", which is first by log loss in docs/results.md and is fitted in seconds. It is a net for samples of fewer
        than 9 positions, and where an option is set that only nets have (net1; net6 below 36 positions).
    prepare: steps by short name, in order, with options as in {"step": "noise", "sigma": 0.01}: transforms and balancers are
        fitted on the training part; augmentations and mixers are drawn anew for each sample and epoch. "auto" divides each
        channel by its standard deviation over all training samples; for nets it subtracts the mean as well.
    loss, loss_options: of `training.losses.LOSSES`. epochs, batch_size ("auto": 128, smaller for few samples), learning_rate,
        optimiser, weight_decay, schedule: as in a recipe's stage. average: span of the weight average in epochs.
    validation_fraction: share of samples that `fit` uses for validation: the weights of the epoch with the best metric `best`
        are kept; patience is the number of epochs without improvement before stopping (0: no limit); calibrate
        ("temperature", "none") calibrates the probabilities.
    class_weight: None, "balanced", or a number for each class, which weights the loss. warm_start: fit continues from the
        existing weights. device: "auto", "cpu", "cuda". random_state: the same integer gives the same weights.

    A classifier that is not trained in epochs uses only model, prepare, validation_fraction, calibrate and random_state, and
    "kernels" class_weight too. "kernels" holds no samples back: it calibrates itself on all of them.
    """

    _parameters = _PARAMETERS

    def __init__(
        self,
        model: NetName = "auto",
        *,
        model_options: Mapping[str, object] | None = None,
        prepare: Sequence[Step] | Literal["auto"] = "auto",
        loss: str = "cross_entropy",
        loss_options: Mapping[str, object] | None = None,
        epochs: int = 20,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float = 2e-3,
        optimiser: str = "adamw",
        weight_decay: float = 0.01,
        schedule: str = "one_cycle",
        average: float = 0.5,
        patience: int = 0,
        best: str = "log-loss",
        validation_fraction: float = 0.1,
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,
        calibrate: str = "temperature",
        warm_start: bool = False,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.model = model
        self.model_options = model_options
        self.prepare = prepare
        self.loss = loss
        self.loss_options = loss_options
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimiser = optimiser
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.average = average
        self.patience = patience
        self.best = best
        self.validation_fraction = validation_fraction
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """The most probable class of each sample, (sample,); or 0 and 1 for each label, (sample, label)."""
        probabilities = self.predict_proba(X)
        if self.thresholds_ is not None:
            return self.thresholds_.apply(probabilities).astype(np.int64)
        predicted: NDArray[np.generic] = self.classes_[probabilities.argmax(axis=1)]
        return predicted

    def predict_proba(self, X: ArrayLike) -> Values:
        """Calibrated probabilities, (sample, class), with classes in the order of `classes_`; or (sample, label)."""
        return self._predictions(X)

    def decision_function(self, X: ArrayLike) -> Values:
        """Logarithms of the probabilities, (sample, class); for two classes the log odds of the second, (sample,).

        With a label matrix the log odds of each label, (sample, label).
        """
        probabilities = self.predict_proba(X)
        logs: Values = np.log(np.maximum(probabilities, _SMALLEST))
        if self.thresholds_ is not None:
            return logs - np.log(np.maximum(1 - probabilities, _SMALLEST))
        return logs if logs.shape[1] > 2 else logs[:, 1] - logs[:, 0]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _checked(self, y: NDArray[np.generic]) -> NDArray[np.generic]:
        """Classes (sample,), or a label matrix (sample, label) of 0 and 1."""
        check_classification_targets(y)
        if y.ndim == 1 or y.shape[1] == 1:
            labels: NDArray[np.generic] = column_or_1d(y, warn=True)
            return labels
        if isinstance(self.class_weight, Mapping):
            raise BadValue("class_weight: weights by class are for one class per sample; with a label matrix use 'balanced'")
        other = ~np.isin(y, (0, 1)) if y.dtype.kind in "biuf" else np.ones(y.shape, bool)
        if other.any():
            row, label = np.argwhere(other)[0]
            raise BadValue(f"y: label {label} of sample {row} is {y[row, label]}; expected 0 or 1 in a matrix (sample, label)")
        return y.astype(np.float32)

    def _weights(self, sample_weight: ArrayLike | None, y: NDArray[np.generic]) -> Values | None:
        """The sample weights, multiplied by those of the classes."""
        weights = super()._weights(sample_weight, y)
        if self.class_weight is None or y.ndim == 2:
            return weights
        weights = np.ones(len(y)) if weights is None else weights
        counted = weights > 0
        weights[counted] *= compute_sample_weight(self.class_weight, y[counted])
        return weights

    def _target(self, y: NDArray[np.generic]) -> tuple[Target, Truth]:
        """Class numbers or labels; sets `classes_`."""
        if y.ndim == 2:
            labels = np.asarray(y, np.float32)
            _check_varied(labels)
            self.classes_ = np.arange(y.shape[1])
            return Target(CalibratedLabels(), y.shape[1], self._label_loss()), labels
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise BadValue(f"SignalClassifier: y has {plural(len(self.classes_), 'class', 'classes')}; it must have at least 2")
        choice = LossChoice(self.loss, self.loss_options or {}, "loss")
        return Target(Classes(), len(self.classes_), choice), numbers.astype(np.int64)

    def _label_loss(self) -> LossChoice:
        """The loss of a label matrix; balanced: positives weigh as negatives do."""
        name, options = "bce" if self.loss == "cross_entropy" else self.loss, self.loss_options or {}
        if self.class_weight is None:
            return LossChoice(name, options, "loss")
        if name != "bce":
            raise BadValue(f"class_weight: 'balanced' weights the loss 'bce' of a label matrix, not '{name}'; set it to None")
        return LossChoice(name, {**options, "pos_weight": "balanced"}, "loss")

    def _calibrate(self, validation: Samples) -> None:
        """Also choose the labels' thresholds. Sets `temperature_` and `thresholds_`, None without a label matrix."""
        super()._calibrate(validation)
        self.temperature_ = float(getattr(self.calibration_, "temperature", 1.0))
        self.thresholds_ = LabelThresholds() if isinstance(self.target_.kind, CalibratedLabels) else None
        if self.thresholds_ is not None and len(validation.truth):
            rows = validation.rows()
            self.thresholds_.fit(self.calibration_.apply(self._raw(validation.signals))[rows], validation.truth[rows])


def _check_varied(labels: Floats) -> None:
    """Raise BadValue if a label is the same in all samples. labels: (sample, label) 0 and 1."""
    same = np.flatnonzero((labels == labels[0]).all(axis=0))
    if len(same):
        value = int(labels[0, same[0]])
        raise BadValue(f"y: column {same[0]} is {value} in every sample; expected 0 and 1 in each column, so leave it out")
