"""Training speed of net 1 in the house's layout against the plain nn.Conv1d form with the same weights.

Run: OMP_WAIT_POLICY=passive python benchmarks/layout.py [rounds]
The two forms take turns; printed are medians and the median of the ratios round by round, which a busy machine blurs less.
"""

from __future__ import annotations

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


def rate(net: nn.Module, signals: Tensor, labels: Tensor) -> float:
    """Samples a second through whole training steps."""
    teach = torch.optim.Adam(net.parameters(), fused=True)
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < _SECONDS:
        teach.zero_grad()
        nn.functional.cross_entropy(net(signals), labels).backward()
        teach.step()
        steps += 1
    return steps * len(signals) / (time.perf_counter() - start)


def main(rounds: int) -> None:
    """Print both rates and their ratio for two batch sizes."""
    for size in (32, 512):
        torch.manual_seed(0)
        net = MODELS["net1"](1, 205, 4)
        forms = [net, plain_form(net)]
        signals, labels = torch.rand(size, 1, 205), torch.arange(size) % 4
        pairs = [[rate(form, signals, labels) for form in forms] for _ in range(rounds + 1)][1:]  # the first warms up
        ours, plain = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"batch {size}: ours {ours:,.0f}/s, plain {plain:,.0f}/s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
