"""Losses for several labels a sample, each present or absent on its own.

Every loss is built from the training part's positives of each label and its number of samples, and is called with
    logits   (N, L)
    labels   (N, L) float: 0, 1, or the share of a mixed sample
    weights  (N,) optional sample weights; their mean over the training part is 1
and returns one number: the mean over samples and labels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.core.errors import UserError, plural
from wavefold.core.registry import Table
from wavefold.training.losses import ClassWeights

_LEAST = 1e-8  # keeps logarithms and powers finite where the net is certain


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy; pos_weight makes the positives of rare labels count more.

    counts: (L,) positives of each label among `samples`. pos_weight: "balanced" weights positives by negatives / positives,
    so that both sides count the same; "sqrt" by its square root, which is half-way. A label without positives, or without
    negatives, is taken to have one.
    """

    pos_weight: Tensor

    def __init__(self, counts: Tensor, samples: int, *, pos_weight: ClassWeights = "none") -> None:
        super().__init__()
        _check_labels(counts, samples)
        power = {"none": 0.0, "balanced": 1.0, "sqrt": 0.5}[pos_weight]
        odds = (samples - counts.double()).clamp(min=1.0) / counts.double().clamp(min=1.0)
        self.register_buffer("pos_weight", (odds**power).float(), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        losses = F.binary_cross_entropy_with_logits(
            logits.float(), labels.float(), reduction="none", pos_weight=self.pos_weight
        )
        return _mean(losses, weights)


class Asymmetric(nn.Module):
    """Asymmetric loss (Ridnik and others 2021): easy negatives count little, and those below `clip` not at all.

    With p the probability: -(1 - p) ** gamma_positive log p where the label is present, and with q = max(p - clip, 0)
    -q ** gamma_negative log(1 - q) where it is absent. counts: (L,) positives of each label among `samples`.
    """

    def __init__(
        self, counts: Tensor, samples: int, *, gamma_positive: float = 0.0, gamma_negative: float = 4.0, clip: float = 0.05
    ) -> None:
        super().__init__()
        _check_labels(counts, samples)
        for name, value in (("gamma_positive", gamma_positive), ("gamma_negative", gamma_negative)):
            if not 0.0 <= value <= _STEEPEST:
                raise UserError(f"{name}: {value} is out of range; expected 0 to {_STEEPEST:g}")
        if not 0.0 <= clip < 1.0:
            raise UserError(f"clip: {clip} is out of range; expected at least 0 and below 1")
        self.gamma_positive, self.gamma_negative, self.clip = gamma_positive, gamma_negative, clip

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        scores, present = logits.float(), labels.float()
        shown = torch.sigmoid(scores)
        hard = (shown - self.clip).clamp(min=_LEAST)
        absent = (torch.sigmoid(-scores) + self.clip).clamp(min=_LEAST, max=1.0)  # 1 - q without loss of digits
        positive = torch.sigmoid(-scores).clamp(min=_LEAST) ** self.gamma_positive * F.logsigmoid(scores)
        negative = hard**self.gamma_negative * torch.log(absent)
        return _mean(-(present * positive + (1 - present) * negative), weights)


_STEEPEST = 16.0  # powers beyond which no label is left to learn from

MULTILABEL_LOSSES: Table[Callable[..., nn.Module]] = Table(
    "multilabel_losses", {"bce": BinaryCrossEntropy, "asymmetric": Asymmetric}
)


def _mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    return (losses if weights is None else losses * weights[:, None]).mean()


def _check_labels(counts: Tensor, samples: int) -> None:
    if not len(counts):
        raise UserError("loss: the training part has no labels; expected at least one")
    if counts.max() > samples:
        label = int(counts.argmax())
        raise UserError(f"loss: label {label} has {int(counts[label]):,} positives among {plural(samples, 'sample')}")
