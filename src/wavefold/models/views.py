"""A net that looks at a cadence and at its mirror images, and answers with the mean of what it says of each.

Legend: N samples, P panels, T times, F frequencies, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn

from wavefold.base.cadence import MIRRORS


class Views(nn.Module):
    """Logarithms of the mean probabilities over all views: each of some axes as it is and mirrored."""

    def __init__(self, model: nn.Module, axes: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.axes = tuple(dict.fromkeys(axes))

    def forward(self, signals: Tensor) -> Tensor:
        """(N, P, T, F) to (N, C), whose softmax is the mean probability."""
        odds = [self.model(_seen(signals, mirrored)).double().softmax(dim=1) for mirrored in self._views()]
        return torch.stack(odds).mean(dim=0).log()

    def _views(self) -> list[list[str]]:
        """The axes mirrored in each view, none in the first."""
        chosen = product((False, True), repeat=len(self.axes))
        return [[axis for axis, turned in zip(self.axes, turns, strict=True) if turned] for turns in chosen]


def _seen(signals: Tensor, mirrored: Sequence[str]) -> Tensor:
    for axis in mirrored:
        signals = MIRRORS[axis](signals)
    return signals
