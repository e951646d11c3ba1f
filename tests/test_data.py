"""Readers: every layout back to the numbers written, every defect named by file, line and id, the cache."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from valid_sources import SAMPLES
from wavefold import data as room  # not its names: pytest would take test_files for a test
from wavefold.core.errors import DataError, UserError
from wavefold.data import LAYOUTS, check_layout, read
from wavefold.data.dataset import class_names
from wavefold.data.pack import pack
from wavefold.data.read_samples import How

HEAD = "id,heartbeat_signals,label\n"
Real = Callable[[str], Path]


def written(folder: Path, text: str | bytes, name: str = "train.csv") -> Path:
    path = folder / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def fields(path: Path, **options: Any) -> str:
    """The message of the DataError that reading ends with; always one line."""
    with pytest.raises(DataError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


GOOD = HEAD + '7,"0.5,1.0,0.0",0.0\n9,"0.25,0.0,0.0",2\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.csv", GOOD),
        ("train.csv.gz", GOOD),
        ("crlf.csv", GOOD.replace("\n", "\r\n")),
        ("bom.csv", "\ufeff" + GOOD),
        ("no_last_end.csv", GOOD.rstrip("\n")),
        ("blank_lines.csv", GOOD + "\n\n"),
        ("lines_of_blanks.csv", GOOD.replace("\n", "\n \t \n") + "  "),
        ("cases.csv", GOOD.replace("id,heartbeat_signals,label", "ID,Heartbeat_Signals,LABEL")),
        ("pandas.csv", GOOD.replace("id,heart", ",heart")),
        ("pandas_twice.csv", ',id,heartbeat_signals,label\n0,7,"0.5,1.0,0.0",0.0\n1,9,"0.25,0.0,0.0",2\n'),
        ("order.csv", 'label,id,heartbeat_signals\n0.0,7,"0.5,1.0,0.0"\n2,9,"0.25,0.0,0.0"\n'),
        ("signals_first.csv", 'heartbeat_signals,label,id\n"0.5,1.0,0.0",0.0,7\n"0.25,0.0,0.0",2,9\n'),
        ("all_quoted.csv", HEAD + '"7","0.5,1.0,0.0","0.0"\n"9","0.25,0.0,0.0","2"\n'),
        ("not_json.csv", HEAD + '7," .5,1.,+0",0.0\n9,"25e-2,00, 0.0",2\n'),
    ],
)
def test_contest_layout_is_read_however_it_is_written(tmp_path: Path, name: str, text: str) -> None:
    data = read(written(tmp_path, text, name))
    assert data.signals.dtype == np.float32
    assert data.signals.tolist() == [[[0.5, 1.0, 0.0]], [[0.25, 0.0, 0.0]]]
    assert data.ids.tolist() == ["7", "9"]
    assert data.classes == ("0", "2")
    assert data.known_labels().tolist() == [0, 1]


def test_many_rows_keep_their_order_across_blocks(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((5000, 12))
    text = "".join(f'{i},"{",".join(map(repr, row))}",{i % 3}\n' for i, row in enumerate(values.tolist()))
    data = read(written(tmp_path, HEAD + text))
    np.testing.assert_array_equal(data.signals[:, 0], values.astype(np.float32))
    assert data.ids.tolist() == [str(i) for i in range(5000)]


def test_labels_may_be_absent(tmp_path: Path) -> None:
    data = read(written(tmp_path, 'id,heartbeat_signals\n1,"0.5,1"\n', "testA.csv"))
    assert data.labels is None
    with pytest.raises(DataError, match="has no labels"):
        data.known_labels()


def test_labels_are_numbered_by_the_given_classes(tmp_path: Path) -> None:
    data = read(written(tmp_path, GOOD), classes=("2", "1", "0"))
    assert data.known_labels().tolist() == [2, 0]
    assert data.classes == ("2", "1", "0")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["1", "01", "+1", "0", "1"], ("0", "+1", "01", "1")),
        (["10", "9", "-1", "1e1"], ("-1", "9", "10", "1e1")),
        (["nan", "2", "10"], ("10", "2", "nan")),
        (["NaN", "nan", "1"], ("1", "NaN", "nan")),
        (["inf", "2", "10", "-Infinity", "1e999"], ("-Infinity", "10", "1e999", "2", "inf")),
    ],
)
def test_classes_come_in_one_order_however_they_are_spelled(words: list[str], names: tuple[str, ...]) -> None:
    assert class_names(words) == class_names(words[::-1]) == names


LAYOUT_TEXTS = {
    "contest": ("train.csv", 'id,heartbeat_signals,kind\n1,"1,2",\n2,"3,4",strange\n'),
    "wide": ("train.csv", "type,class,0,1\n,,1,2\n?,strange,3,4\n"),
    "ts": ("train.ts", "@classLabel true a b\n@data\n1,2:?\n3,4:\n"),
}


@pytest.mark.parametrize("layout", LAYOUT_TEXTS)
@pytest.mark.parametrize("label_column", ["", "kind", "not_there"])
def test_for_prediction_labels_may_be_anything(tmp_path: Path, layout: str, label_column: str) -> None:
    name, text = LAYOUT_TEXTS[layout]
    data = read(written(tmp_path, text, name), label_column=label_column, labels=False)
    assert data.signals.tolist() == [[[1, 2]], [[3, 4]]]
    assert (data.labels, data.groups) == (None, None)


def test_for_prediction_groups_may_be_missing(tmp_path: Path) -> None:
    path = written(tmp_path, "id,t0,t1\na,1,2\n")
    assert read(path, group="site", label_column="kind", labels=False).groups is None
    assert "no group column 'site'" in fields(path, group="site")
    assert "no column 'kind'" in fields(path, label_column="kind")
    with_kind = read(written(tmp_path, "kind,t0,t1\n9,1,2\n", "kind.csv"), label_column="kind", labels=False)
    assert with_kind.signals.tolist() == [[[1, 2]]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "train.csv: file is empty"),
        (HEAD, "has a header but no rows"),
        (
            'id,heartbeat_signal,label\n1,"1,2",0\n',
            "line 1: no column 'heartbeat_signals'; available columns: id, heartbeat_signal, label; "
            "did you mean 'heartbeat_signal'",
        ),
        ('ids,heartbeat_signals\n1,"1,2"\n', "line 1: no column 'id'; available columns: ids, heartbeat_signals"),
        ('id,heartbeat_signals,id\n1,"1,2",1\n', "column 'id' appears twice"),
        ('1,"1,2",0\n2,"3,4",0\n', "train.csv: has no header; expected a line of column names such as id,heartbeat_signals"),
        ('1,"1,2",star\n', "line 1: column 1 is named '1', expected a header"),
        ("id;heartbeat_signals;label\n1;2;0\n", "train.csv line 1: columns seem to be separated by ';', expected commas"),
        ('id;a,heartbeat_signals\n1,"2"\n', "train.csv line 1: columns seem to be separated by ';', expected commas"),
        ("id," + "x" * 99 + "\n", f"no column 'heartbeat_signals'; available columns: id, {'x' * 60}..."),
        (HEAD + '1,"1,2",0\n,,\n', "line 3: has no values"),
        (HEAD + '1,"1,2",0\n5,"1,2,3",0\n', "line 3 (id 5): has 3 values, expected 2 as in train.csv line 2 (id 1)"),
        (HEAD + '1,"1,2",0\n5,"",0\n', "line 3 (id 5): has 1 value, expected 2"),
        (HEAD + '1,"",0\n', "line 2 (id 1): has no values"),
        (HEAD + '1,"1,2",0\n5,"1,x2",0\n', "line 3 (id 5): value 2 is 'x2', expected a number"),
        (HEAD + '1,"1,,2",0\n', "line 2 (id 1): value 2 is '', expected a number"),
        (HEAD + '1,"1,[2]",0\n', "value 2 is '[2]', expected a number"),
        (HEAD + '1,"1,nan",0\n', "value 2 is 'nan', expected a finite number"),
        (HEAD + '1,"-inf,1",0\n', "value 1 is '-inf', expected a finite number"),
        (HEAD + '1,"1e39,1",0\n', "value 1 is '1e39', expected a finite number"),
        (HEAD + '1,"1,2",0\n2,"1,2",0\n1,"1,2",0\n', "line 4: id '1' is already in line 2"),
        (HEAD + '1,"1,2",0\n2,"1,2,0\n', "line 3: "),
        (HEAD + "1,1,2,0\n", "line 2: has 4 fields, expected 3"),
        (HEAD + '1,"1,2",\n', "line 2: the label is empty"),
        ((HEAD + '1,"1,2",0\n').encode() + b'\xe9,"1,2",0\n', "line 3: byte 0xe9 is not UTF-8"),
        ((HEAD + '1,"1,2",0\n').encode() + b'2,"1,\xff",0\n', "line 3 (id 2): byte 0xff is not UTF-8"),
    ],
)
def test_defects_are_named_in_one_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    message = fields(written(tmp_path, text), layout="contest")
    assert message.startswith("train.csv")
    assert words in message


def test_a_defect_far_down_keeps_its_line_number(tmp_path: Path) -> None:
    good = "".join(f'{i},"0.5,{i}.0"\n' for i in range(40_000))
    message = fields(written(tmp_path, "id,heartbeat_signals\n" + good + '40000,"0.5,oops"\n'))
    assert message == "train.csv line 40002 (id 40000): value 2 is 'oops', expected a number"


def test_an_unknown_label_is_named_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + '1,"1,2",star\n2,"1,2",quasr\n')
    with pytest.raises(DataError, match=r"train.csv line 3: label 'quasr' is not one of qso, star.*did you mean") as e:
        read(path, classes=("qso", "star", "quasar"))
    assert "'quasar'" in str(e.value)


def test_a_cut_gzip_file_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD * 50, "train.csv.gz")
    path.write_bytes(path.read_bytes()[:-12])
    assert "truncated or corrupt" in fields(path, layout="contest")
    path.write_bytes(b"no gzip at all")
    assert fields(path, layout="contest") == "train.csv.gz: is not a gzip file; remove the suffix .gz"


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\x89PNG\r\n\x1a\n", "is a PNG image, not CSV"),
        (b"\xff\xd8\xff\xe0", "is a JPEG image, not CSV"),
        (b"%PDF-1.7\n", "is a PDF document, not CSV"),
        (b"PK\x03\x04", "is a ZIP archive, as .xlsx and .npz files are, not CSV"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, not CSV"),
        (b"\x93NUMPY\x01", "is a NumPy array, not CSV"),
        (gzip.compress(GOOD.encode(), mtime=0), "is a gzip file; add the suffix .gz"),
    ],
)
@pytest.mark.parametrize("layout", ["auto", "contest"])
def test_a_file_that_is_no_text_is_named(tmp_path: Path, start: bytes, words: str, layout: str) -> None:
    for name in ("train.csv", "train.dat"):
        assert fields(written(tmp_path, start + bytes(99), name), layout=layout) == f"{name}: {words}"


def test_wide_layout(tmp_path: Path) -> None:
    data = read(written(tmp_path, 'id,t0,t1,type\na,1,.5,star\n"b,c",3,4,qso\n'))
    assert data.signals.tolist() == [[[1, 0.5]], [[3, 4]]]
    assert data.ids.tolist() == ["a", "b,c"]
    assert data.classes == ("qso", "star")
    bare = read(written(tmp_path, "kind,0,1\n2,5,6\n1.0,7,8\n", "bare.csv"), label_column="kind")
    assert bare.ids.tolist() == ["0", "1"]
    assert bare.known_labels().tolist() == [1, 0]


@pytest.mark.parametrize("label", ["Label", "LABEL", "Type", "Class", "Y", "target"])
@pytest.mark.parametrize("name", ["ID", "Id", "id", ""])
def test_wide_columns_are_known_in_any_case(tmp_path: Path, name: str, label: str) -> None:
    path = written(tmp_path, f"{name},Patient,t0,t1,{label}\na,p,1,2,x\n \nb,q,3,4,y\n")
    for data in (read(path), read(path, label_column=label.lower(), group="PATIENT")):
        assert data.signals.tolist() == [[[1, 2]], [[3, 4]]]
        assert (data.ids.tolist(), data.classes) == (["a", "b"], ("x", "y"))
        assert data.groups is not None
        assert data.groups.tolist() == ["p", "q"]


def test_row_numbers_that_pandas_left_are_no_measurements(tmp_path: Path) -> None:
    data = read(written(tmp_path, "Unnamed: 0,ID,0,1\n0,a,1,2\n"))
    assert (data.signals.tolist(), data.ids.tolist()) == ([[[1, 2]]], ["a"])


def test_an_extra_column_may_be_named(tmp_path: Path) -> None:
    path = written(tmp_path, "id,t0,t1,age\n1,2,3,4\n")
    assert read(path, group="age").signals.tolist() == read(path, label_column="age").signals.tolist() == [[[2, 3]]]


@pytest.mark.parametrize("group", ["patient", "subject", "record", "group"])
def test_groups_of_a_wide_file_are_no_measurements(tmp_path: Path, group: str) -> None:
    path = written(tmp_path, f"{group},s1,0,1,y\n7,3,5,6,1\n8,3,7,8,0\n")
    data = read(path, group="S1")
    assert data.signals.tolist() == [[[5, 6]], [[7, 8]]]
    assert data.known_labels().tolist() == [1, 0]
    assert data.groups is not None
    assert data.groups.tolist() == ["3", "3"]
    usual = read(path)  # the cache knows one reading from the other
    assert usual.signals.tolist() == [[[3, 5, 6]], [[3, 7, 8]]]
    assert usual.groups is not None
    assert usual.groups.tolist() == ["7", "8"]


def test_y_is_a_label_only_at_the_end(tmp_path: Path) -> None:
    assert read(written(tmp_path, "x,y,z\n1,2,3\n", "xyz.csv")).signals.tolist() == [[[1, 2, 3]]]
    assert read(written(tmp_path, "label,x,y\n1,2,3\n", "label.csv")).signals.tolist() == [[[2, 3]]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,a,b\n1,2,3\n2,3\n", "line 3: has 2 fields, expected 3 as in line 1"),
        ("id,a,b\n1,2,x\n", "line 2 (id 1): value 2 is 'x', expected a number"),
        ("a,b\n1,2\n1,nan\n", "line 3: value 2 is 'nan', expected a finite number"),
        ("id,a,label,b\n1,2,3,4\n", "column 'label' is between the number columns"),
        ("type,a,b,class\n1,2,3,4\n", "columns type, class could each be the label; choose one, such as --set data.label=type"),
        ("1.5\n2.5\n", "wide.csv: holds one number a line, as a recording does; expected a row of values per sample"),
        ("id,,b\n0,1,2\n", "line 1: column 2 is named ''"),
        ("id,a,b\n1,2,3\n,,\n", "wide.csv line 3: has no values"),
        ("id,t0,t1,age,sex,label\n1,2,3,4,0,a\n", "line 1: age, sex among the numbered columns (t0, t1, ...); drop"),
        ("id,age,f_1,f_2\n1,2,3,4\n", "--set split.group=NAME for groups, --set data.label=NAME for labels"),
        ("id;t0;t1\n1;2;3\n", "wide.csv line 1: columns seem to be separated by ';', expected commas"),
        ("id\tt0\tt1\n1\t2\t3\n", "wide.csv line 1: columns seem to be separated by a tab, expected commas"),
        ("id,a,b\r1,2,3\r", "wide.csv: lines end in a bare CR; save it with LF line endings"),
        ("id,a,b\n1,2,3\n1,2,3\n", "line 3: id '1' is already in line 2"),
        ("id,a,b\n", "has a header but no rows"),
    ],
)
def test_wide_defects(tmp_path: Path, text: str, words: str) -> None:
    assert words in fields(written(tmp_path, text, "wide.csv"))


TS = "# remark\n@problemName x\n@univariate false\n@classLabel true a b\n@data\n"


def test_ts_layout_with_two_channels(tmp_path: Path) -> None:
    data = read(written(tmp_path, TS + "1,2:3,4:b\n5,6:7,8:a\n", "two.ts"))
    assert data.signals.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert data.classes == ("a", "b")
    assert data.known_labels().tolist() == [1, 0]
    plain = read(written(tmp_path, "@classLabel false\n@data\n1,2\n3,4\n", "plain.ts"))
    assert plain.labels is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TS + "1,2:3,4:b\n5,6:a\n", "two.ts line 7: has 1 channel, expected 2 and a class"),
        (TS + "1,2:3,4:b\n5,6:7:a\n", "two.ts line 7 channel 2: has 1 value, expected 2"),
        (TS + "1,2:3,?:b\n", "line 6 channel 2: value 2 is '?', expected a number"),
        (TS + "1,2:3,4:c\n", "line 6: label 'c' is not one of a, b"),
        (TS.replace("@data", "@timeStamps true\n@data"), "@timestamps true: time stamps are not supported"),
        (TS.replace("@data", "@equalLength false\n@data"), "@equalLength false"),
        (TS.replace("a b", "1 2 1.0"), "two.ts: @classLabel names class '1' twice (1, 1.0)"),
        (TS.replace("@data", ""), "has no @data line"),
        (TS, "no samples below @data"),
    ],
)
def test_ts_defects(tmp_path: Path, text: str, words: str) -> None:
    assert words in fields(written(tmp_path, text, "two.ts"))


def test_folder_holds_its_parts(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    assert room.test_files(tmp_path) == []
    written(tmp_path, 'id,heartbeat_signals\n1,"0,1,1"\n', "testA.csv")
    written(tmp_path, "id,label_0\n1,0\n", "sample_submit.csv")
    assert read(tmp_path).ids.tolist() == ["7", "9"]
    with contextlib.chdir(tmp_path):
        assert len(read(".")) == 2
    written(tmp_path, GOOD, "testB.csv")
    written(tmp_path, "id,record\n1,p\n", "testB_meta.csv")
    files = room.test_files(str(tmp_path))
    assert [f.name for f in files] == ["testA.csv", "testB.csv"]
    assert read(files[0]).ids.tolist() == ["1"]
    assert room.test_files(path) == room.test_files("physionet:mitdb") == room.test_files(tmp_path / "none") == []
    written(tmp_path, GOOD, "train2.csv")
    assert "contains train.csv, train2.csv; give the path of one" in fields(tmp_path)


def test_records_have_no_test_files(tmp_path: Path) -> None:
    written(tmp_path, "", "100.hea")
    written(tmp_path, "", "test_notes.csv")
    assert room.test_files(tmp_path) == []


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of wfdb, when pandas 3.1 is there
@pytest.mark.parametrize("name", ["100", "100.hea"])
def test_a_record_is_named_by_its_own_path(tmp_path: Path, name: str) -> None:
    for record in ("100", "101"):
        written(tmp_path, f"{record} 1 125 400\n{record}.dat 16 200 16 0 0 0 0 MLII\n", f"{record}.hea")
        written(tmp_path, np.arange(400, dtype="<i2").tobytes(), f"{record}.dat")
        marks = [(1 << 10) + 50, (1 << 10) + 100, (1 << 10) + 100, 0]  # beats N at 50, 150, 250, each after the last
        written(tmp_path, np.array(marks, "<u2").tobytes(), f"{record}.atr")
    assert read(tmp_path / name).ids.tolist() == ["100:50", "100:150", "100:250"]
    assert len(read(tmp_path)) == 6


def test_what_is_neither_file_nor_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert fields(tmp_path / "pipe") == f"{tmp_path / 'pipe'}: neither a file nor a folder"
    assert "/dev/null: neither a file nor a folder" in fields(Path("/dev/null"), layout="contest")


def test_groups_come_from_the_file_beside(tmp_path: Path) -> None:
    written(tmp_path, "id,record,site\n9,p2,x\n7,p1,y\n", "train_meta.csv")
    path = written(tmp_path, GOOD)
    for data, groups in ((read(path), ["p1", "p2"]), (read(path, group="site"), ["y", "x"])):
        assert data.groups is not None
        assert data.groups.tolist() == groups
    assert "no group column 'recrd'; available columns: record, site; did you mean 'record'?" in fields(path, group="recrd")
    written(tmp_path, "id,record\n9,p2\n", "train_meta.csv")
    assert fields(path) == "train_meta.csv: has no row for id '7'"


def test_groups_may_stand_in_the_file_itself(tmp_path: Path) -> None:
    data = read(written(tmp_path, 'id,heartbeat_signals,record,label\n1,"1,2",p3,0\n'))
    assert data.groups is not None
    assert data.groups.tolist() == ["p3"]
    assert read(written(tmp_path, GOOD)).groups is None


def test_layout_is_never_guessed(tmp_path: Path) -> None:
    assert "not one of .csv" in fields(written(tmp_path, "x", "train.dat"))
    with pytest.raises(UserError, match=r"'contst' is not one of auto, wide, .*contest, .*did you mean 'contest'"):
        read(tmp_path / "never looked for.csv", layout="contst")
    for name in ("auto", *LAYOUTS):
        check_layout(name)
    written(tmp_path, GOOD)
    assert "did you mean 'train.csv'" in fields(tmp_path / "trian.csv")
    written(tmp_path, "", "wide.csv")
    assert fields(tmp_path / "nowhere.csv").endswith("nowhere.csv: no such file or folder")
    (tmp_path / "empty").mkdir()
    assert "contains nothing; expected one train*.csv" in fields(tmp_path / "empty")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_readers_refuse_a_label_column_that_is_not_there(tmp_path: Path, layout: str) -> None:
    path = written(tmp_path, TS + "1:2:a\n" if layout == "ts" else GOOD, "x.ts" if layout == "ts" else "x.csv")
    if layout in ("arrays", "packed"):
        path = tmp_path / "x.npz"
        np.savez(path, signals=np.ones((2, 3)))
    if layout == "packed":
        pack(path, tmp_path / "pack", How())
        path = tmp_path / "pack"
    if layout in ("arrow", "zarr"):
        path = SAMPLES[layout].write(tmp_path / "written", SAMPLES[layout].samples())
    np.save(tmp_path / "7.npy", np.zeros((6, 2, 2), np.float16))  # a CSV of cadences has some beside it
    with pytest.raises(DataError, match="kind"):
        LAYOUTS[layout].read(tmp_path if layout == "wfdb" else path, label_column="kind")


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(path: Path, **options: object) -> None:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setitem(LAYOUTS, "contest", replace(LAYOUTS["contest"], read=never))


def test_second_start_reads_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "id,record\n9,p2\n7,p1\n", "train_meta.csv")
    first = read(written(tmp_path, GOOD))
    forbid(monkeypatch)
    again = read(tmp_path / "train.csv")
    np.testing.assert_array_equal(again.signals, first.signals)
    assert again.groups is not None
    assert (again.ids.tolist(), again.groups.tolist()) == (["7", "9"], ["p1", "p2"])
    assert (again.classes, again.digest) == (first.classes, first.digest)
    assert again.known_labels().tolist() == [0, 1]
    again.signals[0] = 8  # a private copy: the next start does not see it
    np.testing.assert_array_equal(read(tmp_path / "train.csv").signals, first.signals)


def test_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    first = read(path)
    stat = path.stat()
    written(tmp_path, GOOD.replace("0.25", "0.75"))  # as many bytes
    second = read(path)
    assert second.signals[1, 0, 0] == 0.75
    assert second.digest != first.digest
    assert stat.st_size == path.stat().st_size


def test_digest_is_the_same_without_a_cache(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    assert read(path).digest == read(path, cache=False).digest


def test_broken_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVEFOLD_CACHE", str(tmp_path / "cache"))
    path = written(tmp_path, GOOD)
    read(path)
    (entry,) = (tmp_path / "cache").iterdir()
    for name, keep in (("signals.npy", 100), ("ids.npy", 5), ("source.json", 20), ("labels.npy", 0)):
        (entry / name).write_bytes((entry / name).read_bytes()[:keep] if keep else b"")
        assert read(path).ids.tolist() == ["7", "9"]
    assert json.loads((entry / "source.json").read_text())["sha256"] == read(path).digest
    forbid(monkeypatch)
    assert len(read(path)) == 2


def test_what_killed_processes_left_in_the_cache_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("WAVEFOLD_CACHE", str(cache))
    stale = [cache / ".train-1.7.part", cache / "physionet" / ".mitdb.7.part"]
    others = [cache / ".train-2.8.part", cache / "train-3", cache / "physionet" / "mitdb"]
    for folder in (*stale, *others):
        folder.mkdir(parents=True)
        written(folder, GOOD)
        if folder != others[0]:  # the one at which another process is at work
            os.utime(folder, (time.time() - 90_000,) * 2)
    read(written(tmp_path, GOOD))
    assert not any(folder.exists() for folder in stale)
    assert all(folder.exists() for folder in others)


def test_no_room_for_a_cache_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAVEFOLD_CACHE", str(written(tmp_path, "a file, no folder", "cache")))
    assert len(read(written(tmp_path, GOOD))) == 2
    assert "cannot write the cache" in capsys.readouterr().err


def test_names_of_databases_are_checked() -> None:
    with pytest.raises(UserError, match="expected the short name"):
        read("physionet:../mitdb")


def test_real_contest_rows(real: Real) -> None:
    data = read(real("heartbeat"))
    assert data.signals.shape == (808, 1, 205)
    assert np.bincount(data.known_labels()).tolist() == [519, 37, 114, 138]
    assert data.signals[0, 0, 0] == np.float32(0.9912297987616655)
    (file,) = room.test_files(real("heartbeat"))
    test = read(file)
    assert (len(test), test.labels, test.ids[-1]) == (999, None, "100998")


def test_real_ecg5000(real: Real) -> None:
    data = read(real("ecg5000"))
    assert data.signals.shape == (500, 1, 140)
    assert np.bincount(data.known_labels()).tolist() == [292, 177, 10, 19, 2]
    assert data.signals[0, 0, :2].tolist() == np.float32([-0.11252183, -2.8272038]).tolist()
