"""Process rank and count, without torch: the main process writes and prints for all; how many processors may be used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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
