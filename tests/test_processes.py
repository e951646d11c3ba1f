"""`torchrun -m wavefold train` is the same program: the processes share each batch, the first one writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from wavefold.data import SIMULATORS, WRITERS
from wavefold.recipe import recipe_names

TORCHRUN = ["-m", "torch.distributed.run", "--standalone"]

# one step of nets that look across a batch, by batch norm, or by dropout of values, positions or samples
STEP = """
import sys, torch
from wavefold.core import distributed
from wavefold.core.device import seed_step
from wavefold.domains.radio.on_off import OnOff
from wavefold.models.cnn import Net1
from wavefold.models.conv_lstm import ConvLSTMNet
from wavefold.models.repvgg import RepVGG
from wavefold.models.roll_out import RollOut
from wavefold.models.simvp import SimVP
from wavefold.models.split_sum import SplitSumNet

NETS = {
    "net1": (lambda: Net1(1, 96, 3), (5, 1, 96)),
    "split_sum": (lambda: SplitSumNet(2, 64, 3, widths=[8, 8], dense=8), (7, 2, 64)),
    "repvgg": (lambda: RepVGG(3, 400, 3, width=8, blocks=(1, 2)), (4, 3, 400)),
    "on_off": (lambda: OnOff(6, 16, 64, 2, width=8), (3, 6, 16, 64)),
    "one row each": (lambda: OnOff(6, 16, 64, 2, width=8), (2, 6, 16, 64)),
    "conv_lstm": (lambda: ConvLSTMNet(1, 1, 3, 3, hidden=4, depth=2), (5, 1, 3, 8, 8)),
    "simvp": (lambda: SimVP(1, 1, 3, 3, width=4, hidden=8, depth=2, drop_path=0.5), (5, 1, 3, 8, 8)),
    "roll_out": (lambda: RollOut(1, 1, 3, 3, hidden=4, depth=1), (5, 1, 3, 8, 8)),
}
rank, processes = distributed.join()
found = {}
for name, (make, shape) in NETS.items():
    torch.manual_seed(0)
    net, x = make().double().train(), torch.randn(shape).double()
    counts = [len(range(r, shape[0], processes)) for r in range(processes)]
    seed_step(5)
    with distributed.sharing(rank, counts):
        if name == "roll_out":
            net.set_done(0.1)
            answer = net(x[rank::processes], x[rank::processes] + 1)
        else:
            answer = net(x[rank::processes])
    truth = x if answer.dim() == 5 else torch.eye(3).double()[torch.arange(shape[0]) % answer.shape[1], : answer.shape[1]]
    rows = torch.cat([torch.arange(r, shape[0], processes) for r in range(processes)])
    loss = (distributed.all_gather(answer, counts) - truth[rows]).square().mean()
    loss.backward()
    distributed.all_reduce_gradients(net.parameters())
    found[name] = {k: p.grad for k, p in net.named_parameters() if p.grad is not None}
    found[name] |= {"loss": loss.detach(), **dict(net.named_buffers())}
if rank == 0:
    torch.save(found, sys.argv[1])
"""


# an LSTM and split-sum nets have dropout and no batch norm, whose rounding a few steps of Adam turn into other weights
TRAIN = """
import sys
from pathlib import Path
from wavefold import api
from wavefold.recipe import Recipe

out, data = map(Path, sys.argv[1:3])
SMALL = {
    "heartbeat": {
        "member": [{"model": "lstm", "width": 8}], "prepare": [{"step": "smote"}, {"step": "noise"}], "output.baseline": "",
        "stage.*.epochs": 2, "stage.*.average": 0, "batches.size": 50, "split.validation": 0.2,
    },
    "spectra": {  # soft F1 is of a whole batch: each process must see what the others answered
        "member": [{"model": "split_sum", "widths": [8, 8]}], "output.baseline": "", "split.validation": 0.2,
        "batches.size": 41,
        "stage": [{"loss": "soft_f1", "epochs": 3, "learning_rate": 1e-2, "best": "macro-f1"}],
    },
    "frames": {
        "member": [{"model": "simvp", "width": 4, "hidden": 8, "depth": 1, "kernel": 9, "drop_path": 0.2, "start": "last"}],
        "windows": {"past": 4, "ahead": 2, "crop": [8, 8], "anywhere": True}, "output.pictures": False,
        "prepare": [{"step": "standardise"}, {"step": "mirror"}], "stage.*.epochs": 2, "batches.size": 7,
    },
}
QUICK = {"stage.*.epochs": 2, "stage.*.average": 0, "batches.size": 16, "output.pictures": False}
for name in sys.argv[3:]:
    recipe, _, quick = name.partition("/")
    chosen = Recipe.load(recipe).quickly().with_(QUICK) if quick else Recipe.load(recipe).with_(SMALL[recipe])
    api.train(chosen, data=str(data / recipe), out=out / recipe, log=print)
"""


def run(script: str, processes: int, *words: object) -> str:
    """What the main process of a script prints."""
    started = [*TORCHRUN, f"--nproc-per-node={processes}"] if processes > 1 else []
    said = [sys.executable, *started, *map(str, words)]
    Path(words[0]).write_text(script)
    done = subprocess.run(said, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_step_of_two_processes_is_that_of_one(tmp_path: Path) -> None:
    for processes in (1, 2):
        run(STEP, processes, tmp_path / "step.py", tmp_path / f"{processes}.pt")
    alone, together = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (1, 2))
    for net, values in alone.items():
        assert float(values["loss"]) > 0
        for name, value in values.items():
            np.testing.assert_allclose(together[net][name], value, rtol=1e-7, atol=1e-10, err_msg=f"{net} {name}")


def test_two_processes_learn_what_one_learns(contest_csv_of, tmp_path: Path) -> None:
    contest_csv_of(tmp_path / "heartbeat", 400)
    WRITERS["spectra"](SIMULATORS["spectra"](200, 1, shape=(1, 130)), tmp_path / "spectra")
    frames = np.random.default_rng(0).normal(size=(60, 16, 16, 1)).cumsum(axis=0)
    frames[:, :3, :5] = np.nan
    (tmp_path / "frames").mkdir()
    np.save(tmp_path / "frames" / "frames.npy", frames.astype(np.float32))
    names = ["heartbeat", "spectra", "frames"]
    for n in (1, 2):
        said = run(TRAIN, n, tmp_path / "train.py", tmp_path / str(n), tmp_path, *names)
        assert said.count("trained on ") == 3  # one process speaks for all
    for name in names:
        scored = [json.loads((tmp_path / str(n) / name / "scores.json").read_text()) for n in (1, 2)]
        assert scored[0]["n"] == scored[1]["n"]
        (folder,) = (tmp_path / "1" / name / "fold0").glob("0-*")
        same_weights(folder, tmp_path / "2" / name / "fold0" / folder.name, atol=1e-4)


def same_weights(one: Path, two: Path, atol: float) -> None:
    left, right = (load_file(folder / "weights.safetensors") for folder in (one, two))
    for name, value in left.items():
        np.testing.assert_allclose(value, right[name], atol=atol, err_msg=f"{one.name} {name}")


@pytest.mark.slow
def test_every_recipe_trains_in_two_processes_as_in_one(tmp_path: Path) -> None:
    for name in recipe_names():
        done = subprocess.run(
            [sys.executable, "-m", "wavefold", "simulate", name, tmp_path / "data" / name, "--count", "120", "--seed", "1"],
            check=False,
        )
        assert done.returncode == 0
    for n in (1, 2):
        run(
            TRAIN, n, tmp_path / "train.py", tmp_path / str(n), tmp_path / "data", *(f"{name}/quick" for name in recipe_names())
        )
    lines = [sorted((tmp_path / str(n)).glob("*/fold0/*/metrics.jsonl")) for n in (1, 2)]
    assert len(lines[0]) == len(lines[1]) >= len(recipe_names())
    for one, two in zip(*lines, strict=True):
        first, second = ([json.loads(line)["loss"] for line in path.read_text().splitlines()] for path in (one, two))
        # rounding, which Adam amplifies where a gradient is zero: a bias before a batch norm
        assert second == pytest.approx(first, rel=0.01), one


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_job_with_a_word_and_the_same_command_goes_on(killed, contest_csv_of, tmp_path: Path) -> None:
    data = contest_csv_of(tmp_path / "data", 600)
    settings = ['member=[{model="net1"}]', "stage.*.epochs=6", "batches.save_every=0.5", "output.baseline="]

    def start(out: Path) -> subprocess.Popen[str]:
        words = [
            *TORCHRUN,
            "--nproc-per-node=2",
            "-m",
            "wavefold",
            "train",
            "heartbeat",
            "--data",
            str(data),
            "--out",
            str(out),
        ]
        words += [w for s in settings for w in ("--set", s)]
        return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    whole = start(tmp_path / "whole")
    assert whole.communicate()[0]
    assert whole.returncode == 0
    job = start(tmp_path / "cut")
    while job.poll() is None and not list((tmp_path / "cut").glob("fold0/0-net1/*")):
        time.sleep(0.1)
    time.sleep(1.5)
    assert job.poll() is None, "it was over before it could be killed"
    os.kill(of_rank(job.pid, killed), signal.SIGKILL)
    said = job.communicate()[1]
    assert job.returncode
    assert "wavefold: one of the 2 processes of this training ended" in said, said
    assert "Traceback" not in said.partition("wavefold: one of")[0]
    again = start(tmp_path / "cut")
    assert again.communicate()[0]
    assert again.returncode == 0
    same_weights(*(tmp_path / name / "fold0" / "0-net1" for name in ("whole", "cut")), atol=0)


def of_rank(launcher: int, rank: int) -> int:
    """The process of a rank among a launcher's children."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"no process of rank {rank}")
