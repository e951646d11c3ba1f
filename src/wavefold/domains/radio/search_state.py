"""How far a search has come, kept in a file beside its output: the same command goes on there after a crash."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from wavefold.core.errors import UserError
from wavefold.core.files import write_arrays
from wavefold.core.interrupt import asked_to_stop, stop_if_asked
from wavefold.core.locks import LOCK, held
from wavefold.core.version import __version__
from wavefold.domains.radio.line_search import Clock
from wavefold.domains.radio.stretch import Searched, none_searched, together

_EVERY = 20.0  # seconds
_SUFFIX = ".search.npz"


class SearchState:
    """What was found so far in one observation: `done` stretches, the first ones, in which `found` was found.

    path: of the file that keeps it, None for none. key: what is searched, and how; a file of another search counts as none.
    """

    def __init__(self, path: Path | None = None, key: str = "") -> None:
        self._path, self._key, self._news = path, key, list[Searched]()
        self._kept = time.monotonic()

    def begin(self, clock: Clock) -> int:
        """Go on from the file, if there is one; returns the number of stretches that are searched."""
        self.done, self.found = 0, none_searched(clock)
        if self._path is not None and self._path.exists():
            with suppress(OSError, ValueError, KeyError, BadZipFile):  # damaged: searched anew
                with open(self._path, "rb") as stream, np.load(stream, allow_pickle=False) as kept:
                    arrays = dict(kept)
                if str(arrays.pop("key")) == self._key:
                    self.done, self.found = int(arrays.pop("done")), Searched.of_arrays(arrays)
        return self.done

    def add(self, part: Searched) -> None:
        """Add the next stretch; kept every 20 seconds, and before a signal ends the search."""
        self._news.append(part)
        self.done += 1
        if time.monotonic() - self._kept > _EVERY or asked_to_stop():
            self.keep()
            stop_if_asked()

    def keep(self) -> None:
        """Write all of it to the file."""
        self.found, self._news, self._kept = together([self.found, *self._news]), [], time.monotonic()
        if self._path is not None:
            write_arrays(self._path, {**self.found.arrays(), "key": np.array(self._key), "done": np.array(self.done)})


def key_of(files: Sequence[str], **how: object) -> str:
    """A digest of what is searched: the files by path, size and time of change, and the options."""
    stats = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in map(Path, files)]
    return hashlib.sha256(json.dumps([__version__, stats, how], sort_keys=True).encode()).hexdigest()


@contextmanager
def kept_beside(out: str) -> Iterator[Path | None]:
    """The folder OUT.parts of a search's states, locked; it is removed when the search has ended well. None for "-"."""
    if out == "-":
        yield None
        return
    folder = Path(f"{out}.parts")
    entries = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    foreign = [name for name in entries if not name.endswith(_SUFFIX) and name != LOCK]
    if foreign or folder.is_file():
        what = f"contains '{foreign[0]}'" if foreign else "is a file"
        raise UserError(f"{folder}: {what}, but the search keeps its state there; rename it, or choose another --out")
    with held(folder, f"{out}: another process is searching into it; wait for it, or choose another --out", tidy=True):
        yield folder
        for path in folder.glob(f"*{_SUFFIX}"):
            path.unlink()


def state_in(folder: Path | None, number: int, key: str) -> SearchState:
    """The state of one of several observations."""
    return SearchState(folder / f"{number}{_SUFFIX}" if folder is not None else None, key)
