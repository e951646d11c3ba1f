"""The first line of a wide CSV: no sample is lost to a header, numbers may be names, long tables are refused; long lines."""

import csv
import time
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest

import wavefold
from wavefold.api import check, resolve
from wavefold.core.errors import DataError, UserError
from wavefold.data import csv_text, read
from wavefold.recipe import parse_override

KERNELS = {"member": [{"model": "kernels"}], "split.validation": 0.2, "output.baseline": ""}


def beats(count=60, length=187, classes=5, seed=0):
    """Bumps whose place depends on the class: (sample, position), and class numbers."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % classes
    at = 10 + labels * (length - 20) / (classes - 1)
    signals = np.exp(-(((np.arange(length) - at[:, None]) / 3) ** 2)) + rng.normal(0, 0.03, (count, length))
    return signals.round(4), labels


@pytest.fixture
def kaggle(tmp_path):
    """A file as Kaggle's: no header, 187 values, the label 0.0 to 4.0 last."""
    signals, labels = beats()
    pd.DataFrame(np.c_[signals, labels]).to_csv(tmp_path / "train.csv", header=False, index=False)
    return tmp_path / "train.csv", signals, labels


def test_a_file_without_a_header_is_read_whole(kaggle):
    path, signals, labels = kaggle
    data = read(path, cache=False)
    np.testing.assert_array_equal(data.signals[:, 0], signals.astype(np.float32))
    assert data.known_labels().tolist() == labels.tolist()
    assert data.classes == ("0", "1", "2", "3", "4")
    assert data.ids.tolist() == [str(i) for i in range(60)]
    assert any("line 1 (0.0038, -0.0038, ..., 0.0) is taken for a sample" in note for note in data.notes)
    assert any("column '187', the last one, is taken for the label" in note for note in data.notes)


@pytest.mark.parametrize("index", [False, True])
def test_numbers_that_pandas_writes_for_a_header_are_names(kaggle, index):
    path, signals, labels = kaggle
    numbered = path.with_name("numbered.csv")
    pd.read_csv(path, header=None).to_csv(numbered, index=index)
    for options in ({}, {"label_column": "187"}):
        data = read(numbered, cache=False, **options)
        np.testing.assert_array_equal(data.signals[:, 0], signals.astype(np.float32))
        assert data.known_labels().tolist() == labels.tolist()
    recipe = resolve("heartbeat", overrides=dict([parse_override("data.label=187")]))  # typed as a number
    assert check(recipe, numbered)[0].startswith("60 samples, 1 channel of 187 values")


def test_a_header_above_settles_what_line_1_is(kaggle):
    path, _, _ = kaggle
    for name in ("named.csv", "a_numbered.csv"):
        pd.read_csv(path, header=None).to_csv(path.with_name(name), index=False)
    numbered = path.with_name("a_numbered.csv")
    names = ",".join(f"t{k}" for k in range(187)) + ",label\n"
    path.with_name("named.csv").write_text(names + path.read_text())
    data = read(path.with_name("named.csv"), cache=False)
    assert (len(data), data.notes) == (60, ())
    numbered.write_text(names + numbered.read_text())  # its numbers are a sample then, as the note says
    assert len(read(numbered, cache=False)) == 61


def test_the_label_of_ucr_files_stands_first(tmp_path):
    signals, labels = beats(30, 40, 2)
    pd.DataFrame(np.c_[labels + 1, signals]).to_csv(tmp_path / "a.csv", header=False, index=False)
    data = read(tmp_path / "a.csv", cache=False)
    assert data.classes == ("1", "2")
    np.testing.assert_array_equal(data.signals[:, 0], signals.astype(np.float32))
    assert any("column '0', the first one, is taken for the label" in note for note in data.notes)


def test_two_columns_that_could_be_the_label_are_both_named(tmp_path):
    signals, labels = beats(40, 40, 2)
    pd.DataFrame(np.c_[np.arange(40) % 3, signals, labels]).to_csv(tmp_path / "a.csv", header=False, index=False)
    with pytest.raises(DataError, match=r"name their column, such as --set data.label=41 \(columns 41, 0 hold few"):
        check("heartbeat", tmp_path / "a.csv")
    data = read(tmp_path / "a.csv", cache=False, label_column="41")
    assert (data.classes, data.signals.shape) == (("0", "1"), (40, 1, 41))


def test_a_first_sample_that_became_the_header_is_seen(kaggle):
    path, _, _ = kaggle
    lost = path.with_name("lost.csv")
    pd.read_csv(path).to_csv(lost, index=False)  # the common slip
    for options in ({}, {"label_column": "0.0"}):
        with pytest.raises(DataError, match=r"lost.csv line 1: looks like a sample that was taken for column names, as '-0.*'"):
            read(lost, cache=False, **options)
    pd.read_csv(path, header=None).to_csv(lost, index=False)  # as the line says
    assert len(read(lost, cache=False)) == 60


@pytest.mark.parametrize("ids", [False, True])
def test_samples_with_words_and_no_header_are_refused_with_a_header_that_works(tmp_path, ids):
    signals, labels = beats(30, 20, 3)
    frame = pd.DataFrame(signals.astype(str))
    frame["l"] = np.array(["N1", "S1", "V1"])[labels]
    if ids:
        frame.insert(0, "i", [f"p{i}" for i in range(30)])
    path = tmp_path / "words.csv"
    frame.to_csv(path, header=False, index=False)
    for options in ({}, {"label_column": "N1"}, {"layout": "wide"}):
        with pytest.raises(DataError, match=r"words.csv line 1: looks like a sample \(.*, not like column names") as caught:
            read(path, cache=False, **options)
    path.write_text(str(caught.value).rpartition("such as ")[2] + "\n" + path.read_text())
    data = read(path, cache=False)
    assert (data.signals.shape, data.classes) == ((30, 1, 20), ("N1", "S1", "V1"))
    np.testing.assert_array_equal(data.signals[:, 0], signals.astype(np.float32))


@pytest.mark.parametrize(
    "names",
    [
        [f"{4000 + 2 * k}" for k in range(30)],
        [f"{4000 - 0.5 * k}" for k in range(30)],
        [f"{10 ** (3.6 + k / 100):.3f}" for k in range(30)],
        sorted(str(k) for k in range(30)),
        [str(k) for k in range(30)][::-1],
        [str(k) for k in range(-10, 20)],
    ],
    ids=["wavelengths", "falling", "logarithmic", "text order", "reversed", "lags"],
)
def test_numbers_that_name_positions_are_a_header(tmp_path, names):
    signals, labels = beats(20, 30, 2)
    frame = pd.DataFrame(signals, columns=names)
    frame["label"] = labels
    frame.to_csv(tmp_path / "a.csv", index=False)
    data = read(tmp_path / "a.csv", cache=False)
    assert (data.positions, len(data), data.notes) == (tuple(names), 20, ())


@pytest.mark.parametrize("first", [False, True])
def test_a_run_reads_files_without_a_header_however_few_rows_they_have(tmp_path, first):
    signals, labels = beats(80, 40, 2)
    both = np.c_[labels, signals] if first else np.c_[signals, labels]
    pd.DataFrame(both).to_csv(tmp_path / "train.csv", header=False, index=False)
    run = wavefold.train("heartbeat", tmp_path / "train.csv", out=tmp_path / "run", overrides=KERNELS, log=lambda _: None)
    pd.DataFrame(both[:6]).to_csv(tmp_path / "few.csv", header=False, index=False)
    pd.DataFrame(both[::2][:6]).to_csv(tmp_path / "one_class.csv", header=False, index=False)
    pd.DataFrame(signals[:6]).to_csv(tmp_path / "bare.csv", header=False, index=False)
    said = []
    usual = run.predict(tmp_path / "few.csv", warn=said.append).probabilities
    assert usual.shape == (6, 2)
    assert any("of whole numbers, which is not among those of the run, is left out" in line for line in said)
    if not first:
        assert run.predict(tmp_path / "bare.csv", warn=said.append).probabilities.tolist() == usual.tolist()
    for name in ("few.csv", "one_class.csv"):
        assert run.score(tmp_path / name, warn=said.append).as_json()["others"]["accuracy"] == 1.0


@pytest.mark.parametrize("key", ["id", "patient", "series"])
def test_a_long_table_is_refused_with_a_pivot_that_works(tmp_path, monkeypatch, key):
    signals, labels = beats(30, 20, 2)
    rows = [
        (f"p{i:02}", k * 0.008, v, ("early", "late")[labels[i]]) for i, row in enumerate(signals) for k, v in enumerate(row)
    ]
    path = tmp_path / "long.csv"
    pd.DataFrame(rows, columns=[key, "time", "ecg", "label"]).to_csv(path, index=False)
    with pytest.raises(DataError, match="looks like a long table, one row for each time point") as caught:
        check("heartbeat", path)
    monkeypatch.chdir(tmp_path)
    made = str(caught.value).rpartition("such as ")[2].removesuffix(" makes")
    exec(made, {"pandas": pd})
    data = read(tmp_path / "wide.csv", cache=False)
    np.testing.assert_allclose(data.signals[:, 0], signals, atol=1e-6)
    assert data.classes == ("early", "late")


def test_a_long_table_is_seen_without_a_name_for_its_time(tmp_path):
    rows = [(f"p{i}", k, float(k * i)) for i in range(6) for k in range(20)]
    pd.DataFrame(rows, columns=["patient", "k", "ecg"]).to_csv(tmp_path / "long.csv", index=False)
    with pytest.raises(DataError, match="looks like a long table, one row for each time point of a patient"):
        read(tmp_path / "long.csv", cache=False)


def test_check_refuses_signals_that_train_refuses(tmp_path):
    signals, labels = beats(30, 20, 2)
    np.savez(tmp_path / "a.npz", signals=signals, labels=labels)
    with pytest.raises(UserError, match="signals of length 20 are too short") as caught:
        check("heartbeat", tmp_path / "a.npz")
    change = str(caught.value).split("--set '")[1].rstrip("'")
    assert check(resolve("heartbeat", overrides=dict([parse_override(change)])), tmp_path / "a.npz")


def test_fields_of_any_length_are_read(tmp_path):
    values = np.round(np.random.default_rng(0).random((3, 30_000)), 6)
    frame = pd.DataFrame({"id": range(3), "heartbeat_signals": [",".join(map(str, row)) for row in values], "label": [0, 1, 0]})
    frame.to_csv(tmp_path / "usual.csv", index=False)
    frame.to_csv(tmp_path / "quoted.csv", index=False, quoting=csv.QUOTE_ALL)
    usual, quoted = (read(tmp_path / name, cache=False) for name in ("usual.csv", "quoted.csv"))
    np.testing.assert_array_equal(usual.signals, quoted.signals)
    np.testing.assert_array_equal(quoted.signals[:, 0], values.astype(np.float32))


@pytest.mark.parametrize("tail", [b"\nnext\n", b""])
def test_a_line_of_many_megabytes_takes_linear_time(tmp_path, tail):
    spent = []
    for size in (8, 32):
        path = tmp_path / f"{size}.csv"
        path.write_bytes(b"1,2\n" + b"7" * (size << 20) + tail)
        start = time.process_time()
        lines = [line for _, block in csv_text.line_blocks(path) for line in block]
        spent.append(time.process_time() - start)
        assert [len(line) for line in lines] == [3, size << 20, *([4] if tail else [])]
    assert spent[1] < 12 * max(spent[0], 0.01)  # 4 times the bytes; 16 times the work if it were quadratic


def test_whether_a_word_is_a_number_takes_linear_time():
    start = time.process_time()
    assert not csv_text.is_number("7" * 4_000_000 + "x")
    assert not csv_text.is_number("7," * 2_000_000 + "x")
    assert csv_text.is_number("-1.5e3, .5,7.")
    assert time.process_time() - start < 2


@pytest.mark.parametrize("line", ["9" * 5000 + ",1,2", "1e999,1e999,2,1", "²,³,1", "٣,٤,5"])
def test_odd_numbers_are_no_crash(tmp_path, line):
    (tmp_path / "a.csv").write_text(f"{line}\n1,2,3\n", encoding="utf-8")
    with suppress(DataError):
        read(tmp_path / "a.csv", cache=False)


def test_a_column_that_counts_the_rows_is_noted(tmp_path):
    signals, labels = beats(30, 40, 2)
    pd.DataFrame(np.c_[signals, labels]).to_csv(tmp_path / "a.csv", header=False)  # pandas's index, without a name
    data = read(tmp_path / "a.csv", cache=False)
    assert data.signals.shape == (30, 1, 41)
    assert any("column '0' counts the rows, and is taken for a measurement" in note for note in data.notes)
    names = ",".join(["id", *(f"t{k}" for k in range(40)), "label"])
    (tmp_path / "b.csv").write_text(f"{names}\n{(tmp_path / 'a.csv').read_text()}")  # as the note says
    named = read(tmp_path / "b.csv", cache=False)
    assert (named.signals.shape, named.ids.tolist()[:2], named.notes) == ((30, 1, 40), ["0", "1"], ())
