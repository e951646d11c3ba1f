"""What a model is made of: each layer's kind, output shape and number of parameters, found by one batch of zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layer:
    """One layer as a page shows it."""

    name: str  # its path in the model, as in the saved weights: features.3
    kind: str  # its class: Conv, Norm, Linear
    shape: tuple[int, ...]  # of one sample's output: (channel, position), or (feature,)
    parameters: int  # learned numbers


def describe(model: nn.Module, channels: int, length: int) -> list[Layer]:
    """The model's innermost layers in the order they run, for one sample of (channels, length)."""
    layers: list[Layer] = []
    names = {module: name for name, module in model.named_modules() if not list(module.children())}
    hooks = [m.register_forward_hook(lambda m, _, out: layers.append(_layer(names[m], m, out))) for m in names]
    training = model.training
    weight = next(model.parameters())
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, channels, length, dtype=weight.dtype, device=weight.device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return layers


def count_parameters(layers: Sequence[Layer]) -> int:
    """The learned numbers of all layers together."""
    return sum(layer.parameters for layer in layers)


def _layer(name: str, module: nn.Module, output: Any) -> Layer:
    first: Tensor = output[0] if isinstance(output, tuple) else output  # an LSTM hands its states over as well
    shape = tuple(first.shape[1:])
    shape = (shape[0], shape[2]) if len(shape) == 3 and shape[1] == 1 else shape
    return Layer(name, type(module).__name__, shape, sum(p.numel() for p in module.parameters()))
