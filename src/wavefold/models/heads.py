"""Heads: from what a net returns, (N, width), to predictions, (N, P) float64. One for each kind of target."""

from __future__ import annotations

from collections.abc import Sequence

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
    """Standardised numbers to means and standard deviations in their own units, (N, 2 T).

    mean, scale: (T,) of the training part. values: for each number the net returns its mean (1), mean and log standard
    deviation (2), or three quantiles, of which the outer two are a standard deviation from the median in a normal
    distribution (3). With 1 the standard deviation is that of the training part, until a calibration scales it.
    """

    def __init__(self, mean: Sequence[float], scale: Sequence[float], values: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64), persistent=False)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64), persistent=False)
        self.values = values

    def forward(self, outputs: Tensor) -> Tensor:
        parts = outputs.double().chunk(self.values, dim=1)
        mean, scale = self.get_buffer("mean"), self.get_buffer("scale")
        if self.values == 1:
            middle, spread = parts[0], torch.ones_like(parts[0])
        elif self.values == 2:
            middle, spread = parts[0], parts[1].clamp(-_LOG_RANGE, _LOG_RANGE).exp()
        else:
            middle, spread = parts[1], ((parts[2] - parts[0]) / 2).clamp(min=_SMALLEST)
        return torch.cat([middle * scale + mean, spread * scale], dim=1)


_LOG_RANGE = 12.0  # of log standard deviations
_SMALLEST = 1e-6  # standard deviation: quantiles may cross
