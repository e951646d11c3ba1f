"""A training that is killed and started again ends with the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from wavefold.core import interrupt
from wavefold.training.checkpoint import CheckpointFile, TrainingState

SETTINGS = [
    'member=[{model="net3"},{model="logistic"}]',
    'prepare=[{step="crop_tail",share=0.5},{step="smote"},{step="noise"},{step="shift"}]',
    "stage.*.epochs=2",
    "stage.*.average=0.5",
    "batches.size=64",
    "batches.save_every=0",
    'output.baseline=""',
]

FRAMES = [
    'member=[{model="roll_out",hidden=4,depth=1},{model="simvp",width=4,hidden=8,depth=1,kernel=9,drop_path=0.5}]',
    'prepare=[{step="standardise"},{step="mirror"}]',
    "windows={past=4,ahead=2,crop=[8,8],anywhere=true}",
    "stage.*.epochs=2",
    "stage.*.average=0.5",
    "batches.save_every=0",
]


def command(data: Path, out: Path, recipe: str = "heartbeat") -> list[str]:
    words = [sys.executable, "-m", "wavefold", "train", recipe, "--data", str(data), "--out", str(out)]
    return words + [w for s in (FRAMES if recipe == "frames" else SETTINGS) for w in ("--set", s)]


def results(run: Path) -> dict[str, bytes]:
    """The bytes of everything that a run learned and said."""
    names = sorted(p.relative_to(run) for p in run.rglob("*") if p.suffix in (".safetensors", ".npz", ".csv", ".jsonl"))
    found = {str(name): (run / name).read_bytes() for name in names}
    scores = json.loads((run / "scores.json").read_text())
    return {**found, "scores": json.dumps({k: v for k, v in scores.items() if k != "seconds"}).encode()}


def kill_once(process: subprocess.Popen, run: Path, rng: random.Random, in_a_write: bool) -> bool:
    """Kill -9 at a random moment after the first state, or while one is being written; False where it ended before."""
    folder = run / "fold0" / "0-net3"
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until and not (folder / "state.pt").exists():
        time.sleep(0.002)
    moment = time.monotonic() + rng.uniform(0, 1.0)
    while process.poll() is None and time.monotonic() < until:
        if time.monotonic() >= moment and (not in_a_write or list(folder.glob("*.part"))):
            break
        if (folder / "scores.npz").exists():
            break
    alive = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL) if alive else None
    process.wait()
    return alive


def test_killed_at_random_moments_a_run_ends_with_the_same_bits(contest_csv, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(contest_csv, whole), check=True, capture_output=True)
    rng, kills, in_writes = random.Random(7), 0, 0
    for attempt in range(4):
        process = subprocess.Popen(
            command(contest_csv, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        in_a_write = attempt % 2 == 1
        if kill_once(process, killed, rng, in_a_write):
            kills += 1
            in_writes += in_a_write and bool(list(killed.rglob("*.part")))
        assert not (killed / "scores.json").exists() or kills >= 2
    assert kills >= 2, "the training was over before it could be killed"
    assert in_writes >= 1, "no kill came while a state was being written"
    last = subprocess.run(command(contest_csv, killed), capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert results(killed) == results(whole)
    assert not list(killed.rglob("state*.pt"))


# dies like kill -9 just before, or just after, the so-manieth file takes its final name
DYING = """
import os, signal, sys
left, after, real = int(sys.argv.pop(1)), sys.argv.pop(1) == "after", os.replace
def replace(source, target):
    global left
    left -= 1
    if left == 0 and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
from wavefold.cli import main
main()
"""


def test_killed_as_any_file_takes_its_name_a_run_ends_with_the_same_bits(contest_csv, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(contest_csv, whole), check=True, capture_output=True)
    moments = [(1, "before"), (2, "after"), (13, "before"), (20, "after")]  # hundreds are studied in benchmarks
    for count, when in moments:
        words = [sys.executable, "-c", DYING, str(count), when, *command(contest_csv, killed)[3:]]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
    done = subprocess.run(command(contest_csv, killed), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert results(killed) == results(whole)
    assert not list(killed.rglob("*.part"))


def test_a_training_on_frames_that_is_killed_ends_with_the_same_bits(tmp_path):
    np.save(tmp_path / "frames.npy", np.random.default_rng(0).normal(size=(60, 16, 16)).cumsum(axis=0).astype(np.float32))
    whole, killed = (command(tmp_path / "frames.npy", tmp_path / name, "frames") for name in ("whole", "killed"))
    subprocess.run(whole, check=True, capture_output=True)
    for count, when in ((5, "before"), (30, "after")):
        words = [sys.executable, "-c", DYING, str(count), when, *killed[3:]]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
    subprocess.run(killed, check=True, capture_output=True)
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob("*.part"))
    assert len(list((tmp_path / "killed" / "pictures").iterdir())) == 6


def slow(words: list[str]) -> list[str]:
    """A training of few long epochs that by itself would save nothing while they last."""
    fewer = [] if "frames" in words else ["--set", "data.limit=100"]
    return [*words, *fewer, "--set", "batches.save_every=1000", "--set", "batches.size=2"]


# sends itself a signal after so many batches, as a user may at any moment
SIGNALLED = """
import os, signal, sys
from wavefold.training import monitor
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started with it ignored
number, left, step = int(sys.argv.pop(1)), int(sys.argv.pop(1)), monitor.TrainingMonitor.step
def count(self, state, steps):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), number)
    step(self, state, steps)
monitor.TrainingMonitor.step = count
from wavefold.cli import main
main()
"""


@pytest.mark.parametrize("recipe", ["heartbeat", pytest.param("frames", marks=pytest.mark.slow)])
def test_stopped_by_a_signal_a_training_has_saved_its_last_batch(contest_csv, tmp_path, recipe):
    data = contest_csv
    if recipe == "frames":
        data = tmp_path / "frames.npy"
        np.save(data, np.random.default_rng(0).normal(size=(60, 16, 16)).cumsum(axis=0).astype(np.float32))
    whole, stopped = (slow(command(data, tmp_path / name, recipe)) for name in ("whole", "stopped"))
    subprocess.run(whole, check=True, capture_output=True)
    member = next((tmp_path / "whole" / "fold0").glob("0-*")).name
    for number, batch in ((signal.SIGINT, 3), (signal.SIGTERM, 4)):
        words = [sys.executable, "-c", SIGNALLED, str(int(number)), str(batch), *stopped[3:]]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 128 + number, done.stderr
        assert done.stderr.splitlines() == ["wavefold: stopped, and the state is saved; run the same command again to resume"]
        state = CheckpointFile(tmp_path / "stopped" / "fold0" / member / "state.pt", 0).read()
        assert (state.epoch, state.batch) == (0, 3 if number == signal.SIGINT else 7)
    subprocess.run(stopped, check=True, capture_output=True)
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")


def send(number: int, times: int) -> None:
    for _ in range(times):
        os.kill(os.getpid(), number)
        assert interrupt.asked_to_stop()


@pytest.fixture
def heard():
    """SIGINT as a process in the foreground has it: a job in the background is started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_outside_of_batches_and_at_a_second_time_a_signal_stops_at_once(heard, monkeypatch):
    monkeypatch.setattr(interrupt, "_ONE", 0.0)
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    for number in (signal.SIGINT, signal.SIGTERM):
        with pytest.raises(interrupt.Interrupted) as caught, interrupt.stop_on_signals():
            os.kill(os.getpid(), number)
        assert (caught.value.number, caught.value.saved) == (number, False)
        with pytest.raises(interrupt.Interrupted) as caught, interrupt.stop_on_signals(), interrupt.signals_wait():
            send(number, times=2)
        assert not caught.value.saved
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    with interrupt.signals_wait():  # of an estimator, nothing waits
        assert not interrupt.asked_to_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_sent_twice_at_once_is_one_and_a_handler_of_somebodys_own_stays():
    with pytest.raises(interrupt.Interrupted) as caught, interrupt.stop_on_signals(), interrupt.signals_wait():
        send(signal.SIGTERM, times=2)
    assert caught.value.saved
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with interrupt.stop_on_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_torn_state_falls_back_to_the_one_before(tmp_path):
    file = CheckpointFile(tmp_path / "state.pt", 0)
    file.write(TrainingState(epoch=1, best_weights={"w": torch.ones(2)}))
    file.write(TrainingState(epoch=2))
    path = tmp_path / "state.pt"
    path.write_bytes(path.read_bytes()[:100])
    state = file.read()
    assert state.epoch == 1
    np.testing.assert_array_equal(state.best_weights["w"], 1)
    (tmp_path / "state.previous.pt").unlink()
    assert file.read() == TrainingState()


def test_a_state_with_code_in_it_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"stage": Trap()}, tmp_path / "state.pt")
    assert CheckpointFile(tmp_path / "state.pt", 0).read() == TrainingState()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("broken", ["write", "replace"])
def test_a_write_that_fails_leaves_the_last_state(tmp_path, monkeypatch, broken):
    file = CheckpointFile(tmp_path / "state.pt", 0)
    file.write(TrainingState(epoch=1))

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*(("torch.save", fail) if broken == "write" else ("os.replace", fail)))
    with pytest.raises(OSError, match="No space"):
        file.write(TrainingState(epoch=2))
    monkeypatch.undo()
    assert file.read().epoch == 1
    assert not list(tmp_path.glob("*.part"))
