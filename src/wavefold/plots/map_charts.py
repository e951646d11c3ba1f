"""Charts of frames: maps side by side, and an animation of a forecast beside the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.core.errors import plural
from wavefold.data.lazy import Floats
from wavefold.plots.canvas import limits_of
from wavefold.plots.plot import Figure, Panels, Spec, checked, inert
from wavefold.plots.signal_charts import DIVERGING

Places = NDArray[np.generic]  # coordinates
_PLAIN = {"showgrid": False, "zeroline": False, "constrain": "domain", "nticks": 4}
_MOST, _MOST_PLAYED = 300, 160  # rows or columns of a still map, and of an animated one
_PACE = 450  # milliseconds per frame


def map_grid(
    maps: ArrayLike,
    titles: Sequence[str],
    unit: str,
    rows: ArrayLike | None = None,
    columns: ArrayLike | None = None,
    diverging: bool = False,
    *,
    across: str = "",
    up: str = "",
) -> Figure:
    """Draw maps with one colour scale. maps: (map, row, column), NaN left blank; rows, columns: coordinates if known.

    diverging: blue below 0, red above. across, up: names and units of the coordinates.
    """
    y, x = _coordinates(np.shape(maps), rows, columns)
    values, y, x, said = _coarser(np.asarray(maps, np.float32), y, x, _MOST)
    beside = max(1, min(3, len(values)))
    panels = Panels(
        len(values), columns=beside, cell=_cell(values.shape, beside), gap=34, across=0.03, right=84, bottom=56, left=60
    )
    traces = [_map(panels.axes(cell), value, x, y, "coloraxis", unit) for cell, value in enumerate(values)]
    heads = [panels.head(cell, inert(title, 96 // panels.columns)) for cell, title in enumerate(titles)]
    titled = across or _named("column", columns), up or _named("row", rows)
    layout = _layout(panels, titled, heads, _upward(y, rows), coloraxis=_scale(values, unit, diverging=diverging))
    alt = f"{plural(len(values), 'map')}{f' in {unit}' if unit else ''}: {'; '.join(map(str, titles))}"
    return Figure(checked(traces, layout), alt, said, panels.tall)


def forecast_player(
    truth: ArrayLike,
    forecast: ArrayLike,
    past: ArrayLike,
    titles: Sequence[str],
    unit: str,
    rows: ArrayLike | None = None,
    columns: ArrayLike | None = None,
    *,
    across: str = "",
    up: str = "",
) -> Figure:
    """Draw truth, forecast and error side by side, with play and stop buttons and a slider.

    truth, forecast: (ahead, row, column); past: (past, row, column); NaN is left blank. Truth and forecast share a scale.
    titles: of the past and forecast frames. rows, columns: coordinates if known; across, up: their names and units.
    """
    y, x = _coordinates(np.shape(truth), rows, columns)
    parts = [np.asarray(frames, np.float32) for frames in (past, truth, forecast)]
    every, y, x, thin = _coarser(np.concatenate(parts), y, x, _MOST_PLAYED)
    seen, true, said = np.split(every, np.cumsum([len(part) for part in parts])[:2])
    left, middle = np.concatenate([seen, true]), np.concatenate([seen, said])
    right = np.concatenate([np.full_like(seen, np.nan), said - true])
    panels = Panels(3, columns=3, cell=_cell(left.shape, 3), gap=34, across=0.03, right=96, top=34, bottom=172, left=60)
    names = ("truth", "forecast", "forecast minus truth")
    axes = ("coloraxis", "coloraxis", "coloraxis2")
    series = (left, middle, right)
    first = min(len(seen), len(left) - 1)
    traces = [_map(panels.axes(k), series[k][first], x, y, axes[k], unit) for k in range(3)]
    frames = [{"name": str(k), "data": [{"type": "heatmap", "z": s[k]} for s in series]} for k in range(len(left))]
    high, low = _bar(1.0, panels.cell - 8), _bar(0.0, panels.bottom - 32)  # the second is beside the buttons
    scales = {"coloraxis": _scale(left, unit, high), "coloraxis2": _scale(right, f"error {unit}", low, diverging=True)}
    heads = [panels.head(k, name) for k, name in enumerate(names)]
    titled = across or _named("column", columns), up or _named("row", rows)
    controls = {"updatemenus": [_buttons()], "sliders": [_slider(titles, first, len(seen))]}
    layout = _layout(panels, titled, heads, _upward(y, rows), **scales, **controls)
    shown = f"{plural(len(seen), 'past frame')} and {plural(len(true), 'forecast frame')}"
    alt = f"Animation of {shown} beside the truth, with the error"
    note = "Past frames come first, then the forecast. Space plays and stops; the arrow keys step through the frames."
    return Figure(checked(traces, layout, frames), alt, f"{note} {thin}".strip(), panels.tall)


def _layout(panels: Panels, titles: tuple[str, str], heads: Sequence[Spec], upward: bool | str, **more: object) -> Spec:
    y = [{**_PLAIN, "autorange": upward}]
    return panels.layout(inert(titles[0]), inert(titles[1]), x=_PLAIN, y=y, annotations=heads, square=True, **more)


def _cell(shape: Sequence[int], beside: int) -> int:
    """The height of a map in pixels, given the number of maps per row."""
    return int(np.clip(750 / beside * shape[-2] / shape[-1], 110, 320 if beside > 1 else 420))


def _coordinates(shape: Sequence[int], rows: ArrayLike | None, columns: ArrayLike | None) -> tuple[Places, Places]:
    y, x = (
        np.arange(size) if given is None else np.asarray(given) for size, given in zip(shape[-2:], (rows, columns), strict=True)
    )
    return y, x


def _coarser(maps: Floats, y: Places, x: Places, most: int) -> tuple[Floats, Places, Places, str]:
    """Average square blocks of cells to at most `most` rows and columns; returns maps, coordinates and a caption sentence.

    maps: (map, row, column); y: (row,); x: (column,). A block without any value stays NaN.
    """
    width = -(-max(maps.shape[-2:]) // most)
    if width == 1:
        return maps, y, x, ""
    starts = [np.arange(0, size, width) for size in maps.shape[-2:]]
    held = np.isfinite(maps)
    total, count = (
        np.add.reduceat(np.add.reduceat(values, starts[0], axis=1), starts[1], axis=2)
        for values in (np.where(held, maps, 0).astype(np.float64), held.astype(np.int64))
    )
    means = np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
    y, x = (np.array([c[s : s + width].mean() for s in at]) for c, at in zip((y, x), starts, strict=True))
    return means, y, x, f"Each cell shown is the mean of {width} x {width} cells."


def _named(name: str, coordinates: ArrayLike | None) -> str:
    """The name of an axis: the row or column number, or the source's coordinate, in the source's unit."""
    return name if coordinates is None else f"{name} (coordinate of the source)"


def _upward(y: Places, rows: ArrayLike | None) -> bool | str:
    """Whether rows run upwards: row numbers run downwards as in an image, coordinates increase upwards."""
    return True if len(y) > 1 and y[0] > y[-1] else "reversed" if rows is None or np.array_equal(y, np.arange(len(y))) else True


def _map(axes: dict[str, str], value: Floats, x: Places, y: Places, scale: str, unit: str) -> Spec:
    hover = "row %{y:.5~g}, column %{x:.5~g}: %{z:.4~g}<extra></extra>"
    return {"type": "heatmap", "z": value, "x": x, "y": y, "coloraxis": scale, "hovertemplate": hover, **axes}


def _scale(values: Floats, unit: str, place: Spec | None = None, *, diverging: bool = False) -> Spec:
    low, high, _ = limits_of([values])
    if diverging:  # no error at all is in the middle too
        low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
    bar = {
        "thickness": 12,
        "outlinewidth": 0,
        "title": {"text": inert(unit, 18)},
        "x": 1.01,
        "xpad": 4,
        "nticks": 6,
        **(place or {}),
    }
    return {
        "colorscale": DIVERGING if diverging else "Viridis",
        "cmin": low,
        "cmax": high,
        "colorbar": bar,
    }


def _bar(top: float, tall: int) -> Spec:
    """The place of a colour bar: its top as a share of the maps' height, and its length in pixels."""
    return {"y": top, "yanchor": "top", "lenmode": "pixels", "len": tall, "nticks": 4, "ypad": 2}


def _buttons() -> Spec:
    play = {
        "frame": {"duration": _PACE, "redraw": True},
        "transition": {"duration": 0},
        "fromcurrent": True,
        "mode": "immediate",
    }
    stop = {"frame": {"duration": 0, "redraw": False}, "mode": "immediate", "transition": {"duration": 0}}
    shape = {"type": "buttons", "direction": "left", "showactive": False, "x": 0, "y": 0, "xanchor": "left", "yanchor": "top"}
    buttons = [
        {"label": "▶ play", "method": "animate", "args": [None, play]},
        {"label": "❚❚ stop", "method": "animate", "args": [[None], stop]},
    ]
    return {**shape, "pad": {"t": 62}, "buttons": buttons}


def _slider(titles: Sequence[str], first: int, past: int) -> Spec:
    at_once = {"frame": {"duration": 0, "redraw": True}, "mode": "immediate", "transition": {"duration": 0}}
    steps = [
        {"label": inert(f"{'past' if k < past else 'forecast'}  {title}", 60), "method": "animate", "args": [[str(k)], at_once]}
        for k, title in enumerate(titles)
    ]
    shape = {
        "active": first,
        "x": 0.0,
        "len": 1.0,
        "y": 0,
        "yanchor": "top",
        "pad": {"t": 104, "b": 0},
        "ticklen": 0,
        "minorticklen": 0,
    }
    return {
        **shape,
        "currentvalue": {"xanchor": "left", "font": {"size": 13}},
        "font": {"size": 1, "color": "rgba(0,0,0,0)"},
        "steps": steps,
    }
