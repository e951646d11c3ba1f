"""Rates of the cadence system: read, simulate, inject, train, predict, search; each against a named peer.

Run: OMP_WAIT_POLICY=passive python benchmarks/cadence_rates.py FOLDER [rounds]
FOLDER holds simulated cadences, as `wavefold simulate cadence FOLDER` writes them. Peers take turns with ours; printed are
medians of rates and of the ratios round by round.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from wavefold.data import SIMULATORS, read
from wavefold.domains.radio.drift_lines import line_drifts, line_shifts, line_sums
from wavefold.models import MODELS
from wavefold.transforms import MIXERS

SHAPE = (6, 273, 256)


def compare(what: str, peer: str, theirs: Callable[[], int], ours: Callable[[], int], rounds: int) -> None:
    """Print the median rates and ratio of two functions that return how many cadences they took."""
    theirs(), ours()
    rates = [(_rate(theirs), _rate(ours)) for _ in range(rounds)]
    slow, fast = (statistics.median(r[i] for r in rates) for i in (0, 1))
    ratio = statistics.median(b / a for a, b in rates)
    print(f"{what:<40} {fast:8.1f}/s   {peer}: {slow:8.1f}/s   ratio {ratio:.2f}", flush=True)


def _rate(context: Callable[[], int]) -> float:
    begun = time.perf_counter()
    count = context()
    return count / (time.perf_counter() - begun)


def source_reading(paths: list[Path]) -> int:
    """The source's way: np.load to float64, scaled by the largest value, to a float tensor, a file at a time."""
    for path in paths:
        image = np.load(path).astype(float)
        torch.tensor(image / np.abs(image).max(), dtype=torch.float)
    return len(paths)


def plain_sums(panels: torch.Tensor) -> int:
    """Every line summed row by row, (N, D, F)."""
    drifts = line_drifts(panels.shape[1])
    padded = F.pad(panels, (panels.shape[1], panels.shape[1]))
    for shifts in line_shifts(panels.shape[1], drifts).tolist():
        total = torch.zeros(len(panels), panels.shape[2])
        for row, shift in enumerate(shifts):
            start = panels.shape[1] + shift
            total += padded[:, row, start : start + panels.shape[2]]
    return len(panels) // 6


def train_step(net: nn.Module, signals: torch.Tensor) -> Callable[[], int]:
    """Steps of a net with injection, as the recipe takes them."""
    inject, optimiser = MIXERS["inject"](), torch.optim.Adam(net.parameters(), 1e-3)
    targets, samples, key = (
        torch.eye(2)[torch.zeros(len(signals), dtype=torch.int64)],
        torch.arange(len(signals)),
        iter(range(10**9)),
    )

    def step() -> int:
        changed, labels = inject(signals, targets, samples, next(key))
        loss = F.cross_entropy(net.train()(changed), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return len(signals)

    return step


def predict(net: nn.Module, signals: torch.Tensor) -> Callable[[], int]:
    """Answers of a net."""

    def predict() -> int:
        with torch.inference_mode():
            net.eval()(signals)
        return len(signals)

    return predict


def main(folder: Path, rounds: int) -> None:
    """Measure all."""
    dataset: Any = read(folder)
    paths = [folder / "train" / name[0] / f"{name}.npy" for name in dataset.ids[:256].tolist()]
    order = np.random.default_rng(0).permutation(256)

    def ours() -> int:
        for batch in np.split(order, 8):
            torch.from_numpy(dataset.signals[batch])
        return 256

    compare("read, random order", "np.load, astype(float), scale", lambda: source_reading(paths), ours, rounds)
    made = SIMULATORS["cadence"](64, 3, shape=SHAPE, classes=("0", "1"))
    signals = torch.from_numpy(dataset.signals[:32])
    noise = np.random.default_rng(0)

    def white() -> int:
        for _ in range(32):
            noise.standard_normal(SHAPE, np.float32)
        return 32

    compare("simulate", "its white noise alone", white, lambda: len(made.signals[:32]), rounds)
    nets = {name: MODELS[name](*SHAPE, 2) for name in ("on_off", "efficientnet_b0")}
    steps, requests = ({k: f(n, signals) for k, n in nets.items()} for f in (train_step, predict))
    compare("train on_off, injection included", "efficientnet_b0", steps["efficientnet_b0"], steps["on_off"], rounds)
    compare("predict with on_off", "efficientnet_b0", requests["efficientnet_b0"], requests["on_off"], rounds)
    panels = signals[:4].flatten(0, 1)
    compare(
        "sums of every line, all whole drifts",
        "row by row",
        lambda: plain_sums(panels),
        lambda: len(line_sums(panels)) // 6,
        rounds,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
