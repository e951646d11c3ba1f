"""Classifiers of several labels a sample, fitted in one step: each label has a probability of its own.

Kernel features and one logistic regression per label. A labeller has `fit`, `predict`, `save`, `load` and `module`.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from wavefold.core.registry import Table
from wavefold.data.dataset import Floats, Ints
from wavefold.models.kernels import KernelMember
from wavefold.models.label_head import LabelHead, Labels, Probabilities, fit_labels
from wavefold.models.linear import stratified


class KernelLabeller(KernelMember[LabelHead]):
    """Kernel features and a logistic regression per label, fitted in one step; deterministic for a given seed."""

    head_type = LabelHead

    def fit(self, signals: Floats, labels: Labels, outputs: int, weights: Floats | None = None) -> Self:
        """Fit on signals (sample, channel, position) and labels (sample, output) that are 0 or 1.

        More than `rows` samples are thinned to about that many, with each sample's rarest label in proportion. A label that
        all or none of the samples have is predicted with probability 1 or 0. weights: of the samples, (sample,).
        """
        rng, labels = np.random.default_rng(self.seed), labels.reshape(len(signals), outputs)
        if self.rows is not None and len(signals) > self.rows:
            kept = stratified(_rarest(labels), self.rows, rng)
            signals, labels, weights = signals[kept], labels[kept], None if weights is None else weights[kept]
        self.head = fit_labels(self._draw(signals, rng), labels, rng, weights)
        return self

    def predict(self, signals: Floats) -> Probabilities:
        """Probabilities (sample, output) of signals (sample, channel, position)."""
        head = self._fitted()
        return np.concatenate([head.predict(features) for features in self._in_blocks(signals)])


def _rarest(labels: Labels) -> Ints:
    """The number of each sample's rarest label; the number of labels for a sample without any."""
    rank = np.argsort(np.argsort(labels.mean(0), kind="stable"))
    order = np.where(labels > 0, rank, labels.shape[1])
    return np.asarray(order.min(1), np.int64)


LABELLERS: Table[type] = Table("labellers", {"kernels": KernelLabeller})
