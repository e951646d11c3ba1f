"""Wavelengths in vacuum and in air: the refractive index of standard air, and the conversion of each into the other.

Source: Ciddor 1996, Applied Optics 35, 1566, equation 1, dry air at 15 degrees Celsius and 101325 Pa with 450 ppm of CO2, as
used by SDSS and VALD; it holds from 2300 to 16900 angstrom. Below 2000 angstrom, wavelengths are given in vacuum by convention
(IAU; Morton 1991, ApJS 77, 119), so nothing is converted there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GRID_UNIT = "angstrom"
MEDIUM = "medium"  # the key of `attrs` and the option
VACUUM, AIR = "vacuum", "air"
_LEAST = 2000.0  # angstrom, in vacuum

_Values = NDArray[np.float64]


def air_index(vacuum: _Values) -> _Values:
    """Refractive index of standard air at wavelengths in vacuum, (position,) angstrom; 1 below 2000 angstrom."""
    square = (1e4 / vacuum) ** 2  # of the wavenumber, 1/micron^2
    index = 1 + 0.05792105 / (238.0185 - square) + 0.00167917 / (57.362 - square)
    return np.asarray(np.where(vacuum > _LEAST, index, 1.0))


def in_medium(wavelengths: _Values, stated: str, wanted: str) -> _Values:
    """Wavelengths (position,) angstrom of one medium in another, "vacuum" or "air"; unchanged if either is ""."""
    if stated == wanted or not (stated and wanted):
        return wavelengths
    if wanted == AIR:
        return wavelengths / air_index(wavelengths)
    vacuum = wavelengths
    for _ in range(3):  # the index changes so little that each step gains four digits
        vacuum = wavelengths * air_index(vacuum)
    return np.asarray(vacuum)
