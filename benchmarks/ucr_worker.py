"""Fits and predicts for benchmarks/ucr.py, in the environment of the method, one task after another on one thread.

A task is a line of JSON on standard input: data (path of a set's .npz), fold, method, seed, scaled, out (path for an .npz of
`probabilities`, (sample, class), and `labels`). The answer is a line on standard output: fit_s and predict_s, processor seconds
of this process; warm_up_s, those of the method's first, tiny task, in which numba compiles; or error. Needs only numpy beside
the method's package.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

ROCKET = "aeon.classification.convolution_based"
# Name: what is built, its arguments, and whether its probabilities are more than 0 and 1.
METHODS: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "SignalClassifier": ("wavefold:SignalClassifier", (), True),
    "SignalClassifier kernels": ("wavefold:SignalClassifier", ("kernels",), True),
    "MiniRocket": (f"{ROCKET}:MiniRocketClassifier", (), False),
    "MultiRocket": (f"{ROCKET}:MultiRocketClassifier", (), False),
    "Hydra": (f"{ROCKET}:HydraClassifier", (), False),
    "MultiRocket-Hydra": (f"{ROCKET}:MultiRocketHydraClassifier", (), False),
    "QUANT": ("aeon.classification.interval_based:QUANTClassifier", (), True),
}
OURS = tuple(name for name, (path, _, _) in METHODS.items() if path.startswith("wavefold"))
PEERS = tuple(name for name in METHODS if name not in OURS)


def read_fold(path: str, fold: int, *, scaled: bool) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, int]:
    """Samples (channel, position), their class numbers (sample,), which are tested (sample,), and the number of classes."""
    with np.load(path, allow_pickle=False) as kept:
        values, lengths, labels, classes = (kept[name] for name in ("values", "lengths", "labels", "classes"))
        tested = kept["fold"] == fold
    samples = np.split(values, np.cumsum(lengths)[:-1], axis=1)
    return [standardised(s) for s in samples] if scaled else samples, labels, tested, len(classes)


def standardised(sample: np.ndarray) -> np.ndarray:
    """A sample (channel, position) with mean 0 and deviation 1 in each channel, which the archive's sets mostly have."""
    sample = sample.astype(np.float64)
    spread = sample.std(axis=1, keepdims=True)
    return ((sample - sample.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)).astype(np.float32)


def padded(samples: list[np.ndarray]) -> np.ndarray:
    """Samples as one array (sample, channel, position), shorter ones filled with zeros, as aeon's padding and ours do."""
    longest = max(sample.shape[1] for sample in samples)
    return np.stack([np.pad(sample, ((0, 0), (0, longest - sample.shape[1]))) for sample in samples])


def new_classifier(method: str, seed: int) -> Any:
    """A classifier with its defaults and a seed."""
    path, options, _ = METHODS[method]
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)(*options, random_state=seed)


def fit_and_predict(method: str, seed: int, X: Any, y: np.ndarray, T: Any, classes: int) -> tuple[np.ndarray, float, float]:
    """Probabilities (sample, class) of T, processor seconds of fit and of predict. A class that y lacks has probability 0."""
    classifier = new_classifier(method, seed)
    begun = time.process_time()
    classifier.fit(X, y)
    fitted = time.process_time()
    found = classifier.predict_proba(T)
    ended = time.process_time()
    probabilities = np.zeros((len(T), classes))
    probabilities[:, np.asarray(classifier.classes_)] = found
    return probabilities, fitted - begun, ended - fitted


def warm_up(method: str, channels: int) -> float:
    """Processor seconds of the first use, on noise: imports, and what numba compiles; ours does so from some 200,000 values."""
    begun = time.process_time()
    count, length = (1000, 256) if method in OURS else (24, 64)
    noise = np.random.default_rng(0).normal(size=(count, channels, length))
    signals = noise.astype(np.float32) if method in OURS else noise
    fit_and_predict(method, 0, signals, np.arange(count) % 3, signals[:6], 3)
    return time.process_time() - begun


def answer(task: dict[str, Any], warm: dict[tuple[str, bool], float]) -> dict[str, float]:
    """Do one task. warm: seconds of the warm-ups so far, by method and whether there are several channels."""
    samples, labels, tested, classes = read_fold(task["data"], task["fold"], scaled=task["scaled"])
    signals = padded(samples)
    if task["method"] in PEERS:
        signals = signals.astype(np.float64)  # what aeon's own readers give
    several = signals.shape[1] > 1
    if (task["method"], several) not in warm:
        warm[task["method"], several] = warm_up(task["method"], min(signals.shape[1], 3))
    train = signals[~tested], labels[~tested]
    found, fit_s, predict_s = fit_and_predict(task["method"], task["seed"], *train, signals[tested], classes)
    np.savez(task["out"], probabilities=found, labels=labels[tested])
    return {"fit_s": fit_s, "predict_s": predict_s, "warm_up_s": warm[task["method"], several], "n_train": int((~tested).sum())}


def serve(write: Callable[[str], object]) -> None:
    """Answer tasks until standard input ends."""
    warm: dict[tuple[str, bool], float] = {}
    for line in sys.stdin:
        try:
            found: dict[str, Any] = answer(json.loads(line), warm)
        except Exception as error:  # a method that fails on a set must not end the others
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"}
        write(json.dumps(found) + "\n")


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not look like an answer
    serve(answers.write)
