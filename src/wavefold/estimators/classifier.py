"""A scikit-learn classifier of signals, built from the same nets, steps and training loop as recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_consistent_length, check_random_state, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from wavefold.core.device import seed_step
from wavefold.core.errors import plural
from wavefold.core.registry import build_part, pick
from wavefold.data.dataset import Floats, Ints, shape_words
from wavefold.ensemble import CALIBRATIONS
from wavefold.estimators.errors import BadValue, as_value_errors
from wavefold.estimators.fitted import Fitted, FittedClassifier, FittedNet, NetName, Values, new_net
from wavefold.estimators.parameters import BATCH, LEARNING, NAME, SWITCH, WEIGHTS, need_parameters
from wavefold.estimators.steps import Step, TrainingPart, prepared_part, random_changes, taken
from wavefold.estimators.trainer import inference_device, isolated_rng, training_device
from wavefold.estimators.validation_split import validation_split
from wavefold.evaluation.metrics import METRICS
from wavefold.models import CLASSIFIERS, MODELS
from wavefold.models.heads import Softmax
from wavefold.training.fit_net import Nowhere, Silent, fit_net, new_stage
from wavefold.training.loop import OPTIMISERS, predict_all
from wavefold.training.losses import LOSSES
from wavefold.training.sampler import EachOnce, TrainingSet
from wavefold.training.schedule import SCHEDULES

_SMALLEST = 1e-12  # minimum probability before taking its logarithm
_STEPS = 16  # minimum steps per epoch, so that a few hundred samples suffice; limited by the batch sizes below
_BATCHES = (8, 128)
_LONG = 36  # minimum number of positions for "auto" to choose net1
_PARAMETERS = {
    **LEARNING,
    "batch_size": BATCH,
    "best": NAME,
    "class_weight": WEIGHTS,
    "calibrate": NAME,
    "warm_start": SWITCH,
}


class SignalClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A scikit-learn classifier of signals: a neural net, or a classifier that is not trained in epochs.

    Signals are (sample, position), (sample, channel, position) or (…, row, column).

    model: a short name in `wavefold.models.MODELS` or `CLASSIFIERS` ("kernels", "lightgbm", ...), or a net class whose
        constructor takes channels, length (or rows, columns) and classes; model_options: its further arguments. "auto" is
        net1, or net6 for samples of fewer than 36 positions.
    prepare: steps by short name, in order, with options as in {"step": "noise", "sigma": 0.01}: transforms and balancers are
        fitted on the training part; augmentations and mixers are drawn anew for each sample and epoch.
    loss, loss_options: of `training.losses.LOSSES`. epochs, batch_size ("auto": 128, smaller for few samples), learning_rate,
        optimiser, weight_decay, schedule: as in a recipe's stage. average: span of the weight average in epochs.
    validation_fraction: share of samples that `fit` uses for validation: the weights of the epoch with the best metric `best`
        are kept; patience is the number of epochs without improvement before stopping (0: no limit); calibrate
        ("temperature", "none") calibrates the probabilities.
    class_weight: None, "balanced", or a number for each class, which weights the loss. warm_start: fit continues from the
        existing weights. device: "auto", "cpu", "cuda". random_state: the same integer gives the same weights.

    A classifier that is not trained in epochs uses only model, prepare, validation_fraction, calibrate and random_state.
    """

    def __init__(
        self,
        model: NetName = "auto",
        *,
        model_options: Mapping[str, Any] | None = None,
        prepare: Sequence[Step] = ("standardise",),
        loss: str = "cross_entropy",
        loss_options: Mapping[str, Any] | None = None,
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

    def fit(
        self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """Train on signals and their classes.

        X: (sample, position), (sample, channel, position) or (sample, channel, row, column). y: (sample,). sample_weight:
        (sample,) weights in the loss; samples of weight 0 are left out. groups: (sample,) groups that are never split between
        the training and validation parts.
        """
        with as_value_errors(), isolated_rng():
            self._check_parameters()
            signals, labels, weights, names = self._read(X, y, sample_weight, groups)
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            learned, back = validation_split(labels, float(self.validation_fraction), names, seed)
            part_weights = None if weights is None else weights[learned] / weights[learned].mean()
            part = prepared_part(self.prepare, signals[learned], labels[learned], part_weights, seed=seed)
            self.prepare_ = part.transforms
            validation = taken(part.transforms, signals[back]), labels[back], None if weights is None else weights[back]
            self.shape_ = signals.shape[1:]
            self._learn(part, validation, seed)
            self.calibration_ = self._calibrated(validation)
            self.temperature_ = float(getattr(self.calibration_, "temperature", 1.0))
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of each sample, (sample,)."""
        probabilities = self.predict_proba(X)
        predicted: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return predicted

    def predict_proba(self, X: ArrayLike) -> Values:
        """Calibrated probabilities, (sample, class), with classes in the order of `classes_`."""
        check_is_fitted(self)
        with as_value_errors():
            signals = self._signals(validate_data(self, X, reset=False, **_READ))
            if signals.shape[1:] != self.shape_:
                raise BadValue(
                    f"X: a sample is {shape_words(signals.shape[1:])}; expected {shape_words(self.shape_)}, as in fit"
                )
            predicted = self.net_.probabilities(taken(self.prepare_, signals), inference_device(self.device))
            probabilities: Values = self.calibration_.apply(predicted)
        return probabilities

    def decision_function(self, X: ArrayLike) -> Values:
        """Logarithms of the probabilities, (sample, class); for two classes the log odds of the second, (sample,)."""
        logs: Values = np.log(np.maximum(self.predict_proba(X), _SMALLEST))
        return logs if logs.shape[1] > 2 else logs[:, 1] - logs[:, 0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _check_parameters(self) -> None:
        need_parameters(self, _PARAMETERS)
        for table, name in ((OPTIMISERS, "optimiser"), (SCHEDULES, "schedule"), (METRICS, "best"), (CALIBRATIONS, "calibrate")):
            pick(table, getattr(self, name), name)
        if isinstance(self.model, str):
            pick({"auto": None, **MODELS, **CLASSIFIERS}, self.model, "model")

    def _read(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, groups: ArrayLike | None
    ) -> tuple[Floats, Ints, Floats | None, NDArray[Any] | None]:
        """Signals, class numbers, weights and groups of the samples with non-zero weight; sets `classes_`."""
        values, words = validate_data(self, X, y, **_READ)
        check_classification_targets(words)
        weights = self._weights(sample_weight, words)
        check_consistent_length(values, groups)
        names = None if groups is None else np.asarray(groups)
        signals = self._signals(values)
        if weights is not None:
            counts = weights > 0
            signals, words, weights, names = signals[counts], words[counts], weights[counts], _at(names, counts)
        self.classes_, labels = np.unique(words, return_inverse=True)
        if len(self.classes_) < 2:
            raise BadValue(f"SignalClassifier: y has {plural(len(self.classes_), 'class', 'classes')}; it must have at least 2")
        return signals, labels.astype(np.int64), weights, names

    def _weights(self, sample_weight: ArrayLike | None, words: NDArray[Any]) -> Floats | None:
        """The sample weights, (sample,); None if all are equal."""
        if sample_weight is None and self.class_weight is None:
            return None
        weights = np.ones(len(words)) if sample_weight is None else np.asarray(sample_weight, np.float64)
        if weights.ndim != 1 or len(weights) != len(words):
            raise BadValue(f"sample_weight: shape {weights.shape}; expected ({len(words)},), one number per sample")
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise BadValue("sample_weight: contains a number that is negative or not finite; expected 0 or more")
        if not weights.any():
            raise BadValue("sample_weight: every weight is zero; expected at least one above 0")
        if self.class_weight is not None:
            counted = weights > 0
            weights[counted] *= compute_sample_weight(self.class_weight, words[counted])
        return weights.astype(np.float32)

    def _signals(self, values: NDArray[Any]) -> Floats:
        """Values as signals (sample, channel, ...); copied if they are read-only."""
        if values.ndim > 4:
            raise BadValue(f"X: {values.ndim} axes; expected (sample, position), (sample, channel, position) or four axes")
        signals: Floats = np.ascontiguousarray(values if values.ndim > 2 else values[:, None])
        return signals if signals.flags.writeable else signals.copy()

    def _learn(self, part: TrainingPart, validation: _Validation, seed: int) -> None:
        """Fit the model on the training part; sets `net_`, `history_` and `n_iter_`."""
        if isinstance(self.model, str) and self.model in CLASSIFIERS:
            self.net_: Fitted = self._fit_whole(part, seed)
            self.history_: list[dict[str, Any]] = []
        else:
            self.net_, self.history_ = self._taught(part, validation, seed)
        self.n_iter_ = max(1, len(self.history_))

    def _fit_whole(self, part: TrainingPart, seed: int) -> FittedClassifier:
        assert isinstance(self.model, str)
        if part.weights is not None:
            raise BadValue(f"sample_weight: '{self.model}' accepts neither sample_weight nor class_weight; nets do")
        classifier = build_part(CLASSIFIERS, self.model, self.model_options or {}, "model", seed=seed)
        classifier.fit(part.signals, part.labels, len(self.classes_))
        return FittedClassifier(self.model, classifier)

    def _taught(self, part: TrainingPart, validation: _Validation, seed: int) -> tuple[FittedNet, list[dict[str, Any]]]:
        device, shape, classes = training_device(self.device), part.signals.shape[1:], len(self.classes_)
        model, options = _net_for(self.model, shape), dict(self.model_options or {})
        seed_step(seed)
        net = self._earlier() or new_net(model, options, shape, classes)
        signals, labels = (torch.from_numpy(values).to(device) for values in (part.signals, part.labels))
        weights = None if part.weights is None else torch.from_numpy(part.weights).to(device)
        rows = torch.arange(len(labels), device=device)
        changes = random_changes(self.prepare, shape, classes)
        source = TrainingSet(signals, labels, rows, EachOnce(len(labels), self._size(len(labels))), changes, classes, weights)
        counts = torch.from_numpy(np.bincount(part.labels, minlength=classes))
        loss = build_part(LOSSES, self.loss, self.loss_options or {}, "loss", counts=counts).to(device)
        stage = new_stage(self, 0, loss, self.best, higher_is_better=METRICS[self.best].higher_is_better, key=seed)
        check = _checker(validation, self.best)
        state = fit_net(net.to(device), source, check, [stage], file=Nowhere(), watch=Silent(), measure=True)
        ours = isinstance(model, str)
        if ours:
            options.pop("pretrained", None)  # the state dict holds all weights
        return FittedNet(partial(new_net, model, options, shape, classes), net.state_dict(), exact=ours), state.history

    def _earlier(self) -> nn.Module | None:
        """The net of an earlier fit to continue from, if there is one and warm_start is set."""
        net = getattr(self, "net_", None)
        return net.as_taught() if self.warm_start and isinstance(net, FittedNet) else None

    def _size(self, samples: int) -> int:
        if self.batch_size != "auto":
            return int(self.batch_size)
        return int(np.clip(samples // _STEPS, *_BATCHES))

    def _calibrated(self, validation: _Validation) -> Any:
        """The calibration, fitted on the validation part; without one, probabilities are unchanged."""
        signals, labels, weights = validation
        if not len(labels):
            return CALIBRATIONS["none"]()
        rows = np.arange(len(labels)) if weights is None else _as_often(weights)
        predicted = self.net_.probabilities(signals, inference_device(self.device))
        return CALIBRATIONS[self.calibrate]().fit(predicted[rows], labels[rows])


_READ: dict[str, Any] = {"dtype": np.float32, "allow_nd": True}
_Validation = tuple[Floats, Ints, Floats | None]  # signals, labels, weights


def _checker(validation: _Validation, best: str) -> Callable[[nn.Module], dict[str, float]]:
    """The check after each epoch: weighted metrics of a model on the validation part."""
    signals, labels, weights = validation
    names = dict.fromkeys(("log-loss", "accuracy", best))
    counted = np.ones((1, len(labels))) if weights is None else weights[None].astype(np.float64)

    def check(model: nn.Module) -> dict[str, float]:
        if not len(labels):
            return {}
        predicted = predict_all(model, Softmax(), signals)
        return {name: float(METRICS[name].weighted(predicted, labels)(counted)[0]) for name in names}

    return check


def _as_often(weights: Floats) -> Ints:
    """Repeat rows in proportion to their weights, evenly spread; the number of rows stays the same."""
    ends = np.cumsum(weights, dtype=np.float64)
    rows: Ints = np.searchsorted(ends, ends[-1] * (np.arange(len(weights)) + 0.5) / len(weights))
    return rows


def _net_for(model: NetName, shape: Sequence[int]) -> NetName:
    """The net selected by "auto". shape: (channel, ..., position) of a sample."""
    if model != "auto":
        return model
    return "net1" if shape[-1] >= _LONG else "net6"


def _at(values: NDArray[Any] | None, index: NDArray[np.bool_]) -> NDArray[Any] | None:
    return None if values is None else values[index]
