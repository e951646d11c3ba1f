"""Rows a second of the contest reader, beside the published way, a first start, a second start and the bare read.

    python benchmarks/parse.py [ROWS]

The ways take turns in one process; the medians of all rounds are printed. "published" is the contest notebook's way, without
pandas: csv, then split and float by row, then one array.
"""

from __future__ import annotations

import csv
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from wavefold.data import read
from wavefold.domains.heartbeat.contest_csv import read_contest, write_contest
from wavefold.domains.heartbeat.simulate import simulate_beats

ROUNDS = 5


def published(path: Path) -> None:
    """csv, then a Python float for each value."""
    csv.field_size_limit(1 << 24)
    with open(path, newline="") as stream:
        np.array([[float(v) for v in row["heartbeat_signals"].split(",")] for row in csv.DictReader(stream)], np.float32)


def bare(path: Path) -> None:
    """The bytes alone: no reader can be faster."""
    with open(path, "rb") as stream:
        while stream.read(1 << 18):
            pass


def first_start(path: Path) -> None:
    """Parse, digest and write the cache."""
    os.utime(path)
    read(path)


def second_start(path: Path) -> None:
    """Touch every value of the cached array."""
    read(path).signals.sum()


WAYS: dict[str, Callable[[Path], object]] = {
    "published": published,
    "parse": read_contest,
    "first start": first_start,
    "second start": second_start,
    "bare read": bare,
}


def main(rows: int) -> None:
    """Time every way on a simulated file of `rows` rows."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WAVEFOLD_CACHE"] = f"{folder}/cache"
        path = write_contest(simulate_beats(rows, 0), Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            for name, way in WAYS.items():
                start = time.perf_counter()
                way(path)
                seconds[name].append(time.perf_counter() - start)
        slowest = statistics.median(seconds["published"])
        print(f"{rows:,} rows, {path.stat().st_size / 1e6:.0f} MB, median of {ROUNDS} rounds")
        for name, times in seconds.items():
            median = statistics.median(times)
            print(f"{name:13} {rows / median:12,.0f} rows/s  x {slowest / median:,.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
