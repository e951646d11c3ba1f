"""Advection whose structures fade, grow and shrink by size as they did in the past frames: S-PROG (Seed 2003).

The last past frame is decomposed into bands by spatial scale. How each band goes on is measured on the window itself, by
comparing advected earlier frames with the last one, so no training is needed and the forecast adapts to the event. Two models
of a band are averaged: an exponential decay fitted to lags of up to 8 steps, and a second-order autoregression as in the
source, which also follows growth and decay, but not for long: its share falls from 1 to one half within some 10 steps.
Differences from the source: that average, and bands that are differences of Gaussian blurs rather than Fourier filters.

Legend: N windows, C channels, P past frames, B bands, L lags, H rows, W columns.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from wavefold.models.advection import latest, motion, moved
from wavefold.models.blur import blurred

_BLURS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # cells, the scales that separate the bands
_LAGS = (1, 2, 4, 8)  # steps over which decay is measured
_PAIRS = 2  # of frames that the autoregression's correlations are averaged over
_TREND, _LEAST = 6.0, 0.5  # steps in which the autoregression's share falls by e, and what it falls to
_TINY = 1e-12


@torch.no_grad()
def fading_advection(past: Tensor, ahead: int, apart: int = 1) -> Tensor:
    """Extrapolate the last past frame for `ahead` frames while its bands change, (N, C, ahead, H, W) float32, finite.

    past: (N, C, P, H, W) in any unit. Frames of one window fade towards their mean over its last frame. apart: as in `motion`.
    """
    speed, frames = motion(past, apart=apart), _filled(past)
    level = frames[:, :, -1].mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
    before = _earlier(frames, speed, level)
    decay, (first, second) = _decay(before), _autoregression(before)
    now, then = before[0], before.get(1, before[0])
    fading, way, made = now, torch.zeros_like(speed), []
    for lead in range(1, ahead + 1):
        step = moved(speed, way)
        way = way + moved(speed, way + step / 2)
        now, then = first * now + second * then, now
        trend = _LEAST + (1 - _LEAST) * math.exp(-lead / _TREND)
        left = torch.exp(-lead * decay)[..., None, None]
        bands = trend * now + (1 - trend) * left * fading
        made.append(moved(bands.sum(dim=2), way) + level)
    return torch.stack(made, dim=2)


@torch.no_grad()
def matched_advection(past: Tensor, ahead: int, apart: int = 1) -> Tensor:
    """The same with the last frame's distribution of values at every lead: blurred less, so heavy rain stays heavy."""
    return as_distributed(fading_advection(past, ahead, apart), past[:, :, -1])


def as_distributed(frames: Tensor, like: Tensor) -> Tensor:
    """Frames (N, C, A, H, W) whose values are replaced, rank by rank, with those of `like` (N, C, H, W): probability matching.

    Cells that are missing in `like` keep their value. Source: Ebert 2001, as in pysteps.
    """
    size, known = frames.shape, like.isfinite().flatten(2)[:, :, None].expand(-1, -1, frames.shape[2], -1)
    values, wanted = frames.flatten(3), like.flatten(2)[:, :, None].expand(-1, -1, frames.shape[2], -1)
    lowest = torch.finfo(torch.float32).min
    order = torch.where(known, values, lowest).argsort(dim=-1, stable=True)
    ranked = torch.where(known, wanted, lowest).sort(dim=-1).values
    made = torch.zeros_like(values).scatter(-1, order, ranked)
    return torch.where(known, made, values).view(size)


def _filled(past: Tensor) -> Tensor:
    """Past frames with missing cells filled by their latest earlier value, so that every frame can be decomposed."""
    return torch.stack([latest(past[:, :, : number + 1]) for number in range(past.shape[2])], dim=2)


def _bands(frame: Tensor) -> Tensor:
    """Decompose a frame (N, C, H, W) into bands from fine to coarse, (N, C, B, H, W), that sum to it."""
    smooth = [frame, *(blurred(frame, blur, edges=True) for blur in _BLURS)]
    return torch.stack([a - b for a, b in pairwise(smooth)] + [smooth[-1]], dim=2)


def _earlier(frames: Tensor, speed: Tensor, level: Tensor) -> dict[int, Tensor]:
    """By lag, 0 for the last frame: bands of an earlier frame, advected to the time of the last one."""
    way, found = torch.zeros_like(speed), {0: _bands(frames[:, :, -1] - level)}
    wanted = {*_LAGS, *range(1, 2 + _PAIRS)}
    for lag in range(1, min(max(wanted) + 1, frames.shape[2])):
        way = way + moved(speed, way)
        if lag in wanted:
            found[lag] = _bands(moved(frames[:, :, -1 - lag], way) - level)
    return found


def _decay(before: dict[int, Tensor]) -> Tensor:
    """Decay rate of each band, 1 / steps, (N, C, B): an advected band's share in the last frame falls as exp(-decay lag)."""
    now, lags = before[0], [lag for lag in _LAGS if lag in before]
    if not lags:
        return now.new_zeros(now.shape[:3])
    shares = [(before[lag] * now).mean(dim=(3, 4)) / (before[lag].square().mean(dim=(3, 4)) + _TINY) for lag in lags]
    steps = now.new_tensor(lags)[:, None, None, None]
    fallen = -torch.log(torch.stack(shares).clamp(0.02, 1.0))  # (L, N, C, B), least squares through the origin
    return (steps * fallen).sum(dim=0) / steps.square().sum()


def _autoregression(before: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
    """Factors (N, C, B, 1, 1) of a band's last and last but one state (Yule-Walker); with few frames, no change."""
    now, pairs = before[0], range(_PAIRS)
    if 1 + _PAIRS not in before:
        return torch.ones_like(now[..., :1, :1]), torch.zeros_like(now[..., :1, :1])
    near = torch.stack([_correlation(before[n], before[n + 1]) for n in pairs]).mean(dim=0).clamp(0, 1 - 1e-4)
    far = torch.stack([_correlation(before[n], before[n + 2]) for n in pairs]).mean(dim=0)
    far = torch.minimum(torch.maximum(far, 2 * near.square() - 1), near)  # else the band would grow without end
    rest = 1 - near.square()
    return (near * (1 - far) / rest)[..., None, None], ((far - near.square()) / rest)[..., None, None]


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    """Of the cells of bands (N, C, B, H, W) around 0, (N, C, B)."""
    size = (one.square().mean(dim=(3, 4)) * other.square().mean(dim=(3, 4))).sqrt()
    return (one * other).mean(dim=(3, 4)) / (size + _TINY)
