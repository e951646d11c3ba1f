"""A scikit-learn regressor of signals, built from the same nets, steps and training loop as recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import Tags

from wavefold.core.errors import plural
from wavefold.estimators.base import SignalEstimator
from wavefold.estimators.errors import BadValue
from wavefold.estimators.fitted import NetName
from wavefold.estimators.parameters import BATCH, LEARNING, NAME, SWITCH
from wavefold.estimators.steps import Step
from wavefold.estimators.targets import Target
from wavefold.tasks.samples.kinds import LossChoice, Reals, Truth, Values

_PARAMETERS = {
    **LEARNING,
    "batch_size": BATCH,
    "best": NAME,
    "calibrate": NAME,
    "allow_missing": SWITCH,
    "warm_start": SWITCH,
}


class SignalRegressor(RegressorMixin, SignalEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A scikit-learn regressor of signals: kernel features with ridge regression, a neural net, or another regressor.

    Signals are as in `SignalClassifier`; y is (sample,) or (sample, target), in any units: it is standardised by the mean and
    standard deviation of the training part. Where not described here, parameters are those of `SignalClassifier`.

    model: a short name in `wavefold.models.MODELS` or `REGRESSORS` ("kernels", "pca_ridge"), a net class, or "auto", kernels
        or a net as in `SignalClassifier`.
    prepare: transforms and augmentations; balancers and mixers need classes.
    loss, loss_options: of `training.regression_losses.REGRESSION_LOSSES`. "gaussian" and "quantile" learn a standard deviation
        for each sample; with the others it is the same for all.
    best: the validation metric that chooses the weights, such as "r2" or "mae"; with several targets "r2", "nrmse", "rmse-0".
    calibrate: "spread" multiplies each target's standard deviations by a number fitted on the validation part; "none".
    allow_missing: NaN in y is an unknown number, left out of its target only; samples without any number are left out.

    A regressor that is not trained in epochs uses only model, prepare, validation_fraction, calibrate, allow_missing and
    random_state, and "kernels" sample weights too.
    """

    _parameters = _PARAMETERS

    def __init__(
        self,
        model: NetName = "auto",
        *,
        model_options: Mapping[str, object] | None = None,
        prepare: Sequence[Step] | Literal["auto"] = "auto",
        loss: str = "huber",
        loss_options: Mapping[str, object] | None = None,
        epochs: int = 20,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float = 2e-3,
        optimiser: str = "adamw",
        weight_decay: float = 0.01,
        schedule: str = "one_cycle",
        average: float = 0.5,
        patience: int = 0,
        best: str = "r2",
        validation_fraction: float = 0.1,
        calibrate: str = "spread",
        allow_missing: bool = False,
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
        self.calibrate = calibrate
        self.allow_missing = allow_missing
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state

    def predict(self, X: ArrayLike, return_std: bool = False) -> Values | tuple[Values, Values]:
        """Predicted numbers, (sample,) or (sample, target) as y was in `fit`; with return_std also standard deviations."""
        means, deviations = np.split(self._predictions(X), 2, axis=1)
        if self.flat_:
            means, deviations = means[:, 0], deviations[:, 0]
        return (means, deviations) if return_std else means

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _reading(self) -> Mapping[str, object]:
        return {"dtype": np.float64, "ensure_all_finite": "allow-nan" if self.allow_missing else True}

    def _checked(self, y: NDArray[np.generic]) -> NDArray[np.generic]:
        """Numbers (sample, target)."""
        if np.isinf(y).any():
            raise BadValue("y: contains infinity; expected finite numbers, or NaN where unknown")
        self.flat_ = y.ndim == 1
        return y[:, None] if self.flat_ else y

    def _weights(self, sample_weight: ArrayLike | None, y: NDArray[np.generic]) -> Values | None:
        """The sample weights, 0 where no number is known."""
        weights, unknown = super()._weights(sample_weight, y), np.isnan(y).all(axis=1)
        if not unknown.any():
            return weights
        return np.where(unknown, 0.0, 1.0 if weights is None else weights)

    def _target(self, y: NDArray[np.generic]) -> tuple[Target, Truth]:
        """Numbers, at least two samples of them."""
        if len(y) < 2:
            raise BadValue(f"SignalRegressor: y has {plural(len(y), 'sample')} with a number; it must have at least 2")
        shown = ("r2", "rmse", "mae") if y.shape[1] == 1 else ("r2", "nrmse")
        choice = LossChoice(self.loss, self.loss_options or {}, "loss")
        return Target(Reals(), y.shape[1], choice, shown), np.asarray(y, np.float64)
