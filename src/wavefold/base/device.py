"""The one file that knows devices, precision and processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from wavefold.base.process import process_count


def best_device() -> torch.device:
    """The GPU of this process where there is one, else the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def processor_threads() -> int:
    """How many threads of the processor this process may use: torch's number, which OMP_NUM_THREADS sets."""
    return torch.get_num_threads()


def seed_step(key: int) -> None:
    """Give dropout and its like the numbers of one step, so that no generator needs saving."""
    torch.default_generator.manual_seed(key)  # torch.manual_seed asks every backend: 18 times the cost
    if torch.cuda.is_available():
        torch.cuda.manual_seed(key)


def be_repeatable() -> None:
    """Ask torch for kernels that give the same bits each time; on a processor this changes nothing that we use."""
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False


def join() -> tuple[int, int]:
    """This process's rank and the number of processes; joins torchrun's others at the first call."""
    size = process_count()
    if size == 1:
        return 0, 1
    if not distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=timedelta(days=1))  # the others wait while the first prepares
    return distributed.get_rank(), size


@contextmanager
def first_process_first() -> Iterator[None]:
    """Let the first process through the block before the others: what it writes there, they find."""
    rank, size = join()
    if size > 1 and rank:
        distributed.barrier()
    yield
    if size > 1 and not rank:
        distributed.barrier()


def share_buffers(model: nn.Module) -> None:
    """Give every process the first one's buffers (batch norm's statistics), so that all judge the same model."""
    if distributed.is_initialized():
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add the gradients of all processes, in place; nothing where there is one process."""
    if not distributed.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    distributed.all_reduce(flat)
    for gradient, piece in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(piece.view_as(gradient))


def with_others(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """The rows of all processes, in the order of their ranks; only this one's own carry gradients.

    rows: (row, ...) of this process; counts: rows of each. Where every process takes the same function of the result and
    the gradients are summed, they are those of one process that has all rows.
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
    """A copy of weights that outlives the next step and loads on any machine."""
    return {name: value.detach().to("cpu", copy=True) for name, value in weights.items()}
