"""Losses for predicted numbers: squared, absolute and Huber errors, the Gaussian likelihood, and quantiles.

Every loss is built with the number of targets T and is called with
    outputs  (N, T outputs_per_target): all first outputs, then all second ones, and so on
    targets  (N, T) standardised; NaN where unknown
    weights  (N,) optional sample weights; their mean over the training part is 1
and returns one number: the mean over known entries, or 0 with a gradient of 0 if none is known. `predictions` turns outputs
into (N, 2T): T means, then T spreads (standard deviations) in standardised units.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.core.errors import UserError
from wavefold.core.registry import Table, later

special = later("scipy.special")

_LEAST_LOG = -7.0  # smallest logarithm of a spread: a thousandth of the targets' standard deviation


class RegressionLoss(nn.Module, ABC):
    """Masks unknown targets and averages; a subclass has the loss of each entry."""

    outputs_per_target = 1

    def __init__(self, targets: int) -> None:
        super().__init__()
        if targets < 1:
            raise UserError(f"loss: {targets} targets to predict; expected at least one")
        self.targets = targets

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        known = ~torch.isnan(targets)
        losses = self.entries(self.split(outputs), torch.where(known, targets, 0.0).float())
        counted = known if weights is None else known * weights[:, None]
        return torch.where(known, losses * counted, 0.0).sum() / known.sum().clamp(min=1)

    def split(self, outputs: Tensor) -> Tensor:
        """(N, outputs_per_target T) to (outputs_per_target, N, T), in full precision."""
        return torch.unflatten(outputs.float(), 1, (self.outputs_per_target, self.targets)).transpose(0, 1)

    @abstractmethod
    def entries(self, parts: Tensor, targets: Tensor) -> Tensor:
        """The loss of each entry, (N, T). parts: (outputs_per_target, N, T)."""

    def predictions(self, outputs: Tensor) -> Tensor:
        """Means and spreads, (N, 2T). The spread is 1, that of the targets, where a loss learns none: calibrate it."""
        mean = self.split(outputs)[0]
        return torch.cat([mean, torch.ones_like(mean)], dim=1)


class MeanSquared(RegressionLoss):
    """Mean squared error."""

    def __init__(self, targets: int) -> None:  # declares that there are no options
        super().__init__(targets)

    def entries(self, parts: Tensor, targets: Tensor) -> Tensor:
        """Squared errors, (N, T)."""
        return (parts[0] - targets).square()


class MeanAbsolute(RegressionLoss):
    """Mean absolute error; the prediction is a median."""

    def __init__(self, targets: int) -> None:
        super().__init__(targets)

    def entries(self, parts: Tensor, targets: Tensor) -> Tensor:
        """Absolute errors, (N, T)."""
        return (parts[0] - targets).abs()


class Huber(RegressionLoss):
    """Half the squared error up to delta, linear beyond (Huber 1964). delta: in standard deviations of the targets."""

    def __init__(self, targets: int, *, delta: float = 1.0) -> None:
        super().__init__(targets)
        if not 0.0 < delta < math.inf:
            raise UserError(f"delta: {delta} is out of range; expected above 0")
        self.delta = delta

    def entries(self, parts: Tensor, targets: Tensor) -> Tensor:
        """Huber's function of the errors, (N, T)."""
        return F.huber_loss(parts[0], targets, reduction="none", delta=self.delta)


class Gaussian(RegressionLoss):
    """Negative log likelihood of a Gaussian; outputs are means, then logarithms of standard deviations.

    beta: weight each entry by its variance to this power, without a gradient through the weight (Seitzer and others 2022):
    at 0 it is the likelihood, at 1 the means are learned as by squared errors; 0.5 is their advice. Spreads below a
    thousandth of the targets' are raised to it.
    """

    outputs_per_target = 2

    def __init__(self, targets: int, *, beta: float = 0.0) -> None:
        super().__init__(targets)
        if not 0.0 <= beta <= 1.0:
            raise UserError(f"beta: {beta} is out of range; expected 0 to 1")
        self.beta = beta

    def entries(self, parts: Tensor, targets: Tensor) -> Tensor:
        """Negative log likelihoods, weighted by variance ** beta, (N, T)."""
        mean, log_spread = parts[0], parts[1].clamp(min=_LEAST_LOG)
        deviation = (targets - mean) * torch.exp(-log_spread)
        losses = 0.5 * deviation.square() + log_spread + 0.5 * math.log(2 * math.pi)
        return losses * torch.exp(2 * self.beta * log_spread.detach()) if self.beta else losses

    def predictions(self, outputs: Tensor) -> Tensor:
        """Means and spreads, (N, 2T)."""
        mean, log_spread = self.split(outputs)
        return torch.cat([mean, log_spread.clamp(min=_LEAST_LOG).exp()], dim=1)


class Quantile(RegressionLoss):
    """Pinball loss of three quantiles (Koenker and Bassett 1978), averaged: (1 - spread) / 2, the median, (1 + spread) / 2.

    spread: the share of truths between the outer two; by default that of a Gaussian within one standard deviation.
    """

    outputs_per_target = 3

    def __init__(self, targets: int, *, spread: float = 0.682689) -> None:
        super().__init__(targets)
        if not 0.0 < spread < 1.0:
            raise UserError(f"spread: {spread} is out of range; expected above 0 and below 1")
        self.levels = (0.5 - spread / 2, 0.5, 0.5 + spread / 2)
        self.deviations = 2 * float(special.ndtri(self.levels[2]))  # standard deviations between the outer two, of a Gaussian

    def entries(self, parts: Tensor, targets: Tensor) -> Tensor:
        """Pinball losses, (N, T)."""
        above = [targets - part for part in parts]
        losses = [torch.maximum(level * a, (level - 1) * a) for level, a in zip(self.levels, above, strict=True)]
        return torch.stack(losses).mean(dim=0)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Medians and spreads, (N, 2T): the outer quantiles' distance, as standard deviations of a Gaussian."""
        low, middle, high = self.split(outputs)
        spread = (high - low).abs() / self.deviations
        return torch.cat([middle, spread.clamp(min=math.exp(_LEAST_LOG))], dim=1)


REGRESSION_LOSSES: Table[Callable[..., RegressionLoss]] = Table(
    "regression_losses",
    {"mse": MeanSquared, "mae": MeanAbsolute, "huber": Huber, "gaussian": Gaussian, "quantile": Quantile},
)
