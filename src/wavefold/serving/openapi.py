"""The OpenAPI document of the server: schemas of requests and responses, as strict as the server, with examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wavefold.serving.handlers import ServedModel
from wavefold.serving.parsers import LARGEST, Form

Schema = dict[str, Any]

_SHOWN = 400  # most values in an example: a longer one would dominate the document
_ERRORS = {
    404: "The requested sample is not in the body.",
    408: "The body did not arrive within the time limit.",
    413: "The body exceeds the limit on bytes or samples.",
    415: "The content type of the body is not supported.",
    422: "The body or the query is invalid; `field` names the invalid part.",
    500: "The model failed; the server keeps running.",
    503: "Too many requests are waiting, or the response exceeded the time limit; try again after `Retry-After` seconds.",
}
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_ERROR_SCHEMA: Schema = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "field": {"type": ["string", "null"]}},
    "required": ["error", "field"],
    "additionalProperties": False,
}


def description_of_predict(served: ServedModel, form: Form) -> Schema:
    """Describe POST /predict as keywords of FastAPI's add_api_route."""
    if served.kind == "classes":
        message = _said("Probabilities and decisions by class.", predictions_schema(served.classes), {"text/csv": _TEXT})
    else:
        message = _said("The forecast frames, in the unit of the data.", forecasts_schema(), {"application/x-npy": _BINARY})
    return {
        "summary": "Predict samples",
        "description": f"A sample has {form.words} values. Concurrent requests are run as one batch.",
        "responses": {**message, **_errors(408, 413, 415, 422, 500, 503)},
        "openapi_extra": {"requestBody": accepted_bodies(served, form), "parameters": _names(served)},
    }


def description_of_explain(served: ServedModel, form: Form) -> Schema:
    """Describe POST /explain."""
    drawn = prediction_schema(
        served.classes, row={"type": "integer"}, signal={"type": "array"}, map={"type": ["array", "null"]}
    )
    return {
        "summary": "Explain one sample",
        "description": "The predicted class of a sample, and how much each part of the sample supports it.",
        "responses": {
            **_said("The sample, its prediction and its explanation map.", drawn, {}),
            **_errors(404, 408, 413, 415, 422, 500, 503),
        },
        "openapi_extra": {"requestBody": accepted_bodies(served, form), "parameters": [*_names(served), _ROW]},
    }


def description_of_get(summary: str) -> Schema:
    """Describe a GET that returns an object."""
    return {"summary": summary, "responses": _said(f"{summary}.", {"type": "object"}, {})}


def _errors(*statuses: int) -> dict[int | str, Schema]:
    """The declared error responses."""
    return {status: _error(status) for status in statuses}


def _error(status: int) -> Schema:
    content = {"application/json": {"schema": _ERROR_SCHEMA}}
    return {"description": _ERRORS[status], "content": content, **({"headers": _RETRY} if status == 503 else {})}


def _said(description: str, schema: Schema, others: Schema) -> dict[int | str, Schema]:
    """The declared success response: JSON, and other types with their schemas."""
    content = {"application/json": {"schema": schema}, **{kind: {"schema": other} for kind, other in others.items()}}
    return {200: {"description": description, "content": content}}


_TEXT: Schema = {"type": "string"}
_BINARY: Schema = {"type": "string", "format": "binary"}


def accepted_bodies(served: ServedModel, form: Form) -> Schema:
    """Describe the accepted bodies by content type."""
    example, suffixes = served.example, served.suffixes
    content = {
        "application/json": {"schema": json_schema(form), "examples": {"one": {"value": _json_example(form, example)}}},
        "application/x-npy": {
            "schema": {**_BINARY, "description": f"A .npy array of one sample of {form.words} numbers, or of several."}
        },
    }
    if served.kind == "classes":
        content["text/csv"] = {"schema": _TEXT, "examples": {"one": {"value": _csv_example(example)}}}
    if suffixes:
        words = f"A file in the system's own format; its name ends in {', '.join(suffixes)}."
        content["application/octet-stream"] = {"schema": {**_BINARY, "description": words}}
    return {"required": True, "content": content}


def json_schema(form: Form) -> Schema:
    """Return the schema of the JSON object that holds samples."""
    properties: Schema = {
        form.key: {"anyOf": [_lists(layout, form) for layout in form.layouts.values()], "description": _described(form)},
        "ids": {"type": "array", "items": {"type": "string", "maxLength": 200}, "minItems": 1, "maxItems": form.rows},
    }
    if form.timed:
        properties["times"] = {
            "type": "array",
            "items": {"type": "number", "exclusiveMinimum": -32503680000, "exclusiveMaximum": 32503680000},
            "minItems": 1,
            "maxItems": form.rows,
            "description": "Time of each sample's last frame, in seconds since 1970-01-01 UTC.",
        }
    needed = [form.key, *(["times"] if form.timed else [])]
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _names(served: ServedModel) -> list[Schema]:
    """The query parameter `name`, if files are accepted: its suffix selects the reader."""
    if not served.suffixes:
        return []
    ends = "|".join(suffix.replace(".", r"\.") for suffix in served.suffixes)
    name = {
        "name": "name",
        "in": "query",
        "required": False,
        "description": "For application/octet-stream: the file name, of which only the suffix matters.",
        "schema": {"type": "string", "pattern": rf"^[A-Za-z0-9_-]{{1,80}}({ends})$", "default": f"sample{served.suffixes[0]}"},
    }
    return [name]


_ROW: Schema = {
    "name": "row",
    "in": "query",
    "required": False,
    "description": "Which sample of the body to explain, counted from 0.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 1_000_000, "default": 0},
}


def _described(form: Form) -> str:
    leaves = f"A sample has {form.words} values; " + ("null is a missing value; " if form.nan else "")
    return leaves + "a first axis of length 1 may be omitted, and a single sample need not be in a list."


def _lists(layout: Sequence[int | None], form: Form) -> Schema:
    inner: Schema = {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}
    if form.nan:
        inner["type"] = ["number", "null"]
    for length in reversed(layout):
        sizes = {"minItems": 1, "maxItems": form.rows} if length is None else {"minItems": length, "maxItems": length}
        inner = {"type": "array", "items": inner, **sizes}
    return inner


def _json_example(form: Form, example: np.ndarray[Any, Any]) -> Schema:
    if example.size > _SHOWN:
        return {form.key: f"a list of samples of {form.words} numbers each; see GET /example", "ids": ["mine"]}
    values = example[0] if len(example) == 1 else example
    return {form.key: [np.round(values.astype(np.float64), 4).tolist()], "ids": ["mine"]}


def _csv_example(example: np.ndarray[Any, Any]) -> str:
    flat = example.ravel()
    return ",".join(f"{v:.4g}" for v in flat) + "\n" if flat.size <= _SHOWN else "1.0,0.5,...\n"


def predictions_schema(classes: Sequence[str]) -> Schema:
    """Return the response schema of POST /predict for a classifier."""
    return {
        "type": "object",
        "properties": {"predictions": {"type": "array", "items": prediction_schema(classes)}},
        "required": ["predictions"],
    }


def prediction_schema(classes: Sequence[str], **more: Schema) -> Schema:
    """Return the schema of one prediction; more: further required properties."""
    odds = {"type": "object", "properties": {name: {"type": "number"} for name in classes}, "required": list(classes)}
    fields = {"id": {"type": "string"}, "class": {"enum": list(classes)}, "probabilities": odds, "decided": odds, **more}
    return {"type": "object", "properties": fields, "required": list(fields)}


def forecasts_schema() -> Schema:
    """Return the response schema of POST /predict for a forecaster."""
    one = {
        "type": "object",
        "properties": {"id": {"type": "string"}, "frames": {"type": "array"}},
        "required": ["id", "frames"],
    }
    return {
        "type": "object",
        "properties": {"forecasts": {"type": "array", "items": one}, "targets": {"type": "array", "items": {"type": "string"}}},
        "required": ["forecasts"],
    }
