"""Sums along every drifting line of a spectrogram, exact for each integer drift.

A line that drifts by d bins is at column f + round(d t / (T - 1)) in row t. Rows are joined in pairs, pairs in fours
and so on; over few rows the lines of many drifts take the same steps, and such a shared pattern is summed once. The Taylor
tree of the classical search shares more but bends the lines; here each sum follows the exact line.

Legend: N panels, T rows (time), F columns (frequency), D drifts. Internal arrays are (pattern, column, panel), so that a
shift in frequency is one contiguous block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wavefold.core.errors import UserError
from wavefold.data.dataset import Ints

_COLUMNS = 65536  # starting columns per part of a wide panel


def line_drifts(rows: int, most: float = 0.5) -> range:
    """Integer drifts, in bins over a panel of `rows` rows, from -most to +most bins per row."""
    reach = int(most * (rows - 1) + 0.5)
    return range(-reach, reach + 1)


def line_shifts(rows: int, drifts: Sequence[int]) -> Tensor:
    """Column shift of each drift at each row, (D, T): d t / (T - 1) rounded, halves away from zero."""
    drift, row = torch.as_tensor(list(drifts), dtype=torch.int64)[:, None], torch.arange(rows)
    last = max(rows - 1, 1)
    return drift.sign() * ((2 * drift.abs() * row + last) // (2 * last))


def line_rows(rows: int, columns: int, drifts: Sequence[int], *, margin: int = 0) -> Tensor:
    """Number of rows of each line inside the panel, (D, F + 2 margin), for start columns from -margin on."""
    shifts = line_shifts(rows, drifts)
    starts = torch.arange(-margin, columns + margin).expand(len(shifts), -1).contiguous()
    forward = torch.where((shifts[:, -1] < 0)[:, None], -shifts, shifts).contiguous()  # increasing along the rows
    starts = torch.where((shifts[:, -1] < 0)[:, None], columns - 1 - starts, starts)  # mirrored to match
    return torch.searchsorted(forward, columns - 1 - starts, right=True) - torch.searchsorted(forward, -starts)


def line_sums(panels: Tensor, drifts: Sequence[int] | None = None, *, margin: int = 0) -> Tensor:
    """Sums (N, D, F + 2 margin) of panels (N, T, F) along lines that start at columns -margin .. F + margin - 1.

    Columns outside the panel add nothing; `line_rows` counts the rows inside. Drifts are integer bins over the panel, by
    default up to half a bin per row. The result is a view whose memory order is (D, column, N).
    """
    drifts = line_drifts(panels.shape[1]) if drifts is None else drifts
    return sums_by_drift(panels.permute(1, 2, 0).contiguous(), drifts, margin=margin).permute(2, 0, 1)


def line_parts(panels: Tensor, drifts: Sequence[int], *, columns: int = _COLUMNS) -> Iterator[tuple[int, Tensor]]:
    """Yield the same sums in parts of `columns` start columns, each with its first column; memory is bounded by one part."""
    left, right = max(0, -min(drifts)), max(0, *drifts)
    for first in range(0, panels.shape[2], columns):
        low, high = max(first - left, 0), first + columns + right
        part = line_sums(panels[:, :, low:high], drifts)
        yield first, part[:, :, first - low : first - low + columns]


def sums_by_drift(rows: Tensor, drifts: Sequence[int], *, margin: int = 0) -> Tensor:
    """Sums (D, F + 2 margin, N) of contiguous rows (T, F, N): `line_sums` without permuting the axes."""
    count, columns, _ = rows.shape
    if not count or not len(drifts):
        raise UserError(f"line sums: got {count} rows and {len(drifts)} drifts; expected at least 1 of each")
    node, numbers = _tree(count, tuple(drifts), columns, margin)
    sums = _summed(node, rows, 0, margin)
    return sums if numbers == tuple(range(len(sums))) else sums[list(numbers)]


@dataclass(frozen=True)
class _Joint:
    """A pattern as one pattern of the first half of the rows and one of the second, `offset` columns later."""

    first: int
    second: int
    offset: int
    pieces: tuple[
        tuple[int, int, bool, bool], ...
    ]  # start and stop column; whether the first, and the second, half contributes


@dataclass(frozen=True)
class _Node:
    """A range of rows: its patterns and its halves; a single row has no halves."""

    size: int
    joints: tuple[_Joint, ...]
    halves: tuple[_Node, _Node] | None


@lru_cache(maxsize=16)
def _tree(rows: int, drifts: tuple[int, ...], columns: int, margin: int) -> tuple[_Node, tuple[int, ...]]:
    """The patterns of all drifts, and the index of each drift's pattern."""
    node, numbers = _grow(line_shifts(rows, drifts), columns, margin)
    return node, tuple(numbers)


@lru_cache(maxsize=16)
def joints_of(rows: int, drifts: tuple[int, ...]) -> tuple[Ints, int, Ints]:
    """The same sums as a list of additions, in an order in which few sums are needed at a time.

    Joints (joint, 4): the row of sums that is made, those of its first and second half, and the columns by which the second is
    moved; -1 - t is row t of the panel. Then the number of rows of sums, and each drift's row, (D,).
    """
    node, numbers = _tree(rows, drifts, 1, 0)
    joints, free, made = list[tuple[int, int, int, int]](), list[int](), [0]

    def walk(node: _Node, at: int) -> list[int]:
        if node.halves is None:
            return [-1 - at]
        first, second = walk(node.halves[0], at), walk(node.halves[1], at + node.halves[0].size)
        here = []
        for joint in node.joints:
            if free:
                here.append(free.pop())
            else:
                here.append(made[0])
                made[0] += 1
            joints.append((here[-1], first[joint.first], second[joint.second], joint.offset))
        free.extend(row for row in (*first, *second) if row >= 0)
        return here

    rows_of = walk(node, 0)
    return np.array(joints, np.int64).reshape(-1, 4), made[0], np.array([rows_of[number] for number in numbers], np.int64)


def _grow(shifts: Tensor, columns: int, margin: int) -> tuple[_Node, list[int]]:
    """The node for (drift, row) shifts, and the index of each drift's pattern in it."""
    patterns, numbers = torch.unique(shifts - shifts[:, :1], dim=0, return_inverse=True)
    size = shifts.shape[1]
    if size == 1:
        return _Node(1, (_Joint(0, 0, 0, ()),), None), numbers.tolist()
    cut = 1 << ((size - 1).bit_length() - 1)  # the largest power of two below size: halves of equal size share most
    first, firsts = _grow(patterns[:, :cut], columns, margin)
    second, seconds = _grow(patterns[:, cut:], columns, margin)
    joints = []
    for row, left, right in zip(patterns.tolist(), firsts, seconds, strict=True):
        spans = _span(row[cut - 1], 0, columns, margin), _span(row[-1] - row[cut], row[cut], columns, margin)
        joints.append(_Joint(left, right, row[cut], _pieces(*spans, columns + 2 * margin)))
    return _Node(size, tuple(joints), (first, second)), numbers.tolist()


def _span(reach: int, offset: int, columns: int, margin: int) -> tuple[int, int]:
    """Start columns, counted from -margin, whose lines touch the panel if they begin `offset` later and move `reach`."""
    low, high = -min(max(reach, 0), margin), columns + min(max(-reach, 0), margin)
    return max(low + margin - offset, 0), min(high + margin - offset, columns + 2 * margin)


def _pieces(first: tuple[int, int], second: tuple[int, int], width: int) -> tuple[tuple[int, int, bool, bool], ...]:
    """The columns, split where either half begins or ends."""
    edges = sorted({0, width, *(min(max(edge, 0), width) for edge in (*first, *second))})
    return tuple((start, stop, first[0] <= start < first[1], second[0] <= start < second[1]) for start, stop in pairwise(edges))


def _summed(node: _Node, rows: Tensor, at: int, margin: int) -> Tensor:
    """Sums (pattern, F + 2 margin, N) over the node's rows, the first of which is row `at`."""
    if node.halves is None:
        return F.pad(rows[at], (0, 0, margin, margin))[None]
    first = _summed(node.halves[0], rows, at, margin)
    second = _summed(node.halves[1], rows, at + node.halves[0].size, margin)
    out = rows.new_empty(len(node.joints), *first.shape[1:])
    for own, joint in zip(out, node.joints, strict=True):
        _join(own, first[joint.first], second[joint.second], joint)
    return out


def _join(own: Tensor, first: Tensor, second: Tensor, joint: _Joint) -> None:
    """Fill own (column, N) with the first half's sums plus the second's, shifted by the offset."""
    move = joint.offset
    for start, stop, in_first, in_second in joint.pieces:
        if in_first and in_second:
            torch.add(first[start:stop], second[start + move : stop + move], out=own[start:stop])
        elif in_first:
            own[start:stop] = first[start:stop]
        elif in_second:
            own[start:stop] = second[start + move : stop + move]
        else:
            own[start:stop] = 0
