"""Charts of samples: signals side by side, signals with their explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.core.errors import plural
from wavefold.data.axes import Axis
from wavefold.data.lazy import Floats
from wavefold.plots.canvas import LINES
from wavefold.plots.plot import Figure, Panels, Spec, checked, inert

Places = NDArray[np.generic]  # positions on an axis
MOST = 2000  # most positions of a line
_KEY = {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"}
_MOST_HEAT = 500  # most positions of a heat strip
DIVERGING = [[0.0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#ffffff"], [0.75, "#f4a582"], [1.0, "#b2182b"]]
_THIN = "Long signals are drawn as the minimum and maximum of every few positions, so that no spike is lost."


def thinned(axis: Places, values: NDArray[np.generic], most: int = MOST) -> tuple[Places, Floats, list[str]]:
    """Reduce an axis and its values to at most `most` positions; also returns a caption sentence if it did.

    axis: (position,); values: (..., position), NaN ignored. Each stretch keeps its minimum and maximum in their order.
    """
    size = values.shape[-1]
    if size <= most:
        return np.asarray(axis), np.asarray(values, np.float32), []
    width = -(-size // (most // 2))
    pieces = in_pieces(values, width)  # (..., stretch, place)
    low, high = np.fmin.reduce(pieces, axis=-1), np.fmax.reduce(pieces, axis=-1)
    falling = np.where(np.isnan(pieces), np.inf, pieces).argmin(-1) > np.where(np.isnan(pieces), -np.inf, pieces).argmax(-1)
    pairs = np.where(falling[..., None], np.stack([high, low], -1), np.stack([low, high], -1))
    starts = np.arange(pieces.shape[-2]) * width
    places = np.stack([starts, np.minimum(starts + width // 2, size - 1)], -1).ravel()
    return np.asarray(axis)[places], pairs.reshape(*values.shape[:-1], -1), [_THIN]


def draw_samples(signals: Floats, titles: Sequence[str], axis: Axis, classes: Sequence[int] | None = None) -> Figure:
    """Samples (sample, channel, ..., position) as lines; axes between channel and position are averaged."""
    return sample_grid(axis.values, axis.title, _lines_of(signals), titles, classes)


def draw_explanations(
    signals: Floats, maps: Mapping[str, Floats], titles: Sequence[str], axis: Axis
) -> list[tuple[str, Figure]]:
    """Samples with the maps that explain them, as one figure without a name. maps: like the signals, by method."""
    flat = {name: _lines_of(values) for name, values in maps.items()}
    return [("", explained_grid(axis.values, axis.title, _lines_of(signals), flat, titles))]


def _lines_of(values: Floats) -> Floats:
    return values if values.ndim <= 3 else values.mean(axis=tuple(range(2, values.ndim - 1)))


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
    named = colours is None and values.shape[1] > 1
    layout = panels.layout(inert(axis_title), inert(value_title), annotations=heads, showlegend=named, legend=_KEY)
    alt = f"{plural(len(values), 'signal')} over {axis_title}: {'; '.join(map(str, titles))}"
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
            traces.append(heat_strip(panels.axes(cell, part), places, heat[cell], end_of_scale(heat)))
            notes.append(note_beside(panels, cell, part, inert(name, 12), {"size": 9}))
    hidden = {"showticklabels": False, "showgrid": False, "fixedrange": True, "zeroline": False, "ticks": ""}
    layout = panels.layout(inert(axis_title), "", y=[{}, *[hidden] * len(maps)], annotations=notes, showlegend=False)
    alt = f"{plural(len(values), 'signal')} over {axis_title} with {' and '.join(maps)} for each: {'; '.join(map(str, titles))}"
    names = ", ".join(maps)
    note = (
        f"Strips: {names}. Red supports the predicted class, blue opposes it; each kind of strip has one scale for all samples."
    )
    return Figure(checked(traces, layout), alt, " ".join([note, *said]), panels.tall)


def _columns(count: int) -> int:
    return 1 if count == 1 else 2


def in_pieces(values: NDArray[np.generic], width: int) -> Floats:
    """Split the last axis into stretches of equal width, the last one padded with NaN."""
    short = -values.shape[-1] % width
    padded = np.pad(np.asarray(values, np.float32), [(0, 0)] * (values.ndim - 1) + [(0, short)], constant_values=np.nan)
    return padded.reshape(*values.shape[:-1], padded.shape[-1] // width, width)


def _strongest(axis: Places, heat: Floats) -> tuple[Places, Floats]:
    """The position and value farthest from zero in each stretch of a map. heat: (sample, channel, position)."""
    width = -(-heat.shape[-1] // _MOST_HEAT)
    pieces = np.nan_to_num(in_pieces(heat, width))
    chosen = np.abs(pieces).argmax(-1)
    starts = np.arange(pieces.shape[-2]) * width
    middles = np.minimum(starts + (width - 1) // 2, heat.shape[-1] - 1)
    return np.asarray(axis)[middles], np.take_along_axis(pieces, chosen[..., None], -1)[..., 0]


def _lines(
    panels: Panels, cell: int, places: Places, sample: Floats, colours: Sequence[int] | None, channels: Sequence[str]
) -> list[Spec]:
    """A line for each channel of a sample. sample: (channel, position)."""
    lines = list[Spec]()
    for number, values in enumerate(sample):
        colour = LINES[(number if colours is None else colours[cell]) % len(LINES)]
        name = inert(channels[number] if number < len(channels) else f"channel {number + 1}")
        group = {"name": name, "legendgroup": str(number), "showlegend": cell == 0}
        hover = "%{x:.6~g}: %{y:.4~g}" + ("<extra></extra>" if len(sample) == 1 else "")
        look = {"mode": "lines", "line": {"color": colour, "width": 1.2}, "hovertemplate": hover}
        lines.append({"type": "scatter", "x": places, "y": values, **look, **group, **panels.axes(cell)})
    return lines


def _parts(strips: int) -> tuple[tuple[float, float], ...]:
    """The parts of a cell: the line on top, the strips below it."""
    whole = 136 + 24 * strips
    ends = [((strips - 1 - k) * 24 / whole, ((strips - k) * 24 - 6) / whole) for k in range(strips)]
    return ((strips * 24 / whole, 1.0), *ends)


def end_of_scale(heat: Floats) -> float:
    """The limit of a scale symmetric about zero: the 99.5 percentile of the size, at least a tenth of the maximum."""
    sizes = np.abs(np.nan_to_num(heat))
    return max(float(np.quantile(sizes, 0.995)), 0.1 * float(sizes.max(initial=0)), 1e-12)


def heat_strip(axes: Mapping[str, str], places: Places, heat: Floats, end: float) -> dict[str, object]:
    """A heat strip on some axes, its colours from -end to end."""
    look = {"colorscale": DIVERGING, "zmin": -end, "zmax": end, "showscale": False}
    hover = "%{x:.6~g}: %{z:.3~g}<extra></extra>"
    return {"type": "heatmap", "x": places, "z": np.atleast_2d(np.float32(heat)), "hovertemplate": hover, **look, **axes}


def note_beside(panels: Panels, cell: int, part: int, text: str, font: Spec) -> dict[str, object]:
    """An annotation to the left of a part of a cell."""
    return panels.head(cell, text, part=part, y=0.5, xanchor="right", yanchor="middle", xshift=-5, font=dict(font))
