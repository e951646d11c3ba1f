"""Draw skill by lead time and power by wavelength: forecasts and baselines as lines in one picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.plots.canvas import DOTS, LINES, figures, lead_axis, plain, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = NDArray[np.float64]
_MARKS = "osD^vPX"


class _Line(TypedDict, total=False):
    """How a line looks, as matplotlib's `plot` takes it."""

    color: str
    marker: str
    markersize: float
    linewidth: float
    linestyle: str


def draw_skill(
    path: str | Path,
    values: Mapping[str, Numbers],
    metric: str,
    *,
    unit: str = "",
    step: float = 0.0,
    intervals: Mapping[str, Numbers] | None = None,
    title: str = "",
) -> None:
    """Write a PNG of a metric by lead time. values: (lead,) by name; the first is the run's, drawn thick.

    step: seconds between leads. intervals: (lead, 2), low and high by name, shaded; names may be missing.
    """
    figure, place = _plot(title)
    for number, (name, curve) in enumerate(values.items()):
        leads, word = lead_axis(len(curve), step)
        style = _style(number)
        if intervals and name in intervals:
            low, high = np.asarray(intervals[name], np.float64).T
            place.fill_between(leads, low, high, color=style["color"], alpha=0.18, linewidth=0)
        place.plot(leads, curve, label=plain(name), **style)
        place.set_xlabel(f"lead ({word})")
    place.set_ylabel(plain(f"{metric} ({unit})" if unit else metric))
    place.locator_params(axis="x", integer=True)
    place.legend(fontsize=9, frameon=False)
    save_picture(path, figure)


def draw_spectrum(path: str | Path, power: Mapping[str, Numbers], *, side: int = 0, unit: str = "", title: str = "") -> None:
    """Write a PNG of power by wavelength, both axes logarithmic; a blurred forecast falls below the truth on the right.

    power: (bin,) by name, the truth first, in black; bin k holds k cycles across the shorter side, bin 0 is not drawn.
    side: cells of the shorter side, by default twice the last bin's number.
    """
    figure, place = _plot(title)
    for number, (name, values) in enumerate(power.items()):
        cycles = np.arange(1, len(values)) / (side or 2 * max(1, len(values) - 1))
        shown = np.where(values[1:] > 0, values[1:], np.nan)  # zero has no logarithm
        place.plot(cycles, shown, label=plain(name), **(_style(number - 1) if number else _TRUTH))
    _size_axes(place)
    _power_axis(place, [values[1:][values[1:] > 0] for values in power.values()])
    place.set_ylabel(plain(f"power ({unit}²)" if unit else "power"))
    place.legend(fontsize=9, frameon=False, loc="lower left")
    save_picture(path, figure)


def _plot(title: str) -> tuple[Figure, Axes]:
    figure: Figure = figures.Figure(figsize=(8.0, 5.0), dpi=DOTS, layout="constrained")
    place = figure.subplots()
    place.set_title(plain(title), fontsize=11)
    place.grid(alpha=0.3)
    place.spines[["top", "right"]].set_visible(False)
    return figure, place


def _style(number: int) -> _Line:
    """The run's forecast is a thick line; every other line has its own colour, marker and dash."""
    colour, mark = LINES[number % len(LINES)], _MARKS[number % len(_MARKS)]
    dashed = ("-", "--", "-.", ":")[min(number, 1 + number % 3)]
    return {"color": colour, "marker": mark, "markersize": 4, "linewidth": 2.4 if number == 0 else 1.5, "linestyle": dashed}


def _size_axes(place: Axes) -> None:
    """Cycles per cell below and cells per cycle above, with ticks at round numbers."""
    place.set_xscale("log")
    place.set_xlabel("cycles per cell")
    place.spines["top"].set_visible(True)
    sizes = place.secondary_xaxis("top", functions=(_inverse, _inverse))
    sizes.set_xlabel("size of a structure (cells per cycle)")
    for axis, ticks in ((place.xaxis, _CYCLES), (sizes.xaxis, _SIZES)):
        axis.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axis.set_ticks([], minor=True)
    place.set_xlim(max(0.002, 0.9 * _least_across(place)), 0.52)


def _least_across(place: Axes) -> float:
    firsts = (np.asarray(line.get_xdata(), np.float64)[:1] for line in place.lines)
    return min((float(x) for first in firsts for x in first), default=0.01)


def _power_axis(place: Axes, powers: list[Numbers]) -> None:
    """A logarithmic axis, cut at 1e-4 of the least power of the truth; anything below that counts as lost."""
    if not any(len(values) for values in powers):
        return
    place.set_yscale("log")
    floor = 1e-4 * min(powers[0], default=0.0)
    if any((values < floor).any() for values in powers):
        place.set_ylim(bottom=floor)


def _inverse(values: ArrayLike) -> Numbers:
    return 1 / np.maximum(np.asarray(values, np.float64), 1e-6)


_TRUTH: _Line = {"color": "black", "linewidth": 2.4}
_CYCLES, _SIZES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5), (200, 100, 50, 20, 10, 5, 3, 2)
