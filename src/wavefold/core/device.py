"""Devices, threads and deterministic kernels: the only file that deals with them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import threadpoolctl
import torch
from torch import Tensor


def best_device() -> torch.device:
    """The GPU of this process if there is one, otherwise the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def processor_threads() -> int:
    """Number of CPU threads this process may use: torch's setting, which OMP_NUM_THREADS controls."""
    return torch.get_num_threads()


def thread_counts() -> dict[str, int]:
    """Threads of torch, and of the pools that NumPy, SciPy and scikit-learn use ("blas", "openmp"): results depend on them."""
    counts = {"torch": torch.get_num_threads()}
    for pool in threadpoolctl.threadpool_info():
        counts[pool["user_api"]] = max(pool["num_threads"], counts.get(pool["user_api"], 0))
    return counts


@contextmanager
def threads_set(counts: Mapping[str, int]) -> Iterator[None]:
    """Use as many threads as `thread_counts` found elsewhere; the library's pools return to theirs at the end."""
    if "torch" in counts:
        torch.set_num_threads(counts["torch"])
    with threadpoolctl.threadpool_limits({name: count for name, count in counts.items() if name != "torch"}):
        yield


def seed_step(key: int) -> None:
    """Seed torch for one step (dropout and the like), so that no generator state needs saving."""
    torch.default_generator.manual_seed(key)  # torch.manual_seed seeds every backend, at 18 times the cost
    if torch.cuda.is_available():
        torch.cuda.manual_seed(key)


def make_deterministic() -> None:
    """Make torch use deterministic kernels on a GPU; those used on the CPU are deterministic already."""
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False


def to_cpu(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy weights to the CPU, so that they survive the next step and load on any machine."""
    return {name: value.detach().to("cpu", copy=True) for name, value in weights.items()}
