"""The drift search as a torch module for export: the score of the best track of each cadence.

All drifts are summed together by gathering, one level of the `drift_lines` tree per step; within torch the search in
`dedoppler` is several times faster.

Legend: N cadences, 6 panels, T rows (time), F columns (frequency), D drifts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.domains.radio.cadence import ON, PANELS
from wavefold.domains.radio.drift_lines import line_rows, line_shifts

_TOGETHER = 32  # drifts whose tracks are scored at once


class DriftSums(nn.Module):
    """Sums along every line of rows (T F, M), as (D F, M): the same additions in the same order as `drift_lines`."""

    def __init__(self, rows: int, columns: int, drifts: Sequence[int]) -> None:
        super().__init__()
        self.steps = 0
        for first, second in _levels(line_shifts(rows, drifts), columns):
            self.register_buffer(f"first{self.steps}", first, persistent=False)
            self.register_buffer(f"second{self.steps}", second, persistent=False)
            self.steps += 1

    def forward(self, rows: Tensor) -> Tensor:
        for step in range(self.steps):
            padded = F.pad(rows, (0, 0, 0, 1))  # the added row of zeros stands for positions outside
            first, second = getattr(self, f"first{step}"), getattr(self, f"second{step}")
            rows = padded.index_select(0, first) + padded.index_select(0, second)
        return rows


class DriftSearch(nn.Module):
    """The score (N,) of the best track of each cadence in (N, 6, T, F), built from the functions of `dedoppler`.

    clean: removes levels and profiles; on_and_off: penalised S/N; together: combines three panels; places: each panel's
    column offset by drift and third of a drift; fewest: minimum rows of a line inside the panel.
    """

    scales: Tensor  # (D, F, 1, 1)

    def __init__(
        self,
        shape: Sequence[int],
        drifts: Sequence[int],
        *,
        clean: Callable[[Tensor], Tensor],
        on_and_off: Callable[[Tensor], tuple[Tensor, Tensor]],
        together: Callable[[Tensor, Tensor, Tensor], Tensor],
        places: Sequence[Sequence[Sequence[int]]],
        fewest: int,
    ) -> None:
        super().__init__()
        _, rows, columns = shape
        self.columns, self.drifts = columns, len(drifts)
        self.clean = clean
        self.sums = DriftSums(rows, columns, drifts)
        inside = line_rows(rows, columns, drifts).float()
        scales = torch.where(inside >= min(fewest, rows), inside.clamp(min=1).rsqrt(), 0)
        self.register_buffer("scales", scales[:, :, None, None], persistent=False)
        self.scores = TrackScores(columns, places, _TOGETHER, on_and_off=on_and_off, together=together)

    def forward(self, cadences: Tensor) -> Tensor:
        rows = self.clean(cadences).permute(2, 3, 1, 0).flatten(2).flatten(0, 1)  # (T F, 6 N)
        sums = self.sums(rows).view(self.drifts, self.columns, PANELS, -1) * self.scales
        best: Tensor = self.scores(sums).amax(0)
        return best


class TrackScores(nn.Module):
    """The best scores (range, N) of tracks, from S/N (D, F, 6, N) of lines in each panel. each: drifts in a range.

    places: each panel's column offset by drift and third of a drift.
    """

    def __init__(
        self,
        columns: int,
        places: Sequence[Sequence[Sequence[int]]],
        each: int,
        *,
        on_and_off: Callable[[Tensor], tuple[Tensor, Tensor]],
        together: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.each, self.on_and_off, self.together = each, on_and_off, together
        for number, start in enumerate(range(0, len(places), each)):
            found = _tracks(places[start : start + each], columns)  # (drift x third, column, panel)
            self.register_buffer(f"tracks{number}", found, persistent=False)

    def forward(self, sums: Tensor) -> Tensor:
        parts = torch.split(sums, self.each)
        return torch.stack([self._best(snr, getattr(self, f"tracks{number}")) for number, snr in enumerate(parts)])

    def _best(self, snr: Tensor, tracks: Tensor) -> Tensor:
        """The best score (N,) over the drifts in S/N (D, F, 6, N)."""
        on, off = self.on_and_off(snr)  # (D, F, 3, N) both
        both = torch.stack([on, off], 3).flatten(2, 3)  # panel by panel: ON, OFF, ON, ...
        padded = F.pad(both.flatten(0, 2), (0, 0, 0, 1))
        followed = padded.index_select(0, tracks.flatten()).view(*tracks.shape, -1)  # (track, column, 6, N)
        first, second, third = (followed[:, :, panel] for panel in ON)
        return (self.together(first, second, third) - followed[:, :, 1::2].amax(2)).amax((0, 1))


def _tracks(places: Sequence[Sequence[Sequence[int]]], columns: int) -> Tensor:
    """Indices of each track's panels into S/N (D F 6 + 1), (track, column, 6) int32. places: (D, thirds, 6) column offsets."""
    width = columns + max(max(panels) for thirds in places for panels in thirds)
    index = torch.tensor(places)  # (D, third, 6)
    drift = torch.arange(len(places))[:, None, None, None]
    column = torch.arange(width)[:, None] - index[:, :, None]  # (D, third, column, 6)
    there = (column >= 0) & (column < columns)
    found = torch.where(there, (drift * columns + column) * PANELS + torch.arange(PANELS), len(places) * columns * PANELS)
    return found.flatten(0, 1).int()


def _levels(shifts: Tensor, columns: int) -> list[tuple[Tensor, Tensor]]:
    """For each step, the two indices of every sum's terms in the step before, halving as `drift_lines`. shifts: (D, T)."""
    spans, cuts = [(0, shifts.shape[1])], []
    while any(stop - start > 1 for start, stop in spans):
        cuts.append(spans)
        spans = [half for span in spans for half in _halves(*span)]
    cuts.append(spans)
    steps = []
    for whole, halves in zip(cuts[-2::-1], cuts[:0:-1], strict=True):
        steps.append(_joined(shifts, whole, halves, columns))
    return [*steps, _last(shifts, columns)]


def _halves(start: int, stop: int) -> list[tuple[int, int]]:
    if stop - start == 1:
        return [(start, stop)]
    cut = start + (1 << ((stop - start - 1).bit_length() - 1))  # the largest power of two below
    return [(start, cut), (cut, stop)]


def _patterns(shifts: Tensor, span: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The distinct patterns of some rows, (pattern, row), and each drift's pattern index, (D,)."""
    part = shifts[:, span[0] : span[1]]
    found: tuple[Tensor, Tensor] = torch.unique(part - part[:, :1], dim=0, return_inverse=True)
    return found


def _joined(
    shifts: Tensor, whole: Sequence[tuple[int, int]], halves: Sequence[tuple[int, int]], columns: int
) -> tuple[Tensor, Tensor]:
    """For every pattern of the longer row ranges and every column, the indices of its halves' sums among the shorter ones."""
    begins, total = {}, 0
    for span in halves:
        begins[span] = total
        total += len(_patterns(shifts, span)[0])
    outside, column = total * columns, torch.arange(columns)
    firsts: list[Tensor] = []
    seconds: list[Tensor] = []
    for span in whole:
        patterns, number = _patterns(shifts, span)
        example = torch.tensor([int((number == p).nonzero()[0]) for p in range(len(patterns))])  # one drift per pattern
        for half, places in zip(_halves(*span), (firsts, seconds), strict=False):
            own = begins[half] + _patterns(shifts, half)[1][example]
            at = column + patterns[:, half[0] - span[0]][:, None]
            there = (at >= 0) & (at < columns)
            places.append(torch.where(there, own[:, None] * columns + at, outside))
        if span[1] - span[0] == 1:
            seconds.append(torch.full((len(patterns), columns), outside))
    return tuple(torch.cat(places).flatten().int() for places in (firsts, seconds))  # type: ignore[return-value]  # two of them


def _last(shifts: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """The final step, which maps patterns to drifts (there may be fewer patterns) and adds nothing."""
    patterns, number = _patterns(shifts, (0, shifts.shape[1]))
    first = (number[:, None] * columns + torch.arange(columns)).flatten()
    return first.int(), torch.full_like(first, len(patterns) * columns).int()
