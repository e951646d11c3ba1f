"""Opens HDF5 files with h5py, which the extras `radio` and `grids` install, and tries damaged ones in another process."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from wavefold.core.errors import DataError
from wavefold.core.registry import optional

h5py = optional("h5py", extra="radio")

LIMIT = 20.0  # seconds for the structure of a file, which takes milliseconds
_PROBE = Path(__file__).with_name("hdf5_probe.py")


def check_hdf5(path: Path, *, most: int = 1 << 16, limit: float = LIMIT) -> None:
    """Raise DataError if HDF5 does not come back from a file within a time limit, or crashes; other errors are the reader's.

    The file is walked in a child process that lives as long as this one: HDF5 loops for ever over some damaged files, and
    nothing stops it from within. most: bytes of values that are read there too, all of them if a stranger sent the file.
    """
    _ = h5py.File  # if it is not installed, its own error is clearer
    word = _PROBES.ask(path, most, limit)
    if word:
        raise DataError(f"{path.name}: cannot be read: HDF5 {word}; the file is truncated or corrupt")


class _Probes:
    """The child process, started when first needed and again after a file that it did not survive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._owner = 0  # the process that started it: a forked one needs its own

    def ask(self, path: Path, most: int, limit: float) -> str:
        """What went wrong with a file, "" if nothing did."""
        with self._lock:
            child = self._running()
            late = threading.Event()
            watch = threading.Timer(limit, _end, (child, late))
            watch.daemon = True
            assert child.stdin is not None
            assert child.stdout is not None
            watch.start()
            try:
                child.stdin.write(json.dumps({"path": os.path.abspath(path), "bytes": most}) + "\n")
                child.stdin.flush()
                answered = child.stdout.readline() == "done\n"
            except OSError:
                answered = False
            finally:
                watch.cancel()
            if answered:
                return ""
            self.stop()
            return f"did not come back within {limit:g} seconds" if late.is_set() else "crashed"

    def stop(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is None:
            return
        for stream in (child.stdin, child.stdout):  # without input it ends by itself
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        if self._owner == os.getpid():
            child.kill()
            child.wait()
        else:
            child.returncode = 0  # it is the parent's to wait for

    def _running(self) -> subprocess.Popen[str]:
        if self._child is None or self._owner != os.getpid() or self._child.poll() is not None:
            self.stop()
            command = [sys.executable, "-P", str(_PROBE)]  # -P: else modules beside the script hide those of Python
            self._owner = os.getpid()
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
            )
        return self._child


def _end(child: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    child.kill()


_PROBES = _Probes()
atexit.register(_PROBES.stop)
