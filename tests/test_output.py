"""Prediction files, each read back by the field's own reader."""

import csv
import io
import resource
import sys

import numpy as np
import pytest

from wavefold.core.errors import DataError, UserError
from wavefold.tasks.samples.predictions import WRITERS, Predictions, check_target, write_predictions

IDS = ["100001", "=1+1", 'ü, "quoted"']
CLASSES = ("0", "star", "2.5")
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.0, 1 / 3, 2 / 3]])
LABELS = ["label_0", "label_star", "label_2.5"]
HEADER = ["id", *LABELS, "probability_0", "probability_star", "probability_2.5", "predicted"]


def predictions(decided=None):
    decided = np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1]]) if decided is None else decided
    return Predictions(np.array(IDS), CLASSES, PROBABILITIES, decided)


def test_csv_is_the_submission(tmp_path):
    write_predictions(tmp_path / "out.csv", predictions())
    assert (tmp_path / "out.csv").read_text() == (
        'id,label_0,label_star,label_2.5\n100001,1,0,0\n=1+1,0,0,0\n"ü, ""quoted""",0,0,1\n'
    )


def test_csv_of_cadences_holds_the_probability_of_the_last_class(tmp_path):
    odds = np.array([[1 / 3, 2 / 3], [1 - 1e-9, 1e-9], [0, 1]])
    write_predictions(tmp_path / "out.csv", Predictions(np.array(["b", "a", "c"]), ("0", "1"), odds, odds.round(), "target"))
    assert (tmp_path / "out.csv").read_text() == "id,target\nb,0.66666667\na,1e-09\nc,1\n"


def test_csv_keeps_fractions(tmp_path):
    write_predictions(str(tmp_path / "out.CSV"), predictions(np.array([[0.7, 0.2, 1], [1, 0, 0], [0, 1 / 3, 2 / 3]])))
    rows = list(csv.reader(io.StringIO((tmp_path / "out.CSV").read_text())))
    assert rows[0] == ["id", *LABELS]
    assert [row[0] for row in rows[1:]] == IDS
    assert [row[1:] for row in rows[1:]] == [["0.7", "0.2", "1"], ["1", "0", "0"], ["0", "0.33333333", "0.66666667"]]


def test_a_dash_is_standard_output(capsysbinary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_predictions("-", predictions())
    assert capsysbinary.readouterr().out.decode().splitlines()[:2] == [
        "id,label_0,label_star,label_2.5",
        "100001,1,0,0",
    ]
    assert list(tmp_path.iterdir()) == []


def test_xlsx_holds_all_and_no_formula(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    write_predictions(tmp_path / "out.xlsx", predictions())
    book = openpyxl.load_workbook(tmp_path / "out.xlsx")
    rows = list(book.active.iter_rows())
    assert [cell.value for cell in rows[0]] == HEADER
    assert [row[0].value for row in rows[1:]] == IDS
    assert {row[0].data_type for row in rows[1:]} == {"s"}
    assert [cell.value for cell in rows[1][1:]] == [1, 0, 0, 0.7, 0.2, 0.1, "0"]
    assert [row[-1].value for row in rows[1:]] == ["0", "0", "2.5"]


def test_xlsx_names_the_text_that_it_cannot_hold(tmp_path):
    pytest.importorskip("openpyxl")
    bad = Predictions(np.array(["a\x01"]), ("x",), np.ones((1, 1)), np.ones((1, 1)))
    with pytest.raises(DataError, match=r"'a\\x01'"):
        write_predictions(tmp_path / "out.xlsx", bad)


@pytest.mark.parametrize(("suffix", "package"), [(".xlsx", "openpyxl"), (".parquet", "pyarrow.parquet")])
def test_a_missing_package_is_told_before_the_work(monkeypatch, suffix, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package}, which is not installed: pip install 'wavefold\[tables\]'"):
        check_target(f"out{suffix}")


def test_parquet_holds_all(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_predictions(tmp_path / "out.parquet", predictions())
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names == HEADER
    assert table["id"].to_pylist() == IDS
    assert table["predicted"].to_pylist() == ["0", "0", "2.5"]
    assert np.array_equal(np.stack([table[name] for name in HEADER[4:7]], axis=1), PROBABILITIES)
    assert table["label_2.5"].to_pylist() == [0.0, 0.0, 1.0]


def test_npz_loads_without_pickle(tmp_path):
    write_predictions(tmp_path / "out.npz", predictions())
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["classes", "decided", "ids", "probabilities"]
        assert arrays["ids"].tolist() == IDS
        assert tuple(arrays["classes"].tolist()) == CLASSES
        assert np.array_equal(arrays["probabilities"], PROBABILITIES)
        assert arrays["decided"].sum() == 2


def test_no_inputs_give_a_header(tmp_path):
    none = Predictions(np.empty(0, np.str_), CLASSES, np.empty((0, 3)), np.empty((0, 3)))
    write_predictions(tmp_path / "out.csv", none)
    assert (tmp_path / "out.csv").read_text() == "id,label_0,label_star,label_2.5\n"


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_disk_that_is_full_keeps_the_old_file_and_leaves_no_part(tmp_path, suffix):
    if suffix in {".xlsx", ".parquet"}:
        pytest.importorskip("openpyxl" if suffix == ".xlsx" else "pyarrow")
    content = WRITERS[suffix]
    path = tmp_path / f"out{suffix}"
    path.write_text("old")
    many = Predictions(np.arange(3000).astype(np.str_), CLASSES, np.ones((3000, 3)), np.ones((3000, 3)))
    made = content(many)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(WRITERS, suffix, lambda _: made)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(made) // 2, hard))
        try:
            with pytest.raises(UserError, match="could not be written"):
                write_predictions(path, many)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"'.txt' is not one of .csv, .xlsx, .parquet, .npz, or -"):
        write_predictions(tmp_path / "out.txt", predictions())
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="could not be written"):
        write_predictions(tmp_path / "folder.csv", predictions())
    with pytest.raises(DataError, match="decided has shape"):
        predictions(np.ones((3, 2)))
