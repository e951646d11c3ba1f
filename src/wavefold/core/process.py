"""Process rank and count, without torch: the main process writes and prints for all."""

from __future__ import annotations

import os


def process_count() -> int:
    """Number of processes that torchrun started; 1 if WORLD_SIZE was not set by a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1


def is_main_process() -> bool:
    """Whether this is the main process: the only one, or rank 0."""
    return process_count() == 1 or os.environ.get("RANK", "0") == "0"
