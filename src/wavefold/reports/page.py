"""Write a page of text, tables and figures as one HTML file that needs no network: plotly.js and all data are embedded.

Figures are drawn as they scroll near the screen, follow the light or dark scheme, and are all drawn before printing. Each
distinct long array is stored once, outside the figures, in 16-bit steps if those are far finer than the spread of the values.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from wavefold.core.errors import UserError
from wavefold.core.files import write_text
from wavefold.plots.plot import Figure, plotly_script

_LONG = 400  # base64 characters above which an array is stored outside the figures
_STEPS = 32767  # 16-bit steps on either side of the middle; one below the lowest means "no value"
_FINE = 1e-3  # largest invisible step, as a share of the spread of the values
_NUMBER = re.compile(r"[-+−]?[\d,]*\.?\d+(e[-+]?\d+)?( ?%)?|–|nan")


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header; columns of numbers are aligned right, text is shown unchanged."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""


@dataclass(frozen=True)
class Facts:
    """A list of names and their values."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Words:
    """Paragraphs separated by blank lines, a warning, good news, or code."""

    text: str
    kind: Literal["plain", "warning", "good", "code"] = "plain"


Block = Figure | Table | Facts | Words


@dataclass(frozen=True)
class Chapter:
    """A section of a page, listed in its contents."""

    title: str
    blocks: Sequence[Block]
    lead: str = ""  # one sentence on how to read it


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    lead: str
    chapters: Sequence[Chapter]
    foot: str = ""
    headline: Sequence[tuple[str, str]] = ()  # big numbers at the top: (label, number)


def write_page(path: str | Path, page: Page) -> None:
    """Write a page atomically; UserError unless the path ends in .html or .htm."""
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{path}: expected a file name that ends in .html")
    write_text(target, page_html(page))


def page_html(page: Page) -> str:
    """Return a page as one self-contained HTML document."""
    drawn, arrays = _drawn(page), _Arrays()
    specs = [script_json(arrays.beside(figure.spec)) for figure in drawn]
    scripts = [plotly_script(), template("page.js")] if drawn else [template("page.js")]
    return TEMPLATES.get_template("page.html").render(
        page=page,
        specs=specs,
        arrays=arrays.texts,
        scripts=scripts,
        hashes=script_hashes(scripts),
        style=template("page.css"),
    )


def _drawn(page: Page) -> list[Figure]:
    return [block for chapter in page.chapters for block in chapter.blocks if isinstance(block, Figure)]


def template(name: str) -> str:
    """The text of a file in the folder of templates."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def script_hashes(scripts: Sequence[str]) -> list[str]:
    """The SHA-256 of each script, in base64, by which a page's policy lets it run."""
    return [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]


def script_json(value: object) -> str:
    """JSON that cannot close a script element; null for undefined values."""
    text = json.dumps(_defined(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _defined(value: object) -> object:
    """The value with None for NaN and infinities, and Python numbers for NumPy ones."""
    if isinstance(value, Mapping):
        return {str(name): _defined(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(inner) for inner in value]
    if isinstance(value, np.ndarray | np.generic):
        return _defined(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value


@dataclass
class _Arrays:
    """The distinct long arrays of a page."""

    texts: list[str] = field(default_factory=list)  # base64
    _known: dict[str, int] = field(default_factory=dict)

    def beside(self, value: object) -> object:
        """Replace each long plotly array {"dtype", "bdata"} in the value by a reference."""
        if isinstance(value, Mapping):
            if "bdata" in value and "dtype" in value:
                return self._reference(value) if len(value["bdata"]) > _LONG else value
            return {name: self.beside(inner) for name, inner in value.items()}
        return [self.beside(inner) for inner in value] if isinstance(value, list | tuple) else value

    def _reference(self, array: Mapping[str, str]) -> dict[str, object]:
        reference: dict[str, object] = {name: array[name] for name in ("dtype", "shape") if name in array}
        text = array["bdata"]
        if array["dtype"] in ("f4", "f8"):
            values = np.frombuffer(base64.b64decode(text), "<" + array["dtype"])
            if (steps := _in_steps(values)) is not None:
                text, reference["step"], reference["middle"] = steps
                reference["dtype"] = "i2"
            elif array["dtype"] == "f8":
                text, reference["dtype"] = base64.b64encode(values.astype("<f4").tobytes()).decode(), "f4"
        if text not in self._known:
            self._known[text] = len(self.texts)
            self.texts.append(text)
        return {"array": self._known[text], **reference}


def _in_steps(values: NDArray[np.floating]) -> tuple[str, float, float] | None:
    """Values as base64 of 16-bit integer steps from a middle; None if such a step would be visible."""
    held = values[np.isfinite(values)].astype(np.float64)
    if not held.size:
        return None
    low, high = float(held.min()), float(held.max())
    step, middle = (high - low) / 2 / _STEPS, (low + high) / 2
    near, far = np.quantile(held, (0.1, 0.9))
    if not 0 < step <= _FINE * (far - near):
        return None
    whole = np.full(values.shape, -_STEPS - 1, np.float64)
    np.rint((values.astype(np.float64) - middle) / step, out=whole, where=np.isfinite(values))
    return base64.b64encode(whole.astype("<i2").tobytes()).decode(), float(f"{step:.9g}"), float(f"{middle:.9g}")


def _cell_text(cell: object) -> str:
    """A cell as text: four digits of a float, commas in an integer, a dash for an undefined value."""
    if isinstance(cell, bool | np.bool_):
        return "yes" if cell else "no"
    if isinstance(cell, int | np.integer):
        return format(int(cell), ",")
    if isinstance(cell, float | np.floating):
        return format(float(cell), ".4g") if np.isfinite(cell) else "–"
    return "" if cell is None else str(cell)


def _columns(table: Table) -> list[bool]:
    """Which columns hold only numbers, and so are aligned right."""
    texts = [[_cell_text(cell).strip() for cell in row] for row in table.rows]
    columns = [[row[column] for row in texts if column < len(row) and row[column]] for column in range(len(table.head))]
    return [bool(column) and all(_NUMBER.fullmatch(text) for text in column) for column in columns]


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


TEMPLATES = Environment(
    loader=PackageLoader("wavefold.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters |= {
    "cell_text": _cell_text,
    "paragraphs": _paragraphs,
    "number_columns": _columns,
    "kind_of": lambda block: type(block).__name__,
}
