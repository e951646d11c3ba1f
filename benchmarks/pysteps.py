"""Rain nowcasts beside pysteps's S-PROG, on the same frames: rows of benchmarks/pysteps.csv.

python benchmarks/pysteps.py data DIR       three real radars in dBZ (no echo 0), DIR/fmi.npz, knmi.npz, mrms.npz
PEER -P benchmarks/pysteps.py peer DIR      S-PROG by pysteps; PEER: Python of an environment with pysteps and opencv
python benchmarks/pysteps.py compare DIR    our forecasts, and the scores and processor seconds of both

A window is 10 past and 20 later frames of the whole radar. Neither is trained: ours sees how frames repeat from the window's
past frames. Root mean square error in dBZ, CSI at 7 and 20 dBZ over all leads and windows; windows share frames, so there is no
interval. Real data: WAVEFOLD_DATA or ../shared/data.
"""

from __future__ import annotations

import csv
import datetime
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
REAL = Path(os.environ.get("WAVEFOLD_DATA") or HERE.parents[1] / "shared" / "data")
PAST, AHEAD = 10, 20
STARTS = {"fmi": [0, 5, 10], "knmi": [0, 12, 24, 36, 48, 60], "mrms": [0, 3, 6]}
OURS = ("persistence", "advection", "spectral", "spectral_matched")
PEERS = ("cdf", "mean")  # S-PROG's ways to match the last frame: its distribution, which is its default, or its mean


def reflectivity(rate: np.ndarray) -> np.ndarray:
    """dBZ of rain in mm/h by Z = 200 R^1.6, at least 0."""
    return np.maximum(10 * np.log10(np.maximum(200 * rate**1.6, 1)), 0)


def data(folder: Path) -> None:
    """Decode the radars; KNMI on cells of 2 km."""
    folder.mkdir(parents=True, exist_ok=True)
    code = np.load(REAL / "radar" / "fmi_20160928_2km.npz")["code"].astype(np.float32)
    fallen = np.load(REAL / "radar" / "knmi_20100826_1km.npz")["acc_hundredth_mm"].astype(np.float32)
    rate = np.load(REAL / "radar" / "mrms_20190610_4km_west.npz")["rate_twentieth_mm_h"].astype(np.float32)
    hourly = np.where(fallen == 255, np.nan, fallen)[:, : fallen.shape[1] // 2 * 2, : fallen.shape[2] // 2 * 2] / 100 * 12
    steps, rows, columns = hourly.shape
    four = np.moveaxis(hourly.reshape(steps, rows // 2, 2, columns // 2, 2), 3, 2).reshape(steps, rows // 2, columns // 2, 4)
    known = np.isfinite(four).sum(axis=3)
    mean = np.where(known > 0, np.nansum(four, axis=3) / np.maximum(known, 1), np.nan)
    radars = {
        "fmi": np.where(code == 255, np.nan, np.maximum(code / 2 - 32, 0)),
        "knmi": reflectivity(mean),
        "mrms": reflectivity(np.where(rate == 65535, np.nan, rate) / 20),
    }
    for name, frames in radars.items():
        np.savez(folder / f"{name}.npz", frames=frames.astype(np.float32))


def peer(folder: Path) -> None:
    """S-PROG with Lucas-Kanade motion, on three frames as usual; what leaves the radar is no echo."""
    from pysteps import motion, nowcasts  # noqa: PLC0415 - in the peer's environment only

    for name, starts in STARTS.items():
        frames, made = np.load(folder / f"{name}.npz")["frames"], {}
        for start in starts:
            past = np.nan_to_num(frames[start : start + PAST], nan=0.0).astype(float)[-3:]
            begun = time.process_time()
            speed = motion.get_method("LK")(past)
            moved = time.process_time() - begun
            for way in PEERS:
                begun = time.process_time()
                found = nowcasts.get_method("sprog")(past, speed, AHEAD, precip_thr=1.0, probmatching_method=way)
                made[f"{start}.{way}"] = np.nan_to_num(found, nan=0.0).astype(np.float32)
                made[f"{start}.{way}.seconds"] = moved + time.process_time() - begun
        np.savez(folder / f"peer_{name}.npz", **made)


def compare(folder: Path) -> None:
    """Forecast, score and print; rows are added to pysteps.csv."""
    from wavefold.models.forecast_baselines import BASELINES  # noqa: PLC0415 - not in the peer's environment

    rows = []
    for name, starts in STARTS.items():
        frames, theirs = np.load(folder / f"{name}.npz")["frames"], np.load(folder / f"peer_{name}.npz")
        found: dict[str, list[tuple[np.ndarray, float]]] = {}
        for start in starts:
            for way in PEERS:
                seconds = float(theirs[f"{start}.{way}.seconds"])
                found.setdefault(f"pysteps S-PROG, {way}", []).append((theirs[f"{start}.{way}"], seconds))
            past = frames[start : start + PAST][:, None]
            for who in OURS:
                begun, baseline = time.process_time(), BASELINES[who]()
                baseline.fit(past, np.arange(PAST, dtype=np.float64), 1.0)
                made = baseline.forecast(past.swapaxes(0, 1)[None], np.zeros((1, AHEAD)))[0, 0]
                found.setdefault(who, []).append((made, time.process_time() - begun))
        for who, forecasts in found.items():
            truths = [frames[start + PAST : start + PAST + AHEAD] for start in starts]
            rows.append([name, who, *scores([made for made, _ in forecasts], truths), np.mean([s for _, s in forecasts])])
            print(f"{name:<6}{who:<24}" + "".join(f"{value:<10.4g}" for value in rows[-1][2:]))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True)
    with (HERE / "pysteps.csv").open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if not stream.tell():
            writer.writerow(["date", "radar", "who", "rmse_dbz", "csi_7", "csi_20", "bias_20", "seconds_a_window", "commit"])
        for row in rows:
            writer.writerow([datetime.date.today(), *row[:2], *(f"{v:.4g}" for v in row[2:]), commit.stdout.strip()])


def scores(forecasts: list[np.ndarray], truths: list[np.ndarray]) -> list[float]:
    """RMSE, CSI at 7 and 20 dBZ, and frequency bias at 20 dBZ, over cells with a truth."""
    guess, truth = (np.concatenate([part.ravel() for part in parts]) for parts in (forecasts, truths))
    known = np.isfinite(truth)
    guess, truth = guess[known], truth[known]
    found = [float(np.sqrt(np.mean((guess - truth).astype(np.float64) ** 2)))]
    for threshold in (7, 20):
        predicted, was = guess >= threshold, truth >= threshold
        found.append(float((predicted & was).sum() / (predicted | was).sum()))
    return [*found, float(predicted.sum() / was.sum())]


if __name__ == "__main__":
    {"data": data, "peer": peer, "compare": compare}[sys.argv[1]](Path(sys.argv[2]))
