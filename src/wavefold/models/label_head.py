"""Logistic regression of several labels on many features: each label has a probability and an L2 penalty of its own.

The penalty is chosen by log loss on a held-out fifth of the training rows, as in `linear`. All labels are fitted together,
because the passes over the features take the time, but none affects another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from wavefold.data.dataset import Floats
from wavefold.models.lbfgs import minimise_each
from wavefold.models.linear import HELD, STRENGTHS, linear_scores, standardise, stratified

Probabilities = NDArray[np.float64]
Labels = NDArray[np.floating]  # (sample, label) 0 or 1

_ITERATIONS = 40


@dataclass(frozen=True)
class LabelHead:
    """Fitted weights: the log odds of each label are ((features - mean) / spread) @ weight.T + bias."""

    mean: Tensor  # (feature,)
    spread: Tensor  # (feature,)
    weight: Tensor  # (label, feature)
    bias: Tensor  # (label,)
    strength: Tensor  # (label,) the chosen L2 penalties

    def predict(self, features: Floats) -> Probabilities:
        """Probabilities (sample, label) of features (sample, feature)."""
        return np.asarray(self.module()(torch.as_tensor(features)).numpy())

    def tensors(self) -> dict[str, Tensor]:
        """The tensors to save with safetensors."""
        scaling = {"mean": self.mean, "spread": self.spread}
        return scaling | {"weight": self.weight, "bias": self.bias, "strength": self.strength}

    def module(self) -> nn.Module:
        """The same as a torch module: features (N, feature) to probabilities (N, label) float64."""
        return _LabelModule(self)

    @classmethod
    def from_tensors(cls, kept: dict[str, Tensor]) -> Self:
        """Rebuild the head from what `tensors` returned."""
        return cls(kept["mean"], kept["spread"], kept["weight"], kept["bias"], kept["strength"])


class _LabelModule(nn.Module):
    mean: Tensor
    spread: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, head: LabelHead) -> None:
        super().__init__()
        for name in ("mean", "spread", "weight", "bias"):
            self.register_buffer(name, getattr(head, name))

    def forward(self, features: Tensor) -> Tensor:
        scaled = (features - self.mean) / self.spread
        return F.linear(scaled, self.weight, self.bias).double().sigmoid()


def fit_labels(features: Floats, labels: Labels, rng: Generator, weights: Floats | None = None) -> LabelHead:
    """Fit a head to features (sample, feature) and labels (sample, label); scales `features` in place to spare memory.

    weights: of the samples in the loss, (sample,). A label that all or none of the samples have gets the probability 1 or 0.
    """
    x, y = torch.as_tensor(features), torch.as_tensor(labels, dtype=torch.float32)
    mean, spread = standardise(x)
    share = y.mean(0)
    varied = ((share > 0) & (share < 1)).numpy()
    fitted, strengths = torch.zeros(y.shape[1], x.shape[1] + 1), torch.zeros(y.shape[1])
    fitted[:, -1] = share.logit()  # infinite, and kept, where all or no samples have the label
    if varied.any():
        held = _held_out(labels[:, varied], rng)
        counted = torch.ones_like(held) if weights is None else torch.as_tensor(weights)[:, None].expand_as(held)
        strengths[varied], start = _choose(x, y[:, varied], held, counted)
        fitted[varied] = _fit(x, y[:, varied], start, strengths[varied], counted)
    return LabelHead(mean, spread, fitted[:, :-1].clone(), fitted[:, -1].clone(), strengths)


def _held_out(labels: Labels, rng: Generator) -> Tensor:
    """1 where a sample is held out to choose a label's penalty (sample, label), else 0."""
    held = torch.zeros(labels.shape)
    for number, column in enumerate(labels.T.astype(np.int64)):
        held[stratified(column, len(labels) // HELD, rng), number] = 1
    return held


def _choose(x: Tensor, y: Tensor, held: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Each label's penalty with the lowest log loss on its held-out samples, tried from strong to weak; its weights."""
    labels = y.shape[1]
    best, weights = torch.full((labels,), STRENGTHS[1]), torch.zeros(labels, x.shape[1] + 1)
    if not held.any():
        return best, weights  # too few samples to choose
    least, latest = torch.full((labels,), torch.inf), weights
    for strength in STRENGTHS:
        latest = _fit(x, y, latest, torch.full((labels,), strength), counted * (1 - held))
        losses = _losses(linear_scores(x, latest), y, counted * held)
        better = losses < least
        if not better.any():
            break
        least, best = losses.minimum(least), torch.where(better, strength, best)
        weights = torch.where(better[:, None], latest, weights)
    return best, weights


def _losses(scores: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """Mean log loss (label,) over the samples that have a share (sample, label)."""
    return (F.binary_cross_entropy_with_logits(scores, y, reduction="none") * share).sum(0) / share.sum(0)


def _fit(x: Tensor, y: Tensor, start: Tensor, strengths: Tensor, share: Tensor) -> Tensor:
    """Weights (label, feature + 1) that minimise mean log loss plus strength / 2 x squared weights, for each label."""

    def losses(weights: Tensor) -> Tensor:
        penalties = strengths / 2 * weights[:, :-1].square().sum(1)
        return _losses(linear_scores(x, weights), y, share) + penalties

    return minimise_each(losses, start, _ITERATIONS)
