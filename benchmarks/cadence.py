"""The cadence study behind the README's figures: rows for benchmarks/cadence.csv, and docs/figures/recovery.svg.

python benchmarks/cadence.py data DIR            5,000 cadences to learn from, 4,000 of other backgrounds to test; 8 GB
python benchmarks/cadence.py train DIR NAME      NAME of RUNS: at most an hour on two cores; the same again goes on
python benchmarks/cadence.py compare DIR NAME..  AUC of runs and of the de-Doppler search, by family and by S/N
python benchmarks/cadence.py unseen DIR NAME..   AUC for families of lines that no training has: chirps, pairs, broad pulses
python benchmarks/cadence.py recovery DIR NAME CSV   by S/N and drift, beside turboSETI's runs (CSV: turboseti_recovery.csv.gz)
python benchmarks/cadence.py wider DIR           what the search finds as its range of drifts is widened
python benchmarks/cadence.py real DIR NAME NPZ   scores and pictures of contest cadences (NPZ: kaggle_cadences.npz), not kept
"""

from __future__ import annotations

import csv
import datetime
import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from wavefold.api import open_run
from wavefold.data import SIMULATORS, read
from wavefold.data.dataset import Dataset
from wavefold.data.lazy import Lazy
from wavefold.domains.radio.cadence import ON, PANELS
from wavefold.domains.radio.dedoppler import best_tracks
from wavefold.domains.radio.needles import FAMILIES, Needles, add_needles, residual, standardised
from wavefold.domains.radio.picture import draw_cadence
from wavefold.ensemble import Ensemble
from wavefold.evaluation.intervals import bootstrap_interval, paired_difference
from wavefold.evaluation.metrics import METRICS
from wavefold.models import CLASSIFIERS
from wavefold.tasks.samples.inference import predictions_for

HERE = Path(__file__).resolve().parent
TRAIN, TEST = (5000, 1), (4000, 2)  # count, seed
ONE_FOLD = [
    "split.way=holdout",
    "split.fraction=0.02",
    "split.validation=0.1",
    "split.group=background",
    "stage.0.best=log-loss",
    "combine.by=mean",
]
RUNS = {
    "on_off": [*ONE_FOLD, 'member=[{model="on_off", flips=["time", "frequency"]}]', "stage.0.epochs=16"],
    "search": [*ONE_FOLD, 'member=[{model="on_off", search=true, flips=["time", "frequency"]}]', "stage.0.epochs=8"],
    "b0": [
        *ONE_FOLD,
        'member=[{model="efficientnet_b0", flips=["time", "frequency"]}]',
        "stage.0.epochs=3",
        "stage.0.learning_rate=5e-4",
    ],
}
BINS = (0, 5, 10, 15, 25, 50, 1000)  # S/N of the best ON panel
FALSE = 1e-3  # share of cadences without any line that a threshold lets through
SHAPE = (6, 273, 256)


def make_data(folder: Path) -> None:
    """Simulate what is learned from and what is tested on."""
    for part, (count, seed) in {"train": TRAIN, "test": TEST}.items():
        _wavefold("simulate", "cadence", str(folder / part), "--count", str(count), "--seed", str(seed))


def train(folder: Path, name: str) -> None:
    """Train one of RUNS."""
    _wavefold(*train_words(folder, name))


def train_words(folder: Path, name: str) -> list[str]:
    """The command line of a training, less the program."""
    changes = [word for change in RUNS[name] for word in ("--set", change)]
    return ["train", "cadence", "--data", str(folder / "train"), "--out", str(folder / name), *changes]


def compare(folder: Path, names: Sequence[str]) -> None:
    """Score runs and the search on the test cadences, all with a needle and 1,600 others, whole and cut."""
    dataset = read(folder / "test")
    needles = dataset.known_labels() == 1
    dataset = dataset.take(np.sort(np.concatenate([np.flatnonzero(needles), np.flatnonzero(~needles)[:1600]])))
    answers = {name: (_ask(folder, name, dataset), name) for name in names}
    answers["dedoppler"] = (_search(folder / names[0], dataset)[:, 1], names[0])
    answers["stacked"] = (_stacked(folder / names[0], answers[names[0]][0], answers["dedoppler"][0]), names[0])
    labels, family = dataset.known_labels(), dataset.columns["family"]
    snr = np.array([float(word or "nan") for word in dataset.columns["snr"]])
    cuts = {"all": np.ones(len(labels), bool)} | {name: (labels == 0) | (family == name) for name in FAMILIES}
    cuts |= {f"snr {a} to {b}": (labels == 0) | ((snr >= a) & (snr < b)) for a, b in pairwise(BINS)}
    cuts["no decoys among the negatives"] = (labels == 1) | (dataset.columns["interference"] == "none")
    rows = []
    for name, (needle, run) in answers.items():
        for cut, kept in cuts.items():
            both, groups = (
                np.stack([1 - needle, needle], 1)[kept],
                (dataset.groups if dataset.groups is not None else family)[kept],
            )
            value = METRICS["auc"].function(both, labels[kept])
            low, high = bootstrap_interval(METRICS["auc"], both, labels[kept], groups=groups)
            rows.append([name, "auc", cut, int(labels[kept].sum()), int((labels[kept] == 0).sum()), value, low, high, run])
            print(f"{name:<10} {cut:<32} {value:.3f} [{low:.3f}, {high:.3f}]", flush=True)
            if name != "dedoppler":
                search = answers["dedoppler"][0][kept]
                beside = np.stack([1 - search, search], 1)
                ends = paired_difference(METRICS["auc"], both, beside, labels[kept], groups=groups)
                rows.append([name, "auc less the search's", cut, *rows[-1][3:5], *ends, run])
                print(f"{'':<10} less the search's: {ends[0]:+.3f} [{ends[1]:+.3f}, {ends[2]:+.3f}]", flush=True)
    _keep(folder, rows)


def unseen(folder: Path, names: Sequence[str]) -> None:
    """AUC for lines of families that the simulator does not draw, against the test cadences without a needle."""
    test = read(folder / "test")
    others = test.take(np.flatnonzero(test.known_labels() == 0)[:1200])
    finders: dict[str, Callable[[Dataset], Any]] = {
        name: lambda dataset, name=name: _ask(folder, name, dataset) for name in names
    }
    finders["dedoppler"] = lambda dataset: _search(folder / names[0], dataset)[:, 1]
    rows = []
    for finder, find in finders.items():
        empty = find(others)
        for family in UNSEEN:
            needle = np.concatenate([empty, find(_strange(family))])
            labels = np.repeat([0, 1], [len(empty), len(needle) - len(empty)])
            both = np.stack([1 - needle, needle], 1)
            groups = np.concatenate([others.groups, [f"{family}{k}" for k in range(len(needle) - len(empty))]])
            value, (low, high) = (
                METRICS["auc"].function(both, labels),
                bootstrap_interval(METRICS["auc"], both, labels, groups=groups),
            )
            rows.append([finder, "auc", family, int(labels.sum()), len(empty), value, low, high, names[0]])
            print(f"{finder:<10} {family:<12} {value:.3f} [{low:.3f}, {high:.3f}]", flush=True)
    _keep(folder, rows)


UNSEEN = ("chirp", "two lines", "broad pulse")


def _strange(family: str, count: int = 150) -> Dataset:
    """Cadences of other backgrounds with a line of a family of UNSEEN; height, drift and start as in training."""
    dataset = SIMULATORS["cadence"](2 * count, 5, shape=SHAPE, classes=("0", "1"))
    dataset = dataset.take(np.flatnonzero(dataset.known_labels() == 0)[:count])
    signals, (rows, columns) = dataset.signals, SHAPE[1:]
    on = torch.tensor([panel in ON for panel in range(PANELS)])

    def load(numbers: Any) -> Any:
        panels = torch.from_numpy(signals[numbers])
        draws = np.random.default_rng([UNSEEN.index(family), 9]).random((count, 6))[numbers]
        clock = np.arange(PANELS * rows) - (np.array(ON)[(draws[:, 0] * 3).astype(int)] * rows + rows // 2)[:, None]
        column = columns * (0.1 + 0.8 * draws[:, 1:2]) + (draws[:, 2:3] - 0.5) * clock
        lit, height = np.ones(column.shape, bool), 0.3 * 40 ** draws[:, 3]
        beside = [0.0]
        if family == "chirp":
            column = column + np.sign(draws[:, 4:5] - 0.5) * (10 + 40 * draws[:, 5:]) * (clock / (3 * rows)) ** 2
        elif family == "two lines":
            beside = [0.0, 12.0]
        else:
            beside = [float(k) for k in range(8)]
            lit = (clock // 12) % 5 == 0
        for some in beside:
            shape = (len(panels), PANELS, rows)
            line = Needles(
                torch.zeros(len(panels), dtype=torch.int64),
                torch.from_numpy(height / len(beside) ** 0.5).float(),
                torch.zeros(len(panels)),
                torch.from_numpy(column + some).float().view(shape),
                torch.from_numpy(lit).view(shape),
            )
            panels = add_needles(panels, line, on[None].expand(len(panels), -1), residual(torch.from_numpy(signals[numbers])))
        return standardised(panels).numpy()

    return Dataset(Lazy(load, np.arange(count), SHAPE), dataset.ids, source=family)


def recovery(folder: Path, name: str, runs: Path) -> None:
    """Share of straight needles found, at a threshold that one cadence in a thousand without any line passes."""
    empty = _empty(1000, 7)
    finders: dict[str, Callable[[Dataset], Any]] = {
        name: lambda dataset: _ask(folder, name, dataset),
        "dedoppler": lambda dataset: _search(folder / name, dataset)[:, 1],
    }
    rows, curves = [], {}
    for finder, find in finders.items():
        threshold = np.quantile(find(empty), 1 - FALSE, method="higher")
        for axis, points in {"snr": range(3, 16), "drift": np.arange(0, 0.51, 0.1)}.items():
            for point in points:
                made = _needled(point if axis == "snr" else 12.0, None if axis == "snr" else float(point), int(100 * point))
                share = float((find(made) > threshold).mean())
                curves.setdefault((finder, axis), []).append((float(point), share))
                rows.append(
                    [finder, "recovered", f"{axis} {point:.3g}", len(made), len(empty), share, *_wilson(share, len(made)), name]
                )
            print(finder, axis, curves[finder, axis], flush=True)
    _keep(folder, rows)
    _draw(curves, _turboseti(runs), HERE.parent / "docs" / "figures" / "recovery.svg")


def wider(folder: Path) -> None:
    """Straight needles of S/N 12 that the search finds above one threshold, as it looks at more drifts."""
    made, empty, rows = _needled(12.0, None, 42), _empty(200, 8), []
    found: dict[float, Any] = {}
    for drift in (0.5, 1.0, 2.0):
        scores = [_tracks(dataset, drift) for dataset in (made, empty)]
        threshold = np.quantile(scores[1], 0.99)
        found[drift] = scores[0] > max(threshold, 8.0)
        share, lost = float(found[drift].mean()), int((found[0.5] & ~found[drift]).sum())
        print(f"drift up to {drift}: found {share:.3f}, lost of those found at 0.5: {lost}; 1 % of empty above {threshold:.2f}")
        rows.append(
            ["dedoppler", "found", f"drifts up to {drift}", len(made), len(empty), share, *_wilson(share, len(made)), "on_off"]
        )
    _keep(folder, rows)


def _tracks(dataset: Dataset, drift: float) -> Any:
    parts = [torch.from_numpy(dataset.signals[start : start + 16]) for start in range(0, len(dataset), 16)]
    with torch.inference_mode():
        return torch.cat([best_tracks(part, drift=drift).score for part in parts]).numpy()


def real(folder: Path, name: str, path: Path) -> None:
    """Score contest cadences and draw them into the folder of the study."""
    with np.load(path, allow_pickle=False) as kept:
        signals, ids, target = kept["cadences"].astype(np.float32), kept["ids"].astype(np.str_), kept["target"]
    dataset = Dataset(signals, ids, source=str(path))
    for finder, scores in {name: _ask(folder, name, dataset), "dedoppler": _search(folder / name, dataset)[:, 1]}.items():
        for sample, score, label in zip(ids, scores, target, strict=True):
            print(f"{finder:<10} {sample} label {label:>2} probability {score:.3f}")
    for sample, panels, label in zip(ids, signals, target, strict=True):
        draw_cadence(folder / "real" / f"{sample}.png", panels, f"{sample}, label {label}")


def _wavefold(*words: str) -> None:
    subprocess.run([str(Path(sys.executable).parent / "wavefold"), *words], check=True)


def _ask(folder: Path, name: str, dataset: Dataset) -> Any:
    return predictions_for(open_run(folder / name), dataset)[:, 1]


def _search(run: Path, dataset: Dataset) -> Any:
    """The probabilities of the de-Doppler search that stands beside a run as its baseline, (sample, class)."""
    return CLASSIFIERS["dedoppler"].load(next(run.glob("fold0/*baseline*"))).probabilities(dataset.signals)


def _stacked(run: Path, net: Any, search: Any) -> Any:
    """Net and search as one, by logistic regression on the run's validation part, which neither has learned from."""
    parts = [next(run.glob(f"fold0/{name}")) / "scores.npz" for name in ("0-*", "*baseline*")]
    held = np.stack([np.load(part, allow_pickle=False)["validation"] for part in parts])
    data = read(json.loads((run / "run.json").read_text())["source"])
    with (run / "splits.csv").open(newline="") as stream:
        names = [row["id"] for row in csv.DictReader(stream) if row["part"] == "validation"]
    label = dict(zip(data.ids.tolist(), data.known_labels().tolist(), strict=True))
    stacker = Ensemble.fit("stack_logistic", "none", held, labels=np.array([label[name] for name in names]), seed=0)
    return stacker.probabilities(np.stack([np.stack([1 - p, p], 1) for p in (net, search)]))[:, 1]


def _empty(count: int, seed: int) -> Dataset:
    """Simulated cadences without a line of any kind."""
    dataset = SIMULATORS["cadence"](2 * count, seed, shape=SHAPE, classes=("0", "1"))
    return dataset.take(np.flatnonzero((dataset.known_labels() == 0) & (dataset.columns["interference"] == "none"))[:count])


def _needled(snr: float, drift: float | None, seed: int, count: int = 80) -> Dataset:
    """Straight needles of one S/N a panel in cadences without a line of any kind; drift in bins a row, None for all."""
    dataset = SIMULATORS["cadence"](3 * count, 1000 + seed, shape=SHAPE, classes=("0", "1"))
    clean = (dataset.known_labels() == 0) & (dataset.columns["interference"] == "none")
    dataset = dataset.take(np.flatnonzero(clean)[:count])
    signals = dataset.signals
    assert isinstance(signals, Lazy)

    def load(numbers: Any) -> Any:
        panels = torch.from_numpy(signals[numbers])
        lines = _lines(numbers, snr, drift, seed)
        on = torch.tensor([p in ON for p in range(PANELS)])
        return standardised(add_needles(panels, lines, on[None].expand(len(panels), -1), residual(panels))).numpy()

    return Dataset(Lazy(load, np.arange(len(dataset)), SHAPE), dataset.ids, source="needles")


def _lines(numbers: Any, snr: float, drift: float | None, seed: int) -> Needles:
    """Straight lines that cross the middle of an ON panel in the middle half of the window."""
    rng = np.random.default_rng([seed, 5])
    draws = rng.random((1 + int(np.max(numbers)), 4))[numbers]
    slope = np.where(draws[:, 0] < 0.5, -1, 1) * (draws[:, 1] * 0.5 if drift is None else drift)
    rows, columns = SHAPE[1:]
    clock = np.arange(PANELS * rows) - (np.array(ON)[(draws[:, 3] * 3).astype(int)] * rows + rows // 2)[:, None]
    column = torch.from_numpy((columns * (0.25 + 0.5 * draws[:, 2]))[:, None] + slope[:, None] * clock).float()
    shape = (len(draws), PANELS, rows)
    height = torch.full((len(draws),), snr / rows**0.5)
    lit = torch.ones(shape, dtype=torch.bool)
    return Needles(torch.zeros(len(draws), dtype=torch.int64), height, torch.from_numpy(slope), column.view(shape), lit)


def _turboseti(path: Path) -> dict[str, list[tuple[float, float]]]:
    """turboSETI's share of hits by S/N and by drift (Hz/s), outside the interference at 1500 to 1626 MHz."""
    with gzip.open(path, "rt") as stream:
        table = [r for r in csv.DictReader(stream) if not 1500 <= float(r["freq_mhz"]) <= 1626]
    curves = {}
    for axis, column, edges in (("snr", "snr", np.arange(1, 21.1)), ("drift", "drift_hz_s", np.arange(-0.2, 8.1, 0.4))):
        of = [(abs(float(r[column])), int(r["recovered"])) for r in table if r["run"] == axis]
        found = [[hit for value, hit in of if a <= value < b] for a, b in pairwise(edges)]
        middles = (edges[:-1] + edges[1:]) / 2
        curves[axis] = [(float(m), float(np.mean(hits))) for m, hits in zip(middles, found, strict=True) if hits]
    return curves


def _draw(
    curves: dict[tuple[str, str], list[tuple[float, float]]], peer: dict[str, list[tuple[float, float]]], path: Path
) -> None:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for place, axis, scale in zip(figure.subplots(1, 2), ("snr", "drift"), (1.0, 2.0), strict=True):
        for (finder, what), points in curves.items():
            if what == axis:
                place.plot([scale * x for x, _ in points], [y for _, y in points], marker=".", label=finder)
        theirs = [(x / 5.0 if axis == "drift" else x, y) for x, y in peer[axis]]  # they searched up to 5 Hz/s, we .5 bins a row
        place.plot(*zip(*theirs, strict=True), color="grey", marker=".", label="turboSETI 1.2.0, threshold 15")
        place.set(
            xlabel="S/N in one ON panel" if axis == "snr" else "drift / widest drift searched (at S/N 12)",
            ylabel="recovered",
            ylim=(0, 1.03),
        )
        place.legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def _wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z = 1.96
    middle, half = share + z * z / (2 * count), z * (share * (1 - share) / count + z * z / (4 * count**2)) ** 0.5
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def _keep(folder: Path, rows: Sequence[Sequence[Any]]) -> None:
    path, commit = HERE / "cadence.csv", _commit()
    fresh = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if fresh:
            writer.writerow(
                ["date", "name", "what", "cut", "positives", "negatives", "value", "low", "high", "commit", "command"]
            )
        for name, what, cut, positives, negatives, *values, run in rows:
            command = " ".join(["wavefold", *train_words(folder, run)]).replace(str(folder), "DIR")
            numbers = [f"{v:.4f}" for v in values]
            writer.writerow([datetime.date.today(), name, what, cut, positives, negatives, *numbers, commit, command])


def _commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True
    ).stdout.strip()


def main(words: Iterator[str]) -> None:
    """Take the step that the command line names."""
    step, folder = next(words), Path(next(words))
    if step == "data":
        make_data(folder)
    elif step == "train":
        train(folder, next(words))
    elif step == "compare":
        compare(folder, list(words))
    elif step == "unseen":
        unseen(folder, list(words))
    elif step == "wider":
        wider(folder)
    else:
        {"recovery": recovery, "real": real}[step](folder, next(words), Path(next(words)))


if __name__ == "__main__":
    main(iter(sys.argv[1:]))
