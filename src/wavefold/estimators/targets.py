"""What an estimator learns: classes, several labels a sample, or numbers; with the losses, metrics and models of each.

Legend: N samples, K outputs (classes, labels or numbers). truth: (N,) class numbers, (N, K) 0 and 1, or (N, K) numbers, NaN
where unknown. Predictions (N, P) float64: K probabilities, or K means and then K standard deviations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from wavefold.core.errors import listed
from wavefold.core.registry import build_part
from wavefold.data.dataset import Floats
from wavefold.data.split import tenths
from wavefold.ensemble import CALIBRATIONS
from wavefold.ensemble.calibrate import NoCalibration, Temperature
from wavefold.ensemble.spread_scale import SpreadScale
from wavefold.estimators.errors import BadValue
from wavefold.evaluation.metric import Metric
from wavefold.evaluation.metrics import METRICS
from wavefold.evaluation.multilabel_metrics import MULTILABEL_METRICS
from wavefold.evaluation.regression_metrics import regression_metrics
from wavefold.models import CLASSIFIERS, LABELLERS, REGRESSORS
from wavefold.models.heads import Numbers, Sigmoid, Softmax
from wavefold.training.losses import LOSSES
from wavefold.training.multilabel_losses import MULTILABEL_LOSSES
from wavefold.training.regression_losses import REGRESSION_LOSSES

Truth = NDArray[Any]
Values = NDArray[np.float64]


class Target(ABC):
    """One kind of truth with K outputs, and the loss that it is learned by."""

    fitted: ClassVar[Mapping[str, type]]  # models that are fitted in one step
    losses: ClassVar[Mapping[str, Callable[..., nn.Module]]]
    calibrations: ClassVar[Mapping[str, Callable[[], Any]]]
    numbered: ClassVar[bool] = False  # whether each sample has one class, which some steps need

    def __init__(self, outputs: int, loss: str, options: Mapping[str, Any]) -> None:
        self.outputs, self.loss, self.options = outputs, loss, options

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics by name."""
        return METRICS

    @property
    def shown(self) -> tuple[str, ...]:
        """The metrics that the history always has."""
        return "log-loss", "accuracy"

    def strata(self, truth: Truth) -> Truth:
        """What a split balances: class numbers (N,), or 0 and 1 (N, K)."""
        return truth

    def scaled(self, truth: Truth) -> Self:
        """The target with what `learned` and `head` need of the training part's truth."""
        return self

    def learned(self, truth: Truth) -> Truth:
        """The truth as the losses take it."""
        return truth

    @abstractmethod
    def new_loss(self, truth: Truth) -> nn.Module:
        """Build the loss. truth: of the training part."""

    def width(self) -> int:
        """Values that a net returns for a sample."""
        return self.outputs

    @abstractmethod
    def head(self) -> nn.Module:
        """From what a net returns to predictions."""

    def ask(self, model: Any, signals: Floats) -> Values:
        """Predictions of a model that was fitted in one step. signals: (N, channel, ...)."""
        predictions: Values = model.predict(signals)
        return predictions

    def _built(self, name: str, options: Mapping[str, Any], **given: Any) -> Any:
        return build_part(self.losses, name, options, "loss", **given)


class Classes(Target):
    """One class of K for each sample."""

    fitted, losses, calibrations = CLASSIFIERS, LOSSES, CALIBRATIONS
    numbered = True

    def new_loss(self, truth: Truth) -> nn.Module:
        """A loss from the class counts."""
        counts = torch.from_numpy(np.bincount(truth, minlength=self.outputs))
        loss: nn.Module = self._built(self.loss, self.options, counts=counts)
        return loss

    def head(self) -> nn.Module:
        """Logits to probabilities that sum to 1."""
        return Softmax()

    def ask(self, model: Any, signals: Floats) -> Values:
        """Class probabilities of a classifier."""
        probabilities: Values = model.probabilities(signals)
        return probabilities


class LabelTemperature(Temperature):
    """One temperature for the odds of all labels. probabilities and labels: (N, K)."""

    def fit(self, probabilities: ArrayLike, labels: ArrayLike) -> Self:
        """Fit it on samples that the model was not trained on."""
        return super().fit(_as_pairs(probabilities), np.asarray(labels).reshape(-1))

    def apply(self, probabilities: ArrayLike) -> Values:
        """The calibrated probabilities, (N, K)."""
        return super().apply(_as_pairs(probabilities))[:, 1].reshape(np.shape(probabilities))


class Labels(Target):
    """Any of K labels for each sample. "cross_entropy" stands for the binary one; balanced: positives weigh as negatives do."""

    fitted, losses = LABELLERS, MULTILABEL_LOSSES
    calibrations: ClassVar[Mapping[str, Callable[[], Any]]] = {"none": NoCalibration, "temperature": LabelTemperature}

    def __init__(self, outputs: int, loss: str, options: Mapping[str, Any], *, balanced: bool) -> None:
        name = "bce" if loss == "cross_entropy" else loss
        if balanced and name != "bce":
            raise BadValue(f"class_weight: 'balanced' weights the loss 'bce' of a label matrix, not '{loss}'; set it to None")
        super().__init__(outputs, name, {**options, "pos_weight": "balanced"} if balanced else options)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Metrics of label probabilities."""
        return MULTILABEL_METRICS

    def new_loss(self, truth: Truth) -> nn.Module:
        """A loss from the positives of each label."""
        counts = torch.from_numpy(truth.sum(axis=0).astype(np.int64))
        loss: nn.Module = self._built(self.loss, self.options, counts=counts, samples=len(truth))
        return loss

    def head(self) -> nn.Module:
        """Logits to the probability of each label."""
        return Sigmoid()


class Reals(Target):
    """K numbers for each sample, standardised with mean and deviation (K,) of the training part."""

    fitted, losses = REGRESSORS, REGRESSION_LOSSES
    calibrations: ClassVar[Mapping[str, Callable[[], Any]]] = {"none": NoCalibration, "spread": SpreadScale}
    mean: Values
    deviation: Values

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Errors, r2 and coverage; those of target 3 of several end in -3."""
        every = regression_metrics([str(number) for number in range(self.outputs)])
        return {name: metric for name, metric in every.items() if metric.ranks}

    @property
    def shown(self) -> tuple[str, ...]:
        """r2, and errors of one target in its unit."""
        return ("r2", "rmse", "mae") if self.outputs == 1 else ("r2", "nrmse")

    def strata(self, truth: Truth) -> Truth:
        """Tenths of the first target."""
        return tenths(truth[:, 0])

    def scaled(self, truth: Truth) -> Self:
        """With mean and standard deviation of the known numbers; BadValue if a target has none."""
        known = ~np.isnan(truth)
        if not known.any(axis=0).all():
            lacking = np.flatnonzero(~known.any(axis=0))
            raise BadValue(f"y: no known number of target {listed(lacking.tolist())} in the training part; leave it out")
        deviation = np.nanstd(truth, axis=0)
        self.mean, self.deviation = np.nanmean(truth, axis=0), np.where(deviation > 0, deviation, 1.0)
        return self

    def learned(self, truth: Truth) -> Truth:
        """Standardised numbers."""
        return ((truth - self.mean) / self.deviation).astype(np.float32)

    def new_loss(self, truth: Truth | None = None) -> nn.Module:
        """A loss of standardised numbers."""
        loss: nn.Module = self._built(self.loss, self.options, targets=self.outputs)
        return loss

    def width(self) -> int:
        """One to three values for each number, as the loss needs."""
        loss: Any = self.new_loss()
        return self.outputs * int(loss.outputs_per_target)

    def head(self) -> nn.Module:
        """Standardised outputs to means and standard deviations in the numbers' units."""
        loss: Any = self.new_loss()
        return Numbers(loss.predictions, self.mean.tolist(), self.deviation.tolist())


def _as_pairs(probabilities: ArrayLike) -> Values:
    """Each label on its own as two classes: (N, K) to (N K, 2)."""
    present = np.asarray(probabilities, np.float64).reshape(-1)
    return np.stack([1 - present, present], axis=1)
