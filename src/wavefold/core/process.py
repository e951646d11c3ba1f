"""This process, without torch: its rank among others, the processors it may use, the memory that it keeps."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

_TRIM, _MAP = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_KEPT = 1 << 28  # bytes that are kept, at most
_MAPPED = 1 << 25  # bytes from which memory is mapped anew each time: glibc's own maximum

_most: ContextVar[int] = ContextVar("most", default=0)  # processes, 0 for no limit


def process_count() -> int:
    """Number of processes that torchrun started; 1 if WORLD_SIZE was not set by a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1


def is_main_process() -> bool:
    """Whether this is the main process: the only one, or rank 0."""
    return process_count() == 1 or os.environ.get("RANK", "0") == "0"


def processors() -> int:
    """Processors that this process may use, or fewer inside `at_most`."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(there, _most.get() or there)


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Let readers start no more than `count` processes inside the block; 0 for no limit."""
    token = _most.set(count)
    try:
        yield
    finally:
        _most.reset(token)


@cache
def keep_freed_memory() -> None:
    """Let glibc keep up to 256 MB of freed memory for what is needed next, and map no less than 32 MB anew.

    By default it returns the activations of each batch to the system, whose new pages then take longer than the net: a batch of
    512 took up to four times as long. Does nothing elsewhere, or where MALLOC_ variables of the user say what to keep.
    """
    if any(name.startswith(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")) for name in os.environ) or os.name != "posix":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM, _KEPT)
        mallopt(_MAP, _MAPPED)
