"""Charts of cadences: each as six stacked panels, alternating ON and OFF the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.data.axes import Axis
from wavefold.domains.radio.cadence import NAMES
from wavefold.plots.canvas import LINES
from wavefold.plots.plot import Figure, Panels, checked, inert
from wavefold.plots.signal_charts import end_of_scale, heat_strip, in_pieces, note_beside

Array = NDArray[np.floating]

_MOST_ROWS, _MOST_COLUMNS = 32, 256  # maximum size of a drawn panel
_TIME, _FREQUENCY = "time (row)", "frequency (column)"


def draw_cadences(cadences: Array, titles: Sequence[str], axis: Axis, classes: Sequence[int] | None = None) -> Figure:
    """Draw cadences (sample, panel, time, frequency) as panels."""
    return cadence_grid(cadences, titles, _TIME, _FREQUENCY)


def draw_explained_cadences(
    cadences: Array, maps: Mapping[str, Array], titles: Sequence[str], axis: Axis
) -> list[tuple[str, Figure]]:
    """Draw cadences with each saliency map beside them, one figure per method."""
    return [(name, cadence_grid(cadences, titles, _TIME, _FREQUENCY, values)) for name, values in maps.items()]


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
                heat_strip(panels.axes(cell + 1, part), bins, heat, end_of_scale(heats))
                for part, heat in enumerate(heats[number])
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


def _six() -> tuple[tuple[float, float], ...]:
    return tuple((1 - (k + 0.94) / 6, 1 - k / 6) for k in range(6))


def _blocks(cadences: Array) -> Array:
    """Average blocks so that a panel has at most 32 rows and 256 columns. cadences: (sample, 6, time, frequency)."""
    for along, most in ((2, _MOST_ROWS), (3, _MOST_COLUMNS)):
        if (width := -(-cadences.shape[along] // most)) > 1:
            pieces = in_pieces(np.moveaxis(cadences, along, -1), width)
            held = np.isfinite(pieces)
            means = np.where(held, pieces, 0).sum(-1) / np.maximum(held.sum(-1), 1)
            cadences = np.moveaxis(np.where(held.any(-1), means, np.nan), -1, along)
    return cadences


def _panel(axes: Mapping[str, str], bins: Array, panel: Array) -> dict[str, object]:
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


def _marks(panels: Panels, cell: int) -> list[dict[str, object]]:
    """The names of the panels of a cadence, ON panels in orange."""
    orange = {"color": LINES[1]}
    fonts = [{"size": 10, **(orange if name.startswith("ON") else {})} for name in NAMES]
    return [note_beside(panels, cell, part, name, fonts[part]) for part, name in enumerate(NAMES)]
