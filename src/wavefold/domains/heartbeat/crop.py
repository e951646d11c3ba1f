"""Crops the zero tail of heartbeats to a length fitted on the training part.

Beats are zero-padded to one length (205 values in the Tianchi data; half of the beats end before 123). The source notes the
tails but finds a cut-off hard to choose and does not crop; here it follows from the fraction of samples that may lose values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from wavefold.core.errors import UserError
from wavefold.data.dataset import Floats, Ints, Signals
from wavefold.data.lazy import blocks_of
from wavefold.transforms.scale import FittedState, need_one_axis


class CropTail:
    """Crops signals to the shortest length past which at most `share` of the training samples have a non-zero value.

    multiple: the length is rounded up to a multiple of this, for nets that halve it, but not beyond the original length.
    """

    def __init__(self, share: float = 0.01, multiple: int = 1) -> None:
        if not 0 <= share < 1:
            raise UserError(f"crop_tail.share: {share} is out of range; it must be at least 0 and below 1")
        if multiple < 1:
            raise UserError(f"crop_tail.multiple: {multiple} is too small; expected 1 or more")
        self.share, self.multiple = share, multiple
        self.length: int | None = None  # kept positions; None before fit, which keeps all

    def fit(self, signals: Signals, labels: NDArray[np.number] | None = None) -> Self:
        """Fit the length. signals: (sample, channel, position)."""
        need_one_axis(signals, "crop_tail")
        whole = signals.shape[2]
        ends = np.sort(np.concatenate([np.empty(0, np.int64), *(_ends(values) for _, values in blocks_of(signals))]))
        losers = int(self.share * len(ends) + 1e-9)  # 0.29 * 100 is slightly below 29
        needed = max(int(ends[len(ends) - 1 - losers]), 1)
        self.length = min(-(-needed // self.multiple) * self.multiple, whole)
        return self

    def apply(self, signals: Floats) -> Floats:
        """The kept positions, as a view. signals: (sample, channel, position); result: (sample, channel, length)."""
        need_one_axis(signals, "crop_tail")
        return signals[..., : self.length]

    def state(self) -> FittedState:
        """length: () int64."""
        return {} if self.length is None else {"length": np.array(self.length, np.int64)}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore the length."""
        self.length = int(state["length"].item())

    def module(self) -> nn.Module:
        """The same computation as a torch module."""
        return _CropModule(self.length)


class _CropModule(nn.Module):
    def __init__(self, length: int | None) -> None:
        super().__init__()
        self.length = length

    def forward(self, signals: Tensor) -> Tensor:
        return signals[..., : self.length]


def _ends(signals: Floats) -> Ints:
    """Number of positions up to the last non-zero value, (sample,)."""
    # A value in any channel counts; argmax finds the first in the signal read backwards.
    filled = (signals != 0).any(axis=1)  # (sample, position)
    return np.where(filled.any(axis=1), signals.shape[2] - filled[:, ::-1].argmax(axis=1), 0)
