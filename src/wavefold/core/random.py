"""Random numbers as a pure function of (seed, epoch, sample): no state to save, no order to keep.

A counter is mixed by the SplitMix64 finaliser (Steele, Lea and Flood 2014). A sample gets the same numbers whatever batch,
worker or process draws them, and an interrupted run resumes with the numbers it would have drawn.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15, the golden-ratio step, as a signed word
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB
_ALL = (1 << 64) - 1


def key(*numbers: int) -> int:
    """Mix a few integers, such as (seed, stage, epoch), into one signed 64-bit word."""
    word = 0
    for number in numbers:
        word = (word + _GAMMA + number) & _ALL
        word = ((word ^ (word >> 30)) * _FIRST) & _ALL
        word = ((word ^ (word >> 27)) * _SECOND) & _ALL
        word ^= word >> 31
    return word - (1 << 64) if word >> 63 else word


def uniform(key: int, samples: Tensor, count: int) -> Tensor:
    """Uniform numbers in (0, 1). samples: (sample,) int64; result: (sample, count) float32, on the same device."""
    words = _mix(_mix(samples + key)[:, None] + _GAMMA * torch.arange(1, count + 1, device=samples.device))
    return (_shift(words, 41).float() + 0.5) * 2.0**-23  # 24 bits would round the largest up to 1


def normal(key: int, samples: Tensor, count: int) -> Tensor:
    """Standard normal numbers by the Box-Muller transform. samples: (sample,) int64; result: (sample, count) float32."""
    half = (count + 1) // 2
    u = uniform(key, samples, 2 * half)
    radius, angle = torch.sqrt(-2.0 * torch.log(u[:, :half])), 2.0 * math.pi * u[:, half:]
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :count]


def _shift(word: Tensor, bits: int) -> Tensor:
    return (word >> bits) & ((1 << (64 - bits)) - 1)  # a logical shift; int64's own shift is arithmetic


def _mix(word: Tensor) -> Tensor:
    word = (word ^ _shift(word, 30)) * _FIRST
    word = (word ^ _shift(word, 27)) * _SECOND
    return word ^ _shift(word, 31)
