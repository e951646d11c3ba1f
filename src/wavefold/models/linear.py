"""A linear classifier on many features with real probabilities: multinomial logistic regression on standardised features.

Its L2 penalty is chosen by log loss on a held-out fifth of the training rows; it is then refitted on all rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from wavefold.data.dataset import Floats, Ints

STRENGTHS = (1.0, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)  # strong first: each fit starts from the last
HELD = 5  # one row in five is held out to choose the strength
_FLAT = 1e-6  # features that vary less than this are ignored rather than amplified


@dataclass(frozen=True)
class LinearHead:
    """Fitted weights: scores are ((features - mean) / spread) @ weight.T + bias."""

    mean: Tensor  # (feature,)
    spread: Tensor  # (feature,)
    weight: Tensor  # (class, feature); of float64 where scores are so large that float32 would round probabilities
    bias: Tensor  # (class,)
    strength: float  # the chosen L2 penalty

    def probabilities(self, features: Floats) -> NDArray[np.float64]:
        """Class probabilities (sample, class) of features (sample, feature)."""
        scaled = ((torch.as_tensor(features) - self.mean) / self.spread).to(self.weight.dtype)
        scores = F.linear(scaled, self.weight, self.bias).double()
        return np.asarray(scores.softmax(1).numpy())

    def tensors(self) -> dict[str, Tensor]:
        """The tensors to save with safetensors."""
        strength = torch.tensor([self.strength], dtype=torch.float64)
        return {"mean": self.mean, "spread": self.spread, "weight": self.weight, "bias": self.bias, "strength": strength}

    def module(self) -> nn.Module:
        """The same as a torch module: features (N, feature) to probabilities (N, class) float64."""
        return _LinearModule(self)

    @classmethod
    def from_tensors(cls, kept: dict[str, Tensor]) -> Self:
        """Rebuild the head from what `tensors` returned."""
        return cls(kept["mean"], kept["spread"], kept["weight"], kept["bias"], float(kept["strength"]))


class _LinearModule(nn.Module):
    mean: Tensor
    spread: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, head: LinearHead) -> None:
        super().__init__()
        for name in ("mean", "spread", "weight", "bias"):
            self.register_buffer(name, getattr(head, name))

    def forward(self, features: Tensor) -> Tensor:
        scaled = ((features - self.mean) / self.spread).to(self.weight.dtype)
        return F.linear(scaled, self.weight, self.bias).double().softmax(1)


def fit_linear(features: Floats, labels: Ints, classes: int, rng: Generator, weights: Floats | None = None) -> LinearHead:
    """Fit a head to features (sample, feature) and class numbers (sample,); scales `features` in place to spare memory.

    weights: of the samples in the loss, (sample,).
    """
    x, y = torch.as_tensor(features), torch.as_tensor(labels)
    shares = None if weights is None else torch.as_tensor(weights / weights.mean(dtype=np.float64), dtype=x.dtype)
    mean, spread = standardise(x)
    held = stratified(labels, len(labels) // HELD, rng)
    strength, start = _choose(x, y, shares, classes, held)
    fitted = _fit(x, y, shares, start, strength)
    return LinearHead(mean, spread, fitted[:, :-1].clone(), fitted[:, -1].clone(), strength)


def standardise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread (feature,) of x (sample, feature), which is scaled in place; the spread of a flat feature is infinite."""
    spread, mean = torch.std_mean(x, dim=0, correction=0)
    spread = torch.where(spread > _FLAT, spread, torch.inf)
    x.sub_(mean).div_(spread)
    return mean, spread


def stratified(labels: Ints, count: int, rng: Generator) -> Ints:
    """Sorted positions of about `count` samples, with class proportions preserved and no class left out."""
    share = count / max(len(labels), 1)
    pools = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    sizes = [min(len(p), max(round(share * len(p)), min(count, 1))) for p in pools]
    chosen = [rng.choice(p, size, replace=False) for p, size in zip(pools, sizes, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64) if chosen else np.zeros(0, np.int64)


def _choose(x: Tensor, y: Tensor, shares: Tensor | None, classes: int, held: Ints) -> tuple[float, Tensor]:
    """The strength with the lowest log loss on held-out rows, tried from strong to weak until it worsens; its weights."""
    best = (STRENGTHS[1], torch.zeros(classes, x.shape[1] + 1))
    learn = torch.ones(len(x), dtype=torch.bool)
    learn[held] = False
    if len(held) == 0 or not learn.any():
        return best  # too few rows to choose
    learned, known, validated, truth = x[learn], y[learn], x[~learn], y[~learn]
    weighed, checked = (None, None) if shares is None else (shares[learn], shares[~learn])
    least = math.inf
    for strength in STRENGTHS:
        weights = _fit(learned, known, weighed, best[1], strength)
        loss = float(_loss(linear_scores(validated, weights), truth, checked))
        if loss > least:
            break
        least, best = loss, (strength, weights)
    return best


def linear_scores(x: Tensor, weights: Tensor) -> Tensor:
    """Scores (sample, class) of features (sample, feature) and weights (class, feature + 1), whose last column is the bias."""
    return (weights[:, :-1] @ x.t()).t() + weights[:, -1]  # in this order its gradient is six times as fast as F.linear's


def _loss(scores: Tensor, y: Tensor, shares: Tensor | None) -> Tensor:
    """Mean log loss of scores (sample, class), weighted if the samples have shares (sample,)."""
    if shares is None:
        return F.cross_entropy(scores, y)
    return (F.cross_entropy(scores, y, reduction="none") * shares).sum() / shares.sum()


def _fit(x: Tensor, y: Tensor, shares: Tensor | None, start: Tensor, strength: float) -> Tensor:
    """Weights (class, feature + 1) that minimise mean log loss plus strength / 2 x squared weights; the bias is unpenalised."""
    weights = start.clone().requires_grad_()
    options = {"max_iter": 40, "history_size": 10, "tolerance_grad": 1e-4, "tolerance_change": 1e-5}
    search = torch.optim.LBFGS([weights], line_search_fn="strong_wolfe", **options)  # type: ignore[arg-type]  # options by name

    def loss() -> Tensor:
        search.zero_grad()
        value = _loss(linear_scores(x, weights), y, shares) + strength / 2 * weights[:, :-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return value

    search.step(loss)  # type: ignore[no-untyped-call]  # untyped in torch
    return weights.detach()
