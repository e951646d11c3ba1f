"""The Python API: the verbs of the command line, on paths and on data in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import wavefold
from wavefold.core.errors import DataError, UserError

FAST = {"member": [{"model": "kernels"}], "output.baseline": "", "output.metric": "accuracy"}
MAPS = {"windows.past": 3, "windows.ahead": 2, "output.pictures": False, "output.baselines": ["persistence"]}


def quiet(line: str) -> None:
    """A log that keeps nothing."""


def waves(count: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Slow and fast sines with noise: (sample, 40) float32 and a word for each."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % 2
    turns = np.where(labels, 6.0, 2.0)[:, None] * np.linspace(0, 1, 40) + rng.random((count, 1))
    signals = np.sin(2 * np.pi * turns) + 0.1 * rng.standard_normal((count, 40))
    return signals.astype(np.float32), np.array(["slow", "fast"])[labels]


def train(data, out: Path, **options) -> wavefold.Run:
    return wavefold.train("heartbeat", data, out=out, quick=True, overrides=FAST, log=quiet, **options)


@pytest.fixture(scope="module")
def of_arrays(tmp_path_factory) -> wavefold.Run:
    signals, labels = waves()
    return train(signals, tmp_path_factory.mktemp("api") / "run", labels=labels)


def test_arrays_train_predict_and_score(of_arrays):
    new, labels = waves(40, 1)
    predictions = of_arrays.predict(new)
    assert predictions.probabilities.shape == (40, 2)
    assert [predictions.classes[k] for k in predictions.probabilities.argmax(1)] == labels.tolist()
    result = of_arrays.score(new, labels)
    assert (result.metric, result.value, result.n) == ("accuracy", 1.0, 40)


def test_a_run_with_arrays_resumes_and_keeps_its_data(of_arrays, tmp_path):
    signals, labels = waves()
    weights = of_arrays.folder / "scores.json"
    before = weights.read_bytes()
    assert train(signals, of_arrays.folder, labels=labels).folder == of_arrays.folder
    assert weights.read_bytes() == before
    with pytest.raises(UserError, match="holds a run of other data"):
        train(signals[:60], of_arrays.folder, labels=labels[:60])
    moved = tmp_path / "moved"
    of_arrays.folder.rename(moved)
    try:
        page = wavefold.open_run(moved).report(tmp_path / "page.html", warn=quiet)
        assert "Hardest samples" in page.read_text()
    finally:
        moved.rename(of_arrays.folder)


def test_arrays_give_what_a_file_with_the_same_values_gives(of_arrays, tmp_path):
    signals, labels = waves()
    np.savez(tmp_path / "waves.npz", X=signals, y=labels)
    again = train(tmp_path / "waves.npz", tmp_path / "run")
    kept = [np.load(run.folder / "held_out.npz")["probabilities"] for run in (of_arrays, again)]
    assert np.array_equal(*kept)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_of_columns_are_read_as_a_table(library, tmp_path):
    frames = pytest.importorskip(library)
    signals, labels = waves()
    columns = {"id": [f"s{i}" for i in range(len(signals))], **{f"t{k}": signals[:, k] for k in range(40)}, "kind": labels}
    run = train(frames.DataFrame(columns), tmp_path / "run", labels="kind")
    assert run.metadata.classes == ("fast", "slow")
    new, _ = waves(10, 1)
    predictions = run.predict(frames.DataFrame({f"t{k}": new[:, k] for k in range(40)}))
    assert len(predictions) == 10


def test_groups_stay_on_one_side(tmp_path):
    signals, labels = waves()
    run = train(signals, tmp_path / "run", labels=labels, groups=np.arange(len(signals)) // 4)
    parts = [line.split(",") for line in (run.folder / "splits.csv").read_text().splitlines()[1:]]
    sides = {}
    for name, _, part in parts:
        sides.setdefault(int(name) // 4, set()).add(part)
    assert all(len(found) == 1 for found in sides.values())


def test_maps_train_and_forecast_from_xarray_and_arrays(tmp_path):
    xarray = pytest.importorskip("xarray")
    clock = np.arange("2020-01-01", "2020-01-03", dtype="M8[h]").astype("M8[ns]")
    frames = np.random.default_rng(0).random((48, 8, 8)).astype(np.float32)
    maps = xarray.DataArray(frames, dims=("time", "y", "x"), coords={"time": clock}, name="rain", attrs={"units": "mm/h"})
    options = {"quick": True, "overrides": MAPS, "log": quiet}
    run = wavefold.train("frames", maps, out=tmp_path / "maps", **options)
    assert run.metadata.unit == "mm/h"
    forecasts = run.predict(maps)
    assert forecasts.frames.shape[2:] == (2, 8, 8)
    plain = wavefold.train("frames", frames, out=tmp_path / "array", **options)
    assert plain.predict(frames).frames.shape == forecasts.frames.shape


def test_a_notebook_shows_the_scores_with_intervals_and_baselines(of_arrays):
    page = of_arrays._repr_html_()
    assert page.startswith("<table>")
    assert "ensemble" in page
    assert "majority (baseline)" in page
    assert "95 % interval" in page
    assert "ensemble" in str(of_arrays)


def test_check_and_simulate_take_a_name(tmp_path):
    wavefold.simulate("heartbeat", tmp_path / "beats", count=60, seed=1)
    assert wavefold.check("heartbeat", tmp_path / "beats")[0].startswith("60 samples, 1 channel of 205 values")
    page = wavefold.look("heartbeat", str(tmp_path / "beats"), out=tmp_path / "look.html")
    assert "Class balance" in page.read_text()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"labels": [1]}, "no array 'signals' or 'X'; available: labels"),
        ({"signals": np.ones(3)}, "signals: 3 of float64; expected numbers"),
        ({"signals": np.ones((3, 4)), "labels": ["a", "b"]}, r"labels: shape \(2,\); expected one for each of 3 samples"),
        ({"signals": np.array([[1.0, np.nan]])}, "signals: sample 0 has a value that is not finite"),
        ({"signals": np.ones((2, 3)), "ids": ["a", "a"]}, "id 'a'"),
    ],
)
def test_a_bad_npz_is_one_line(arrays, words, tmp_path):
    np.savez(tmp_path / "x.npz", **{name: np.asarray(values) for name, values in arrays.items()})
    with pytest.raises(DataError, match=words):
        wavefold.check("heartbeat", tmp_path / "x.npz")


def test_data_that_are_nothing_known_are_refused(tmp_path):
    with pytest.raises(UserError, match="data: dict is not a path, a frame, an xarray object or an array of numbers"):
        train({"a": 1}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bad_data_in_memory_leave_nothing_and_good_ones_train_after_them(tmp_path):
    signals, labels = waves()
    with pytest.raises(DataError, match=r"labels: shape \(30,\); expected one for each of 90 samples"):
        train(signals, tmp_path / "run", labels=labels[:30])
    assert not (tmp_path / "run").exists()
    assert train(signals, tmp_path / "run", labels=labels).metadata.samples == 90
