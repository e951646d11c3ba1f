"""Spectra a second into the cache, beside the published way: json.loads of each file, batch by batch; and the memory it takes.

    python benchmarks/ingest.py [SPECTRA]

Spectra of 2,600 values at five digits, in a folder and in a zip. The ways take turns; medians of all rounds are printed and
added to benchmarks/speeds.csv. The published way (Tianchi 2018, LAMOST) reads the files of each batch of 160 anew in every
epoch; ours reads once, digest and cache included. Memory is the peak of a process that reads a quarter of the spectra, and all.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np

from wavefold.data import read

ROUNDS = 3
LENGTH = 2600
BATCH = 160
PEAK = """
import resource, sys
from joblib.externals.loky import get_reusable_executor
from wavefold.data import read
read(sys.argv[1])
get_reusable_executor().shutdown(wait=True)  # others are counted when they have ended
own, others = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(own / 1024, others / 1024)
"""


def write_samples(folder: Path, count: int) -> None:
    """Write `count` spectra in a folder `txt` and, deflated as the contest's zip is, in a folder `zip`."""
    rng = np.random.default_rng(0)
    texts = [",".join(f"{v:.5g}" for v in row) for row in rng.lognormal(5, 1, (500, LENGTH)).tolist()]
    index = "id,type\n" + "".join(f"{i},{'ABC'[i % 3]}\n" for i in range(count))
    (folder / "txt" / "train_data").mkdir(parents=True)
    (folder / "zip").mkdir()
    with zipfile.ZipFile(folder / "zip" / "train_data.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for i in range(count):
            (folder / "txt" / "train_data" / f"{i}.txt").write_text(texts[i % len(texts)])
            archive.writestr(f"train_data/{i}.txt", texts[i % len(texts)])
    for way in ("txt", "zip"):
        (folder / way / "train_index.csv").write_text(index)


def published(folder: Path) -> None:
    """json.loads for each file, an array for each batch."""
    files = sorted((folder / "txt" / "train_data").iterdir())
    for start in range(0, len(files), BATCH):
        batch = []
        for file in files[start : start + BATCH]:
            with open(file) as stream:
                batch.append(json.loads("[" + stream.read() + "]"))
        np.array(batch, np.float32)


def first_start(folder: Path, way: str) -> None:
    """Parse everything into an empty cache."""
    shutil.rmtree(os.environ["WAVEFOLD_CACHE"], ignore_errors=True)
    read(folder / way)


def second_start(folder: Path) -> None:
    """See that nothing has changed, and touch every value."""
    read(folder / "txt").signals.sum()


WAYS: dict[str, Callable[[Path], object]] = {
    "published": published,
    "zip, first start": lambda folder: first_start(folder, "zip"),
    "folder, first start": lambda folder: first_start(folder, "txt"),
    "folder, second start": second_start,
}


def measured(folder: Path) -> dict[str, float]:
    """The median seconds of each way."""
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(ROUNDS):
        for name, way in WAYS.items():
            start = time.perf_counter()
            way(folder)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def peaks(folder: Path, way: str) -> str:
    """The peak memory in MB of a first start: of the process, and of the largest of those that it started."""
    shutil.rmtree(os.environ["WAVEFOLD_CACHE"], ignore_errors=True)
    out = subprocess.run([sys.executable, "-c", PEAK, folder / way], check=True, capture_output=True, text=True).stdout
    own, others = map(float, out.split())
    return f"{own:,.0f} MB, others up to {others:,.0f} MB"


def note(rates: dict[str, float], count: int) -> None:
    """Add the rates to benchmarks/speeds.csv, each beside the published way's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with open(Path(__file__).with_name("speeds.csv"), "a", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        for name in list(rates)[1:]:
            peer, ours = rates["published"], rates[name]
            what = f"spectra of {LENGTH} values: {name}, digest and cache included"
            machine = f"{platform.machine()}, {cores} cores"
            row = [date.today(), what, "json.loads a file a batch (the source's way)", round(peer), round(ours), "spectra/s"]
            table.writerow([*row, f"{ours / peer:.1f}", machine, f"python benchmarks/ingest.py {count}"])


def main(count: int) -> None:
    """Time every way on `count` spectra, and show that the memory does not grow with them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["WAVEFOLD_CACHE"] = f"{folder}/cache"
        for part in (count // 4, count):
            write_samples(folder / str(part), part)
            for way in ("txt", "zip"):
                print(f"{part:7,} spectra, {way}: peak {peaks(folder / str(part), way)}")
        rates = {name: count / seconds for name, seconds in measured(folder / str(count)).items()}
        for name, rate in rates.items():
            print(f"{name:22} {rate:10,.0f} spectra/s  x {rate / rates['published']:,.1f}")
        note(rates, count)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
