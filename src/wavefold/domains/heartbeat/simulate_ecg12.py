"""Simulates ten-second records of twelve leads with the five diagnostic superclasses of PTB-XL, several at once for some.

The heart is a dipole in three dimensions: each wave of a beat is a Gaussian in time times a vector in millivolt (Sameni et al.
2007, EURASIP J. Adv. Signal Process., 43407). Leads I, II and V1 to V6 are its projections after Dower's matrix (Dower, Machado
and Osborne 1980, Clin. Cardiol. 3, 87); III, aVR, aVL and aVF follow from I and II. Shares of the labels are near PTB-XL's
(Wagner et al. 2020, Scientific Data 7, 154).

Marks of the labels, each by a random severity, so that mild cases look normal: MI, a Q wave and lost R away from the anterior,
inferior or lateral wall, often with raised ST and inverted T; STTC, depressed ST and flat or inverted T; CD, left or right
bundle branch block, left anterior fascicular block or a long PR interval; HYP, high voltages of the left ventricle, or forces
to the right. Patients differ in axis, voltages, electrode places and waves. Sizes are typical ones, chosen by eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from wavefold.core.errors import UserError, listed, nearest
from wavefold.data.dataset import UNIT, Dataset, Floats, Ints
from wavefold.domains.heartbeat.signal_choice import MILLIVOLT

CLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
RATE = 100  # values per second
_LEADS = 12
_SHORTEST = 100  # values: about one beat
_NORMAL = 0.44  # share of records without any finding
_SHARES = np.array([0.44, 0.36, 0.38, 0.2])  # of MI, STTC, CD, HYP among the others, each drawn by itself
_ANEW = 0.15  # of a patient's records have findings of their own
_RECORDS = 1.6  # a patient, on average

_F = NDArray[np.float64]
_B = NDArray[np.bool_]

# I, II and V1 to V6 of a dipole that points left, to the feet, to the back (Dower's matrix)
_DOWER = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)
# All twelve of those eight: I II III aVR aVL aVF V1 ... V6
_LIMBS = np.array([[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]])
_TWELVE = np.block([[_LIMBS, np.zeros((6, 6))], [np.zeros((6, 2)), np.eye(6)]])

# Waves of a normal beat: vector in mV, centre and width in s from the R peak at 60 beats a minute.
P, Q, R, S, ST, T = range(6)
_VECTOR = np.array(
    [[0.07, 0.11, -0.02], [-0.12, -0.03, -0.2], [1.1, 0.85, 0.35], [-0.25, -0.1, 0.45], [0.02, 0.01, -0.02], [0.28, 0.2, -0.14]]
)
_CENTRE = np.array([-0.16, -0.03, 0.0, 0.032, 0.14, 0.3])
_WIDTH = np.array([0.025, 0.011, 0.015, 0.013, 0.045, 0.05])
_WALLS = np.array([[0.15, 0.0, -1.0], [0.0, 1.0, 0.1], [1.0, 0.1, 0.1]])  # where an infarct lies: anterior, inferior, lateral
_LEFT = np.array([0.8, 0.45, -0.2])  # main direction of the left ventricle's repolarisation


def simulate_ecg12(count: int, seed: int, *, shape: Sequence[int] = (12, 1000), classes: Sequence[str] = CLASSES) -> Dataset:
    """`count` records, reproducible by seed. signals: (sample, 12, position 1/100 s) in mV; targets: (sample, label) 0 or 1.

    Leads are I, II, III, aVR, aVL, aVF, V1 to V6. Groups are patients, of whom some have several records. shape: [12,
    positions]. classes: some of CLASSES, in any order; findings that are not among them do not occur. UserError for invalid
    arguments.
    """
    _check(count, shape, classes)
    rng = np.random.default_rng(seed)
    patient = _patients(count, rng)
    found = _findings(patient, np.isin(CLASSES[1:], classes), rng)
    every = np.concatenate([~found.any(axis=1, keepdims=True), found], axis=1)
    hearts = _hearts(found, patient, rng)
    return Dataset(
        signals=_render(hearts, shape[1], rng),
        ids=np.arange(1, count + 1).astype(np.str_),
        groups=np.char.add("p", np.char.zfill(patient.astype(np.str_), 5)),
        grouping="patient",
        unit=f"1/{RATE} s",
        digest=f"simulated-ecg12-{count}-{seed}-{shape[1]}-{','.join(classes)}",
        source=f"simulated records of 12 leads (seed {seed})",
        targets=every[:, [CLASSES.index(name) for name in classes]].astype(np.float32),
        target_names=tuple(classes),
        attrs={UNIT: MILLIVOLT},
    )


@dataclass(frozen=True)
class _Hearts:
    """Waves, rhythm and noise of each record; times in seconds."""

    vector: _F  # (sample, wave, axis) mV
    centre: _F  # (sample, wave) from the R peak
    width: _F  # (sample, wave)
    leads: _F  # (sample, lead 8, axis)
    interval: _F  # (sample,) between beats
    noise: _F  # (sample,) mV

    def part(self, rows: slice) -> _Hearts:
        fields = (self.vector, self.centre, self.width, self.leads, self.interval, self.noise)
        return _Hearts(*(values[rows] for values in fields))


def _check(count: int, shape: Sequence[int], classes: Sequence[str]) -> None:
    if len(shape) != 2 or shape[0] != _LEADS:
        raise UserError(f"data.shape: simulator 'ecg12' needs [{_LEADS}, length], got {list(shape)}")
    if count < 1 or shape[1] < _SHORTEST:
        raise UserError(
            f"simulate: {count} records of {shape[1]} values requested; expected at least 1 of at least {_SHORTEST}"
        )
    for name in classes:
        if name not in CLASSES:
            raise UserError(f"simulate: class '{name}' is not one of {listed(CLASSES)}{nearest(name, CLASSES)}")
    if not classes or len(set(classes)) < len(classes):
        raise UserError(f"simulate: classes {listed(classes) or 'none'}; expected different ones of {listed(CLASSES)}")


def _patients(count: int, rng: Generator) -> Ints:
    """A patient for each record, (sample,)."""
    return rng.integers(0, max(2, round(count / _RECORDS)), count)


def _findings(patient: Ints, wanted: _B, rng: Generator) -> _B:
    """MI, STTC, CD and HYP of each record (sample, 4); most of a patient's records have the same. wanted: (4,)."""
    usual = _drawn(int(patient.max()) + 1, rng)[patient]
    anew = rng.random(len(patient)) < _ANEW
    return np.asarray(np.where(anew[:, None], _drawn(len(patient), rng), usual) & wanted)


def _drawn(count: int, rng: Generator) -> _B:
    """Findings (count, 4): none, or at least one; high voltages often change ST and T too."""
    found = rng.random((count, 4)) < _SHARES
    found[:, 1] |= found[:, 3] & (rng.random(count) < 0.35)
    lone = np.flatnonzero(~found.any(axis=1))
    found[lone, rng.choice(4, len(lone), p=_SHARES / _SHARES.sum())] = True
    found[rng.random(count) < _NORMAL] = False
    return found


def _hearts(found: _B, patient: Ints, rng: Generator) -> _Hearts:
    """Draw the waves of each record: those of its patient, changed by its findings. found: (sample, 4)."""
    count, patients = len(found), int(patient.max()) + 1
    interval = np.clip(np.exp(rng.normal(np.log(0.82), 0.2, patients))[patient] * np.exp(rng.normal(0, 0.08, count)), 0.42, 1.6)
    vector = _VECTOR * np.exp(rng.normal(0, 0.22, (patients, 1, 1)))[patient]
    vector = vector * np.exp(rng.normal(0, 0.18, (patients, 6, 1))[patient] + rng.normal(0, 0.06, (count, 6, 1)))
    vector = vector + 0.06 * rng.normal(0, 1, (patients, 6, 3))[patient] * np.linalg.norm(_VECTOR, axis=1)[:, None]
    vector = np.einsum("nij,nwj->nwi", _turned(rng.normal(0, 0.3, patients), rng.normal(0, 0.25, patients))[patient], vector)
    stretch = np.where(np.arange(6) >= ST, np.sqrt(interval)[:, None], 1.0)
    centre = _CENTRE * stretch * np.exp(rng.normal(0, 0.08, (patients, 6)))[patient]
    width = _WIDTH * stretch * np.exp(rng.normal(0, 0.12, (patients, 6)))[patient]
    severity = rng.beta(2.2, 1.4, found.shape) * found
    _add_conduction(vector, centre, width, severity[:, 2], rng)
    _add_hypertrophy(vector, width, severity[:, 3], rng)
    _add_infarct(vector, width, severity[:, 0], rng)
    _add_repolarisation(vector, severity[:, 1], rng)
    leads = _DOWER + 0.08 * rng.normal(0, 1, (patients, 8, 3))[patient] + 0.03 * rng.normal(0, 1, (count, 8, 3))
    return _Hearts(vector, centre, width, leads, interval, np.exp(rng.normal(np.log(0.022), 0.5, count)))


def _turned(axis: _F, depth: _F) -> _F:
    """Rotations (patient, 3, 3) of the heart in the frontal plane by `axis` and in the horizontal plane by `depth`, radians."""
    zero, one = np.zeros_like(axis), np.ones_like(axis)
    c, s, d, e = np.cos(axis), np.sin(axis), np.cos(depth), np.sin(depth)
    frontal = np.stack([np.stack([c, -s, zero], 1), np.stack([s, c, zero], 1), np.stack([zero, zero, one], 1)], 1)
    horizontal = np.stack([np.stack([d, zero, -e], 1), np.stack([zero, one, zero], 1), np.stack([e, zero, d], 1)], 1)
    return np.asarray(frontal @ horizontal)


def _add_infarct(vector: _F, width: _F, severity: _F, rng: Generator) -> None:
    """Take the early forces of one wall away; raise ST and invert T towards it in some. severity: (sample,)."""
    wall = _WALLS[rng.choice(3, len(severity), p=[0.4, 0.42, 0.18])] + rng.normal(0, 0.15, (len(severity), 3))
    wall *= severity[:, None]
    vector[:, Q] -= wall * rng.uniform(0.35, 0.85, (len(severity), 1))
    vector[:, R] -= wall * rng.uniform(0.1, 0.5, (len(severity), 1))
    width[:, Q] *= 1 + severity * rng.uniform(0.3, 0.9, len(severity))
    fresh = (rng.random(len(severity)) < 0.4)[:, None]
    vector[:, ST] += wall * fresh * rng.uniform(0.08, 0.25, (len(severity), 1))
    vector[:, T] -= wall * np.where(fresh, 0.15, 0.35) * rng.uniform(0.4, 1.4, (len(severity), 1))


def _add_repolarisation(vector: _F, severity: _F, rng: Generator) -> None:
    """Depress ST, and flatten or invert T. severity: (sample,)."""
    depressed = severity * rng.uniform(0.02, 0.16, len(severity))
    vector[:, ST] -= depressed[:, None] * (_LEFT + rng.normal(0, 0.2, (len(severity), 3)))
    vector[:, T] *= (1 - severity * rng.uniform(0.5, 1.7, len(severity)))[:, None]


def _add_conduction(vector: _F, centre: _F, width: _F, severity: _F, rng: Generator) -> None:
    """Left or right bundle branch block, left anterior fascicular block, or a long PR interval. severity: (sample,)."""
    kind = rng.choice(4, len(severity), p=[0.25, 0.35, 0.2, 0.2])
    left, right, front, slow = (severity * (kind == i) for i in range(4))
    width[:, R] *= 1 + 1.5 * left
    centre[:, S] += 0.04 * left + 0.03 * right
    width[:, S] *= 1 + 1.3 * left + 0.9 * right
    vector[:, Q] *= (1 - 0.9 * left)[:, None]
    vector[:, S] += left[:, None] * [0.75, 0.1, 0.35] + right[:, None] * [-0.45, 0.0, -0.85]
    vector[:, T] -= left[:, None] * [0.6, 0.25, 0.1] + right[:, None] * [-0.1, 0.0, -0.25]
    vector[:, R, 1] -= 1.35 * front
    vector[:, S, 1] -= 0.35 * front
    centre[:, P] -= 0.11 * slow


def _add_hypertrophy(vector: _F, width: _F, severity: _F, rng: Generator) -> None:
    """Higher voltages of the left ventricle and a wider P wave; in a few, forces of the right one. severity: (sample,)."""
    right = rng.random(len(severity)) < 0.15
    more = np.where(right, 0.0, severity * rng.uniform(0.5, 1.3, len(severity)))[:, None]
    vector[:, R] *= 1 + more
    vector[:, S] *= 1 + 0.8 * more
    vector[:, T] -= 0.12 * more * _LEFT
    width[:, P] *= 1 + 0.5 * severity
    vector[:, R] += (severity * right)[:, None] * [-1.2, 0.1, -0.9]
    vector[:, P] *= 1 + (severity * right * 0.8)[:, None]


def _render(hearts: _Hearts, length: int, rng: Generator, block: int = 256) -> Floats:
    """Signals (sample, 12, position) in mV, `block` samples at a time so that the waves fit in memory."""
    signals = np.empty((len(hearts.interval), _LEADS, length), np.float32)
    for start in range(0, len(signals), block):
        part = hearts.part(slice(start, start + block))
        eight = np.einsum("nla,nat->nlt", part.leads.astype(np.float32), _dipole(part, length, rng))
        signals[start : start + block] = np.einsum("kl,nlt->nkt", _TWELVE.astype(np.float32), eight + _noise(part, length, rng))
    return signals


def _dipole(hearts: _Hearts, length: int, rng: Generator) -> Floats:
    """The dipole (sample, axis, position) in mV: waves of the beat before each position and of the one after it."""
    before, after = _around(hearts.interval, length, rng)
    total = np.zeros((len(before), 3, length), np.float32)
    for wave in range(len(_CENTRE)):
        centre, width = (values[:, wave, None].astype(np.float32) for values in (hearts.centre, hearts.width))
        curve = np.exp(-0.5 * ((before - centre) / width) ** 2) + np.exp(-0.5 * ((after - centre) / width) ** 2)
        total += hearts.vector[:, wave, :, None].astype(np.float32) * curve[:, None]
    return total


def _around(interval: _F, length: int, rng: Generator) -> tuple[Floats, Floats]:
    """Seconds (sample, position) since the last R peak, and until the next one as a negative number."""
    beats = int(np.ceil(length / RATE / interval.min() * 1.4)) + 4
    gaps = interval[:, None] * np.clip(np.exp(rng.normal(0, 0.04, (len(interval), beats))), 0.85, 1.2)
    peaks = np.cumsum(gaps, axis=1) - gaps[:, :1] * (1 + rng.random((len(interval), 1)))  # the first is before the record
    first = np.clip(np.ceil(peaks * RATE), 0, length).astype(np.int64)  # position at or after each peak
    marks = np.zeros((len(interval), length + 1), np.int64)
    np.add.at(marks, (np.arange(len(interval))[:, None], first), 1)
    last = np.cumsum(marks[:, :length], axis=1) - 1
    time = np.arange(length) / RATE
    before, after = (time - np.take_along_axis(peaks, last + step, axis=1) for step in (0, 1))
    return before.astype(np.float32), after.astype(np.float32)


def _noise(hearts: _Hearts, length: int, rng: Generator) -> Floats:
    """Noise of muscles and a baseline that moves with breathing, (sample, lead 8, position) in mV."""
    count = len(hearts.interval)
    time = (np.arange(length) / RATE).astype(np.float32)
    rate, phase = rng.uniform(0.15, 0.45, (count, 1, 1)), rng.uniform(0, 2 * np.pi, (count, 8, 1))
    wander = np.abs(rng.normal(0, 0.05, (count, 8, 1))) * np.sin(2 * np.pi * rate * time + phase)
    return np.asarray(wander + hearts.noise[:, None, None] * rng.standard_normal((count, 8, length)), np.float32)
