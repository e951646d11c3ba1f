"""Stars from positions: pairs, chains, the seam at 0 hours, the pole, and positions that are none."""

from __future__ import annotations

import numpy as np
import pytest

from wavefold.data.sky import stars

ARCSEC = 1 / 3600


@pytest.mark.parametrize(
    ("ra", "dec", "expected"),
    [
        ([10, 10, 10], [0, 4 * ARCSEC, 20 * ARCSEC], ["0", "0", "2"]),
        ([10, 10, 10], [0, 4 * ARCSEC, 8 * ARCSEC], ["0", "0", "0"]),  # a chain
        ([10, 10], [0, 5.1 * ARCSEC], ["0", "1"]),
        ([10, 10], [0, 4.9 * ARCSEC], ["0", "0"]),
        ([0.0005, 200, 359.9995], [30, 30, 30], ["0", "1", "0"]),  # 3.6 arcsec x cos 30 across the seam
        ([360, 0], [12, 12], ["0", "0"]),
        ([0, 180], [90 - ARCSEC, 90 - ARCSEC], ["0", "0"]),  # 2 arcsec apart, over the pole
        ([50, 50.002], [60, 60], ["0", "0"]),  # 7.2 arcsec of right ascension are 3.6 on the sky
        ([7, 1, 7, 1], [7, 1, 7, 1], ["0", "1", "0", "1"]),  # the very same positions
    ],
)
def test_close_positions_are_one_star(ra: list[float], dec: list[float], expected: list[str]) -> None:
    assert stars(ra, dec).tolist() == expected


def test_unknown_positions_are_stars_of_their_own() -> None:
    ra, dec = [np.nan, np.nan, 5, 5, np.inf, -9999], [1, 1, np.nan, 2, 3, -9999]
    assert stars(ra, dec).tolist() == ["0", "1", "2", "3", "4", "5"]
    assert stars([], []).tolist() == []
    assert stars([np.nan], [np.nan]).tolist() == ["0"]


def test_distance_may_be_chosen() -> None:
    assert stars([10, 10], [0, 20 * ARCSEC], within=30).tolist() == ["0", "0"]


def test_many_spectra_at_one_position_are_no_pairs_of_each_other() -> None:
    names = stars(np.zeros(200_000), np.zeros(200_000))  # 2e10 pairs, were they counted
    assert set(names.tolist()) == {"0"}
