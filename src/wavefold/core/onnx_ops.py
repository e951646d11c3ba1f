"""Linear algebra that torch has as a single call and ONNX lacks: torch's call for computation, basic operations for export.

Both forms agree up to rounding. The exported form uses only sums, products and top-k.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SWEEPS = 4  # Jacobi sweeps over all pairs: 8 x 8 matrices are then diagonal far beyond float32 precision
_TINY = 1e-300  # avoids division by zero


def lower_median(values: Tensor, axis: int, *, keepdim: bool = False) -> Tensor:
    """The median along an axis; for an even count the lower of the middle two, as in torch."""
    if not torch.compiler.is_exporting():
        return values.median(axis, keepdim=keepdim).values
    found = kth_smallest(values, (values.shape[axis] + 1) // 2, axis)
    return found if keepdim else found.squeeze(axis)


def middle(values: Tensor, axis: int) -> Tensor:
    """The median along an axis, which is kept; for an even count the mean of the middle two, as in numpy."""
    count = values.shape[axis]
    upper = torch.topk(values, count // 2 + 1, axis, largest=False).values
    high = upper.narrow(axis, count // 2, 1)
    return high if count % 2 else (upper.narrow(axis, count // 2 - 1, 1) + high) / 2


def kth_smallest(values: Tensor, number: int, axis: int) -> Tensor:
    """The `number`th smallest value along an axis, counted from 1; the axis is kept."""
    return torch.topk(values, number, axis, largest=False).values.narrow(axis, number - 1, 1)


def sequential_sum(values: Tensor, axis: int) -> Tensor:
    """The sum along an axis, which is kept, added up in order: the same bits wherever it is computed."""
    if torch.compiler.is_exporting():
        return values.cumsum(axis).narrow(axis, -1, 1)  # ONNX Runtime adds in this order; torch would add in float64
    total, *others = torch.split(values, 1, axis)
    for other in others:
        total = total + other
    return total


def orthonormal(columns: Tensor) -> Tensor:
    """An orthonormal basis (N, F, K) of the span of columns (N, F, K), built in their order; signs are arbitrary."""
    if not torch.compiler.is_exporting():
        exact: Tensor = torch.linalg.qr(columns).Q
        return exact
    basis = _unit(columns[:, :, :1].double())
    for number in range(1, columns.shape[2]):  # Gram-Schmidt, done twice for full accuracy
        column = _unit(columns[:, :, number : number + 1].double())
        for _ in range(2):
            column = column - basis @ (basis.transpose(1, 2) @ column)
        basis = torch.cat([basis, _unit(column)], 2)
    return basis.to(columns.dtype)


def eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (N, K), unordered, and eigenvectors (N, K, K), as columns, of symmetric matrices (N, K, K)."""
    if not torch.compiler.is_exporting():
        values, vectors = torch.linalg.eigh(matrices)
        return values, vectors
    size = matrices.shape[1]
    turned, axes = matrices.double(), torch.eye(size, dtype=torch.float64).expand(matrices.shape)
    for pairs in _rounds(size) * _SWEEPS:
        turn = _rotation(turned, pairs)
        turned, axes = turn.transpose(1, 2) @ turned @ turn, axes @ turn
    values = turned.flatten(1)[:, :: size + 1]
    return values.to(matrices.dtype), axes.to(matrices.dtype)


def _unit(columns: Tensor) -> Tensor:
    return columns / columns.square().sum(1, keepdim=True).sqrt().clamp(min=_TINY)


def _rounds(size: int) -> list[list[tuple[int, int]]]:
    """Every pair of `size` indices once, in rounds of disjoint pairs, as in a round-robin tournament."""
    even = size + size % 2
    players, rounds = list(range(even)), []
    for _ in range(even - 1):
        sides = zip(players[: even // 2], players[: even // 2 - 1 : -1], strict=True)
        rounds.append([(min(pair), max(pair)) for pair in sides if max(pair) < size])
        players = [players[0], players[-1], *players[1:-1]]
    return [pairs for pairs in rounds if pairs]


def _rotation(matrices: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """The rotation (N, K, K) that zeroes symmetric matrices (N, K, K) at these pairs (Jacobi 1846)."""
    size = matrices.shape[1]
    first, second, beside = (matrices.flatten(1)[:, places] for places in _places(pairs, size))  # (N, pair) each
    apart, twice = second - first, 2 * beside
    root = (apart.square() + twice.square()).sqrt()
    tangent = torch.where(apart < 0, -twice, twice) / (apart.abs() + root).clamp(min=_TINY)
    cosine = (1 + tangent.square()).rsqrt()
    turned = torch.cat([cosine, tangent * cosine, torch.ones_like(cosine[:, :1])], 1) @ _spread(pairs, size)
    return turned.view(-1, size, size)


def _places(pairs: list[tuple[int, int]], size: int) -> list[Tensor]:
    """Positions in a flat matrix of the two diagonal values of each pair and of its off-diagonal value."""
    return [
        torch.tensor(places)
        for places in zip(*((low * size + low, high * size + high, low * size + high) for low, high in pairs), strict=True)
    ]


def _spread(pairs: list[tuple[int, int]], size: int) -> Tensor:
    """Matrix that maps cosines, sines and a one to a flat rotation, (2 pairs + 1, size x size) float64."""
    rows = [[0.0] * (size * size) for _ in range(2 * len(pairs) + 1)]
    for number, (low, high) in enumerate(pairs):
        rows[number][low * size + low] = rows[number][high * size + high] = 1.0
        rows[len(pairs) + number][low * size + high], rows[len(pairs) + number][high * size + low] = 1.0, -1.0
    for alone in set(range(size)) - {member for pair in pairs for member in pair}:
        rows[-1][alone * size + alone] = 1.0
    return torch.tensor(rows, dtype=torch.float64)
