"""What the studies share: a study is a few trainings by the command line, each of which adds its rows to results.csv."""

from __future__ import annotations

import csv
import datetime
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from wavefold.api import open_run

HERE = Path(__file__).resolve().parent
COLUMNS = ["date", "study", "name", "l1_per_20000", "l1_low", "l1_high", "accuracy", "accuracy_low", "accuracy_high"]
COLUMNS += ["macro_f1", "macro_f1_low", "macro_f1_high", "f1_by_class", "n", "seconds", "machine", "commit", "command"]

Trainings = Mapping[str, tuple[str, list[str]]]  # name -> folder of the data and what --set changes


def run_study(recipe: str, studies: Mapping[str, Trainings]) -> None:
    """Run the study that the command line names; a training that is done already is not repeated."""
    study = sys.argv[1]
    data = Path(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("WAVEFOLD_DATA", HERE.parents[1] / "shared" / "data"))
    for name, (folder, changes) in studies[study].items():
        out = Path("runs") / f"{study}-{name}".replace(" ", "-")
        words = ["wavefold", "train", recipe, "--data", str(data / folder), "--out", str(out)]
        words += [w for change in changes for w in ("--set", change)]
        subprocess.run([str(Path(sys.executable).parent / words[0]), *words[1:]], check=True)
        write_rows(study, name, out, " ".join(words).replace(str(data), "DATA"))


def write_rows(study: str, name: str, out: Path, command: str) -> None:
    """Append a row for the ensemble, each member and each baseline of a run."""
    run = open_run(out)
    scores = run.scores
    rows = [scores.score.model_copy(update={"name": "ensemble"}), *scores.members, *scores.baselines]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True)
    path = HERE / "results.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if fresh:
            writer.writerow(COLUMNS)
        for row in rows:
            l1 = [f"{v:.5g}" for v in row.measure("l1")] if scores.per else ["", "", ""]  # quoted where it is the metric
            values = [f"{v:.5g}" for metric in ("accuracy", "macro-f1") for v in row.measure(metric)]
            by_class = " ".join(f"{v:.4f}" for v in row.f1_by_class)
            about = [scores.n, scores.seconds, run.metadata.machine, commit.stdout.strip(), command]
            writer.writerow([datetime.date.today(), study, f"{name}: {row.name}", *l1, *values, by_class, *about])
