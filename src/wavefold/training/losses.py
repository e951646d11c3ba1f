"""Classifier losses: cross-entropy, also with label smoothing, a contest's L1 with clamped labels, and soft F1.

L1 comes from the heartbeat system (its AbsLoss). Here it is a mean over samples, not a sum, so that the learning rate does
not depend on the batch size; and it takes logits, so that every member has the same kind of output.

Every loss is built from the training part's class counts and is called with
    logits   (N, classes)
    labels   (N,) int64 class numbers, or (N, classes) float targets: each class's share of a mixed sample
    weights  (N,) optional sample weights; their mean over the training part is 1
and returns one number: the mean over samples, except for soft F1, which is computed on the batch as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.core.errors import UserError, plural
from wavefold.core.registry import Table

ClassWeights = Literal["none", "balanced", "sqrt"]


class CrossEntropy(nn.Module):
    """Cross-entropy; optional class weights, whose mean over the training part is 1, make rare classes count more.

    counts: (classes,) training samples of each class. smoothing: share of a label that is spread over all classes.
    class_weights: "balanced" weights by 1 / count, "sqrt" by 1 / sqrt(count), which is half-way.
    """

    class_weights: Tensor

    def __init__(self, counts: Tensor, *, smoothing: float = 0.0, class_weights: ClassWeights = "none") -> None:
        super().__init__()
        _check_classes(counts)
        if not 0.0 <= smoothing < 1.0:
            raise UserError(f"smoothing: {smoothing} is out of range; expected at least 0 and below 1")
        self.smoothing = smoothing
        self.register_buffer("class_weights", _weigh_classes(counts, class_weights), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        losses = F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=self.smoothing)
        of_class = labels @ self.class_weights if labels.is_floating_point() else self.class_weights[labels]
        return _weigh(losses * of_class, weights).mean()


def label_smoothed(counts: Tensor, *, smoothing: float = 0.1, class_weights: ClassWeights = "none") -> CrossEntropy:
    """Cross-entropy with label smoothing by default (Szegedy and others 2016). counts: (classes,)."""
    return CrossEntropy(counts, smoothing=smoothing, class_weights=class_weights)


class L1(nn.Module):
    """Sum over classes of |softmax(logits) - clamped label|; with smoothing 0, the contest's metric itself.

    counts: (classes,). smoothing: labels are clamped to [smoothing / (classes - 1), 1 - smoothing].
    """

    def __init__(self, counts: Tensor, *, smoothing: float = 0.1) -> None:
        super().__init__()
        self.classes = _check_classes(counts)
        if not 0.0 <= smoothing <= 1.0 - 1.0 / self.classes:
            raise UserError(f"smoothing: {smoothing} is out of range; expected 0 to {1 - 1 / self.classes:.4g}")
        self.smoothing = smoothing

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        # must stay float: cast to int64, as the source casts its labels, a clamped label would be 0 again
        hot = _shares(labels, self.classes)
        target = hot.clamp(self.smoothing / (self.classes - 1), 1.0 - self.smoothing)
        return _weigh((logits.float().softmax(dim=1) - target).abs().sum(dim=1), weights).mean()


class SoftF1(nn.Module):
    """-log of the macro-F1 computed from probabilities instead of decisions, over the classes present in the batch.

    From the spectra system (its score_loss, for four classes). F1 = 2 sum(y p) / (sum(y) + sum(p)) by class. A class absent
    from the batch has no F1: it would only lower the mean by a constant. This is a loss of the whole batch, not a mean over
    samples. counts: (classes,).
    """

    def __init__(self, counts: Tensor) -> None:
        super().__init__()
        self.classes = _check_classes(counts)

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        shares = _shares(labels, self.classes)
        hot, odds = _weigh(shares, weights), logits.float().softmax(dim=1)
        there = hot.sum(dim=0)  # (classes,)
        scores = 2 * (hot * odds).sum(dim=0) / (there + _weigh(odds, weights).sum(dim=0))
        mean = torch.where(there > 0, scores, 0.0).sum() / (there > 0).sum()
        return -torch.log(mean + _SMALL)


_SMALL = 1e-7  # keeps the logarithm finite where every sample is assigned to a wrong class with certainty

LOSSES: Table[Callable[..., nn.Module]] = Table(
    "losses", {"cross_entropy": CrossEntropy, "label_smoothed": label_smoothed, "l1": L1, "soft_f1": SoftF1}
)


def _weigh(values: Tensor, weights: Tensor | None) -> Tensor:
    """Multiply values, (N,) or (N, classes), by the sample weights, if any."""
    if weights is None:
        return values
    return values * (weights if values.dim() == 1 else weights[:, None])


def _shares(labels: Tensor, classes: int) -> Tensor:
    """Each class's share of each sample, (N, classes)."""
    return labels if labels.is_floating_point() else F.one_hot(labels, classes).float()


def _check_classes(counts: Tensor) -> int:
    if len(counts) < 2:
        raise UserError(
            f"loss: the training part has {plural(len(counts), 'class', 'classes')}; a classifier needs at least two"
        )
    return len(counts)


def _weigh_classes(counts: Tensor, how: ClassWeights) -> Tensor:
    """Class weights (classes,) float32 whose mean over the training samples is 1; a class without samples gets 0."""
    power = {"none": 0.0, "balanced": 1.0, "sqrt": 0.5}[how]
    weights = torch.where(counts > 0, counts.double().clamp(min=1.0) ** -power, 0.0)
    return (weights * counts.sum() / (weights * counts).sum().clamp(min=1e-12)).float()
