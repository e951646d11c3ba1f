"""Parse request bodies into samples: JSON, rows of numbers, or a NumPy array; errors name the place and what was expected.

Nothing is unpickled, and no array is allocated before its size is checked against the bytes present.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TypeVar

import numpy as np
import simdjson
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json

from wavefold.core.errors import DataError, listed, nearest, plural
from wavefold.data.csv_text import CHUNK, RowParser
from wavefold.data.dataset import Floats
from wavefold.data.npy_header import HEAD, read_header
from wavefold.data.series import Seconds
from wavefold.serving.schemas import LARGEST, Layout, lists_adapter, samples_model

Made = TypeVar("Made")
_MOST_KEYS = 3  # of a JSON object: samples, ids and times
_PLAIN = frozenset(b"0123456789+-.eE, \t\r")  # the bytes of a line of numbers


class RequestError(Exception):
    """An error response: the HTTP status, a one-line message, and the invalid field ('' if none)."""

    def __init__(self, status: int, error: str, at: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.at, self.headers = status, error, at, dict(headers or {})


@dataclass(frozen=True)
class InputBatch:
    """The samples of a request."""

    ids: list[str]
    signals: Floats  # (sample, channel, ...), or past frames (sample, channel, past, row, column)
    times: Seconds | None = None  # (sample,) seconds since 1970-01-01 UTC of each sample's last frame


@dataclass(frozen=True)
class Form:
    """The expected form of samples."""

    key: str  # in the JSON object, such as "signals"
    shape: tuple[int, ...]  # of one sample
    rows: int  # most samples per request
    nan: bool = False  # whether a value may be missing: null in JSON
    timed: bool = False  # whether each sample needs a time

    @property
    def words(self) -> str:
        """The shape of one sample as text."""
        return " x ".join(map(str, self.shape))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the JSON object."""
        return (self.key, "ids", "times") if self.timed else (self.key, "ids")

    @cached_property
    def layouts(self) -> dict[int, Layout]:
        """The accepted lengths of nested lists or of an array, by number of axes; None is the sample axis."""
        shape, axes = self.shape, len(self.shape)
        layouts: dict[int, Layout] = {axes + 1: (None, *shape), axes: shape}
        if shape[0] == 1:  # the channel axis may be omitted
            layouts |= {axes: (None, *shape[1:]), axes - 1: shape[1:]}
        return dict(sorted(layouts.items()))

    @cached_property
    def lists(self) -> dict[int, TypeAdapter[list[object]]]:
        """What checks nested lists that simdjson does not take as they are, by number of axes."""
        return {axes: lists_adapter(layout, self.rows, nan=self.nan) for axes, layout in self.layouts.items()}

    @cached_property
    def model(self) -> type[BaseModel]:
        """The pydantic model of the JSON object."""
        null = "null is a missing value; " if self.nan else ""
        words = f"A sample has {self.words} values; {null}a first axis of length 1 may be omitted; one sample needs no list."
        return samples_model(self.key, self.lists.values(), self.rows, timed=self.timed, words=words)


def json_samples(body: bytes, form: Form) -> InputBatch:
    """Parse the samples of a JSON object {"signals": ..., "ids": [...]}; RequestError names the place of the first error."""
    document = _parsed(body)
    if not isinstance(document, simdjson.Object | dict):
        raise _refused("the body", f'expected an object {{"{form.key}": [...]}}, with samples of {form.words} values')
    keys = list(islice(document.keys(), _MOST_KEYS + 1))
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise RequestError(422, f"{twice[:80]!r} appears more than once", twice[:80])
    fields: dict[str, object] = {key: document[key] for key in keys}
    if form.key in fields:
        fields[form.key] = _numbers(fields[form.key], body, body.count(b"[") - len(keys) + 1, form)
    for key in ("ids", "times"):
        if isinstance(value := fields.get(key), simdjson.Array):
            fields[key] = list(islice(value, form.rows + 1))
    made = dict(_checked(form.model.model_validate, fields, form))
    signals, times = made[form.key], made.get("times")
    ids = made["ids"] or _numbered(len(signals))
    for key, values in (("ids", ids), ("times", times)):
        if values is not None and len(values) != len(signals):
            raise _refused(key, f"got {plural(len(values), 'value')}, expected {len(signals):,}, one per sample")
    return InputBatch(ids, signals, None if times is None else np.array(times, np.float64))


def _checked(validate: Callable[[object], Made], value: object, form: Form, at: tuple[str, ...] = ()) -> Made:
    """A value as validated by pydantic; RequestError names the place of the first error, below `at`."""
    try:
        return validate(value)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
    unknown = next((str(e["loc"][0])[:80] for e in (first, *others) if e["type"] == "extra_forbidden"), None)
    if unknown is not None:
        known = f"{unknown!r} is not one of {listed(form.keys)}{nearest(unknown, form.keys)}"
        raise RequestError(422, known, unknown)
    if first["type"] == "missing":
        raise _refused(str(first["loc"][0]), f"missing, expected {listed(form.keys)} of samples of {form.words} values")
    raise refusal_of((*at, *first["loc"]), first["msg"], first["input"])


def refusal_of(at: Sequence[str | int], why: str, given: object) -> RequestError:
    """Return the response for an error of pydantic. at: the name of a field, and numbers of items in it."""
    got = f"; got {json.dumps(given)[:60]}" if given is None or isinstance(given, str | float | bool) else ""
    why = why.removeprefix("Value error, ")
    return _refused(f"{at[0]}{_place(at[1:])}", f"{why[:1].lower()}{why[1:]}{got}")


def _parsed(body: bytes) -> object:
    """A JSON document, in simdjson's form if it can."""
    try:
        return simdjson.Parser().parse(body)
    except (ValueError, RuntimeError):  # RuntimeError: an integer beyond 64 bits; ValueError: NaN, or no JSON
        return _plain(body)


def _plain(body: bytes) -> object:
    """A JSON document as Python objects; simdjson's own as_list writes past its end for 2 ** 24 items or more."""
    try:
        return from_json(body)
    except ValueError as error:
        raise _refused("the body", f"not valid JSON ({error})") from None


def _numbers(value: object, body: bytes, lists: int, form: Form) -> Floats:
    """Convert nested lists of a body to (sample, channel, ...) float32. lists: upper bound on their number."""
    sizes = _sizes(value, max(form.layouts))
    layout = form.layouts.get(len(sizes))
    if layout is None:
        raise _refused(form.key, f"nested {plural(len(sizes), 'list')} deep, expected {listed(form.layouts)}, of {form.words}")
    if layout[0] is None:
        _check_count(sizes[0], form)
    flat = _flat(value, sizes, lists) if isinstance(value, simdjson.Array) and _fit(sizes, layout) else None
    if flat is None:
        document = _plain(body) if isinstance(value, simdjson.Array) else {form.key: value}
        assert isinstance(document, dict)  # as the caller has found
        plain = document[form.key]
        flat = np.array(_checked(form.lists[len(sizes)].validate_python, plain, form, (form.key,)), np.float64)
    return flat.astype(np.float32).reshape(-1, *form.shape)


def _flat(value: simdjson.Array, sizes: tuple[int, ...], lists: int) -> NDArray[np.float64] | None:
    """All numbers of nested lists; None unless they are regular, of these lengths, and hold float32 numbers only."""
    try:
        flat = np.frombuffer(value.as_buffer(of_type="d"))
    except TypeError:
        return None
    regular = lists == sum(math.prod(sizes[:axis]) for axis in range(len(sizes))) and _are(value, sizes)
    return flat if regular and len(flat) == math.prod(sizes) and -LARGEST <= flat.min() <= flat.max() <= LARGEST else None


def _are(value: object, sizes: tuple[int, ...]) -> bool:
    """Whether nested lists have these lengths."""
    if not isinstance(value, simdjson.Array) or len(value) != sizes[0]:
        return False
    return len(sizes) == 1 or all(_are(part, sizes[1:]) for part in value)


def _fit(sizes: Sequence[int], layout: Layout) -> bool:
    return all(n in (None, m) for n, m in zip(layout, sizes, strict=True))


def _sizes(value: object, most: int) -> tuple[int, ...]:
    """The lengths of nested lists along their first elements."""
    sizes: list[int] = []
    while isinstance(value, simdjson.Array | list) and len(sizes) <= most:
        sizes.append(len(value))
        value = value[0] if sizes[-1] else None
    return tuple(sizes)


def row_samples(body: bytes, form: Form) -> InputBatch:
    """Parse samples from lines of comma-separated numbers, one per line; RequestError names the line."""
    lines = enumerate(io.BytesIO(body.removeprefix(b"\xef\xbb\xbf")), 1)
    rows = list(islice(((number, line) for number, line in lines if line.strip()), form.rows + 1))  # bounded, to save memory
    _check_count(len(rows), form)
    parser = RowParser(math.prod(form.shape))
    parts = list[Floats]()
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        made = parser.together([line for _, line in part])
        parts.append(np.stack([_row(parser, *row) for row in part]) if made is None else made)
    return InputBatch(_numbered(len(rows)), np.concatenate(parts).reshape(-1, *form.shape))


def _row(parser: RowParser, number: int, line: bytes) -> Floats:
    try:
        return parser.alone(line, f"line {number}", "a sample")
    except DataError as error:
        raise RequestError(422, str(error), f"line {number}") from None


def holds_numbers_only(body: bytes) -> bool:
    """Return whether the first line holds only numbers and commas: it is then a sample, not a header."""
    first = body.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n").partition(b"\n")[0]
    return bool(first) and set(first) <= _PLAIN


def npy_samples(body: bytes, form: Form) -> InputBatch:
    """Parse the samples of a .npy array of numbers; its header is checked against the body's length first."""
    values = _as_samples(npy_values(body), form)
    return InputBatch(_numbered(len(values)), _as_floats(values, form, lambda at: f"{form.key}{_place(at)}"))


def npy_values(body: bytes) -> NDArray[np.number]:
    """Return a .npy array as a view of the bytes; RequestError unless it holds plain numbers and has the right length."""
    try:
        return read_header(body[:HEAD], len(body), "the body", kinds="fiu").values(body)
    except DataError as error:
        raise RequestError(422, str(error), "the body") from None


def check_sample_shape(requested: InputBatch, form: Form, place: str) -> InputBatch:
    """Return the samples if their shape and number are right; else raise a RequestError."""
    if requested.signals.shape[1:] != form.shape:
        raise _refused(place, f"samples have shape {' x '.join(map(str, requested.signals.shape[1:]))}, expected {form.words}")
    _check_count(len(requested.signals), form)
    signals = _as_floats(requested.signals, form, lambda at: f"{place} sample {requested.ids[at[0]]}{_place(at[1:])}")
    return InputBatch(requested.ids, signals, requested.times)


def _as_samples(values: NDArray[np.number], form: Form) -> NDArray[np.number]:
    """An array of any layout as (sample, channel, ...); RequestError if it fits no layout."""
    layout = form.layouts.get(values.ndim)
    there = " x ".join(map(str, values.shape))
    if layout is None or not _fit(values.shape, layout):
        raise _refused(form.key, f"got {there or 'one value'}, expected one or more samples of {form.words}")
    made = values.reshape(-1, *form.shape) if values.size else np.empty((0, *form.shape))
    _check_count(len(made), form)
    return made


def _as_floats(values: NDArray[np.number], form: Form, place: Callable[[tuple[int, ...]], str]) -> Floats:
    """The values as float32; RequestError names the first that is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        made: Floats = np.array(values, np.float32, order="C")  # a copy, as a view of the body is read-only
    good = ~np.isinf(made) if form.nan else np.isfinite(made)
    if values.dtype == np.float64:
        good &= ~(np.abs(values) > LARGEST)  # a number just above would round to it
    if not good.all():
        at = tuple(int(i) for i in np.argwhere(~good)[0])
        raise _refused(place(at), f"got {values[at]:g}, expected a finite float32 number")
    return made


def _check_count(count: int, form: Form) -> None:
    if count > form.rows:
        raise RequestError(413, f"{form.key}: more than {plural(form.rows, 'sample')}, the limit per request", form.key)
    if not count:
        raise _refused(form.key, "contains no samples")


def _numbered(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def _place(at: Sequence[object]) -> str:
    return "".join(f"[{number}]" for number in at)


def _refused(at: str, why: str) -> RequestError:
    return RequestError(422, f"{at}: {why}", at)
