"""Simulated heartbeats: the contest's shares, cut and scale; written and read back; neither trivial nor noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from wavefold.core.errors import DataError, UserError
from wavefold.data import SIMULATORS, WRITERS, read
from wavefold.data.dataset import Dataset
from wavefold.domains.heartbeat.contest_csv import write_contest
from wavefold.domains.heartbeat.simulate import simulate_beats, whole_parts


def last_values(data: Dataset) -> np.ndarray:
    """Values before the zeros at the end, by sample."""
    signals = data.signals[:, 0]
    return signals.shape[1] - np.argmax(signals[:, ::-1] > 0, axis=1)


def test_shares_are_exact() -> None:
    assert whole_parts(1009, (0.643, 0.046, 0.141, 0.170)).tolist() == [649, 46, 142, 172]
    assert np.bincount(simulate_beats(1000, 0).known_labels()).tolist() == [643, 46, 141, 170]


@pytest.mark.parametrize("name", SIMULATORS)
def test_same_seed_same_beats(name: str) -> None:
    shape = {"cadence": (6, 32, 32), "ecg12": (12, 205)}.get(name, (1, 205))
    one, again, other = (SIMULATORS[name](50, seed, shape=shape) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.signals[:], again.signals[:])
    assert not np.array_equal(one.signals[:], other.signals[:])
    assert len(set(one.ids.tolist())) == 50


@pytest.mark.parametrize("name", ["ecg", "spectra"])
@pytest.mark.parametrize(
    ("shape", "words"), [((2, 205), "needs 1 channel, got 2"), ((6, 273, 256), r"needs \[1, length\], got \[6, 273, 256\]")]
)
def test_signals_of_one_axis_have_one_channel(name: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(UserError, match=f"data.shape: simulator '{name}' {words}"):
        SIMULATORS[name](4, 0, shape=shape)


def test_cut_is_the_contests() -> None:
    data = simulate_beats(2000, 1)
    assert data.signals.shape == (2000, 1, 205)
    assert (data.signals.min(axis=2) == 0).all()
    assert (data.signals.max(axis=2) == 1).all()
    last = last_values(data)
    assert last.min() >= 34
    assert 118 <= np.median(last) <= 128


def test_classes_overlap_yet_differ() -> None:
    data = simulate_beats(3000, 2)
    x, y = data.signals[:, 0], data.known_labels()
    right = RidgeClassifier().fit(x[:2000], y[:2000]).predict(x[2000:]) == y[2000:]
    assert 0.75 < right.mean() < 0.97  # the larger class alone would give 0.64


def test_written_beats_read_back_the_same(tmp_path: Path) -> None:
    data = simulate_beats(300, 5)
    write_contest(data, tmp_path)
    back = read(tmp_path)
    np.testing.assert_array_equal(back.signals, data.signals)
    assert data.groups is not None
    assert back.groups is not None
    assert back.groups.tolist() == data.groups.tolist()
    assert back.known_labels().tolist() == data.known_labels().tolist()
    first = (tmp_path / "train.csv").read_text().splitlines()[1]
    assert first.startswith('0,"')
    assert first.endswith(f",{data.classes[int(data.known_labels()[0])]}.0")


@pytest.mark.parametrize("name", sorted({*WRITERS} - {"ptbxl"}))  # that one has 16-bit steps; see test_ptbxl.py
def test_any_float32_is_written_as_exactly_as_the_layout_can(tmp_path: Path, name: str) -> None:
    values = np.float32([[[1e-30, -2.5, 3.0e38, 0.1]], [[1.0, 1.1e-7, 0.0, 1 - 2**-24]]])
    if name == "cadence":  # six panels of half precision
        values = np.float16(np.resize([[6e-8, -2.5, 65504, 0.1], [1.0, 1.1e-7, 0.0, 1 - 2**-11]], (2, 6, 2, 2))).astype("f4")
    data = Dataset(signals=values, ids=np.array(["a", "b"]))
    for folder, part in (("two", data), ("one", data.take(slice(1, 2)))):
        back = read(WRITERS[name](part, tmp_path / folder, "test"))
        digits = 5e-5 if name == "spectra" else 0  # that contest's files have five significant digits
        np.testing.assert_allclose(back.signals, part.signals, rtol=digits)
        assert back.labels is None


def test_words_with_commas_and_quotes_read_back(tmp_path: Path) -> None:
    data = Dataset(
        signals=np.float32([[[0, 1]], [[0.5, 1]], [[1, 0]]]),
        ids=np.array(["a,b", 'c"d', "plain"]),
        labels=np.array([0, 1, 2]),
        classes=("early, mild", 'the "other"', "7"),
        groups=np.array(['p,"1"', "p2", "p3"]),
    )
    back = read(write_contest(data, tmp_path), classes=data.classes)
    np.testing.assert_array_equal(back.signals, data.signals)
    assert back.groups is not None
    assert data.groups is not None
    assert (back.ids.tolist(), back.groups.tolist()) == (data.ids.tolist(), data.groups.tolist())
    assert back.known_labels().tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"'a\\nb' contains a line break"):
        write_contest(replace(data, ids=np.array(["a\nb", "c", "d"])), tmp_path / "more")


@pytest.mark.parametrize("there", ["train.csv", "train_meta.csv"])
def test_nothing_is_written_over(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(UserError, match=f"{there}: already exists; choose another folder"):
        write_contest(simulate_beats(4, 0), tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_contest_layout_holds_one_channel(tmp_path: Path) -> None:
    data = simulate_beats(4, 0)
    with pytest.raises(DataError, match="has 2 channels"):
        write_contest(replace(data, signals=np.repeat(data.signals, 2, axis=1)), tmp_path)


def test_bad_counts_are_refused() -> None:
    with pytest.raises(UserError, match="0 beats"):
        simulate_beats(0, 0)
