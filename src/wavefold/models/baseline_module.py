"""Baseline forecasts as torch modules, which can be exported beside nets."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wavefold.data.lazy import Floats, row_blocks


class BaselineModule(nn.Module):
    """A baseline for whole frames: `forward` maps past frames and the clock of later ones to later frames.

    past: (sample, channel, past, row, column) float32 in the frames' unit, NaN where missing; clock: (sample, ahead) float64
    seconds, whose values are used only if `needs_clock`. The result, (sample, channel, ahead, row, column), is finite.
    """

    needs_clock = False

    def forward(self, past: Tensor, clock: Tensor) -> Tensor:
        """The later frames."""
        raise NotImplementedError


def by_torch(module: BaselineModule, past: Floats, clock: NDArray[np.float64]) -> Floats:
    """Apply a module to past frames in blocks, to bound memory."""
    made = []
    for rows in row_blocks(len(past), 64, values=int(np.prod(past.shape[1:]))):
        values, seconds = torch.from_numpy(np.array(past[rows], np.float32)), torch.from_numpy(np.array(clock[rows]))
        with torch.no_grad():
            made.append(module(values, seconds).numpy())
    shape = (0, past.shape[1], clock.shape[1], *past.shape[3:])
    return np.concatenate(made) if made else np.zeros(shape, np.float32)
