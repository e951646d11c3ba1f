"""Which of several processes this is, without torch: the first one writes and speaks for all."""

from __future__ import annotations

import os


def process_count() -> int:
    """How many processes torchrun started; 1 where a WORLD_SIZE was left by something that is no launcher."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1


def leads() -> bool:
    """Whether this process is the only one, or the first."""
    return process_count() == 1 or os.environ.get("RANK", "0") == "0"
