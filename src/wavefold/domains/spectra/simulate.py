"""Simulates survey spectra on the grid of the Tianchi 2018 LAMOST contest: star, unknown, galaxy, qso; 3700 to 8898 angstrom.

Objects come from `celestial`; this module observes them as LAMOST does: with dust, drift of the flux calibration, two arms
that meet near 5900 angstrom, residuals of telluric bands and of the night sky, noise, bad pixels, and counts from below 1 to
thousands. Noise by wavelength, and counts by signal to noise, follow 2,243 real spectra of LAMOST DR10.

The kinds of "unknown" are those that Yang et al. 2023 (arXiv:2303.09836) found in LAMOST: mostly too faint, some with
mismatched arms, some dominated by the sky or street lights.

Shares: 7 % unknown; of the rest, .84 star, .12 galaxy and .04 qso. The contest's training set is quoted (we could not verify
the source) as 442,969 star, 34,288 unknown, 5,231 galaxy and 1,363 qso, hence the share of unknown. With so few galaxies and
quasars, a test set of a few thousand samples would contain only a handful.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from wavefold.core.errors import UserError, listed, nearest
from wavefold.data.dataset import Dataset, Floats, Ints
from wavefold.data.simulation import length_of, whole_parts
from wavefold.domains.spectra import lines
from wavefold.domains.spectra.celestial import BLUR, LIGHT, draw_galaxies, draw_quasars, draw_stars, temperatures

CLASSES = ("star", "unknown", "galaxy", "qso")  # in the source's order
SHARES = (0.78, 0.07, 0.11, 0.04)  # without unknown: .84, .12, .04
STAR, UNKNOWN, GALAXY, QSO = range(4)

_F = NDArray[np.float64]

_FIRST, _LAST = 3699.0, 8899.0  # angstrom, the outer edges of the contest's 2,600 bins
_SHORTEST = 100  # values; bins of 52 angstrom still resolve a quasar's lines
_NOISE = (  # angstrom, noise of the calibrated flux relative to mid-range: worse at the ends and where the arms meet
    [3700, 3850, 4000, 4500, 5000, 5500, 5750, 5900, 6000, 6450, 7250, 8000, 8500, 8900],
    [6.5, 4.2, 3.2, 1.8, 1.45, 1.25, 1.3, 1.4, 1.15, 0.8, 0.6, 0.65, 0.75, 1.1],
)
_FAINT, _SKY, _SPLICE = range(3)  # kinds of unknown
_FLAWS = (0.55, 0.2, 0.25)
_HIDDEN = (0.75, 0.17, 0.08)  # true class of an unknown: star, galaxy, qso
_BRIGHT = {STAR: 0.7, GALAXY: 1.0, QSO: 1.2}  # signal to noise is 60^(u^this), u uniform in [0, 1): stars are brighter


def simulate_spectra(count: int, seed: int, *, shape: Sequence[int] = (1, 2600), classes: Sequence[str] = CLASSES) -> Dataset:
    """Simulate `count` labelled spectra, reproducible by seed. signals: (sample, 1, wavelength) counts.

    shape: 1 and the number of equal bins from 3699 to 8899 angstrom, 2600 in the contest. classes: some of CLASSES, in any
    order; their shares are SHARES scaled to 1, with at least one sample per class if `count` allows. UserError for invalid
    arguments.
    """
    length = length_of(shape, "spectra")
    numbers = _check(count, length, classes)
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(numbers)), _parts(count, numbers)))
    axis, signals = wavelengths(length), np.empty((count, 1, length), np.float32)
    block = max(1, 256 * 2600 // length)  # a few megabytes each, which stay in the processor's cache
    for start in range(0, count, block):
        signals[start : start + block, 0] = _observed(numbers[labels[start : start + block]], axis, rng)
    return Dataset(
        signals=signals,
        ids=(100_000_000 + rng.choice(900_000_000, count, replace=False)).astype(np.str_),
        labels=labels,
        classes=tuple(classes),
        unit=f"{(_LAST - _FIRST) / length:g} angstrom",
        digest=f"simulated-spectra-{count}-{seed}-{length}" + ("" if tuple(classes) == CLASSES else f"-{'-'.join(classes)}"),
        source=f"simulated spectra (seed {seed})",
        axis=axis,
    )


def wavelengths(length: int) -> _F:
    """Centres (wavelength,) in angstrom of `length` equal bins between 3699 and 8899; 3700, 3702, ... 8898 for 2600."""
    return np.asarray(_FIRST + (np.arange(length) + 0.5) * ((_LAST - _FIRST) / length))


def signal_to_noise(kinds: Ints, rng: Generator) -> _F:
    """Draw median signal to noise (sample,) from 1 to 60. kinds: (sample,) STAR, GALAXY or QSO."""
    power = np.select([kinds == kind for kind in _BRIGHT], list(_BRIGHT.values()))
    return np.asarray(60 ** (rng.random(len(kinds)) ** power))


def draw_objects(kinds: Ints, axis: _F, rng: Generator) -> Floats:
    """Draw noise-free spectra (sample, wavelength), each 1 on average. kinds: (sample,) STAR, GALAXY or QSO."""
    flux = np.empty((len(kinds), len(axis)), np.float32)
    for kind in (STAR, GALAXY, QSO):
        rows = np.flatnonzero(kinds == kind)
        if kind == STAR:
            flux[rows] = draw_stars(temperatures(len(rows), rng), axis, rng)
        elif kind == GALAXY:
            flux[rows] = draw_galaxies(0.6 * rng.beta(1.4, 4, len(rows)), axis, rng)
        else:
            flux[rows] = draw_quasars(0.3 + 3.7 * rng.beta(1.8, 3.2, len(rows)), axis, rng)
    return np.asarray(flux / flux.mean(axis=1, keepdims=True))


def observe(flux: Floats, snr: _F, sky: _F, dust: _F, axis: _F, rng: Generator) -> Floats:
    """Turn spectra that are about 1 into counts (sample, wavelength) as the telescope delivers them.

    snr: (sample,) median signal to noise; sky: (sample,) sky residuals in units of the noise; dust: (sample,) extinction in
    V magnitudes; axis: (wavelength,) angstrom.
    """
    seen = flux * _passed(dust, axis, rng)
    seen /= seen.mean(axis=1, keepdims=True)
    noise = (_noise(axis) / snr[:, None]).astype(np.float32)  # sky noise, which for bright objects is small beside their own
    own = (snr**2 / (snr**2 + 100)).astype(np.float32)[:, None]
    left = _sky(sky, axis, rng)
    left += rng.standard_normal(seen.shape, np.float32) * np.sqrt(1 - own + own * seen)
    seen += noise * left
    _spoil(seen, rng)
    counts = 10 ** (1.57 * np.log10(np.maximum(snr, 0.7)) - 0.07 + rng.normal(0, 0.4, len(snr)))
    return np.asarray(seen * counts[:, None].astype(np.float32))


def _check(count: int, length: int, classes: Sequence[str]) -> Ints:
    """Return the classes' numbers in CLASSES; UserError for invalid arguments."""
    if count < 1 or length < _SHORTEST:
        raise UserError(f"simulate: {count} spectra of {length} values requested; expected at least 1 of at least {_SHORTEST}")
    for name in classes:
        if name not in CLASSES:
            raise UserError(f"simulate: class '{name}' is not one of {listed(CLASSES)}{nearest(name, CLASSES)}")
    if len(set(classes)) < 2 or len(set(classes)) < len(classes):
        raise UserError(
            f"simulate: classes {listed(classes) or 'none'}; expected 2 or more different ones of {listed(CLASSES)}"
        )
    return np.array([CLASSES.index(name) for name in classes], np.int64)


def _parts(count: int, numbers: Ints) -> Ints:
    """The number of samples per class, at least one each if there are enough."""
    parts = whole_parts(count, tuple(SHARES[i] for i in numbers))
    while count >= len(parts) and parts.min() == 0:
        parts[np.argmin(parts)] += 1
        parts[np.argmax(parts)] -= 1
    return parts


def _observed(kinds: Ints, axis: _F, rng: Generator) -> Floats:
    """Observed spectra (sample, wavelength) of a block of samples. kinds: (sample,) class numbers."""
    count, unknown = len(kinds), kinds == UNKNOWN
    truth = np.where(unknown, rng.choice([STAR, GALAXY, QSO], count, p=_HIDDEN), kinds)
    flaw = np.where(unknown, rng.choice(len(_FLAWS), count, p=_FLAWS), -1)
    snr = signal_to_noise(truth, rng)
    snr = np.where(flaw == _FAINT, 0.1 * 20 ** rng.random(count), snr)
    snr = np.where(flaw == _SKY, 0.4 * 8 ** rng.random(count), snr)
    sky = np.where(flaw == _SKY, np.exp(rng.normal(3.0, 0.6, count)), np.exp(rng.normal(-0.2, 0.7, count)))
    dust = np.minimum(rng.exponential(np.where(truth == STAR, 0.35, 0.1)), 3.0)
    flux = draw_objects(truth, axis, rng)
    spliced = np.flatnonzero(flaw == _SPLICE)
    flux[spliced] = _splice(flux[spliced], axis, rng)
    return observe(flux, snr, sky, dust, axis, rng)


def _splice(flux: Floats, axis: _F, rng: Generator) -> Floats:
    """Join the blue arm of each spectrum to the red arm of another, at a different level. flux: (sample, wavelength)."""
    count = len(flux)
    other = draw_objects(rng.choice([STAR, GALAXY, QSO], count, p=_HIDDEN), axis, rng)
    level = np.exp(rng.choice([-1.0, 1.0], count) * rng.uniform(0.4, 1.6, count)).astype(np.float32)
    return np.where(axis < rng.uniform(5800, 6000, (count, 1)), flux, other * level[:, None])


def _passed(dust: _F, axis: _F, rng: Generator) -> Floats:
    """Fraction of light (sample, wavelength) left after dust, air and calibration, about 1."""
    count = len(dust)
    x = 2 * (axis - _FIRST) / (_LAST - _FIRST) - 1
    legendre = np.polynomial.legendre.legvander(x, 3)[:, 1:].T  # low-order drift
    waves = np.stack([np.sin(np.pi * n * x + p) for n in (1.5, 2.5) for p in (0, np.pi / 2)])
    arms = np.stack([np.tanh((axis - 5880) / 40), np.exp(-0.5 * ((axis - 5950) / 50) ** 2)])
    drift = rng.normal(0, [0.12, 0.06, 0.03, 0.015, 0.015, 0.01, 0.01, 0.02, 0.04], (count, 9))
    red = (axis / 5500) ** -1.3 / 1.0857  # near Cardelli, Clayton & Mathis 1989, ApJ 345, 245, between B and I
    # Calibration removes most of the telluric bands, by slightly too much or too little.
    air = np.where(rng.random((count, 1)) < 0.7, rng.normal(0, 0.1, (count, 4)), rng.uniform(0.4, 1.2, (count, 4)))
    amount = np.concatenate([drift, -dust[:, None], air], axis=1).astype(np.float32)
    return np.exp(amount @ np.concatenate([legendre, waves, arms, red[None], _air(axis)]).astype(np.float32))


def _air(axis: _F) -> _F:
    """Logarithm of each telluric band's transmission (band, wavelength)."""
    rows = []
    for first, last, depth, sharp in lines.TELLURIC:
        start, end = lines.vacuum([first, last])
        place = np.clip((axis - start) / (end - start), 0, 1)
        ripple = 1 + 0.3 * np.sin(axis / 9) * np.sin(np.pi * place)
        shape = np.minimum(place * 12, 1) * (1 - place) ** 0.8 if sharp else np.sin(np.pi * place) * ripple
        rows.append(np.log1p(-depth * shape))
    return np.stack(rows)


def _noise(axis: _F) -> _F:
    """Noise (wavelength,) of a flat spectrum relative to its median, from the telescope's throughput and the sky's lines."""
    smooth = np.exp(np.interp(axis, _NOISE[0], np.log(_NOISE[1])))
    curve = smooth * (1 + 0.7 * _peaks(lines.HYDROXYL, axis).sum(axis=0) + 1.5 * _peaks(lines.AIRGLOW[:1], axis)[0])
    return np.asarray(curve / np.median(curve))


def _sky(sky: _F, axis: _F, rng: Generator) -> Floats:
    """Night-sky residuals (sample, wavelength), in units of the noise: lines, too bright or too faint, and lamps."""
    count = len(sky)
    peaks = np.concatenate([_peaks(group, axis) for group in (lines.AIRGLOW, lines.HYDROXYL, lines.MERCURY)])
    glow, hydroxyl, lamps = len(lines.AIRGLOW), len(lines.HYDROXYL), len(lines.MERCURY)
    common = np.repeat(
        rng.normal(0, 1, (count, 2)), [glow, hydroxyl], axis=1
    )  # a common cause: too much or too little subtracted
    brightness = np.concatenate([[3.0, 1, 1, 2, 1], np.full(hydroxyl, 1.0)])
    amount = (0.7 * common + 0.7 * rng.normal(0, 1, (count, glow + hydroxyl))) * brightness
    city = np.where(rng.random((count, 1)) < 0.15, np.abs(rng.normal(0, 1.5, (count, lamps))), 0.0)
    return (np.concatenate([amount, city], axis=1) * sky[:, None]).astype(np.float32) @ peaks.astype(np.float32)


def _peaks(centres: _F, axis: _F) -> _F:
    """Gaussians (line, wavelength) of height 1 with the instrument's width."""
    step = axis[1] - axis[0]
    width = np.hypot(centres / LIGHT * BLUR, step / np.sqrt(12))
    return np.asarray(np.exp(-0.5 * ((axis - centres[:, None]) / width[:, None]) ** 2))


def _spoil(seen: Floats, rng: Generator) -> None:
    """Add bad pixels in place: one or a few at zero or far off, and sometimes a run of zeros. seen: (sample, wavelength)."""
    count, length = seen.shape
    row = np.repeat(np.arange(count), rng.poisson(0.8, count))
    column = rng.integers(0, length, len(row))
    far = rng.normal(0, 1, len(row)) * np.exp(rng.normal(0, 1, len(row)))
    seen[row, column] = np.where(rng.random(len(row)) < 0.4, 0.0, seen[row, column] + far)
    holes = np.flatnonzero(rng.random(count) < 0.02)
    start = rng.integers(0, length, len(holes))
    for hole, first, width in zip(holes, start, rng.integers(3, max(4, length // 40), len(holes)), strict=True):
        seen[hole, first : first + width] = 0.0
