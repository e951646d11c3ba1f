"""Net 4 of the heartbeat system, convolutions before an LSTM, and a plain LSTM classifier.

Source: the team's write-up of the Tianchi heartbeat contest (net 4), with its widths and kernels.
Differences: the LSTM runs along time, one step per position (the source passes it (batch, feature), so that it runs along
the batch and mixes samples); linear sizes adapt; the undefined activation is the one used elsewhere; the net returns logits.

Legend: N samples, C channels, T positions, K classes; (N, C, T) stands for (N, C, 1, T) in channels_last memory.
"""

from __future__ import annotations

from torch import Tensor, nn

from wavefold.models.layers import Conv, MaxPoolTo, Norm, dense, drop, enter, need_least, need_length


class Net4(nn.Module):
    """Two pairs of convolutions, each pooled to `steps` positions (4 in the source), then an LSTM along them."""

    def __init__(self, channels: int, length: int, classes: int, *, dropout: float = 0.1, steps: int = 4) -> None:
        super().__init__()
        need_length("net4", length, 11)
        need_least("net4", 1, steps=steps)
        self.features = nn.Sequential(
            Norm(channels),
            Conv(channels, 32, 11, padding=5),
            nn.LeakyReLU(),
            Norm(32),
            Conv(32, 64, 11, padding=5, dilation=2),  # (N, 64, T - 10)
            nn.LeakyReLU(),
            MaxPoolTo(steps),
            Norm(64),
            Conv(64, 128, 9, padding=5),  # (N, 128, steps + 2)
            nn.LeakyReLU(),
            Norm(128),
            Conv(128, 256, 3, padding=1),
            nn.LeakyReLU(),
            MaxPoolTo(steps),
            drop("net4", dropout),
        )
        self.lstm = nn.LSTM(256, 1024, batch_first=True)
        layers = dense([1024 * steps, 1024, 128, classes], nn.LeakyReLU)
        self.head = nn.Sequential(drop("net4", dropout), nn.Flatten(), *layers)

    def forward(self, signals: Tensor) -> Tensor:
        x = self.features(enter(signals))  # (N, 256, steps)
        along, _ = self.lstm(x.squeeze(2).transpose(1, 2))  # (N, steps, 1024)
        scores: Tensor = self.head(along)
        return scores


class LSTM(nn.Module):
    """A bidirectional LSTM along the positions; a linear layer classifies the maximum of its states over positions."""

    def __init__(
        self, channels: int, length: int, classes: int, *, width: int = 64, layers: int = 1, dropout: float = 0.1
    ) -> None:
        super().__init__()
        need_length("lstm", length, 1)
        need_least("lstm", 1, width=width, layers=layers)
        at_head = drop("lstm", dropout)
        between = dropout if layers > 1 else 0.0  # with one layer there is nothing between layers to drop, and torch would warn
        self.lstm = nn.LSTM(channels, width, layers, batch_first=True, bidirectional=True, dropout=between)
        self.head = nn.Sequential(at_head, nn.Linear(2 * width, classes))

    def forward(self, signals: Tensor) -> Tensor:
        states, _ = self.lstm(signals.transpose(1, 2))  # (N, T, 2 width)
        scores: Tensor = self.head(states.amax(1))
        return scores
