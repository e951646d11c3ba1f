"""Charts of samples: signals side by side, signals with their explanations, cadences as six panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.plots.canvas import LINES
from wavefold.plots.plot import Panels, checked, inert
from wavefold.reports.page import Figure

Array = NDArray[Any]
MOST = 2000  # most positions of a line
_MOST_HEAT = 500  # most positions of a heat strip
_MOST_ROWS, _MOST_COLUMNS = 32, 256  # of a cadence panel
_SCANS = ("ON A", "OFF B", "ON A", "OFF C", "ON A", "OFF D")
DIVERGING = [[0.0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#ffffff"], [0.75, "#f4a582"], [1.0, "#b2182b"]]
_THIN = "Long signals are drawn as the minimum and maximum of every few positions, so that no spike is lost."


def thinned(axis: Array, values: Array, most: int = MOST) -> tuple[Array, Array, list[str]]:
    """Reduce an axis and its values to at most `most` positions; also returns a caption sentence if it did.

    axis: (position,); values: (..., position), NaN ignored. Each stretch keeps its minimum and maximum in their order.
    """
    size = values.shape[-1]
    if size <= most:
        return np.asarray(axis), np.asarray(values, np.float32), []
    width = -(-size // (most // 2))
    pieces = _pieces(values, width)  # (..., stretch, place)
    low, high = np.fmin.reduce(pieces, axis=-1), np.fmax.reduce(pieces, axis=-1)
    falling = np.where(np.isnan(pieces), np.inf, pieces).argmin(-1) > np.where(np.isnan(pieces), -np.inf, pieces).argmax(-1)
    pairs = np.where(falling[..., None], np.stack([high, low], -1), np.stack([low, high], -1))
    starts = np.arange(pieces.shape[-2]) * width
    places = np.stack([starts, np.minimum(starts + width // 2, size - 1)], -1).ravel()
    return np.asarray(axis)[places], pairs.reshape(*values.shape[:-1], -1), [_THIN]


def sample_grid(
    axis: ArrayLike,
    axis_title: str,
    signals: ArrayLike,
    titles: Sequence[str],
    colours: Sequence[int] | None = None,
    *,
    channels: Sequence[str] = (),
    value_title: str = "value",
) -> Figure:
    """Draw samples as small charts that zoom together. signals: (sample, channel, position); axis: (position,).

    colours: a number for each sample, such as its class; without it, each channel has its own colour. channels: their names.
    value_title: name and unit of the values.
    """
    places, values, said = thinned(np.asarray(axis), np.asarray(signals))
    panels = Panels(len(values), columns=_columns(len(values)), cell=132, left=66, across=0.075)
    traces = [line for cell in range(len(values)) for line in _lines(panels, cell, places, values[cell], colours, channels)]
    heads = [panels.head(cell, inert(title, 110 // panels.columns)) for cell, title in enumerate(titles)]
    layout = panels.layout(
        inert(axis_title), inert(value_title), annotations=heads, **_key(colours is None and values.shape[1] > 1)
    )
    alt = f"{len(values)} signal{'s' if len(values) != 1 else ''} over {axis_title}: {'; '.join(map(str, titles))}"
    note = "Drag to zoom all charts; double-click to reset."
    return Figure(checked(traces, layout), alt, " ".join([note, *said]), panels.tall)


def explained_grid(
    axis: ArrayLike, axis_title: str, signals: ArrayLike, maps: Mapping[str, ArrayLike], titles: Sequence[str]
) -> Figure:
    """Draw signals as lines above a heat strip per map. signals, maps: (sample, channel, position); axis: (position,)."""
    line_places, values, said = thinned(np.asarray(axis), np.asarray(signals))
    strips = {name: _strongest(np.asarray(axis), np.asarray(map_, np.float32)) for name, map_ in maps.items()}
    tall, parts = 136 + 24 * len(maps), _parts(len(maps))
    panels = Panels(len(values), columns=_columns(len(values)), cell=tall, gap=50, across=0.1, parts=parts, left=62)
    traces, notes = [], [panels.head(cell, inert(title, 110 // panels.columns)) for cell, title in enumerate(titles)]
    for cell, sample in enumerate(values):
        traces += _lines(panels, cell, line_places, sample, [0] * len(values) if sample.shape[0] == 1 else None, ())
        for part, (name, (places, heat)) in enumerate(strips.items(), start=1):
            traces.append(_strip(panels.axes(cell, part), places, heat[cell], _reach(heat)))
            notes.append(_aside(panels, cell, part, inert(name, 12), {"size": 9}))
    hidden = {"showticklabels": False, "showgrid": False, "fixedrange": True, "zeroline": False, "ticks": ""}
    layout = panels.layout(inert(axis_title), "", y=[{}, *[hidden] * len(maps)], annotations=notes, showlegend=False)
    alt = (
        f"{len(values)} signal{'s' if len(values) != 1 else ''} over {axis_title} with {' and '.join(maps)} for each: "
        f"{'; '.join(map(str, titles))}"
    )
    names = ", ".join(maps)
    note = (
        f"Strips: {names}. Red supports the predicted class, blue opposes it; each kind of strip has one scale for all samples."
    )
    return Figure(checked(traces, layout), alt, " ".join([note, *said]), panels.tall)


def cadence_grid(
    cadences: ArrayLike, titles: Sequence[str], time_title: str, frequency_title: str, maps: ArrayLike | None = None
) -> Figure:
    """Draw each cadence as six stacked panels labelled ON and OFF. cadences, maps: (sample, 6, time, frequency).

    maps: how much each cell supports the prediction, drawn beside the cadence.
    """
    values = _blocks(np.asarray(cadences, np.float32))
    heats = None if maps is None else _blocks(np.asarray(maps, np.float32))
    each = 1 if heats is None else 2
    panels = Panels(
        len(values) * each, columns=max(1, min(3, len(values))) if each == 1 else 2, cell=420, parts=_six(), left=70
    )
    step = np.asarray(cadences).shape[3] / values.shape[3]
    bins = (np.arange(values.shape[3]) + 0.5) * step - 0.5
    traces, notes = [], []
    for number, cadence in enumerate(values):
        cell = number * each
        notes.append(panels.head(cell, inert(titles[number], 44), yshift=2))
        traces += [_panel(panels.axes(cell, part), bins, panel) for part, panel in enumerate(cadence)]
        if heats is not None:
            notes.append(panels.head(cell + 1, "for the prediction (red), against it (blue)", yshift=2))
            traces += [
                _strip(panels.axes(cell + 1, part), bins, heat, _reach(heats)) for part, heat in enumerate(heats[number])
            ]
        notes += [note for scans in range(each) for note in _marks(panels, cell + scans)]
    hidden = {"showticklabels": False, "showgrid": False, "fixedrange": True, "ticks": "", "autorange": "reversed"}
    layout = panels.layout(inert(frequency_title), inert(time_title), y=hidden, annotations=notes, showlegend=False)
    alt = (
        f"{len(values)} cadence{'s' if len(values) != 1 else ''} of six panels, alternating ON and OFF the target: "
        f"{'; '.join(map(str, titles))}"
    )
    note = (
        "Each panel is averaged over neighbouring cells and scaled between its own percentiles; "
        "a line in the ON panels (orange) alone is a candidate."
    )
    return Figure(checked(traces, layout), alt, note, panels.tall)


def _columns(count: int) -> int:
    return 1 if count == 1 else 2


def _pieces(values: Array, width: int) -> Array:
    """Split the last axis into stretches of equal width, the last one padded with NaN."""
    short = -values.shape[-1] % width
    padded = np.pad(np.asarray(values, np.float32), [(0, 0)] * (values.ndim - 1) + [(0, short)], constant_values=np.nan)
    return padded.reshape(*values.shape[:-1], padded.shape[-1] // width, width)


def _strongest(axis: Array, heat: Array) -> tuple[Array, Array]:
    """The position and value farthest from zero in each stretch of a map. heat: (sample, channel, position)."""
    width = -(-heat.shape[-1] // _MOST_HEAT)
    pieces = np.nan_to_num(_pieces(heat, width))
    chosen = np.abs(pieces).argmax(-1)
    starts = np.arange(pieces.shape[-2]) * width
    middles = np.minimum(starts + (width - 1) // 2, heat.shape[-1] - 1)
    return np.asarray(axis)[middles], np.take_along_axis(pieces, chosen[..., None], -1)[..., 0]


def _lines(
    panels: Panels, cell: int, places: Array, sample: Array, colours: Sequence[int] | None, channels: Sequence[str]
) -> list[dict[str, Any]]:
    """A line for each channel of a sample. sample: (channel, position)."""
    lines = []
    for number, values in enumerate(sample):
        colour = LINES[(number if colours is None else colours[cell]) % len(LINES)]
        name = inert(channels[number] if number < len(channels) else f"channel {number + 1}")
        group = {"name": name, "legendgroup": str(number), "showlegend": cell == 0}
        hover = "%{x:.6~g}: %{y:.4~g}" + ("<extra></extra>" if len(sample) == 1 else "")
        look = {"mode": "lines", "line": {"color": colour, "width": 1.2}, "hovertemplate": hover}
        lines.append({"type": "scatter", "x": places, "y": values, **look, **group, **panels.axes(cell)})
    return lines


def _key(shown: bool) -> dict[str, Any]:
    key = {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"}
    return {"showlegend": shown, "legend": key}


def _parts(strips: int) -> tuple[tuple[float, float], ...]:
    """The parts of a cell: the line on top, the strips below it."""
    whole = 136 + 24 * strips
    ends = [((strips - 1 - k) * 24 / whole, ((strips - k) * 24 - 6) / whole) for k in range(strips)]
    return ((strips * 24 / whole, 1.0), *ends)


def _reach(heat: Array) -> float:
    """The limit of a scale symmetric about zero: the 99.5 percentile of the size, at least a tenth of the maximum."""
    sizes = np.abs(np.nan_to_num(heat))
    return max(float(np.quantile(sizes, 0.995)), 0.1 * float(sizes.max(initial=0)), 1e-12)


def _strip(axes: Mapping[str, str], places: Array, heat: Array, reach: float) -> dict[str, Any]:
    look = {"colorscale": DIVERGING, "zmin": -reach, "zmax": reach, "showscale": False}
    hover = "%{x:.6~g}: %{z:.3~g}<extra></extra>"
    return {"type": "heatmap", "x": places, "z": np.atleast_2d(np.float32(heat)), "hovertemplate": hover, **look, **axes}


def _six() -> tuple[tuple[float, float], ...]:
    return tuple((1 - (k + 0.94) / 6, 1 - k / 6) for k in range(6))


def _blocks(cadences: Array) -> Array:
    """Average blocks so that a panel has at most 32 rows and 256 columns. cadences: (sample, 6, time, frequency)."""
    for along, most in ((2, _MOST_ROWS), (3, _MOST_COLUMNS)):
        if (width := -(-cadences.shape[along] // most)) > 1:
            pieces = _pieces(np.moveaxis(cadences, along, -1), width)
            held = np.isfinite(pieces)
            means = np.where(held, pieces, 0).sum(-1) / np.maximum(held.sum(-1), 1)
            cadences = np.moveaxis(np.where(held.any(-1), means, np.nan), -1, along)
    return cadences


def _panel(axes: Mapping[str, str], bins: Array, panel: Array) -> dict[str, Any]:
    held = panel[np.isfinite(panel)]
    low, high = (float(edge) for edge in np.percentile(held, (1, 99))) if held.size else (0.0, 1.0)
    look = {"colorscale": "Viridis", "zmin": low, "zmax": high if high > low else low + 1, "showscale": False}
    return {
        "type": "heatmap",
        "x": bins,
        "z": np.float32(panel),
        "hovertemplate": "%{x:.0f}: %{z:.3~g}<extra></extra>",
        **look,
        **axes,
    }


def _marks(panels: Panels, cell: int) -> list[dict[str, Any]]:
    """The names of the panels of a cadence, ON panels in orange."""
    orange = {"color": LINES[1]}
    fonts = [{"size": 10, **(orange if name.startswith("ON") else {})} for name in _SCANS]
    return [_aside(panels, cell, part, name, fonts[part]) for part, name in enumerate(_SCANS)]


def _aside(panels: Panels, cell: int, part: int, text: str, font: Mapping[str, Any]) -> dict[str, Any]:
    """An annotation to the left of a part of a cell."""
    return panels.head(cell, text, part=part, y=0.5, xanchor="right", yanchor="middle", xshift=-5, font=dict(font))
