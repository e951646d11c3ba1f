"""What other systems lack is not needed: the test takes it away."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from wavefold.core import files, process
from wavefold.core.errors import UserError
from wavefold.core.records import Identity, RunInfo
from wavefold.core.run import lock_folder
from wavefold.data.cache import cache_folder
from wavefold.data.lazy import by_blocks

LACKING = """
import builtins, errno, os
usual = builtins.__import__
def guarded(name, globals=None, *rest):
    if name in ("fcntl", "pwd", "grp", "resource", "termios") and (globals or {}).get("__name__", "").startswith("wavefold"):
        raise ImportError(name)
    return usual(name, globals, *rest)
builtins.__import__ = guarded
for name in ("posix_fallocate", "sched_getaffinity"):
    delattr(os, name)
del errno.EDQUOT
from wavefold import api
from wavefold import cli
print("there")
"""


def test_the_story_is_imported_where_posix_is_not():
    fields = subprocess.run([sys.executable, "-c", LACKING], capture_output=True, text=True)
    assert fields.stdout == "there\n", fields.stderr


def test_a_large_result_finds_its_room_without_posix(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr("wavefold.data.lazy._PIECE", 1000)
    signals = np.arange(900 * 3, dtype=np.float32).reshape(900, 1, 3)
    made = by_blocks(lambda block: block * 2, signals, tmp_path, most=1000)
    assert isinstance(made, np.memmap)
    np.testing.assert_array_equal(made, signals * 2)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no disk that is always full")
def test_a_full_disk_is_an_error_without_posix(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    full = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: full)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        by_blocks(lambda block: block, np.zeros((900, 1, 3), np.float32), tmp_path, most=1000)


def test_a_folder_is_flushed_only_where_folders_are_opened(tmp_path, monkeypatch):
    absent = tmp_path / "no-such"
    monkeypatch.setattr(os, "name", "nt")
    files._flush_folder(absent)


def test_a_folder_is_held_once_swept_and_left_as_it_was(tmp_path):
    folder = tmp_path / "run"
    with lock_folder(folder, fresh=False):
        with pytest.raises(UserError, match="another process is training here"), lock_folder(folder, fresh=True):
            pass
        assert folder.is_dir()
    assert not folder.exists()  # nothing was kept
    info = RunInfo(recipe="r", identity=Identity(recipe="a", data="b"), source="s", simulated=True, samples=1, shape=(1,))
    for fresh, left in ((False, {"run.json"}), (True, set())):
        with lock_folder(folder, fresh=fresh):
            (folder / ".half.part").write_text("")
            (folder / "run.json").write_text(info.model_dump_json())
        with lock_folder(folder, fresh=fresh):
            assert {path.name for path in folder.iterdir()} - {".lock"} == left


def test_another_process_finds_the_folder_held(tmp_path):
    code = (
        "import sys; from pathlib import Path; from wavefold.core.run import lock_folder\n"
        "with lock_folder(Path(sys.argv[1]), fresh=False): pass"
    )
    with lock_folder(tmp_path / "run", fresh=False):
        fields = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True)
    assert "another process is training here" in fields.stderr
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")]).returncode == 0


def test_the_cache_is_the_users_unless_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("wavefold.data.cache.user_cache_path", lambda name: tmp_path / name)
    assert cache_folder() == type(tmp_path)(os.environ["WAVEFOLD_CACHE"])
    monkeypatch.delenv("WAVEFOLD_CACHE")
    assert cache_folder() == tmp_path / "wavefold"


def test_freed_memory_is_kept_unless_the_user_says_what_to_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda what, size: told.append((what, size)))
    monkeypatch.setattr(process.ctypes, "CDLL", lambda name: library)
    process.keep_freed_memory.__wrapped__()
    assert told == [(-1, 1 << 28), (-3, 1 << 25)]
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "0")
    process.keep_freed_memory.__wrapped__()
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_")
    monkeypatch.setattr(process.ctypes, "CDLL", lambda name: SimpleNamespace())  # musl, macOS
    process.keep_freed_memory.__wrapped__()
    assert len(told) == 2
