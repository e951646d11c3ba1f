"""Power of frames by wavenumber, which shows the fine detail that a blurred forecast lacks."""

from __future__ import annotations

import torch
from torch import Tensor


def radial_power(frames: Tensor, *, hann: bool = True) -> Tensor:
    """Mean power of the modes of each wavenumber, (..., shorter side // 2 + 1).

    frames: (..., row, column); NaN is filled with the frame's mean, which is then subtracted. Bin k holds the modes of k whole
    waves across the shorter side, in any direction (those of a longer side are counted per cell), up to the Nyquist limit;
    modes beyond it, in the corners, are left out. hann: taper the edges, whose jump would otherwise look like fine detail.
    White noise of variance v has power v in each bin.
    """
    rows, columns = frames.shape[-2:]
    values = _around_mean(frames)
    if hann:
        taper = _taper(rows, values)[:, None] * _taper(columns, values)
        values = values * (taper / taper.square().mean().sqrt())
    modes = torch.fft.rfft2(values, norm="ortho")  # (..., row, column // 2 + 1)
    power = modes.real.square() + modes.imag.square()
    numbers, share = _bins(rows, columns, values)
    bins = min(rows, columns) // 2 + 1
    sums, count = power.new_zeros(*power.shape[:-2], bins + 1), power.new_zeros(bins + 1)
    sums.index_add_(-1, numbers.flatten(), (power * share).flatten(-2))
    count.index_add_(0, numbers.flatten(), share.expand_as(numbers).flatten())
    mean: Tensor = sums / count.clamp(min=1)
    return mean[..., :bins]


def _around_mean(frames: Tensor) -> Tensor:
    known = ~torch.isnan(frames)
    total = torch.where(known, frames, 0.0).sum(dim=(-2, -1), keepdim=True)
    mean = total / known.sum(dim=(-2, -1), keepdim=True).clamp(min=1)
    return torch.where(known, frames - mean, 0.0)


def _taper(length: int, like: Tensor) -> Tensor:
    """A Hann window that ends half a cell beyond the outermost cells, so that no cell has weight 0."""
    places = (torch.arange(length, dtype=like.dtype, device=like.device) + 0.5) / length
    return torch.sin(torch.pi * places).square()


def _bins(rows: int, columns: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The bin of each mode of a half plane, past the last beyond the limit, and how many modes of the plane it represents."""
    down = torch.fft.fftfreq(rows, dtype=like.dtype, device=like.device)
    across = torch.fft.rfftfreq(columns, dtype=like.dtype, device=like.device)
    side = min(rows, columns)
    number = torch.round(side * torch.hypot(down[:, None], across)).long()
    alone = (across == 0) | (across == 0.5)
    return number.clamp(max=side // 2 + 1), torch.where(alone, 1.0, 2.0).to(like.dtype)
