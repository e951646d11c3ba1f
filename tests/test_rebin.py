"""Flux on a new grid: nothing gained, nothing lost, nothing invented outside."""

import numpy as np
import pytest

from wavefold.core.errors import UserError
from wavefold.data.rebin import grid_centres, onto_grid, pixel_edges

ALL = np.ones(8, np.bool_)


def spectrum(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Edges of a log grid from 3700 angstrom, as the telescopes have it, and noise on them."""
    edges = 10 ** pixel_edges(3.5682 + 1e-4 * np.arange(count))
    return edges, np.random.default_rng(seed).normal(5, 3, count)


def test_a_grid_runs_from_its_first_to_its_last_centre() -> None:
    assert grid_centres((3700, 3704, 2)).tolist() == [3700, 3702, 3704]
    assert grid_centres((3700, 3705.9, 2)).tolist() == [3700, 3702, 3704]  # never past the last
    assert len(grid_centres((0.1, 0.4, 0.1))) == 4  # 0.3 / 0.1 is a little below 3
    assert len(grid_centres((3700, 8898, 2))) == 2600


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ((3700, 9000, 0), "step must be above 0"),
        ((3700, 9000, -2), "step must be above 0"),
        ((9000, 3700, 2), "last must be above first"),
        ((3700, 3700, 2), "last must be above first"),
        ((3700, 3701, 2), "gives 1 bin; expected 2 or more"),
        ((3700, float("nan"), 2), "expected three finite numbers"),
        ((3700, float("inf"), 2), "expected three finite numbers"),
        ((0, 1e6, 1), "expected at most 1,000,000"),
        ((0, 1e300, 1e-300), "expected at most 1,000,000"),
    ],
)
def test_a_grid_that_cannot_be_is_one_clear_line(grid: tuple[float, float, float], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        grid_centres(grid)
    assert "\n" not in str(error.value)


def test_edges_lie_midway_and_the_ends_mirror() -> None:
    assert pixel_edges(np.array([1.0, 2.0, 4.0])).tolist() == [0.5, 1.5, 3.0, 5.0]


def test_a_bin_is_the_mean_over_its_overlaps() -> None:
    """Pixels 0-1 and 1-3 with 10 and 4; bins 0-2 and 2-4: (10 + 4) / 2, and 4 over the half that is covered."""
    binned = onto_grid(np.array([0.0, 1.0, 3.0]), np.array([10.0, 4.0]), ALL[:2], (1, 3, 2))
    assert binned.values.tolist() == [7.0, 4.0]
    assert binned.measured.all()


@pytest.mark.parametrize("step", [0.3, 2.0, 40.0])  # below, near and far above a pixel's width
def test_the_integral_is_kept(step: float) -> None:
    edges, flux = spectrum(3000)
    first = 3800.0
    count = len(grid_centres((first, 4800.0, step)))
    low, high = first - step / 2, first + (count - 0.5) * step
    inside = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None)
    binned = onto_grid(edges, flux, np.ones(3000, np.bool_), (first, 4800.0, step))
    assert binned.values.sum() * step == pytest.approx((inside * flux).sum(), rel=1e-12)


@pytest.mark.parametrize("step", [0.3, 2.0, 40.0])
def test_a_constant_stays_constant_with_masked_pixels_too(step: float) -> None:
    edges, _ = spectrum(3000)
    good = np.random.default_rng(1).random(3000) < 0.7
    binned = onto_grid(edges, np.where(good, 7.25, np.nan), good, (3800.0, 4800.0, step))
    np.testing.assert_allclose(binned.values, 7.25, rtol=1e-13)


def test_a_line_of_one_pixel_keeps_its_flux() -> None:
    edges, _ = spectrum(3000)
    line = np.zeros(3000)
    line[700] = 100.0
    binned = onto_grid(edges, line, np.ones(3000, np.bool_), (3800.0, 4800.0, 2.0))
    assert binned.values.sum() * 2 == pytest.approx(100 * (edges[701] - edges[700]), rel=1e-13)
    assert (binned.values != 0).sum() <= 2


def test_a_huge_pixel_far_away_costs_no_digits() -> None:
    edges, flux = spectrum(3000)
    spike = flux.copy()
    spike[0] = 1e30
    grid = (3800.0, 4800.0, 2.0)
    good = np.ones(3000, np.bool_)
    assert np.array_equal(onto_grid(edges, spike, good, grid).values, onto_grid(edges, flux, good, grid).values)


def test_masked_bins_lie_on_a_line_and_the_outside_is_zero() -> None:
    """Pixels of width 1 around 0..7 hold their number; 3, 4, 5 and the first are masked; the grid goes past both ends."""
    good = ALL.copy()
    good[[0, 3, 4, 5]] = False
    flux = np.where(good, np.arange(8.0) ** 2, np.inf)
    binned = onto_grid(np.arange(9) - 0.5, flux, good, (-1, 9, 1))
    line = [4 + (36 - 4) * k / 4 for k in (1, 2, 3)]  # between 2 ** 2 and 6 ** 2
    assert binned.values.tolist() == [0, 0, 1, 4, *line, 36, 49, 0, 0]
    assert np.flatnonzero(binned.filled).tolist() == [4, 5, 6]
    assert np.flatnonzero(binned.measured).tolist() == [2, 3, 7, 8]


@pytest.mark.parametrize(("width", "expected"), [(0.05, 3.0), (0.15, 9.0)])
def test_a_sliver_of_the_pixel_beside_it_does_not_measure_a_bin(width: float, expected: float) -> None:
    """Bin 0.5 to 1.5 holds a masked pixel and a sliver of one with 9; without the sliver it lies between 1 and 5."""
    edges = np.array([-0.5, 0.5, 1.5 - width, 1.5, 2.5])
    binned = onto_grid(edges, np.array([1.0, 0.0, 9.0, 5.0]), np.array([True, False, True, True]), (0, 2, 1))
    assert binned.values == pytest.approx([1, expected, 5])


@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_nothing_measured_is_all_zero(shift: float) -> None:
    binned = onto_grid(np.arange(9) + shift, np.ones(8), ALL if shift else ~ALL, (1, 5, 1))
    assert not binned.values.any()
    assert not binned.measured.any()
    assert not binned.filled.any()
