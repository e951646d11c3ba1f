"""Which of several processes this is, without torch: the first one writes and speaks for all."""

from __future__ import annotations

import os


def leads() -> bool:
    """Whether this process is the only one, or the first of torchrun's; a RANK that some launcher left says nothing."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"
