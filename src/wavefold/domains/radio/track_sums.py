"""Sums of several scans along every straight line: the best drift for each start channel, in one pass over neighbouring drifts.

Lines of neighbouring drifts cross most pairs of rows in the same way. A plan says which sums of two, four, eight rows they
share; each is made once. Every sum follows its line to the nearest channel in every row, on one clock over all scans.

Legend: P scans, T rows of each, F channels, G drifts of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wavefold.core.compiled import has_gpu_driver, has_numba
from wavefold.core.registry import later
from wavefold.data.dataset import Floats, Ints

if TYPE_CHECKING:
    import torch
else:
    torch = later("torch")

track_kernel = later("wavefold.domains.radio.track_kernel")  # needs Numba

_BLOCK = 1 << 15  # start channels at a time without a GPU
GROUP = 32  # drifts whose sums are shared: more share little else


@dataclass(frozen=True)
class ScanPlan:
    """How the sums of one scan are made: entries 0 to T - 1 are rows, further ones are sums of two earlier entries.

    An entry holds columns `begin` to `end` (less than), counted from the line's start channel, of its first row.
    """

    first: Ints  # (entry - T,)
    second: Ints
    offset: Ints  # columns from the first one's first row to the second one's
    begin: Ints  # (entry,) for a single start channel; `end` is so many more as there are start channels
    length: Ints  # (entry,) columns beyond the number of start channels
    of_drift: Ints  # (G,) the entry of each drift
    start: Ints  # (G,) column of the scan's first row, from the line's start channel


@dataclass(frozen=True)
class Plan:
    """The plans of all scans for one group of drifts."""

    scans: tuple[ScanPlan, ...]
    numbers: tuple[int, ...]  # of the drifts

    @property
    def reach(self) -> int:
        """The largest distance in columns of any row from the start channel, either way."""
        ends = [(int(-s.begin.min()), int((s.begin + s.length).max())) for s in self.scans]
        return max(1, *(max(pair) for pair in ends))


@lru_cache(maxsize=4096)
def plan_of(first: int, count: int, step: float, scans: tuple[float, ...], rows: int) -> Plan:
    """The plan for drifts (first, ..., first + count - 1) x step columns a row. scans: rows from a line's start to each."""
    numbers = np.arange(first, first + count)
    made = []
    for begin in scans:
        at = begin + np.arange(rows)
        made.append(_scan_plan(np.floor(numbers[:, None] * step * at + 0.5).astype(np.int64)))
    return Plan(tuple(made), tuple(numbers.tolist()))


def groups(most: int) -> list[tuple[int, int]]:
    """Drift numbers -most to most in groups: first number and count."""
    return [(first, min(GROUP, most + 1 - first)) for first in range(-most, most + 1, GROUP)]


def _scan_plan(places: Ints) -> ScanPlan:
    """places: (G, T) column of each row."""
    rows = places.shape[1]
    first, second, offset = list[int](), list[int](), list[int]()

    def grow(a: int, b: int) -> Ints:
        if b - a == 1:
            return np.full(len(places), a)
        cut = a + (1 << ((b - a - 1).bit_length() - 1))  # halves of equal length share most
        left, right, moved = grow(a, cut), grow(cut, b), places[:, cut] - places[:, a]
        _, at, number = np.unique((left << 40) + (right << 20) + moved + (1 << 19), return_index=True, return_inverse=True)
        base, made = rows + len(first), np.asarray(number, np.int64)
        first.extend(left[at].tolist())
        second.extend(right[at].tolist())
        offset.extend(moved[at].tolist())
        here: Ints = base + made
        return here

    of_drift = grow(0, rows)
    entries = rows + len(first)
    low, high = np.full(entries, 1 << 40), np.full(entries, -(1 << 40))
    np.minimum.at(low, of_drift, places[:, 0])
    np.maximum.at(high, of_drift, places[:, 0])
    for entry in range(entries - 1, rows - 1, -1):
        for part, moved in ((first[entry - rows], 0), (second[entry - rows], offset[entry - rows])):
            low[part], high[part] = min(low[part], low[entry] + moved), max(high[part], high[entry] + moved)
    one, two, moved = (np.array(values, np.int64) for values in (first, second, offset))
    return ScanPlan(one, two, moved, low, high - low, of_drift, places[:, 0])


def best_drifts(rows: Floats, pad: int, plans: Sequence[Plan], best: Floats, which: NDArray[np.int32]) -> None:
    """Raise `best` (F,) to the largest sum over drifts for each start channel, and note its drift's number in `which`.

    rows: (P, T, F + 2 pad), zeros or neighbours outside. By compiled code where Numba is installed, else by torch.
    """
    if not has_numba() or (has_gpu_driver() and torch.cuda.is_available()):
        _by_torch(rows, pad, plans, best, which)
        return
    for plan in plans:
        track_kernel.raise_best(rows, pad, *_packed(plan), np.array(plan.numbers, np.int32), best, which)


def _by_torch(rows: Floats, pad: int, plans: Sequence[Plan], best: Floats, which: NDArray[np.int32]) -> None:
    """The same sums by torch, on a GPU if there is one: all start channels of a sum at once, or as many as fit its caches."""
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    block = len(best) if on_gpu else _BLOCK
    whole = torch.from_numpy(rows).to(device)
    high, number = torch.from_numpy(best).to(device), torch.from_numpy(which).to(device)
    for plan in plans:
        for low in range(0, len(best), block):
            _raise_by_torch(whole, low + pad, plan, high[low : low + block], number[low : low + block])
    best[:], which[:] = high.cpu().numpy(), number.cpu().numpy()


def _raise_by_torch(rows: torch.Tensor, origin: int, plan: Plan, best: torch.Tensor, which: torch.Tensor) -> None:
    """Raise the best sums of some start channels, the first of which is column `origin`."""
    size, count = len(best), rows.shape[1]
    sums: list[list[torch.Tensor]] = []
    for scan, own in zip(plan.scans, rows, strict=True):
        made = [own[row, origin + at : origin + at + more + size] for row, (at, more) in enumerate(_ends(scan, count))]
        for entry, (one, two, moved) in enumerate(zip(scan.first, scan.second, scan.offset, strict=True), count):
            width, here = int(scan.length[entry]) + size, int(scan.begin[entry])
            left, right = here - int(scan.begin[one]), here + int(moved) - int(scan.begin[two])
            made.append(made[one][left : left + width] + made[two][right : right + width])
        sums.append(made)
    for drift, number in enumerate(plan.numbers):
        parts = []
        for scan, made in zip(plan.scans, sums, strict=True):
            entry = int(scan.of_drift[drift])
            at = int(scan.start[drift] - scan.begin[entry])
            parts.append(made[entry][at : at + size])
        total = parts[0].clone()
        for part in parts[1:]:
            total += part
        which.masked_fill_(total > best, number)
        torch.maximum(best, total, out=best)


def _ends(scan: ScanPlan, count: int) -> list[tuple[int, int]]:
    return list(zip(scan.begin[:count].tolist(), scan.length[:count].tolist(), strict=True))


def _packed(plan: Plan) -> tuple[NDArray[np.generic], ...]:
    """A plan as arrays (P, ...), the shorter scans' filled up."""
    most = max(len(scan.first) for scan in plan.scans)
    entries = max(len(scan.begin) for scan in plan.scans)

    def filled(values: Sequence[Ints], width: int) -> Ints:
        made = np.zeros((len(values), width), np.int64)
        for row, one in zip(made, values, strict=True):
            row[: len(one)] = one
        return made

    counts = np.array([len(scan.first) for scan in plan.scans])
    parts = [filled([getattr(scan, name) for scan in plan.scans], most) for name in ("first", "second", "offset")]
    spans = [filled([getattr(scan, name) for scan in plan.scans], entries) for name in ("begin", "length")]
    ends = [np.stack([getattr(scan, name) for scan in plan.scans]) for name in ("of_drift", "start")]
    return counts, *parts, *spans, *ends
