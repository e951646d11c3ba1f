"""Vacuum wavelengths (angstrom) of the lines and bands in simulated spectra, with sources.

Sources list optical wavelengths in air; `vacuum` converts them, as LAMOST and SDSS spectra use vacuum wavelengths. Strengths
are relative, rounded, and chosen to look realistic at a resolving power of 1,800; they are not measurements.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_F = NDArray[np.float64]


def vacuum(air: ArrayLike) -> _F:
    """Convert wavelengths in standard air to vacuum, both in angstrom (Ciddor 1996, Applied Optics 35, 1566, eq. 1).

    The refractive index is taken at the air wavelength, which is exact to 0.0001 angstrom in the optical.
    """
    wavelength = np.asarray(air, np.float64)
    square = (1e4 / wavelength) ** 2  # wave number squared, in 1/micrometre^2
    return np.asarray(wavelength * (1 + 5.792105e-2 / (238.0185 - square) + 1.67917e-3 / (57.362 - square)))


def _from_air(words: str) -> _F:
    return vacuum([float(word) for word in words.split()])


# Atomic lines of stars: NIST Atomic Spectra Database, observed wavelengths in air.
# Hydrogen to n = 2 from n = 3 to 16: H-alpha, H-beta, ...; strengths relative to H-beta's.
BALMER = _from_air(
    "6562.79 4861.35 4340.472 4101.734 3970.075 3889.064 3835.397 3797.909 3770.633 3750.151 3734.369 3721.946 "
    "3711.978 3703.859"
)
BALMER_STRENGTH = np.array([0.8, 1.0, 1.0, 1.05, 1.0, 0.9, 0.75, 0.62, 0.5, 0.4, 0.32, 0.25, 0.2, 0.15])
PASCHEN = vacuum([8862.782, 8750.472, 8665.019, 8598.392, 8545.383, 8502.483])  # hydrogen to n = 3 from n = 11 to 16
PASCHEN_STRENGTH = np.array([1.0, 0.9, 0.75, 0.6, 0.5, 0.4])
HELIUM = vacuum([4026.191, 4143.761, 4387.929, 4471.480, 4921.931, 5015.678, 5875.621, 6678.152, 7065.190])  # He I
HELIUM_STRENGTH = np.array([0.9, 0.5, 0.6, 1.0, 0.5, 0.3, 0.7, 0.6, 0.4])
CALCIUM_K_H = vacuum([3933.663, 3968.469])  # Ca II
CALCIUM_I = vacuum([4226.728])
MAGNESIUM_B = vacuum([5167.322, 5172.684, 5183.604])  # Mg I
SODIUM_D = vacuum([5889.951, 5895.924])  # Na I
CALCIUM_TRIPLET = vacuum([8498.023, 8542.091, 8662.141])  # Ca II
STRONTIUM = vacuum([4077.709, 4215.519])  # Sr II
CALCIUM_TRIPLET_STRENGTH = np.array([0.4, 1.0, 0.8])
# Metals from 3700 to 6700: the strongest lines of Fe I and Fe II, with Mg I, Al I, Ca I, Ti, Cr I, Mn I, Ni I, Sr II and Ba II.
# At this resolution they and their neighbours form the dense line pattern of cool stars. Strong, medium and weak lines.
_STRONG = _from_air(
    "3719.935 3734.864 3749.485 3758.233 3767.192 3795.002 3815.84 3820.425 3825.881 3859.911 3886.282 3922.912 "
    "3829.355 3832.304 3838.292 3944.006 3961.52 4005.242 4030.753 4033.062 4045.812 4063.594 4071.738"
)
_MIDDLING = _from_air(
    "4077.709 4132.058 4143.868 4187.039 4198.304 4202.029 4215.519 4233.602 4235.936 4250.787 4254.332 4271.76 "
    "4274.796 4289.716 4299.234 4325.762 4383.545 4395.033 4404.75 4415.122 4443.794 4454.779 4468.507 4501.273 "
    "4528.614 4533.969 4549.474 4554.029 4571.968 4583.837 4702.991 4871.318 4891.492 4920.502 4923.927 4957.596 "
    "5018.44 5169.033 5204.506 5208.419 5227.189 5269.537 5328.039 5371.489 5528.405"
)
_WEAK = _from_air(
    "4425.437 4434.957 4476.018 4482.169 4494.563 4522.634 4531.148 4602.941 4647.433 4736.773 4859.741 4878.211 "
    "4903.31 4918.994 4934.076 4938.814 4981.731 4991.065 4999.503 5006.119 5012.068 5014.187 5041.756 5049.819 "
    "5064.653 5068.766 5083.338 5110.413 5123.72 5133.688 5139.462 5150.839 5162.272 5191.455 5194.941 5202.336 "
    "5210.385 5216.274 5232.94 5266.555 5281.79 5302.3 5316.615 5324.179 5339.929 5364.871 5383.369 5397.128 5405.775 "
    "5410.91 5415.199 5424.068 5429.696 5434.524 5446.916 5455.609 5463.276 5476.904 5497.516 5506.779 5569.618 "
    "5586.756 5588.757 5594.466 5602.945 5615.644 5624.542 5658.816 5709.378 5857.451 6065.482 6102.723 6122.217 "
    "6136.615 6141.713 6162.173 6191.558 6230.723 6252.555 6301.501 6335.331 6393.601 6399.999 6411.649 6421.35 "
    "6430.846 6439.075 6494.98 6677.987"
)
METALS = np.concatenate([_STRONG, _MIDDLING, _WEAK])
METALS_STRENGTH = np.repeat([1.0, 0.6, 0.27], [len(_STRONG), len(_MIDDLING), len(_WEAK)])

# Molecules. G band of CH: Fraunhofer's G, centre in air. MgH: head in air of the green system, which fades to the blue
# (Pearse & Gaydon 1976).
G_BAND = vacuum([4304.0])
MAGNESIUM_HYDRIDE = vacuum([5211.0])
# Heads in air of the TiO and CaH bands of M dwarfs, as in Pearse & Gaydon 1976, The Identification of Molecular Spectra,
# and Kirkpatrick, Henry & McCarthy 1991, ApJS 77, 417, table 5. Absorption starts at the head and fades to the red.
BANDS = vacuum([4584.0, 4761.0, 4954.6, 5166.7, 5448.0, 5597.7, 5758.7, 5847.6, 6158.5, 6651.0, 7054.2, 7589.3, 8206.0, 8432.0])
BANDS_DEPTH = np.array([0.25, 0.5, 0.7, 0.7, 0.55, 0.25, 0.3, 0.45, 0.7, 0.5, 1.0, 0.8, 0.2, 0.6])  # optical depth, at M5
BANDS_FADE = np.array([60, 70, 80, 90, 70, 60, 50, 110, 150, 110, 130, 150, 80, 130.0])  # angstrom to 1/e
CALCIUM_HYDRIDE = vacuum([6382.0, 6903.0, 6946.0])
CALCIUM_HYDRIDE_DEPTH = np.array([0.3, 0.3, 0.25])

# Lines of ionised gas in galaxies: NIST Atomic Spectra Database, air wavelengths of [O II], [Ne III], [O III], [N II], [S II].
OXYGEN_II = vacuum([3726.032, 3728.815])
NEON_III = vacuum([3868.760])
OXYGEN_III = vacuum([4958.911, 5006.843])  # 1 : 2.98 (Storey & Zeippen 2000, MNRAS 312, 813)
NITROGEN_II = vacuum([6548.050, 6583.450])  # 1 : 3.05 (the same)
SULPHUR_II = vacuum([6716.440, 6730.816])
# H-alpha to H-epsilon relative to H-beta, case B at 10,000 K (Osterbrock & Ferland 2006, chapter 4)
DECREMENT = np.array([2.86, 1.0, 0.469, 0.259, 0.159])

# Quasars: laboratory wavelengths in vacuum and rest-frame equivalent widths (angstrom) after the composite of Vanden Berk et
# al. 2001, AJ 122, 549, table 2, rounded. N V is stronger here: that table counts only the part above Ly-alpha's wing.
# Fe II rows are broad blends rather than single lines: centre of the blend.
QUASAR = np.array([1215.67, 1240.14, 1396.76, 1549.06, 1640.42, 1908.73, 2798.75, 2500.0, 4102.89, 4341.68, 4862.68, 4570.0])
QUASAR_WIDTH = np.array([92.0, 12.0, 8.0, 24.0, 5.0, 21.0, 32.0, 25.0, 5.0, 13.0, 46.0, 12.0])
QUASAR_HEAP = np.array([0, 0, 0, 0, 0, 0, 0, 150.0, 0, 0, 0, 60.0])  # angstrom, extra standard deviation beside the velocity's
QUASAR_ALPHA = vacuum([6562.79])
QUASAR_ALPHA_WIDTH = 195.0
QUASAR_OXYGEN_WIDTH = 13.0  # [O III] 5007
LYMAN_LIMIT, LYMAN_ALPHA, LYMAN_BETA = 911.75, 1215.67, 1025.72  # NIST

# The Earth's atmosphere, in vacuum. Bands of O2 and H2O: limits and depths at low resolution (Catanzaro 1997, Ap&SS 257, 161):
# first and last wavelength in air, depth, 1 if the band is sharp at its head and fades.
TELLURIC = ((6867.0, 6944.0, 0.20, 1), (7594.0, 7700.0, 0.50, 1), (7160.0, 7340.0, 0.14, 0), (8100.0, 8350.0, 0.14, 0))
# Lines of the night sky in air: [O I] and Na (NIST); OH (Osterbrock et al. 1996, PASP 108, 277, the strongest);
# street lamps, which are mercury lines (NIST).
AIRGLOW = vacuum([5577.34, 5889.95, 5895.92, 6300.30, 6363.78])
HYDROXYL = _from_air(
    "7276.405 7316.282 7340.885 7750.640 7794.112 7821.503 7913.708 7964.650 7993.332 8025.810 8344.602 8382.392 "
    "8399.170 8415.231 8430.174 8465.358 8493.389 8504.628 8778.333 8791.186 8827.096 8885.850"
)
MERCURY = vacuum([4046.56, 4358.33, 5460.74])
