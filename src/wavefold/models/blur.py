"""Gaussian blurs of frames."""

from __future__ import annotations

import torch
from torch import Tensor


def blurred(values: Tensor, reach: float, edges: bool = False) -> Tensor:
    """Gaussian blur over rows and columns; `edges` renormalises the weights inside the frame, else outside counts as 0."""
    down, across = (_weights(count, reach, values, edges) for count in values.shape[-2:])
    return down @ values @ across.T


def _weights(count: int, reach: float, like: Tensor, edges: bool) -> Tensor:
    """(count, count) Gaussian weights between all pairs of positions."""
    place = torch.arange(count, device=like.device, dtype=like.dtype)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * reach**2))
    return weights / (weights.sum(dim=1, keepdim=True) if edges else reach * (2 * torch.pi) ** 0.5)
