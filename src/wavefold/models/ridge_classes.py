"""Ridge regression of classes on many features, with real probabilities: a linear head for few samples.

Each class is regressed on, +1 for its samples and -1 for others. The penalty and the temperature of a softmax over the
regressions are those with the least log loss of the leave-one-out predictions, so that no sample need be held back; these
need no refit: a row's leave-one-out residual is its residual / (1 - leverage) (Allen 1974, PRESS). As in Platt scaling (1999)
the labels are smoothed by the weight of one row: without it, few samples that are all predicted correctly make every
prediction certain.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavefold.core.registry import later
from wavefold.data.dataset import Floats, Ints
from wavefold.models.linear import LinearHead, standardise
from wavefold.models.ridge import LEAST_SPARE, STRENGTHS, decompose, transposed_product

optimize, special = later("scipy.optimize"), later("scipy.special")

SCALES = 1.0, 0.5, 0.25  # of features of a second kind, which are tried
_SHARPEST = 7.0  # logarithms of the factors between which the softmax is fitted
_FLATTEST = -3.0

Reals = NDArray[np.float64]


def fit_ridge_classes(
    features: Floats, labels: Ints, classes: int, weights: Floats | None = None, *, second: int | None = None
) -> LinearHead:
    """Fit a head to features (sample, feature) and class numbers (sample,); scales `features` in place to spare memory.

    weights: of the samples, (sample,). second: the first feature of a second kind, whose features are all made smaller by the
    factor of SCALES that has the least leave-one-out loss.
    """
    x = torch.as_tensor(features)
    mean, spread = standardise(x)
    others = x[:, len(spread) if second is None else second :]
    best = _fitted(x, labels, classes, weights)
    for before, scale in itertools.pairwise(SCALES) if others.shape[1] else ():
        others *= scale / before
        best = min(
            best, replace(_fitted(x, labels, classes, weights), scale=scale), key=lambda fit: fit.loss
        )  # first of equals
    spread[len(spread) - others.shape[1] :] /= best.scale
    return LinearHead(mean, spread, best.weight, best.bias, best.strength)


@dataclass(frozen=True)
class _Fit:
    """A fit to features, and its smoothed leave-one-out log loss."""

    loss: float
    weight: Tensor  # (class, feature)
    bias: Tensor  # (class,)
    strength: float
    scale: float = 1.0  # of the features of the second kind


def _fitted(x: Tensor, labels: Ints, classes: int, weights: Floats | None) -> _Fit:
    shares = np.ones(len(labels)) if weights is None else weights / weights.mean(dtype=np.float64)
    share = torch.as_tensor(shares, dtype=torch.float64)
    root = share.sqrt()[:, None]
    truth = torch.zeros(len(x), classes, dtype=torch.float64)
    truth[torch.arange(len(x)), torch.as_tensor(labels)] = 1
    truth = 2 * truth - 1
    middle, centre = (share.to(x.dtype) @ x) / len(x), (share @ truth) / len(x)
    rows = (x - middle) * root.to(x.dtype)
    values, left = decompose(rows, root / math.sqrt(len(x)))
    target = root * (truth - centre)
    across = left.t() @ target
    penalties = STRENGTHS * values.sum() / len(x)
    least, best, factor = math.inf, 0, 1.0
    for number, penalty in enumerate(penalties):
        shrunk = values / (values + penalty)
        spare = (1 - left.square() @ shrunk[:, None] - root.square() / len(x)).clamp(min=LEAST_SPARE)
        scores = truth - (target - left @ (across * shrunk[:, None])) / (root * spare)
        sharpened, loss = _sharpness(scores.numpy(), labels, shares)
        if loss < least - 1e-9:  # so that a tie chooses the strongest
            least, best, factor = loss, number, sharpened
    inner = across / (values + penalties[best])[:, None]
    weight = transposed_product(rows, left @ inner).t()
    bias = centre - weight @ middle.double()
    return _Fit(least, (factor * weight).contiguous(), factor * bias, float(STRENGTHS[best]))


def _sharpness(scores: Reals, labels: Ints, shares: Reals) -> tuple[float, float]:
    """The factor of scores (sample, class) whose softmax has the least smoothed log loss, and that loss."""
    spread = 1 / (shares.sum() ** 2 / np.square(shares).sum() + 2)  # as in Platt: n samples cannot support odds beyond n to 1
    known = scores[np.arange(len(labels)), labels]
    aim = (1 - spread) * known + spread * scores.mean(axis=1)

    def loss(logarithm: float) -> float:
        factor = math.exp(logarithm)
        return float(((special.logsumexp(factor * scores, axis=1) - factor * aim) * shares).mean())

    found = optimize.minimize_scalar(loss, bounds=(_FLATTEST, _SHARPEST), method="bounded", options={"xatol": 1e-3})
    return math.exp(found.x), float(found.fun)
