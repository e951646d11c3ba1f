"""What may make a machine faster, asked without importing torch: Numba, the extra `fast`, and the driver of a GPU."""

from __future__ import annotations

import importlib.util
from ctypes.util import find_library
from functools import cache

from wavefold.core.registry import optional

numba = optional("numba", extra="fast")


@cache
def has_numba() -> bool:
    """Whether Numba is installed."""
    return importlib.util.find_spec("numba") is not None


@cache
def has_gpu_driver() -> bool:
    """Whether the library of an NVIDIA or AMD driver is installed; without one, torch has no GPU."""
    return any(find_library(name) is not None for name in ("cuda", "nvcuda", "amdhip64"))
