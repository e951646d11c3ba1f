"""Simulated cadences: backgrounds modelled on real panels of the Green Bank Telescope, needles, and decoys.

docs/cadences.md has the measurements, made on contest cadences. Structure, in units of the white residual: slow row gain and
short bursts over all columns, a bandpass slope and ripple, the spike at a coarse channel's centre, carriers 5 to 15 bins wide
that fade in and out, blocks that switch on in the middle of a panel. It is scaled so that the residual is 0.08 to 0.77 of a
panel's standard deviation, as measured. Each panel is standardised after injection, as in the contest.

Four samples share a background: its structure, not its noise. Each sample is a pure function of (seed, number).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from wavefold.core import random
from wavefold.core.errors import DataError, UserError
from wavefold.data.dataset import Dataset, Floats, Ints
from wavefold.data.lazy import Lazy
from wavefold.domains.radio.cadence import OFF, ON, PANELS
from wavefold.domains.radio.needles import FAMILIES, Needles, add_needles, draw_needles, residual, standardised

SHARE = 0.1  # fraction of samples with a needle, as in the contest
TOGETHER = 4  # samples per background
_DECOYS = 0.3  # fraction of samples with a decoy line, not only in ON panels; those with a needle too stay positive
_OFF_ONLY = 0.2  # fraction of decoys without a needle that are in the OFF panels only
_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)  # fraction of real panels ...
_RESIDUALS = (0.08, 0.1, 0.15, 0.3, 0.39, 0.63, 0.77)  # ... whose residual is at most this many panel standard deviations


def simulate_cadences(
    count: int, seed: int, *, shape: Sequence[int], classes: Sequence[str] = ("0", "1"), backgrounds: Dataset | None = None
) -> Dataset:
    """Cadences (sample, 6, row, column) generated on demand, one in ten with a needle, with ids, labels, groups and truth.

    shape: (6, rows, columns); classes: the names for without and with a needle. The columns family, interference, amplitude
    (residual standard deviations per pixel), snr (of the best ON panel) and drift (bins per row) describe what was injected.
    backgrounds: real cadences to inject into, in turn, instead of simulated ones; those of the last class are skipped.
    """
    if len(shape) != 3 or shape[0] != PANELS or min(shape[1:]) < 8:
        raise UserError(f"data.shape: simulator 'cadence' needs [6, rows, columns], 8 or more each, got {list(shape)}")
    if len(classes) != 2:
        raise UserError(f"data.classes: simulator 'cadence' needs exactly 2 classes, got {len(classes)}")
    labels = np.zeros(count, np.int64)
    labels[np.random.default_rng(seed).permutation(count)[: max(1, round(SHARE * count))]] = 1
    plan = _Plan(seed, labels, shape[1], shape[2], None if backgrounds is None else _without_needles(backgrounds, shape))
    return Dataset(
        signals=Lazy(plan.make, np.arange(count), tuple(shape)),
        ids=np.array([hashlib.sha256(f"{seed}/{i}".encode()).hexdigest()[:15] for i in range(count)], np.str_),
        labels=labels,
        classes=tuple(classes),
        groups=plan.backgrounds(),
        grouping="background",
        source=f"simulated cadences, seed {seed}" + (f", injected into {backgrounds.source}" if backgrounds else ""),
        columns={"background": plan.backgrounds(), **plan.truth()},
    )


def _without_needles(backgrounds: Dataset, shape: Sequence[int]) -> Dataset:
    """The cadences not labelled as containing a needle; DataError if there are none or their shape differs."""
    if backgrounds.signals.shape[1:] != tuple(shape):
        there, wanted = (" x ".join(map(str, s)) for s in (backgrounds.signals.shape[1:], shape))
        raise DataError(f"{backgrounds.source}: samples have shape {there}, but data.shape is {wanted}")
    if backgrounds.labels is not None:
        backgrounds = backgrounds.take(np.flatnonzero(backgrounds.labels != len(backgrounds.classes) - 1))
    if not len(backgrounds):
        raise DataError(f"{backgrounds.source}: contains no cadence without a needle to use as a background")
    return backgrounds


class _Plan:
    """The contents of each sample, and how to generate them."""

    def __init__(self, seed: int, labels: Ints, rows: int, columns: int, real: Dataset | None = None) -> None:
        self.seed, self.labels, self.rows, self.columns, self.real = seed, labels, rows, columns, real
        samples = torch.arange(len(labels))
        decoy, off_only = (random.uniform(random.key(seed, 1), samples, 2) < torch.tensor([_DECOYS, _OFF_ONLY])).unbind(1)
        self.decoy, self.off_only = decoy, off_only & ~torch.from_numpy(labels).bool()

    def needles(self, number: int, samples: Tensor) -> Needles:
        """The needles (0) or the decoys (1) of some samples."""
        return draw_needles(random.key(self.seed, 2, number), samples, self.rows, self.columns)

    def backgrounds(self) -> NDArray[np.str_]:
        """(sample,) names."""
        if self.real is None:
            return np.array([f"s{self.seed}b{i // TOGETHER}" for i in range(len(self.labels))], np.str_)
        names = self.real.ids if self.real.groups is None else self.real.groups
        return names[np.arange(len(self.labels)) % len(names)]

    def truth(self) -> dict[str, NDArray[np.str_]]:
        """The columns that describe what was injected."""
        samples, there = torch.arange(len(self.labels)), self.labels == 1
        needles, decoys = self.needles(0, samples), self.needles(1, samples)
        names, no, snr = np.array(FAMILIES), np.str_(""), needles.snr(self.columns)
        return {
            "family": np.where(there, names[needles.family.numpy()], "none"),
            "interference": np.where(self.decoy.numpy(), names[decoys.family.numpy()], "none"),
            "amplitude": np.where(there, _written(needles.amplitude), no),
            "snr": np.where(there, _written(snr), no),
            "drift": np.where(there, _written(needles.drift), no),
        }

    def make(self, numbers: Ints) -> Floats:
        """Cadences of some samples, (sample, 6, row, column), rounded to float16 like their files."""
        samples = torch.from_numpy(np.asarray(numbers, np.int64))
        panels = torch.from_numpy(self._backgrounds(numbers))
        sigma = 1.0 if self.real is None else residual(panels)
        every, off = torch.ones(PANELS, dtype=torch.bool), torch.zeros(PANELS, dtype=torch.bool)
        off[list(OFF)] = True
        decoyed = self.decoy[samples][:, None] & torch.where(self.off_only[samples][:, None], off, every)
        panels = add_needles(panels, self.needles(1, samples), decoyed, sigma)
        lit = torch.from_numpy(self.labels)[samples].bool()[:, None] & torch.tensor([p in ON for p in range(PANELS)])
        panels = add_needles(panels, self.needles(0, samples), lit, sigma)
        return np.asarray(standardised(panels).half().float().numpy())

    def _backgrounds(self, numbers: Ints) -> Floats:
        if self.real is not None:
            return self.real.signals[np.asarray(numbers) % len(self.real)]
        return np.stack([self._background(int(i)) for i in numbers])

    def _background(self, number: int) -> Floats:
        of_group = np.random.default_rng([self.seed, 3, number // TOGETHER])
        own = np.random.Generator(np.random.SFC64([self.seed, 4, number]))
        noise = own.standard_normal((PANELS, self.rows, self.columns), np.float32)
        return noise + structure(of_group, own, self.rows, self.columns)


def structure(of_group: Generator, own: Generator, rows: int, columns: int) -> Floats:
    """Everything but white noise in six panels, (6, row, column), in units of the white residual.

    of_group draws what samples of one background share (frequency profiles and strengths); own draws what varies with time.
    """
    profiles = _profiles(of_group, columns)  # (part, column)
    times = _times(of_group, own, PANELS * rows)  # (part, 6 x row)
    weights = of_group.dirichlet(np.full(len(profiles), 0.5)) ** 0.5
    sizes = weights[:, None] / np.maximum((times**2).mean(1) * (profiles**2).mean(1), 1e-9)[:, None] ** 0.5
    field = (times.T.astype(np.float32) @ (sizes * profiles).astype(np.float32)).reshape(PANELS, rows, columns)
    field /= max(float(field.std()), 1e-6)
    share = np.interp(of_group.random(), _SHARES, _RESIDUALS)
    return np.asarray(field * np.float32((1 / share**2 - 1) ** 0.5))


def _profiles(rng: Generator, columns: int) -> NDArray[np.float64]:
    """The components of a background over frequency, (part, column): gain, bandpass, spike, three carriers, a block."""
    x = np.arange(columns)
    slope = rng.normal() * (x / columns - 0.5) + rng.normal() * np.tanh((x - rng.uniform(0, columns)) / (0.1 * columns))
    ripple = rng.choice([0.0, 0.3], p=[0.5, 0.5]) * np.sin(2 * np.pi * (x / rng.uniform(27, 29) + rng.random()))
    spike = (x == int(rng.integers(columns))) * (rng.random() < 5 / 8) * rng.uniform(0.3, 1)
    parts = [np.ones(columns), slope + ripple, spike.astype(float)]
    for _ in range(3):
        width = rng.uniform(5, 15)
        profile = np.exp(-(((x - rng.uniform(0, columns)) / (0.5 * width)) ** 4))  # flat-topped
        parts.append(profile * (rng.random() < 0.4))
    left = rng.uniform(0, columns)
    parts.append(((x >= left) & (x < left + rng.uniform(0.02, 0.3) * columns)) * float(rng.random() < 0.3))
    return np.stack(parts)


def _times(of_group: Generator, own: Generator, count: int) -> NDArray[np.float64]:
    """The strength of each component at each row of all panels, (part, 6 x row)."""
    gain = _slow(own, count, of_group.uniform(0.35, 0.97))
    starts = own.integers(0, count, own.poisson(2.0))
    for start in starts:  # broadband bursts of one to four rows
        gain[start : start + own.integers(1, 5)] += own.normal(0, 4)
    carriers = [np.abs(1 + of_group.uniform(0, 1.5) * _slow(own, count, of_group.uniform(0.3, 0.99))) for _ in range(3)]
    block = np.zeros(count)
    begin = int(own.integers(0, count))
    block[begin : begin + int(own.integers(count // 12, count // 2))] = 1
    return np.stack([gain, np.ones(count), np.ones(count), *carriers, block])


def _slow(rng: Generator, count: int, correlation: float) -> NDArray[np.float64]:
    """A random series of unit variance with this correlation between neighbours (autoregression of order 1), (count,)."""
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(count))
    series = np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) / (1 - correlation * turn), count)
    return np.asarray(series / max(float(series.std()), 1e-9))


def _written(values: Tensor) -> NDArray[np.str_]:
    return np.array([f"{v:.4g}" for v in values.tolist()], np.str_)
