"""--skip-bad leaves bad rows of every table out and lists them; an id that occurs twice is refused by every reader."""

from dataclasses import replace

import numpy as np
import pytest

from wavefold.api import check, resolve
from wavefold.core.errors import DataError
from wavefold.data import LAYOUTS, read
from wavefold.data.layout import Found, Layout
from wavefold.data.table import Table

COUNT, LENGTH = 40, 48
VALUES = np.round(np.random.default_rng(0).random((COUNT, LENGTH)), 4)
WORDS = [("early", "late")[i % 2] for i in range(COUNT)]
KEPT = [i for i in range(COUNT) if i not in (0, 3, 7, 11)]


def texts():
    """The rows as comma-joined text: 0 lacks a value, 3 has a NaN, 7 a word and 11 an infinity."""
    rows = [[str(v) for v in row] for row in VALUES.tolist()]
    rows[0] = rows[0][:-1]
    rows[3][5], rows[7][2], rows[11][0] = "nan", "oops", "inf"
    return [",".join(row) for row in rows]


def contest(folder):
    lines = [f'b{i},"{text}",{word}' for i, (text, word) in enumerate(zip(texts(), WORDS, strict=True))]
    path = folder / "train.csv"
    path.write_text("\n".join(["id,heartbeat_signals,label", *lines]) + "\n")
    return path, ("b0", "b3", "b7", "b11")


def wide(folder):
    head = ",".join(["id", *(f"t{k}" for k in range(LENGTH)), "label"])
    lines = [f"b{i},{text},{word}" for i, (text, word) in enumerate(zip(texts(), WORDS, strict=True))]
    path = folder / "train.csv"
    path.write_text("\n".join([head, *lines]) + "\n")
    return path, ("line 2", "b3", "b7", "b11")


def wide_without_ids(folder):
    head = ",".join([*(f"t{k}" for k in range(LENGTH)), "label"])
    path = folder / "train.csv"
    path.write_text("\n".join([head, *(f"{t},{w}" for t, w in zip(texts(), WORDS, strict=True))]) + "\n")
    return path, ("line 2", "3", "7", "11")


def ts(folder):
    path = folder / "a_TRAIN.ts"
    lines = [f"{text}:{word}" for text, word in zip(texts(), WORDS, strict=True)]
    path.write_text("\n".join(["@classLabel true early late", "@data", *lines]) + "\n")
    return path, ("0", "3", "7", "11")


def ts_of_two_channels(folder):
    path = folder / "a_TRAIN.ts"
    lines = [f"{text}:{text}:{word}" for text, word in zip(texts(), WORDS, strict=True)]
    lines[0] = f"{texts()[1]}:early"  # lacks a channel
    path.write_text("\n".join(["@classLabel true early late", "@data", *lines]) + "\n")
    return path, ("line 3", "3", "7", "11")


def arrays(folder):
    values = VALUES.copy()
    values[[0, 3, 7, 11], 2] = np.nan
    np.savez(folder / "a.npz", signals=values, labels=WORDS)
    return folder / "a.npz", ("0", "3", "7", "11")


FORMS = [contest, wide, wide_without_ids, ts, ts_of_two_channels, arrays]


@pytest.mark.parametrize("write", FORMS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("cache", [False, True])
def test_bad_rows_are_left_out_and_listed(write, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("WAVEFOLD_CACHE", str(tmp_path / "cache"))
    path, named = write(tmp_path)
    for _ in range(2):  # the second time from the cache
        data = read(path, skip_bad=True, cache=cache)
        expected = VALUES[KEPT].astype(np.float32)
        np.testing.assert_array_equal(data.signals, np.repeat(expected[:, None], data.signals.shape[1], axis=1))
        assert [data.classes[k] for k in data.known_labels()] == [WORDS[i] for i in KEPT]
        assert data.ids.tolist() == [f"b{i}" if "b3" in named else str(i) for i in KEPT]
        assert tuple(sorted(name for name, _ in data.left_out)) == tuple(sorted(named))
        assert all(path.name in why for _, why in data.left_out)
        with pytest.raises(DataError) as caught:  # a cached reading without them does not hide the first one
            read(path, cache=cache)
        assert path.name in str(caught.value)


def test_check_lists_what_it_left_out(tmp_path):
    path, _ = wide(tmp_path)
    lines = check(resolve("heartbeat", skip_bad=True), path)
    assert lines[0].startswith("36 samples")
    assert any(line.startswith("left out b3: train.csv line 5 (id b3): value 6 is 'nan'") for line in lines)
    assert any(line.startswith("left out line 2: train.csv line 2: has 49 fields, expected 50") for line in lines)
    assert any("4 samples could not be read and were skipped" in line for line in lines)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"b2,,,,a", "value 1 is ''"),
        (b",,,,", "has no values"),
        (b'b2,"1,2', "expected each quote to close"),
        (b"b2,1,2,\xff,a", "is not UTF-8|value 3"),
        (b"b\xff,1,2,3,a", "is not UTF-8"),
        (b"b2,1,2,3,a,b,c", "has 7 fields"),
        (b"b2,1,2,1e39,a", "expected a finite number"),
    ],
)
def test_every_kind_of_bad_line_is_left_out(line, why, tmp_path):
    path = tmp_path / "train.csv"
    path.write_bytes(b"id,t0,t1,t2,label\nb0,1,2,3,a\nb1,1,2,3,b\n" + line + b"\nb3,4,5,6,a\n")
    with pytest.raises(DataError, match=why):
        read(path, cache=False)
    data = read(path, cache=False, skip_bad=True)
    assert data.ids.tolist() == ["b0", "b1", "b3"]
    assert len(data.left_out) == 1


@pytest.mark.parametrize(
    "bad", [b'b2,"1,2\xff",a', b'b\xff,"1,2,3",a', b'b2,"1,2",a', b'b2,"",a', b"b2,1,2,3,a", b'b2,"1,2,x",a']
)
def test_every_kind_of_bad_line_of_the_contest_is_left_out(bad, tmp_path):
    path = tmp_path / "train.csv"
    good = [f'b{i},"1,2,{i}",{"ab"[i % 2]}'.encode() for i in (0, 1, 3, 4)]
    for at in (0, 2, 4):
        path.write_bytes(b"\n".join([b"id,heartbeat_signals,label", *good[:at], bad, *good[at:]]) + b"\n")
        with pytest.raises(DataError, match=r"train\.csv line"):
            read(path, cache=False)
        data = read(path, cache=False, skip_bad=True)
        assert data.ids.tolist() == ["b0", "b1", "b3", "b4"]
        assert len(data.left_out) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "id,t0,t1,t2,label\nb0,1,x,3,a\nb1,1,2,b\n"),
        ("a.csv", "id,t0,t1,t2,label\nb0,1,3,a\nb1,1,2,b\n"),
        ("a.csv", 'id,heartbeat_signals,label\nb0,"1,x",a\n'),
        ("a.csv", "id,heartbeat_signals,label\nb0,1,2,3,a\n"),
        ("a_TRAIN.ts", "@classLabel true a b\n@data\n1,x:a\n"),
        ("a_TRAIN.ts", "@classLabel true a b\n@data\n1,2:c\n"),
    ],
)
def test_if_no_row_can_be_read_the_first_error_is_named(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=r"none of (its|the) . (rows|samples) can be|none of the"):
        read(tmp_path / name, cache=False, skip_bad=True)


def test_an_id_that_occurs_twice_is_refused_whatever_the_reader(tmp_path, monkeypatch):
    path = tmp_path / "a.twice"
    path.write_bytes(b"x")
    table = Table(np.zeros((3, 1, 4), np.float32), np.array(["a", "b", "a"]), np.array([2, 3, 4]), np.array(["x", "y", "x"]))
    layout = Layout(
        lambda path, **_: table, sniff=lambda path: 1.0, locate=lambda path: Found(path, "twice", (path,)), row="sample"
    )
    for keeps in ("table", "nothing"):
        monkeypatch.setitem(LAYOUTS, "twice", replace(layout, read=lambda path, **_: table, keeps=keeps))
        for cache in (False, True):
            with pytest.raises(DataError, match=r"a\.twice sample 4: id 'a' is already in sample 2"):
                read(path, layout="twice", cache=cache)
