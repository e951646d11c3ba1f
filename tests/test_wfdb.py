"""WFDB records: the cut on numbers checkable by hand, and the real table's rows from the real records."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wavefold.core.errors import DataError, UserError
from wavefold.data import read
from wavefold.domains.heartbeat import wfdb

Real = Callable[[str], Path]
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # of wfdb, when pandas 3.1 is there


def test_window_intervals_are_medians_of_ten_seconds() -> None:
    peaks = np.array([0, 100, 210, 300, 1300, 2600, 2700])  # windows of 1250: four peaks, one, two
    assert wfdb.window_intervals(peaks).tolist() == [100] * 4 + [105] + [100] * 2


def test_beats_are_cut_scaled_and_padded() -> None:
    signal = np.zeros(230, np.float32)
    signal[[0, 10, 20, 220]] = [4, 2, -4, 9]
    beats, kept = wfdb.cut_beats(signal, np.array([0, 100, 200]))
    assert kept.tolist() == [0, 1]  # 1.2 * 100 values from 200 would pass the end
    assert beats.shape == (2, 205)
    assert beats[0, [0, 1, 10, 20, 119, 120]].tolist() == np.float32([1, 0.5, 0.75, 0, 0.5, 0]).tolist()


def test_records_without_beats_marked_are_named(tmp_path: Path) -> None:
    (tmp_path / "7.hea").write_text("7 1 360 10\n")
    with pytest.raises(DataError, match=r"7.atr: file not found"):
        read(tmp_path)


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "7.hea").write_text("7 1 360 10\n7.dat 212 200 11 1024 0 0 0 MLII\n")
    (tmp_path / "7.atr").write_bytes(b"")
    with pytest.raises(DataError, match="7: cannot be read as a WFDB record"):
        read(tmp_path)


def record(folder: Path, invalid: slice) -> None:
    """A record of 1250 samples at 125 Hz with ten beats, of which some samples are invalid."""
    signal = np.sin(np.arange(1250))[:, None]
    signal[invalid] = np.nan
    wfdb.wfdb.wrsamp("7", 125, ["mV"], ["MLII"], p_signal=signal, fmt=["16"], write_dir=str(folder))
    wfdb.wfdb.wrann("7", "atr", np.arange(0, 1250, 125), ["N"] * 10, write_dir=str(folder))


def test_beats_with_invalid_samples_are_dropped_and_told(tmp_path: Path) -> None:
    record(tmp_path, slice(500, 501))
    data = read(tmp_path)  # each beat lasts 150 samples, so sample 500 is in those from 375 and 500; 1125 passes the end
    assert data.ids.tolist() == [f"7:{at}" for at in (0, 125, 250, 625, 750, 875, 1000)]
    assert np.isfinite(data.signals).all()
    assert data.notes == ("1 beat cut short by the end of the record left out", "2 beats with invalid samples left out")
    bare = read(tmp_path, labels=False)
    assert bare.labels is None
    assert bare.ids.tolist() == data.ids.tolist()


def test_records_without_a_valid_beat_are_refused(tmp_path: Path) -> None:
    record(tmp_path, slice(0, 1250, 50))
    with pytest.raises(DataError, match="no annotated beat with only valid samples in 1 record"):
        read(tmp_path)


def test_a_database_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(database: str, dl_dir: str) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("wfdb.dl_database", no_network)
    with pytest.raises(UserError, match=r"physionet:mitdb: download failed \(no route to host\)"):
        read("physionet:mitdb")


def test_a_database_is_fetched_once(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def fetch(database: str, dl_dir: str) -> None:
        fetched.append(database)
        for file in real("mitbih_beats/raw_wfdb").glob("100.*"):
            (Path(dl_dir) / file.name).write_bytes(file.read_bytes())

    monkeypatch.setattr("wfdb.dl_database", fetch)
    assert len(read("physionet:mitdb")) == len(read("physionet:mitdb")) == 2271
    assert fetched == ["mitdb"]


@pytest.mark.slow
def test_real_records_give_the_real_table(real: Real) -> None:
    ours = read(real("mitbih_beats/raw_wfdb"))
    assert ours.groups is not None
    assert set(ours.groups.tolist()) == {"100", "106", "118", "208"}
    place = {}
    for at, name in enumerate(ours.ids.tolist()):
        record, sample = name.split(":")
        place[record, round(int(sample) * 25 / 72)] = at
    with gzip.open(real("mitbih_beats/train_meta.csv.gz"), "rt") as stream:
        wanted = {m["id"]: m for m in csv.DictReader(stream) if m["record"] in set(ours.groups.tolist())}
    at = {key: place[m["record"], int(m["sample_125hz"])] for key, m in wanted.items()}
    assert sorted(at.values()) == list(range(9528))  # all rows of the table, and no others
    with gzip.open(real("mitbih_beats/train.csv.gz"), "rt") as stream:
        for line in stream:
            key = line.split(",", 1)[0]
            if key in wanted:
                row = np.array(line.split('"')[1].split(","), np.float32)
                np.testing.assert_array_equal(ours.signals[at[key], 0], row)
    labels = [ours.classes[ours.known_labels()[at[key]]] for key in wanted]
    assert labels == [m["label"] for m in wanted.values()]
