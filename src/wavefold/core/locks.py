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

    wait: until that process has left it instead. tidy: at the end remove the lock's file, and the folder if it is empty.
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
        if tidy:
            _remove(folder / LOCK)  # while it is held: who waits for it sees that it is gone, and makes another
        lock.release()
        if tidy:
            _remove(folder / LOCK)  # Windows cannot delete a file that is held
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)
