"""Groups spectra of the same star: nearby positions, linked by friends-of-friends on the sphere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wavefold.core.registry import later
from wavefold.data.dataset import Ints, Strings

sparse, graphs, spatial = later("scipy.sparse"), later("scipy.sparse.csgraph"), later("scipy.spatial")

_Values = NDArray[np.float64]


def stars(ra: Sequence[float] | _Values, dec: Sequence[float] | _Values, within: float = 5.0) -> Strings:
    """Return the star of each position (sample,), named by the number of its first sample.

    ra, dec: (sample,) degrees; NaN or a dec beyond the poles becomes its own star. within: the most arcsec between two
    samples of one star; a chain of such pairs is also one star.
    """
    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    known = np.flatnonzero(np.isfinite(ra) & (np.abs(dec) <= 90))
    star = np.arange(len(ra))
    if len(known):
        places, place = np.unique(np.stack([ra[known] % 360, dec[known]], 1), axis=0, return_inverse=True)
        component = _components(places, within)[place.reshape(-1)]
        _, first = np.unique(component, return_index=True)
        star[known] = known[first[component]]
    return star.astype(np.str_)


def _components(places: _Values, within: float) -> Ints:
    """Return the component number (place,), from 0, of each distinct place (place, 2) in degrees."""
    ra, dec = np.radians(places).T
    points = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], 1)
    chord = 2 * np.sin(np.radians(within / 3600) / 2)
    one, other = spatial.cKDTree(points).query_pairs(chord, output_type="ndarray").T
    graph = sparse.coo_array((np.ones(len(one), np.int8), (one, other)), shape=(len(places), len(places)))
    return np.asarray(graphs.connected_components(graph, directed=False)[1], np.int64)
