"""Augmentations that change labels as well as signals, such as mixup (Zhang et al. 2017, arXiv:1710.09412).

Like augmentations, each is a pure function of (key, sample). A mixer's constructor may take the keywords `classes`, the number
of classes, and `shape`, that of one sample.

Legend: N samples, C classes; signals (N, channel, ...), targets (N, C) float32 shares of classes, samples (N,) int64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from wavefold.core import random
from wavefold.core.errors import UserError
from wavefold.core.registry import later

special = later("scipy.special")

Pair = tuple[Tensor, Tensor]  # signals, targets


class Mixer(Protocol):
    """A random change to signals and targets, the same for the same key and sample."""

    def __call__(self, signals: Tensor, targets: Tensor, samples: Tensor, key: int) -> Pair:
        """The changed signals and targets."""


class PairMixer(Protocol):
    """Mixes each sample with another of its batch, which the training loop passes in its current, augmented state."""

    def partners(self, count: int, key: int) -> Tensor:
        """The position of each sample's partner in a full batch of `count` samples, (count,) int64."""

    def __call__(self, signals: Tensor, targets: Tensor, samples: Tensor, key: int, others: Pair) -> Pair:
        """The mixed signals and targets. others: the partners' signals and targets."""


class Mixup:
    """Mixes a sample x with another x' of its batch, l x + (1 - l) x', with l drawn from a Beta(alpha, alpha) distribution.

    label: "mix" for l y + (1 - l) y'; "max" for the larger of both in the last class (a needle in either is a needle); "or"
    for 1 - (1 - l y)(1 - (1 - l) y') in the last class. "max" and "or" need two classes. share: fraction of samples to mix.
    """

    def __init__(
        self, *, classes: int, alpha: float = 0.2, label: Literal["mix", "max", "or"] = "max", share: float = 1.0
    ) -> None:
        if not alpha > 0:
            raise UserError(f"mixup.alpha: {alpha} must be above 0")
        if not 0 <= share <= 1:
            raise UserError(f"mixup.share: {share} is not a valid fraction; it must be from 0 to 1")
        if label != "mix" and classes != 2:
            raise UserError(f"mixup.label: '{label}' needs 2 classes; with {classes}, use 'mix'")
        self.alpha, self.share, self._label = alpha, share, _LABELS[label]

    def partners(self, count: int, key: int) -> Tensor:
        """A permutation of the batch by the key, (count,)."""
        return torch.from_numpy(np.random.default_rng(key & (2**63 - 1)).permutation(count))

    def __call__(self, signals: Tensor, targets: Tensor, samples: Tensor, key: int, others: Pair) -> Pair:
        """The mixed signals and targets. others: the partners' signals and targets."""
        weight = self._weights(key, samples)  # (N, 1)
        mixed = torch.lerp(others[0], signals, weight.view(-1, *[1] * (signals.ndim - 1)).to(signals.dtype))
        return mixed, torch.where(weight < 1, self._label(targets, others[1], weight), targets)

    def _weights(self, key: int, samples: Tensor) -> Tensor:
        """The weight of each sample in its mixture, (N, 1); 1 for samples that are not mixed."""
        drawn = random.uniform(key, samples, 2)
        beta = torch.from_numpy(special.betaincinv(self.alpha, self.alpha, drawn[:, :1].double().numpy(force=True)))
        return torch.where(drawn[:, 1:] < self.share, beta.to(drawn), 1.0)


def _mix(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    return weight * first + (1 - weight) * second


def _max(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    return _of_two(torch.maximum(first[:, 1], second[:, 1]))


def _or(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    share = weight[:, 0]
    return _of_two(1 - (1 - share * first[:, 1]) * (1 - (1 - share) * second[:, 1]))


def _of_two(last: Tensor) -> Tensor:
    return torch.stack([1 - last, last], dim=1)


_LABELS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"mix": _mix, "max": _max, "or": _or}
