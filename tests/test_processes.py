"""`torchrun wavefold train` is the same program: the processes share each batch, the first one writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from wavefold.data import SIMULATORS, WRITERS

# an LSTM has no batch norm, whose statistics are each process's own; without dropout both trainings take the same steps
SETTINGS = ['member=[{model="lstm",dropout=0.0,width=8}]', "prepare=[{step='smote'},{step='noise'}]", "output.baseline="]
SETTINGS += ["stage.*.epochs=2", "stage.*.average=0", "batches.size=50", "split.validation=0.2"]


# soft F1 is of a whole batch: each process must see what the others answered
SPECTRA = ['member=[{model="split_sum",widths=[8,8],dropout=0.0}]', "output.baseline=", "split.validation=0.2"]
SPECTRA += ['stage=[{loss="soft_f1",epochs=3,rate=1e-2,best="macro-f1"}]', "batches.size=41"]


def train(recipe: str, settings: list[str], data: Path, out: Path, processes: int) -> dict:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    words = [sys.executable, *torchrun, "-m", "wavefold.cli", "train", recipe, "--data", str(data), "--out", str(out)]
    words += [w for s in settings for w in ("--set", s)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tested on ") == 1
    return json.loads((out / "scores.json").read_text())


@pytest.mark.parametrize("recipe", ["heartbeat", "spectra"])
def test_two_processes_learn_what_one_learns(contest_csv, tmp_path, recipe):
    settings, member = {"heartbeat": (SETTINGS, "0-lstm"), "spectra": (SPECTRA, "0-split_sum")}[recipe]
    data = contest_csv
    if recipe == "spectra":
        data = WRITERS["spectra"](SIMULATORS["spectra"](200, 1, shape=(1, 130)), tmp_path)
    alone, together = (train(recipe, settings, data, tmp_path / str(n), n) for n in (1, 2))
    assert together["n"] == alone["n"]
    scores = [np.load(tmp_path / str(n) / "fold0" / member / "scores.npz")["test"] for n in (1, 2)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)
    assert not np.allclose(scores[0], 0.25, atol=1e-3)


FRAMES = ['member=[{model="simvp",width=4,hidden=8,depth=1,kernel=9,start="last"}]', "stage.*.epochs=2", "batches.size=7"]
FRAMES += ["windows={past=4,ahead=2,crop=[8,8],anywhere=true}", "prepare=[{step='standardise'},{step='mirror'}]"]
FRAMES += ["output.pictures=false"]


def test_two_processes_forecast_what_one_forecasts(tmp_path):
    frames = np.random.default_rng(0).normal(size=(60, 16, 16, 1)).cumsum(axis=0)
    frames[:, :3, :5] = np.nan
    np.save(tmp_path / "frames.npy", frames.astype(np.float32))
    alone, together = (train("frames", FRAMES, tmp_path / "frames.npy", tmp_path / str(n), n) for n in (1, 2))
    assert together["n"] == alone["n"]
    weights = [load_file(tmp_path / str(n) / "fold0" / "0-simvp" / "weights.safetensors") for n in (1, 2)]
    for name, value in weights[0].items():
        np.testing.assert_allclose(value, weights[1][name], atol=1e-5, err_msg=name)
    assert together["score"]["by-lead"]["mse"] == pytest.approx(alone["score"]["by-lead"]["mse"], rel=1e-4)
    assert alone["score"]["mse"][0] != pytest.approx(alone["baselines"][0]["mse"][0], rel=1e-4)
