"""Convert model output to a response: JSON, CSV or a NumPy array, as preferred by the Accept header."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefold.tasks.samples.predictions import Predictions

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
DRAWN, TOLD = 6, 8  # digits of a channel's largest value: for drawing, and for forecasts (float32 precision)


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


def json_bytes(value: Any) -> bytes:
    """Encode plain values as JSON, with null for values that are not finite."""
    try:
        return json.dumps(value, allow_nan=False).encode()
    except ValueError:
        return json.dumps(_defined(value)).encode()


def prediction_rows(predictions: Predictions) -> list[dict[str, Any]]:
    """Return id, most probable class, probabilities by class and decisions by class for each sample."""
    classes = predictions.classes
    odds, decided = np.round(predictions.probabilities, 7).tolist(), np.round(predictions.decided, 7).tolist()
    named = [classes[i] for i in predictions.probabilities.argmax(axis=1)]
    return [
        {
            "id": id_,
            "class": name,
            "probabilities": dict(zip(classes, p, strict=True)),
            "decided": dict(zip(classes, d, strict=True)),
        }
        for id_, name, p, d in zip(predictions.ids.tolist(), named, odds, decided, strict=True)
    ]


def prediction_csv(predictions: Predictions) -> bytes:
    """Return CSV, one row per sample: id, label_<class> (the decision), probability_<class>, predicted."""
    columns = {name: [_cell(v) for v in values.tolist()] for name, values in predictions.columns().items()}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def new_predictions(
    ids: Sequence[str], classes: Sequence[str], probabilities: NDArray[Any], decided: NDArray[Any]
) -> Predictions:
    """Build the Predictions for the samples of a request."""
    names: Any = np.array(ids, object)  # str_ would strip a trailing NUL
    return Predictions(names, tuple(classes), np.asarray(probabilities, np.float64), np.asarray(decided, np.float64))


def npy_bytes(values: NDArray[Any]) -> bytes:
    """Return an array as a .npy file."""
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return stream.getvalue()


def rounded(values: NDArray[Any], digits: int = DRAWN) -> list[Any]:
    """Return values (channel, ...) as nested lists, each channel rounded to digits of its largest; None if not finite."""
    return [_rounded(channel, digits) for channel in values]


def _rounded(values: NDArray[Any], digits: int) -> Any:
    there = np.abs(values[np.isfinite(values)])
    largest = float(there.max(initial=0.0))
    places = digits - 1 - math.floor(math.log10(largest)) if largest > 0 else 0
    listed = np.round(values.astype(np.float64), min(places, _MOST_PLACES)).tolist()
    return listed if len(there) == values.size else _defined(listed)


_MOST_PLACES = 300  # more exceeds float64


def _defined(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _defined(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    return f"{value:.8g}" if isinstance(value, float) else value
