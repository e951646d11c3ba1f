"""Saliency maps: which values of a signal a model's output depends on, by integrated gradients and by occlusion.

Integrated gradients (Sundararajan, Taly and Yan 2017): gradients along the straight line from an origin x' to a signal x,

    map_i = (x_i - x'_i) * integral over a of 0..1 of dF(x' + a (x - x')) / dx_i,      sum_i map_i = F(x) - F(x')

with F the probability of one class and the integral by the midpoint rule. Occlusion (Zeiler and Fergus 2014): the drop in F
when a piece of x is replaced by the same piece of x'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wavefold.core.errors import UserError
from wavefold.data.dataset import Floats, Ints
from wavefold.data.lazy import row_blocks, values_of

Values = NDArray[np.float64]

_ROWS = 256  # maximum rows per forward pass with gradients
_VALUES = 1 << 22  # maximum values per forward pass: ten cadences


def integrated_gradients(
    model: nn.Module,
    signals: Tensor,
    classes: Tensor,
    *,
    origin: Tensor,
    steps: int = 32,
    within: float = 0.01,
    most_steps: int = 512,
) -> Tensor:
    """Attribute the probability of a class to the values of a signal: a map that sums to F(signal) - F(origin).

    model: (N, ...) to probabilities (N, class), left unchanged; signals: (N, ...); classes: (N,) whose probability is
    explained; origin: the baseline signal, (...) or (N, ...). Samples whose map misses its sum by more than `within` are
    recomputed with four times the steps, up to `most_steps`. Returns a map shaped like signals, without gradient.
    """
    origin = origin.to(signals).expand_as(signals)
    with _evaluating(model), torch.enable_grad():
        maps = _along_line(model, signals, classes, origin, steps)
        rise = _chance(model, signals, classes) - _chance(model, origin, classes)
        while (steps := 4 * steps) <= most_steps:
            rough = torch.nonzero((maps.flatten(1).sum(1) - rise).abs() > within)[:, 0]
            if not len(rough):
                break
            maps[rough] = _along_line(model, signals[rough], classes[rough], origin[rough], steps)
    return maps


def occlusion(
    predict: Callable[[Floats], NDArray[np.floating]],
    signals: Floats,
    classes: Ints,
    *,
    pieces: int | tuple[int, ...],
    origin: Floats,
    size: int = 512,
) -> Floats:
    """Compute the drop in the probability of a class when a piece of one channel is replaced by the origin's values.

    ask: signals (rows, ...) to probabilities (rows, class); signals: (N, channel, ...); classes: (N,). pieces: number of
    pieces along the last axes, one number per axis or one for all. origin: the baseline signal, broadcastable to signals.
    size: maximum rows per call of `ask`, fewer if they are large. Each value of a piece gets the drop of the whole piece;
    negative values mean that the probability rises. Returns a map shaped like signals.
    """
    number = _piece_numbers(signals.shape[2:], pieces)  # (value of a channel,)
    channels, count = signals.shape[1], int(number.max()) + 1
    filled = np.broadcast_to(np.asarray(origin, np.float32), signals.shape)

    def covered(rows: slice) -> Floats:
        sample, channel, piece = np.unravel_index(np.arange(rows.start, rows.stop), (len(signals), channels, count))
        hidden = (np.arange(channels) == channel[:, None])[:, :, None] & (number == piece[:, None])[:, None, :]
        hidden = hidden.reshape(len(sample), *signals.shape[1:])
        return np.where(hidden, filled[sample], signals[sample])

    size = min(size, max(1, _VALUES // values_of(signals)))
    whole = _requested(predict, signals.__getitem__, classes, size)
    left = _requested(predict, covered, np.repeat(classes, channels * count), size)
    falls = whole[:, None, None] - left.reshape(len(signals), channels, count)
    return falls[:, :, number].reshape(signals.shape).astype(np.float32)


def _along_line(model: nn.Module, signals: Tensor, classes: Tensor, origin: Tensor, steps: int) -> Tensor:
    """Weighted sum of gradients at the midpoints of `steps` segments of the line; at most 256 rows at a time."""
    total = torch.zeros_like(signals)
    for rows in torch.split(torch.arange(len(signals) * steps, device=signals.device), _rows(signals)):
        sample = rows // steps
        share = ((rows % steps + 0.5) / steps).to(signals.dtype).view(-1, *[1] * (signals.ndim - 1))
        points = torch.lerp(origin[sample], signals[sample], share).detach().requires_grad_()
        chance = model(points).gather(1, classes[sample, None]).sum()
        total.index_add_(0, sample, torch.autograd.grad(chance, points)[0])
    return ((signals - origin) * total / steps).detach()


def _chance(model: nn.Module, signals: Tensor, classes: Tensor) -> Tensor:
    with torch.no_grad():
        parts = zip(torch.split(signals, _rows(signals)), torch.split(classes, _rows(signals)), strict=True)
        return torch.cat([model(some).gather(1, own[:, None])[:, 0] for some, own in parts])


def _rows(signals: Tensor) -> int:
    return min(_ROWS, max(1, _VALUES // signals[:1].numel())) if len(signals) else _ROWS


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode within the context, then restore the mode of each of its parts."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN's recurrent layers have no gradient in eval mode
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def _piece_numbers(axes: tuple[int, ...], pieces: int | tuple[int, ...]) -> Ints:
    """The piece number of each value of a channel, (value,), in memory order."""
    counts = (pieces,) * len(axes) if isinstance(pieces, int) else pieces
    if len(counts) != len(axes) or min(counts) < 1:
        raise UserError(f"occlusion: pieces {pieces} do not fit axes of {axes}; expected one number of at least 1 per axis")
    counts = tuple(map(min, counts, axes))
    along = [np.arange(length) * count // length for length, count in zip(axes, counts, strict=True)]
    return np.ravel_multi_index(np.meshgrid(*along, indexing="ij"), counts).ravel()


def _requested(
    predict: Callable[[Floats], NDArray[np.floating]], rows_of: Callable[[slice], Floats], classes: Ints, size: int
) -> Values:
    """The probability of each row's class, (row,), computed at most `size` rows at a time. classes: (row,)."""
    chances = np.empty(len(classes))
    for rows in row_blocks(len(classes), size):
        answer, own = predict(rows_of(rows)), classes[rows]
        chances[rows] = answer[np.arange(len(own)), own]
    return chances
