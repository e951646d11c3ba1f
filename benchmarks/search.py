"""How fast an observation is searched: six scans of one coarse channel, simulated, with needles put in.

    python benchmarks/search.py RUN [CHANNELS] [NEEDLES]

CHANNELS fine channels (default 2^18, a quarter of a coarse channel) of 2.79 Hz, rows of 18.25 s as the run learned them, as
the Green Bank Telescope's fine products have. Printed: windows/s, observed seconds a second of search for that
many channels and for a coarse channel of 2^20, and how many needles were found. The real-time factor counts all six scans.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.api import open_run
from wavefold.data.dataset import Dataset
from wavefold.data.lazy import Lazy
from wavefold.domains.radio.cadence import ON, PANELS
from wavefold.domains.radio.filterbank import Header
from wavefold.domains.radio.observation import open_observation, write_observation
from wavefold.domains.radio.search import search_observation
from wavefold.tasks.samples.inference import predictions_for

HEADER = Header(fch1=8421.0, foff=-2.7939677238464355e-06, tsamp=18.253611008, tstart=59000.0, source_name="SIMULATED")
STRENGTH = 4.0  # of a needle's pixel, in residual standard deviations
STEEPEST = 0.3  # bins a row
COARSE = 1 << 20


def draw_lines(rng: np.random.Generator, count: int, rows: int, channels: int) -> NDArray[np.float64]:
    """(needle, 2): channel at the first row, bins a row; well apart, and inside for all rows."""
    reach = STEEPEST * (rows + 1) * PANELS
    places = np.linspace(reach + 1, channels - reach - 2, count) + rng.uniform(-0.2, 0.2, count)
    return np.stack([places, rng.uniform(-STEEPEST, STEEPEST, count)], axis=1)


def observe(rng: np.random.Generator, lines: NDArray[np.float64], rows: int, channels: int) -> Iterator[NDArray[np.float32]]:
    """Power (time, channel) of one scan after another, a row's time between them: bandpass, spike, noise, lines in ON."""
    x = np.linspace(-1, 1, channels, dtype=np.float32)
    band = (1 - 0.6 * x**8) * 1e9
    for panel in range(PANELS):
        power = rng.standard_normal((rows, channels), np.float32) * np.float32(51**-0.5) + 1
        if panel in ON:
            for row in range(rows):
                at = np.round(lines[:, 0] + lines[:, 1] * (panel * (rows + 1) + row)).astype(np.int64)
                power[row, at] += STRENGTH * 51**-0.5
        power *= band
        power[:, channels // 2] *= 50
        yield power


def main(folder: str, channels: int = 1 << 18, needles: int = 40) -> None:
    """Write, search, tell."""
    run = open_run(Path(folder))
    rows, width = run.metadata.shape[1:]
    rng = np.random.default_rng(0)

    def predict(windows: Lazy) -> NDArray[np.float64]:
        ids = np.arange(len(windows)).astype(np.str_)
        return predictions_for(run, Dataset(windows, ids, classes=run.metadata.classes, source="windows"))[:, -1]

    lines = draw_lines(rng, needles, rows, channels)
    with tempfile.TemporaryDirectory() as place:
        observation = open_observation(
            write_observation(Path(place), observe(rng, lines, rows, channels), HEADER, gap=HEADER.tsamp)
        )
        begun = time.perf_counter()
        found = search_observation(predict, run.metadata, observation)
        seconds = time.perf_counter() - begun
    windows = (channels - width) // (width // 2) + 1
    true = [min((abs(f.channel - place) + 100 * abs(f.drift - drift) for f in found), default=99) < 8 for place, drift in lines]
    factor = observation.seconds / seconds
    print(f"{channels:,} channels x {PANELS} x {rows} rows in {seconds:.1f} s: {windows / seconds:,.0f} windows/s")
    print(f"real-time factor {factor:.2f}; of a coarse channel of {COARSE:,} channels {factor * channels / COARSE:.2f}")
    print(f"{sum(true)} of {needles} needles found, {len(found)} candidates")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
