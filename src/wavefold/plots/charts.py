"""Charts of numbers: bars, curves, confusion matrices, calibration, scores; each function returns a Figure.

Charts of signals (`signal_charts`) and of frames (`map_charts`) have modules of their own and are re-exported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.core.errors import plural
from wavefold.plots.canvas import LINES
from wavefold.plots.map_charts import forecast_player, map_grid
from wavefold.plots.plot import Figure, Panels, Spec, checked, inert
from wavefold.plots.signal_charts import explained_grid, sample_grid, thinned

__all__ = [
    "by_lead",
    "class_bars",
    "confusion",
    "explained_grid",
    "forecast_player",
    "histogram",
    "in_order",
    "learning_curves",
    "map_grid",
    "mean_and_spread",
    "power_spectrum",
    "reliability_diagram",
    "sample_grid",
    "scatter",
    "scores_with_intervals",
]

Values = NDArray[np.float64]
Epoch = Mapping[str, float | str | None]  # a line of metrics.jsonl
_MARGIN = {"t": 44, "b": 56, "l": 66, "r": 14}
_KEY = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "xanchor": "left"}  # above the chart, on the left
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_KINDS = {"ensemble": LINES[0], "member": LINES[2], "baseline": LINES[6], "choice": LINES[1]}
_SHARES, _INK = [[0.0, "#ffffff"], [1.0, "#5fb0e5"]], "#1c2126"  # light enough for dark text
_BINS = 60
_TICKS = 8  # on the epoch axis
_MOST_TEXTS = 24  # classes up to which a confusion matrix has room for its counts


def class_bars(classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> Figure:
    """Draw the samples per class, one bar per part or source. counts: name of a part to (class,) samples."""
    names = _unlike([inert(name, 40) for name in classes])
    bars = [
        {"type": "bar", "x": names, "y": list(map(int, values)), "name": inert(part, 30), **_bar_look(number, part)}
        for number, (part, values) in enumerate(counts.items())
    ]
    key = len(bars) > 1
    layout = _layout("class", "samples", x={"type": "category"}, barmode="group", bargap=0.3, bargroupgap=0.06, showlegend=key)
    totals = ", ".join(f"{name} {sum(values[k] for values in counts.values()):,}" for k, name in enumerate(classes))
    return Figure(checked(bars, layout), f"Bar chart of samples per class: {totals}", tall=340)


def mean_and_spread(
    axis: ArrayLike,
    axis_title: str,
    mean: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    names: Sequence[str],
    *,
    value_title: str = "value",
) -> Figure:
    """Draw the mean signal per class with a band from low to high. axis: (position,); mean, low, high: (class, position)."""
    places, middles, said = thinned(np.asarray(axis), np.asarray(mean))
    _, lows, _ = thinned(np.asarray(axis), np.asarray(low))
    _, highs, _ = thinned(np.asarray(axis), np.asarray(high))
    traces = list[Spec]()
    for number, name in enumerate(names):
        colour, shared = _colour(number), {"x": places, "legendgroup": str(number), "mode": "lines"}
        edge = {**shared, "type": "scatter", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
        traces.append({**edge, "y": lows[number]})
        traces.append({**edge, "y": highs[number], "fill": "tonexty", "fillcolor": _faint(colour)})
        line = {"color": colour, "width": 1.8, "dash": _dash(number)}
        traces.append({**shared, "type": "scatter", "y": middles[number], "name": inert(name, 30), "line": line})
    layout = _layout(inert(axis_title), inert(value_title), hovermode="x unified")
    alt = f"Mean signal and spread over {axis_title} for {plural(len(names), 'class', 'classes')}: {', '.join(map(str, names))}"
    note = "Lines are means, bands show the spread. Click a name to hide a class; double-click to show it alone."
    return Figure(checked(traces, layout), alt, " ".join([note, *said]), tall=420)


def learning_curves(lines: Mapping[str, Sequence[Epoch]], metric: str, kept: Mapping[str, int] | None = None) -> Figure:
    """Draw loss and metric per epoch, a line per member; dashed lines mark new stages, a dot the kept epoch.

    lines: member to the lines of its metrics.jsonl. kept: member to the index of the kept line; by default the last marked one.
    """
    panels = Panels(2, columns=2, cell=300, top=60, across=0.1)
    traces, starts = list[Spec](), set[int]()
    for number, (name, history) in enumerate(lines.items()):
        best = _kept(history) if kept is None else kept.get(name)
        starts |= {place for place in range(1, len(history)) if history[place].get("stage") != history[place - 1].get("stage")}
        for cell, key in enumerate(("loss", metric)):
            values = [float("nan") if (value := line.get(key)) is None else float(value) for line in history]
            shared = {"type": "scatter", "name": inert(name, 30), "legendgroup": str(number), **panels.axes(cell)}
            line = {"color": _colour(number), "width": 1.6, "dash": _dash(number)}
            x = list(range(1, len(values) + 1))
            traces.append({**shared, "x": x, "y": values, "mode": "lines", "line": line, "showlegend": not cell})
            if best is not None and best < len(values):
                dot = {"size": 9, "color": _colour(number), "line": {"color": "#ffffff", "width": 1.5}}
                where = {"x": [best + 1], "y": [values[best]], "mode": "markers", "marker": dot, "showlegend": False}
                traces.append({**shared, **where, "hovertemplate": "kept: epoch %{x}, %{y:.4f}"})
    heads = [panels.head(0, "training loss"), panels.head(1, inert(f"{metric} on the validation part"))]
    longest = max(map(len, lines.values()), default=1)
    whole = {"tick0": 0 if longest > _TICKS else 1, "dtick": -(-longest // _TICKS)}  # no ticks at half epochs
    stages = _stages(panels, sorted(starts))
    layout = panels.layout("epoch", "", x=whole, y=[{}], annotations=heads, shapes=stages, legend=_above(26))
    alt = f"Learning curves: loss and {metric} per epoch of {plural(len(lines), 'member')}: {', '.join(map(str, lines))}"
    note = "The dot marks the epoch whose weights were kept." + (" Dashed lines mark the start of a stage." if starts else "")
    return Figure(checked(traces, layout), alt, note, panels.tall)


def confusion(matrix: ArrayLike, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix. matrix: (truth, prediction) counts; the colour is the share of the row."""
    counts = np.asarray(matrix, np.int64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = _unlike([inert(name, 24) for name in classes])
    few = len(classes) <= _MOST_TEXTS
    heat = {
        **{"type": "heatmap", "x": names, "y": names, "z": np.float32(shares), "customdata": counts},
        **{"colorscale": _SHARES, "zmin": 0, "zmax": 1, "xgap": 2, "ygap": 2, "showscale": False},
        **(
            {
                "text": [[f"{n:,}" for n in row] for row in counts.tolist()],
                "texttemplate": "%{text}",
                "textfont": {"color": _INK},
            }
            if few
            else {}
        ),
        "hovertemplate": "true %{y}, predicted %{x}<br>%{customdata:,} samples, %{z:.1%} of the row<extra></extra>",
    }
    look = {"type": "category", "showgrid": False}
    layout = _layout("predicted class", "true class", x=look, y={**look, "autorange": "reversed"}, margin={**_MARGIN, "t": 14})
    right = ", ".join(f"{name} {share:.0%}" for name, share in zip(classes, np.diagonal(shares), strict=True))
    caption = "Rows are true classes, columns predicted ones; the colour is the share of the row."
    tall = int(np.clip(110 + 46 * len(classes), 260, 640))
    return Figure(checked([heat], layout), f"Confusion matrix; correct: {right}", caption, tall)


def reliability_diagram(
    confidence: ArrayLike, share_right: ArrayLike, low: ArrayLike, high: ArrayLike, count: ArrayLike
) -> Figure:
    """Draw accuracy by confidence, with the counts of the bins below. All (bin,); shares from 0 to 1."""
    sure, right, least, most = (np.asarray(values, np.float64) for values in (confidence, share_right, low, high))
    counts = np.asarray(count)
    held = counts > 0
    panels = Panels(1, cell=380, parts=((0.30, 1.0), (0.0, 0.2)), top=20, left=70)
    dots = {
        **{"type": "scatter", "mode": "lines+markers", "x": sure[held], "y": right[held], "name": "model"},
        "error_y": _around(right[held], least[held], most[held]),
        **{"line": {"color": LINES[0], "width": 1.5}, "marker": {"color": LINES[0], "size": 8}, "customdata": counts[held]},
        "hovertemplate": "confidence %{x:.1%}, accuracy %{y:.1%}<br>%{customdata:,} samples<extra></extra>",
    }
    dashed = {"color": LINES[6], "width": 1.2, "dash": "dash"}
    ideal = {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "name": "ideal", "line": dashed, "hoverinfo": "skip"}
    look = {"marker": {"color": LINES[5]}, "showlegend": False}
    bars = {"type": "bar", "x": sure[held], "y": counts[held], "width": 0.7 / max(1, len(counts)), **look}
    bars["hovertemplate"] = "%{y:,} samples near %{x:.0%}<extra></extra>"
    traces: list[Spec] = [{**ideal, **panels.axes(0)}, {**dots, **panels.axes(0)}, {**bars, **panels.axes(0, 1)}]
    upper = {"title": {"text": "accuracy"}, "range": [-0.02, 1.02], "tickformat": ".0%"}
    lower = {"title": {"text": "samples"}, "nticks": 3}
    layout = panels.layout(
        "probability of the predicted class",
        "",
        x={"range": [-0.02, 1.02], "tickformat": ".0%"},
        y=[upper, lower],
        margin={**panels.margin, "t": 40},
        legend=_KEY,
    )
    caption = "On the dashed line the model is well calibrated; below it, overconfident. Error bars: 95 % intervals."
    return Figure(
        checked(traces, layout), "Calibration: accuracy by the probability of the predicted class", caption, panels.tall + 20
    )


def scores_with_intervals(
    names: Sequence[str], values: ArrayLike, lows: ArrayLike, highs: ArrayLike, metric: str, kinds: Sequence[str]
) -> Figure:
    """Draw scores as dots with 95 % intervals, if there are any.

    values, lows, highs: (score,), ends NaN without an interval; kinds: "ensemble", "member", "baseline" ...
    """
    score, low, high = (np.asarray(v, np.float64) for v in (values, lows, highs))
    labels = _unlike([inert(name, 36) for name in names])
    given = bool(np.isfinite(low).any())
    ends = " (%{customdata[0]:.4f} to %{customdata[1]:.4f})" if given else ""
    traces = []
    for kind in dict.fromkeys(kinds):
        rows = [place for place, own in enumerate(kinds) if own == kind]
        colour = _KINDS.get(kind, LINES[3])
        trace = {
            **{"type": "scatter", "mode": "markers", "x": score[rows], "y": [labels[row] for row in rows], "name": inert(kind)},
            **{"marker": {"color": colour, "size": 10}, "customdata": np.stack([low[rows], high[rows]], 1)},
            "error_x": {**_around(score[rows], low[rows], high[rows]), "color": colour},
            "hovertemplate": f"%{{y}}: %{{x:.4f}}{ends}<extra></extra>",
        }
        traces.append(trace)
    order = {"type": "category", "categoryorder": "array", "categoryarray": labels, "autorange": "reversed"}
    layout = _layout(inert(metric), "", y=order, showlegend=len(traces) > 1)
    said = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, score, strict=True))
    note = "Dots are scores, lines are 95 % intervals." if given else "Dots are scores; no intervals are given."
    return Figure(checked(traces, layout), f"{metric}: {said}", note, 120 + 30 * max(3, len(labels)))


def histogram(values: Mapping[str, ArrayLike], title: str, log: bool = False) -> Figure:
    """Draw a histogram, one colour per set of values. title: name and unit of the values; log: counts on a log scale.

    Several sets are drawn as shares of each set, so that a small one is visible beside a large one.
    """
    sets = {name: held[np.isfinite(held)] for name, held in ((n, np.asarray(v, np.float64).ravel()) for n, v in values.items())}
    whole = np.concatenate([*sets.values(), np.empty(0)])
    edges = _edges(whole)
    traces = []
    for number, (name, held) in enumerate(sets.items()):
        counts = np.histogram(held, edges)[0]
        heights = counts if len(sets) == 1 else counts / max(1, held.size)
        look = {"name": inert(name, 30), "opacity": 0.85 if len(sets) == 1 else 0.55, "marker": {"color": _colour(number)}}
        bars = {"type": "bar", "x": (edges[:-1] + edges[1:]) / 2, "y": heights, "width": np.diff(edges), **look}
        bars |= {"customdata": np.stack([edges[:-1], edges[1:], counts], 1)}
        bars["hovertemplate"] = "%{customdata[0]:.4g} to %{customdata[1]:.4g}: %{customdata[2]:,} values"
        traces.append(bars)
    up = {**({"type": "log"} if log else {}), **({} if len(sets) == 1 else {"tickformat": "~%"})}
    named = "values" if len(sets) == 1 else "share of the set"
    layout = _layout(inert(title), named, y=up, barmode="overlay", bargap=0, showlegend=len(sets) > 1)
    return Figure(checked(traces, layout), f"Histogram of {title}: {', '.join(map(str, values))}", tall=320)


def scatter(points: Mapping[str, tuple[ArrayLike, ArrayLike]], across: str, up: str, guide: str = "zero") -> Figure:
    """Draw dots, one colour per set: name to (x, y). guide: a line at "zero", or the "diagonal"."""
    traces, ends = list[Spec](), [np.inf, -np.inf]
    for number, (name, (x, y)) in enumerate(points.items()):
        here = np.isfinite(np.asarray(x, np.float64)) & np.isfinite(np.asarray(y, np.float64))
        left, right = np.asarray(x, np.float64)[here], np.asarray(y, np.float64)[here]
        ends = [min(ends[0], left.min(initial=np.inf)), max(ends[1], left.max(initial=-np.inf))]
        look = {"color": _colour(number), "size": 5, "opacity": 0.6}
        traces.append({"type": "scatter", "mode": "markers", "x": left, "y": right, "name": inert(name, 30), "marker": look})
    if ends[0] <= ends[1]:
        line: dict[str, object] = {"type": "scatter", "mode": "lines", "showlegend": False}
        line |= {"x": ends, "y": ends if guide == "diagonal" else [0.0, 0.0]}
        traces.append({**line, "line": {"color": LINES[6], "width": 1, "dash": "dot"}})
    layout = _layout(inert(across), inert(up), showlegend=len(points) > 1)
    return Figure(checked(traces, layout), f"{up} against {across}: {', '.join(points)}", tall=340)


def by_lead(values: Mapping[str, ArrayLike], metric: str, leads: Sequence[str], unit: str = "") -> Figure:
    """Draw a metric by lead time, a line per forecast, the first one thick. values: name to (lead,); leads: labels."""
    words, traces = [inert(lead, 20) for lead in leads], []
    for number, (name, line) in enumerate(values.items()):
        curve = _curve(number, name, words, line, width=1.5 if number else 3.2, dash=_dash(number))
        traces.append({**curve, "mode": "lines" if number else "lines+markers", "marker": {"size": 7}})
    shown = {"type": "category", "nticks": 12}
    layout = _layout("lead time", inert(f"{metric} ({unit})" if unit else metric), x=shown, hovermode="x unified")
    return Figure(checked(traces, layout), f"{metric} by lead time for {', '.join(map(str, values))}", tall=380)


def in_order(values: Mapping[str, ArrayLike], places: Sequence[str], across: str, up: str) -> Figure:
    """Draw curves over ordered places, such as times. values: name to (place,); places: labels."""
    words = [inert(place, 20) for place in places]
    traces = [_curve(number, name, words, line, width=1.4) for number, (name, line) in enumerate(values.items())]
    shown = {"type": "category", "nticks": 6, "tickangle": 0}
    layout = _layout(inert(across), inert(up), x=shown, hovermode="x unified", showlegend=len(traces) > 1)
    return Figure(checked(traces, layout), f"{', '.join(map(str, values))} over {across}: {up}", tall=320)


def power_spectrum(wavelengths: ArrayLike, powers: Mapping[str, ArrayLike], unit: str = "cells") -> Figure:
    """Draw power by wavelength, both on log scales; a line below the truth is too smooth. wavelengths: (band,), in `unit`."""
    traces = [
        _curve(number, name, np.asarray(wavelengths, np.float64), power, width=1.6 if number else 2.6, dash=_dash(number))
        for number, (name, power) in enumerate(powers.items())
    ]
    x = {"type": "log", "autorange": "reversed", "tickvals": _ticks(wavelengths)}
    y = {"type": "log", "dtick": 1, "exponentformat": "power"}
    layout = _layout(f"wavelength ({inert(unit)})", "power", x=x, y=y, hovermode="x unified")
    note = "Large structures are on the left, small ones on the right. A forecast below the truth is too smooth."
    return Figure(checked(traces, layout), f"Power by wavelength for {', '.join(map(str, powers))}", note, 380)


def _layout(across: str, up: str, *, x: Spec | None = None, y: Spec | None = None, **more: object) -> Spec:
    """A layout with a title and options for each axis, and other properties."""
    axes = {"xaxis": {"title": {"text": across}, **(x or {})}, "yaxis": {"title": {"text": up}, **(y or {})}}
    margin = {**_MARGIN, "t": 44 if more.get("showlegend", True) else 14}
    return {"margin": margin, "legend": dict(_KEY), **axes, **more}


def _curve(number: int, name: str, x: object, y: ArrayLike, **look: object) -> dict[str, object]:
    """A line with a name and a colour of its own. look: further properties of the line."""
    line = {"color": _colour(number), **look}
    return {"type": "scatter", "mode": "lines", "x": x, "y": np.asarray(y, np.float64), "name": inert(name, 30), "line": line}


def _above(pixels: int) -> Spec:
    """A legend above the panel headings."""
    return {**_KEY, "y": 1 + pixels / 300}


def _colour(number: int) -> str:
    return LINES[number % len(LINES)]


def _dash(number: int) -> str:
    return _DASHES[number // len(LINES) % len(_DASHES)]


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.13)"


def _bar_look(number: int, part: str) -> Spec:
    end = "<extra></extra>" if not part else ""
    return {"marker": {"color": _colour(number)}, "hovertemplate": "%{x}: %{y:,} samples" + end}


def _around(values: Values, low: Values, high: Values) -> Spec:
    """Intervals as plotly error bars."""
    return {
        "type": "data",
        "symmetric": False,
        "array": high - values,
        "arrayminus": values - low,
        "thickness": 1.4,
        "width": 4,
    }


def _kept(history: Sequence[Epoch]) -> int | None:
    return max((place for place, line in enumerate(history) if line.get("kept")), default=None)


def _edges(values: Values) -> Values:
    """The edges of equal bins; for integers, each bin covers equally many."""
    if not values.size:
        return np.linspace(0.0, 1.0, 3)
    low, high = float(values.min()), float(values.max())
    if high - low < 1e5 and np.array_equal(values, np.rint(values)):
        width = int((high - low) // _BINS) + 1
        return np.arange(low - 0.5, high + width, width)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # a single value, up to rounding
        pad = max(0.5, 1e-6 * abs(high))
        low, high = low - pad, high + pad
    return np.linspace(low, high, _BINS + 1)


def _ticks(values: ArrayLike) -> list[float]:
    """Ticks 1, 2, 5, 10 ... over the range of a log axis."""
    held = np.asarray(values, np.float64)
    held = held[np.isfinite(held) & (held > 0)]
    decades = range(int(np.floor(np.log10(held.min()))), int(np.ceil(np.log10(held.max()))) + 1) if held.size else ()
    return [lead * 10.0**decade for decade in decades for lead in (1, 2, 5)]


def _stages(panels: Panels, starts: Sequence[int]) -> list[Spec]:
    dashed = {"color": LINES[6], "width": 1, "dash": "dash"}
    shapes = list[Spec]()
    for cell in range(2):
        names = panels.axes(cell)
        ends = {"xref": names["xaxis"], "yref": f"{names['yaxis']} domain", "y0": 0, "y1": 1}
        shapes += [{"type": "line", "x0": s + 0.5, "x1": s + 0.5, "line": dashed, "layer": "below", **ends} for s in starts]
    return shapes


def _unlike(names: Sequence[str]) -> list[str]:
    """Number duplicate names, which plotly would otherwise draw in one row."""
    return [name if names.index(name) == place else f"{name} ({place + 1})" for place, name in enumerate(names)]
