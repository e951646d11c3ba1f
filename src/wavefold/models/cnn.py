"""Nets 1, 2, 3 and 5 of the heartbeat system: plain convolutional classifiers.

Source: the team's write-up of the Tianchi heartbeat contest (nets 1 to 6), with its widths and kernels.
Differences: the nets return logits (no softmax inside) and take any number of channels, positions and classes, with linear
sizes and net 1's last padding computed from the length; net 3's undefined activation is the one it uses elsewhere, and its
order is activation, then batch norm, as the source advises.

Legend: N samples, C channels, T positions, K classes; (N, C, T) stands for (N, C, 1, T) in channels_last memory.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from wavefold.models.layers import Conv, MaxPool, MaxPoolTo, Norm, dense, drop, enter, need_length


class Net1(nn.Module):
    """Four convolutions, whose strides reduce 205 positions to 12, and a three-layer head."""

    def __init__(self, channels: int, length: int, classes: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        need_length("net1", length, 36)
        left = ((length - 11) // 5 - 5) // 3 + 1  # positions before the dilated convolution, which spans 21 of them
        padding = 5 if left > 10 else 10  # 5 is the source's; below length 186 it would leave no position
        self.features = nn.Sequential(
            Norm(channels),
            Conv(channels, 64, 11, padding=5),  # (N, 64, T)
            nn.LeakyReLU(),
            Conv(64, 128, 11, stride=5),  # (N, 128, 39) at T = 205
            Norm(128),
            nn.LeakyReLU(),
            Conv(128, 256, 6, stride=3),  # (N, 256, 12)
            Norm(256),
            nn.LeakyReLU(),
            Conv(256, 256, 11, padding=padding, dilation=2),  # (N, 256, 2)
            Norm(256),
            nn.LeakyReLU(),
            MaxPoolTo(4),  # (N, 256, 4)
        )
        self.head = nn.Sequential(drop("net1", dropout), nn.Flatten(), *dense([1024, 256, 128, classes], nn.LeakyReLU))

    def forward(self, signals: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(enter(signals)))
        return scores


class Net2(nn.Module):
    """Three parallel convolutions of different kernel sizes, summed, then two unpadded convolutions."""

    def __init__(self, channels: int, length: int, classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        need_length("net2", length, 9)
        self.reaches = nn.ModuleList(Conv(channels, 32, k, padding=p) for k, p in ((7, 5), (11, 7), (17, 10)))
        self.features = nn.Sequential(
            Norm(32),
            nn.LeakyReLU(0.2),
            nn.ReLU(),
            Conv(32, 64, 11),  # (N, 64, T - 6)
            Norm(64),
            nn.ReLU(),
            Conv(64, 128, 3),  # (N, 128, T - 8)
            Norm(128),
            nn.ReLU(),
            MaxPoolTo(4),  # (N, 128, 4)
        )
        layers = dense([512, 256, 1024, classes], nn.LeakyReLU)
        self.head = nn.Sequential(nn.Flatten(), nn.LeakyReLU(), drop("net2", dropout), *layers)

    def forward(self, signals: Tensor) -> Tensor:
        x = enter(signals)
        near, middle, far = (reach(x) for reach in self.reaches)  # (N, 32, T + 4) each
        scores: Tensor = self.head(self.features(near + middle + far))
        return scores


class Net3(nn.Module):
    """Two pairs of convolutions, each followed by max pooling of four; normalises after the activation."""

    def __init__(self, channels: int, length: int, classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        need_length("net3", length, 16)
        self.features = nn.Sequential(
            Norm(channels),
            Conv(channels, 32, 11, padding=5),
            nn.LeakyReLU(),
            Norm(32),
            Conv(32, 64, 11, padding=5),
            nn.LeakyReLU(),
            MaxPool(4),  # (N, 64, T / 4)
            Norm(64),
            Conv(64, 128, 3, padding=1),
            nn.LeakyReLU(),
            Norm(128),
            Conv(128, 256, 3, padding=1),
            nn.LeakyReLU(),
            MaxPool(4),  # (N, 256, T / 16): 12 at T = 205
            drop("net3", dropout),
        )
        self.head = nn.Sequential(nn.Flatten(), *dense([256 * (length // 16), 1024, 128, classes], nn.LeakyReLU))

    def forward(self, signals: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(enter(signals)))
        return scores


class Net5(nn.Module):
    """Six convolutions of kernel 3 with three poolings of two, and a very wide head (107 million weights at length 205)."""

    def __init__(self, channels: int, length: int, classes: int) -> None:
        super().__init__()
        need_length("net5", length, 8)
        widths = (channels, 16, 32, 64, 128, 256, 512)
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            layers += [Conv(inputs, outputs, 3, padding=1), Norm(outputs), nn.ReLU()]
            layers += [MaxPool(2)] if number % 2 else []
        self.features = nn.Sequential(*layers)  # (N, 512, T / 8): 25 at T = 205
        left = length // 8
        self.head = nn.Sequential(nn.Flatten(), *dense([w * left for w in (512, 256, 128, 64)] + [classes], nn.ReLU))

    def forward(self, signals: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(enter(signals)))
        return scores
