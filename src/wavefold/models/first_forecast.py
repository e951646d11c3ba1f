"""Shared parts of forecasting nets: first forecasts that a net's output is added to, frame layouts, option checks.

Legend: N samples, C channels, P past frames, K targets, A ahead frames, R rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.core.errors import UserError, listed, nearest
from wavefold.models.advection import advect
from wavefold.models.spectral import fading_advection

Start = Literal["none", "last", "damped", "mean", "advection", "spectral"]
Activation = Literal["linear", "sigmoid"]

_CARRIED = {"advection": advect, "spectral": fading_advection}  # first forecasts that extrapolate the past motion

_EDGE = 0.01  # with a sigmoid, a first forecast's minimum distance from 0 and 1, so that the gradient never vanishes
_QUIET = 0.01  # factor for a head's initial weights if there is a first forecast


class FirstForecast(nn.Module):
    """A simple forecast (N, K, A, R, W) from past frames (N, C, P, R, W), or None for "none".

    "last" repeats the last frame; "damped" multiplies it by a learned factor per lead, initially exp(-2 lead / leads), so that
    it decays to 0, the usual value of anomalies; "mean" is the mean of the past frames; "advection" extrapolates the last frame
    along the past motion; "spectral" does the same, with small structures fading as they did in the past.
    """

    def __init__(self, start: Start, targets: int, ahead: int) -> None:
        super().__init__()
        self.start, self.targets, self.ahead = start, targets, ahead
        factors = torch.exp(-2 * torch.arange(1.0, ahead + 1) / ahead).expand(targets, -1)
        self.factors = nn.Parameter(factors.clone()) if start == "damped" else None  # (K, A)

    def forward(self, past: Tensor) -> Tensor | None:
        if self.start == "none":
            return None
        seen = past[:, : self.targets]
        if self.start in _CARRIED:
            return _CARRIED[self.start](seen, self.ahead)
        frame = seen.mean(2, keepdim=True) if self.start == "mean" else seen[:, :, -1:]
        every = frame.expand(-1, -1, self.ahead, -1, -1)
        return every if self.factors is None else every * self.factors[..., None, None]


def answer(change: Tensor, first: Tensor | None, activation: Activation) -> Tensor:
    """Add a head's change to the first forecast, of the same shape, and apply the activation.

    With a sigmoid, logits are added: the first forecast is clamped to 0.01 to 0.99 and is returned where the change is 0.
    """
    if activation == "linear":
        return change if first is None else first + change
    return torch.sigmoid(change if first is None else torch.logit(first, _EDGE) + change)


def quiet(head: nn.Conv2d | nn.Conv3d, start: Start) -> None:
    """Shrink a head's initial weights in place so that training starts at the first forecast; does nothing for "none"."""
    if start == "none":
        return
    with torch.no_grad():
        head.weight.mul_(_QUIET)
        if head.bias is not None:
            head.bias.zero_()


def time_first(sequence: Tensor) -> Tensor:
    """Reshape a sequence (N, C, T, R, W) to frames (T N, C, R, W) in channels_last memory, the fastest for CPU convolution."""
    return sequence.permute(2, 0, 1, 3, 4).flatten(0, 1).contiguous(memory_format=torch.channels_last)


def time_inside(frames: Tensor, count: int) -> Tensor:
    """Reshape frames (T N, C, R, W) of `count` times to a sequence (N, C, T, R, W): the inverse of `time_first`, a view."""
    return frames.view(count, -1, *frames.shape[1:]).permute(1, 2, 0, 3, 4)


def to_multiple(sequence: Tensor, multiple: int) -> Tensor:
    """Pad a sequence (N, C, T, R, W) by repeating its last row and column until both counts are multiples of a number."""
    rows, columns = -sequence.shape[3] % multiple, -sequence.shape[4] % multiple
    if not rows and not columns:
        return sequence
    return F.pad(sequence, (0, columns, 0, rows, 0, 0), mode="replicate")


def need_odd(part: str, kernel: int) -> None:
    """Raise UserError for an even kernel, which would shift frames."""
    if kernel < 1 or kernel % 2 == 0:
        raise UserError(f"{part}: kernel {kernel} is {'even' if kernel > 0 else 'too small'}; it must be odd: 1, 3, 5, ...")


def need_one_of(part: str, option: str, value: object, known: Sequence[object]) -> None:
    """Raise UserError if an option's value is not among the known ones."""
    if value not in known:
        raise UserError(f"{part}: {option} {value!r} is not one of {listed(known)}{nearest(value, known)}")


def need_share(part: str, option: str, value: float) -> None:
    """Raise UserError for a number outside 0 to 1."""
    if not 0 <= value <= 1:
        raise UserError(f"{part}: {option} {value} is not a valid fraction; it must be from 0 to 1")


def need_targets(part: str, channels: int, targets: int) -> None:
    """Raise UserError unless there are 1 to `channels` targets, which are the first channels."""
    if not 1 <= targets <= channels:
        raise UserError(
            f"{part}: {targets} target{'s' if targets != 1 else ''} but only {channels} channel{'s' if channels != 1 else ''}; "
            "targets are the first channels, at least 1"
        )


def need_known(part: str, start: str, activation: str) -> None:
    """Raise UserError for an unknown start or activation."""
    need_one_of(part, "start", start, get_args(Start))
    need_one_of(part, "activation", activation, get_args(Activation))
