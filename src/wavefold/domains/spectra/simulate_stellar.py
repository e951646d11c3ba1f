"""Simulates survey spectra of stars with known teff (K, 4000 to 9000), logg (dex, 0.5 to 5) and feh (dex, -2.5 to 0.5).

Continua are black bodies; lines are added by equivalent width (`celestial.add_lines`) and change with the parameters as in
stellar spectra: Balmer lines and their jump with temperature, their wings with gravity in hot stars; Ca II, Mg b, Ca I, Na and
iron lines with temperature and abundance; Mg b, MgH, Ca I and Na are stronger in dwarfs, Ca II's triplet, Sr II and CN in
giants (Gray and Corbally 2009, Stellar Spectral Classification, chapters 4 to 8). Sizes are chosen by eye and are not those of
model atmospheres: scores on simulated spectra say nothing about real ones. They are observed as in `simulate`: dust,
calibration, sky, bad pixels, and noise of a drawn signal to noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from wavefold.core.errors import UserError, listed
from wavefold.data.dataset import Dataset, Floats
from wavefold.data.simulation import length_of
from wavefold.domains.spectra import lines
from wavefold.domains.spectra.celestial import BLUR, LIGHT, add_lines, black_body
from wavefold.domains.spectra.simulate import observe, wavelengths

TARGETS = ("teff", "logg", "feh")
LIMITS = np.array([[4000.0, 9000.0], [0.5, 5.0], [-2.5, 0.5]])
_UNKNOWN = (0.01, 0.03, 0.06)  # shares of stars whose teff, logg, feh are not known
_DECIMALS = (1, 3, 3)
_SNR = (8.0, 200.0)
_SHORTEST = 100  # values
_BLOCK = 256 * 2600  # values observed at a time

_F = NDArray[np.float64]


def simulate_stellar(count: int, seed: int, *, shape: Sequence[int] = (1, 2600), classes: Sequence[str] = ()) -> Dataset:
    """`count` spectra, reproducible by seed. signals: (sample, 1, wavelength) counts; targets: (sample, 3) teff, logg, feh.

    Some targets are NaN, as in catalogues. columns: `snrg`, the median signal to noise. shape: 1 and the number of equal bins
    from 3699 to 8899 angstrom. classes must be empty. UserError for invalid arguments.
    """
    length = length_of(shape, "stellar_parameters")
    if count < 1 or length < _SHORTEST:
        raise UserError(f"simulate: {count} spectra of {length} values requested; expected at least 1 of at least {_SHORTEST}")
    if classes:
        raise UserError(f"simulate: simulator 'stellar_parameters' has no classes, got {listed(classes)}; unset data.classes")
    rng = np.random.default_rng(seed)
    stars = draw_parameters(count, rng)
    snr = _SNR[0] * (_SNR[1] / _SNR[0]) ** rng.random(count)
    axis, signals = wavelengths(length), np.empty((count, 1, length), np.float32)
    block = max(1, _BLOCK // length)
    for start in range(0, count, block):
        some = slice(start, start + block)
        sky, dust = np.exp(rng.normal(-0.2, 0.7, len(snr[some]))), np.minimum(rng.exponential(0.3, len(snr[some])), 2.0)
        signals[some, 0] = observe(draw_spectra(stars[some], axis, rng), snr[some], sky, dust, axis, rng)
    return Dataset(
        signals=signals,
        ids=(100_000_000 + rng.choice(900_000_000, count, replace=False)).astype(np.str_),
        unit=f"{axis[1] - axis[0]:g} angstrom",
        digest=f"simulated-stellar-{count}-{seed}-{length}",
        source=f"simulated stellar spectra (seed {seed})",
        axis=axis,
        columns={"snrg": np.array([f"{value:.2f}" for value in snr.tolist()], np.str_)},
        targets=np.where(rng.random((count, 3)) < _UNKNOWN, np.nan, stars).astype(np.float32),
        target_names=TARGETS,
    )


def draw_parameters(count: int, rng: Generator) -> _F:
    """teff, logg and feh (sample, 3): dwarfs of all temperatures, giants of the cooler ones; a tenth poor in metals."""
    teff = LIMITS[0, 0] + np.ptp(LIMITS[0]) * rng.beta(1.5, 2.2, count)
    dwarf = 4.65 - 0.55 * (teff - 4000) / 3000 * (teff < 7000) - 0.6 * (teff >= 7000) + rng.normal(0, 0.15, count)
    giant = 1.1 + 2.3 * (teff - 4000) / 1600 + rng.normal(0, 0.35, count)
    between = rng.uniform(1.5, 4.2, count)  # subgiants and others
    kind = rng.random(count)
    logg = np.where(kind < 0.1, between, np.where((kind < 0.5) & (teff < 5800), giant, dwarf))
    feh = np.where(rng.random(count) < 0.1, rng.normal(-1.5, 0.45, count), rng.normal(-0.2, 0.33, count))
    drawn = np.clip(np.stack([teff, logg, feh], axis=1), *LIMITS.T)
    return np.stack([np.round(drawn[:, i], digits) for i, digits in enumerate(_DECIMALS)], axis=1)


@dataclass(frozen=True)
class _Star:
    """Parameters of each star, (sample,), and what broadens and moves its lines."""

    teff: _F
    logg: _F
    feh: _F
    shift: _F  # 1 + velocity / speed of light
    spread: _F  # km/s, standard deviation by rotation and instrument

    def metal(self, power: float, gravity: float) -> _F:
        """How lines grow with abundance and with gravity, both in dex; 1 for the Sun."""
        return np.asarray(10 ** (power * self.feh + gravity * (self.logg - 4.4)))


def draw_spectra(stars: _F, axis: _F, rng: Generator) -> Floats:
    """Noise-free spectra (sample, wavelength), each 1 on average. stars: (sample, 3) as from `draw_parameters`."""
    count = len(stars)
    turning = np.where(stars[:, 0] > 6300, np.abs(rng.normal(0, 80, count)), 5.0)  # km/s; hot stars rotate fast
    shift = 1 + np.clip(rng.normal(0, 60, count), -300, 300) / LIGHT
    teff, logg, feh = stars.T
    star = _Star(teff, logg, feh, shift, np.hypot(BLUR, turning))
    depth = np.zeros((count, len(axis) + 1), np.float32)  # optical depth; the last column collects what falls outside
    _add_hydrogen(depth, axis, star, rng)
    _add_metals(depth, axis, star, rng)
    _add_bands(depth, axis, star)
    flux = black_body(star.teff, axis) * np.exp(-depth[:, :-1])
    return np.asarray(flux / flux.mean(axis=1, keepdims=True), np.float32)


def _cooler(teff: _F, middle: float, spread: float) -> _F:
    """Near 1 below `middle`, near 0 above it."""
    return np.asarray(1 / (1 + np.exp((teff - middle) / spread)))


def _hydrogen(teff: _F) -> _F:
    """Relative strength of the Balmer lines: 1 at 9,000 K, a quarter for the Sun."""
    return np.asarray(np.exp(-0.5 * (np.log(teff / 9000) / 0.27) ** 2))


def _add_hydrogen(depth: Floats, axis: _F, star: _Star, rng: Generator) -> None:
    """Balmer lines: wings by pressure, so wider in dwarfs, if the star is hot."""
    strength = _hydrogen(star.teff) * np.exp(rng.normal(0, 0.05, len(star.teff)))
    pressure = 10 ** (0.2 * (star.logg - 4) * (1 - _cooler(star.teff, 7000, 400)))
    for centre, weight in zip(lines.BALMER, lines.BALMER_STRENGTH, strict=True):
        core = centre / LIGHT * star.spread
        add_lines(
            depth, axis, centre * star.shift, core + 3.9 * strength * pressure, 14 * weight * strength * pressure, wings=True
        )


def _add_metals(depth: Floats, axis: _F, star: _Star, rng: Generator) -> None:
    """Lines of metals; those of Mg, Ca and Na also scatter by their own abundance."""
    own = np.exp(rng.normal(0, 0.1, (2, len(star.teff))))
    groups = (
        (lines.CALCIUM_K_H, np.array([1.0, 0.85]), 17 * _cooler(star.teff, 5900, 700) * star.metal(0.32, 0.0) * own[0]),
        (lines.CALCIUM_I, np.ones(1), 10 * _cooler(star.teff, 4300, 450) * star.metal(0.3, 0.2) * own[0]),
        (lines.MAGNESIUM_B, np.array([0.8, 1.0, 1.0]), 4.2 * _cooler(star.teff, 5500, 600) * star.metal(0.33, 0.2) * own[1]),
        (lines.SODIUM_D, np.array([1.0, 0.85]), 4 * _cooler(star.teff, 4400, 550) * star.metal(0.35, 0.15) * own[1]),
        (lines.CALCIUM_TRIPLET, lines.CALCIUM_TRIPLET_STRENGTH, 3.6 * _cooler(star.teff, 7200, 600) * star.metal(0.25, -0.13)),
        (lines.METALS, lines.METALS_STRENGTH, 1.5 * _cooler(star.teff, 5900, 800) * star.metal(0.4, 0.0)),
        (lines.STRONTIUM, np.ones(2), 1.2 * _cooler(star.teff, 6600, 700) * star.metal(0.35, -0.25)),
    )
    for centres, strengths, area in groups:
        for centre, strength in zip(centres, strengths, strict=True):
            wings = (0.35 if centre < 4000 else 0.12) * area * strength  # angstrom; stronger lines are wider
            add_lines(depth, axis, centre * star.shift, np.hypot(centre / LIGHT * star.spread, wings), area * strength)


def _add_bands(depth: Floats, axis: _F, star: _Star) -> None:
    """Bands of CH, MgH and CN, the Balmer jump, and the crowded lines in the blue."""
    hill = np.exp(-0.5 * ((star.teff - 5000) / 800) ** 2)
    bands = (
        (lines.G_BAND[0], 9.0, 6 * hill * star.metal(0.35, 0.0)),
        (lines.MAGNESIUM_HYDRIDE[0] - 60, 45.0, 29 * _cooler(star.teff, 4600, 300) * star.metal(0.3, 0.3)),
        (4186.0, 22.0, 3.5 * hill * star.metal(0.55, -0.22)),  # CN, whose head is at 4216 (Gray and Corbally 2009)
    )
    for centre, width, area in bands:
        add_lines(depth, axis, centre * star.shift, np.full(len(area), width), area)
    jump = 1 / (1 + np.exp((axis - 3735) / 25))
    crowd = 0.75 / (1 + np.exp((axis - 3990) / 25)) + 0.2 / (1 + np.exp((axis - 4450) / 120))
    height = _hydrogen(star.teff) * (1 - 0.12 * (star.logg - 4))
    amount = np.stack([height, 0.75 * _cooler(star.teff, 5700, 600) * star.metal(0.4, 0.0)], axis=1)
    depth[:, :-1] += amount.astype(np.float32) @ np.stack([jump, crowd]).astype(np.float32)
