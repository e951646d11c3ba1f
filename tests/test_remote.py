"""Sources by URL: copied once, copied again when they change, and refused in one line."""

from __future__ import annotations

import functools
import http.server
import threading

import numpy as np
import pytest

from wavefold.core.errors import DataError, UserError
from wavefold.data import read, remote

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def store():
    """An object store in memory, empty."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


def table(count=4, add=0.0):
    rows = [f"{i},{i + add},{i * 2.0},{i % 2}" for i in range(count)]
    return "\n".join(["id,a1,a2,label", *rows, ""]).encode()


def counted(monkeypatch):
    """The files that are fetched, as they are written."""
    fetched, write = [], remote._write

    def noted(path, content):
        fetched.append(path.name)
        write(path, content)

    monkeypatch.setattr(remote, "_write", noted)
    return fetched


def test_a_file_is_copied_once_and_again_when_it_has_changed(store, monkeypatch):
    fetched = counted(monkeypatch)
    store.pipe("/bucket/train.csv", table())
    first = read("memory://bucket/train.csv", cache=False)
    assert first.signals[:, 0].tolist() == [[0, 0], [1, 2], [2, 4], [3, 6]]
    assert first.source == "memory://bucket/train.csv"
    read("memory://bucket/train.csv", cache=False)
    assert fetched == ["train.csv", "copied.json"]
    store.pipe("/bucket/train.csv", table(add=0.5))
    assert read("memory://bucket/train.csv", cache=False).signals[0, 0, 0] == 0.5


def test_a_folder_is_copied_and_what_is_gone_is_removed(store, monkeypatch):
    store.pipe(
        {"/b/set/train.csv": table(), "/b/set/testA.csv": table(3), "/b/set/train_meta.csv": b"id,who\n0,x\n1,x\n2,y\n3,y\n"}
    )
    data = read("memory://b/set", cache=False, group="who")
    assert data.groups is not None
    folder = remote.local("memory://b/set")
    assert sorted(path.name for path in folder.iterdir()) == ["testA.csv", "train.csv", "train_meta.csv"]
    store.rm("/b/set/testA.csv")
    fetched = counted(monkeypatch)
    assert remote.local("memory://b/set") == folder
    assert sorted(path.name for path in folder.iterdir()) == ["train.csv", "train_meta.csv"]
    assert fetched == []


def test_a_broken_copy_goes_on(store, monkeypatch):
    store.pipe({f"/b/many/{i}": bytes(10) for i in range(9)})
    fetched, write = [], remote._write

    def failing(path, content):
        if len(fetched) == 5 and path.name != "copied.json":
            raise ConnectionError("reset by peer")
        fetched.append(path.name)
        write(path, content)

    monkeypatch.setattr(remote, "_write", failing)
    with pytest.raises(UserError, match=r"memory://b/many: cannot be read \(reset by peer\)"):
        remote.local("memory://b/many")
    monkeypatch.setattr(remote, "_write", write)
    again = counted(monkeypatch)
    folder = remote.local("memory://b/many")
    assert again == ["5", "6", "7", "8", "copied.json"]
    assert sorted(path.name for path in folder.iterdir()) == [str(i) for i in range(9)]
    assert not list(folder.glob(".*.part"))


def test_a_file_that_is_damaged_on_this_side_is_not_taken_for_whole(store):
    store.pipe("/b/train.csv", table())
    path = remote.local("memory://b/train.csv")
    path.unlink()
    assert remote.local("memory://b/train.csv").read_bytes() == table()


def test_a_file_that_comes_short_is_not_taken_for_whole(store, monkeypatch):
    store.pipe("/b/train.csv", table())
    info = type(store).info
    monkeypatch.setattr(type(store), "info", lambda self, path, **how: {**info(self, path, **how), "size": 10**6})
    with pytest.raises(UserError, match=r"bytes came; start the command again"):
        remote.local("memory://b/train.csv")
    monkeypatch.undo()
    assert remote.local("memory://b/train.csv").read_bytes() == table()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("memory://b/nothing.csv", "memory://b/nothing.csv: no such file or folder"),
        ("memory://", "memory://: names no file or folder"),
        ("nosuch://b/x.csv", "nosuch://b/x.csv: cannot be read (Protocol not known: nosuch"),
    ],
)
def test_what_is_not_there_is_one_line(store, url, why):
    with pytest.raises((DataError, UserError)) as caught:
        read(url)
    assert str(caught.value).startswith(why)
    assert "\n" not in str(caught.value)


def test_a_name_that_leaves_the_folder_is_refused(store, monkeypatch):
    facts = {"/b/set/../../../evil": {"name": "/b/set/../../../evil", "size": 1, "type": "file"}}
    store.pipe("/b/set/a", b"x")
    monkeypatch.setattr(type(store), "find", lambda self, path, detail=False, **_: facts)
    with pytest.raises(DataError, match="which no disk can keep"):
        remote.local("memory://b/set")


@pytest.mark.parametrize("version", [2, 3])
def test_a_zarr_store_is_read_with_its_attributes(store, version, tmp_path):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(tmp_path / "beats.zarr"), mode="w", zarr_format=version)
    sharded = {"shards": (4, 5)} if version == 3 else {}
    array = group.create_array("signals", shape=(6, 5), chunks=(2, 5), dtype="i2", **sharded)
    array[:] = np.arange(30).reshape(6, 5)
    array.attrs.update({"units": "mV", "scale_factor": 0.5, "add_offset": 1.0, "missing_value": 29})
    group.create_array("labels", data=np.array([0, 1, 0, 1, 0, 1]))
    for path in (tmp_path / "beats.zarr").rglob("*"):
        if path.is_file():
            store.pipe(f"/b/{path.relative_to(tmp_path)}", path.read_bytes())
    with pytest.raises(DataError, match=r"beats\.zarr signals: sample 5 has a value that is not finite"):
        read("memory://b/beats.zarr")
    data = read("memory://b/beats.zarr", skip_bad=True)
    np.testing.assert_array_equal(data.signals[:, 0], np.arange(25).reshape(5, 5) * 0.5 + 1)
    assert data.attrs["unit"] == "mV"
    assert data.labels.tolist() == [0, 1, 0, 1, 0]


def test_over_http(tmp_path):
    pytest.importorskip("aiohttp")
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "train.csv").write_bytes(table())

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "www")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        data = read(f"http://127.0.0.1:{server.server_port}/train.csv")
        assert len(data) == 4
    finally:
        server.shutdown()
        server.server_close()
