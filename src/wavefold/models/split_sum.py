"""The net of the spectra system: residual blocks whose convolution outputs are split in halves and summed.

Source: Su Jianlin's write-up of the Tianchi LAMOST contest 2018. Each convolution outputs twice the channels needed, and
after ReLU the first half is added to the second; here the halves are two convolutions, which give the same sum without
splitting a tensor in memory (benchmarks/layout.py). Differences: the net returns logits and takes any number of channels,
positions and classes.

Legend: N samples, C channels, T positions, K classes; (N, C, T) stands for (N, C, 1, T) in channels_last memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.core.distributed import drawn_for_rows
from wavefold.core.errors import UserError
from wavefold.models.layers import Conv, MaxPool, enter, need_least

_WIDTHS = (16, 16, 32, 32, 64, 64, 128, 128)  # the source's


class SplitSum(nn.Module):
    """relu(a) + relu(b) of two convolutions of kernel 3: (N, C, T) to (N, width, T)."""

    def __init__(self, channels: int, width: int, dilation: int) -> None:
        super().__init__()
        self.left = Conv(channels, width, 3, padding=dilation, dilation=dilation)
        self.right = Conv(channels, width, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.left(x)) + F.relu(self.right(x))


class SplitSumBlock(nn.Module):
    """Three split sums of dilation 1, 2, 4 plus a shortcut: (N, C, T) to (N, width, T).

    The shortcut is the input itself, or a 1 x 1 convolution of it if the number of channels changes.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.path = nn.Sequential(SplitSum(channels, width, 1), SplitSum(width, width, 2), SplitSum(width, width, 4))
        self.shortcut = nn.Identity() if channels == width else Conv(channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.shortcut(x) + self.path(x)
        return total


class DropPositions(nn.Module):
    """Dropout of whole positions of (N, C, T), all channels together; the others are scaled up to preserve the mean."""

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise UserError(f"split_sum: dropout {share} is not a valid fraction; it must be at least 0 and below 1")
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.share:
            return x
        keep = drawn_for_rows(lambda rows: torch.rand(rows, 1, 1, x.shape[3], device=x.device), len(x)) >= self.share
        return x * keep / (1 - self.share)

    def extra_repr(self) -> str:
        return str(self.share)


class SplitSumNet(nn.Module):
    """Blocks with max pooling of two between them, dropout of positions, global max pooling and two dense layers."""

    def __init__(
        self,
        channels: int,
        length: int,
        classes: int,
        *,
        widths: Sequence[int] = _WIDTHS,
        dropout: float = 0.5,
        dense: int = 128,
    ) -> None:
        super().__init__()
        need_least("split_sum", 1, blocks=len(widths), width=min(widths, default=1), dense=dense)
        blocks: list[nn.Module] = [SplitSumBlock(channels, widths[0])]  # (N, 16, T)
        for inputs, outputs in itertools.pairwise(widths):
            blocks += [MaxPool(2)] if length > 1 else []  # short signals run out of positions to pool
            blocks.append(SplitSumBlock(inputs, outputs))  # (N, 16, T / 2), ... (N, 128, T / 128)
            length = max(1, length // 2)
        self.blocks = nn.Sequential(*blocks)
        self.drop = DropPositions(dropout)
        self.head = nn.Sequential(nn.Linear(widths[-1], dense), nn.ReLU(), nn.Linear(dense, classes))

    def forward(self, signals: Tensor) -> Tensor:
        x = self.drop(self.blocks(enter(signals)))
        scores: Tensor = self.head(x.amax(dim=(2, 3)))  # (N, 128) to (N, K)
        return scores
