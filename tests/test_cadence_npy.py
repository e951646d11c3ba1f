"""Cadences on disk: the contest's layout and its variants, read on demand; a bad file is one line; written and back."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wavefold import data as room  # not its names: pytest would take test_files for a test
from wavefold.core.errors import DataError, UserError
from wavefold.data import WRITERS, read
from wavefold.data.dataset import Dataset
from wavefold.data.lazy import Lazy
from wavefold.domains.radio.write import write_cadences

IDS = ("0a1", "0b2", "f00", "7c9")
LABELS = "id,target,background\n0a1,0,x\n0b2,1,x\nf00,0,y\n7c9,1,z\n"


def values(number: int = 0, shape=(6, 5, 4)) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) / 8 + number).astype(np.float16)


def put(folder: Path, id_: str, array: np.ndarray, flat: bool = False) -> Path:
    path = folder / f"{id_}.npy" if flat else folder / id_[0] / f"{id_}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


@pytest.fixture
def contest(tmp_path: Path) -> Path:
    """A folder of four cadences as the contest has them."""
    folder = tmp_path / "contest"
    for number, id_ in enumerate(IDS):
        put(folder / "train", id_, values(number))
    (folder / "train_labels.csv").write_text(LABELS)
    return folder


def fields(source: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(source, **options).signals[:]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_contest_folder_is_read_in_the_csvs_order_and_on_demand(contest: Path) -> None:
    for source in (contest, contest / "train_labels.csv", contest / "train"):
        data = read(source, cache=True)
        assert isinstance(data.signals, Lazy)
        assert data.signals.shape == (4, 6, 5, 4)
        assert data.ids.tolist() == list(IDS)
        assert data.classes == ("0", "1")
        assert data.known_labels().tolist() == [0, 1, 0, 1]
        assert (data.grouping, data.groups.tolist()) == ("background", ["x", "x", "y", "z"])
        assert data.columns["background"].tolist() == ["x", "x", "y", "z"]
        assert data.unit == ""
    some = data.signals[[3, 0, 3]]
    assert some.dtype == np.float32
    np.testing.assert_array_equal(some, np.stack([values(3), values(0), values(3)]))
    assert data.signals[:0].shape == (0, 6, 5, 4)
    assert data.take(np.array([2, 1])).columns["background"].tolist() == ["y", "x"]
    (contest / "train" / "f" / "f00.npy").unlink()
    np.testing.assert_array_equal(data.signals[1], values(1))  # the others need not be there
    with pytest.raises(DataError, match=r"^train/f/f00.npy: cannot be read \(No such file or directory\)$"):
        data.signals[2]


def test_labels_and_groups_may_be_missing_or_named(contest: Path) -> None:
    (contest / "train_labels.csv").write_text("ID,Type,class\n0a1,noise,p\n0b2,needle,p\n")
    data = read(contest)
    assert (data.classes, data.ids.tolist()) == (("needle", "noise"), ["0a1", "0b2"])  # what is not listed is no sample
    assert read(contest, label_column="class").classes == ("p",)
    assert read(contest, labels=False).labels is None
    assert "no column 'klass'; available columns: id, Type, class; did you mean 'class'?" in fields(
        contest, label_column="klass"
    )
    (contest / "train_labels.csv").unlink()
    assert read(contest).ids.tolist() == ["0a1", "0b2", "7c9", "f00"]
    assert read(contest).labels is None


@pytest.mark.parametrize("flat", [False, True])
def test_folders_of_npy_without_csv_and_single_files(tmp_path: Path, flat: bool) -> None:
    paths = [put(tmp_path / "mine", id_, values(n), flat) for n, id_ in enumerate(("b10", "b9", "_x"))]
    (tmp_path / "mine" / "._b9.npy").write_bytes(b"litter")
    data = read(tmp_path / "mine")
    assert (data.ids.tolist(), data.labels) == (["_x", "b9", "b10"], None)
    np.testing.assert_array_equal(data.signals[0], values(2))
    one = read(paths[0])
    assert (one.ids.tolist(), one.signals.shape) == (["b10"], (1, 6, 5, 4))
    (tmp_path / "mine_labels.csv").write_text("id,label\nb9,1\n")
    assert read(tmp_path / "mine").known_labels().tolist() == [0]
    assert read(tmp_path / "mine_labels.csv").ids.tolist() == ["b9"]


def test_the_test_part_is_predicted_in_the_order_of_the_sample_submission(contest: Path) -> None:
    assert room.test_files(contest) == []
    for number, id_ in enumerate(("e1", "a2")):
        put(contest / "test", id_, values(number))
    (tests,) = room.test_files(contest)
    assert tests == contest / "test"
    assert read(tests, labels=False).ids.tolist() == ["a2", "e1"]
    (contest / "sample_submission.csv").write_text("id,target\ne1,0.5\na2,0.5\n")
    for source in (tests, contest / "sample_submission.csv"):
        data = read(source)
        assert (data.ids.tolist(), data.labels, data.columns) == (["e1", "a2"], None, {})
    (contest / "test_labels.csv").write_text("id,target\na2,1\n")
    assert read(tests).classes == ("1",)
    assert read(contest).ids.tolist() == list(IDS)
    assert room.test_files(contest / "train_labels.csv") == []


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_floats_of_any_kind_and_order_are_the_same_numbers(contest: Path, dtype: str, order: str) -> None:
    put(contest / "train", "0b2", np.array(values(1), dtype, order=order))
    np.testing.assert_array_equal(read(contest).signals[:], [values(n) for n in range(4)])


def test_headers_of_all_versions_are_read(contest: Path) -> None:
    for id_, version in zip(IDS, [(1, 0), (2, 0), (3, 0)], strict=False):
        with open(contest / "train" / id_[0] / f"{id_}.npy", "wb") as stream:
            np.lib.format.write_array(stream, values(7), version=version)
    np.testing.assert_array_equal(read(contest).signals[:3], [values(7)] * 3)


def test_digest_follows_names_labels_and_values_not_places_or_times(contest: Path, tmp_path: Path) -> None:
    digest = read(contest).digest
    copy = tmp_path / "copy"
    (contest).rename(copy)
    assert read(copy).digest == digest
    changed = values(1)
    changed[-1, -1, -1] += 1
    put(copy / "train", "0b2", changed)
    assert read(copy).digest != digest
    put(copy / "train", "0b2", values(1))
    assert read(copy).digest == digest
    (copy / "train_labels.csv").write_text(LABELS.replace("0a1,0", "0a1,1"))
    assert read(copy).digest != digest


def unlink(contest: Path) -> None:
    (contest / "train" / "0" / "0b2.npy").unlink()


def move(contest: Path) -> None:
    (contest / "train" / "0" / "0b2.npy").rename(contest / "train" / "0b2.npy")


def cut(contest: Path, size: int) -> None:
    path = contest / "train" / "0" / "0b2.npy"
    path.write_bytes(path.read_bytes()[:size])


def spoil(contest: Path, array: np.ndarray) -> None:
    put(contest / "train", "0b2", array)


def digits(contest: Path, count: int) -> None:
    """A header whose shape is a number of so many digits."""
    text = f"{{'descr': '<f2', 'fortran_order': False, 'shape': ({'9' * count},), }}\n"
    head = np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little")
    (contest / "train/0/0b2.npy").write_bytes(head + text.encode())


def nan(dtype: str = "f2", value: float = np.nan) -> np.ndarray:
    array = values(1).astype(dtype)
    array[2, 3, 1] = value
    return array


BAD = [
    (lambda c: unlink(c), "train_labels.csv line 3: id '0b2' has no file train/0/0b2.npy"),
    (lambda c: move(c), "train_labels.csv line 3: id '0b2' is at train/0b2.npy, expected train/0/0b2.npy, like most files"),
    (lambda c: spoil(c, values(1, (5, 5, 4))), "train/0/0b2.npy: has shape (5, 5, 4), expected (6, time, frequency)"),
    (lambda c: spoil(c, values(1, (6, 4, 5))), "train/0/0b2.npy: has shape (6, 4, 5), expected (6, 5, 4) as most of train"),
    (lambda c: spoil(c, np.zeros((6, 5), "f2")), "has shape (6, 5), expected (6, time, frequency)"),
    (
        lambda c: spoil(c, values(1).astype(object)),
        "contains Python objects, which are never unpickled; expected an array of floats",
    ),
    (lambda c: spoil(c, values(1).astype("i2")), "0b2.npy: has type i2, expected float16, float32 or float64"),
    (lambda c: spoil(c, np.zeros(3, "f2,f4")), "expected a plain array of floats"),
    (lambda c: cut(c, 367), "train/0/0b2.npy: is truncated, 367 of 368 bytes; download it again"),
    (lambda c: cut(c, 60), "train/0/0b2.npy: is truncated in its header"),
    (lambda c: cut(c, 0), "train/0/0b2.npy: is empty, expected a NumPy array"),
    (
        lambda c: (c / "train/0/0b2.npy").write_bytes(b"PK\x03\x04zip"),
        "begins with b'PK\\x03\\x04zi', expected a NumPy .npy",
    ),
    (lambda c: (c / "train/0/0b2.npy").write_bytes(b"\x93NUMPY\x07\x00" + bytes(99)), "has NumPy format version 7"),
    (lambda c: (c / "train/0/0b2.npy").write_bytes(b"\x93NUMPY\x01\x00\xff\xff" + bytes(5000)), "has a header of 65,545 bytes"),
    (lambda c: digits(c, 3000), "has the header \"{'descr': '<f2', "),
    (lambda c: spoil(c, nan()), "train/0/0b2.npy: panel 3 has the value nan in row 4, column 2; expected finite numbers"),
    (
        lambda c: spoil(c, nan("f4", -np.inf)),
        "train/0/0b2.npy: panel 3 has the value -inf in row 4, column 2; expected finite numbers",
    ),
    (
        lambda c: spoil(c, nan("f8", 1e300)),
        "train/0/0b2.npy: panel 3 has the value inf in row 4, column 2; expected finite numbers",
    ),
]


@pytest.mark.parametrize(("spoiled", "words"), BAD, ids=range(len(BAD)))
def test_a_bad_file_is_one_line_or_left_out(contest: Path, spoiled, words: str) -> None:
    spoiled(contest)
    assert words in fields(contest)
    data = read(contest, skip_bad=True)
    assert data.ids.tolist() == ["0a1", "f00", "7c9"]
    np.testing.assert_array_equal(data.signals[:], [values(n) for n in (0, 2, 3)])
    ((name, why),) = data.left_out
    assert name == "0b2"
    assert words in why


def test_more_bytes_than_the_header_says_and_files_that_shrink(contest: Path) -> None:
    path = contest / "train" / "0" / "0b2.npy"
    whole = path.read_bytes()
    path.write_bytes(whole + b"more")
    assert fields(contest) == "train/0/0b2.npy: has 4 more bytes than its header says"
    path.write_bytes(whole)
    data = read(contest)
    path.write_bytes(whole[:-2])
    with pytest.raises(DataError, match="the file has shrunk since the run started"):
        data.signals[1]


def test_objects_are_never_unpickled(contest: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    path = contest / "train" / "0" / "0b2.npy"
    header = (
        np.lib.format.magic(1, 0) + b"\x76\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    )
    path.write_bytes(header + pickle.dumps([Trap()]))
    assert "which are never unpickled" in fields(contest)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("idd,target\n0a1,0\n", "train_labels.csv line 1: no column 'id'; available columns: idd, target; did you mean 'idd'?"),
        (
            "id,targt\n0a1,0\n",
            "train_labels.csv line 1: no column 'target'; available columns: id, targt; did you mean 'targt'?",
        ),
        ("id,target\n0a1,0\n0a1,1\n", "train_labels.csv line 3: id '0a1' is already in line 2"),
        ("id,target\n,0\n", "train_labels.csv line 2: id '' is not a plain file name"),
        (f"id,target\n{'a' * 201},0\n", f"line 2: id '{'a' * 80}' is not a plain file name"),
        ("id,target\n../0a1,0\n", "train_labels.csv line 2: id '../0a1' is not a plain file name"),
        ("id,target\n0a1,\n", "train_labels.csv line 2: the label is empty, expected a class"),
        ("id,target\n", "train_labels.csv: contains no rows, expected a header such as id,target and rows below it"),
    ],
)
def test_a_bad_listing_is_one_line(contest: Path, text: str, words: str) -> None:
    (contest / "train_labels.csv").write_text(text)
    if text.count("\n") == 1:
        (contest / "train_labels.csv").write_text("")
    assert words in fields(contest)


def test_sources_that_are_none_are_said(contest: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty: contains no .npy files; expected train_labels.csv (id,target)" in fields(
        tmp_path / "empty", layout="cadence"
    )
    (contest / "other_labels.csv").write_text(LABELS)
    assert read(contest).ids.tolist() == list(IDS)
    (contest / "train_labels.csv").rename(contest / "labels.csv")
    assert fields(contest) == "contest: contains labels.csv, other_labels.csv; give the path of one of them"
    for id_ in IDS:
        put(contest / "train", id_, np.full((6, 2, 2), np.nan, "f2"))
    assert "train/0/0a1.npy: panel 1 has the value nan" in fields(contest / "labels.csv", skip_bad=True)
    outside = put(tmp_path, "far", values(), flat=True)
    (contest / "train" / "0" / "0a1.npy").unlink()
    (contest / "train" / "0" / "0a1.npy").symlink_to(outside)
    assert "0a1.npy is a link to a file outside the folder" in fields(contest / "labels.csv")


def test_npy_files_beside_other_layouts_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text('id,heartbeat_signals,label\n1,"0,1,1",0\n')
    np.save(tmp_path / "features.npy", np.zeros(3))
    assert read(tmp_path).signals.shape == (1, 1, 3)


def dataset(**changes) -> Dataset:
    made = Dataset(
        signals=np.stack([values(n) for n in range(40)]).astype(np.float32),
        ids=np.array([f"{n * 7919 % 40:03x}q" for n in range(40)]),
        labels=np.arange(40) % 2,
        classes=("0", "1"),
        groups=np.array([f"b{n // 4}" for n in range(40)]),
        grouping="background",
        columns={"family": np.array(["line", 'a, "b"'] * 20), "target": np.array(["?"] * 40)},
        source="made",
    )
    return replace(made, **changes)


@pytest.mark.parametrize("lazy", [False, True])
def test_written_cadences_read_back_the_same(tmp_path: Path, lazy: bool) -> None:
    made = dataset()
    signals = Lazy(lambda rows: made.signals[rows], np.arange(40), (6, 5, 4)) if lazy else made.signals
    listing = write_cadences(replace(made, signals=signals), tmp_path / "new")
    assert listing.read_text().splitlines()[:2] == ["id,target,family,background", "000q,0,line,b0"]
    assert np.load(tmp_path / "new" / "train" / "0" / "000q.npy").dtype == np.float16
    back = read(tmp_path / "new")
    np.testing.assert_array_equal(back.signals[:], made.signals)
    assert (back.ids.tolist(), back.classes) == (made.ids.tolist(), ("0", "1"))
    assert back.known_labels().tolist() == made.known_labels().tolist()
    assert (back.grouping, back.groups.tolist()) == ("background", made.groups.tolist())
    assert back.columns["family"].tolist() == made.columns["family"].tolist()
    write_cadences(replace(made, labels=None), tmp_path / "new", "test")
    (tests,) = room.test_files(tmp_path / "new")
    assert (read(tests).ids.tolist(), read(tests).labels) == (made.ids.tolist(), None)
    with pytest.raises(UserError, match=r"train_labels.csv: already exists; choose another folder"):
        write_cadences(made, tmp_path / "new")
    assert not list((tmp_path / "new").rglob(".*"))


def test_a_killed_writing_is_made_anew_and_nothing_else_is_written_over(tmp_path: Path) -> None:
    signals, calls = dataset().signals, []

    def load(rows):
        calls.append(rows)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return signals[rows]

    lazy = dataset(signals=Lazy(load, np.arange(40), (6, 5, 4)))
    with pytest.raises(KeyboardInterrupt):
        write_cadences(lazy, tmp_path)
    assert not list(tmp_path.iterdir())  # an error leaves nothing
    put(tmp_path / "train", "a", values())  # what a kill leaves
    (tmp_path / "train" / ".unfinished").touch()
    write_cadences(lazy, tmp_path)
    assert len(read(tmp_path)) == 40
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "..unfinished.1.part").touch()  # of a kill at once
    assert write_cadences(lazy, tmp_path, "other").name == "other_labels.csv"
    mine = put(tmp_path / "test", "a", values())
    with pytest.raises(UserError, match="test: already exists"):
        write_cadences(dataset(), tmp_path, "test")
    assert [f for f in (tmp_path / "test").rglob("*") if f.is_file()] == [mine]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"signals": np.zeros((40, 1, 9), np.float32)}, "made: samples have shape 1 x 9; the contest layout needs 6 x time x"),
        ({"signals": np.full((40, 6, 2, 2), 7e4, np.float32)}, "id '000q' has the value 70000; float16 files need finite"),
        ({"ids": np.array(["a/b", *map(str, range(39))])}, "id 'a/b' is not safe as a file name"),
        ({"ids": np.array(["Q", "q", *map(str, range(38))])}, "id 'q' appears twice"),
        ({"classes": ("a\nb", "c")}, "train_labels.csv: 'a\\nb' contains a line break"),
    ],
)
def test_what_the_layout_cannot_hold_is_said(tmp_path: Path, changes, words: str) -> None:
    with pytest.raises(DataError) as caught:
        write_cadences(dataset(**changes), tmp_path)
    assert words in str(caught.value)
    assert not (tmp_path / "train_labels.csv").exists()


def test_real_cadences_of_the_contest_are_written_and_read_bit_for_bit(real, tmp_path: Path) -> None:
    with np.load(real("seti/kaggle_cadences.npz"), allow_pickle=False) as kept:
        cadences, ids, target = kept["cadences"], kept["ids"], kept["target"]
    known = np.flatnonzero(target >= 0)
    made = Dataset(cadences[known].astype(np.float32), ids[known].astype(np.str_), target[known].astype(np.int64), ("0", "1"))
    write_cadences(made, tmp_path)
    original = real("seti/0028a35de92941d.npy")
    assert (tmp_path / "train" / "0" / original.name).read_bytes() == original.read_bytes()
    back = read(tmp_path)
    assert back.signals.shape == (4, 6, 273, 256)
    np.testing.assert_array_equal(back.signals[:], cadences[known].astype(np.float32))
    assert back.known_labels().tolist() == target[known].tolist()
    one = read(original)
    np.testing.assert_array_equal(one.signals[0], np.load(original).astype(np.float32))
    assert one.ids.tolist() == ["0028a35de92941d"]
    assert "cadence" in WRITERS
