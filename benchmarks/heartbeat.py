"""The heartbeat studies behind the README's figures; each adds its rows to benchmarks/results.csv.

python benchmarks/heartbeat.py STUDY [DATA], STUDY one of random, record, contest, net5, balance; DATA holds mitbih_beats and
heartbeat. random and record take about half an hour on two cores, the others a quarter of an hour each.
"""

from __future__ import annotations

import csv
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
COLUMNS = ["date", "study", "name", "l1_per_20000", "l1_low", "l1_high", "accuracy", "accuracy_low", "accuracy_high"]
COLUMNS += ["macro_f1", "macro_f1_low", "macro_f1_high", "f1_by_class", "n", "seconds", "machine", "commit", "command"]

BEATS, CONTEST = "mitbih_beats", "heartbeat"
NETS = ",".join(f'{{model="net{n}"}}' for n in (1, 2, 3, 4, 6))
ONE = 'member=[{model="net1"}]'
SMALL = ["stage.*.epochs=20", "batches.size=64"]
BY_RECORD = "split={way='kfold',folds=5,group='record',validation=0.1}"
ONCE = "split={way='kfold',folds=5,validation=0.1}"
TWICE = "split={way='kfold',folds=5,repeats=2,validation=0.1}"
STEPS = {"none": "", "repeat": "{step='repeat'}", "smote": "{step='smote'}", "gan": "{step='gan'}"}
STUDIES: dict[str, dict[str, tuple[str, list[str]]]] = {
    "random": {"recipe": (BEATS, [])},
    "record": {"net1": (BEATS, [BY_RECORD, ONE, "stage.*.epochs=5"])},
    "contest": {"all": (CONTEST, [TWICE, f'member=[{NETS},{{model="lightgbm"}}]', *SMALL])},
    "net5": {"alone": (CONTEST, [ONCE, 'member=[{model="net5"}]', *SMALL])},  # 107 million weights: most of the time
    "balance": {k: (CONTEST, [ONCE, ONE, f"prepare=[{v}]", 'output.baseline=""', *SMALL]) for k, v in STEPS.items()},
}


def main() -> None:
    """Run one study's trainings and write down what they scored."""
    study = sys.argv[1]
    data = Path(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("WAVEFOLD_DATA", HERE.parents[1] / "shared" / "data"))
    for name, (folder, changes) in STUDIES[study].items():
        out = Path("runs") / f"{study}-{name}"
        words = ["wavefold", "train", "heartbeat", "--data", str(data / folder), "--out", str(out)]
        words += [w for change in changes for w in ("--set", change)]
        subprocess.run([str(Path(sys.executable).parent / words[0]), *words[1:]], check=True)
        write_rows(study, name, out, " ".join(words).replace(str(data), "DATA"))


def write_rows(study: str, name: str, out: Path, command: str) -> None:
    """Append a row for the ensemble, each member and each baseline of a run."""

    scores, facts = (json.loads((out / name).read_text()) for name in ("scores.json", "run.json"))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True
    ).stdout.strip()
    rows = [{"name": "ensemble", **scores["score"]}, *scores["members"], *scores["baselines"]]
    path = HERE / "results.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if fresh:
            writer.writerow(COLUMNS)
        for row in rows:
            values = [f"{v:.5g}" for metric in ("l1", "accuracy", "macro-f1") for v in row[metric]]
            by_class = " ".join(f"{v:.4f}" for v in row["f1-by-class"])
            about = [scores["n"], scores["seconds"], facts["machine"], commit, command]
            writer.writerow([datetime.date.today(), study, f"{name}: {row['name']}", *values, by_class, *about])


if __name__ == "__main__":
    main()
