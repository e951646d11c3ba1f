"""What an estimator learns: a kind of truth, as tasks have it, with K outputs and one loss; K and N as in `kinds.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from torch import nn

from wavefold.core.errors import listed
from wavefold.ensemble.label_temperature import LabelTemperature
from wavefold.estimators.errors import BadValue
from wavefold.evaluation.metric import Metric
from wavefold.tasks.samples.kinds import Kind, Labels, LossChoice, State, Truth


class CalibratedLabels(Labels):
    """Labels whose probabilities can be calibrated, which no recipe can."""

    parts = replace(Labels.parts, calibrations={**Labels.parts.calibrations, "temperature": LabelTemperature})


@dataclass(frozen=True)
class Target:
    """A kind of truth with K outputs, and the loss that it is learned by."""

    kind: Kind
    outputs: int
    choice: LossChoice
    shown: tuple[str, ...] = ("log-loss", "accuracy")  # metrics that the history always has
    scaling: State = field(default_factory=dict)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics that can rank epochs, by name; those of target 3 of several end in -3."""
        every = self.kind.metrics([str(number) for number in range(self.outputs)])
        return {name: metric for name, metric in every.items() if metric.ranks}

    def scaled(self, truth: Truth) -> Self:
        """With the statistics of the training part's truth; BadValue if nothing is known of an output."""
        lacking = np.flatnonzero(np.isnan(truth).all(axis=0))
        if len(lacking):
            raise BadValue(f"y: no known number of target {listed(lacking.tolist())} in the training part; leave it out")
        return replace(self, scaling=self.kind.scaling(truth))

    def new_loss(self, truth: Truth) -> nn.Module:
        """Build the loss. truth: of the training part."""
        return self.kind.loss(self.choice, truth, self.outputs)

    def width(self) -> int:
        """Values that a net returns for a sample."""
        return self.kind.width([self.choice], self.outputs)

    def head(self) -> nn.Module:
        """From what a net returns to predictions."""
        return self.kind.head([self.choice], self.outputs, self.scaling)
