"""What the server's OpenAPI document says of bodies and answers: schemas that are as strict as the server, and examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wavefold.output.serving.bodies import LARGEST, Form
from wavefold.output.serving.desk import Served

Schema = dict[str, Any]

_SHOWN = 400  # values of an example at most: a longer one would be most of the document
_ERRORS = {
    404: "The sample that was asked for is not in the body.",
    408: "The body did not come within the time limit.",
    413: "The body is larger than the limit, or holds more samples.",
    415: "The body is of a type that is not taken.",
    422: "Something in the body or in the query is wrong; `field` names it.",
    500: "The model failed; the server goes on.",
    503: "Too many requests wait, or the answer took longer than the time limit; try again after `Retry-After` seconds.",
}
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_ERROR_SCHEMA: Schema = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "field": {"type": ["string", "null"]}},
    "required": ["error", "field"],
    "additionalProperties": False,
}


def description_of_predict(served: Served, form: Form) -> Schema:
    """What the document says of POST /predict: keywords of FastAPI's add_api_route."""
    if served.kind == "classes":
        said = _said("Probabilities by class, and what is decided.", predictions_schema(served.classes), {"text/csv": _TEXT})
    else:
        said = _said("The frames that come after, in their own unit.", forecasts_schema(), {"application/x-npy": _BINARY})
    return {
        "summary": "Predict samples",
        "description": f"A sample is {form.words} values. Requests that come together are answered together.",
        "responses": {**said, **_errors(408, 413, 415, 422, 500, 503)},
        "openapi_extra": {"requestBody": accepted_bodies(served, form), "parameters": _names(served)},
    }


def description_of_explain(served: Served, form: Form) -> Schema:
    """What the document says of POST /explain."""
    drawn = prediction_schema(
        served.classes, row={"type": "integer"}, signal={"type": "array"}, map={"type": ["array", "null"]}
    )
    return {
        "summary": "Explain one sample",
        "description": "What a sample is and why: how far each piece of it speaks for its class.",
        "responses": {**_said("The sample, its answer, its map.", drawn, {}), **_errors(404, 408, 413, 415, 422, 500, 503)},
        "openapi_extra": {"requestBody": accepted_bodies(served, form), "parameters": [*_names(served), _ROW]},
    }


def description_of_get(summary: str) -> Schema:
    """What the document says of a GET whose answer is an object."""
    return {"summary": summary, "responses": _said(f"{summary}.", {"type": "object"}, {})}


def _errors(*statuses: int) -> dict[int | str, Schema]:
    """The declared answers that are errors."""
    return {status: _error(status) for status in statuses}


def _error(status: int) -> Schema:
    content = {"application/json": {"schema": _ERROR_SCHEMA}}
    return {"description": _ERRORS[status], "content": content, **({"headers": _RETRY} if status == 503 else {})}


def _said(description: str, schema: Schema, others: Schema) -> dict[int | str, Schema]:
    """The declared good answer: JSON, and other types with their schemas."""
    content = {"application/json": {"schema": schema}, **{kind: {"schema": other} for kind, other in others.items()}}
    return {200: {"description": description, "content": content}}


_TEXT: Schema = {"type": "string"}
_BINARY: Schema = {"type": "string", "format": "binary"}


def accepted_bodies(served: Served, form: Form) -> Schema:
    """What may be sent, by content type."""
    example, suffixes = served.example, served.suffixes
    content = {
        "application/json": {"schema": json_schema(form), "examples": {"one": {"value": _json_example(form, example)}}},
        "application/x-npy": {"schema": {**_BINARY, "description": f"A .npy of {form.words} numbers, or of several such."}},
    }
    if served.kind == "classes":
        content["text/csv"] = {"schema": _TEXT, "examples": {"one": {"value": _csv_example(example)}}}
    if suffixes:
        words = f"A file as the system has it, of a name that ends in {', '.join(suffixes)}."
        content["application/octet-stream"] = {"schema": {**_BINARY, "description": words}}
    return {"required": True, "content": content}


def json_schema(form: Form) -> Schema:
    """The JSON object that holds samples."""
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
            "description": "Of each sample's last frame, in seconds since 1970-01-01 UTC.",
        }
    needed = [form.key, *(["times"] if form.timed else [])]
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _names(served: Served) -> list[Schema]:
    """The query's `name`, where files are taken: its ending says how one is to be read."""
    if not served.suffixes:
        return []
    ends = "|".join(suffix.replace(".", r"\.") for suffix in served.suffixes)
    name = {
        "name": "name",
        "in": "query",
        "required": False,
        "description": "Of application/octet-stream: the file's name, of which only the ending counts.",
        "schema": {"type": "string", "pattern": rf"^[A-Za-z0-9_-]{{1,80}}({ends})$", "default": f"sample{served.suffixes[0]}"},
    }
    return [name]


_ROW: Schema = {
    "name": "row",
    "in": "query",
    "required": False,
    "description": "Which sample of the body is explained, from 0.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 1_000_000, "default": 0},
}


def _described(form: Form) -> str:
    leaves = f"A sample is {form.words} values; " + ("null is no value; " if form.nan else "")
    return leaves + "a first axis of length 1 may be left out, and one sample needs no list of samples."


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
        return {form.key: f"a list of samples, each {form.words} numbers; GET /example has one", "ids": ["mine"]}
    values = example[0] if len(example) == 1 else example
    return {form.key: [np.round(values.astype(np.float64), 4).tolist()], "ids": ["mine"]}


def _csv_example(example: np.ndarray[Any, Any]) -> str:
    flat = example.ravel()
    return ",".join(f"{v:.4g}" for v in flat) + "\n" if flat.size <= _SHOWN else "1.0,0.5,...\n"


def predictions_schema(classes: Sequence[str]) -> Schema:
    """The answer of POST /predict on classes."""
    return {
        "type": "object",
        "properties": {"predictions": {"type": "array", "items": prediction_schema(classes)}},
        "required": ["predictions"],
    }


def prediction_schema(classes: Sequence[str], **more: Schema) -> Schema:
    """One sample's answer; more: further properties, all of which are there."""
    odds = {"type": "object", "properties": {name: {"type": "number"} for name in classes}, "required": list(classes)}
    fields = {"id": {"type": "string"}, "class": {"enum": list(classes)}, "probabilities": odds, "decided": odds, **more}
    return {"type": "object", "properties": fields, "required": list(fields)}


def forecasts_schema() -> Schema:
    """The answer of POST /predict on frames."""
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
