"""A folder that one process at a time may write into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from wavefold.core.errors import UserError

LOCK = ".lock"


@contextmanager
def held(folder: Path, busy: str, *, wait: bool = False, tidy: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it is missing; UserError `busy` if another process holds it.

    wait: until that process has left it instead. tidy: remove the folder at the end if nothing is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise UserError(busy) from None
    try:
        yield
    finally:
        lock.release()  # before it is deleted: Windows cannot delete a locked file
        if tidy and folder.exists() and all(entry.name == LOCK for entry in folder.iterdir()):
            with suppress(OSError):  # another process took it in the meantime
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()
