"""Model summary: each layer's kind, output shape and number of parameters, found by running one batch of zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_Output = Tensor | tuple[Tensor, object]  # an LSTM also returns its states


@dataclass(frozen=True)
class Layer:
    """One layer, as shown in a summary."""

    name: str  # its path in the model, as in the saved weights: features.3
    kind: str  # its class: Conv, Norm, Linear
    shape: tuple[int, ...]  # of one sample's output: (channel, position), (channel, row, column) or (feature,)
    parameters: int  # number of learned parameters


def describe(model: nn.Module, *shape: int) -> list[Layer]:
    """List the model's innermost layers in the order they first run, for one sample of a shape.

    shape: (channels, length), or (panels, rows, columns). A layer that runs several times is listed once. A block with
    parameters of its own also counts as a layer.
    """
    layers: dict[nn.Module, Layer] = {}
    names = {m: name for name, m in model.named_modules() if not list(m.children()) or list(m.parameters(recurse=False))}

    def note(module: nn.Module, given: object, output: _Output) -> None:
        layers.setdefault(module, _layer(names[module], module, output, len(shape) == 2))

    hooks = [module.register_forward_hook(note) for module in names]
    training = model.training
    weight = next(model.parameters())
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape, dtype=weight.dtype, device=weight.device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return list(layers.values())


def count_parameters(layers: Sequence[Layer]) -> int:
    """The total number of parameters in the layers."""
    return sum(layer.parameters for layer in layers)


def _layer(name: str, module: nn.Module, output: _Output, flat: bool) -> Layer:
    """flat: the net has one axis, which its layers may store as the second of two."""
    first = output[0] if isinstance(output, tuple) else output
    shape = tuple(first.shape[1:])
    shape = (shape[0], shape[2]) if flat and len(shape) == 3 and shape[1] == 1 else shape
    return Layer(name, type(module).__name__, shape, sum(p.numel() for p in module.parameters(recurse=False)))
