"""L-BFGS on many independent problems at once: each has its own history and step, and all share a pass over the data.

Source: Nocedal and Wright 2006, "Numerical Optimization", algorithms 7.4 (two loops) and 3.1 (backtracking). For convex
losses: then backtracking suffices, and no step spoils the history.

Legend: L problems, P parameters of each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

_HISTORY = 10
_HALVINGS = 12  # most steps tried along a direction
_DECREASE = 1e-4  # least decrease of the loss that accepts a step, as a share of what the slope promises
_FLAT = 1e-4  # a problem whose gradients are all below this is solved
_STALLED = 1e-6  # and one whose loss decreases by less than this share

Losses = Callable[[Tensor], Tensor]
Pair = tuple[Tensor, Tensor]  # the changes of weights and of gradients in one step, (L, P) each


def minimise_each(losses: Losses, start: Tensor, iterations: int) -> Tensor:
    """Weights (L, P) that minimise each of the losses (L,) of weights (L, P); a loss depends on its own row only."""
    weights, history = start.clone(), deque[Pair](maxlen=_HISTORY)
    values, slopes = _measure(losses, weights)
    active = slopes.abs().amax(1) > _FLAT
    for _ in range(iterations):
        if not active.any():
            break
        direction = torch.where(active[:, None], -_two_loops(slopes, history), 0)
        moved, lower, other = _backtrack(losses, (weights, values, slopes), direction)
        active &= (other.abs().amax(1) > _FLAT) & (values - lower > _STALLED * values.abs())
        history.append((moved - weights, other - slopes))
        weights, values, slopes = moved, lower, other
    return weights


def _measure(losses: Losses, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (L,) and their gradients (L, P)."""
    leaf = weights.detach().requires_grad_()
    values = losses(leaf)
    return values.detach(), torch.autograd.grad(values.sum(), leaf)[0]


def _two_loops(slopes: Tensor, history: deque[Pair]) -> Tensor:
    """Gradients (L, P) times each problem's approximate inverse Hessian."""
    if not history:
        return slopes / slopes.abs().sum(1, keepdim=True).clamp(min=1)
    found, shares = slopes, []
    for step, change in reversed(history):
        shares.append(_ratio(_dot(step, found), _dot(step, change)))
        found = found - shares[-1] * change
    step, change = history[-1]
    scale = _ratio(_dot(step, change), _dot(change, change))
    found = torch.where(scale > 0, scale, 1) * found
    for (step, change), share in zip(history, reversed(shares), strict=True):
        found = found + step * (share - _ratio(_dot(change, found), _dot(step, change)))
    return found


def _backtrack(losses: Losses, state: tuple[Tensor, Tensor, Tensor], direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, losses and gradients after a step that is halved for each problem until its loss decreases enough."""
    weights, values, slopes = state
    promised, step = _dot(slopes, direction)[:, 0], torch.ones_like(values)
    for _ in range(_HALVINGS):
        moved = weights + step[:, None] * direction
        lower, other = _measure(losses, moved)
        bad = ~(lower <= values + _DECREASE * step * promised)
        if not bad.any():
            return moved, lower, other
        step = torch.where(bad, step / 2, step)
    stay = bad[:, None]
    return torch.where(stay, weights, moved), torch.where(bad, values, lower), torch.where(stay, slopes, other)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1, keepdim=True)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, or 0 where b is not positive: a problem that has not moved."""
    return torch.where(b > 0, a / b, 0)
