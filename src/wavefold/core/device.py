"""Devices, deterministic kernels and distributed processes: the only file that deals with them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

import threadpoolctl
import torch
import torch.distributed as distributed
from torch import Tensor, nn

from wavefold.core.process import process_count


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


def join() -> tuple[int, int]:
    """Return this process's rank and the number of processes; the first call joins torchrun's process group."""
    size = process_count()
    if size == 1:
        return 0, 1
    if not distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=timedelta(days=1))  # other ranks wait while rank 0 prepares
    return distributed.get_rank(), size


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let the main process run the block before the others, so that they find what it writes."""
    rank, size = join()
    if size > 1 and rank:
        distributed.barrier()
    yield
    if size > 1 and not rank:
        distributed.barrier()


def share_buffers(model: nn.Module) -> None:
    """Copy the main process's buffers (batch norm statistics) to all processes, so that all evaluate the same model."""
    if distributed.is_initialized():
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum gradients over all processes, in place; does nothing in a single process."""
    if not distributed.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    distributed.all_reduce(flat)
    for gradient, piece in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(piece.view_as(gradient))


def all_gather(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """Gather the rows of all processes, in rank order; only this process's own rows carry gradients.

    rows: (row, ...) of this process; counts: rows per process. If every process computes the same function of the result and
    the gradients are summed, they equal those of a single process that has all rows.
    """
    if len(counts) == 1:
        return rows
    room = rows.new_zeros((max(counts), *rows.shape[1:]))
    room[: len(rows)] = rows.detach()
    pieces = [torch.empty_like(room) for _ in counts]
    distributed.all_gather(pieces, room)
    found = [piece[:count] for piece, count in zip(pieces, counts, strict=True)]
    found[distributed.get_rank()] = rows
    return torch.cat(found)


def to_cpu(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy weights to the CPU, so that they survive the next step and load on any machine."""
    return {name: value.detach().to("cpu", copy=True) for name, value in weights.items()}
