"""Shared parts of pictures: access to matplotlib, safe colours, labels of lead times, and a sheet of equal panels.

The colour maps are viridis for values, red-blue for errors and magma for the size of errors, all safe for colour-blind readers;
grey means "no value".
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wavefold.core.files import write_whole
from wavefold.core.registry import optional
from wavefold.data.lazy import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

package = optional("matplotlib", extra="pictures")
figures = optional("matplotlib.figure", extra="pictures")
animations = optional("matplotlib.animation", extra="pictures")

DOTS = 100  # per inch
VALUES, ERRORS, SIZES = "viridis", "RdBu_r", "magma"
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")  # palette of Okabe and Ito
_NOTHING = "#b0b0b0"  # the colour of "no value"
_MONTH = 365.25 * 86400 / 12  # seconds
_UNITS = ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))


@dataclass(frozen=True)
class Field:
    """What the frames of a picture show: a channel, its unit, the time step, and coordinates if known."""

    channel: str = ""
    unit: str = ""
    step: float = 0.0  # seconds between frames; 0 if unknown
    rows: NDArray[np.float64] | None = None  # (row,)
    columns: NDArray[np.float64] | None = None  # (column,)

    @property
    def label(self) -> str:
        """Name and unit, such as "t2m (degC)"."""
        return plain(f"{self.channel} ({self.unit})" if self.channel and self.unit else self.channel or self.unit)


@dataclass(frozen=True)
class Sheet:
    """Equal panels in rows and columns with square cells, and room for names on the left and colour bars on the right."""

    rows: int
    columns: int
    width: float  # of a panel, in inches
    height: float
    between: float = 0.1  # gap between columns
    head: float = 0.7  # space above the panels

    @classmethod
    def of(
        cls, rows: int, columns: int, shape: Sequence[int], widest: float = 3.2, between: float = 0.1, head: float = 0.7
    ) -> Sheet:
        """Return a sheet of at most about 12 inches width for frames of a shape (row, column)."""
        width = min(widest, (12.0 - _LEFT - _RIGHT) / columns - between)
        height = width * float(np.clip(shape[0] / shape[1], 0.25, 4.0))
        shrink = min(1.0, widest / height)
        return cls(rows, columns, width * shrink, height * shrink, between, head)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the sheet, in inches."""
        across = _LEFT + self.columns * (self.width + self.between) + _RIGHT
        return max(across, 6.4), self.head + self.rows * (self.height + _BELOW) - _BELOW + _FOOT

    def figure(self, title: str) -> Figure:
        """Return an empty figure with a title, wrapped if it is long."""
        figure: Figure = figures.Figure(figsize=self.size, dpi=DOTS)
        lines = textwrap.wrap(plain(title), int(self.size[0] * 12))[:2]
        figure.text(0.5, 1 - 0.12 / self.size[1], "\n".join(lines), ha="center", va="top", fontsize=11)
        return figure

    def panel(self, figure: Figure, row: int, column: int) -> Axes:
        """Return the axes of a panel; tick labels appear only at the left and bottom of the sheet."""
        left, bottom = _LEFT + column * (self.width + self.between), self._bottom(row)
        place = figure.add_axes(self._share(left, bottom, self.width, self.height))
        place.tick_params(labelsize=7, labelleft=column == 0, labelbottom=row == self.rows - 1)
        place.locator_params(nbins=4)
        return place

    def bar(
        self, figure: Figure, image: AxesImage, label: str, rows: tuple[int, int], column: int | None = None, end: str = ""
    ) -> None:
        """Add a colour bar to the right of the panels, from one row to another, both inclusive."""
        last = self.columns - 1 if column is None else column
        left, bottom = _LEFT + (last + 1) * self.width + last * self.between + 0.1, self._bottom(rows[1])
        height = self._bottom(rows[0]) + self.height - bottom
        bar = figure.colorbar(image, cax=figure.add_axes(self._share(left, bottom, 0.14, height)), extend=end or "neither")
        bar.ax.tick_params(labelsize=7)
        bar.set_label(label, fontsize=9)

    def name(self, figure: Figure, row: int, text: str, column: int = 0) -> None:
        """Write the name of a row vertically to the left of its first panel."""
        middle = (self._bottom(row) + self.height / 2) / self.size[1]
        left = (_LEFT + column * (self.width + self.between) - 0.4) / self.size[0]
        lines = textwrap.wrap(plain(text), max(12, int(self.height * 12)), break_long_words=False)
        figure.text(left, middle, "\n".join(lines[:3]), ha="right", va="center", ma="center", rotation=90, fontsize=9)

    def _bottom(self, row: int) -> float:
        return _FOOT + (self.rows - 1 - row) * (self.height + _BELOW)

    def _share(self, left: float, bottom: float, width: float, height: float) -> tuple[float, float, float, float]:
        across, down = self.size
        return left / across, bottom / down, width / across, height / down


_LEFT, _RIGHT, _FOOT, _BELOW = 0.95, 0.95, 0.35, 0.3  # inches; _BELOW leaves room for a panel's title


def draw_map(place: Axes, frame: Floats, field: Field, limits: tuple[float, float], colours: str = VALUES) -> AxesImage:
    """Draw a frame (row, column) and return the image; known coordinates increase upwards and to the right."""
    shown = package.colormaps[colours].with_extremes(bad=_NOTHING)
    top, bottom, upward = _edges(field.rows, frame.shape[0])
    left, right, rightward = _edges(field.columns, frame.shape[1])
    low, high = limits
    image = place.imshow(
        frame, aspect="auto", interpolation="nearest", cmap=shown, vmin=low, vmax=high, extent=(left, right, bottom, top)
    )
    if upward:
        place.set_ylim(min(bottom, top), max(bottom, top))
    if rightward:
        place.set_xlim(min(left, right), max(left, right))
    return image


def limits_of(arrays: Iterable[Floats]) -> tuple[float, float, str]:
    """Return the 0.5 and 99.5 percentiles and where values exceed them: "neither", "min", "max" or "both"."""
    held = [values[np.isfinite(values)] for values in arrays]
    values = np.concatenate(held) if held else np.empty(0, np.float32)
    if not values.size:
        return 0.0, 1.0, "neither"
    least, most = float(values.min()), float(values.max())
    low, high = (float(edge) for edge in np.percentile(values, (0.5, 99.5)))
    if low == high:  # a few extreme cells, or a constant field
        low, high = least, most if most > least else least + 1.0
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    return low, high, ends[least < low, most > high]


def lead_word(lead: int, step: float) -> str:
    """Label a lead (1 is the next frame) by its time, such as "+15 min", or as "frame +3" if the step is unknown."""
    if step <= 0:
        return f"frame +{lead}"
    if months := _months(step):
        return _counted(lead * months, "months")
    seconds = lead * step
    for unit, word in _UNITS:
        if (unit <= step or seconds >= 2 * unit) and _whole(seconds / unit):
            return _counted(round(seconds / unit), word)
    return f"+{seconds:.3g} s"


def lead_axis(leads: int, step: float) -> tuple[NDArray[np.float64], str]:
    """Return leads 1 ... `leads` in the largest unit in which a step is a whole number, and the name of that unit."""
    numbers = np.arange(1.0, leads + 1)
    if step <= 0:
        return numbers, "frames"
    if months := _months(step):
        return numbers * months, "months"
    unit, word = next(((u, w) for u, w in _UNITS if _whole(step / u)), (1.0, "s"))
    return numbers * step / unit, word


def save_picture(path: str | Path, figure: Figure) -> None:
    """Write a figure as a PNG atomically."""
    write_whole(Path(path), lambda stream: figure.savefig(stream, format="png", metadata={"Software": None}))


def plain(text: str) -> str:
    """Escape text so that matplotlib does not read it as a formula."""
    return text.replace("$", r"\$")


def _edges(coordinates: NDArray[np.float64] | None, count: int) -> tuple[float, float, bool]:
    """The outer edges of the first and last cell, and whether they are coordinates; uneven ones give cell numbers."""
    if coordinates is None or len(coordinates) != count or count < 2:
        return -0.5, count - 0.5, False
    first, last = float(coordinates[0]), float(coordinates[-1])
    half = (last - first) / (count - 1) / 2
    even = half != 0 and np.allclose(np.diff(coordinates), 2 * half, rtol=0.02, atol=0)
    return (first - half, last + half, True) if even else (-0.5, count - 0.5, False)


def _months(step: float) -> int:
    """The number of months in a step; 0 if it is not whole months (four weeks are not one month)."""
    months = round(step / _MONTH)
    return months if abs(step - months * _MONTH) < 0.025 * step else 0


def _whole(number: float) -> bool:
    return round(number) >= 1 and abs(number - round(number)) < 1e-6 * number


def _counted(count: int, word: str) -> str:
    return f"+{count} {word[:-1] if count == 1 and word in ('days', 'months') else word}"
