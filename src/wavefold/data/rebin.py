"""Resamples spectra from their own pixels to bins of equal width, conserving flux.

A pixel's flux is a density (per angstrom), constant from edge to edge. A bin's value is the mean density over the part of it
that good pixels cover, so that the sum of flux x width is preserved. Bins are not weighted by inverse variance: that would
move flux from noisy pixels to quiet ones, and a line's strength would depend on the sky beside it.
Method: Carnall 2017 (arXiv:1705.05165), as in `spectres`, without its loops.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import UserError

Grid = tuple[float, float, float]  # first centre, last centre (inclusive), step
_MOST_BINS = 1_000_000
_TOUCH = 0.1  # fraction of a bin's width: a thinner overlap with a neighbouring pixel does not measure the bin


@dataclass(frozen=True)
class Rebinned:
    """One spectrum on a grid."""

    values: NDArray[np.float64]  # (position,) mean flux density; 0.0 before the first and after the last measured bin
    measured: NDArray[np.bool_]  # (position,) True if good pixels cover at least a tenth of the bin

    @property
    def filled(self) -> NDArray[np.bool_]:
        """(position,) True where the value is linearly interpolated between the nearest measured bins."""
        at = np.flatnonzero(self.measured)
        inside = np.zeros(len(self.measured), np.bool_)
        if len(at):
            inside[at[0] : at[-1] + 1] = True
        return inside & ~self.measured


def grid_centres(grid: Grid) -> NDArray[np.float64]:
    """Return the bin centres (position,), in the grid's unit: from `first` in steps up to `last`; UserError if invalid."""
    first, last, step = grid
    place = f"grid {first:g} to {last:g} in steps of {step:g}"
    if not all(map(math.isfinite, grid)):
        raise UserError(f"{place}: expected three finite numbers: first, last, step")
    if step <= 0:
        raise UserError(f"{place}: step must be above 0")
    if last <= first:
        raise UserError(f"{place}: last must be above first")
    steps = (last - first) / step
    if steps >= _MOST_BINS:
        raise UserError(f"{place}: gives {steps + 1:.3g} bins; expected at most {_MOST_BINS:,}")
    count = math.floor(steps + 1e-6) + 1  # 0.3 / 0.1 is a little below 3
    if count < 2:
        raise UserError(f"{place}: gives 1 bin; expected 2 or more")
    return np.asarray(first + step * np.arange(count), np.float64)


def pixel_edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return edges (pixel + 1,) midway between centres (pixel,); the outer two mirror their nearest inner edge."""
    inner = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - inner[0]], inner, [2 * centres[-1] - inner[-1]]])


def onto_grid(edges: NDArray[np.float64], flux: NDArray[np.float64], good: NDArray[np.bool_], grid: Grid) -> Rebinned:
    """Resample a spectrum's flux density to a grid. edges: (pixel + 1,) increasing, in the grid's unit; flux, good: (pixel,).

    Bins covered by good pixels to less than a tenth are linearly interpolated between measured neighbours, or 0.0 beyond
    the outermost ones.
    """
    centres = grid_centres(grid)
    bounds = grid[0] + grid[2] * (np.arange(len(centres) + 1) - 0.5)
    cuts = np.sort(np.concatenate([edges, bounds]))
    width, middle = np.diff(cuts), (cuts[1:] + cuts[:-1]) / 2  # each piece lies in one pixel and one bin
    pixel = np.searchsorted(edges, middle, side="right") - 1
    bin_ = np.searchsorted(bounds, middle, side="right") - 1
    used = (pixel >= 0) & (pixel < len(flux)) & (bin_ >= 0) & (bin_ < len(centres))
    used[used] = good[pixel[used]]
    width, pixel, bin_ = width[used], pixel[used], bin_[used]
    covered = np.bincount(bin_, width, len(centres))
    total = np.bincount(bin_, width * flux[pixel], len(centres))
    measured = covered > _TOUCH * grid[2]
    if not measured.any():
        return Rebinned(np.zeros(len(centres)), measured)
    values = total[measured] / covered[measured]
    return Rebinned(np.interp(centres, centres[measured], values, left=0.0, right=0.0), measured)
