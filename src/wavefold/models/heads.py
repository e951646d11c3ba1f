"""Heads: from what a net returns, (N, width), to predictions, (N, P) float64. One for each kind of target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Softmax(nn.Module):
    """Logits (N, class) to probabilities."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.double().softmax(dim=1)


class Sigmoid(nn.Module):
    """Logits (N, label) to the probability of each label."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.double().sigmoid()


class Numbers(nn.Module):
    """Standardised means and standard deviations, (N, 2 T), to those in the numbers' own units.

    standardised: from what a net returns to (N, 2 T), as a loss of `training/regression_losses.py` says. mean, scale: (T,) of
    the training part.
    """

    def __init__(self, standardised: Callable[[Tensor], Tensor], mean: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        self.standardised = standardised
        self.register_buffer("shift", torch.tensor([*mean, *(0.0 for _ in mean)], dtype=torch.float64), persistent=False)
        self.register_buffer("factor", torch.tensor([*scale, *scale], dtype=torch.float64), persistent=False)

    def forward(self, outputs: Tensor) -> Tensor:
        return self.standardised(outputs).double() * self.get_buffer("factor") + self.get_buffer("shift")
