"""Kinds of truth: how classes, labels and numbers are learned and measured, in recipes' tasks and in estimators alike.

Legend: N samples, K outputs (classes, labels, or numbers to predict), P columns of a prediction. truth: what is known of the
samples: class numbers (N,), 0 and 1 (N, K), or numbers (N, K), NaN where unknown. Predictions are (N, P) float64. This file
knows no recipe, page or server, which estimators do without.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wavefold.core.errors import UserError
from wavefold.core.registry import build_part
from wavefold.data.dataset import Floats, Ints, Signals
from wavefold.data.split import tenths
from wavefold.ensemble import CLASSIFYING
from wavefold.ensemble.calibrate import NoCalibration
from wavefold.ensemble.combine import EnsembleParts
from wavefold.ensemble.decide import keep_probabilities
from wavefold.ensemble.mixture import Mixture
from wavefold.ensemble.spread_scale import SpreadScale
from wavefold.ensemble.stack_numbers import StackNumbers
from wavefold.ensemble.thresholds import LabelThresholds
from wavefold.ensemble.vote import Mean
from wavefold.evaluation.metric import Metric
from wavefold.evaluation.metrics import METRICS
from wavefold.evaluation.multilabel_metrics import MULTILABEL_METRICS
from wavefold.evaluation.regression_metrics import regression_metrics
from wavefold.models import CLASSIFIERS, LABELLERS, REGRESSORS
from wavefold.models.heads import Numbers, Sigmoid, Softmax
from wavefold.training.losses import LOSSES
from wavefold.training.multilabel_losses import MULTILABEL_LOSSES
from wavefold.training.regression_losses import REGRESSION_LOSSES, MeanSquared, RegressionLoss

Truth = NDArray[np.number]
Values = NDArray[np.float64]
State = Mapping[str, Values]


class LossChoice(NamedTuple):
    """A loss by its short name. place: where it was chosen, for errors."""

    name: str
    options: Mapping[str, object]
    place: str


class AtOnce(Protocol):
    """A model that is fitted in one step."""

    def fit(self, signals: Signals, truth: Truth, outputs: int) -> object:
        """Fit on prepared signals (N, channel, ...)."""

    def save(self, folder: Path) -> None:
        """Write its files."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The model that `save` wrote."""


class Kind(ABC):
    """One kind of truth."""

    losses: Mapping[str, Callable[..., nn.Module]]
    fitted: Mapping[str, type[AtOnce]]  # models fitted in one step
    predict_method: str = "predict"  # of those models: signals to predictions
    parts: EnsembleParts
    numbered: bool = False  # whether each sample has one class, which the reader numbers and some steps need

    @abstractmethod
    def loss(self, choice: LossChoice, truth: Truth, count: int) -> nn.Module:
        """Build a loss. truth: of the training part; count: K."""

    @abstractmethod
    def head(self, losses: Sequence[LossChoice], count: int, scaling: State) -> nn.Module:
        """From what a net returns to predictions, (N, P) float64. losses: of the net's stages."""

    @abstractmethod
    def metrics(self, names: Sequence[str], units: Sequence[str] = ()) -> Mapping[str, Metric]:
        """The metrics by name. names, units: of the outputs."""

    def strata(self, truth: Truth) -> Ints:
        """What a split balances over its parts: class numbers (N,), or 0 and 1 for each label (N, K)."""
        return np.asarray(truth, np.int64)

    def width(self, losses: Sequence[LossChoice], count: int) -> int:
        """Values that a net has to return for K outputs. losses: of its stages."""
        return count

    def columns(self, count: int) -> int:
        """Columns P of a prediction of K outputs."""
        return count

    def scaling(self, truth: Truth) -> State:
        """Statistics of the training part's truth that `learned` and `head` need; saved with the fold."""
        return {}

    def learned(self, truth: Truth, scaling: State) -> Truth:
        """The truth as losses take it."""
        return truth

    def new_fitted(self, model: str, options: Mapping[str, object], place: str, seed: int) -> AtOnce:
        """Build a model that is fitted in one step."""
        fitted: AtOnce = build_part(self.fitted, model, options, place, seed=seed)
        return fitted

    def ask(self, fitted: AtOnce, signals: Floats) -> Values:
        """Predictions of a model that was fitted in one step."""
        values: Values = getattr(fitted, self.predict_method)(signals)
        return values


class Classes(Kind):
    """One class for each sample. truth: class numbers (N,); predictions: probabilities (N, class)."""

    losses = LOSSES
    fitted = CLASSIFIERS
    predict_method = "probabilities"
    parts = CLASSIFYING
    numbered = True

    def loss(self, choice: LossChoice, truth: Truth, count: int) -> nn.Module:
        """A classifier's loss, from the counts of the classes."""
        counts = torch.from_numpy(np.bincount(np.asarray(truth, np.int64), minlength=count))
        loss: nn.Module = build_part(self.losses, *choice, counts=counts)
        return loss

    def head(self, losses: Sequence[LossChoice], count: int, scaling: State) -> nn.Module:
        """Logits to probabilities that sum to 1."""
        return Softmax()

    def metrics(self, names: Sequence[str], units: Sequence[str] = ()) -> Mapping[str, Metric]:
        """Metrics of class probabilities."""
        return METRICS


def over_half(probabilities: Values) -> Values:
    """1 where a label is more likely than not, else 0; both (N, L)."""
    return (np.asarray(probabilities) > 0.5).astype(np.float64)


class Labels(Kind):
    """Any number of labels for each sample. truth: 0 and 1 (N, label); predictions: probabilities (N, label)."""

    losses = MULTILABEL_LOSSES
    fitted = LABELLERS
    parts = EnsembleParts(
        {"mean": Mean},
        {"none": NoCalibration},
        {"probabilities": keep_probabilities, "half": over_half, "thresholds": LabelThresholds},
    )

    def loss(self, choice: LossChoice, truth: Truth, count: int) -> nn.Module:
        """A loss from the number of samples with each label."""
        counts = torch.from_numpy(truth.sum(axis=0).astype(np.int64))
        loss: nn.Module = build_part(self.losses, *choice, counts=counts, samples=len(truth))
        return loss

    def head(self, losses: Sequence[LossChoice], count: int, scaling: State) -> nn.Module:
        """Logits to the probability of each label."""
        return Sigmoid()

    def metrics(self, names: Sequence[str], units: Sequence[str] = ()) -> Mapping[str, Metric]:
        """Metrics of label probabilities and decisions."""
        return MULTILABEL_METRICS


class Reals(Kind):
    """Numbers for each sample. truth: (N, T), NaN where unknown; predictions: means and standard deviations (N, 2 T)."""

    losses = REGRESSION_LOSSES
    fitted = REGRESSORS
    parts = EnsembleParts(
        {"mean": Mixture, "stack": StackNumbers},
        {"none": NoCalibration, "spread": SpreadScale},
        {"probabilities": keep_probabilities},
    )

    def strata(self, truth: Truth) -> Ints:
        """Tenths of the first number, its gaps a stratum of their own; one stratum for few samples."""
        return tenths(truth[:, 0])

    def loss(self, choice: LossChoice, truth: Truth, count: int) -> nn.Module:
        """A loss of standardised numbers."""
        loss: nn.Module = build_part(self.losses, *choice, targets=count)
        return loss

    def last_loss(self, losses: Sequence[LossChoice], count: int) -> RegressionLoss:
        """The loss of the last stage, whose outputs the net has; UserError if another stage needs a net of another width."""
        built = [build_part(REGRESSION_LOSSES, *choice, targets=count) for choice in losses]
        if len({loss.outputs_per_target for loss in built}) > 1:
            raise UserError(
                "stage: the losses of the stages need nets with different outputs; use one of mse, mae and huber in all, or "
                "gaussian in all, or quantile in all"
            )
        return built[-1] if built else MeanSquared(count)

    def width(self, losses: Sequence[LossChoice], count: int) -> int:
        """One to three values for each number, as the loss needs."""
        return count * self.last_loss(losses, count).outputs_per_target

    def head(self, losses: Sequence[LossChoice], count: int, scaling: State) -> nn.Module:
        """Standardised outputs to means and standard deviations in the numbers' units."""
        standardised = self.last_loss(losses, count).predictions
        return Numbers(standardised, scaling["mean"].tolist(), scaling["deviation"].tolist())

    def columns(self, count: int) -> int:
        """A mean and a standard deviation for each number."""
        return 2 * count

    def scaling(self, truth: Truth) -> State:
        """Mean and standard deviation of the training part, by number."""
        numbers = truth.astype(np.float64)
        deviation = np.nanstd(numbers, axis=0)
        return {"mean": np.nanmean(numbers, axis=0), "deviation": np.where(deviation > 0, deviation, 1.0)}

    def learned(self, truth: Truth, scaling: State) -> Floats:
        """Standardised numbers."""
        return ((truth - scaling["mean"]) / scaling["deviation"]).astype(np.float32)

    def metrics(self, names: Sequence[str], units: Sequence[str] = ()) -> Mapping[str, Metric]:
        """Errors of one number, or of each of several; coverage of the spread."""
        return regression_metrics(names, units)
