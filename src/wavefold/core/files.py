"""Atomic file writes: a file is written under a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from wavefold.core.process import is_main_process

# errno of a full or read-only disk; Windows has no such quotas
NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EROFS, errno.EACCES, errno.EPERM)


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write `path` atomically: `write` fills a temporary file beside it, which is renamed; an error leaves nothing behind.

    Only the main process writes.
    """
    if not is_main_process():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_whole(path, lambda stream: stream.write(text.encode()))


def write_json(path: Path, value: object) -> None:
    """Write a readable JSON file atomically: indented by two spaces, keys in the given order, null for NaN and infinity."""
    write_text(path, json.dumps(without_nan(value), indent=2) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write named arrays to one .npz file atomically; read it with numpy.load(path, allow_pickle=False)."""
    write_whole(path, lambda stream: np.savez(stream, **dict(arrays)))  # type: ignore[arg-type]  # names as keywords


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def without_nan(value: object) -> object:
    """Plain values with None for NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {name: without_nan(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value  # JSON has no NaN


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)  # the rename itself must reach the disk
    finally:
        os.close(handle)
