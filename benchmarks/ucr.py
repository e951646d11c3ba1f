"""SignalClassifier beside aeon's classifiers on the sets of ucr_data.py: rows for benchmarks/ucr.csv, tables and two figures.

    python benchmarks/ucr.py run [--sets NAME ...] [--methods NAME ...] [--seeds 0 1 2] [--again]
    python benchmarks/ucr.py summary [--published FILE.json] [--figures docs/figures]

run downloads and converts the sets, makes an environment with aeon (--peers-env), and appends a row for each set, seed, fold
and method; rows that are there for this commit of ours, or this version of aeon, are not run again. Each method has its
defaults and a seed, and one thread of a process of its environment; seconds are processor seconds, without those of a first
tiny task, in which numba compiles (warm_up_s). All get the same signals: zeros follow shorter samples up to
the longest, spectra are standardised one by one. Log-loss is of probabilities held within 1e-6 and 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from ucr_data import FOLDS, HERE, SOURCES, WHEELS, prepare
from ucr_summary import HEAD, chosen_rows, draw_ranks, draw_seconds, read_rows, summary
from ucr_worker import METHODS, OURS

import wavefold
from wavefold.core.errors import UserError
from wavefold.data.cache import cache_folder

TABLE = HERE / "ucr.csv"
PEERS = (f"aeon=={WHEELS['aeon']}", "torch==2.13.0")
VERSION = f"aeon {WHEELS['aeon']}"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
SURELY = 1e-6  # the least probability in a log-loss


class Worker:
    """A process of ucr_worker.py, which answers one task after another."""

    def __init__(self, python: Path) -> None:
        self.process = subprocess.Popen(
            [str(python), str(HERE / "ucr_worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )

    def ask(self, task: Mapping[str, object]) -> dict[str, float | str]:
        """The answer to a task; an error if the process has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"error": "the process has ended"}
        line = self.process.stdout.readline()
        found: dict[str, float | str] = json.loads(line) if line else {"error": "the process has ended"}
        return found

    def ended(self) -> bool:
        """Whether the process is no more."""
        return self.process.poll() is not None

    def close(self) -> None:
        """Let the process end."""
        self.process.communicate()


def peers_python(folder: Path) -> Path:
    """Python of the environment of the peers, which is made, or completed if it lacks them."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    words = "import importlib.metadata as m; print(*(f'{n}=={m.version(n).split(\"+\")[0]}' for n in ('aeon', 'torch')))"
    found = subprocess.run([str(python), "-c", words], capture_output=True, text=True)
    if found.stdout.split() != list(PEERS):
        print(f"installing {' and '.join(PEERS)} into {folder}", flush=True)
        subprocess.run([str(python), "-m", "pip", "--quiet", "install", *PEERS], check=True)
    return python


def our_commit() -> str:
    """The last commit that changed the source, with "-dirty" if files of it differ from it."""
    root = HERE.parent
    if not Path(wavefold.__file__).is_relative_to(root):
        raise UserError(
            f"{wavefold.__file__}: this wavefold is not the one of {root}, whose commit rows would name; install that one"
        )
    commit = _git("log", "-1", "--format=%h", "--", "src")
    return f"{commit}-dirty" if _git("status", "--porcelain", "--", "src") else commit


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=HERE.parent, capture_output=True, text=True, check=True).stdout.strip()


def measures(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy, macro-F1 and log-loss of probabilities (sample, class) and class numbers (sample,)."""
    predicted = probabilities.argmax(axis=1)
    true = probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": float((predicted == labels).mean()),
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        "log_loss": float(np.abs(np.log(np.clip(true, SURELY, 1))).mean()),
    }


def tasks(sets: Sequence[str], methods: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, int, int, str]]:
    """Set, seed, fold and method of each task: methods take turns, so that a busy hour of the machine meets all of them."""
    for seed in seeds:  # outermost, so that what is there at any time is of all sets
        for name in sets:
            for fold in range(FOLDS if SOURCES[name].shared else 1):
                for method in methods:
                    yield name, seed, fold, method


def run(options: argparse.Namespace) -> int:
    """Do what is left to do; the number of tasks that failed."""
    sets = options.sets or [name for name, source in SOURCES.items() if options.data.is_dir() or not source.shared]
    if len(sets) < len(SOURCES) and not options.sets:
        print(f"{options.data}: no such folder; left out {', '.join(name for name in SOURCES if name not in sets)}", flush=True)
    commits = {method: our_commit() if method in OURS else VERSION for method in options.methods}
    done = {key_of(row) for row in read_rows(options.csv)} if not options.again else set()
    left = [
        (name, seed, fold, method)
        for name, seed, fold, method in tasks(sets, options.methods, options.seeds)
        if commits[method].endswith("-dirty") or (name, str(fold), method, str(seed), commits[method]) not in done
    ]
    paths = {name: prepare(name, options.cache, options.data) for name in dict.fromkeys(task[0] for task in left)}
    workers: dict[bool, Worker] = {}
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, seed, fold, method in left:
            ours, out = method in OURS, Path(folder) / "probabilities.npz"
            if ours not in workers:
                workers[ours] = Worker(Path(sys.executable) if ours else peers_python(options.peers_env))
            task = {"data": str(paths[name]), "fold": fold, "method": method, "seed": seed, "out": str(out)}
            found = workers[ours].ask({**task, "scaled": SOURCES[name].scaled})
            if "error" in found:
                print(f"{name} fold {fold} seed {seed} {method}: {found['error']}", flush=True)
                failed += 1
                if workers[ours].ended():
                    del workers[ours]
                continue
            append(options.csv, row_of((name, seed, fold, method), found, out, commits[method]))
    for worker in workers.values():
        worker.close()
    return failed


def key_of(row: Mapping[str, str]) -> tuple[str, ...]:
    """What a row is the result of."""
    return tuple(row[name] for name in ("set", "fold", "method", "seed", "commit"))


def row_of(task: tuple[str, int, int, str], found: Mapping[str, float | str], out: Path, commit: str) -> dict[str, object]:
    """One line of the table."""
    name, seed, fold, method = task
    with np.load(out, allow_pickle=False) as kept:
        probabilities, labels = kept["probabilities"], kept["labels"]
    scores = {key: f"{value:.6f}" for key, value in measures(probabilities, labels).items()}
    seconds = {key: f"{found[key]:.3f}" for key in ("fit_s", "predict_s", "warm_up_s")}
    sizes = {"n_train": found["n_train"], "n_test": len(labels)}
    about = {"probabilities": "real" if METHODS[method][2] else "0 and 1", "commit": commit, "date": date.today().isoformat()}
    machine = f"{platform.machine()}, {os.cpu_count()} cores, 1 thread"
    return {
        "set": name,
        "fold": fold,
        "method": method,
        "seed": seed,
        **sizes,
        **scores,
        **seconds,
        **about,
        "machine": machine,
    }


def append(path: Path, row: Mapping[str, object]) -> None:
    """Add a line to the table, below a header where it is new, and print it."""
    fresh = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, HEAD, lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(row)
    shown = ("set", "fold", "seed", "method", "accuracy", "macro_f1", "log_loss", "fit_s", "predict_s")
    print(
        "  ".join(
            f"{name} {row[name]}" if name in ("fold", "seed", "fit_s", "predict_s") else f"{row[name]}" for name in shown
        ),
        flush=True,
    )


def summarise(options: argparse.Namespace) -> None:
    """Print the tables and draw the figures."""
    rows = [row for row in chosen_rows(read_rows(options.csv), options.commit) if row["method"] in options.methods]
    published = json.loads(options.published.read_text()) if options.published else {}
    table = summary(rows, {name: source.note for name, source in SOURCES.items()}, published)
    print("\n".join(table.lines))
    options.figures.mkdir(parents=True, exist_ok=True)
    draw_ranks(options.figures / f"ucr_ranks.{options.format}", table)
    draw_seconds(options.figures / f"ucr_seconds.{options.format}", table)


def main() -> None:
    """Run or summarise."""
    cache = cache_folder() / "ucr"
    shared = Path(os.environ.get("WAVEFOLD_DATA", HERE.parents[1] / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run", help="append the rows that are not there")
    running.add_argument(
        "--sets", nargs="+", choices=SOURCES, metavar="NAME", help="default: all, or those that need no --data"
    )
    running.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    running.add_argument("--again", action="store_true", help="run also what is there")
    running.add_argument("--data", type=Path, default=shared, help="folder of the shared sets")
    running.add_argument("--cache", type=Path, default=cache, help="for downloads and converted sets")
    running.add_argument("--peers-env", type=Path, help="environment with aeon (default: made in the cache)")
    showing = verbs.add_parser("summary", help="print tables and draw figures")
    showing.add_argument("--published", type=Path, help="JSON of published accuracies: {method: {set: accuracy}}")
    showing.add_argument("--commit", default="", help="of ours (default: that of the last row of ours)")
    showing.add_argument("--figures", type=Path, default=HERE.parent / "docs" / "figures")
    showing.add_argument("--format", choices=("svg", "png"), default="svg")
    for verb in (running, showing):
        verb.add_argument("--csv", type=Path, default=TABLE)
        verb.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    options = parser.parse_args()
    try:
        if options.verb == "summary":
            summarise(options)
            return
        options.peers_env = options.peers_env or options.cache / "peers"
        if failed := run(options):
            sys.exit(f"{failed} of the tasks failed; their lines are above")
    except UserError as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(error.cmd)}: failed with status {error.returncode}")


if __name__ == "__main__":
    main()
