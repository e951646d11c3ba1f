"""Pydantic models of what the server takes and answers, in the shape of its run; FastAPI documents them in /openapi.json."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import GenericAlias
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, TypeAdapter, WithJsonSchema, create_model

from wavefold.core.errors import listed

LARGEST = float(np.finfo(np.float32).max)
Layout = tuple[int | None, ...]  # lengths of nested lists; None is the number of samples
_LATEST = 32503680000.0  # seconds, the year 3000
_NAME = re.compile(r"[\w. ()+,=@#-]{1,200}", re.ASCII)
_STRICT = ConfigDict(strict=True, extra="forbid")


class Refusal(BaseModel, extra="forbid"):
    """An error: one line, and the name of the invalid part of the request."""

    error: str
    field: str | None


class Query(Protocol):
    """A parsed query: `name` has the suffix of a file, where files are taken; `row` is a sample, where one is explained."""

    name: str
    row: int


class Forecast(BaseModel):
    """The forecast frames of a sample, (target, ahead, row, column), in the unit of the data; null is a missing value."""

    id: str
    frames: list[object]


def prediction_model(classes: Sequence[str]) -> type[BaseModel]:
    """Return the model of a sample's prediction: its most probable class, and probabilities and decisions by class."""
    by_class, one_of = numbers_model(classes), _one_of(classes)
    fields: dict[str, tuple[object, object]] = {"id": (str, ...), "named": (one_of, Field(alias="class"))}
    return _model("Prediction", {**fields, "probabilities": (by_class, ...), "decided": (by_class, ...)})


def labels_model(labels: Sequence[str]) -> type[BaseModel]:
    """Return the model of a sample's labels: those decided, and probabilities and decisions (0 or 1) by label."""
    by_label = numbers_model(labels)
    fields = {"id": (str, ...), "labels": (GenericAlias(list, _one_of(labels)), ...)}
    return _model("Prediction", {**fields, "probabilities": (by_label, ...), "decided": (by_label, ...)})


def values_model(names: Sequence[str]) -> type[BaseModel]:
    """Return the model of a sample's predicted numbers: values and standard deviations by name."""
    by_name = numbers_model(names)
    return create_model("Prediction", id=(str, ...), values=(by_name, ...), spreads=(by_name, ...))


def numbers_model(names: Sequence[str]) -> type[BaseModel]:
    """Return the model of a number for each name, which may be any text, so that it is an alias."""
    return _model("ByName", {f"name_{number}": (float, Field(alias=name)) for number, name in enumerate(names)})


def _model(name: str, fields: Mapping[str, tuple[object, object]], config: ConfigDict | None = None) -> type[BaseModel]:
    """A model of fields whose names are known at run time only: name to (type, default)."""
    return create_model(name, __config__=config, **dict[str, Any](fields))


def _one_of(names: Sequence[str]) -> object:
    return Literal[tuple(names)]


def answer_model(name: str, row: type[BaseModel]) -> type[BaseModel]:
    """Return the model of a response: rows under a name."""
    return _model("Answer", {name: (GenericAlias(list, row), ...)}, ConfigDict(extra="allow"))


def explanation_model(row: type[BaseModel]) -> type[BaseModel]:
    """Return the model of an explanation: a sample's row, the sample itself and its map, both (channel, ...)."""
    values = (list[object], ...)
    return create_model("Explanation", __base__=row, row=(int, ...), ids=(list[str], ...), signal=values, map=values)


def query_model(suffixes: Sequence[str], *, rows: bool) -> type[BaseModel]:
    """Return the model of a query: `name`, of which the suffix is kept, if files are taken; `row`, if `rows`."""

    def suffix_of(name: str) -> str:
        found = [suffix for suffix in suffixes if name.lower().endswith(suffix) and len(name) > len(suffix)]
        if not found or not _NAME.fullmatch(name):
            raise ValueError(f"expected a plain file name that ends in one of {listed(suffixes)}")
        return max(found, key=len)

    fields = dict[str, tuple[object, object]]()
    if suffixes:
        pattern = rf"^[A-Za-z0-9_-]{{1,80}}({'|'.join(map(re.escape, suffixes))})$"
        words = "For application/octet-stream: the file name, of which only the suffix matters."
        field = Field(f"sample{suffixes[0]}", validate_default=True, description=words, json_schema_extra={"pattern": pattern})
        fields["name"] = (Annotated[str, AfterValidator(suffix_of)], field)
    if rows:
        fields["row"] = (int, Field(0, ge=0, le=1_000_000, description="Which sample of the body, counted from 0."))
    return _model("Query", fields)


def lists_adapter(layout: Layout, most: int, *, nan: bool) -> TypeAdapter[list[object]]:
    """Return what checks nested lists of float32 numbers. most: samples per request. nan: whether a number may be null."""
    inner: Any = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
    if nan:
        inner = inner | None
    for length in reversed(layout):
        inner = Annotated[list[inner], Field(min_length=length or 1, max_length=length or most), FailFast()]
    return TypeAdapter(inner, config=ConfigDict(strict=True))


def samples_model(
    key: str, lists: Iterable[TypeAdapter[list[object]]], most: int, *, timed: bool, words: str
) -> type[BaseModel]:
    """Return the model of a JSON body: samples under a key, their ids, and their times if `timed`.

    The model documents samples as one of these lists, but leaves their check to `parsers.json_samples`. most: samples per
    request. words: describe the samples.
    """
    schema = {"anyOf": [adapter.json_schema() for adapter in lists]}
    id_type = Annotated[str, Field(max_length=200)]
    fields: dict[str, tuple[object, object]] = {
        key: (Annotated[object, WithJsonSchema(schema)], Field(description=words)),
        "ids": (Annotated[list[id_type], FailFast()], Field(default_factory=list, min_length=1, max_length=most)),
    }
    if timed:
        about = "Time of each sample's last frame, in seconds since 1970-01-01 UTC."
        time = Annotated[float, Field(gt=-_LATEST, lt=_LATEST)]
        fields["times"] = (Annotated[list[time], FailFast()], Field(description=about, min_length=1, max_length=most))
    return _model("Samples", fields, _STRICT)
