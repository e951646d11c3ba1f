"""Which of several processes this is, without torch: the first one writes and speaks for all."""

from __future__ import annotations

import os


def leads() -> bool:
    """Whether this process is the first, or the only one; torchrun numbers them in RANK."""
    return os.environ.get("RANK", "0") == "0"
