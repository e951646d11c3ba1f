"""Opens HDF5 files in a process of its own, which `data/hdf5.py` starts and watches: a damaged one can loop for ever.

Run as a script: reads one JSON line per file, {"path", "bytes"}, and answers each with a line, once HDF5 has come back.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

_MEMORY = 4 << 30  # bytes of address space of this process
_PIECE = 1 << 24  # values read at once


class _Identity(Protocol):
    """HDF5's own handle of a dataset."""

    def get_num_chunks(self) -> int:
        """Count the chunks, by a walk through their index."""


class _Values(Protocol):
    """A dataset of an HDF5 file."""

    shape: tuple[int, ...]
    nbytes: int
    attrs: Mapping[str, object]
    dims: Sequence[Mapping[str, object]]
    external: object
    is_virtual: bool
    id: _Identity

    def __getitem__(self, at: object) -> object:
        """Some of the values."""


def limit_memory() -> None:
    """Limit the memory of this process, where the system can."""
    with suppress(ImportError, ValueError, OSError):
        resource = importlib.import_module("resource")
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def visit(path: str, most: int) -> None:
    """Walk all that a file's structure has, and read its values up to `most` bytes; errors are left to the reader proper."""
    h5py = importlib.import_module("h5py")
    room = [most]

    def one(name: str, thing: _Values) -> None:
        with suppress(Exception):
            list(thing.attrs.items())
        if not isinstance(thing, h5py.Dataset):
            return
        with suppress(Exception):
            for axis in range(len(thing.shape)):
                len(thing.dims[axis])
                list(thing.dims[axis].keys())
        with suppress(Exception):
            thing.id.get_num_chunks()
        if not thing.external and not thing.is_virtual and thing.nbytes <= room[0]:
            room[0] -= thing.nbytes
            _read(thing)

    with suppress(Exception), h5py.File(path, "r") as file:
        file.visititems(one)


def _read(values: _Values) -> None:
    """Read all values, a few along the first axis at a time."""
    with suppress(Exception):
        if not values.shape:
            values[()]
            return
        each = max(1, _PIECE * values.shape[0] // max(1, values.nbytes))
        for start in range(0, values.shape[0], each):
            values[start : start + each]


def main() -> None:
    """Answer the lines of standard input until it ends."""
    limit_memory()
    for line in sys.stdin:
        asked = json.loads(line)
        visit(asked["path"], asked["bytes"])
        print("done", flush=True)


if __name__ == "__main__":
    main()
