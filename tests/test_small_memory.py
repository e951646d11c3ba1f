"""Training, prediction and scoring on ten times the memory allowed give the numbers that they give in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavefold.data.pack import pack
from wavefold.data.read_samples import How

ROWS, VALUES = 60_000, 1_600  # 384 MB of float32

SCRIPT = """
import json, re, resource, sys
from pathlib import Path
import numpy as np
from torch import nn
from wavefold import api
from wavefold.data import lazy, packed
from wavefold.evaluation import intervals
from wavefold.models import MODELS
from wavefold.tasks.samples import parts

class Coarse(nn.Module):
    def __init__(self, channels, length, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool1d(length // 16), nn.Flatten(), nn.Linear(16 * channels, classes))
    def forward(self, x):
        return self.layers(x)

MODELS["coarse"] = Coarse
lazy._ROWS, lazy.row_blocks.__defaults__ = 256, (256,)  # small blocks, as the memory is
packed.LARGE, parts.PART, intervals._CHUNK = 0, 2 << 20, 300_000
source, few, allowed, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])

def all_verbs(source, name):
    changes = {"member": [{"model": "coarse"}], "stage.*.epochs": 1, "output.baseline": "", "data.classes": ["p", "q"]}
    run = api.train("heartbeat", source, out=folder / name, overrides=changes, log=lambda line: None)
    run.predict_file(source, folder / f"{name}.csv", warn=lambda line: None)
    score = run.score(source, warn=lambda line: None)
    held_out = dict(np.load(run.folder / "held_out.npz"))["probabilities"].tolist()
    return [run.scores.as_json() | {"seconds": 0}, score.as_json(), held_out]

all_verbs(few, "few")  # all that is loaded once is there
if allowed:
    used = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (used + allowed, used + allowed))
print(json.dumps(all_verbs(source, "run")))
"""


def result(folder: Path, source: Path, few: Path, allowed: int) -> tuple[int, Any, bytes, str]:
    """Exit status, scores, the predictions' file and the error of all verbs on a source."""
    folder.mkdir()
    command = [sys.executable, "-c", SCRIPT, str(source), str(few), str(allowed), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return done.returncode, None, b"", done.stderr
    return 0, json.loads(done.stdout), (folder / "run.csv").read_bytes(), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a process maps for itself")
def test_a_tenth_of_the_memory_is_enough_for_packed_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, ROWS)
    signals = rng.random((ROWS, VALUES), np.float32)
    signals[:, : VALUES // 4] += 0.1 * labels[:, None]
    np.savez(tmp_path / "all.npz", signals=signals, labels=np.array(["p", "q"])[labels])
    np.savez(tmp_path / "few.npz", signals=signals[:600], labels=np.array(["p", "q"])[labels[:600]])
    del signals
    for name in ("all", "few"):
        pack(tmp_path / f"{name}.npz", tmp_path / name, How())
    allowed = 4 * ROWS * VALUES // 10
    small = result(tmp_path / "small", tmp_path / "all", tmp_path / "few", allowed)
    assert small[0] == 0, small[3]
    large = result(tmp_path / "large", tmp_path / "all.npz", tmp_path / "few.npz", 0)
    assert small[:3] == large[:3]
    refused = result(tmp_path / "refused", tmp_path / "all.npz", tmp_path / "few.npz", allowed)
    assert refused[0], "the limit does not hold"
