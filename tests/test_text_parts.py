"""A large text file read in parts gives what it gives when it is read whole."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavefold.core.errors import DataError
from wavefold.data import LAYOUTS, read_samples
from wavefold.data.read_samples import How, in_parts, part_table
from wavefold.data.table import Table
from wavefold.data.text_parts import Span, opened, spans_of

ROWS = 10_000  # more than two blocks of 4,096
HEAD = "id,heartbeat_signals,label"


@pytest.fixture(autouse=True)
def _small_files_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_samples, "LARGE_TEXT", 0)


def contest_lines(rows: int = ROWS) -> list[str]:
    values = np.random.default_rng(0).integers(0, 999, (rows, 40))
    return [HEAD, *(f'b{i},"{",".join(map(str, row))}",{i % 3}.0' for i, row in enumerate(values.tolist()))]


def wide_lines(rows: int = ROWS, head: str = "t0,t1,t2,t3,t4,label") -> list[str]:
    values = np.random.default_rng(1).integers(0, 999, (rows, 5))
    return [head, *(f"{','.join(map(str, row))},{'ab'[i % 2]}" for i, row in enumerate(values.tolist()))]


def write(path: Path, lines: Sequence[str], *, end: str = "\n", mark: str = "") -> Path:
    data = (mark + end.join([*lines, ""])).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def parts_of(path: Path, *, labels: bool = True, **how: Any) -> list[Table]:
    found = How(**how).find(path)
    made = in_parts(found, How(**how), labels=labels, size=0)  # parts of one block, 4,096 rows
    assert made is not None
    with opened(path) as part:
        return [part_table(found, How(**how), part(span), labels=labels) for span in made.spans]


def whole_of(path: Path, *, labels: bool = True, **how: Any) -> Table:
    found = How(**how).find(path)
    options = {"skip_bad": True} if how.get("skip_bad") else {}
    return LAYOUTS[found.layout].read(found.path, labels=labels, **options)


def assert_same(parts: Sequence[Table], whole: Table) -> None:
    assert np.array_equal(np.concatenate([part.signals for part in parts]), whole.signals)
    assert [i for part in parts for i in part.ids.tolist()] == whole.ids.tolist()
    assert [line for part in parts for line in part.lines.tolist()] == whole.lines.tolist()
    if whole.words is not None:
        assert [w for part in parts if part.words is not None for w in part.words.tolist()] == whole.words.tolist()
    assert sorted(row for part in parts for row in part.left_out) == sorted(whole.left_out)
    assert {part.positions for part in parts} == {whole.positions}


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("lines", [contest_lines(), wide_lines()], ids=["contest", "wide"])
@pytest.mark.parametrize("labels", [True, False])
def test_parts_are_the_whole(tmp_path: Path, name: str, lines: list[str], labels: bool) -> None:
    path = write(tmp_path / name, lines)
    parts = parts_of(path, labels=labels)
    assert [len(part.ids) for part in parts] == [4096, 4096, ROWS - 8192]
    assert_same(parts, whole_of(path, labels=labels))


def test_rows_are_numbered_over_blank_lines_other_line_ends_and_bad_rows(tmp_path: Path) -> None:
    lines = wide_lines()
    for at in (7, 5000, 9000):
        lines.insert(at, "")
    lines[4500], lines[8800], lines[8801] = "1,2,3,4,oops,a", "1,2", ",,,,,"
    path = write(tmp_path / "a.csv", lines, end="\r\n", mark="\ufeff")
    parts = parts_of(path, skip_bad=True)
    assert len(parts) == 3
    assert_same(parts, whole_of(path, skip_bad=True))
    with pytest.raises(DataError) as whole:
        whole_of(path)
    with pytest.raises(DataError) as parts_error:
        parts_of(path)
    assert str(parts_error.value) == str(whole.value)


def test_a_file_without_column_names_is_numbered_alike(tmp_path: Path) -> None:
    lines = [line.rpartition(",")[0] for line in wide_lines()[1:]]
    path = write(tmp_path / "a.csv", lines)
    parts = parts_of(path, labels=False)
    assert_same(parts, whole_of(path, labels=False))


def test_what_is_guessed_from_all_rows_is_read_whole(tmp_path: Path) -> None:
    nameless = write(tmp_path / "a.csv", [line.replace("a", "0").replace("b", "1") for line in wide_lines()[1:]])
    assert in_parts(How().find(nameless), How(), labels=True, size=0) is None
    few = write(tmp_path / "b.csv", ["t0,t1,t2,label", *("1,2,3,a" for _ in range(9))])  # rows may be time points
    assert in_parts(How().find(few), How(), labels=True, size=0) is None


def test_a_part_in_which_no_row_can_be_read_is_empty(tmp_path: Path) -> None:
    lines = contest_lines()
    lines[4097:8193] = [line.replace('"', '"x') for line in lines[4097:8193]]
    path = write(tmp_path / "a.csv", lines)
    parts = parts_of(path, skip_bad=True)
    assert [len(part.ids) for part in parts] == [4096, 0, ROWS - 8192]
    assert_same(parts, whole_of(path, skip_bad=True))


def test_columns_beside_the_file_join_each_part(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", contest_lines())
    write(tmp_path / "train_meta.csv", ["id,patient", *(f"b{i},p{i // 9}" for i in range(ROWS))])
    patients = [p for part in parts_of(path) for p in part.columns["patient"].tolist()]
    assert patients == [f"p{i // 9}" for i in range(ROWS)]


def test_spans_cover_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ["h", "1", "2", "", "3"])
    spans, rows = spans_of(path, 2, header=True)
    assert (spans, rows) == ([Span(0, 6, 1, 0), Span(6, 9, 4, 2)], 3)
    assert spans_of(path, 99, header=False) == ([Span(0, 9, 1, 0)], 4)


def test_a_small_file_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.csv", contest_lines(9))
    monkeypatch.setattr(read_samples, "LARGE_TEXT", path.stat().st_size + 1)
    assert in_parts(How().find(path), How(), labels=True, size=0) is None
    monkeypatch.setitem(LAYOUTS, "contest", replace(LAYOUTS["contest"], in_parts=False))
    monkeypatch.setattr(read_samples, "LARGE_TEXT", 0)
    assert in_parts(How().find(path), How(), labels=True, size=0) is None
