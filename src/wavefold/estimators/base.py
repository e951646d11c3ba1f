"""What estimators of signals share: reading X, y and weights, preparing, training with a validation part, calibrating."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from wavefold.core.device import seed_step
from wavefold.core.registry import pick
from wavefold.data.dataset import Floats, Ints, shape_words
from wavefold.ensemble.calibrate import NoCalibration
from wavefold.ensemble.parts import Calibration
from wavefold.estimators.errors import BadValue, as_value_errors
from wavefold.estimators.fitted import Fitted, FittedAtOnce, FittedNet, NetName, new_net
from wavefold.estimators.parameters import Wanted, need_parameters
from wavefold.estimators.steps import STEPS, Step, TrainingPart, named_steps, prepared_part, random_changes, taken
from wavefold.estimators.targets import Target
from wavefold.estimators.trainer import inference_device, isolated_rng, training_device
from wavefold.estimators.unequal import padded
from wavefold.estimators.validation_split import validation_split
from wavefold.models import MODELS
from wavefold.tasks.samples.kinds import Truth, Values
from wavefold.training.fit_net import Nowhere, Silent, fit_net, new_stage
from wavefold.training.loop import OPTIMISERS, SCHEDULES, predict_all
from wavefold.training.sampler import EachOnce, TrainingSet
from wavefold.transforms import AUGMENTATIONS, MIXERS

_STEPS = 16  # minimum steps per epoch, so that a few hundred samples suffice; limited by the batch sizes below
_BATCHES = (8, 128)
_SHORTEST, _LONG = 9, 36  # minimum number of positions for "auto" to choose kernels, and among nets net1
_OF_NETS = (  # parameters that only nets have
    *("loss", "loss_options", "epochs", "batch_size", "learning_rate", "optimiser", "weight_decay", "schedule", "average"),
    *("patience", "best", "warm_start"),
)
_READ: dict[str, object] = {"dtype": np.float32, "allow_nd": True}


@dataclass(frozen=True)
class Samples:
    """Samples of non-zero weight."""

    signals: Floats  # (sample, channel, ...)
    truth: Truth  # (sample,) or (sample, output)
    weights: Floats | None = None  # (sample,); None if all are equal
    groups: NDArray[np.generic] | None = None

    def at(self, rows: Ints | NDArray[np.bool_]) -> Samples:
        """Some of the samples."""
        weights = None if self.weights is None else self.weights[rows]
        groups = None if self.groups is None else self.groups[rows]
        return Samples(self.signals[rows], self.truth[rows], weights, groups)

    def rows(self) -> Ints:
        """Rows in proportion to their weights, evenly spread; as many as there are samples."""
        if self.weights is None:
            return np.arange(len(self.truth))
        ends = np.cumsum(self.weights, dtype=np.float64)
        rows: Ints = np.searchsorted(ends, ends[-1] * (np.arange(len(ends)) + 0.5) / len(ends))
        return rows


class SignalEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The base of `SignalClassifier` and `SignalRegressor`, which have the parameters."""

    model: NetName
    model_options: Mapping[str, object] | None
    prepare: Sequence[Step] | Literal["auto"]
    loss: str
    loss_options: Mapping[str, object] | None
    batch_size: int | Literal["auto"]
    best: str
    validation_fraction: float
    calibrate: str
    warm_start: bool
    device: Literal["auto", "cpu", "cuda"]
    random_state: int | np.random.RandomState | None

    _parameters: ClassVar[Mapping[str, Wanted]]

    def fit(
        self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """Train on signals and what is known of them.

        X: (sample, position), (sample, channel, position) or (sample, channel, row, column); or a list of arrays (position,) or
        (channel, position) of unequal length, which zeros fill at the end. y: (sample,) or (sample, output).
        sample_weight: (sample,) weights in the loss; samples of weight 0 are left out. groups: (sample,) groups that are never
        split between the training and validation parts.
        """
        with as_value_errors(), isolated_rng():
            need_parameters(self, self._parameters)
            target, samples = self._read(X, y, sample_weight, groups)
            self._check_names(target)
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            self.model_ = self._chosen(target, samples.signals.shape[1:])
            fraction = 0.0 if self._calibrates_itself(target) else float(self.validation_fraction)
            learned, back = validation_split(target.kind.strata(samples.truth), fraction, samples.groups, seed)
            steps = self._steps()
            part = prepared_part(steps, *_weighed(samples.at(learned)), seed=seed, numbered=target.kind.numbered)
            self.prepare_, held = part.transforms, samples.at(back)
            validation = Samples(taken(self.prepare_, held.signals), held.truth, held.weights)
            earlier = self._earlier(target, samples.signals.shape[1:])
            self.target_, self.shape_ = target.scaled(part.truth), samples.signals.shape[1:]
            self._learn(part, validation, earlier, seed)
            self._calibrate(validation)
        return self

    def _predictions(self, X: ArrayLike) -> Values:
        """Calibrated predictions, (sample, P)."""
        check_is_fitted(self)
        with as_value_errors():
            array = padded(X, self.shape_[-1])
            signals = _signals(validate_data(self, array, reset=False, **_READ))
            if signals.shape[1:] != self.shape_:
                raise BadValue(
                    f"X: a sample is {shape_words(signals.shape[1:])}; expected {shape_words(self.shape_)}, as in fit"
                )
            values: Values = self.calibration_.apply(self._raw(taken(self.prepare_, signals)))
        return values

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _reading(self) -> Mapping[str, object]:
        """How scikit-learn's `check_array` reads y."""
        return {"dtype": None}

    @abstractmethod
    def _checked(self, y: NDArray[np.generic]) -> NDArray[np.generic]:
        """What y is, as (sample,) or (sample, output); BadValue if it cannot be learned."""

    @abstractmethod
    def _target(self, y: NDArray[np.generic]) -> tuple[Target, Truth]:
        """The kind of target and the truth of the samples of non-zero weight."""

    def _weights(self, sample_weight: ArrayLike | None, y: NDArray[np.generic]) -> Values | None:
        """The sample weights, (sample,); None if all are equal."""
        if sample_weight is None:
            return None
        weights = np.array(sample_weight, np.float64)
        if weights.shape != (len(y),):
            raise BadValue(f"sample_weight: shape {weights.shape}; expected ({len(y)},), one number per sample")
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise BadValue("sample_weight: contains a number that is negative or not finite; expected 0 or more")
        if not weights.any():
            raise BadValue("sample_weight: every weight is zero; expected at least one above 0")
        return weights

    def _read(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, groups: ArrayLike | None
    ) -> tuple[Target, Samples]:
        """The target and the samples of non-zero weight."""
        read = {"ensure_2d": False, "accept_sparse": "csr", **self._reading()}
        values, given = validate_data(self, padded(X), y, validate_separately=(_READ, read))
        known = self._checked(given.toarray() if hasattr(given, "toarray") else given)
        check_consistent_length(values, known, groups)
        weights = self._weights(sample_weight, known)
        signals, names = _signals(values), None if groups is None else np.asarray(groups)
        if weights is None:
            target, truth = self._target(known)
            return target, Samples(signals, truth, groups=names)
        counted = weights > 0
        target, truth = self._target(known[counted])
        some, names = weights[counted].astype(np.float32), None if names is None else names[counted]
        return target, Samples(signals[counted], truth, some if np.ptp(some) else None, names)

    def _check_names(self, target: Target) -> None:
        tables: dict[str, Mapping[str, object]] = {"optimiser": OPTIMISERS, "schedule": SCHEDULES}
        tables |= {"best": target.metrics, "calibrate": target.kind.parts.calibrations}
        for name, table in tables.items():
            pick(table, getattr(self, name), name)
        if isinstance(self.model, str):
            pick(dict.fromkeys(("auto", *MODELS, *target.kind.fitted)), self.model, "model")

    def _earlier(self, target: Target, shape: Sequence[int]) -> nn.Module | None:
        """The net of an earlier fit to continue from, if there is one and warm_start is set."""
        net = getattr(self, "net_", None)
        if not self.warm_start or not isinstance(net, FittedNet):
            return None
        if type(target.kind) is not type(self.target_.kind) or target.width() != self.target_.width() or shape != self.shape_:
            raise BadValue("warm_start: X or y has another shape or other classes than in the fit before; set it to False")
        return net.as_taught()

    def _learn(self, part: TrainingPart, validation: Samples, earlier: nn.Module | None, seed: int) -> None:
        """Fit the model on the training part; sets `net_`, `history_` and `n_iter_`."""
        if self.model_ in self.target_.kind.fitted:
            self.net_: Fitted = self._fit_at_once(part, seed)
            self.history_: list[dict[str, float]] = []
        else:
            self.net_, self.history_ = self._taught(part, validation, earlier, seed)
        self.n_iter_ = max(1, len(self.history_))

    def _chosen(self, target: Target, shape: Sequence[int]) -> NetName:
        """The model that "auto" stands for: kernels, unless they cannot be, or an option is set that only nets have."""
        if self.model != "auto":
            return self.model
        usual = inspect.signature(type(self)).parameters
        set_ones = any(getattr(self, name) != usual[name].default for name in _OF_NETS)
        for_nets = set_ones or self._has_random_steps() or self._weighs_labels(target)
        if not for_nets and len(shape) == 2 and shape[-1] >= _SHORTEST:
            return "kernels"
        return "net1" if shape[-1] >= _LONG else "net6"

    def _has_random_steps(self) -> bool:
        """Whether a step is drawn anew in each epoch, which only nets have."""
        if isinstance(self.prepare, str):
            return False
        return any(name in AUGMENTATIONS or name in MIXERS for _, name, _ in named_steps(self.prepare, STEPS))

    def _weighs_labels(self, target: Target) -> bool:
        """Whether classes of a label matrix are weighted, which only the loss of nets can do."""
        return getattr(self, "class_weight", None) is not None and not target.kind.numbered

    def _calibrates_itself(self, target: Target) -> bool:
        """Whether the model needs no samples held back to calibrate it."""
        fitted = target.kind.fitted.get(self.model_) if isinstance(self.model_, str) else None
        return getattr(fitted, "calibrated", False)

    def _steps(self) -> Sequence[Step]:
        """The preparation: by default nets and kernels keep the shape of each channel; others standardise each position."""
        if self.prepare != "auto":
            return self.prepare
        if self.model_ == "kernels" or self.model_ in MODELS or not isinstance(self.model_, str):
            return [{"step": "standardise", "per": "channel", "centre": self.model_ != "kernels"}]
        return ["standardise"]

    def _fit_at_once(self, part: TrainingPart, seed: int) -> FittedAtOnce:
        name = str(self.model_)
        model = self.target_.kind.new_fitted(name, self.model_options or {}, "model", seed)
        fit: Callable[..., object] = model.fit
        if self._weighs_labels(self.target_):
            raise BadValue(f"class_weight: '{name}' accepts none with a label matrix; nets do")
        weighted = part.weights is not None or getattr(self, "class_weight", None) is not None
        if weighted and "weights" not in inspect.signature(fit).parameters:
            raise BadValue(f"sample_weight: '{name}' accepts neither sample_weight nor class_weight; 'kernels' and nets do")
        given = {} if part.weights is None else {"weights": part.weights}
        fit(part.signals, part.truth, self.target_.outputs, **given)
        return FittedAtOnce(name, model, self.target_.kind)

    def _taught(
        self, part: TrainingPart, validation: Samples, earlier: nn.Module | None, seed: int
    ) -> tuple[FittedNet, list[dict[str, float]]]:
        device, shape, target = training_device(self.device), part.signals.shape[1:], self.target_
        model, options = self.model_, dict(self.model_options or {})
        seed_step(seed)
        net = earlier or new_net(model, options, shape, target.width())
        source = self._source(part, device)
        loss = target.new_loss(part.truth).to(device)
        metric = target.metrics[self.best]
        stage = new_stage(self, 0, loss, self.best, higher_is_better=metric.higher_is_better, key=seed)
        check = _checker(validation, target, self.best)
        state = fit_net(net.to(device), source, check, [stage], file=Nowhere(), watch=Silent(), measure=True)
        ours = isinstance(model, str)
        if ours:
            options.pop("pretrained", None)  # the state dict holds all weights
        return FittedNet(partial(new_net, model, options, shape, target.width()), net.state_dict(), exact=ours), state.history

    def _source(self, part: TrainingPart, device: torch.device) -> TrainingSet:
        target = self.target_
        learned = target.kind.learned(part.truth, target.scaling)
        signals, truth = (torch.from_numpy(values).to(device) for values in (part.signals, learned))
        weights = None if part.weights is None else torch.from_numpy(part.weights).to(device)
        count, rows = len(truth), torch.arange(len(truth), device=device)
        size = int(np.clip(count // _STEPS, *_BATCHES)) if self.batch_size == "auto" else int(self.batch_size)
        changes = random_changes(self._steps(), part.signals.shape[1:], target.outputs)
        return TrainingSet(signals, truth, rows, EachOnce(count, size), changes, target.outputs, weights)

    def _raw(self, prepared: Floats) -> Values:
        """Predictions before calibration. prepared: signals as the net takes them."""
        return self.net_.predict(prepared, self.target_.head(), inference_device(self.device))

    def _calibrate(self, validation: Samples) -> None:
        """Fit the calibration on the validation part; without one, predictions are unchanged. Sets `calibration_`."""
        self.calibration_: Calibration = NoCalibration()
        if len(validation.truth):
            rows = validation.rows()
            made = self.target_.kind.parts.calibrations[self.calibrate]()
            self.calibration_ = made.fit(self._raw(validation.signals)[rows], validation.truth[rows])


def _checker(validation: Samples, target: Target, best: str) -> Callable[[nn.Module], dict[str, float]]:
    """The check after each epoch: weighted metrics of a model on the validation part."""
    truth, metrics = validation.truth, target.metrics
    names = dict.fromkeys((*target.shown, best))
    counted = np.ones((1, len(truth))) if validation.weights is None else validation.weights[None].astype(np.float64)

    def check(model: nn.Module) -> dict[str, float]:
        if not len(truth):
            return {}
        predicted = predict_all(model, target.head(), validation.signals)
        return {name: float(metrics[name].weighted(predicted, truth)(counted)[0]) for name in names}

    return check


def _signals(values: NDArray[np.generic]) -> Floats:
    """Values as signals (sample, channel, ...); copied if they are read-only."""
    if values.ndim > 4:
        raise BadValue(f"X: {values.ndim} axes; expected (sample, position), (sample, channel, position) or four axes")
    signals: Floats = np.ascontiguousarray(values if values.ndim > 2 else values[:, None])
    return signals if signals.flags.writeable else signals.copy()


def _weighed(samples: Samples) -> tuple[Floats, Truth, Floats | None]:
    """Signals, truth and weights of mean 1."""
    weights = None if samples.weights is None else samples.weights / samples.weights.mean()
    return samples.signals, samples.truth, weights
