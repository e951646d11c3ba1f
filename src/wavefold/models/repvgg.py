"""RepVGG in one dimension: three branches per block in training, one convolution per block for inference.

Source: Ding et al. 2021, "RepVGG: Making VGG-style ConvNets Great Again"; the heartbeat team names a 1-D form without
giving one. Differences: one-dimensional, narrower and shallower, to suit signals of hundreds of positions.

Legend: N samples, C channels, T positions; (N, C, T) stands for (N, C, 1, T) in channels_last memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.core.errors import UserError
from wavefold.models.layers import Conv, Norm, drop, enter, need_least, need_length


class ThreeBranches(nn.Module):
    """ReLU of the sum of a three-tap convolution, a one-tap one and, if shapes allow, the input, each batch-normalised."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.wide, self.wide_norm = Conv(inputs, outputs, 3, stride, 1, bias=False), Norm(outputs)
        self.point, self.point_norm = Conv(inputs, outputs, 1, stride, bias=False), Norm(outputs)
        self.same_norm = Norm(inputs) if inputs == outputs and stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        total = self.wide_norm(self.wide(x)) + self.point_norm(self.point(x))
        if self.same_norm is not None:
            total = total + self.same_norm(x)
        return F.relu(total)

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """One convolution of three taps and ReLU, equal to the three branches in eval mode."""
        outputs, _, inputs = self.wide.weight.shape
        one = Conv(inputs, outputs, 3, self.wide.stride, 1).to(self.wide.weight)
        branches = [(self.wide.weight, self.wide_norm), (_centred(self.point.weight[:, 0]), self.point_norm)]
        if self.same_norm is not None:
            branches.append((_centred(torch.eye(inputs).to(self.wide.weight)), self.same_norm))
        weights, biases = zip(*(_through(weight, norm) for weight, norm in branches), strict=True)
        one.weight.copy_(torch.stack(weights).sum(0))
        assert one.bias is not None
        one.bias.copy_(torch.stack(biases).sum(0))
        return nn.Sequential(one, nn.ReLU())


class RepVGG(nn.Module):
    """A first block, stages of blocks that each halve the positions and double the width, and mean pooling over positions."""

    def __init__(
        self,
        channels: int,
        length: int,
        classes: int,
        *,
        width: int = 32,
        blocks: tuple[int, ...] = (2, 4, 2),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        need_length("repvgg", length, 1)
        need_least("repvgg", 1, width=width)
        if not blocks or min(blocks) < 1:
            raise UserError(f"repvgg: blocks {list(blocks)} must have one number per stage, each 1 or more")
        layers: list[nn.Module] = [ThreeBranches(channels, width, 1)]  # (N, width, T)
        for stage, count in enumerate(blocks):
            outputs = width * 2**stage
            first = width if stage == 0 else outputs // 2
            layers += [ThreeBranches(first, outputs, 2)]  # halves the positions
            layers += [ThreeBranches(outputs, outputs, 1) for _ in range(count - 1)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(drop("repvgg", dropout), nn.Linear(width * 2 ** (len(blocks) - 1), classes))

    def forward(self, signals: Tensor) -> Tensor:
        x = self.features(enter(signals))
        scores: Tensor = self.head(x.mean((2, 3)))
        return scores


def _centred(point: Tensor) -> Tensor:
    return F.pad(point[:, None], (0, 0, 1, 1))  # (output, input) becomes the middle tap of (output, tap 3, input)


def _through(weight: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Fold batch norm in eval mode into the preceding convolution; returns weight and bias."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return weight * scale[:, None, None], norm.bias - norm.running_mean * scale
