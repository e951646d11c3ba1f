"""Net 6 of the heartbeat system: three residual bottleneck blocks.

Source: the team's write-up of the Tianchi heartbeat contest (its ResNet), with its widths and kernels.
Differences: the net returns logits (no softmax inside) and takes any number of channels, positions and classes.

Legend: N samples, C channels, T positions; (N, C, T) stands for (N, C, 1, T) in channels_last memory.
"""

from __future__ import annotations

from torch import Tensor, nn

from wavefold.models.layers import Conv, MaxPool, MeanPoolTo, Norm, drop, enter, need_length


class Bottleneck(nn.Module):
    """Convolutions of 1, 3 and 1 taps plus a shortcut, which is a one-tap convolution if the widths differ."""

    def __init__(self, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Conv(inputs, middle, 1),
            Norm(middle),
            nn.LeakyReLU(),
            Conv(middle, middle, 3, padding=1),
            Norm(middle),
            nn.LeakyReLU(),
            Conv(middle, outputs, 1),
            Norm(outputs),
            nn.LeakyReLU(),
        )
        self.shortcut = nn.Identity() if inputs == outputs else Conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.layers(x) + self.shortcut(x)
        return total


class Net6(nn.Module):
    """A wide first convolution, pooling, three bottlenecks and a three-layer head with batch norm."""

    def __init__(self, channels: int, length: int, classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        need_length("net6", length, 1)
        self.features = nn.Sequential(
            Conv(channels, 64, 11, padding=5),  # (N, 64, T)
            MaxPool(3, 2, 1),  # (N, 64, T / 2)
            Bottleneck(64, 64, 256),  # (N, 256, T / 2)
            Bottleneck(256, 64, 256),
            Bottleneck(256, 64, 256),
            MeanPoolTo(4),  # (N, 256, 4)
            drop("net6", dropout),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(1024, 1024),
            Norm(1024),
            nn.LeakyReLU(),
            nn.Linear(1024, 256),
            Norm(256),
            nn.LeakyReLU(),
            nn.Linear(256, classes),
        )

    def forward(self, signals: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(enter(signals)))
        return scores
