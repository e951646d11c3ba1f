"""The studies of forecasts behind docs/frames.md: rows for benchmarks/frames.csv, pictures for docs/figures.

python benchmarks/frames.py radar-data DIR     KNMI's rain as dBZ on 2 km, FMI's dBZ with no echo as 0: DIR/knmi.npz, fmi.npz
python benchmarks/frames.py era5 DIR           hourly temperature, 20 to 20, three seeds, three rolling origins
python benchmarks/frames.py radar DIR          learned from KNMI 2010, tested on FMI 2016, 20 to 20 on 60 x 93 crops
python benchmarks/frames.py crime DIR          Chicago's daily risk maps, 20 to 1, three seeds, by kind and all; Poisson's limit
python benchmarks/frames.py digits DIR NAME M  two MNIST digits, 10 to 10; NAME a key of NETS; M minutes of a core
python benchmarks/frames.py draw-losses DIR    what the nets of `losses` forecast, for docs/figures/losses.png
python benchmarks/frames.py losses DIR         one net on moving digits of 32 x 32 by BCE, MSE, DSSIM and a mixture

Every run lies in DIR under the study's name; the same command goes on with it. Real data: WAVEFOLD_DATA or ../shared/data.
"""

from __future__ import annotations

import csv
import datetime
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import convolve, gaussian_filter

from wavefold.api import open_run
from wavefold.core.records import Scores
from wavefold.core.run import RunFolder, lock_folder
from wavefold.data import SERIES_SIMULATORS
from wavefold.data.series import Series
from wavefold.data.series_options import Events, Reading
from wavefold.data.series_reader import read_series
from wavefold.data.windows import cut_windows
from wavefold.plots.canvas import Field
from wavefold.plots.forecast_picture import draw_forecast
from wavefold.recipe import Recipe
from wavefold.tasks.base import recipe_of
from wavefold.tasks.frames.fit import new_forecaster
from wavefold.tasks.frames.inference import Forecaster
from wavefold.tasks.frames.run import begin_series, evaluate_source
from wavefold.tasks.units import fit_units

HERE = Path(__file__).resolve().parent
REAL = Path(os.environ.get("WAVEFOLD_DATA") or HERE.parents[1] / "shared" / "data")


def three(**options: Any) -> list[dict[str, Any]]:
    """One net from three seeds."""
    return [{**options, "seed": seed} for seed in range(3)]


STAGE = {
    "loss": "mse",
    "learning_rate": 2e-3,
    "schedule": "one_cycle",
    "optimiser": "adamw",
    "weight_decay": 0.01,
    "best": "mse",
    "average": 1.0,
}
ERA5 = {
    "series": {"variable": "t2m_centi_c", "scale": 0.01, "unit": "degC"},
    "prepare": [{"step": "anomaly", "smooth": 1}, {"step": "standardise"}],
    "output.metric": "rmse",
    "member": three(model="refine", start="damped", depth=3),
    "stage": [STAGE | {"epochs": 4}],
}
RADAR = {
    "prepare": [{"step": "min_max", "low": 0.0, "high": 60.0}, {"step": "mirror"}],
    "split": {"way": "time", "validation": 0.44, "test": 0.0, "gap": 0},
    "windows.crop": [60, 93],
    "windows.anywhere": True,
    "output.metric": "rmse",
    "output.baselines": ["persistence", "advection", "spectral"],
    "output.thresholds": [7.0, 20.0],
    "output.scales": [1, 9],
    "output.range": 60.0,
    "member": three(model="refine", start="spectral", width=12, depth=3),
    "stage": [STAGE | {"epochs": 4, "learning_rate": 1e-3}],
}
CHICAGO = {
    "box": [-87.93, -87.52, 41.64, 42.03],
    "cells": [93, 60],
    "smooth": 2.0,
    "kinds": {"theft": ["THEFT"], "violence": ["BATTERY", "ASSAULT"], "damage": ["CRIMINAL DAMAGE"]},
}
CRIME = {
    "split": {"way": "time", "validation": 0.1, "test": 0.2},
    "member": three(model="simvp", start="mean", width=24, hidden=96, depth=2),
    "stage": [STAGE | {"epochs": 5, "learning_rate": 1e-3}],
}
DIGITS = {
    "prepare": [],
    "windows.past": 10,
    "windows.ahead": 10,
    "output.range": 1.0,
    "output.metric": "mse-sum",
    "stage": [STAGE | {"epochs": 1, "learning_rate": 1e-3, "average": 0.05}],
}


def radar_data(folder: Path) -> None:
    """Both radars in dBZ on cells of 2 km, no echo 0, outside NaN. Rain of an hour R (mm) is Z = 200 R^1.6."""
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(REAL / "radar" / "fmi_20160928_2km.npz") as kept:
        code = kept["code"].astype(np.float32)
        values = np.where(code == 255, np.nan, np.maximum(code / 2 - 32, 0))
        np.savez_compressed(folder / "fmi.npz", frames=values.astype(np.float32), time=kept["time_utc"], unit="dBZ")
    with np.load(REAL / "radar" / "knmi_20100826_1km.npz") as kept:
        fallen = kept["acc_hundredth_mm"].astype(np.float64)
        hourly = np.where(fallen == 255, np.nan, fallen) / 100 * 12
        steps, rows, columns = hourly.shape
        four = hourly[:, : rows // 2 * 2, : columns // 2 * 2].reshape(steps, rows // 2, 2, columns // 2, 2)
        there = np.isfinite(four)
        count = there.sum(axis=(2, 4))
        mean = np.where(there, four, 0).sum(axis=(2, 4)) / np.maximum(count, 1)
        values = np.where(count > 0, np.maximum(10 * np.log10(np.maximum(200 * mean**1.6, 1)), 0), np.nan)
        np.savez_compressed(folder / "knmi.npz", frames=values.astype(np.float32), time=kept["time_utc"], unit="dBZ")


def era5(folder: Path) -> None:
    """20 to 20 hours, by rolling origins; the cycle is the day."""
    scores = _train(_recipe("frames", ERA5), folder / "era5", REAL / "era5_uk_t2m" / "era5_uk_t2m.npz")
    _keep("era5", scores, {"rmse": (1, 3, 6, 12, 20), "sharpness": (1, 6, 20)})


def radar(folder: Path) -> None:
    """KNMI's first frames learn, its last ones choose; FMI's, six years later and 1,500 km away, test."""
    _train(_recipe("frames", RADAR), folder / "radar", folder / "knmi.npz")
    run = open_run(folder / "radar")
    recipe = recipe_of(run)
    _, evaluation = evaluate_source(run, recipe, str(folder / "fmi.npz"))
    leads = (1, 3, 6, 12, 20)
    shown = dict.fromkeys(("rmse", "csi-7", "csi-20", "fss-20-9", "ssim", "sharpness"), leads)
    _keep("radar", evaluation.results().model_copy(update={"seconds": run.scores.seconds}), shown)


def losses(folder: Path) -> None:
    """One net by each loss on moving digits of 32 x 32, the last weights' average; the first way is the source's."""
    mixed = {"parts": [{"loss": "mse"}, {"loss": "dssim", "size": 3, "weight": 0.1}]}
    for name, loss in {"bce": {}, "mse": {}, "dssim": {"size": 3}, "sum": mixed}.items():
        for activation, start in (("sigmoid", "none"), ("sigmoid", "last"), ("linear", "last")):  # the first is the source's
            if name == "bce" and activation == "linear":
                continue  # of probabilities only
            member = {"model": "simvp", "activation": activation, "width": 24, "hidden": 96, "start": start}
            stage = {**STAGE, "epochs": 1, "average": 0.05, "loss": name, **loss}
            recipe = _recipe("frames", DIGITS | {"member": [member], "stage": [stage]})
            way = f"{activation}-{start}"
            _on_digits(folder, f"losses-{name}-{way}", recipe, 1200, 32, f"{name} {way}")


def draw_losses(folder: Path) -> None:
    """One test sequence as each loss's net forecasts it: docs/figures/losses.png."""
    series = _digits(1200 * 8 + CHOSEN + TESTED, 32)
    one = cut_windows(series, past=10, ahead=10).take(np.array([len(series) // 20 - 1]))
    shown = {}
    for name in ("bce-sigmoid-none", "mse-sigmoid-none", "mse-linear-last", "dssim-linear-last", "sum-linear-last"):
        run = RunFolder(folder / f"losses-{name}")
        answers = next(Forecaster(run, recipe_of(run), 1).answers(one, baselines=False))[1]
        shown[name] = answers["ensemble"][0, 0]
    values = one.values()[0, 0]
    picture = HERE.parent / "docs" / "figures" / "losses.png"
    draw_forecast(picture, values[:10], values[10:], shown, field=Field("digits"), leads=(1, 3, 5, 10), title="by loss")


def crime(folder: Path) -> None:
    """20 to 1 day, kinds apart and together; and the error that the true rate itself would have, were events independent."""
    source = REAL / "city_crime" / "chicago_2016_2017.npz"
    together = {"all": [word for words in CHICAGO["kinds"].values() for word in words]}
    for name, kinds in {"crime": CHICAGO["kinds"], "crime-all": together}.items():
        events = {**CHICAGO, "kinds": kinds}
        scores = _train(_recipe("frames_next", CRIME | {"series": {"events": events}}), folder / name, source)
        _keep(name, scores, {"mse": (1,)})
        limit, last = _poisson(source, events)
        _write([[name, who, "mse", 1, "", "", mse, "", ""] for who, mse in {"Poisson limit": limit, "last 20": last}.items()])


def digits(folder: Path, name: str, minutes: float) -> None:
    """Two moving MNIST digits made anew each time, 10 to 10; as many steps as fit in the minutes of one core."""
    recipe = _recipe("frames", DIGITS | {"member": [NETS[name]]})
    _on_digits(folder, f"digits-{name}", recipe, max(4, int(60 * minutes / _seconds_a_step(recipe))), 64, name)


def _on_digits(folder: Path, run_name: str, recipe: Recipe, steps: int, side: int, who: str) -> None:
    """Train so many steps on digits that are made as they are needed, and test on a thousand others."""
    count = steps * recipe.batches.size
    every = count + CHOSEN + TESTED
    series = _digits(every, side)
    shares = {"validation": CHOSEN / every, "test": TESTED / every}
    run = RunFolder(folder / run_name)
    with lock_folder(run.folder, fresh=False):
        training = begin_series(recipe.with_({"split": {"way": "time", **shares}}), series, 1, run, simulated=True)
        training.keep_parts()
        fit_units(training)
        training.evaluate()
    shown = {"mse-sum": (1, 5, 10), "ssim": (1, 5, 10), "mae-sum": (), "psnr": (), "sharpness": (10,)}
    _keep(run_name.split("-")[0], run.scores, shown, who=who, note=f"{count:,} sequences of {side} x {side}")


def _digits(count: int, side: int) -> Series:
    mnist = str(REAL / "movingmnist" / "mnist_train_digits.npz")
    series: Series = SERIES_SIMULATORS["digits"](count, 1, shape=(1, side, side), past=10, ahead=10, digits=mnist)
    return series


NETS = {
    "simvp": {"model": "simvp"},
    "roll_out": {"model": "roll_out", "hidden": 64, "downsample": 4},
    "conv_lstm": {"model": "conv_lstm", "activation": "sigmoid"},
}
CHOSEN, TESTED = 256, 1000  # sequences of digits


def _recipe(name: str, changes: Mapping[str, Any]) -> Recipe:
    return Recipe.load(name).with_(changes)


def _train(recipe: Recipe, folder: Path, data: Path) -> Scores:
    """Train by the command that users have; what scores.json says."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.parent / f"{folder.name}.toml"
    path.write_text(recipe.toml())
    words = ["train", str(path), "--data", str(data), "--out", str(folder)]
    subprocess.run([str(Path(sys.executable).parent / "wavefold"), *words], check=True)
    return open_run(folder).scores


def _seconds_a_step(recipe: Recipe) -> float:
    """Processor seconds of a training step, the median of five."""
    net = new_forecaster(recipe.member[0], 1, 1, recipe, 0)
    loss, optimiser = torch.nn.MSELoss(), torch.optim.AdamW(net.parameters())
    values, taken = torch.rand(recipe.batches.size, 1, 20, 64, 64), []
    for _ in range(6):
        begun = time.process_time()
        optimiser.zero_grad()
        given = (values[:, :, :10], values[:, :, 10:]) if getattr(net, "takes_truth", False) else (values[:, :, :10],)
        loss(net(*given), values[:, :, 10:]).backward()
        optimiser.step()
        taken.append(time.process_time() - begun)
    return float(np.median(taken[1:]))


def _poisson(source: Path, events: Mapping[str, Any]) -> tuple[float, float]:
    """Mean squared error of the true rate's own forecast, over the last fifth: counts vary by their mean, and a Gaussian with
    weights k spreads that as the sum of k^2; and of the last 20 frames' mean."""
    plain, smooth = (
        read_series(source, Reading(events=_events(events, sigma))).frames[:] for sigma in (0.0, CHICAGO["smooth"])
    )
    point = np.zeros((41, 41))
    point[20, 20] = 1
    kernel = gaussian_filter(point, 2.0, mode="constant") ** 2
    test = len(plain) - len(plain) // 5
    limit = np.mean([convolve(rate, kernel, mode="constant").mean() for rate in plain[test:].mean(axis=0)])
    last = [((smooth[i] - smooth[i - 20 : i].mean(axis=0)) ** 2).mean() for i in range(test, len(smooth))]
    return float(limit), float(np.mean(last))


def _events(given: Mapping[str, Any], smooth: float) -> Events:
    kinds = {name: tuple(words) for name, words in given["kinds"].items()}
    return Events(box=tuple(given["box"]), cells=tuple(given["cells"]), kinds=kinds, smooth=smooth)


def _keep(study: str, scores: Scores, shown: Mapping[str, Sequence[int]], who: str = "ensemble", note: str = "") -> None:
    """Rows of a score: who, metric, lead (0 is all), value; the recipe's metric and differences with their interval."""
    rows, main = [], scores.metric
    every = [(who, scores.score), *((row.name, row) for row in [*scores.members, *scores.baselines])]
    for name, row in every:
        for metric, leads in shown.items():
            value, *ends = row.measure(metric)
            ends = ends if metric == main else ["", ""]
            rows.append([study, name, metric, 0, scores.n, scores.blocks, value, *ends])
            for lead in leads:
                ends = row.interval_by_lead[lead - 1] if metric == main else ["", ""]
                rows.append([study, name, metric, lead, scores.n, scores.blocks, row.by_lead[metric][lead - 1], *ends])
        for lead, ends in enumerate(row.difference, 1):
            rows.append([study, f"{who} less {name}", main, lead, scores.n, scores.blocks, *ends])
    _write(rows, "" if scores.seconds is None else scores.seconds, note)
    for row in rows:
        if row[3] == 0:
            print(*row[:4], *(f"{v:.4g}" for v in row[6:] if isinstance(v, float)))


def _write(rows: Sequence[Sequence[Any]], seconds: Any = "", note: str = "") -> None:
    path = HERE / "frames.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if fresh:
            heads = "date study who metric lead windows blocks value low high seconds note commit command"
            writer.writerow(heads.split())
        for row in rows:
            numbers = ["" if v is None or v != v else f"{v:.5g}" if isinstance(v, float) else v for v in row]
            command = f"python benchmarks/frames.py {' '.join([*sys.argv[1:2], 'DIR', *sys.argv[3:]])}"
            writer.writerow([datetime.date.today(), *numbers, seconds, note, _commit(), command])


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip()


STUDIES = {"radar-data": radar_data, "era5": era5, "radar": radar, "losses": losses, "draw-losses": draw_losses, "crime": crime}

if __name__ == "__main__":
    study, place, *more = sys.argv[1:]
    if study == "digits":
        digits(Path(place), more[0], float(more[1]))
    else:
        STUDIES[study](Path(place))
