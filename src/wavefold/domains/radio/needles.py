"""Needles: lines one frequency bin wide in the ON panels of a cadence, drawn at random and added to panels, real or simulated.

docs/cadences.md has the underlying measurements of real needles: one bin wide, straight lines on one clock through all six
panels; some start late. Squiggles, sines and pulses follow the shapes that the contest's winners describe. Everything is a
pure function of (key, sample), on any device.

Legend: N samples, 6 panels, T rows of time, F columns of frequency. A row number may count through all panels: panel * T + row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wavefold.core import random
from wavefold.core.onnx_ops import lower_median
from wavefold.domains.radio.cadence import ON, PANELS, STEEPEST

FAMILIES = ("linear", "squiggle", "sine", "pulsed")
WEAKEST, STRONGEST = 0.3, 12.0  # residual standard deviations per pixel, log-uniform
_BLEED = 0.035  # share of a needle's height in adjacent columns; real ones have 2 to 5 %
_PARTIAL = 0.3  # share of needles that start late or end early


@dataclass(frozen=True)
class Needles:
    """One line per sample, not yet added to any panel."""

    family: Tensor  # (N,) index into FAMILIES
    amplitude: Tensor  # (N,) residual standard deviations per pixel
    drift: Tensor  # (N,) bins per row, of the straight part
    column: Tensor  # (N, 6, T) position of the line in bins; outside 0 to F - 1 it is out of the window
    lit: Tensor  # (N, 6, T) true where the line is on: between its start and end, and in its pulses

    def inside(self, columns: int) -> Tensor:
        """(N, 6, T) true where the line is on and in the window."""
        place = self.column.round()
        return self.lit & (place >= 0) & (place < columns)

    def snr(self, columns: int) -> Tensor:
        """(N,) the largest S/N of an ON panel: amplitude x square root of the rows in which the line is on, in the window."""
        rows = self.inside(columns)[:, list(ON)].sum(2)
        return self.amplitude * rows.max(1).values.float().sqrt()


def draw_needles(key: int, samples: Tensor, rows: int, columns: int) -> Needles:
    """Draw a needle for each sample, visible in an ON panel for at least one pixel, all families alike. samples: (N,) int64."""
    u = iter(random.uniform(key, samples, 16).unbind(1))  # (N,) each
    family = (next(u) * len(FAMILIES)).long()
    amplitude = WEAKEST * (STRONGEST / WEAKEST) ** next(u)
    drift = STEEPEST * (2 * next(u) - 1)
    anchor = torch.tensor(ON, device=samples.device)[(next(u) * len(ON)).long()] * rows + (next(u) * rows).floor()  # anchor row
    place = next(u) * (columns - 1)
    clock = torch.arange(PANELS * rows, device=samples.device, dtype=torch.float32).expand(len(samples), -1)  # (N, 6 T)
    straight = drift[:, None] * (clock - anchor[:, None])
    walk = _walk(key, samples, clock.shape[1], 0.1 * 6.0 ** next(u))
    wave = _wave(clock, next(u), next(u), next(u), rows, columns)
    kinds = torch.stack([torch.zeros_like(walk), walk, wave, torch.zeros_like(walk)])
    bent = kinds[family, torch.arange(len(samples), device=samples.device)]
    bent = bent - bent.gather(1, anchor.long()[:, None])  # every line is in the window at its anchor
    lit = _partial(clock, anchor, next(u), next(u)) & (
        _pulses(clock, anchor, next(u), next(u), next(u)) | (family != 3)[:, None]
    )
    shape = (len(samples), PANELS, rows)
    return Needles(family, amplitude, drift, (place[:, None] + straight + bent).view(shape), lit.view(shape))


def add_needles(cadences: Tensor, needles: Needles, panels: Tensor, sigma: Tensor | float = 1.0) -> Tensor:
    """Add needles to cadences (N, 6, T, F) in the selected panels, (N, 6) bool. sigma: noise level of each, (N, 6), or 1."""
    columns = cadences.shape[3]
    place = needles.column.round().long()
    height = needles.amplitude[:, None, None] * (needles.lit & panels[:, :, None])
    height = height * (sigma[:, :, None] if isinstance(sigma, Tensor) else sigma)
    result = cadences.clone()
    for beside, share in ((0, 1.0), (-1, _BLEED), (1, _BLEED)):
        there = place + beside
        value = share * height * ((there >= 0) & (there < columns))
        result.scatter_add_(3, there.clamp(0, columns - 1)[..., None], value[..., None].to(result.dtype))
    return result


def residual(cadences: Tensor) -> Tensor:
    """Noise of each panel of (N, 6, T, F), as a standard deviation (N, 6), ignoring row and column structure.

    Estimated from second differences over row and column, which for white noise have twice its standard deviation.
    """
    rows, columns = (n // 2 * 2 for n in cadences.shape[2:])
    apart = 2 * max(1, rows // 128)  # about 64 pairs of rows estimate it to a percent
    pairs = cadences[:, :, : rows - 1 : apart, :columns] - cadences[:, :, 1:rows:apart, :columns]
    mixed = (pairs[..., ::2] - pairs[..., 1::2]).flatten(2).abs()
    return lower_median(mixed, 2) * (1.4826 / 2)


def standardised(cadences: Tensor) -> Tensor:
    """Standardise each panel to mean 0 and standard deviation 1, as in the contest, after injection. (N, 6, T, F)."""
    level, _, size = _spread(cadences)
    return level.div_(size.clamp(min=1e-6))


def levelled_as(cadences: Tensor, others: Tensor) -> Tensor:
    """Rescale each panel to the mean and standard deviation of the same panel of `others`. Both (N, 6, T, F)."""
    (level, _, size), (_, mean, wanted) = _spread(cadences), _spread(others)
    return level.mul_(wanted / size.clamp(min=torch.finfo(size.dtype).tiny)).add_(mean)


def _spread(cadences: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cadences minus their panel means, the means, and the standard deviations, (N, 6, 1, 1) both."""
    mean = cadences.mean((2, 3), keepdim=True)
    level = cadences - mean
    size = torch.linalg.vector_norm(level, dim=(2, 3), keepdim=True) / (cadences.shape[2] * cadences.shape[3]) ** 0.5
    return level, mean, size  # several times faster than torch.std_mean, which sums term by term


def _walk(key: int, samples: Tensor, count: int, step: Tensor) -> Tensor:
    """A random walk of `step` (N,) bins per row, (N, count)."""
    return random.normal(random.key(key, 1), samples, count).cumsum(1) * step[:, None]


def _wave(clock: Tensor, length: Tensor, size: Tensor, start: Tensor, rows: int, columns: int) -> Tensor:
    """A sine with a period of half a panel to six panels, no steeper than a bin per row. length, size, start: (N,) uniform."""
    period = rows * 0.5 * 12.0**length
    most = (period / (2 * math.pi)).clamp(max=columns / 4)
    least = most.clamp(max=columns / 64)
    height = least * (most / least) ** size
    return height[:, None] * torch.sin(2 * math.pi * (clock / period[:, None] + start[:, None]))


def _partial(clock: Tensor, anchor: Tensor, which: Tensor, where: Tensor) -> Tensor:
    """(N, 6 T) true between start and end; most lines cover everything."""
    begin = torch.where(which < _PARTIAL / 2, anchor * where, 0.0)
    end = torch.where((which >= _PARTIAL / 2) & (which < _PARTIAL), anchor + (clock.shape[1] - anchor) * where, math.inf)
    return (clock >= begin.floor()[:, None]) & (clock <= end[:, None])


def _pulses(clock: Tensor, anchor: Tensor, length: Tensor, duty: Tensor, phase: Tensor) -> Tensor:
    """(N, 6 T) true in pulses of 2 to 16 rows with a duty cycle of 20 to 60 %; the anchor is in a pulse."""
    on = (2 * 8.0**length).round()
    period = (on / (0.2 + 0.4 * duty)).round()
    first = anchor - (phase * on).floor()
    return torch.remainder(clock - first[:, None], period[:, None]) < on[:, None]
