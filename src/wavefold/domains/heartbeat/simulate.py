"""Simulated heartbeats, cut like those of the Tianchi heartbeat contest: four unequal classes, 125 Hz, values in [0, 1].

A beat is a sum of five Gaussian waves P, Q, R, S, T (McSharry et al. 2003, IEEE Trans. Biomed. Eng. 50, 289, table I, with
T and P shifted by the square root of the beat interval, as there). A sample starts at the R peak of a beat and lasts 1.2 beat
intervals, so that it includes most of the next beat; it is scaled to [0, 1] and padded with zeros.

Differences from the source: waves are summed in time rather than integrated, which is equivalent for a steady rhythm;
patients differ in all waves; classes shift the waves by a random severity, so that mild cases look like normal beats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from wavefold.core.errors import UserError, listed
from wavefold.data.dataset import Dataset, Floats, Ints, Strings
from wavefold.data.simulation import length_of, whole_parts

CLASSES = ("0", "1", "2", "3")  # normal, early supraventricular, ventricular, paced or unclassifiable
SHARES = (0.643, 0.046, 0.141, 0.170)  # class fractions in the contest's 1,009 rows
RATE = 125.0  # samples per second

_F = NDArray[np.float64]

# Table I of the source at 60 beats per minute. Columns: P, Q, R, S, T.
_HEIGHT = np.array([0.075, -0.05, 0.3, -0.075, 0.12]) / 0.3  # a b^2, the height that results from a and b; R is 1
_CENTRE = np.array([-np.pi / 3, -np.pi / 12, 0, np.pi / 12, np.pi / 2]) / (2 * np.pi)  # s from the R peak
_WIDTH = np.array([0.25, 0.1, 0.1, 0.1, 0.4]) / (2 * np.pi)  # s
_STRETCHED = np.array([True, False, False, False, True])  # waves that move with the beat interval

# What severity 1 of each class adds to the height, or multiplies the centre and width by. Rows: classes.
_ADDED_HEIGHT = np.array([[0, 0, 0, 0, 0], [-0.3, 0, 0, 0, 0.2], [-0.25, 0, 0, -0.15, -0.75], [-0.1, -0.1, 0, -0.3, 0.2]])
_TIMES_CENTRE = np.array([[1, 1, 1, 1, 1], [0.8, 1, 1, 1, 0.85], [1, 1.6, 1, 1.9, 1.1], [1, 1.8, 1, 2.4, 1.4]])
_TIMES_WIDTH = np.array([[1, 1, 1, 1, 1], [0.8, 1, 1, 1, 0.9], [1, 1.8, 2.3, 2.0, 1.1], [1, 1.8, 1.7, 2.6, 1.2]])
_INTERVAL = np.array([0.79, 0.78, 0.83, 0.86])  # s, the median of each class; in the contest 1.2 times it is 115 to 131 samples
_INTERVAL_SPREAD = np.array([0.19, 0.19, 0.21, 0.06])  # of its logarithm
_NEXT_AFTER = np.array([1.0, 0.8, 1.2, 1.0])  # the next beat, in intervals: early run; pause after a ventricular beat
_SHORTEST = 35  # values, the last of which scaling may set to zero; the contest's shortest has 34


def simulate_beats(count: int, seed: int, *, shape: Sequence[int] = (1, 205), classes: Sequence[str] = CLASSES) -> Dataset:
    """`count` labelled beats of simulated patients, reproducible by seed. signals: (sample, 1, position 1/125 s).

    shape: [1, positions]. classes: which of CLASSES to simulate; their shares are rescaled to sum to 1.
    """
    length = length_of(shape, "ecg")
    if count < 1 or length < _SHORTEST:
        raise UserError(f"simulate: {count} beats of {length} values requested; expected at least 1 of at least {_SHORTEST}")
    unknown = [name for name in classes if name not in CLASSES]
    if unknown or not classes:
        raise UserError(f"simulate: class '{next(iter(unknown), '')}' is not one of {listed(CLASSES)}")
    rng = np.random.default_rng(seed)
    shares = tuple(share if name in classes else 0.0 for name, share in zip(CLASSES, SHARES, strict=True))
    labels = rng.permutation(np.repeat(np.arange(len(SHARES)), whole_parts(count, shares)))
    patients = max(4, round(count / 60))
    patient = _patients_of(labels, patients, rng)
    beats = _draw(labels, patient, patients, length, rng)
    return Dataset(
        signals=_render(beats, length, rng)[:, None, :],
        ids=np.arange(count).astype(np.str_),
        labels=labels,
        classes=CLASSES,
        groups=_names(patient),
        unit="1/125 s",
        digest=f"simulated-ecg-{count}-{seed}-{length}-{','.join(classes)}",
        source=f"simulated heartbeats (seed {seed})",
    )


@dataclass(frozen=True)
class _Beats:
    """Waves of each sample's labelled beat and of the following ones; times in seconds."""

    height: _F  # (sample, kind 2, wave): the labelled beat, the beats after it
    centre: _F
    width: _F
    at: _F  # (sample, beat 3): R peaks, relative to the start of the sample
    last: Ints  # (sample,) number of values before the zero padding
    noise: _F  # (sample,) in units of the R wave
    wander: _F  # (sample, 2): amplitude and phase of the baseline


def _patients_of(labels: Ints, patients: int, rng: Generator) -> Ints:
    """A patient for each sample; classes are unevenly spread over patients. labels: (sample,)."""
    habit = rng.gamma(0.5, size=(len(SHARES), patients)) + 1e-9
    limits = np.cumsum(habit / habit.sum(axis=1, keepdims=True), axis=1)
    draw = rng.random(len(labels))
    chosen = np.empty(len(labels), np.int64)
    for label, limit in enumerate(limits):
        mine = labels == label
        chosen[mine] = np.minimum(np.searchsorted(limit, draw[mine]), patients - 1)
    return chosen


def _draw(labels: Ints, patient: Ints, patients: int, length: int, rng: Generator) -> _Beats:
    """Draw the random parameters of all samples. labels, patient: (sample,)."""
    count = len(labels)
    interval = _intervals(labels, rng)
    severity = rng.beta(4.0, 1.2, count)  # near 0, a beat of any class looks normal
    own = _waves(labels, severity, patient, patients, interval, rng)
    kind = np.where((labels == 3) | ((labels == 1) & (rng.random(count) < 0.4)), 1.0, 0.0)  # 1: the next beat is alike
    after = [n + kind[:, None] * (o - n) for o, n in zip(own[1], own[0], strict=True)]
    height, centre, width = (np.stack([o, a], axis=1) for o, a in zip(own[1], after, strict=True))
    gap = interval * (1 + severity * (_NEXT_AFTER[labels] - 1)) * np.exp(rng.normal(0, 0.04, count))
    start = rng.normal(0, 0.6, count) / RATE  # annotated peaks are sometimes off by a sample
    return _Beats(
        height=height,
        centre=centre,
        width=width,
        at=np.stack([start, start + gap, start + gap + interval], axis=1),
        last=np.clip(np.round(1.2 * interval * RATE), _SHORTEST, length).astype(np.int64),
        noise=np.exp(rng.normal(np.log(0.012), 0.6, count)),
        wander=np.stack([rng.normal(0, 0.08, count), rng.uniform(0, 2 * np.pi, count)], axis=1),
    )


def _intervals(labels: Ints, rng: Generator) -> _F:
    spread = rng.standard_t(4, len(labels)) * _INTERVAL_SPREAD[labels]  # heavy-tailed, like the contest's
    return np.asarray(_INTERVAL[labels] * np.exp(spread))


def _waves(
    labels: Ints, severity: _F, patient: Ints, patients: int, interval: _F, rng: Generator
) -> tuple[tuple[_F, _F, _F], tuple[_F, _F, _F]]:
    """Height, centre and width (sample, wave) of the patient's normal beat and of the labelled one."""
    person = rng.normal(0, 0.3, (3, patients, 5))[:, patient] + rng.normal(0, 0.1, (3, len(labels), 5))
    flipped = np.where(rng.random(patients) < 0.06, -1.0, 1.0)[patient, None]  # inverted lead
    moved = np.where(_STRETCHED, np.sqrt(interval)[:, None], 1.0)
    height = flipped * (_HEIGHT * np.exp(person[0]) + rng.normal(0, 0.05, (len(labels), 5)))
    centre = _CENTRE * moved * (1 + 0.3 * person[1])
    width = _WIDTH * np.sqrt(moved) * np.exp(0.5 * person[2])
    s = severity[:, None]
    case = (
        height + s * _ADDED_HEIGHT[labels],
        centre * (1 + s * (_TIMES_CENTRE[labels] - 1)),
        width * (1 + s * (_TIMES_WIDTH[labels] - 1)),
    )
    return (height, centre, width), case


def _render(beats: _Beats, length: int, rng: Generator, block: int = 2048) -> Floats:
    """Signals (sample, position), `block` samples at a time so that the waves fit in memory."""
    signals = np.empty((len(beats.last), length), np.float32)
    for start in range(0, len(signals), block):
        part = slice(start, start + block)
        noise = rng.standard_normal((len(beats.last[part]), length), np.float32)
        signals[part] = _cut(_sum_waves(beats, part, length) + beats.noise[part, None] * noise, beats.last[part])
    return signals


def _sum_waves(beats: _Beats, part: slice, length: int) -> _F:
    time = (np.arange(length) / RATE).astype(np.float32)
    amplitude, phase = beats.wander[part].T[:, :, None]
    total: _F = amplitude * np.sin(np.pi * time + phase)  # (n, length); breathing, half a cycle a second
    for beat in range(3):
        kind = min(beat, 1)
        for wave in range(5):
            centre = beats.at[part, beat] + beats.centre[part, kind, wave]
            away = (time - centre[:, None].astype(np.float32)) / beats.width[part, kind, wave, None].astype(np.float32)
            total += beats.height[part, kind, wave, None] * np.exp(-0.5 * away * away)
    return total


def _cut(signals: _F, last: Ints) -> Floats:
    """Scale each row's first `last` values to [0, 1]; zeros after them. signals: (sample, position)."""
    inside = np.arange(signals.shape[1]) < last[:, None]
    low = np.where(inside, signals, np.inf).min(axis=1, keepdims=True)
    high = np.where(inside, signals, -np.inf).max(axis=1, keepdims=True)
    scaled = np.where(inside, (signals - low) / (high - low), 0.0)
    return np.where(scaled < 1e-6, 0.0, scaled).astype(np.float32)


def _names(patient: Ints) -> Strings:
    return np.char.add("p", np.char.zfill(patient.astype(np.str_), 4))
