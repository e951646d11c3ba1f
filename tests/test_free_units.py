"""A change of the values' unit changes no score: whatever a step or a net takes as large is learned on the training part.

A power of two scales floats exactly, so that every score must be the same number; 2 ** -80 is about 1e-24, 2 ** 20 about 1e6.
"""

from dataclasses import replace

import numpy as np
import pytest

import wavefold
from wavefold.api import resolve
from wavefold.core.files import write_arrays
from wavefold.data import SERIES_SIMULATORS, SERIES_WRITERS, SIMULATORS, WRITERS

LABELS = ["NORM", "MI", "STTC", "CD", "HYP"]
SMALLER = {  # by recipe, what makes its quick run quicker
    "heartbeat": {"stage.*.epochs": 2, "data.count": 300},
    "spectra": {"stage.*.epochs": 2, "data.count": 200},
    "stellar_parameters": {"stage.*.epochs": 2, "data.count": 200},
    "ecg12": {
        "stage.*.epochs": 1,
        "data.count": 200,
        "split.way": "holdout",
        "data.targets": ["NORM", "MI", "STTC", "CD", "HYP"],
    },
    "cadence": {"stage.*.epochs": 1, "data.count": 60},
    "frames": {"stage.*.epochs": 1},
    "frames_next": {"stage.*.epochs": 1},
}


def written(name, recipe, folder, factor):
    """The recipe's simulated samples or frames with their values times a factor, in a file of the recipe's layout."""
    data = recipe.data
    if recipe.windows is not None:
        sizes = {"past": recipe.windows.past, "ahead": recipe.windows.ahead}
        made = SERIES_SIMULATORS[data.simulator](data.count, 1, shape=data.shape, **sizes)
        return SERIES_WRITERS[data.writes](replace(made, frames=times(made.frames[:], factor)), folder)
    made = SIMULATORS[data.simulator](data.count, 1, shape=data.shape, classes=tuple(data.classes))
    if name in ("spectra", "stellar_parameters", "ecg12"):  # their files hold five digits, or 16 bits
        truth = {"labels": np.array(made.classes)[made.labels]} if made.targets is None else named(made)
        write_arrays(folder / "data.npz", {"signals": times(made.signals[:], factor), **truth})
        return folder / "data.npz"
    if name == "cadence":  # the contest's files are float16
        folder = WRITERS[data.writes](made, folder).parent
        for path in folder.rglob("*.npy"):
            np.save(path, times(np.load(path), factor))
        return folder
    return WRITERS[data.writes](replace(made, signals=times(made.signals[:], factor)), folder)


def named(made):
    """The columns of numbers or labels, as a table holds them."""
    return {name: column.astype(str) for name, column in zip(made.target_names, made.targets.T, strict=True)}


def times(values, factor):
    return (values.astype(np.float64) * factor).astype(np.float32)


def scores_of(recipe, source, folder):
    """Every number of a run's score row, and the power of the values' unit that it has."""
    row = wavefold.train(recipe, source, out=folder, log=lambda _: None).scores.score
    power = {"mse": 2, "mse-sum": 2, "rmse": 1, "mae": 1, "mae-sum": 1} if recipe.windows is not None else {}
    return {metric: (measure.value, power.get(metric, 0)) for metric, measure in row.measures.items()}


@pytest.mark.parametrize("name", list(SMALLER))
def test_a_change_of_unit_changes_no_score(name, tmp_path):
    recipe = resolve(name, quick=True, overrides=SMALLER[name])
    usual = scores_of(recipe, written(name, recipe, tmp_path / "data", 1.0), tmp_path / "usual")
    for power in (-80, 20):
        source = written(name, recipe, tmp_path / f"data{power}", 2.0**power)
        there = scores_of(recipe, source, tmp_path / f"times{power}")
        for metric, (value, exponent) in usual.items():
            assert there[metric][0] / 2.0 ** (power * exponent) == pytest.approx(value, rel=1e-6, nan_ok=True), (power, metric)
