"""The search of scans beside turbo_seti: the same files, one thread each.

    python benchmarks/turboseti.py make DIR            # cadences with known lines and decoys, two of noise, by NumPy
    python benchmarks/turboseti.py ours DIR
    python benchmarks/turboseti.py theirs DIR PYTHON   # that has turbo_seti 2.3.2, numpy<2.4, pandas<3, setuptools<81
    python benchmarks/turboseti.py compare DIR         # prints the table, adds rows to benchmarks/turboseti.csv
    python benchmarks/turboseti.py draw                # their latest rows as docs/figures/search.svg
    python benchmarks/turboseti.py real DIR DATA       # ours on real backgrounds; DATA: kaggle_cadences.npz, gbt_...

A cadence has 2^18 channels of 2.79 Hz, 16 rows of 18.25 s and gaps of 60 s; power is gamma noise of 51 looks. A line of S/N s
per scan adds s / sqrt(16) standard deviations to one channel of each row of the three ON scans, in which its frequency is when
the row begins; "smeared" lines spread the same power evenly over the channels they cross in a row. Decoys are in all six scans.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve()
CHANNELS, ROWS, PANELS, GAP, LOOKS = 1 << 18, 16, 6, 60.0, 51
FCH1, FOFF, TSAMP, TSTART = 8421.0, -2.7939677238464355e-06, 18.253611008, 59000.0
HZ = abs(FOFF) * 1e6
SNRS = (3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 15.0, 20.0)
SETS = ("slow", "still", "steep", "smeared", "noise0", "noise1")
THEIRS = {
    "slow": (0.08, 4.5),
    "still": (0.08,),
    "steep": (4.5,),
    "smeared": (4.5,),
    "noise0": (0.08, 4.0),
    "noise1": (0.08, 4.0),
}
BY_DRIFT = ((0.2, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0))
HEAD = ["date", "finder", "set", "what", "value", "lines"]


@dataclass(frozen=True)
class Line:
    """A line that was put in."""

    channel: float  # at the first row of the first scan
    drift: float  # Hz/s
    snr: float  # per scan
    decoy: bool = False
    smeared: bool = False

    @property
    def crossed(self) -> float:
        """Channels that it crosses in a row."""
        return abs(self.drift) * TSAMP / HZ if self.smeared else 0.0

    def at(self, seconds: Any) -> Any:
        """Channel at a time."""
        return self.channel + self.drift * seconds / (FOFF * 1e6)


def lines_of(name: str) -> list[Line]:
    """The lines of a set, apart from each other at the middle of the cadence."""
    rng = np.random.default_rng(SETS.index(name))
    middle = (PANELS * ROWS * TSAMP + (PANELS - 1) * GAP) / 2
    made: list[tuple[float, float, bool]] = []  # drift, S/N, decoy
    if name == "slow":
        made += [(rng.uniform(-0.08, 0.08), SNRS[k % len(SNRS)], False) for k in range(650)]
        made += [(rng.uniform(-0.08, 0.08) if k % 4 else 0.0, (10, 12, 15, 20, 30)[k % 5], True) for k in range(64)]
    if name == "still":
        made += [(0.0, SNRS[k % len(SNRS)], False) for k in range(320)]
    if name in ("steep", "smeared"):
        snrs = (*SNRS, 25.0, 30.0)
        made += [(rng.choice([-1, 1]) * rng.uniform(0.2, 4.0), snrs[k % len(snrs)], False) for k in range(216)]
    order = rng.permutation(len(made))
    places = np.linspace(3000, CHANNELS - 3000, len(made) + 1)[:-1] + rng.uniform(0, 1, len(made))
    found = []
    for place, k in zip(places, order, strict=True):
        drift, snr, decoy = made[k]
        found.append(Line(float(place - drift * middle / (FOFF * 1e6)), float(drift), float(snr), decoy, name == "smeared"))
    return found


def scans_of(name: str) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    """Power (time, channel) of one scan after another."""
    rng, lines = np.random.default_rng(100 + SETS.index(name)), lines_of(name)
    for panel in range(PANELS):
        power = rng.gamma(LOOKS, 1 / LOOKS, (ROWS, CHANNELS)).astype(np.float32)
        for line in lines:
            if panel % 2 == 0 or line.decoy:
                for row in range(ROWS):
                    begin = panel * (ROWS * TSAMP + GAP) + row * TSAMP
                    ends = sorted(line.at(np.array([begin, begin + (TSAMP if line.smeared else 0)])))
                    first, last = (int(np.floor(end + 0.5)) for end in ends)
                    if first >= 0 and last < CHANNELS:
                        power[row, first : last + 1] += line.snr / np.sqrt(ROWS * LOOKS) / (last + 1 - first)
        yield power * np.float32(1e9)


def make(folder: Path) -> None:
    """Write all sets."""
    import h5py  # noqa: PLC0415  # with the product, not with turbo_seti

    from wavefold.domains.radio.filterbank import Header  # noqa: PLC0415
    from wavefold.domains.radio.observation import write_observation  # noqa: PLC0415

    for name in SETS:
        header = Header(fch1=FCH1, foff=FOFF, tsamp=TSAMP, tstart=TSTART, source_name="SIMULATED")
        for path in write_observation(folder / name, scans_of(name), header, gap=GAP):
            with h5py.File(path, "a") as file:  # turbo_seti wants a position
                file["data"].attrs.update({"src_raj": 12.0, "src_dej": 30.0, "az_start": 0.0, "za_start": 0.0})
        print(name, len(lines_of(name)), "lines", flush=True)


def timed(command: list[str]) -> tuple[float, float]:
    """Processor seconds and peak memory (MB) of a command on one thread."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    process = subprocess.Popen(command, env={**os.environ, **one}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = process.stderr.read() if process.stderr else ""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}: {said[-2000:]}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def ours(folder: Path) -> None:
    """Search all sets at two ranges of drifts; lists go down to a hundred false alarms, so that thresholds can be drawn."""
    wavefold = str(Path(sys.executable).with_name("wavefold"))
    used = {}
    for name in SETS:
        scans = [str(folder / name / f"scan{panel}.h5") for panel in range(PANELS)]
        for drift in (0.08, 4.0):
            out = folder / f"{name}-{drift}.csv"
            used[out.stem] = timed(
                [wavefold, "search", *scans, "--out", str(out), "--drift", str(drift), "--false-alarms", "100"]
            )
            print(out.stem, used[out.stem], flush=True)
    (folder / "ours.json").write_text(json.dumps(used))


def theirs(folder: Path, python: str) -> None:
    """Search all sets with turbo_seti, then its find_event."""
    used = {}
    for name in SETS:
        for drift in THEIRS[name]:
            for snr in (10, 5):
                out = folder / f"theirs-{name}-{drift}-{snr}"
                out.mkdir(exist_ok=True)
                used[out.name] = timed([python, str(HERE), "their_search", str(folder / name), str(out), str(drift), str(snr)])
                print(out.name, used[out.name], flush=True)
    (folder / "theirs.json").write_text(json.dumps(used))


def their_search(scans: Path, out: Path, drift: float, snr: float) -> None:
    """In turbo_seti's environment: all six scans, then events in ON only (filter 3)."""
    import logging  # noqa: PLC0415

    from turbo_seti.find_doppler.find_doppler import FindDoppler  # noqa: PLC0415
    from turbo_seti.find_event.find_event_pipeline import find_event_pipeline  # noqa: PLC0415

    begun = time.process_time()
    for panel in range(PANELS):
        file = str(scans / f"scan{panel}.h5")
        FindDoppler(file, max_drift=drift, snr=snr, out_dir=str(out), log_level_int=logging.ERROR).search()
    searched = time.process_time() - begun
    dats, files = out / "dats.lst", out / "files.lst"
    dats.write_text("".join(f"{out}/scan{panel}.dat\n" for panel in range(PANELS)))
    files.write_text("".join(f"{scans}/scan{panel}.h5\n" for panel in range(PANELS)))
    find_event_pipeline(
        str(dats), str(files), filter_threshold=3, number_in_cadence=PANELS, csv_name=str(out / "events.csv"), saving=True
    )
    seconds = {"searched": searched, "all": time.process_time() - begun}
    (out / "seconds.json").write_text(json.dumps({**seconds, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def listed_by_us(path: Path) -> list[tuple[float, float, float, float]]:
    """Frequency in channels at the first row, drift, S/N and expected false alarms of each candidate."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [
        (
            (float(r["frequency_mhz"]) - FCH1) / FOFF,
            float(r["drift_hz_s"]),
            float(r["snr"]),
            float(r["false_alarms"]),
        )
        for r in rows
    ]


def listed_by_them(folder: Path) -> list[tuple[float, float, float, float]]:
    """The same of turbo_seti's events; its frequency is that at the start of one ON scan."""
    if not (folder / "events.csv").exists():
        return []
    with (folder / "events.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [((float(r["Freq"]) - FCH1) / FOFF, float(r["DriftRate"]), float(r["SNR"]), 0.0) for r in rows]


def is_listed(line: Line, found: list[tuple[float, float, float, float]], *, near: float, steps: float) -> bool:
    """Whether a line is among those listed. near: channels at any ON scan's start, as an event may begin there; steps: Hz/s."""
    starts = [panel * (ROWS * TSAMP + GAP) for panel in (0, 2, 4)]
    return any(
        abs(drift - line.drift) <= steps and min(abs(channel - line.at(start)) for start in starts) <= near + line.crossed / 4
        for channel, drift, *_ in found
    )


def compare(folder: Path) -> None:
    """Print and keep the shares listed, the noise lists, and what it took."""
    used = json.loads((folder / "ours.json").read_text())
    rows: list[list[object]] = []

    def note(finder: str, name: str, what: str, value: object, lines: int) -> None:
        rows.append([time.strftime("%Y-%m-%d"), finder, name, what, value, lines])
        print(*rows[-1][1:], sep="\t", flush=True)

    for drift in (0.08, 4.0):
        noise = [listed_by_us(folder / f"noise{n}-{drift}.csv") for n in (0, 1)]
        highest = max((snr for some in noise for _, _, snr, _ in some), default=0.0)
        note("ours", f"noise, {drift} Hz/s", "highest S/N of two cadences", round(highest, 2), 2)
        for default in (0.1, 1.0):
            some = sum(rate <= default for each in noise for *_, rate in each)
            note("ours", f"noise, {drift} Hz/s", f"listed at {default:g} false alarms, two cadences", some, 2)
        ways = {f"above all noise ({highest:.2f})": lambda c, h=highest: c[2] > h, "default": lambda c: c[3] <= 0.1}
        for name in ("slow", "still", "steep", "smeared"):
            if name in ("steep", "smeared") and drift < 1:
                continue
            every = listed_by_us(folder / f"{name}-{drift}.csv")
            for way, keep in ways.items():
                found = [c for c in every if keep(c)]
                tell(name, f"ours, {drift} Hz/s, {way}", found, note, near=3.0, steps=0.02)
        for name in ("noise0", "noise1"):
            seconds, mb = used[f"{name}-{drift}"]
            note("ours", f"{name}, {drift} Hz/s", "processor s, start-up included", round(seconds, 2), 1)
            note("ours", f"{name}, {drift} Hz/s", "peak MB", round(mb), 1)
    for name in SETS:
        for drift in THEIRS[name]:
            for snr in (10, 5):
                out = folder / f"theirs-{name}-{drift}-{snr}"
                if not (out / "seconds.json").exists():
                    continue
                seconds = json.loads((out / "seconds.json").read_text())
                if name.startswith("noise"):
                    note(
                        "turbo_seti",
                        f"{name}, {drift} Hz/s, snr {snr}",
                        "processor s of six searches",
                        round(seconds["searched"], 2),
                        1,
                    )
                    note(
                        "turbo_seti",
                        f"{name}, {drift} Hz/s, snr {snr}",
                        "the same with find_event",
                        round(seconds["all"], 2),
                        1,
                    )
                    note("turbo_seti", f"{name}, {drift} Hz/s, snr {snr}", "peak MB", round(seconds["mb"]), 1)
                    note("turbo_seti", f"{name}, {drift} Hz/s, snr {snr}", "listed", len(listed_by_them(out)), 1)
                else:
                    tell(name, f"turbo_seti, {drift} Hz/s, snr {snr}", listed_by_them(out), note, near=6.0, steps=0.05)
    keep_rows(rows)


def keep_rows(rows: list[list[object]]) -> None:
    """Add rows to benchmarks/turboseti.csv."""
    path = HERE.with_name("turboseti.csv")
    fresh = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([HEAD, *rows] if fresh else rows)


def tell(
    name: str, finder: str, found: list[tuple[float, float, float, float]], note: Any, *, near: float, steps: float
) -> None:
    """Shares listed by S/N, where half are, decoys, and how far frequency and drift are off."""
    lines = lines_of(name)
    shares = []
    for snr in sorted({line.snr for line in lines if not line.decoy}):
        some = [line for line in lines if line.snr == snr and not line.decoy]
        share = sum(is_listed(line, found, near=near, steps=steps) for line in some) / len(some)
        shares.append((snr, share))
        note(finder, name, f"share listed at S/N {snr:g}", round(share, 3), len(some))
    half = next((b + (0.5 - q) / (p - q) * (a - b) for (b, q), (a, p) in pairwise(shares) if q < 0.5 <= p), None)
    note(finder, name, "half listed at S/N", "none" if half is None else round(half, 2), len(lines))
    bright = [line for line in lines if line.snr >= 12 and not line.decoy]
    note(
        finder,
        name,
        "share listed at S/N 12 and more",
        round(sum(is_listed(line, found, near=near, steps=steps) for line in bright) / len(bright), 3),
        len(bright),
    )
    for low, high in BY_DRIFT if name == "steep" else ():
        some = [line for line in lines if low <= abs(line.drift) < high and 5 <= line.snr <= 8 and not line.decoy]
        share = sum(is_listed(line, found, near=near, steps=steps) for line in some) / len(some)
        note(finder, name, f"share listed of S/N 5 to 8, {low:g} to {high:g} Hz/s", round(share, 3), len(some))
    decoys = [line for line in lines if line.decoy]
    if decoys:
        note(finder, name, "decoys listed", sum(is_listed(line, found, near=near, steps=steps) for line in decoys), len(decoys))
    others = [c for c in found if not any(is_listed(line, [c], near=30.0, steps=5.0) for line in lines)]
    note(finder, name, "listed that are no line", len(others), len(found))
    off = [
        (abs(c[0] - line.channel) * HZ, abs(c[1] - line.drift))
        for line in bright
        for c in found
        if is_listed(line, [c], near=near, steps=steps)
    ]
    if off:
        note(finder, name, "median error, Hz", round(float(np.median([o[0] for o in off])), 2), len(off))
        note(finder, name, "median error, Hz/s", round(float(np.median([o[1] for o in off])), 5), len(off))


def real(folder: Path, data: Path) -> None:
    """Lines of S/N 8 a scan in real backgrounds, which move by up to 1.5 channels; S/N in units of the residual noise.

    The contest's panels, one line at a time; and Sgr B2, of which each scan is a half, turned around, eight at a time.
    """
    rng, rows = np.random.default_rng(3), list[list[object]]()
    with np.load(data / "kaggle_cadences.npz", allow_pickle=False) as kept:
        panels = kept["cadences"].astype(np.float32)
        backgrounds = {f"contest {name}": (own, 1, 20) for name, own in zip(kept["ids"], panels, strict=True)}
    with np.load(data / "gbt_sgrb2_snippet.npz", allow_pickle=False) as kept:
        power = kept["power"]
    for number in range(5):
        scans = [np.roll(power[16 * (n % 2) :][:16], int(rng.integers(1024)), axis=1) for n in range(PANELS)]
        backgrounds[f"Sgr B2 {number}"] = np.stack(scans), 8, 3
    for name, (panels, many, times) in backgrounds.items():
        alone = len(channels_of(panels, folder))
        found = 0
        for _ in range(times):
            places = (np.arange(many) + rng.uniform(0.2, 0.8, many)) * panels.shape[2] / many
            there = channels_of(lined(panels, places, rng), folder)
            found += sum(min((abs(place - at) for at in there), default=np.inf) <= 3 for place in places)
        day = [time.strftime("%Y-%m-%d"), "ours, default", f"real, {name}"]
        rows.append([*day, "share listed at S/N 8", round(found / (many * times), 3), many * times])
        rows.append([*day, "listed without lines", alone, 1])
        for row in rows[-2:]:
            print(*row[1:], sep="\t", flush=True)
    keep_rows(rows)


def lined(panels: Any, places: Any, rng: np.random.Generator) -> Any:
    """Panels (6, time, channel) with lines of S/N 8 a scan from some places on."""
    import torch  # noqa: PLC0415

    from wavefold.domains.radio.needles import residual  # noqa: PLC0415

    sigma, (each, channels) = residual(torch.from_numpy(panels)[None])[0].numpy(), panels.shape[1:]
    filled, row = panels.copy(), np.arange(each)
    for place in places:
        drift = rng.uniform(-1.5, 1.5) / each / 5  # channels a row
        for panel in (0, 2, 4):
            at = np.round(place + drift * (panel * each + row)).astype(int)
            keep = (at >= 0) & (at < channels)
            filled[panel, row[keep], at[keep]] += 8 / np.sqrt(each) * sigma[panel]
    return filled


def channels_of(panels: Any, folder: Path) -> list[float]:
    """The channels of what is listed in panels, written as scans."""
    from wavefold.domains.radio.filterbank import Header  # noqa: PLC0415
    from wavefold.domains.radio.found import candidates_of  # noqa: PLC0415
    from wavefold.domains.radio.observation import open_observation, write_observation  # noqa: PLC0415
    from wavefold.domains.radio.search import search_observation  # noqa: PLC0415

    header = Header(fch1=FCH1, foff=FOFF, tsamp=1.0, tstart=TSTART, source_name="REAL")
    scans = open_observation(write_observation(folder / "real", panels, header, gap=0.0))
    listed = candidates_of(search_observation(scans, drift=2 * HZ, warn=lambda line: None), scans)
    return [(row.frequency_mhz - FCH1) / FOFF for row in listed]


CURVES = {
    "up to .08 Hz/s": ("slow", {"ours, 0.08 Hz/s, default": "Wavefold", "turbo_seti, 0.08 Hz/s, snr 10": "turbo_seti, snr 10"}),
    "no drift": ("still", {"ours, 0.08 Hz/s, default": "Wavefold", "turbo_seti, 0.08 Hz/s, snr 10": "turbo_seti, snr 10"}),
    ".2 to 4 Hz/s": ("steep", {"ours, 4.0 Hz/s, default": "Wavefold", "turbo_seti, 4.5 Hz/s, snr 10": "turbo_seti, snr 10"}),
}
LIMIT = 3.2  # S/N per scan at which half of known lines pass a threshold of 1 false in 1,000 windows


def draw() -> None:
    """Shares listed by S/N per scan, beside the limit, one plot for each range of drifts."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    with HERE.with_name("turboseti.csv").open(newline="") as stream:
        rows = [
            row for row in csv.DictReader(stream) if row["what"].startswith("share listed at S/N") and "more" not in row["what"]
        ]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for place, (title, (name, finders)) in zip(figure.subplots(1, 3, sharey=True), CURVES.items(), strict=True):
        for finder, word in finders.items():
            own = {
                float(row["what"].split()[-1]): float(row["value"])
                for row in rows
                if (row["finder"], row["set"]) == (finder, name)
            }
            place.plot(*zip(*sorted(own.items()), strict=True), marker="o", markersize=3, label=word)
        place.axvline(LIMIT, color="grey", linestyle="--", linewidth=1, label="limit, line known")
        place.set(title=title, xlabel="S/N per ON scan", xlim=(2, 21), ylim=(-0.02, 1.02))
    figure.axes[0].set_ylabel("share listed")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(HERE.parents[1] / "docs" / "figures" / "search.svg", metadata={"Date": None})


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    if command == "their_search":
        their_search(Path(words[0]), Path(words[1]), float(words[2]), float(words[3]))
    elif command == "draw":
        draw()
    elif command == "theirs":
        theirs(Path(words[0]).resolve(), words[1])
    else:
        {"make": make, "ours": ours, "compare": compare, "real": real}[command](*(Path(word).resolve() for word in words))
