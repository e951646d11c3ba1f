"""`torchrun wavefold train` is the same program: the processes share each batch, the first one writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

# an LSTM has no batch norm, whose statistics are each process's own; without dropout both trainings take the same steps
SETTINGS = ['member=[{model="lstm",dropout=0.0,width=8}]', "prepare=[{step='smote'},{step='noise'}]", "output.baseline="]
SETTINGS += ["stage.*.epochs=2", "stage.*.average=0", "batches.size=50", "split.validation=0.2"]


def train(data: Path, out: Path, processes: int) -> dict:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    words = [sys.executable, *torchrun, "-m", "wavefold.cli", "train", "heartbeat", "--data", str(data), "--out", str(out)]
    words += [w for s in SETTINGS for w in ("--set", s)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ensemble") == 1
    return json.loads((out / "scores.json").read_text())


def test_two_processes_learn_what_one_learns(contest_csv, tmp_path):
    alone, together = train(contest_csv, tmp_path / "one", 1), train(contest_csv, tmp_path / "two", 2)
    assert together["n"] == alone["n"]
    scores = [np.load(tmp_path / name / "fold0" / "0-lstm" / "scores.npz")["test"] for name in ("one", "two")]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)
    assert not np.allclose(scores[0], 0.25, atol=1e-3)
