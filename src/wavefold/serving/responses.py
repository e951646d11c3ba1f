"""Convert model output to a response: JSON, CSV or a NumPy array, as preferred by the Accept header."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wavefold.core.files import without_nan
from wavefold.core.records import Scores

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
DRAWN, TOLD = 6, 8  # digits of a channel's largest value: for drawing, and for forecasts (float32 precision)


@dataclass(frozen=True)
class Answer:
    """What is answered for the samples of a request, made when it is asked for, in a thread if it is large."""

    rows: Callable[[], list[dict[str, object]]]  # a JSON object per sample
    columns: Callable[[], Mapping[str, NDArray[np.generic]]] | None = None  # each (sample,), for CSV
    array: Callable[[], NDArray[np.floating]] | None = None  # (sample, ...), for .npy
    more: Mapping[str, object] = field(default_factory=dict)  # further fields of the JSON object

    def content(self, kind: str, name: str) -> bytes:
        """Return the response of a content type. name: the key of the rows in JSON."""
        if kind == CSV and self.columns:
            return csv_bytes(self.columns())
        if kind == NPY and self.array:
            return npy_bytes(self.array())
        return json_bytes({name: self.rows(), **self.more})


def score_fields(scores: Scores) -> dict[str, object]:
    """The score of a run for GET /model: metric, value, 95 % interval, n, baseline scores and notes."""
    value, *interval = (without_nan(v) for v in scores.score.measure(scores.metric))
    measured = [(row.name, [without_nan(v) for v in row.measure(scores.metric)]) for row in scores.baselines]
    beside = [{"name": name, "value": values[0], "interval": values[1:]} for name, values in measured]
    fields = {"metric": scores.metric, "value": value, "interval": interval, "n": scores.n, "per": scores.per}
    return {"score": fields, "baselines": beside, "standing": scores.standing, "notes": list(scores.notes)}


def preferred(accept: str, offers: Sequence[str]) -> str:
    """Return the offer preferred by an Accept header; the first if it names none of them."""
    liked = dict(_liking(part) for part in accept.lower().split(","))
    wanted = [liked.get(o, _ANY * liked.get(f"{o.partition('/')[0]}/*", liked.get("*/*", 0.0))) for o in offers]
    return offers[int(np.argmax(wanted))]


_ANY = 0.999  # a named type wins over a wildcard


def _liking(part: str) -> tuple[str, float]:
    kind, *options = (word.strip() for word in part.split(";"))
    weight = next((option[2:] for option in options if option.startswith("q=")), "1")
    try:
        return kind, float(weight) if math.isfinite(float(weight)) else 0.0
    except ValueError:
        return kind, 0.0


def json_bytes(value: object) -> bytes:
    """Encode plain values as JSON, with null for values that are not finite."""
    try:
        return json.dumps(value, allow_nan=False).encode()
    except ValueError:
        return json.dumps(without_nan(value)).encode()


def csv_bytes(columns: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Return columns (sample,) as CSV with a header, floats to eight digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*([_cell(v) for v in values.tolist()] for values in columns.values()), strict=True))
    return text.getvalue().encode()


def npy_bytes(values: NDArray[np.generic]) -> bytes:
    """Return an array as a .npy file."""
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return stream.getvalue()


def rounded(values: NDArray[np.floating], digits: int = DRAWN) -> list[object]:
    """Return values (channel, ...) as nested lists, each channel rounded to digits of its largest; None if not finite."""
    return [_rounded(channel, digits) for channel in values]


def _rounded(values: NDArray[np.floating], digits: int) -> object:
    there = np.abs(values[np.isfinite(values)])
    largest = float(there.max(initial=0.0))
    places = digits - 1 - math.floor(math.log10(largest)) if largest > 0 else 0
    listed = np.round(values.astype(np.float64), min(places, _MOST_PLACES)).tolist()
    return listed if len(there) == values.size else without_nan(listed)


_MOST_PLACES = 300  # more exceeds float64


def _cell(value: object) -> object:
    return f"{value:.8g}" if isinstance(value, float) else value
