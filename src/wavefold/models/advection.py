"""Advection: extrapolates the last frame along the motion of the past frames; the baseline that a rain nowcast must beat.

Motion is estimated by least squares on the brightness constancy equation (Lucas and Kanade 1981), coarse to fine on a pyramid
with warping, so that displacements of several pixels per frame are found. All pairs of frames and all channels share one motion
field; Gaussian-weighted sums, regularised towards the frame's mean motion, keep it smooth where there is no structure. The
forecast traces backwards along that motion (semi-Lagrangian, Germann and Zawadzki 2002) with bilinear interpolation; values
from outside the frame are replaced by the nearest value inside.

Legend: N windows, C channels, K = C x pairs of frames, H rows, W columns. A motion (N, 2, H, W) is in pixels per frame, the
row component first: what is now at x was at x - motion one frame ago.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wavefold.data.lazy import Floats
from wavefold.models.blur import blurred

_SMALLEST = 8  # minimum rows or columns at the coarsest pyramid level
_LEVELS = 4  # pyramid levels; displacements are divided by 8 on the coarsest
_TURNS = 3  # iterations of warping and solving per level
_SEEN = 1.0  # pixels, standard deviation of the blur before motion estimation
_REACH = 8.0  # pixels, standard deviation of the Gaussian weights around a cell
_DRAWN = 0.1  # strength of the pull towards the mean motion, as a fraction of a frame's mean structure
_TINY = 1e-6


@torch.no_grad()
def motion(past: Tensor, frames: int = 4, apart: int = 1) -> Tensor:
    """Motion in the last `frames` past frames, (N, 2, H, W) in pixels per frame, rows first; 0 where no motion is found.

    past: (N, C, past, H, W) in any unit; NaN marks a missing value and is ignored. apart: look at each such frame only, where
    many cells repeat the value of the frame before (see `frames_apart`); fewer frames if there are not as many.
    """
    n, _, count, rows, columns = past.shape
    apart = max(1, min(apart, count - 1))
    seen = list(range(count - 1, -1, -apart))[:frames][::-1]
    found = past.new_zeros((n, 2, 1, 1), dtype=torch.float32)
    if past.shape[2] < 2:
        return found.expand(n, 2, rows, columns)
    for fields, there in reversed(_pyramid(*_prepared(past[:, :, seen]))):
        size = fields.shape[-2:]
        found = functional.interpolate(found, size=size, mode="bilinear", align_corners=False) * 2
        for _ in range(_TURNS):
            found = _refined(found, fields, there)
    return found / apart


def frames_apart(frames: Floats, most: int = 6) -> int:
    """How many frames apart motion shows in a series (time, channel, row, column): more than 1 if frames repeat values.

    Radar mosaics hold cells that are older than the frame; then the motion from frame to frame comes out too slow. The
    smallest distance at which at most 15 % of the cells that are not at the channel's minimum in both frames are equal, if
    next frames have more than 25 %.
    """
    values = np.asarray(frames[-_LOOKED:], np.float32)
    low = np.nanmin(values, axis=(0, 2, 3), keepdims=True, initial=np.inf)
    shares = []
    for lag in range(1, min(most, len(values) - 1) + 1):
        late, early = values[lag:], values[:-lag]
        moving = np.isfinite(late) & np.isfinite(early) & ((late > low) | (early > low))
        shares.append(float((late == early)[moving].mean()) if moving.any() else 0.0)
    if not shares or shares[0] <= _REPEATED:
        return 1
    return 1 + next((lag for lag, share in enumerate(shares) if share <= _NEW), len(shares) - 1)


_LOOKED = 16  # frames, the latest
_REPEATED, _NEW = 0.25, 0.15


@torch.no_grad()
def advect(past: Tensor, ahead: int, apart: int = 1) -> Tensor:
    """Extrapolate the last past frame for `ahead` frames along the past motion, (N, C, ahead, H, W) float32, finite.

    past: (N, C, past, H, W) in any unit. A missing cell takes its latest past value, else the smallest value of its
    window and channel. Values from outside the frame are replaced by the nearest value inside. apart: as in `motion`.
    """
    speed, last = motion(past, apart=apart), latest(past)
    way = torch.zeros_like(speed)  # displacement from the value's present position to the cell, (N, 2, H, W)
    made = []
    for _ in range(ahead):
        step = moved(speed, way)
        way = way + moved(speed, way + step / 2)  # midpoint rule, which follows rotation accurately
        made.append(moved(last, way))
    return torch.stack(made, dim=2)


def latest(past: Tensor) -> Tensor:
    """Each cell's latest value, else the smallest of its window and channel, else 0: (N, C, past, H, W) to (N, C, H, W)."""
    made = past[:, :, -1].float()
    for number in range(past.shape[2] - 2, -1, -1):
        if not torch.compiler.is_compiling() and not made.isnan().any():  # an exported net cannot branch on values
            return made
        made = torch.where(made.isnan(), past[:, :, number].float(), made)
    return torch.where(made.isnan(), _smallest(past.float())[:, :, 0], made)


def _smallest(values: Tensor) -> Tensor:
    """Smallest value of each window and channel, 0 if all are missing: (N, C, P, H, W) to (N, C, 1, 1, 1)."""
    low = values.nan_to_num(nan=torch.inf).amin(dim=(2, 3, 4), keepdim=True)
    return torch.where(low.isfinite(), low, 0.0)


def _prepared(past: Tensor) -> tuple[Tensor, Tensor]:
    """Standardise and blur frames (N, C, P, H, W); also returns a mask, 1 where a value exists, else 0."""
    values = past.float()
    seen = values.isfinite().float()
    values = torch.where(seen > 0, values, _smallest(values))
    spread, level = torch.std_mean(values, dim=(2, 3, 4), keepdim=True, correction=0)
    size = torch.where(spread > _TINY * level.abs(), spread, 1.0)
    return blurred((values - level) / size, _SEEN, edges=True), seen


def _pyramid(fields: Tensor, seen: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Fields and masks at full size, half, a quarter ..., finest first."""
    made = [(fields, seen)]
    while len(made) < _LEVELS and min(made[-1][0].shape[-2:]) >= 2 * _SMALLEST:
        fields, seen = (functional.avg_pool3d(values, (1, 2, 2)) for values in made[-1])
        made.append((fields, seen))
    return made


def _refined(found: Tensor, fields: Tensor, seen: Tensor) -> Tensor:
    """Motion after one more iteration of warping and solving. found: (N, 2, H, W); fields and seen: (N, C, P, H, W)."""
    sums = _equations(found, fields, seen)
    whole = sums.mean(dim=(2, 3), keepdim=True)
    mean = _solved(whole, towards=found.mean(dim=(2, 3), keepdim=True), pull=1e-3 * _trace(whole))
    return _solved(blurred(sums, _REACH), towards=mean, pull=_DRAWN * _trace(whole))


def _equations(found: Tensor, fields: Tensor, seen: Tensor) -> Tensor:
    """Each cell's normal equations A m = b for its motion m: (N, 5, H, W), the three entries of A and the two of b.

    The earlier frame E moved by m should equal the later one L: with m = found + d, g . d = E - L, g the gradient of E.
    """
    pairs = (fields.shape[0], -1, *fields.shape[3:])
    later, both = (values[:, :, 1:].reshape(pairs) for values in (fields, seen))
    earlier = moved(fields[:, :, :-1].reshape(pairs), found)
    both = both * moved(seen[:, :, :-1].reshape(pairs), found, outside="zeros")
    off = later - earlier
    weight = (both > 0.99) / (
        1 + off.square() / (off.square().mean(dim=(1, 2, 3), keepdim=True) + _TINY)
    )  # downweights growth and decay, which are not motion
    down, across = _gradient((earlier + later) / 2)  # (N, K, H, W) each
    along = down * found[:, :1] + across * found[:, 1:] - off
    parts = (down * down, down * across, across * across, down * along, across * along)
    return torch.stack([(weight * part).sum(dim=1) for part in parts], dim=1)


def _solved(sums: Tensor, *, towards: Tensor, pull: Tensor) -> Tensor:
    """Solve (A + pull) m = b + pull x towards for m, (N, 2, H, W). sums: (N, 5, H, W) from `_equations`."""
    pull = pull + _TINY
    dd, da, aa, d, a = (sums + 0 * pull).unbind(dim=1)
    pull, (wish_d, wish_a) = pull[:, 0], towards.unbind(dim=1)
    dd, aa, d, a = dd + pull, aa + pull, d + pull * wish_d, a + pull * wish_a
    return torch.stack([aa * d - da * a, dd * a - da * d], dim=1) / (dd * aa - da * da)[:, None]


def _trace(sums: Tensor) -> Tensor:
    return (sums[:, 0:1] + sums[:, 2:3]) / 2


def moved(values: Tensor, way: Tensor, outside: str = "border") -> Tensor:
    """Values (N, K, H, W) displaced by `way` (N, 2, H, W) pixels: sampled at x - way, bilinear."""
    rows, columns = values.shape[-2:]
    row = torch.arange(rows, device=values.device)[:, None] - way[:, 0]
    column = torch.arange(columns, device=values.device) - way[:, 1]
    places = torch.stack([_unit(column, columns), _unit(row, rows)], dim=-1)  # (N, H, W, 2), in -1 to 1
    return functional.grid_sample(values, places, mode="bilinear", padding_mode=outside, align_corners=True)


def _unit(place: Tensor, count: int) -> Tensor:
    """Pixel numbers in grid_sample's coordinates: the first is -1, the last 1."""
    return place * (2 / max(count - 1, 1)) - 1 if count > 1 else place * 0


def _gradient(values: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences down the rows and across the columns, (N, K, H, W) each."""
    wide = functional.pad(values, (1, 1, 1, 1), mode="replicate")
    return (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2, (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2
