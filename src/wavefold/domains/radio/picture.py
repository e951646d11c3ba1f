"""Draw a cadence with matplotlib: six stacked panels labelled ON and OFF, with the ends of a line marked.

The axes of a contest's cadence are bins and rows; those of an observation are Hz from a frequency, and seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from wavefold.core.files import write_whole
from wavefold.data.dataset import Floats
from wavefold.domains.radio.cadence import NAMES, ON
from wavefold.plots.canvas import DOTS, figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Plot

_MARGINS = {"left": 0.11, "right": 0.97, "top": 0.92, "bottom": 0.06, "hspace": 0.34}  # fixed: fitting them doubles the time
_MARK = "#e4572e"
_SMALL = 72  # dots per inch of a JPEG
_ASIDE = 0.04  # of the width, from a line to the dots beside it


@dataclass(frozen=True)
class Axes:
    """The units of the axes: Hz and seconds for an observation."""

    step: float = 1.0  # per column; in Hz, negative if frequencies decrease
    seconds: float = 1.0  # per row
    starts: Sequence[float] = ()  # s, start of each panel; by default each follows the one before
    across: str = "frequency bin"
    down: str = "row"


@dataclass(frozen=True)
class Track:
    """A straight line through all panels, whose rows share one clock."""

    column: float  # at the first row of the first panel
    drift: float  # columns per row
    starts: Sequence[float] = ()  # clock row at which each panel starts; by default each follows the one before


def draw_cadence(
    target: Path | IO[bytes],
    panels: Floats,
    title: str,
    *,
    axes: Axes | None = None,
    track: Track | None = None,
    centre: float = 0.0,
    on: Sequence[int] = ON,
) -> None:
    """Write a PNG of a cadence atomically, or a small JPEG into a stream.

    panels: (6, time, frequency), any unit, each scaled between its own percentiles. track: a line that is marked, by arrows in
    the ON panels. centre: the column at the origin of the frequency axis. on: numbers of the ON panels.
    """
    units = axes or Axes()
    figure = figures.Figure(figsize=(6.4, 8.0), dpi=DOTS)
    places = figure.subplots(len(panels), 1, sharex=True, squeeze=False, gridspec_kw=_MARGINS)[:, 0]
    for number, (place, panel) in enumerate(zip(places, panels, strict=True)):
        _draw_panel(place, panel, _extent(panels.shape, number, units, centre))
        place.set_xlim(*_sides(panels.shape, units, centre))
        colour, usual = _MARK if number in on else "black", len(panels) == len(NAMES) and tuple(on) == ON
        name = NAMES[number] if usual else f"{'ON' if number in on else 'OFF'}, panel {number + 1}"
        place.set_title(name, loc="left", fontsize=9, color=colour)
        place.tick_params(labelsize=7)
        place.locator_params(axis="y", nbins=4)
        if track is not None:
            _mark(place, track, panels.shape, number, units, centre, arrows=number in on)
    places[-1].set_xlabel(units.across, fontsize=9)
    figure.supylabel(units.down, x=0.01, fontsize=9)
    figure.suptitle(title, y=0.98, fontsize=10)
    if isinstance(target, Path):
        write_whole(target, lambda stream: figure.savefig(stream, format="png", metadata={"Software": None}))
    else:
        figure.savefig(target, format="jpeg", dpi=_SMALL, pil_kwargs={"quality": 60})


def _sides(shape: tuple[int, ...], units: Axes, centre: float) -> tuple[float, float]:
    """The ends of the frequency axis in increasing order, whichever way the columns run."""
    left, right, *_ = _extent(shape, 0, units, centre)
    return min(left, right), max(left, right)


def _extent(shape: tuple[int, ...], number: int, units: Axes, centre: float) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of a panel in axis units; the centre of a column lies at its number."""
    start = _start(shape, number, units)
    left, right = ((edge - centre) * units.step for edge in (-0.5, shape[2] - 0.5))
    return left, right, start + shape[1] * units.seconds, start


def _start(shape: tuple[int, ...], number: int, units: Axes) -> float:
    return units.starts[number] if len(units.starts) else number * shape[1] * units.seconds


def _draw_panel(place: Plot, panel: Floats, extent: tuple[float, float, float, float]) -> None:
    values = np.asarray(panel, np.float32)
    whole = values[np.isfinite(values)]
    low, high = np.percentile(whole, (1, 99)) if whole.size else (0.0, 1.0)
    high = high if high > low else low + 1
    place.imshow(values, aspect="auto", interpolation="nearest", cmap="viridis", extent=extent, vmin=low, vmax=high)


def _mark(place: Plot, track: Track, shape: tuple[int, ...], number: int, units: Axes, centre: float, *, arrows: bool) -> None:
    """Mark a line by arrows above and below the panel and by dots on both sides, so that nothing hides it."""
    (left, right), (_, _, bottom, top) = _sides(shape, units, centre), _extent(shape, number, units, centre)
    begin = track.starts[number] if len(track.starts) else number * shape[1]
    ends = [(track.column + track.drift * (begin + row) - centre) * units.step for row in (0, shape[1] - 1)]
    for aside in (-_ASIDE, _ASIDE):
        place.plot([x + aside * (right - left) for x in ends], [top, bottom], ":", color="white", linewidth=1.4)
    for x, height, shape_of in zip(ends, (top, bottom), "v^", strict=True):
        if arrows and left <= x <= right:
            place.plot([x], [height], marker=shape_of, color=_MARK, markersize=6, clip_on=False)
    place.set_xlim(left, right)
    place.set_ylim(bottom, top)
