"""Training speed of net 1 and of the split-sum net in the house's layout against the plain nn.Conv1d forms.

Run: OMP_WAIT_POLICY=passive python benchmarks/layout.py [rounds]
The two forms take turns; printed are medians and the median of the ratios round by round, which a busy machine blurs less.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time

import torch
from torch import Tensor, nn

from wavefold.models import MODELS
from wavefold.models.layers import Conv, MaxPoolTo, Norm

_SECONDS = 2.0  # of each form in each round


def plain_form(net: nn.Module) -> nn.Module:
    """Net 1 as PyTorch users write it: (N, C, T), nn.Conv1d, nn.BatchNorm1d; the same weights."""
    layers = [_plain_layer(layer) for part in net.children() for layer in part.children()]
    return nn.Sequential(*layers)


def _plain_layer(layer: nn.Module) -> nn.Module:
    if isinstance(layer, Conv):
        outputs, kernel, inputs = layer.weight.shape
        conv = nn.Conv1d(inputs, outputs, kernel, layer.stride, layer.padding, layer.dilation)
        conv.load_state_dict({"weight": layer.weight.transpose(1, 2), "bias": layer.bias})
        return conv
    if isinstance(layer, Norm):
        return nn.BatchNorm1d(layer.num_features)
    return nn.AdaptiveMaxPool1d(layer.size) if isinstance(layer, MaxPoolTo) else layer


class SourceBlock(nn.Module):
    """A block of the spectra system as its source writes it: (N, C, T), one convolution of twice the width, cut in halves."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        inputs = (channels, width, width)
        self.convs = nn.ModuleList(
            nn.Conv1d(c, 2 * width, 3, padding=d, dilation=d) for c, d in zip(inputs, (1, 2, 4), strict=True)
        )
        self.shortcut = nn.Identity() if channels == width else nn.Conv1d(channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        path = x
        for conv in self.convs:
            left, right = torch.relu(conv(path)).chunk(2, dim=1)
            path = left + right
        return self.shortcut(x) + path


def source_form(classes: int) -> nn.Module:
    """The net of the spectra system as PyTorch users write it; its weights are its own."""
    layers: list[nn.Module] = []
    for channels, width in itertools.pairwise((1, 16, 16, 32, 32, 64, 64, 128, 128)):
        layers += [SourceBlock(channels, width), nn.MaxPool1d(2)]
    head = [nn.Dropout1d(0.5), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, classes)]
    return nn.Sequential(*layers[:-1], *head)


def rate(net: nn.Module, signals: Tensor, labels: Tensor) -> float:
    """Samples a second through whole training steps."""
    train_in_memory = torch.optim.Adam(net.parameters(), fused=True)
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < _SECONDS:
        train_in_memory.zero_grad()
        nn.functional.cross_entropy(net(signals), labels).backward()
        train_in_memory.step()
        steps += 1
    return steps * len(signals) / (time.perf_counter() - start)


def main(rounds: int) -> None:
    """Print both rates and their ratio for the batch sizes of the recipes."""
    torch.manual_seed(0)
    heart, spectrum = MODELS["net1"](1, 205, 4), MODELS["split_sum"](1, 2600, 4)
    compare("net 1, batch 32", [heart, plain_form(heart)], torch.rand(32, 1, 205), rounds)
    compare("net 1, batch 512", [heart, plain_form(heart)], torch.rand(512, 1, 205), rounds)
    compare("split-sum net, batch 160", [spectrum, source_form(4)], torch.rand(160, 1, 2600), rounds)


def compare(name: str, forms: list[nn.Module], signals: Tensor, rounds: int) -> None:
    """Let the forms take turns and print their rates."""
    labels = torch.arange(len(signals)) % 4
    pairs = [[rate(form, signals, labels) for form in forms] for _ in range(rounds + 1)][1:]  # the first warms up
    ours, plain = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{name}: ours {ours:,.0f}/s, plain {plain:,.0f}/s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
