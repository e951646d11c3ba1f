"""Simulated bearings: with each turn a fault is struck a set number of times, and every strike rings the machine's resonance.

Rates of strikes are those of a bearing with BALLS balls (Randall and Antoni 2011, Mech. Syst. Signal Process. 25, 485).
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from wavefold.core.errors import UserError
from wavefold.data.dataset import Dataset, Floats

RATE, UNIT, MACHINES = 12000, "1/12000 s", 12  # values per second, time between them, different machines
BALLS, SIZE = 9, 0.2034  # a ball's diameter is a share of the circle that balls run on
CAGE = (1 - SIZE) / 2  # turns of the cage in a turn of the shaft
# of one turn of the shaft: strikes (BPFI, BPFO, twice BSF), and how often the fault passes through the loaded side
FAULTS = {"normal": (0.0, 0.0), "inner": (BALLS * (1 - CAGE), 1), "outer": (BALLS * CAGE, 0), "ball": (1 / SIZE - SIZE, CAGE)}


def simulate_bearings(count: int, seed: int, *, shape: Sequence[int], classes: Sequence[str]) -> Dataset:
    """Recordings of several machines, as many of each class. signals: (recording, 1, position 1/12000 s), -1 to 1."""
    if len(shape) != 2 or shape[0] != 1 or not classes or not set(classes) <= set(FAULTS):
        raise UserError(f"simulator 'bearings': expected data.shape [1, length] and data.classes of {', '.join(FAULTS)}")
    rng = np.random.default_rng(seed)
    machine, labels = rng.integers(MACHINES, size=count), rng.permutation(np.arange(count) % len(classes))
    speed, ring = rng.uniform(24, 32, MACHINES), rng.uniform(2200, 4200, MACHINES)  # Hz of the shaft, of the resonance
    signals = [_record(classes[k], speed[m], ring[m], shape[1], rng) for k, m in zip(labels, machine, strict=True)]
    ids, groups = (np.char.add(word, numbers.astype(np.str_)) for word, numbers in (("r", np.arange(count)), ("m", machine)))
    return Dataset(np.stack(signals)[:, None], ids, labels, tuple(classes), groups, unit=UNIT, source="simulated bearings")


def _record(fault: str, speed: float, ring: float, length: int, rng: Generator) -> Floats:
    """One recording (position,): the turning shaft, noise, and strikes that ring and fade. speed, ring: Hz."""
    strikes, passes = FAULTS[fault]
    time, speed = np.arange(length) / RATE, speed * rng.normal(1, 0.01)
    total = 0.4 * np.sin(2 * np.pi * speed * time + rng.uniform(0, 6.3)) + rng.normal(0, 0.3, length)
    if strikes:
        gaps = rng.normal(1, 0.01, int(time[-1] * speed * strikes) + 2) / (speed * strikes)  # balls slip by 1 %
        at = np.cumsum(gaps) - rng.uniform(0, 2) * gaps[0]
        force = rng.uniform(0.8, 2.5) * (1 + 0.8 * (passes > 0) * np.cos(2 * np.pi * passes * speed * at))
        since = (time - at[:, None]).clip(0)  # (strike, position) seconds
        total += force @ (np.exp(-700 * since) * np.sin(2 * np.pi * ring * since))
    return np.clip(total / 8, -1, 1).astype(np.float32)
