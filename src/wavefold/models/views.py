"""Test-time augmentation: averages a net's predictions over a cadence and its mirror images.

Legend: N samples, P panels, T times, F frequencies, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Protocol, TypeGuard

import torch
from torch import Tensor, nn

from wavefold.core.registry import Table

MIRRORS: Table[Callable[[Tensor], Tensor]] = Table("mirrors")


class _Fronted(Protocol):
    """What is used of a net whose first steps have no parameters."""

    def front(self, signals: Tensor, /) -> tuple[Tensor, ...]: ...
    def answer(self, *seen: Tensor) -> Tensor: ...


class Views(nn.Module):
    """Log of the mean probabilities over all views: every combination of mirrored and unmirrored axes."""

    def __init__(self, model: nn.Module, axes: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.axes = tuple(dict.fromkeys(axes))

    def forward(self, signals: Tensor) -> Tensor:
        """Map (N, P, T, F) to (N, C), whose softmax is the mean probability."""
        odds = [self.model(_seen(signals, mirrored)).double().softmax(dim=1) for mirrored in self._views()]
        return torch.stack(odds).mean(dim=0).log()

    def front(self, signals: Tensor) -> tuple[Tensor, ...]:
        """Apply the net's `front`, the steps without parameters, to all views concatenated along the batch."""
        return _fronted(self.model).front(torch.cat([_seen(signals, mirrored) for mirrored in self._views()]))

    def answer(self, *seen: Tensor) -> Tensor:
        """Compute what `forward` returns from the output of `front`."""
        logits = _fronted(self.model).answer(*seen)  # (view x N, C)
        odds = logits.double().softmax(dim=1)
        return odds.view(len(self._views()), -1, odds.shape[1]).mean(dim=0).log()

    def _views(self) -> list[list[str]]:
        """The axes that each view mirrors; the first view mirrors none."""
        chosen = product((False, True), repeat=len(self.axes))
        return [[axis for axis, turned in zip(self.axes, turns, strict=True) if turned] for turns in chosen]


def _fronted(net: nn.Module) -> _Fronted:
    if not _has_front(net):
        raise AttributeError(f"{type(net).__name__} has no front")
    return net


def _seen(signals: Tensor, mirrored: Sequence[str]) -> Tensor:
    for axis in mirrored:
        signals = MIRRORS[axis](signals)
    return signals


def answers_of(nets: Sequence[nn.Module], signals: Sequence[Tensor]) -> list[Tensor]:
    """Compute the outputs of the nets of several folds, each on its own fold's signals or all on the same ones.

    For the same signals, nets with `front` and `answer` share one pass of `front`, which has no parameters.
    """
    if len(signals) > 1:
        return [net(values) for net, values in zip(nets, signals, strict=True)]
    fronted = [net for net in nets if _has_front(net)]
    if len(fronted) == len(nets):
        seen = fronted[0].front(signals[0])
        return [net.answer(*seen) for net in fronted]
    return [net(signals[0]) for net in nets]


def _has_front(net: nn.Module) -> TypeGuard[_Fronted]:
    return _has_front(net.model) if isinstance(net, Views) else hasattr(net, "front")
