"""Training on two local workers, one killed with SIGKILL in the middle of a fold, against the same training in turn.

python benchmarks/cluster_kills.py [--times 5] [--count 1200]

Five times: simulated heartbeats, two folds of two nets and a classifier; a worker is killed at a random moment while it fits
a net. Every file that the run learned or said must have the bits of the run in turn. Prints how long each training took, and
what the killed one had to do again. Needs Linux, for the list of a process's children.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = [
    'member=[{model="net3"},{model="net1"},{model="logistic"}]',
    'prepare=[{step="crop_tail",share=0.5},{step="smote"},{step="noise"},{step="shift"}]',
    "split.way=kfold",
    "split.folds=2",
    "stage.*.epochs=4",
    "stage.*.average=0.5",
    "batches.size=64",
    "batches.save_every=1",
    "output.baseline=",
]


def command(data: Path, out: Path, *more: str) -> list[str]:
    """A training's command line."""
    words = [sys.executable, "-m", "wavefold", "train", "heartbeat", "--data", str(data), "--out", str(out), *more]
    return words + [word for setting in SETTINGS for word in ("--set", setting)]


def results(run: Path) -> dict[str, bytes]:
    """The bytes of everything that a run learned and said."""
    names = sorted(p.relative_to(run) for p in run.rglob("*") if p.suffix in (".safetensors", ".npz", ".npy", ".csv", ".jsonl"))
    scores = json.loads((run / "scores.json").read_text())
    said = json.dumps({key: value for key, value in scores.items() if key != "seconds"}).encode()
    return {**{str(name): (run / name).read_bytes() for name in names}, "scores": said}


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """The worker processes of a training, by id."""
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        others = [t.name for t in Path(f"/proc/{process.pid}/task").iterdir()]
        children += [c for t in others for c in Path(f"/proc/{process.pid}/task/{t}/children").read_text().split()]
    except OSError:
        return []
    return sorted({int(child) for child in children if b"spawn_main" in _words_of(child)})


def _words_of(child: str) -> bytes:
    try:
        return Path(f"/proc/{child}/cmdline").read_bytes()
    except OSError:
        return b""


def kill_one(process: subprocess.Popen[bytes], run: Path, rng: random.Random) -> str:
    """Kill a worker at a random moment after a net's first checkpoint; returns the states that were there then."""
    while process.poll() is None and not list(run.glob("fold*/*/state.pt")):
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 3))
    there, found = [str(p.parent.relative_to(run)) for p in run.glob("fold*/*/state.pt")], workers_of(process)
    if process.poll() is not None or not found or not there:
        return ""
    os.kill(rng.choice(found), signal.SIGKILL)
    return " and ".join(there)


def main() -> None:
    """Train in turn once, then on two workers with a kill, and compare."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--times", type=int, default=5)
    asked.add_argument("--count", type=int, default=1200)
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate = [sys.executable, "-m", "wavefold", "simulate", "heartbeat", str(folder / "data"), "--count"]
        subprocess.run([*simulate, str(given.count)], check=True, capture_output=True)
        begun = time.monotonic()
        subprocess.run(command(folder / "data", folder / "turn"), check=True, capture_output=True)
        print(f"in turn: {time.monotonic() - begun:.0f} s", flush=True)
        whole, kills = results(folder / "turn"), 0
        while kills < given.times:
            run, begun = folder / f"killed{kills}", time.monotonic()
            words = command(folder / "data", run, "--cluster", "local:2")
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            fitting = kill_one(process, run, rng)
            _, errors = process.communicate()
            if process.returncode:
                sys.exit(f"exit {process.returncode}: {errors.decode()}")
            same = results(run) == whole
            if fitting:
                kills += 1
                print(
                    f"killed in {fitting}: {time.monotonic() - begun:.0f} s, {'the same bits' if same else 'OTHER BITS'}",
                    flush=True,
                )
            if not same:
                sys.exit("other bits")


if __name__ == "__main__":
    main()
