"""Draw forecasts: truth, each forecast and the error of the first at some leads; and maps of the error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wavefold.core.errors import DataError
from wavefold.data.lazy import Floats
from wavefold.data.series import Seconds, later, time_word
from wavefold.plots.canvas import ERRORS, SIZES, VALUES, Field, Sheet, draw_map, lead_word, limits_of, plain, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_COLUMNS = 6  # default number of leads shown


def draw_forecast(
    path: str | Path,
    past: Floats | None,
    truth: Floats | None,
    forecasts: Mapping[str, Floats],
    *,
    field: Field,
    leads: Sequence[int] = (),
    clock: Seconds | None = None,
    title: str = "",
) -> None:
    """Write a PNG of rows of maps on one colour scale: truth, each forecast, then the error of the first forecast.

    past: (frame, row, column), whose last frame comes first in the top row. truth, forecasts: (lead, row, column), NaN in
    grey; forecasts are labelled with their RMSE. leads: which to show, from 1. clock: (lead,) seconds since 1970.
    """
    first = check_shapes(past, truth, forecasts)
    shown = _chosen(leads, len(first))
    seen = past[-1] if past is not None and len(past) else None
    maps = forecasts if truth is None else {"truth": truth, **forecasts}
    sheet = Sheet.of(len(maps) + (truth is not None), len(shown) + (seen is not None), first.shape[1:], head=0.85)
    page = _Page(sheet, sheet.figure(title), field, shown, int(seen is not None))
    low, high, beyond = limits_of(shared_scale(truth, forecasts))
    for row, (name, frames) in enumerate(maps.items()):
        image = page.row(row, name, frames, (low, high))
        if truth is not None and name != "truth":
            page.note(row, [_rmse_word(frames[k] - truth[k]) for k in shown])
    if truth is not None:
        name, frames = next(iter(forecasts.items()))
        page.errors(len(maps), f"error of {name}", frames - truth)
    page.heads(seen, clock, (low, high))
    sheet.bar(page.figure, image, field.label, (0, len(maps) - 1), end=beyond)
    save_picture(path, page.figure)


def draw_errors(path: str | Path, errors: Floats, channels: Sequence[str], *, field: Field, title: str = "") -> None:
    """Write a PNG with a map of the error of each channel. errors: (channel, row, column), in the unit of `field`."""
    across = min(3, len(errors))
    sheet = Sheet.of(-(-len(errors) // across), across, errors.shape[1:], between=1.0)
    figure = sheet.figure(title)
    for number, (values, channel) in enumerate(zip(errors, channels, strict=True)):
        row, column = divmod(number, across)
        place = sheet.panel(figure, row, column)
        low, high, beyond = limits_of([values])
        image = draw_map(place, values, field, (low, high), SIZES)
        place.tick_params(labelleft=True, labelbottom=True)
        place.set_title(plain(channel), loc="left", fontsize=9)
        sheet.bar(figure, image, plain(field.unit), (row, row), column, beyond)
    save_picture(path, figure)


def check_shapes(past: Floats | None, truth: Floats | None, forecasts: Mapping[str, Floats]) -> Floats:
    """Return the first forecast, (lead, row, column); DataError if there is none or other shapes do not match it."""
    if not forecasts:
        raise DataError("picture of forecasts: no forecasts to draw")
    first = next(iter(forecasts.values()))
    others = {**forecasts, **({} if truth is None else {"truth": truth})}
    for name, frames in others.items():
        if frames.shape != first.shape or frames.ndim != 3:
            raise DataError(
                f"picture of forecasts: {name} has shape {frames.shape}, expected (lead, row, column) {first.shape}"
            )
    if past is not None and past.shape[1:] != first.shape[1:]:
        raise DataError(f"picture of forecasts: past frames have shape {past.shape[1:]}, forecast frames {first.shape[1:]}")
    return first


def shared_scale(truth: Floats | None, forecasts: Mapping[str, Floats]) -> list[Floats]:
    """Return the frames that set the colour scale: the truth, or the forecasts if the truth has no values."""
    return [truth] if truth is not None and np.isfinite(truth).any() else list(forecasts.values())


@dataclass(frozen=True)
class _Page:
    """Rows of maps at the leads shown; the first column holds the last past frame, if there is one."""

    sheet: Sheet
    figure: Figure
    field: Field
    shown: Sequence[int]  # leads from 0
    seen: int  # columns before the leads

    def row(self, row: int, name: str, frames: Floats, limits: tuple[float, float], colours: str = VALUES) -> AxesImage:
        """Draw a named row of frames (lead, row, column) and return the last image, for a colour bar."""
        self.sheet.name(self.figure, row, name, self.seen if row else 0)
        for column, lead in enumerate(self.shown, self.seen):
            place = self.sheet.panel(self.figure, row, column)
            image = draw_map(place, frames[lead], self.field, limits, colours)
            place.tick_params(labelleft=column == self.seen and (row > 0 or not self.seen))
            self._places[row, column] = place
        return image

    def note(self, row: int, words: Sequence[str]) -> None:
        """Write a label above each map of a row."""
        for column, word in enumerate(words, self.seen):
            self._places[row, column].set_title(word, fontsize=8, pad=3)

    def errors(self, row: int, name: str, errors: Floats) -> None:
        """Draw a row of errors with its own colour bar, white at zero."""
        _, high, beyond = limits_of([np.abs(errors[list(self.shown)])])
        image = self.row(row, name, errors, (-high, high), ERRORS)
        unit = f"error ({self.field.unit})" if self.field.unit else "error"
        self.sheet.bar(self.figure, image, plain(unit), (row, row), end="neither" if beyond == "neither" else "both")

    def heads(self, seen: Floats | None, clock: Seconds | None, limits: tuple[float, float]) -> None:
        """Write leads and times above the top row, and draw the last past frame in front of it."""
        for column, lead in enumerate(self.shown, self.seen):
            head = lead_word(lead + 1, self.field.step)
            _set_head(self._places[0, column], head, None if clock is None else clock[lead])
        if seen is not None:
            place = self.sheet.panel(self.figure, 0, 0)
            draw_map(place, seen, self.field, limits)
            place.tick_params(labelbottom=self.sheet.rows == 1)
            _set_head(place, "last past frame", None if clock is None else later(clock[:1], self.field.step, np.array([-1]))[0])

    _places: dict[tuple[int, int], Axes] = dataclass_field(default_factory=dict)


def _set_head(place: Axes, word: str, time: float | None) -> None:
    place.set_title(word if time is None else f"{word}\n{time_word(time)}", fontsize=9, pad=4)


def _rmse_word(errors: Floats) -> str:
    held = errors[np.isfinite(errors)].astype(np.float64)
    return f"RMSE {np.sqrt(np.mean(held**2)):.3g}" if held.size else "no truth"


def _chosen(leads: Sequence[int], count: int) -> list[int]:
    """Leads from 0: the given ones (counted from 1), or some spread evenly from the first to the last."""
    wrong = [lead for lead in leads if not 1 <= lead <= count]
    if wrong:
        raise DataError(f"picture of forecasts: there is no lead {wrong[0]}; expected 1 to {count}")
    spread = np.linspace(1, count, min(_COLUMNS, count)).round().astype(int).tolist()
    return [lead - 1 for lead in leads or spread]
