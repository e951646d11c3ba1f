"""Access to plotly: validated figure specs, the plotly.js script, text escaped against markup, and panel layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as drawing
from plotly.offline import get_plotlyjs

Spec = Mapping[str, object]  # a part of plotly's JSON, which plotly checks


@dataclass(frozen=True)
class Figure:
    """A chart: plotly's JSON with "data", "layout" and perhaps "frames"."""

    spec: Spec
    alt: str  # words for those who cannot see it
    caption: str = ""
    tall: int = 380  # pixels


def checked(traces: Sequence[Spec], layout: Spec, frames: Sequence[Spec] = ()) -> Spec:
    """Return plotly JSON {"data", "layout"[, "frames"]}, arrays as base64; ValueError for properties unknown to plotly."""
    figure = drawing.Figure(data=list(traces), layout={"template": "none", **layout}, frames=list(frames))
    made = figure.to_plotly_json()
    made["layout"].pop("template", None)
    return {name: made[name] for name in ("data", "layout", *(["frames"] if frames else []))}


def plotly_script() -> str:
    """Return plotly.js, escaped for use inside a script element."""
    return str(get_plotlyjs()).replace("</script", "<\\/script").replace("<!--", "<\\!--")


def inert(text: object, most: int = 60) -> str:
    """Escape markup so that plotly shows the text literally, and shorten it to `most` characters."""
    words = " ".join(str(text).split())
    shown = words if len(words) <= most else words[: most - 1] + "…"
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(frozen=True)
class Panels:
    """Equal cells in columns; on a narrow screen the page stacks them, using the "meta" entry of `layout`.

    A cell has one x axis and one y axis per part. Parts are (low, high) fractions of the cell height, the top one first.
    """

    count: int
    columns: int = 1
    cell: int = 130  # pixels high
    gap: int = 44  # pixels between rows
    across: float = 0.07  # gap between columns, as a share of the width
    parts: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    top: int = 44  # pixels above the cells
    bottom: int = 62
    left: int = 58
    right: int = 14
    foot: int = 40  # pixels from the cells to the x axis title

    @property
    def rows(self) -> int:
        """Number of rows on a wide screen."""
        return -(-self.count // self.columns)

    @property
    def tall(self) -> int:
        """Height of the whole figure on a wide screen, in pixels."""
        return self._inner + self.top + self.bottom

    @property
    def _inner(self) -> int:
        return max(1, self.rows * self.cell + (self.rows - 1) * self.gap)

    def axes(self, cell: int, part: int = 0) -> dict[str, str]:
        """Return the "xaxis" and "yaxis" of a trace in a part of a cell."""
        return {"xaxis": f"x{_number(cell + 1)}", "yaxis": f"y{_number(cell * len(self.parts) + part + 1)}"}

    def head(self, cell: int, text: str, *, x: float = 0.0, part: int = 0, **more: object) -> dict[str, object]:
        """Return an annotation above a part of a cell; the text must be escaped already."""
        names = self.axes(cell, part)
        place = {"xref": f"{names['xaxis']} domain", "yref": f"{names['yaxis']} domain", "x": x, "y": 1}
        return {"text": text, "showarrow": False, "xanchor": "left", "yanchor": "bottom", "font": {"size": 12}, **place, **more}

    def layout(
        self,
        across: str,
        up: str,
        *,
        x: Spec | None = None,
        y: Sequence[Spec] | Spec = (),
        annotations: Sequence[Spec] = (),
        square: bool = False,
        **more: object,
    ) -> Spec:
        """Return a layout that places every axis.

        across, up: titles, already escaped. x, y: axis options (y: per part). square: cells of maps are square, and only the
        first map of a row has labels of its y axis.
        """
        foot, side = {"x": 0.5, "y": 0, "yshift": -self.foot}, {"x": 0, "y": 0.5, "xshift": 14 - self.left, "textangle": -90}
        shown = [*annotations, *(_title(text, place) for text, place in ((across, foot), (up, side)) if text)]
        layout = {"meta": {"panels": self._meta()}, "margin": self.margin, "annotations": shown, **more}
        for cell in range(self.count):
            each = [y] * len(self.parts) if isinstance(y, Mapping) else list(y)
            if square:
                fixed = {"matches": "y"} if cell else {"scaleanchor": "x"}
                each = [{**part, **fixed, "showticklabels": cell % self.columns == 0} for part in each]
            layout |= self._cell(cell, x or {}, each)
        return layout

    def _cell(self, cell: int, x: Spec, y: Sequence[Spec]) -> Spec:
        names, width = self.axes(cell), (1 - self.across * (self.columns - 1)) / self.columns
        left, top = (
            (cell % self.columns) * (width + self.across),
            1 - (cell // self.columns) * (self.cell + self.gap) / self._inner,
        )
        height = self.cell / self._inner
        last = self.axes(cell, len(self.parts) - 1)["yaxis"]
        shared = {"matches": "x"} if cell else {}
        across = {"domain": [left, min(1, left + width)], "anchor": last, **shared, **x}
        layout: dict[str, object] = {_axis(names["xaxis"]): across}
        for part, (low, high) in enumerate(self.parts):
            domain = [max(0.0, top - height * (1 - low)), min(1.0, top - height * (1 - high))]
            more = y[part] if part < len(y) else {}
            layout[_axis(self.axes(cell, part)["yaxis"])] = {"domain": domain, "anchor": names["xaxis"], **more}
        return layout

    def _meta(self) -> Spec:
        names = ("count", "columns", "cell", "gap", "across", "top", "bottom")
        return {**{name: getattr(self, name) for name in names}, "parts": [list(part) for part in self.parts]}

    @property
    def margin(self) -> dict[str, int]:
        """Pixels above, below and beside the cells."""
        return {"t": self.top, "b": self.bottom, "l": self.left, "r": self.right}


def _number(number: int) -> str:
    return "" if number == 1 else str(number)


def _axis(name: str) -> str:
    return f"{name[0]}axis{name[1:]}"


def _title(text: str, place: Spec) -> Spec:
    whole = {"xref": "paper", "yref": "paper", "xanchor": "center", "yanchor": "middle"}
    return {"text": text, "showarrow": False, **whole, **place}
