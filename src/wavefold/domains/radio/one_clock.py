"""Locates the line of a cadence: the straight track, on one clock through all six panels, that best separates ON from OFF.

The classical search (`dedoppler`) scores any cadence; this assumes that a needle is present and estimates its position, drift
and S/N. The six panels form one long panel in which OFF counts negatively, so that a carrier in all six cancels.

Legend: N cadences, 6 panels, T rows (time), F columns (frequency), D drifts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from wavefold.domains.radio.cadence import OFF, ON
from wavefold.domains.radio.drift_lines import line_drifts, line_rows, line_sums
from wavefold.domains.radio.needles import residual

_CLIP = 10.0  # residual sigma at which pixels are clipped when choosing a line: one burst is not a line
_BLOCK = 1 << 24  # maximum number of sums at a time
_STEPS = (0.0, -0.25, 0.25, -0.5, 0.5, -0.75, 0.75)  # columns by which a line's ends are moved, smallest first


@dataclass(frozen=True)
class Line:
    """The track of each cadence."""

    column: Tensor  # (N,) at the first row of the first panel; outside 0 to F - 1 if the line enters later
    drift: Tensor  # (N,) columns per row
    snr: Tensor  # (N,) S/N of the ON panels' pixels along the line
    off: Tensor  # (N,) S/N of the OFF panels' pixels along the line


def on_off_lines(cadences: Tensor, starts: Sequence[int] = (), *, steepest: float = 0.5, against: Sequence[int] = OFF) -> Line:
    """The best line of each cadence (N, 6, T, F), of any scale, with a drift of up to `steepest` columns per row either way.

    starts: the row at which each panel begins, if there are time gaps between panels. against: the panels that count
    negatively; without any, the line is the strongest in ON, whatever is in OFF.
    """
    count, panels, rows, columns = cadences.shape
    begins = list(starts) or [panel * rows for panel in range(panels)]
    drifts = line_drifts(begins[-1] + rows, steepest)
    size = max(1, _BLOCK // (len(drifts) * (columns + 2 * drifts[-1])))
    parts = torch.split(cadences, size) if count else ()
    found = [_lines(part, begins, drifts, against) for part in parts] or [(torch.zeros(0),) * 4]
    return Line(*(torch.cat(values) for values in zip(*found, strict=True)))


def _lines(cadences: Tensor, starts: list[int], drifts: range, against: Sequence[int]) -> tuple[Tensor, ...]:
    """Column, drift and both S/N, as `Line`."""
    count, _, rows, columns = cadences.shape
    values, margin, last = _levelled(cadences), drifts[-1], starts[-1] + rows
    clock = torch.zeros(count, last, columns)  # one long panel: gaps add nothing
    for panel, start in enumerate(starts):
        if panel in ON or panel in against:
            clock[:, start : start + rows] = values[:, panel].clamp(-_CLIP, _CLIP) * (1 if panel in ON else -1)
    sums = line_sums(clock, drifts, margin=margin)  # (N, D, F + 2 margin)
    inside = line_rows(last, columns, drifts, margin=margin)
    weight = torch.where(inside >= rows, inside.clamp(min=1).rsqrt(), 0)  # at least as many rows as a panel has
    best = (sums * weight).flatten(1).argmax(1)
    width = columns + 2 * margin
    which, column = best // width, best % width - margin
    at = torch.tensor(starts)[:, None] + torch.arange(rows)  # (6, T) rows of the clock
    return _refined(values, column.double(), torch.tensor(list(drifts))[which].double(), at)


def _refined(values: Tensor, column: Tensor, moved: Tensor, at: Tensor) -> tuple[Tensor, ...]:
    """The best line less than a column from this one, as `Line`: searching only whole columns loses a fifth of the S/N.

    column: (N,) at row 0; moved: (N,) columns to the last row; at: (6, T) rows of the clock.
    """
    last = max(int(at.max()), 1)
    tries = []
    for ahead, more in product(_STEPS, _STEPS):
        start, drift = column + ahead, (moved + more - ahead) / last
        place = torch.floor(start[:, None, None] + drift[:, None, None] * at + 0.5).long()
        tries.append((start, drift, _snr(values, place, ON), _snr(values, place, OFF)))
    starts, slopes, snrs, offs = (torch.stack(several) for several in zip(*tries, strict=True))  # (try, N) each
    best = snrs.argmax(0, keepdim=True)
    return tuple(several.gather(0, best)[0] for several in (starts, slopes, snrs, offs))


def _snr(values: Tensor, place: Tensor, panels: Sequence[int]) -> Tensor:
    """S/N along lines in some panels, (N,). values: (N, 6, T, F) in sigma; place: (N, 6, T) columns."""
    columns, some = values.shape[3], list(panels)
    there = (place >= 0) & (place < columns)
    along = values.gather(3, place.clamp(0, columns - 1)[..., None])[..., 0] * there  # (N, 6, T)
    return along[:, some].sum((1, 2)) / there[:, some].sum((1, 2)).clamp(min=1).sqrt()


def _levelled(cadences: Tensor) -> Tensor:
    """Cadences in sigma of each panel's residual, minus row medians and the OFF panels' column medians.

    Column medians of all panels would remove a line that does not drift; OFF medians remove the bandpass and constant signals.
    """
    values = cadences / residual(cadences).clamp(min=1e-6)[..., None, None]
    values = values - values.median(3, keepdim=True).values
    return values - values[:, list(OFF)].flatten(1, 2).median(1).values[:, None, None]
