"""Random augmentations per batch: noise, shift, gain, stretch, wander.

Each is a pure function of (key, sample): a sample gets the same change in any batch. Give each augmentation
its own key. None of the reproduced systems augments this way; these are the usual augmentations of one-dimensional signals
(Um et al. 2017, arXiv:1706.00527), and `inside` preserves the zero tail of padded heartbeats.

signals: (N, C, T) = sample, channel, position; samples: (N,) int64 numbers; all on one device.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from wavefold.core import random
from wavefold.core.errors import UserError
from wavefold.data.dataset import shape_words


class Augmentation(Protocol):
    """A random change to signals, the same for the same key and sample."""

    def __call__(self, signals: Tensor, samples: Tensor, key: int) -> Tensor:
        """The changed signals, (N, C, T). samples: (N,) int64."""


class Noise:
    """Adds Gaussian noise of standard deviation `sigma`; inside: leave a sample's zero tail unchanged."""

    def __init__(self, sigma: float = 0.01, inside: bool = True) -> None:
        self.sigma, self.inside = not_negative(sigma, "noise.sigma"), inside

    def __call__(self, signals: Tensor, samples: Tensor, key: int) -> Tensor:
        """signals: (N, C, T)."""
        if self.inside:
            need_axes(signals, 3, "noise with inside = true")
        noise = random.normal(key, samples, signals[0].numel()).view_as(signals) * self.sigma
        return signals + (noise * _before_tail(signals) if self.inside else noise)


class Shift:
    """Shifts by a random integer of up to `most` positions in either direction, filling with zeros."""

    def __init__(self, most: int = 5) -> None:
        self.most = int(not_negative(most, "shift.most"))

    def __call__(self, signals: Tensor, samples: Tensor, key: int) -> Tensor:
        """signals: (N, C, T)."""
        need_axes(signals, 3, "shift")
        steps = whole_steps(key, samples, self.most)
        source = torch.arange(signals.shape[2], device=signals.device) - steps  # (N, T)
        return _gather(signals, source)


class Gain:
    """Multiplies by a random number between 1 - `spread` and 1 + `spread`."""

    def __init__(self, spread: float = 0.1) -> None:
        self.spread = _below_one(spread, "gain.spread")

    def __call__(self, signals: Tensor, samples: Tensor, key: int) -> Tensor:
        """signals: (N, C, T)."""
        return signals * _around_one(key, samples, self.spread).to(signals.dtype).view(-1, *[1] * (signals.ndim - 1))


class Stretch:
    """Stretches time from the first position by a factor of 1 - `spread` to 1 + `spread`, with linear interpolation.

    Values past the end are lost; a shortened signal is filled with zeros.
    """

    def __init__(self, spread: float = 0.05) -> None:
        self.spread = _below_one(spread, "stretch.spread")

    def __call__(self, signals: Tensor, samples: Tensor, key: int) -> Tensor:
        """signals: (N, C, T)."""
        need_axes(signals, 3, "stretch")
        place = torch.arange(signals.shape[2], device=signals.device) / _around_one(key, samples, self.spread)  # (N, T)
        left = place.floor()
        part = (place - left).to(signals.dtype)[:, None]  # (N, 1, T)
        return _gather(signals, left.long()) * (1 - part) + _gather(signals, left.long() + 1) * part


class Wander:
    """Adds a sine of at most one cycle over the signal and amplitude 0 to `size`; inside: leave the zero tail unchanged.

    Imitates baseline wander of an electrocardiogram due to breathing, which is slower than a beat.
    """

    def __init__(self, size: float = 0.05, inside: bool = True) -> None:
        self.size, self.inside = not_negative(size, "wander.size"), inside

    def __call__(self, signals: Tensor, samples: Tensor, key: int) -> Tensor:
        """signals: (N, C, T)."""
        need_axes(signals, 3, "wander")
        amplitude, turns, start = random.uniform(key, samples, 3)[:, :, None].unbind(1)  # (N, 1) each
        place = torch.arange(signals.shape[2], device=signals.device) / signals.shape[2]
        wave = self.size * amplitude * torch.sin(2 * math.pi * (turns * place + start))  # (N, T)
        wave = wave.to(signals.dtype)[:, None]
        return signals + (wave * _before_tail(signals) if self.inside else wave)


def need_axes(signals: Tensor, axes: int, name: str) -> None:
    """Raise UserError unless signals have the given number of axes, including the sample axis."""
    if signals.ndim != axes:
        wanted = {3: "(sample, channel, position)", 4: "(sample, panel, time, frequency)"}[axes]
        raise UserError(f"{name}: expected signals {wanted}, but a sample is {shape_words(signals.shape[1:])}")


def whole_steps(key: int, samples: Tensor, most: int) -> Tensor:
    """Uniform random integers from -most to most, (N, 1)."""
    choices = 2 * most + 1
    return (random.uniform(key, samples, 1) * choices).long().clamp(max=choices - 1) - most


def _around_one(key: int, samples: Tensor, spread: float) -> Tensor:
    return 1 + spread * (2 * random.uniform(key, samples, 1) - 1)  # (N, 1)


def _gather(signals: Tensor, source: Tensor) -> Tensor:
    """Values at other positions, zero outside. source: (N, T) int64 positions."""
    last = signals.shape[2] - 1
    within = (source >= 0) & (source <= last)
    return signals.gather(2, source.clamp(0, last)[:, None].expand_as(signals)) * within[:, None]


def _before_tail(signals: Tensor) -> Tensor:
    """True up to a sample's last non-zero value in any channel. result: (N, 1, T)."""
    filled = (signals != 0).any(dim=1, keepdim=True)
    return filled.flip(2).cumsum(2).flip(2) > 0


def not_negative(value: float, place: str) -> float:
    """Return the value; UserError, which names `place`, if it is negative."""
    if value < 0:
        raise UserError(f"{place}: {value} is negative; expected 0 or more")
    return value


def _below_one(value: float, place: str) -> float:
    if not 0 <= value < 1:
        raise UserError(f"{place}: {value} is out of range; it must be at least 0 and below 1")
    return value
