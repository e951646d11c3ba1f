"""Animate a forecast as a looping GIF: the past frames, then truth and forecasts side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from wavefold.core.files import write_whole
from wavefold.data.lazy import Floats
from wavefold.data.series import Seconds, later, time_word
from wavefold.plots.canvas import DOTS, Field, Sheet, animations, draw_map, lead_word, limits_of, plain
from wavefold.plots.forecast_picture import check_shapes, shared_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_PAST, _LATER = "#555555", "#d55e00"


def animate(
    path: str | Path,
    past: Floats | None,
    truth: Floats | None,
    forecasts: Mapping[str, Floats],
    *,
    field: Field,
    clock: Seconds | None = None,
    title: str = "",
    pace: float = 4.0,
) -> None:
    """Write a GIF atomically: a panel for the truth and one for each forecast, each starting with the same past frames.

    past: (frame, row, column). truth, forecasts: (lead, row, column), NaN in grey. clock: (lead,) seconds since 1970 of the
    forecast frames. pace: frames per second.
    """
    first = check_shapes(past, truth, forecasts)
    before = first[:0] if past is None else past
    maps = {name: np.concatenate([before, frames]) for name, frames in _panels(truth, forecasts).items()}
    sheet = Sheet.of(1, len(maps), first.shape[1:], widest=3.0, head=0.9)
    figure = sheet.figure(title)
    low, high, beyond = limits_of(shared_scale(truth, forecasts))
    images = []
    for column, (name, frames) in enumerate(maps.items()):
        place = sheet.panel(figure, 0, column)
        images.append(draw_map(place, frames[0], field, (low, high)))
        place.set_title(plain(name), fontsize=10, pad=4)
    sheet.bar(figure, images[-1], field.label, (0, 0), end=beyond)
    words = [_word(number - len(before), field, clock) for number in range(len(before) + len(first))]
    _write_gif(Path(path), figure, images, list(maps.values()), words, pace)


def _panels(truth: Floats | None, forecasts: Mapping[str, Floats]) -> Mapping[str, Floats]:
    return forecasts if truth is None else {"truth": truth, **forecasts}


def _word(lead: int, field: Field, clock: Seconds | None) -> str:
    """The heading of a frame: its lead and its time. lead: 0 is the first forecast frame, -1 the last past one."""
    word = f"forecast {lead_word(lead + 1, field.step)}" if lead >= 0 else "past"
    if clock is None:
        return word
    return f"{word}   {time_word(clock[lead] if lead >= 0 else later(clock[:1], field.step, np.array([lead]))[0])}"


def _write_gif(path: Path, figure: Figure, images: list[AxesImage], maps: list[Floats], words: list[str], pace: float) -> None:
    """Draw all frames into one figure; the GIF goes to a temporary folder first, as the writer needs a file name."""
    heading = figure.text(0.5, 1 - 0.42 / figure.get_figheight(), "", ha="center", va="top", fontsize=11, weight="bold")
    with TemporaryDirectory() as folder:
        made = Path(folder) / "made.gif"
        writer = animations.PillowWriter(fps=pace)
        with writer.saving(figure, made, DOTS):
            for number, word in enumerate(words):
                for image, frames in zip(images, maps, strict=True):
                    image.set_data(frames[number])
                heading.set_text(word)
                heading.set_color(_LATER if word.startswith("forecast") else _PAST)
                writer.grab_frame()
        write_whole(path, lambda stream: stream.write(made.read_bytes()))
