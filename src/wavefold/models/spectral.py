"""Advection whose small structures fade at the rate at which they faded in the past frames: S-PROG (Seed 2003).

The last past frame is decomposed into bands by spatial scale. The decay of each band is estimated on the window itself, by
comparing advected earlier frames with the last one, so no training is needed and the forecast adapts to the event.
Differences from the source: bands are differences of Gaussian blurs rather than Fourier filters, and decay is one exponential
per band, fitted to several lags, rather than a second-order autoregression.

Legend: N windows, C channels, P past frames, B bands, L lags, H rows, W columns.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from wavefold.models.advection import latest, motion, moved
from wavefold.models.blur import blurred

_BLURS = (1.0, 2.0, 4.0, 8.0, 16.0)  # cells, the scales that separate the bands
_LAGS = (1, 2, 4, 8)  # steps over which decay is measured
_TINY = 1e-12


@torch.no_grad()
def fading_advection(past: Tensor, ahead: int) -> Tensor:
    """Extrapolate the last past frame for `ahead` frames while its bands decay, (N, C, ahead, H, W) float32, finite.

    past: (N, C, P, H, W) in any unit. Frames of one window fade towards their mean over its last frame.
    """
    speed, frames = motion(past), _filled(past)
    level = frames[:, :, -1].mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
    decay = _decay(frames, speed)  # (N, C, B)
    bands = _bands(frames[:, :, -1] - level)  # (N, C, B, H, W)
    way, made = torch.zeros_like(speed), []
    for lead in range(1, ahead + 1):
        step = moved(speed, way)
        way = way + moved(speed, way + step / 2)
        left = torch.exp(-lead * decay)[..., None, None]
        made.append(moved((bands * left).sum(dim=2), way) + level)
    return torch.stack(made, dim=2)


def _filled(past: Tensor) -> Tensor:
    """Past frames with missing cells filled by their latest earlier value, so that every frame can be decomposed."""
    return torch.stack([latest(past[:, :, : number + 1]) for number in range(past.shape[2])], dim=2)


def _bands(frame: Tensor) -> Tensor:
    """Decompose a frame (N, C, H, W) into bands from fine to coarse, (N, C, B, H, W), that sum to it."""
    smooth = [frame, *(blurred(frame, blur, edges=True) for blur in _BLURS)]
    return torch.stack([a - b for a, b in pairwise(smooth)] + [smooth[-1]], dim=2)


def _decay(frames: Tensor, speed: Tensor) -> Tensor:
    """Decay rate of each band, 1 / steps, (N, C, B): an advected band's share in the last frame falls as exp(-decay lag)."""
    last, lags = frames[:, :, -1], [lag for lag in _LAGS if lag < frames.shape[2]]
    level = last.mean(dim=(2, 3), keepdim=True)
    now, way, shares = _bands(last - level), torch.zeros_like(speed), []
    for lag in range(1, max(lags, default=0) + 1):
        way = way + moved(speed, way)
        if lag in lags:
            then = _bands(moved(frames[:, :, -1 - lag], way) - level)
            shares.append((then * now).mean(dim=(3, 4)) / (then.square().mean(dim=(3, 4)) + _TINY))
    if not shares:
        return now.new_zeros(now.shape[:3])
    steps = now.new_tensor(lags)[:, None, None, None]
    fallen = -torch.log(torch.stack(shares).clamp(0.02, 1.0))  # (L, N, C, B), least squares through the origin
    return (steps * fallen).sum(dim=0) / steps.square().sum()
