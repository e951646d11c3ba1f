"""Processes that share one training, as torchrun starts them: they take the steps that one process alone would take.

Each process answers for its rows of a batch. Inside `sharing`, whatever looks across the rows of a batch sees all of them:
batch norm takes its mean and variance over the whole batch, and dropout is drawn for it, so that a training with N processes
agrees with one of a single process but for the rounding of sums. The only file that talks to other processes.
"""

from __future__ import annotations

import atexit
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wavefold.core.errors import UserError
from wavefold.core.process import process_count


@dataclass(frozen=True)
class Share:
    """The rows of a batch that this process answers for: of n processes each takes every n-th."""

    rank: int
    counts: Sequence[int]  # rows of each process

    def own(self, whole: Tensor) -> Tensor:
        """This process's rows of something that was drawn for the whole batch, times any number of rows a sample."""
        samples = sum(self.counts)
        times = len(whole) // samples  # frames, say: outside the samples, as the nets that merge both have it
        rows = whole.view(times, samples, *whole.shape[1:])[:, self.rank :: len(self.counts)]
        return rows.flatten(0, 1)


_share: Share | None = None  # of the batch at hand; None if this process has the whole of it


def join() -> tuple[int, int]:
    """Return this process's rank and the number of processes; the first call joins torchrun's process group."""
    size = process_count()
    if size == 1:
        return 0, 1
    if not distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=timedelta(days=1))  # other ranks wait while rank 0 prepares
        atexit.register(_leave)
    return distributed.get_rank(), size


def _leave() -> None:
    """Leave the group: threads that still serve it at the end of the interpreter can abort the process."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let the main process run the block before the others, so that they find what it writes."""
    rank, size = join()
    if size > 1 and rank:
        _together(distributed.barrier)
    yield
    if size > 1 and not rank:
        _together(distributed.barrier)


def share_buffers(model: nn.Module) -> None:
    """Copy the main process's buffers to all processes, so that all evaluate the same model to the bit."""
    if distributed.is_initialized():
        for buffer in model.buffers():
            _together(partial(distributed.broadcast, buffer, 0))


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum gradients over all processes, in place; does nothing in a single process."""
    if not distributed.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    _together(partial(distributed.all_reduce, flat))
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
    found = [piece[:count] for piece, count in zip(_gathered(room, len(counts)), counts, strict=True)]
    found[distributed.get_rank()] = rows
    return torch.cat(found)


@contextmanager
def sharing(rank: int, counts: Sequence[int]) -> Iterator[None]:
    """Inside, batch norm and dropout see the whole batch, of which this process has the rows of one share.

    counts: rows of each process, 1 or more. A single process runs the block as it is.
    """
    global _share
    if len(counts) == 1:
        yield
        return
    _share = Share(rank, counts)
    try:
        with _WholeBatch():
            yield
    finally:
        _share = None


def whole(count: int) -> int:
    """Number of rows of the whole batch, where this process has `count`."""
    return count if _share is None else count // _share.counts[_share.rank] * sum(_share.counts)


def drawn_for_rows(draw: Callable[[int], Tensor], count: int) -> Tensor:
    """Random numbers for `count` rows of this process: drawn for the rows of the whole batch, so that processes do not matter.

    draw: numbers for some rows, (row, ...).
    """
    return draw(count) if _share is None else _share.own(draw(whole(count)))


class _WholeBatch(TorchFunctionMode):
    """Batch norm and dropout of a net in training, over the whole batch."""

    def __torch_function__(  # type: ignore[no-untyped-def]  # as torch declares it
        self, func, types, args=(), kwargs=None
    ):
        kwargs = kwargs or {}
        if _share and func is F.batch_norm and kwargs.get("training", args[5] if len(args) > 5 else False):
            return _batch_norm(_share, *args, **kwargs)
        if func is F.dropout and kwargs.get("training", args[2] if len(args) > 2 else True):
            return _dropout(*args, **kwargs)
        return func(*args, **kwargs)


def _batch_norm(
    share: Share,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm` in training: (N, C, ...) normalised by the mean and variance of every process's rows."""
    axes, shape = [0, *range(2, x.dim())], [1, -1, *[1] * (x.dim() - 2)]
    each = x.numel() // x.shape[1] // share.counts[share.rank]  # values of a sample in a channel
    fractions = x.new_tensor(share.counts).div(sum(share.counts))[:, None]
    variance, mean = torch.var_mean(x, axes, correction=0)
    own = torch.stack([mean, variance])
    found: Tensor = _Gathered.apply(own, len(share.counts))  # type: ignore[no-untyped-call]  # torch; (process, 2, C)
    mean = (fractions * found[:, 0]).sum(0)
    variance = (fractions * (found[:, 1] + (found[:, 0] - mean).square())).sum(0)
    if running_mean is not None and running_var is not None:
        count = each * sum(share.counts)
        running_mean.lerp_(mean.detach(), momentum)
        running_var.lerp_(variance.detach() * (count / max(1, count - 1)), momentum)
    normed = (x - mean.view(shape)) * torch.rsqrt(variance + eps).view(shape)
    if weight is not None and bias is not None:
        normed = normed * weight.view(shape) + bias.view(shape)
    return normed


def _dropout(x: Tensor, p: float = 0.5, *_: bool, **__: bool) -> Tensor:
    """`F.dropout` in training, with the zeros that a process with the whole batch would draw."""
    if p == 0:
        return x
    order = torch.channels_last if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) else None
    noise = drawn_for_rows(lambda rows: _like(x, rows, order).bernoulli_(1 - p), len(x))
    return x * noise.div_(1 - p)


def _like(x: Tensor, rows: int, order: torch.memory_format | None) -> Tensor:
    return torch.empty((rows, *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=order or torch.contiguous_format)


class _Gathered(torch.autograd.Function):
    """(...) of each process to (process, ...); the gradients of all processes reach each one's own."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, own: Tensor, processes: int) -> Tensor:
        return torch.stack(_gathered(own, processes))

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous()
        _together(partial(distributed.all_reduce, gradient))
        return gradient[distributed.get_rank()], None


def _gathered(own: Tensor, processes: int) -> list[Tensor]:
    own = own.contiguous()
    pieces = [torch.empty_like(own) for _ in range(processes)]
    _together(partial(distributed.all_gather, pieces, own))
    return pieces


def _together(talk: Callable[[], object]) -> None:
    """Talk to the other processes; UserError if one of them is gone."""
    try:
        talk()
    except RuntimeError as error:
        says = re.sub(r"^\[[^]]*:\d+\] ", "", str(error).splitlines()[0])  # without the place in gloo's source
        raise UserError(
            f"one of the {process_count()} processes of this training ended ({says}); its own words say why; "
            "start the same command again to go on from the last saved state"
        ) from None
