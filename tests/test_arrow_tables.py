"""Parquet and Feather: the same samples as a CSV of the same table, lists as signals, and rows that cannot be read."""

from __future__ import annotations

import numpy as np
import pytest

from wavefold.core.errors import DataError
from wavefold.data import arrow_tables, read

pd = pytest.importorskip("pandas")
parquet = pytest.importorskip("pyarrow.parquet")
COUNT, LENGTH = 50, 20


def frame(**columns):
    rng = np.random.default_rng(3)
    values = rng.normal(size=(COUNT, LENGTH)).astype(np.float32)
    table = pd.DataFrame(values, columns=[f"t{k}" for k in range(LENGTH)])
    table.insert(0, "id", [f"a{i}" for i in range(COUNT)])
    return table.assign(label=np.arange(COUNT) % 3, patient=[f"p{i // 5}" for i in range(COUNT)], **columns)


def lists(values, **columns):
    return pd.DataFrame({"id": [f"a{i}" for i in range(len(values))], "signals": list(values), **columns})


def wrong(path, **options):
    with pytest.raises(DataError) as caught:
        read(path, cache=False, **options)
    return str(caught.value)


def same(one, other):
    assert np.array_equal(one.signals[:], other.signals[:])
    assert one.ids.tolist() == other.ids.tolist()
    assert np.array_equal(one.labels, other.labels)
    assert one.classes == other.classes
    assert np.array_equal(one.groups, other.groups)
    assert one.positions == other.positions


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
@pytest.mark.parametrize("at_once", [7, 64])
def test_a_table_is_that_of_its_csv(suffix, at_once, tmp_path, monkeypatch):
    monkeypatch.setattr(arrow_tables, "_AT_ONCE", at_once)
    monkeypatch.setattr(arrow_tables, "_VALUES", 200)
    table = frame()
    table.to_csv(tmp_path / "a.csv", index=False)
    getattr(table, f"to_{suffix}")(tmp_path / f"a.{suffix}")
    same(read(tmp_path / "a.csv"), read(tmp_path / f"a.{suffix}"))


def test_large_signals_lie_in_a_file_and_are_the_same(tmp_path, monkeypatch):
    frame().to_parquet(tmp_path / "a.parquet")
    inside = read(tmp_path / "a.parquet", cache=False)
    monkeypatch.setattr(arrow_tables, "LARGE", 0)
    outside = read(tmp_path / "a.parquet", cache=False)
    assert isinstance(outside.signals, np.memmap)
    same(inside, outside)


def test_a_column_of_lists_is_the_signal_and_other_numbers_are_columns(tmp_path):
    values = np.random.default_rng(0).normal(size=(COUNT, 2, LENGTH)).astype(np.float32)
    ages = np.arange(COUNT) * 1.5
    lists([row[0].tolist() for row in values], age=ages, label=["x", "y"] * 25).to_parquet(tmp_path / "one.parquet")
    lists([row.tolist() for row in values], age=ages, label=["x", "y"] * 25).to_parquet(tmp_path / "two.parquet")
    one, two = read(tmp_path / "one.parquet"), read(tmp_path / "two.parquet")
    assert np.array_equal(one.signals, values[:, :1])
    assert np.array_equal(two.signals, values)
    assert [float(word) for word in one.columns["age"]] == ages.tolist()


def test_the_contests_text_is_read_as_its_csv(tmp_path):
    texts = [",".join(f"{v:.4f}" for v in row) for row in frame().to_numpy()[:, 1 : LENGTH + 1]]
    table = pd.DataFrame({"id": range(COUNT), "heartbeat_signals": texts, "label": np.arange(COUNT) % 3 * 1.0})
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_parquet(tmp_path / "a.parquet")
    one, other = read(tmp_path / "a.csv"), read(tmp_path / "a.parquet")
    assert np.array_equal(one.signals, other.signals)
    assert one.classes == other.classes == ("0", "1", "2")


def test_an_index_without_a_name_is_the_id(tmp_path):
    frame().drop(columns="id").set_axis([f"row{i}" for i in range(COUNT)]).to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").ids[:2].tolist() == ["row0", "row1"]


def test_words_of_categories_and_numbers_are_labels(tmp_path):
    table = frame()
    table["label"] = pd.Categorical(np.where(table["label"] == 1, "up", "down"))
    table.to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").classes == ("down", "up")


def test_rows_that_cannot_be_read_are_named_or_left_out(tmp_path):
    values = [[1.0, 2.0, 3.0] for _ in range(6)]
    values[1], values[2], values[3], values[4] = [1.0, 2.0], None, [1.0, None, 3.0], [1.0, 2.0, np.inf]
    lists(values, label=list("ababab")).to_parquet(tmp_path / "a.parquet")
    assert wrong(tmp_path / "a.parquet") == "a.parquet row 1: column 'signals' has 2 values, expected 1 x 3 as in row 0"
    data = read(tmp_path / "a.parquet", skip_bad=True, cache=False)
    assert data.ids.tolist() == ["a0", "a5"]
    assert [why.partition(": ")[2] for _, why in data.left_out] == [
        "column 'signals' has 2 values, expected 1 x 3 as in row 0",
        "column 'signals' is empty, expected 1 x 3 as in row 0",
        "column 'signals': value 2 is empty, expected a finite number",
        "column 'signals': value 3 is inf, expected a finite number",
    ]
    table = frame()
    table.loc[3, "t4"] = np.nan
    table.to_parquet(tmp_path / "b.parquet")
    assert wrong(tmp_path / "b.parquet") == "b.parquet row 3: column 't4' is empty, expected a finite number"


def test_what_is_wrong_with_columns_is_said(tmp_path):
    path = tmp_path / "a.parquet"
    frame().to_parquet(path)
    assert "a.parquet: no column 'lable'" in wrong(path, label_column="lable")
    frame()[["id", "label", "patient"]].to_parquet(path)
    assert wrong(path).startswith("a.parquet: no column of numbers, and none of lists of numbers; columns: id, label, patient")
    lists([[1.0]] * 4, other=[[2.0]] * 4, label=list("abab")).rename(columns={"signals": "first"}).to_parquet(path)
    assert wrong(path) == "a.parquet: columns first, other hold lists; rename the one with the signals to 'signals'"
    lists([[[[1.0]]]] * 4, label=list("abab")).to_parquet(path)
    assert "lists of lists of lists" in wrong(path)
    frame().iloc[:0].to_parquet(path)
    assert wrong(path) == "a.parquet: has columns but no rows"
    path.write_bytes(path.read_bytes()[:300])
    assert wrong(path).startswith("a.parquet: not a readable Parquet file (")
