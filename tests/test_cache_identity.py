"""A cached reading is of the very files that are there: an edit counts although size and modification time are kept."""

import os
import time

import numpy as np
import pytest

from wavefold.data import cache, read


@pytest.fixture(autouse=True)
def folder_of_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WAVEFOLD_CACHE", str(tmp_path / "cache"))


def edited(path, old, new, at=None):
    """Replace bytes by as many others, and set the modification time back."""
    stat, data = path.stat(), path.read_bytes()
    place = data.index(old) if at is None else data.index(old, at)
    time.sleep(0.02)  # more than a tick of the disk's clock
    path.write_bytes(data[:place] + new + data[place + len(old) :])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


def wide(path, rows=4000, length=200):
    head = ",".join(["id", *(f"t{k}" for k in range(length)), "label"])
    line = ",".join(["1.25"] * length)
    path.write_text("\n".join([head, *(f"r{i},{line},{i % 2}" for i in range(rows))]) + "\n")
    return path


def test_an_edit_in_the_middle_of_a_table(tmp_path):
    path = wide(tmp_path / "train.csv")
    assert read(path).signals.max() == 1.25
    edited(path, b"1.25", b"7.50", at=path.stat().st_size // 2)
    assert read(path).signals.max() == 7.5


def test_an_edit_of_the_columns_beside_a_table(tmp_path):
    path = wide(tmp_path / "train.csv", rows=10, length=4)
    meta = tmp_path / "train_meta.csv"
    meta.write_text("id,record\n" + "".join(f"r{i},a{i}\n" for i in range(10)))
    assert read(path).groups[5] == "a5"
    edited(meta, b"a5", b"b7")
    assert read(path).groups[5] == "b7"


def test_an_edit_of_one_file_of_many(tmp_path):
    (tmp_path / "train_data").mkdir()
    for i in range(6):
        (tmp_path / "train_data" / f"{i}.txt").write_text(f"{i}.5,1,2,3")
    (tmp_path / "train_index.csv").write_text("id,type\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(6)))
    assert read(tmp_path).signals[3, 0, 0] == 3.5
    edited(tmp_path / "train_data" / "3.txt", b"3.5", b"9.5")
    assert read(tmp_path).signals[3, 0, 0] == 9.5


def test_an_edit_of_a_pair_of_records_and_of_arrays(tmp_path):
    values = np.arange(40, dtype=np.float64).reshape(10, 4)
    np.savez(tmp_path / "a.npz", signals=values, labels=np.arange(10) % 2)
    assert read(tmp_path / "a.npz").signals[0, 0, 1] == 1
    stat = (tmp_path / "a.npz").stat()
    values[0, 1] = 5
    time.sleep(0.02)
    np.savez(tmp_path / "a.npz", signals=values, labels=np.arange(10) % 2)
    os.utime(tmp_path / "a.npz", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert read(tmp_path / "a.npz").signals[0, 0, 1] == 5


def test_an_edit_is_seen_where_the_disk_keeps_no_time_of_change(tmp_path):
    """Small files are hashed whole; of larger ones pieces, so that an edit of more than their distance is seen."""
    path = tmp_path / "a.bin"
    for size in (0, 1, 100, 1 << 16, 5 << 20, 32 << 20):
        path.write_bytes(bytes(size))
        before = cache._pieces(path, size)
        for place in (0, size // 2, size - 1) if 0 < size <= 4 << 20 else ():
            path.write_bytes(bytes(place) + b"x" + bytes(size - place - 1))
            assert cache._pieces(path, size) != before
        if size > 4 << 20:
            path.write_bytes(bytes(size // 3) + b"x" * (size // 63) + bytes(size - size // 3 - size // 63))
            assert cache._pieces(path, size) != before
