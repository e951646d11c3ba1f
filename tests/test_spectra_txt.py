"""The contest's spectra layout: every way to name it, every defect in one line, skip_bad, the cache of many files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavefold import data as room  # not its names: pytest would take test_files for a test
from wavefold.core.errors import DataError, UserError
from wavefold.data import LAYOUTS, read
from wavefold.data.bundles import contents
from wavefold.data.dataset import Dataset
from wavefold.domains.spectra import contest_txt
from wavefold.domains.spectra.contest_txt import axis_unit

Real = Callable[[str], Path]
TEXTS = {"7": "1,2,3", "12": "4,5,6\n", "9": "-1e-3, 0.5,2.5E2 \n"}
ROWS = [[1, 2, 3], [4, 5, 6], [-1e-3, 0.5, 250]]
INDEX = "id,type\n7,star\n12,galaxy\n9,star\n"


def zipped(path: Path, texts: Mapping[str, str | bytes], inside: str = "train_data/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(f"{inside}{name}.txt", text)
    return path


def unzipped(path: Path, texts: Mapping[str, str | bytes]) -> Path:
    path.mkdir(parents=True)
    for name, text in texts.items():
        (path / f"{name}.txt").write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def source(
    folder: Path, texts: Mapping[str, str | bytes] = TEXTS, index: str = INDEX, *, way: str = "zip", prefix: str = "train"
) -> Path:
    """A folder in the layout."""
    folder.mkdir(exist_ok=True)
    (folder / f"{prefix}_index.csv").write_text(index)
    if way == "zip":
        zipped(folder / f"{prefix}_data.zip", texts)
    else:
        unzipped(folder / f"{prefix}_data", texts)
    return folder


def fields(path: Path, **options: Any) -> str:
    """The message of the error that reading ends with; always one line."""
    with pytest.raises(UserError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(data: Dataset) -> None:
    np.testing.assert_array_equal(data.signals[:, 0], np.array(ROWS, np.float32))
    assert data.ids.tolist() == ["7", "12", "9"]
    assert data.classes == ("galaxy", "star")
    assert data.known_labels().tolist() == [1, 0, 1]
    assert (data.groups, data.axis, data.unit, data.left_out) == (None, None, "", ())


@pytest.mark.parametrize("way", ["zip", "folder"])
@pytest.mark.parametrize("cache", [True, False])
def test_folder_zip_and_cache_give_the_same(tmp_path: Path, way: str, cache: bool) -> None:
    path = source(tmp_path, way=way)
    for _ in range(2):
        check(read(path, cache=cache))
    check(read(path / "train_index.csv", cache=cache))


@pytest.mark.parametrize(
    ("index", "data"),
    [
        ("first_train_index_20180131.csv", "first_train_data_20180131.zip"),
        ("first_train_index_20180131.csv", "first_train_20180131.zip"),
        ("train_index.csv", "train.zip"),
        ("train-index.csv", "train"),
        ("index.csv", "data.zip"),
        ("index.csv", "spectra.zip"),
        ("INDEX.csv", "whatever"),
        ("train_index.csv", "train_data"),
    ],
)
def test_an_index_finds_its_samples_by_name(tmp_path: Path, index: str, data: str) -> None:
    (tmp_path / index).write_text(INDEX)
    zipped(tmp_path / data, TEXTS) if data.endswith(".zip") else unzipped(tmp_path / data, TEXTS)
    check(read(tmp_path))
    check(read(tmp_path, layout="spectra"))


def test_samples_may_lie_below_and_beside_litter(tmp_path: Path) -> None:
    path = source(tmp_path / "zip", {**{f"a/b/{k}": v for k, v in TEXTS.items()}, "../.7": ""})
    with zipfile.ZipFile(zipped(path / "train_data.zip", TEXTS, "deep/er/"), "a") as archive:
        archive.writestr("deep/Icon\r", b"")  # a Mac's
        archive.writestr("__MACOSX/deep/er/._7.txt", b"\0\5")
        archive.writestr("deep/.hidden.txt", "x")
        archive.writestr("deep/readme.md", "x")
    check(read(path))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "train_index.csv").write_text(INDEX)
    for name, text in TEXTS.items():
        unzipped(tmp_path / "folder" / "train_data" / f"part{name}", {name: text})
    check(read(tmp_path / "folder"))


@pytest.mark.parametrize("text", [INDEX.replace("\n", "\r\n"), "\ufeff" + INDEX, INDEX.replace("id,type", "ID,Type"),
                                  "file,type\n7.txt,star\nsub/12.txt,galaxy\n9,star\n",
                                  "type,id\nstar,7\ngalaxy,12\nstar,9\n"])  # fmt: skip
def test_an_index_may_be_written_in_many_ways(tmp_path: Path, text: str) -> None:
    check(read(source(tmp_path, index=text)))


@pytest.mark.parametrize(
    "text", [".5,+1,1.", "0.5,1,00000000000000000000001", "\ufeff0.5,1,1", " 0.5,\n1,\n1\n\n", "5e-1,01,1\r\n"]
)
def test_numbers_may_be_written_in_many_ways(tmp_path: Path, text: str) -> None:
    path = source(tmp_path, {"1": "1,2,3", "2": text, "3": "4,5,6"}, "id,type\n1,a\n2,b\n3,a\n")
    assert read(path).signals[:, 0].tolist() == [[1, 2, 3], [0.5, 1, 1], [4, 5, 6]]


@pytest.mark.parametrize("way", ["zip", "folder"])
def test_samples_without_an_index_have_no_labels(tmp_path: Path, way: str) -> None:
    path = zipped(tmp_path / "x.zip", TEXTS) if way == "zip" else unzipped(tmp_path / "x", TEXTS)
    (tmp_path / "wavelength.txt").write_text("1,2,3")
    for data in (read(path), read(path, labels=False)):
        assert data.ids.tolist() == ["7", "9", "12"]  # by number
        assert data.labels is None
        assert data.axis is not None
        assert data.signals[:, 0, 1].tolist() == [2, 0.5, 5]


@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_samples_without_an_index_may_be_named_and_marked_as_windows_does(tmp_path: Path, mark: str) -> None:
    zipped(tmp_path / "X.ZIP", {name: mark + text for name, text in TEXTS.items()})
    unzipped(tmp_path / "x", {})
    (tmp_path / "x" / "folder.txt").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "x" / f"{name}.TXT").write_text(mark + text)
    for path in (tmp_path / "X.ZIP", tmp_path / "x"):
        assert read(path).ids.tolist() == ["7", "9", "12"]


def test_a_folder_named_as_a_sample_is_none(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").mkdir()
    assert "contains notes.txt; expected one train*.csv" in fields(tmp_path)


def test_test_parts_are_read_by_their_own_name(tmp_path: Path) -> None:
    source(tmp_path)
    source(tmp_path, {"3": "7,8,9"}, "id\n3\n", prefix="first_test")
    source(tmp_path, {"4": "7,8,9"}, "id,kind\n4,a\n", prefix="ambiguous_latest")
    (file,) = room.test_files(tmp_path)
    assert file.name == "first_test_index.csv"
    check(read(tmp_path))
    for labels in (True, False):
        assert (read(file, labels=labels).ids.tolist(), read(file, labels=labels).labels) == (["3"], None)
    other = tmp_path / "ambiguous_latest_index.csv"
    assert read(other).labels is None
    assert read(other, label_column="kind").classes == ("a",)
    alone = source(tmp_path / "alone", {"3": "7,8,9"}, "id\n3\n", prefix="test")
    assert read(alone).labels is None
    assert "no column 'knd'" in fields(other, label_column="knd")
    assert read(other, label_column="knd", labels=False).labels is None
    (tmp_path / "second_train_index.csv").write_text(INDEX)
    assert fields(tmp_path).endswith("contains second_train_index.csv, train_index.csv; give the path of one of them")


def test_one_zip_may_hold_several_parts(tmp_path: Path) -> None:
    zipped(tmp_path / "all.zip", TEXTS)
    (tmp_path / "train_index.csv").write_text("id,type\n7,star\n12,galaxy\n")
    assert "all.zip 9.txt: has no row in train_index.csv" in fields(tmp_path)
    assert [id_ for id_, _ in read(tmp_path, skip_bad=True).left_out] == ["9"]
    (tmp_path / "test_index.csv").write_text("id\n9\n")
    assert read(tmp_path).ids.tolist() == ["7", "12"]
    assert read(room.test_files(tmp_path)[0]).ids.tolist() == ["9"]


@pytest.mark.parametrize(
    ("text", "axis", "unit"),
    [
        ("3700.0,3702.0,3704.0\n", [3700, 3702, 3704], "2 angstrom"),
        ("0.8, 0.8025, 0.805", [0.8, 0.8025, 0.805], "0.0025 micron"),
        ("4000,4001,4003", [4000, 4001, 4003], "angstrom"),
        ("3700\r\n3702\r\n3704\r\n", [3700, 3702, 3704], "2 angstrom"),
    ],
)
@pytest.mark.parametrize("name", ["wavelength.txt", "train_wavelength.txt", "train_data/wavelength.txt"])
def test_wavelengths_give_the_axis(tmp_path: Path, text: str, axis: list[float], unit: str, name: str) -> None:
    path = source(tmp_path, way="folder")
    (path / name).write_text(text)
    for data in (read(path), read(path)):
        assert data.axis is not None
        assert (data.axis.tolist(), data.axis.dtype, data.unit) == (axis, np.float64, unit)
    assert axis_unit(np.array([4000.0])) == "angstrom"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2,2", "wavelength.txt: value 3 is 2, expected more than the previous one, 2"),
        ("0,1,2", "value 1 is 0, expected a wavelength above 0"),
        ("1,x,2", "wavelength.txt: value 2 is 'x', expected a number"),
        ("1,2,inf", "value 3 is 'inf', expected a finite number"),
        ("", "value 1 is '', expected a number"),
        ("1,2", "train_data.zip 7.txt: has 3 values, expected 2 as in wavelength.txt"),
    ],
)
def test_wavelengths_are_checked(tmp_path: Path, text: str, words: str) -> None:
    (source(tmp_path) / "wavelength.txt").write_text(text)
    assert words in fields(tmp_path)


def test_columns_beside_the_index(tmp_path: Path) -> None:
    path = source(tmp_path, index="id,type,site\n7,star,x\n12,galaxy,y\n9,star,x\n")
    (path / "train_meta.csv").write_text("id,ra,dec,kind\n9,10,20,p\n7,10,20.001,q\n12,100,20,q\n")
    by_place = read(path)
    for data in (by_place, read(path, group="auto"), read(path, group="star")):
        assert data.groups is not None
        assert data.groups.tolist() == ["0", "1", "0"]
    by_site = read(path, group="site", label_column="kind")
    assert by_site.groups is not None
    assert (by_site.groups.tolist(), by_site.classes) == (["x", "y", "x"], ("p", "q"))
    assert by_site.digest == by_place.digest
    assert "with train_meta.csv: no group column 'sit'; available columns:" in fields(path, group="sit")
    assert "no column 'kid'; available columns: id, type, site, ra, dec, kind; did you mean 'kind'?" in fields(
        path, label_column="kid"
    )
    (path / "train_meta.csv").write_text("id,ra,dec\n9,10,20\n7,10h,20\n12,,\n")
    assert read(path).groups is None
    assert "grouping by star needs numeric ra and dec in degrees" in fields(path, group="star")
    (path / "train_meta.csv").write_text("id,ra,dec,source_key\n9,10,20,a\n7,10,20,b\n12,1,1,b\n")
    named = read(path)
    assert named.groups is not None
    assert named.groups.tolist() == ["b", "b", "a"]
    (path / "train_meta.csv").write_text("id,ra,dec\n9,10,20\n7,,\n")
    assert fields(path) == "train_meta.csv: has no row for id '12'"
    assert read(source(tmp_path / "bare"), group="auto").groups is None
    assert "no group column 'star'; available columns: type" in fields(tmp_path / "bare", group="star")


BAD = {
    "length": ({"12": "4,5"}, "train_data 12.txt: has 2 values, expected 3 as in most of train_data"),
    "word": ({"12": "4,x,6"}, "train_data 12.txt: value 2 is 'x', expected a number"),
    "json word": ({"12": "4,true,6"}, "train_data 12.txt: value 2 is 'true', expected a number"),
    "null": ({"12": "4,null,6"}, "train_data 12.txt: value 2 is 'null', expected a number"),
    "nan": ({"12": "4,5,nan"}, "train_data 12.txt: value 3 is 'nan', expected a finite number"),
    "inf": ({"12": "4,-inf,1"}, "train_data 12.txt: value 2 is '-inf', expected a finite number"),
    "whole": ({"12": f"4,1,{10**40}"}, "train_data 12.txt: value 3 is '1000"),
    "large": ({"12": "4,1e39,1"}, "train_data 12.txt: value 2 is '1e39', expected a finite number"),
    "empty": ({"12": ""}, "train_data 12.txt: file is empty, expected 3 values as in most of train_data"),
    "blank": ({"12": "\n \n"}, "train_data 12.txt: file is empty, expected 3 values"),
    "lines": ({"12": "4\n5\n6"}, "train_data 12.txt: has 1 value, expected 3"),
    "bytes": ({"12": b"\x89PNG,\xff,1"}, "train_data 12.txt: byte 0x89 is not UTF-8"),
    "missing": ({"12": None}, "train_index.csv line 3: id '12' has no 12.txt in train_data"),
    "bracket": ({"12": "4,[5],6"}, "train_data 12.txt: value 2 is '[5]', expected a number"),
}


@pytest.mark.parametrize("way", ["zip", "folder"])
@pytest.mark.parametrize("name", BAD)
def test_bad_samples_are_named_or_passed_over(tmp_path: Path, name: str, way: str) -> None:
    changes, words = BAD[name]
    path = source(tmp_path, {k: v for k, v in {**TEXTS, **changes}.items() if v is not None}, way=way)
    words = words.replace("train_data", "train_data.zip") if way == "zip" else words
    assert fields(path).startswith(words)
    for _ in range(2):  # read, then from the cache
        data = read(path, skip_bad=True)
        assert (data.ids.tolist(), data.classes) == (["7", "9"], ("star",))
        assert data.signals[:, 0].tolist() == np.array([ROWS[0], ROWS[2]], np.float32).tolist()
        ((left, why),) = data.left_out
        assert left == "12"
        assert why.startswith(words)
    assert fields(path).startswith(words)  # the cache does not hide it
    assert fields(path, cache=False).startswith(words)


@pytest.mark.parametrize("cached_first", [True, False])
def test_a_file_without_a_row_is_named_or_passed_over(tmp_path: Path, cached_first: bool) -> None:
    path = source(tmp_path, {**TEXTS, "10": "1,2,3", "8": "x"})
    words = "train_data.zip 8.txt: has no row in train_index.csv"
    if not cached_first:
        assert fields(path) == words
    data = read(path, skip_bad=True)
    assert len(data) == 3
    assert data.left_out == (("8", words), ("10", words.replace("8.txt", "10.txt")))
    assert fields(path) == words


def test_the_cache_does_not_hide_that_labels_are_missing(tmp_path: Path) -> None:
    path = source(tmp_path, index=INDEX.replace("type", "typ"))
    assert read(path, labels=False).labels is None
    assert "no column 'type'; available columns: id, typ; did you mean 'typ'?" in fields(path)
    assert read(path, label_column="typ").classes == ("galaxy", "star")


def test_the_first_in_the_indexs_order_is_named(tmp_path: Path) -> None:
    texts = {str(i): "1,2,3" for i in range(600)} | {"400": "1,2", "590": "x,1,2"}
    order = [*range(599, 300, -1), *range(301)]
    path = source(tmp_path, texts, "id,type\n" + "".join(f"{i},a\n" for i in order))
    assert fields(path).startswith("train_data.zip 590.txt: value 1 is 'x'")
    assert [i for i, _ in read(path, skip_bad=True).left_out] == ["590", "400"]


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("id,type\n7,a\n12,b\n7,a\n", "train_index.csv line 4: id '7' is already in line 2"),
        (
            "name,type\n7,a\n",
            "train_index.csv line 1: no column 'id'; available columns: name, type; expected id,type or file,type",
        ),
        (
            "id,typ\n7,a\n12,b\n9,c\n",
            "train_index.csv line 1: no column 'type'; available columns: id, typ; did you mean 'typ'?",
        ),
        ("id;type\n7;a\n", "train_index.csv line 1: columns seem to be separated by ';'"),
        ("id,type\n", "train_index.csv: contains no rows, expected a header such as id,type"),
        ("", "train_index.csv"),
        ("7,star\n12,star\n", "train_index.csv line 1: column 1 is named '7', expected a header"),
        ("id,type\n../7,a\n", "train_index.csv line 2: id '../7' is not a plain file name"),
        ("id,type\n/etc/7,a\n", "id '/etc/7' is not a plain file name"),
        ("file,type\n../7.txt,a\n", "file '../7.txt' is not a plain file name"),
        ("id,type\n,a\n", "line 2: id '' is not a plain file name"),
        ("id,type\n7\a,a\n", "train_index.csv line 2: id '7\\x07' is not a plain file name"),
        ("id,file,type\n,7,a\n", "train_index.csv line 2: id '' is empty or not printable"),
    ],
)
def test_defects_of_the_index_stay_errors(tmp_path: Path, index: str, words: str) -> None:
    path = source(tmp_path, index=index)
    for layout in ("auto", "spectra"):
        assert words in fields(path, layout=layout, skip_bad=True)


def test_sources_without_samples(tmp_path: Path) -> None:
    path = source(tmp_path / "zip", {})
    assert fields(path, skip_bad=True) == "train_data.zip: contains no .txt files, expected one <id>.txt per spectrum"
    (path / "train_data.zip").unlink()
    assert (
        "train_index.csv: found no samples beside it, expected a folder train_data or train_data.zip with <id>.txt files"
        in fields(path)
    )
    zipped(path / "a.zip", TEXTS)
    zipped(path / "b.zip", TEXTS)
    assert "a.zip, b.zip could each contain its samples; rename one after the index, such as train_data.zip" in fields(path)
    words = (
        "train_data.zip: none of the 3 spectra can be read; the first error: "
        "train_data.zip 7.txt: value 1 is 'x', expected a number"
    )
    assert fields(source(tmp_path / "bad", dict.fromkeys(TEXTS, "x")), skip_bad=True) == words
    gone = source(tmp_path / "gone", {"1": "1,2"})
    assert "none of the 3 spectra can be read; the first error: train_index.csv line 2: id '7'" in fields(gone, skip_bad=True)
    assert "train_data.zip: all .txt files are empty" in fields(source(tmp_path / "empty", dict.fromkeys(TEXTS, "")))


def test_what_lies_beside_the_samples_need_not_be_sound(tmp_path: Path) -> None:
    path = source(tmp_path, prefix="x")
    (path / "x_data.zip").rename(path / "spectra.zip")
    (path / ".venv").mkdir()
    (path / ".venv" / "python").symlink_to(sys.executable)
    (path / "broken.zip").write_bytes(b"PK\5\6" + b"\1" * 18)  # the end of a zip whose directory is nowhere
    check(read(path))


def test_columns_beside_the_index_are_looked_at_first(tmp_path: Path, parsed: list[str]) -> None:
    path = source(tmp_path)
    (path / "train_meta.csv").write_text("id,ra\n7,1\n9,1\n")
    assert fields(path) == "train_meta.csv: has no row for id '12'"
    assert parsed == []


def test_two_files_of_one_name(tmp_path: Path) -> None:
    path = source(tmp_path)
    with zipfile.ZipFile(path / "train_data.zip", "a") as archive:
        archive.writestr("again/7.txt", "1,2,3")
    assert "train_data.zip: contains 7.txt twice (train_data/7.txt), expected one file per id" in fields(path, skip_bad=True)


@pytest.mark.parametrize("name", ["../8.txt", "/8.txt", "a/../../8.txt", "..\\8.txt", "C:\\8.txt"])
def test_names_do_not_leave_the_archive(tmp_path: Path, name: str) -> None:
    path = source(tmp_path)
    with zipfile.ZipFile(path / "train_data.zip", "a") as archive:
        archive.writestr(name, "1,2,3")
    assert "points outside the archive" in fields(path, skip_bad=True)


@pytest.mark.parametrize("way", ["zip", "folder"])
@pytest.mark.parametrize("name", ["a\n8", "a\x1b[31m8"])
def test_names_can_be_printed(tmp_path: Path, name: str, way: str) -> None:
    where = "train_data.zip" if way == "zip" else "train_data"
    words = f"{where}: the file name {f'{name}.txt'!r} contains unprintable characters; rename the file"
    inside = "" if way == "zip" else "train_data/"
    path = source(tmp_path, {**TEXTS, name: "1,2,3"}, way="folder")
    if way == "zip":
        zipped(path / "train_data.zip", {**TEXTS, name: "1,2,3"}, inside)
        for file in (path / "train_data").iterdir():
            file.unlink()
    assert fields(path, skip_bad=True) == words


def test_a_name_may_be_a_very_long_number(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"9" * 5000: "1,2", "0" * 4999 + "8": "3,4"})
    assert read(path).signals[:, 0].tolist() == [[3, 4], [1, 2]]


def test_links_to_themselves_or_to_no_sample_do_no_harm(tmp_path: Path) -> None:
    path = source(tmp_path, way="folder")
    (path / "train_data" / "8.txt").symlink_to("8.txt")
    (path / "train_data" / "README").symlink_to(sys.executable)
    check(read(path))


def test_links_do_not_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("1,2,3")
    unzipped(tmp_path / "more", {"8": "1,2,3"})
    path = source(tmp_path / "a", way="folder")
    (path / "train_data" / "7.txt").rename(path / "train_data" / "real7")
    (path / "train_data" / "7.txt").symlink_to("real7")
    check(read(path))
    for name, target in (("8.txt", "secret.txt"), ("sub", "more")):
        link = path / "train_data" / name
        link.symlink_to(tmp_path / target)
        assert (
            fields(path, skip_bad=True)
            == f"train_data: {name} is a link to a file outside the folder; replace it with the file itself"
        )
        link.unlink()


def damaged(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) >= 1
    path.write_bytes(data.replace(old, new))


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_broken_members_are_bad_samples(tmp_path: Path, packed: int) -> None:
    path = source(tmp_path)
    numbers = ",".join(str(i) for i in range(30))
    with zipfile.ZipFile(path / "train_data.zip", "w", packed) as archive:
        for name in TEXTS:
            archive.writestr(f"{name}.txt", numbers if name != "12" else numbers.replace("17", "71"))
    with zipfile.ZipFile(path / "train_data.zip") as archive:
        start = archive.getinfo("12.txt").header_offset + 30 + len("12.txt")
    data = bytearray((path / "train_data.zip").read_bytes())
    data[start + 20] ^= 0x55
    (path / "train_data.zip").write_bytes(data)
    assert "train_data.zip 12.txt: is corrupt in the zip (" in fields(path)
    assert read(path, skip_bad=True).ids.tolist() == ["7", "9"]


def test_members_that_cannot_be_unpacked(tmp_path: Path) -> None:
    path = source(tmp_path)
    archive = path / "train_data.zip"
    good = archive.read_bytes()
    flags = good.index(b"PK\x01\x02") + 8  # of the first member's entry in the directory
    archive.write_bytes(good[:flags] + b"\1" + good[flags + 1 :])
    assert "train_data.zip 7.txt: is encrypted; expected an unencrypted zip" in fields(path)
    assert read(path, skip_bad=True).ids.tolist() == ["12", "9"]
    archive.write_bytes(good[: flags + 2] + b"\x09" + good[flags + 3 :])
    assert "train_data.zip 7.txt: uses compression method 9" in fields(path)
    archive.write_bytes(good[: flags + 16] + (1 << 30).to_bytes(4, "little") + good[flags + 20 :])
    assert "train_data.zip 7.txt: unpacks to 1,073,741,824 bytes, too large for one sample" in fields(path)
    archive.write_bytes(good[: flags + 16] + (2).to_bytes(4, "little") + good[flags + 20 :])  # a bomb that says it is small
    assert "train_data.zip 7.txt: is corrupt in the zip (wrong checksum or size)" in fields(path)
    archive.write_bytes(good[: len(good) // 2])
    assert "train_data.zip: cannot be read as a zip" in fields(path, skip_bad=True)
    archive.write_bytes(b"")
    assert "train_data.zip: cannot be read as a zip" in fields(path, skip_bad=True)


@pytest.mark.parametrize("offset", [-5, 1 << 63])
def test_a_member_may_be_said_to_stand_nowhere(tmp_path: Path, offset: int) -> None:
    ((name, error),) = contents(zipped(tmp_path / "x.zip", TEXTS), [f"{offset} 5 5 0 0 7.txt"])
    assert name == "7.txt"
    assert str(error).startswith("x.zip 7.txt: is corrupt in the zip (")


def test_a_zip_and_a_folder_of_the_same_spectra_have_the_same_digest(tmp_path: Path) -> None:
    one, two = source(tmp_path / "a"), source(tmp_path / "b", way="folder")
    other = source(tmp_path / "c", {**TEXTS, "7": "1,2,4"})
    labels = source(tmp_path / "d", index=INDEX.replace("galaxy", "qso"))
    digests = [read(path).digest for path in (one, two, other, labels)]
    assert digests[0] == digests[1] == read(two, cache=False).digest
    assert len(set(digests)) == 3


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The entries that are parsed from here on."""
    seen: list[str] = []
    parse = contest_txt.parse_txt

    def watched(entries: Sequence[str], **options: Any) -> Any:
        seen.extend(entries)
        return parse(entries, **options)

    monkeypatch.setattr(contest_txt, "parse_txt", watched)
    return seen


def test_the_second_start_parses_nothing_and_a_change_is_seen(tmp_path: Path, parsed: list[str]) -> None:
    path = source(tmp_path, way="folder")
    first = read(path)
    assert len(parsed) == 3
    for more in ({}, {"labels": False}, {"skip_bad": True}, {"label_column": "TYPE"}, {"layout": "spectra"}):
        np.testing.assert_array_equal(read(path, **more).signals, first.signals)
    assert len(parsed) == 3
    file = path / "train_data" / "12.txt"
    stat = file.stat()
    file.write_text("4,5,7\n")  # as many bytes
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    again = read(path)
    assert again.signals[1, 0].tolist() == [4, 5, 7]
    assert again.digest != first.digest
    (path / "train_index.csv").write_text(INDEX.replace("galaxy", "qso"))
    assert read(path).classes == ("qso", "star")


def test_a_broken_entry_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVEFOLD_CACHE", str(tmp_path / "cache"))
    path = source(tmp_path / "data")
    (path / "wavelength.txt").write_text("1,2,3")
    first = np.array(read(path).signals)
    (entry,) = (tmp_path / "cache").glob("train_index-*")
    for name in ("signals.npy", "axis.npy", "source.json", "column0.npy"):
        (entry / name).write_bytes((entry / name).read_bytes()[:70])
        again = read(path)
        np.testing.assert_array_equal(again.signals, first)
        assert again.axis is not None
    assert sorted(f.name for f in (tmp_path / "cache").iterdir()) == ["locks", entry.name]
    assert "blocks.jsonl" not in [f.name for f in entry.iterdir()]


def stopped(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


KILLED = """
import os, signal, sys
from wavefold.domains.spectra import contest_txt
from wavefold.data import read
parse = contest_txt.parse_txt
def dies(entries, **options):
    if any(entry.endswith("300.txt") for entry in entries):
        os.kill(os.getpid(), signal.SIGKILL)
    return parse(entries, **options)
contest_txt.parse_txt = dies
read(sys.argv[1])
"""


@pytest.mark.parametrize("way", ["zip", "folder"])
def test_a_killed_reading_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsed: list[str], way: str) -> None:
    monkeypatch.setenv("WAVEFOLD_CACHE", str(tmp_path / "cache"))
    texts = {str(i): f"{i},1,{i}" for i in range(600)}
    path = source(tmp_path / "data", texts, "id,type\n" + "".join(f"{i},{i % 2}\n" for i in range(600)), way=way)
    assert subprocess.run([sys.executable, "-c", KILLED, path], check=False).returncode == -signal.SIGKILL
    data = read(path)
    assert len(parsed) == 600 - 256  # the first block was there
    assert data.signals[:, 0].tolist() == [[i, 1, i] for i in range(600)]
    assert data.digest == read(path, cache=False).digest


def test_a_reading_killed_at_its_end_parses_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsed: list[str]
) -> None:
    monkeypatch.setenv("WAVEFOLD_CACHE", str(tmp_path / "cache"))
    path = source(tmp_path / "data", {**TEXTS, "12": "x"})
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            read(path, skip_bad=True)
    assert len(parsed) == 3
    data = read(path, skip_bad=True)
    assert len(parsed) == 3
    assert data.signals[:, 0].tolist() == np.array([ROWS[0], ROWS[2]], np.float32).tolist()
    (entry,) = (tmp_path / "cache").glob("train_index-*")
    assert not {"kept.npy", "blocks.jsonl"} & {file.name for file in entry.iterdir()}


def test_what_was_half_read_goes_when_the_source_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVEFOLD_CACHE", str(tmp_path / "cache"))
    path = unzipped(tmp_path / "spectra [1]", {"1": "1,2", "2": "x,y"})
    assert "2.txt: value 1 is 'x'" in fields(path)
    (half,) = (tmp_path / "cache").glob(".*.part")
    (path / "2.txt").write_text("3,4,5")
    assert "2.txt: has 3 values" in fields(path)
    assert not half.exists()


def test_two_readers_of_one_source_parse_it_once(tmp_path: Path, parsed: list[str]) -> None:
    texts = {str(i): f"{i},1" for i in range(900)}
    path = source(tmp_path, texts, "id,type\n" + "".join(f"{i},a\n" for i in range(900)))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(read, [path] * 4))
    assert len(parsed) == 900
    assert all(len(result) == 900 for result in results)


def test_other_processes_parse_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {str(i): f"{i},1" if i != 700 else "1" for i in range(800)}
    path = source(tmp_path, texts, "id,type\n" + "".join(f"{i},a\n" for i in range(800)))
    here = read(path, skip_bad=True, cache=False)
    monkeypatch.setattr(contest_txt, "_ALONE", 1)
    there = read(path, skip_bad=True)
    np.testing.assert_array_equal(here.signals, there.signals)
    assert (here.digest, here.left_out) == (there.digest, there.left_out)
    assert "train_data.zip 700.txt: has 1 value" in fields(path, cache=False)


def test_no_room_for_a_cache_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file, no folder")
    monkeypatch.setenv("WAVEFOLD_CACHE", str(tmp_path / "cache"))
    check(read(source(tmp_path / "data")))
    assert "cannot write the cache" in capsys.readouterr().err


def test_other_layouts_are_still_told_apart(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a spectrum")
    assert "contains notes.txt; expected one train*.csv" in fields(tmp_path)
    (tmp_path / "train.csv").write_text("id,t0,t1\n1,2,3\n")
    unzipped(tmp_path / "data", TEXTS)
    (tmp_path / "some_index.csv").write_text(INDEX)
    assert read(tmp_path).signals.tolist() == [[[2, 3]]]
    signals = tmp_path / "index_of_beats.csv"
    signals.write_text('id,heartbeat_signals\n1,"1,2"\n')
    assert read(signals).signals.tolist() == [[[1, 2]]]


def test_fits_needs_a_grid(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_bytes(b"")
    for path in (tmp_path, tmp_path / "a.fits"):
        assert "needs data.grid=[first, last, step] in angstrom" in fields(path)
    with pytest.raises(DataError, match=r"contains no FITS files, expected \.fits"):
        LAYOUTS["fits"].read(unzipped(tmp_path / "none", {}), grid=(4000, 5000, 2))


def test_real_lamost(real: Real) -> None:
    data = read(real("lamost"))
    assert data.signals.shape == (2243, 1, 2600)
    assert data.classes == ("A", "F", "G")
    assert np.bincount(data.known_labels()).tolist() == [755, 753, 735]
    assert data.groups is not None
    assert len(set(data.groups.tolist())) == 2218
    assert data.axis is not None
    assert (data.axis[0], data.axis[-1], data.unit) == (3700, 8898, "2 angstrom")
    assert room.test_files(real("lamost")) == []
    ambiguous = read(real("lamost/ambiguous_index.csv"), label_column="header_subclass")
    assert (ambiguous.signals.shape, ambiguous.labels is None) == ((28, 1, 2600), False)


@pytest.mark.parametrize(
    ("name", "shape", "unit", "groups"),
    [("spex_prism", (2307, 1, 640), "0.0025 micron", 2024), ("miles", (749, 1, 2560), "1.5 angstrom", None)],
)
def test_other_real_spectra(real: Real, name: str, shape: tuple[int, ...], unit: str, groups: int | None) -> None:
    data = read(real(name))
    assert (data.signals.shape, data.unit) == (shape, unit)
    assert (None if data.groups is None else len(set(data.groups.tolist()))) == groups


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_real_fits_with_and_without_an_index(real: Real, tmp_path: Path) -> None:
    data = read(real("sdss_sample"), grid=(3800, 9000, 4))
    assert data.signals.shape == (17, 1, 1301)
    assert (data.classes, np.bincount(data.known_labels()).tolist()) == (("galaxy", "qso", "star"), [4, 10, 3])
    assert data.axis is not None
    assert (data.axis[0], data.axis[-1], data.unit) == (3800, 9000, "4 angstrom")
    assert read(real("sdss_sample"), grid=(3800, 9000, 2)).signals.shape[2] == 2601  # the cache knows one grid from another
    bare = read(real("lamost/sample_fits"), grid=(3800, 9000, 4), label_column="subclass")
    assert len(bare) == 12
    assert all(name[0] in "AFG" for name in bare.classes)
    assert read(real("lamost/sample_fits"), grid=(3800, 9000, 4)).classes == ("star",)
    (tmp_path / "index.csv").write_text("file,type\nx.fits,a\ny.fits.gz,b\n")
    (tmp_path / "x.fits").write_bytes(b"no FITS")
    file = next(real("lamost/sample_fits").iterdir())
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "y.fits.gz").write_bytes(file.read_bytes())
    assert fields(tmp_path, grid=(3800, 9000, 4)).startswith("x.fits: ")
    kept = read(tmp_path, grid=(3800, 9000, 4), skip_bad=True)
    assert (kept.ids.tolist(), kept.classes, [i for i, _ in kept.left_out]) == (["y"], ("b",), ["x"])
    assert read(tmp_path, grid=(3800, 9000, 4), skip_bad=True, label_column="class").classes == ("star",)
