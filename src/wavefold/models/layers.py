"""One-dimensional layers in the memory layout that CPUs run fastest: channels last.

Between layers a batch is (N, C, 1, T) in torch's channels_last memory, that is, (N, T, C) numbers in a row: convolution,
batch norm and pooling then run without reordering. Results are those of nn.Conv1d and its kin; `enter` converts once.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.core.distributed import whole
from wavefold.core.errors import UserError

_FEW_OUTPUTS = 32  # output positions up to which oneDNN's dilated weight gradient is slower than one matrix product
_FEW_WINDOWS = 2**14  # windows in a batch up to which one input channel is faster as a matrix product


def enter(signals: Tensor) -> Tensor:
    """Signals (N, C, T) as (N, C, 1, T) in channels_last memory."""
    return signals.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def need_length(model: str, length: int, minimum: int) -> None:
    """Raise UserError if signals are too short for a model's kernels and pools."""
    if length < minimum:
        raise UserError(
            f"{model}: signals of length {length} are too short; the model needs at least {minimum} "
            f"position{'s' if minimum != 1 else ''}"
        )


def need_least(part: str, least: int, **options: int) -> None:
    """Raise UserError for the first option below its minimum."""
    for option, value in options.items():
        if value < least:
            raise UserError(f"{part}: {option} {value} is too small; it must be {least} or more")


def drop(model: str, share: float) -> nn.Dropout:
    """Dropout of a fraction of the values; UserError for an invalid fraction."""
    if not 0 <= share < 1:
        raise UserError(f"{model}: dropout {share} is not a valid fraction; it must be at least 0 and below 1")
    return nn.Dropout(share)


def one_logit(scores: Tensor) -> Tensor:
    """Logits (N, classes) from a head's scores; a single score z becomes (0, z), whose softmax is the sigmoid of z."""
    return scores if scores.shape[1] > 1 else torch.cat([torch.zeros_like(scores), scores], 1)


def prepare_for_prediction(model: nn.Module) -> nn.Module:
    """A copy in eval mode with every foldable block replaced by its `folded` form; predictions agree to about 1e-6."""
    ready = copy.deepcopy(model).eval()
    for parent in list(ready.modules()):
        for name, child in list(parent.named_children()):
            folded: Callable[[], nn.Module] | None = getattr(child, "folded", None)
            if folded is not None:
                setattr(parent, name, folded())
    return ready


class Conv(nn.Module):
    """A convolution along positions, equal to nn.Conv1d; (N, C, 1, T) to (N, outputs, 1, T').

    weight: (output, tap, input), so that both implementations below read it without a copy; bias: (output,).
    On a CPU, dilated convolutions with few output positions, and those of one channel in small batches, run as one
    matrix product of windows (benchmarks/layout.py); all others as conv2d.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding, self.dilation = kernel, stride, padding, dilation
        bound = 1 / math.sqrt(inputs * kernel)  # initialised as nn.Conv1d
        self.weight = nn.Parameter(torch.empty(outputs, kernel, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if self._as_product(x):
            return self._product(x)
        weight = self.weight.transpose(1, 2).unsqueeze(2)  # (output, input, 1, tap), a view in channels_last
        stride = self.stride
        if self.kernel == 1 and stride > 1 and not self.padding:  # oneDNN 3's gradient of this case reads past its input
            x, stride = x[..., ::stride].contiguous(memory_format=torch.channels_last), 1
        return F.conv2d(x, weight, self.bias, (1, stride), (0, self.padding), (1, self.dilation))

    def extra_repr(self) -> str:
        outputs, kernel, inputs = self.weight.shape
        rest = f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}"
        return f"{inputs}, {outputs}, {kernel}, {rest}"

    def out_length(self, length: int) -> int:
        """Output length for an input of `length` positions."""
        return (length + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    def _as_product(self, x: Tensor) -> bool:
        if x.device.type != "cpu" or torch.compiler.is_compiling():  # exporters know conv2d, not windows
            return False
        count = self.out_length(x.shape[3])
        few = self.dilation > 1 and count <= _FEW_OUTPUTS
        return few or (x.shape[1] == 1 and x.shape[0] * count <= _FEW_WINDOWS)

    def _product(self, x: Tensor) -> Tensor:
        rows = F.pad(x[:, :, 0].transpose(1, 2), (0, 0, self.padding, self.padding))  # (N, T, C)
        windows: Tensor = _Windows.apply(rows, self.kernel, self.stride, self.dilation)  # type: ignore[no-untyped-call]  # torch
        out = F.linear(windows, self.weight.flatten(1), self.bias)  # (N, T', output)
        return out.transpose(1, 2).unsqueeze(2)


class Norm(nn.BatchNorm2d):
    """Batch normalisation of (N, C) or (N, C, 1, T); a single value per channel is normalised by the running statistics.

    torch raises an error in that case; a last batch of one sample should not end a training run.
    """

    def forward(self, x: Tensor) -> Tensor:
        flat = x.dim() == 2
        x = x[:, :, None, None] if flat else x
        if self.training and whole(x.shape[0]) * x.shape[2] * x.shape[3] == 1:
            x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        else:
            x = super().forward(x)
        return x.flatten(1) if flat else x


class MaxPool(nn.Module):
    """The largest value in each window of positions, as nn.MaxPool1d."""

    def __init__(self, kernel: int, stride: int | None = None, padding: int = 0) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride or kernel, padding

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, (1, self.kernel), (1, self.stride), (0, self.padding))

    def extra_repr(self) -> str:
        return f"{self.kernel}, stride={self.stride}, padding={self.padding}"


class _PoolTo(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def pooled(self, x: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
        length = x.shape[3]
        bounds = [(i * length // self.size, -(-(i + 1) * length // self.size)) for i in range(self.size)]
        return torch.stack([reduce(x[..., start:stop]) for start, stop in bounds], dim=3)

    def extra_repr(self) -> str:
        return str(self.size)


class MaxPoolTo(_PoolTo):
    """The largest value in each of `size` even parts: bit-equal to nn.AdaptiveMaxPool1d; exporters know its slices."""

    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(x, lambda part: part.amax(3))


class MeanPoolTo(_PoolTo):
    """The mean of each of `size` even parts, as nn.AdaptiveAvgPool1d."""

    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(x, lambda part: part.mean(3))


def dense(widths: Sequence[int], activation: type[nn.Module]) -> list[nn.Module]:
    """Linear layers of the given widths, with the activation between layers and none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation()]
    return layers[:-1]


class _Kept(Protocol):
    """What a function of autograd keeps between its two passes."""

    length: int
    steps: tuple[int, int, int]  # kernel, stride, dilation


class _Windows(torch.autograd.Function):
    """Windows (N, T', tap x C) of rows (N, T, C), with a custom gradient, because as_strided's is far slower."""

    @staticmethod
    def forward(ctx: _Kept, rows: Tensor, kernel: int, stride: int, dilation: int) -> Tensor:
        batch, length, channels = rows.shape
        count = (length - (kernel - 1) * dilation - 1) // stride + 1
        ctx.length, ctx.steps = length, (kernel, stride, dilation)
        n, t, c = rows.stride()
        view = rows.as_strided((batch, count, kernel, channels), (n, t * stride, t * dilation, c), rows.storage_offset())
        return view.reshape(batch, count, kernel * channels)

    @staticmethod
    def backward(ctx: _Kept, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        folded: Tensor = _Unwindows.apply(gradients[0], ctx.length, *ctx.steps)  # type: ignore[no-untyped-call]  # torch
        return folded, None, None, None


class _Unwindows(torch.autograd.Function):
    """The sum of windows (N, T', tap x C) at the rows (N, T, C) they came from: the transpose of _Windows."""

    @staticmethod
    def forward(ctx: _Kept, windows: Tensor, length: int, kernel: int, stride: int, dilation: int) -> Tensor:
        ctx.steps = (kernel, stride, dilation)
        batch, count, width = windows.shape
        taps = windows.reshape(batch, count, kernel, width // kernel)
        rows = windows.new_zeros(batch, length, width // kernel)
        for tap in range(kernel):
            start = tap * dilation
            rows[:, start : start + (count - 1) * stride + 1 : stride] += taps[:, :, tap]
        return rows

    @staticmethod
    def backward(ctx: _Kept, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        windows: Tensor = _Windows.apply(gradients[0], *ctx.steps)  # type: ignore[no-untyped-call]  # untyped in torch
        return windows, None, None, None, None
