"""Noise-free spectra of simulated stars, galaxies and quasars, on an evenly spaced grid of vacuum wavelengths.

A star is a black body with absorption lines that depend on its temperature; a galaxy mixes an old and a young population, with
gas emission where stars are young; a quasar is a power law with broad lines and, at high redshift, the Ly-alpha forest. Lines
are added by equivalent width, each only over the bins it reaches, so that half a million spectra take minutes. Simplification:
continua are black bodies and power laws, and line strengths follow smooth functions of temperature, matched by eye to LAMOST
and SDSS spectra rather than taken from model atmospheres.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from wavefold.data.dataset import Floats
from wavefold.domains.spectra import lines

_F = NDArray[np.float64]

LIGHT = 299_792.458  # km/s
BLUR = LIGHT / 1800 / 2.3548  # km/s, standard deviation of the instrumental broadening at a resolving power of 1,800

# Temperature limits (K) of spectral types (Pecaut & Mamajek 2013, ApJS 208, 9) and the fraction of stars of each: mostly F, G
# and K, as in LAMOST's catalogues. O and B, A, F, G, K, M.
_TEMPERATURES = np.array([[9_900, 30_000], [7_300, 9_900], [5_950, 7_300], [5_300, 5_950], [3_900, 5_300], [2_800, 3_900]])
_TYPES = np.array([0.01, 0.08, 0.29, 0.34, 0.20, 0.08])


def temperatures(count: int, rng: Generator) -> _F:
    """Stellar temperatures (sample,) in kelvin, mostly of types F, G and K."""
    low, high = _TEMPERATURES[rng.choice(len(_TYPES), count, p=_TYPES)].T
    return np.asarray(low * (high / low) ** rng.random(count))


def draw_stars(temperature: _F, axis: _F, rng: Generator) -> Floats:
    """Spectra (sample, wavelength) of stars. temperature: (sample,) K; axis: (wavelength,) even, angstrom."""
    count = len(temperature)
    shift = 1 + np.clip(rng.normal(0, 60, count) * np.exp(rng.normal(0, 0.5, count)), -300, 300) / LIGHT
    turning = np.where(temperature > 6300, np.abs(rng.normal(0, 80, count)), 5.0)  # km/s; hot stars rotate fast
    metals = 10 ** (0.4 * np.clip(rng.normal(-0.25, 0.4, count), -2.5, 0.5))
    depth = np.zeros((count, len(axis) + 1), np.float32)  # optical depth; the last column collects what falls outside
    _add_hydrogen(depth, axis, shift, temperature, turning, rng)
    _add_metals(depth, axis, shift, temperature, metals, np.hypot(BLUR, turning), rng)
    between = np.where(rng.random(count) < 0.7, rng.exponential(0.25, count), 0.0)  # angstrom, interstellar gas
    for centre in lines.SODIUM_D:
        add_lines(depth, axis, np.full(count, centre), np.full(count, centre / LIGHT * BLUR), between)
    _add_blanket(depth, axis, temperature, metals)
    _add_molecules(depth, axis, shift, temperature, rng)
    flux = black_body(temperature, axis) * np.exp(-depth[:, :-1])
    return _with_flares(flux, axis, shift, temperature, rng)


def draw_galaxies(redshift: _F, axis: _F, rng: Generator) -> Floats:
    """Spectra (sample, wavelength) of galaxies, near 1 at H-alpha. redshift: (sample,); axis: (wavelength,) even, angstrom."""
    count = len(redshift)
    young = rng.beta(0.9, 1.0, count)  # 0: old stars only; 1: a hundred million years old
    flux = _populations(redshift, young, axis, rng)
    spread = np.hypot(BLUR, rng.uniform(80, 280, count))
    depth = np.zeros((count, len(axis) + 1), np.float32)
    for centres, old, new in _POPULATION:
        area = (old + (new - old) * young) * np.exp(rng.normal(0, 0.15, count)) * (1 + redshift)
        for centre in centres:
            add_lines(depth, axis, centre * (1 + redshift), centre * (1 + redshift) / LIGHT * np.hypot(spread, 150), area)
    flux *= np.exp(-depth[:, :-1])
    return _with_gas(flux, redshift, young, axis, rng)


def draw_quasars(redshift: _F, axis: _F, rng: Generator) -> Floats:
    """Spectra (sample, wavelength) of quasars. redshift: (sample,); axis: (wavelength,) even, angstrom."""
    count = len(redshift)
    stretch = 1 + redshift
    flux = np.zeros((count, len(axis) + 1), np.float32)
    flux[:, :-1] = _power_law(redshift, rng.normal(-1.56, 0.4, count), axis)
    spread = np.clip(np.exp(rng.normal(np.log(4200), 0.35, count)), 2000, 8000) / 2.3548  # km/s
    strong = np.exp(rng.normal(0, 0.3, count))  # common factor for all lines of a quasar
    centres = np.append(lines.QUASAR, lines.QUASAR_ALPHA)
    for centre, width, heap in zip(
        centres, [*lines.QUASAR_WIDTH, lines.QUASAR_ALPHA_WIDTH], [*lines.QUASAR_HEAP, 0.0], strict=True
    ):
        level = _level_at(flux, axis, centre * stretch)
        area = width * level * stretch * strong * np.exp(rng.normal(0, 0.25, count))
        moved = centre * (1 + (rng.normal(-500, 400, count) if centre < 1700 else rng.normal(0, 200, count)) / LIGHT)
        sigma = stretch * np.hypot(centre / LIGHT * np.hypot(BLUR, spread), heap)
        add_lines(flux, axis, moved * stretch, 1.6 * sigma, 0.5 * area)  # a core on a wider base, as in real quasars
        add_lines(flux, axis, moved * stretch, 0.6 * sigma if heap == 0 else sigma, 0.5 * area)
    oxygen = lines.QUASAR_OXYGEN_WIDTH * np.exp(rng.normal(-0.3, 0.8, count)) * stretch
    for centre, share in zip(lines.OXYGEN_III, (1 / 2.98, 1.0), strict=True):
        level = _level_at(flux, axis, 5100 * stretch)
        add_lines(flux, axis, centre * stretch, centre * stretch / LIGHT * np.hypot(BLUR, 250), share * oxygen * level)
    whole = flux[:, :-1]
    far = redshift > axis[0] / lines.LYMAN_ALPHA - 1
    if far.any():
        whole[far] *= _forest(redshift[far], axis, rng)
    return whole


def add_lines(target: Floats, axis: _F, centre: _F, width: _F, area: _F, *, wings: bool = False) -> None:
    """Add one line to each row of `target` (sample, wavelength + 1), whose last column collects what falls outside the axis.

    centre, width, area: (sample,) angstrom; a Gaussian with standard deviation `width`, averaged over the bins it falls in,
    or with `wings` a Lorentzian with half-width `width`.
    """
    step, length = axis[1] - axis[0], len(axis)
    width = np.hypot(width, step / np.sqrt(12))  # a bin is a box of this standard deviation
    reach = (15 if wings else 4) * width
    rows = np.flatnonzero((np.abs(area) > 1e-3) & (centre + reach > axis[0]) & (centre - reach < axis[-1]))
    if not len(rows):
        return
    place = (centre[rows] - axis[0]) / step
    middle = np.rint(place).astype(np.int64)
    offset = np.arange(-(half := int(np.ceil(reach[rows].max() / step))), half + 1)
    away = ((offset - (place - middle)[:, None]) * (step / width[rows, None])).astype(np.float32)
    square = away * away
    shape = 1 / (np.pi * (1 + square)) if wings else np.exp(-0.5 * square) / np.float32(np.sqrt(2 * np.pi))
    column = middle[:, None] + offset
    column[(column < 0) | (column > length)] = length
    target[rows[:, None], column] += shape * (area[rows] / width[rows]).astype(np.float32)[:, None]


def black_body(temperature: _F, axis: _F) -> Floats:
    """Planck's law per wavelength (sample, wavelength), 1 at 5500 angstrom. temperature: (sample,) K; axis: angstrom."""
    exponent = (1.438777e8 / temperature[:, None]).astype(np.float32)  # hc/k in angstrom kelvin
    bright = (5500 / axis.astype(np.float32)) ** 5 / np.expm1(exponent / axis.astype(np.float32))
    return np.asarray(bright * np.expm1(exponent / np.float32(5500)))


def _cooler(temperature: _F, middle: float, spread: float) -> _F:
    """Near 1 below `middle`, near 0 above it."""
    return np.asarray(1 / (1 + np.exp((temperature - middle) / spread)))


def _hill(temperature: _F, middle: float, spread: float) -> _F:
    return np.asarray(np.exp(-0.5 * ((temperature - middle) / spread) ** 2))


def _balmer(temperature: _F) -> _F:
    """Relative strength of hydrogen: 1 at 9,000 K, falling to a quarter for the Sun and for B stars, to zero for M."""
    away = np.log(temperature / 9000)
    return np.asarray(np.exp(-0.5 * (away / np.where(away < 0, 0.27, 0.6)) ** 2))


# Lines, relative strengths, and the equivalent width (angstrom) at strength 1 as a function of temperature.
_STELLAR: tuple[tuple[_F, _F, Callable[[_F], _F]], ...] = (
    (lines.HELIUM, lines.HELIUM_STRENGTH, lambda t: 1.3 * np.exp(-0.5 * (np.log(t / 20_000) / 0.3) ** 2)),
    (lines.CALCIUM_K_H, np.array([1.0, 0.85]), lambda t: 17 * _cooler(t, 5700, 650)),
    (lines.CALCIUM_I, np.ones(1), lambda t: 10 * _cooler(t, 4300, 450)),
    (lines.MAGNESIUM_B, np.array([0.8, 1.0, 1.0]), lambda t: 4.2 * _cooler(t, 5400, 550)),
    (lines.SODIUM_D, np.array([1.0, 0.85]), lambda t: 4 * _cooler(t, 4300, 500)),
    (lines.CALCIUM_TRIPLET, lines.CALCIUM_TRIPLET_STRENGTH, lambda t: 3.6 * _cooler(t, 7200, 600)),
    (lines.METALS, lines.METALS_STRENGTH, lambda t: 1.5 * _cooler(t, 5700, 750)),
)

# Lines and their equivalent widths (angstrom) in an old and in a young population.
_POPULATION: tuple[tuple[_F, float, float], ...] = (
    (lines.CALCIUM_K_H, 8.0, 1.0),
    (lines.G_BAND, 6.0, 0.5),
    (lines.CALCIUM_I, 1.2, 0.1),
    (lines.MAGNESIUM_B, 1.8, 0.4),
    (lines.SODIUM_D, 2.0, 0.6),
    (lines.CALCIUM_TRIPLET, 2.4, 1.8),
    (lines.BALMER[1:10], 1.2, 5.0),
    (lines.METALS[lines.METALS_STRENGTH > 0.5], 0.9, 0.15),
)


def _add_hydrogen(depth: Floats, axis: _F, shift: _F, temperature: _F, turning: _F, rng: Generator) -> None:
    strength = _balmer(temperature) * np.exp(rng.normal(0, 0.1, len(shift)))
    for centres, weights, widest in ((lines.BALMER, lines.BALMER_STRENGTH, 14.0), (lines.PASCHEN, lines.PASCHEN_STRENGTH, 5.0)):
        hot = strength if widest > 5 else strength * (temperature > 6500)
        for centre, weight in zip(centres, weights, strict=True):
            core = centre / LIGHT * np.hypot(BLUR, turning)
            add_lines(depth, axis, centre * shift, core + 0.28 * widest * hot, widest * weight * hot, wings=True)


def _add_metals(depth: Floats, axis: _F, shift: _F, temperature: _F, metals: _F, spread: _F, rng: Generator) -> None:
    """Helium and metal lines, and the bands of CH and MgH. spread: (sample,) km/s, from rotation and instrument."""
    for centres, strengths, curve in _STELLAR:
        area = curve(temperature) * (1 if centres is lines.HELIUM else metals) * np.exp(rng.normal(0, 0.15, len(shift)))
        for centre, strength in zip(centres, strengths, strict=True):
            wings = (0.35 if centre < 4000 else 0.12) * area * strength  # angstrom; stronger lines are wider
            add_lines(depth, axis, centre * shift, np.hypot(centre / LIGHT * spread, wings), area * strength)
    band = 6 * metals * _hill(temperature, 5000, 800)
    add_lines(depth, axis, lines.G_BAND[0] * shift, np.full(len(shift), 9.0), band)
    band = 29 * metals * _cooler(temperature, 4500, 280)
    add_lines(depth, axis, (lines.MAGNESIUM_HYDRIDE[0] - 60) * shift, np.full(len(shift), 45.0), band)


def _add_blanket(depth: Floats, axis: _F, temperature: _F, metals: _F) -> None:
    """The Balmer jump of hot stars, where the series merges, and the line blanketing in the blue of cool stars."""
    jump = 1 / (1 + np.exp((axis - 3735) / 25))
    crowd = 0.75 / (1 + np.exp((axis - 3990) / 25)) + 0.2 / (1 + np.exp((axis - 4450) / 120))
    amount = np.stack([1.0 * _balmer(temperature), 0.75 * _cooler(temperature, 5700, 600) * metals], axis=1)
    depth[:, :-1] += amount.astype(np.float32) @ np.stack([jump, crowd]).astype(np.float32)


def _add_molecules(depth: Floats, axis: _F, shift: _F, temperature: _F, rng: Generator) -> None:
    """Bands of TiO and CaH in stars below about 4,300 K."""
    cool = np.flatnonzero(temperature < 4300)
    heads = np.concatenate([lines.BANDS, lines.CALCIUM_HYDRIDE])
    deep = np.concatenate([lines.BANDS_DEPTH, lines.CALCIUM_HYDRIDE_DEPTH])
    fade = np.concatenate([lines.BANDS_FADE, [40.0, 40.0, 80.0]])
    strength = 1.5 * _cooler(temperature[cool], 3450, 190)
    for head, height, length in zip(heads, deep, fade, strict=True):
        past = (axis / shift[cool, None] - head).astype(np.float32)
        band = np.exp(-np.maximum(past, 0) / np.float32(length)) / (1 + np.exp(np.clip(-past / 3, -30, 30)))
        depth[cool, :-1] += band * (height * strength * np.exp(rng.normal(0, 0.15, len(cool))))[:, None].astype(np.float32)


def _with_flares(flux: Floats, axis: _F, shift: _F, temperature: _F, rng: Generator) -> Floats:
    """Add Balmer emission to a quarter of the M stars."""
    active = (temperature < 3900) & (rng.random(len(shift)) < 0.25)
    spare = np.zeros((int(active.sum()), len(axis) + 1), np.float32)
    for centre, share in zip(lines.BALMER[:4], (1.0, 0.5, 0.25, 0.15), strict=True):
        area = share * 4 * np.exp(rng.normal(0, 0.5, len(spare)))
        add_lines(spare, axis, centre * shift[active], np.full(len(spare), centre / LIGHT * BLUR), area)
    flux[active] += spare[:, :-1] * (flux[active].mean(axis=1, keepdims=True))
    return flux


def _populations(redshift: _F, young: _F, axis: _F, rng: Generator) -> Floats:
    """Starlight of galaxies (sample, wavelength): cool stars with a strong 4000 angstrom break, hot stars with a weak one."""
    rest = (axis / (1 + redshift[:, None])).astype(np.float32)
    old = _black_body_at(rest, rng.normal(4600, 150, len(young)))
    new = _black_body_at(rest, rng.normal(10_500, 1_000, len(young)))
    share = (0.9 * young**1.5).astype(np.float32)[:, None]
    step = 1 / (1 + np.exp(np.clip((3990 - rest) / 30, -30, 30)))  # 0 blueward of the break
    crowd = 1 / (1 + np.exp(np.clip((4450 - rest) / 150, -30, 30)))
    drop = (0.5 * np.exp(rng.normal(0, 0.15, len(young)))).astype(np.float32)[:, None]
    old *= (1 - drop * (1 - step)) * (0.78 + 0.22 * crowd)
    for head in (lines.BANDS[8], lines.BANDS[10]):  # TiO bands of giants in the old population
        old *= 1 - 0.07 * (rest > head) * np.exp(np.minimum(head - rest, 0) / 120).astype(np.float32)
    return np.asarray((1 - share) * old + share * new * (0.8 + 0.2 * step))


def _black_body_at(rest: Floats, temperature: _F) -> Floats:
    """Planck's law at each sample's own wavelengths (sample, wavelength), 1 at 6000 angstrom."""
    exponent = (1.438777e8 / temperature[:, None]).astype(np.float32)
    return np.asarray((6000 / rest) ** 5 * np.expm1(exponent / np.float32(6000)) / np.expm1(exponent / rest))


def _with_gas(flux: Floats, redshift: _F, young: _F, axis: _F, rng: Generator) -> Floats:
    """Add the emission lines of ionised gas, strong where stars are young. redshift, young: (sample,)."""
    count, stretch = len(redshift), 1 + redshift
    alpha = 45 * young**2 * np.exp(rng.normal(0, 0.6, count)) + 0.6 * np.exp(rng.normal(0, 0.6, count))  # angstrom
    beta = alpha / lines.DECREMENT[0]
    dust = rng.exponential(0.3, count)[:, None] * (lines.BALMER[:5] / 4862.7) ** -0.7  # optical depth
    hard = np.exp(rng.normal(-0.3, 0.7, count)) + 0.8 * (young < 0.25)  # [O III] / H-beta; high in the nuclei of old galaxies
    nitrogen = 0.42 * np.exp(rng.normal(0, 0.3, count)) / (0.6 + 0.4 * hard)
    fluxes = [(c, beta * s * np.exp(dust[:, 1] - d)) for c, s, d in zip(lines.BALMER, lines.DECREMENT, dust.T, strict=False)]
    fluxes += [(c, beta * hard * s) for c, s in zip(lines.OXYGEN_III, (1 / 2.98, 1.0), strict=True)]
    fluxes += [(c, alpha * nitrogen * s) for c, s in zip(lines.NITROGEN_II, (1 / 3.05, 1.0), strict=True)]
    fluxes += [
        (c, alpha * 0.18 * s * np.exp(rng.normal(0, 0.2, count))) for c, s in zip(lines.SULPHUR_II, (1.1, 0.9), strict=True)
    ]
    fluxes += [(c, beta * 1.3 * np.exp(rng.normal(0, 0.3, count))) for c in lines.OXYGEN_II]
    fluxes += [(c, beta * 0.1 * hard) for c in lines.NEON_III]
    spread = np.hypot(BLUR, rng.uniform(50, 180, count))
    target = np.zeros((count, len(axis) + 1), np.float32)
    for centre, area in fluxes:
        add_lines(target, axis, centre * stretch, centre * stretch / LIGHT * spread, area * stretch)
    return flux + target[:, :-1]


def _power_law(redshift: _F, slope: _F, axis: _F) -> Floats:
    """Continua (sample, wavelength) with a break at rest-frame 5000 angstrom, where the composite's slope becomes +0.45."""
    away = np.log(axis / 5000)[None] - np.log(1 + redshift)[:, None]
    return np.asarray(np.exp(np.where(away < 0, slope[:, None], 0.3 * slope[:, None] + 0.9) * away), np.float32)


def _level_at(flux: Floats, axis: _F, wavelength: _F) -> _F:
    """Each row's flux at its wavelength, or at the nearer end of the axis. wavelength: (sample,)."""
    at = np.clip(np.rint((wavelength - axis[0]) / (axis[1] - axis[0])), 0, len(axis) - 1).astype(np.int64)
    return np.asarray(flux[np.arange(len(flux)), at].astype(np.float64))


def _forest(redshift: _F, axis: _F, rng: Generator) -> Floats:
    """Transmission (sample, wavelength) of intergalactic hydrogen (mean: Madau 1995, ApJ 441, 18, eqs. 12-16)."""
    stretch = (1 + redshift)[:, None]
    depth = np.where(axis < lines.LYMAN_ALPHA * stretch, 0.0036 * (axis / lines.LYMAN_ALPHA) ** 3.46, 0.0)
    depth += np.where(axis < lines.LYMAN_BETA * stretch, 0.0017 * (axis / lines.LYMAN_BETA) ** 3.46, 0.0)
    clumps = rng.standard_gamma(0.7, depth.shape, np.float32) / np.float32(0.7)
    clumps[:, 1:] = 0.6 * clumps[:, 1:] + 0.4 * clumps[:, :-1]
    depth = 1.35 * np.expm1(depth / 1.35)  # corrects for clumping at this gamma shape, so that the mean matches the source
    wall = lines.LYMAN_LIMIT * stretch * rng.uniform(0.9, 1.0, (len(redshift), 1))
    return np.asarray(np.exp(-depth * clumps - np.where(axis < wall, 3.0, 0.0)), np.float32)
