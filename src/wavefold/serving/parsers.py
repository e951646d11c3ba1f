"""Parse request bodies into samples: JSON, rows of numbers, or a NumPy array; errors name the place and what was expected.

Nothing is unpickled, and no array is allocated before its size is checked against the bytes present.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import simdjson
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from wavefold.core.errors import listed, nearest
from wavefold.data.dataset import Floats
from wavefold.data.series import Seconds

LARGEST = float(np.finfo(np.float32).max)
_ID = 200  # most characters of an id
_HEAD = 4096  # most bytes of a .npy header
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

    key: str  # in the JSON object: "signals" or "frames"
    shape: tuple[int, ...]  # of one sample
    rows: int  # most samples per request
    nan: bool = False  # whether a value may be missing: null in JSON
    timed: bool = False  # whether each sample needs a time
    layouts: dict[int, tuple[int | None, ...]] = field(init=False)  # by number of axes; None is the sample axis

    def __post_init__(self) -> None:
        shape, axes = self.shape, len(self.shape)
        layouts: dict[int, tuple[int | None, ...]] = {axes + 1: (None, *shape), axes: shape}
        if shape[0] == 1:  # the channel axis may be omitted
            layouts |= {axes: (None, *shape[1:]), axes - 1: shape[1:]}
        object.__setattr__(self, "layouts", layouts)

    @property
    def words(self) -> str:
        """The shape of one sample as text."""
        return " x ".join(map(str, self.shape))


def json_samples(body: bytes, form: Form) -> InputBatch:
    """Parse the samples of a JSON object {"signals": ..., "ids": [...]}; RequestError names the place of the first error."""
    document = _parsed(body)
    if not isinstance(document, simdjson.Object):
        raise _refused("the body", f'got {_word(document)}, expected an object {{"{form.key}": [...]}}')
    keys = list(document.keys())
    known = (form.key, "ids", *(["times"] if form.timed else []))
    for key in keys:
        if key not in known:
            raise RequestError(422, f"{key[:80]!r} is not one of {listed(known)}{nearest(key[:80], known)}", key[:80])
        if keys.count(key) > 1:
            raise _refused(key, "appears more than once")
    if form.key not in keys:
        raise _refused(form.key, f"missing, expected samples of {form.words} values")
    try:
        most = body.count(b"[") - ("ids" in keys) - ("times" in keys)
        signals = _numbers(document[form.key], form, most)
        ids = _ids(document["ids"], len(signals)) if "ids" in keys else _numbered(len(signals))
        return InputBatch(ids, signals, _times(document["times"], len(signals), form) if "times" in keys else None)
    except RuntimeError:  # an integer beyond 64 bits, which only Python's parser reads
        return json_samples(_rewritten(body), form)


def row_samples(body: bytes, form: Form) -> InputBatch:
    """Parse samples from lines of comma-separated numbers, one per line; RequestError names the line."""
    lines = list(islice(_lines(body.removeprefix(b"\xef\xbb\xbf")), form.rows + 1))  # bounded, to save memory
    _check_count(len(lines), form)
    width = math.prod(form.shape)
    values = np.empty((len(lines), width), np.float64)
    for row, (n, line) in enumerate(lines):
        count = line.count(b",") + 1
        if count != width:
            raise _refused(f"line {n}", f"got {count:,} value{'s' if count != 1 else ''}, expected {width:,}")
        values[row] = _row(line, n, form)
    floats = _as_floats(values, form, lambda at: f"line {lines[at[0]][0]}, value {at[1] + 1}")
    return InputBatch(_numbered(len(lines)), floats.reshape(len(lines), *form.shape))


def _lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The non-empty lines with their numbers."""
    return ((number, line) for number, line in enumerate(io.BytesIO(body), 1) if line.strip())


def holds_numbers_only(body: bytes) -> bool:
    """Return whether the first line holds only numbers and commas: it is then a sample, not a header."""
    first = body.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n").partition(b"\n")[0]
    return bool(first) and set(first) <= _PLAIN


def npy_samples(body: bytes, form: Form) -> InputBatch:
    """Parse the samples of a .npy array of numbers; its header is checked against the body's length first."""
    values = _as_samples(npy_values(body), form)
    return InputBatch(_numbered(len(values)), _as_floats(values, form, lambda at: f"{form.key}{_place(at)}"))


def npy_values(body: bytes) -> NDArray[Any]:
    """Return a .npy array as a view of the bytes; RequestError unless it holds plain numbers and has the right length."""
    stream = io.BytesIO(body)
    shape, fortran, dtype = _npy_head(stream)
    offset = stream.tell()
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=1) < 0 or size != len(body) - offset:
        raise _refused("the body", f"contains {len(body) - offset:,} bytes of values, but its header says {size:,}")
    values: NDArray[Any] = np.frombuffer(body, dtype, offset=offset).reshape(shape, order="F" if fortran else "C")
    return values


def _npy_head(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, order and type given by a header."""
    head = stream.getbuffer()[: _HEAD + 12].tobytes()
    if head[6:7] not in (b"\x01", b"\x02") or not head.startswith(b"\x93NUMPY"):
        raise _refused("the body", f"starts with {head[:6]!r}, expected a NumPy .npy file")
    wide = 2 if head[6] == 1 else 4
    length = int.from_bytes(head[8 : 8 + wide], "little")
    text = head[8 + wide : 8 + wide + length]
    if length > _HEAD or len(text) < length or text.count(b"(") > 2 or b"[" in text:
        raise _refused("the body", "the .npy header does not describe a plain array of numbers")
    if b"'|O'" in text or b'"|O"' in text or b"'O'" in text:
        raise _refused("the body", "contains Python objects, which are never unpickled; expected numbers")
    read: Any = npy_format.read_array_header_1_0 if wide == 2 else npy_format.read_array_header_2_0
    stream.seek(8)
    try:
        shape, fortran, dtype = read(stream, max_header_size=_HEAD)
    except Exception:  # evaluating a literal fails in many ways
        raise _refused("the body", "the .npy header does not describe a plain array of numbers") from None
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise _refused("the body", f"contains values of type {dtype}, expected float32 or another type of real numbers")
    return shape, fortran, dtype


def check_sample_shape(requested: InputBatch, form: Form, place: str) -> InputBatch:
    """Return the samples if their shape and number are right; else raise a RequestError."""
    if requested.signals.shape[1:] != form.shape:
        raise _refused(place, f"samples have shape {' x '.join(map(str, requested.signals.shape[1:]))}, expected {form.words}")
    _check_count(len(requested.signals), form)
    signals = _as_floats(requested.signals, form, lambda at: f"{place} sample {requested.ids[at[0]]}{_place(at[1:])}")
    return InputBatch(requested.ids, signals, requested.times)


def shown_place(key: str, sample: int) -> str:
    """Return the place of a sample in a request, for error messages."""
    return f"{key}[{sample}]"


def _parsed(body: bytes) -> Any:
    try:
        return simdjson.Parser().parse(body)
    except RuntimeError:
        return _parsed(_rewritten(body))
    except (ValueError, UnicodeDecodeError) as error:
        raise _refused("the body", f"not valid JSON ({_why_no_json(body, error)})") from None


def _why_no_json(body: bytes, error: Exception) -> str:
    """Explain why a text is not JSON; Python's own json module writes NaN and Infinity, which JSON does not allow."""
    word = next((word for word in (b"NaN", b"Infinity") if word in body), None)
    if word is not None:
        return f"{word.decode()} is not a JSON value"
    message = str(error).partition(":")[0].lower()[:60]
    return "incomplete or malformed" if message == "tape_error" else message


def _rewritten(body: bytes) -> bytes:
    """The same JSON with integers beyond 64 bits as floats."""
    try:
        return json.dumps(json.loads(body, parse_int=_whole)).encode()
    except (ValueError, RecursionError, OverflowError):
        raise _refused("the body", "not valid JSON") from None


def _whole(word: str) -> int | float:
    value = float(word)
    if not math.isfinite(value):
        raise RequestError(422, f"the body contains a number with {len(word)} digits, which is out of range", "the body")
    return value if abs(value) > 2**53 else int(word)


def _numbers(value: Any, form: Form, most_lists: int) -> Floats:
    """Convert nested lists to (sample, channel, ...) float32. most_lists: upper bound on the number of lists."""
    axes = _depth(value, max(form.layouts))
    if isinstance(value, simdjson.Array) and not len(value):
        raise _refused(form.key, "contains no samples")
    layout = form.layouts.get(axes)
    if layout is None:
        raise _refused(
            form.key,
            f"nested {axes} list{'s' if axes != 1 else ''} deep, expected {listed(sorted(form.layouts))}, of {form.words}",
        )
    if layout[0] is None:
        _check_count(len(value), form)
    _check_lengths(value, layout, (), form.key)
    sizes = tuple(len(value) if n is None else n for n in layout)
    flat = _flat(value, sizes, most_lists)
    if flat is None:
        flat = np.fromiter((_one(v, at, form) for at, v in _leaves(value, len(layout))), np.float64, math.prod(sizes))
    return _as_floats(_as_samples(flat.reshape(sizes), form), form, lambda at: _json_place(at, layout, form))


def _flat(value: Any, sizes: Sequence[int], most_lists: int) -> NDArray[np.float64] | None:
    """All numbers of nested lists of these lengths; None if an element is not a number."""
    try:
        flat = np.frombuffer(value.as_buffer(of_type="d"))
    except TypeError:
        return None
    lists = sum(math.prod(sizes[:axis]) for axis in range(len(sizes)))
    more = most_lists > lists and value.mini.count(b"[") > lists  # the parser descends into lists in place of a number
    return None if more else flat


def _depth(value: Any, most: int) -> int:
    depth = 0
    while isinstance(value, simdjson.Array) and depth <= most:
        depth += 1
        if not len(value):
            break
        value = value[0]
    return depth


def _check_lengths(value: Any, layout: Sequence[int | None], at: tuple[int, ...], key: str) -> None:
    """Raise RequestError unless the nested lists have the lengths of the layout."""
    place = f"{key}{_place(at)}"
    if not isinstance(value, simdjson.Array):
        raise _refused(place, f"got {_word(value)}, expected a list of {layout[0]} value{'s' if layout[0] != 1 else ''}")
    if layout[0] is not None and len(value) != layout[0]:
        raise _refused(place, f"got {len(value):,} value{'s' if len(value) != 1 else ''}, expected {layout[0]:,}")
    if len(layout) > 1:
        for number, part in enumerate(value):
            _check_lengths(part, layout[1:], (*at, number), key)


def _leaves(value: Any, depth: int, at: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    for number, part in enumerate(value):
        if depth == 1:
            yield (*at, number), part
        else:
            yield from _leaves(part, depth - 1, (*at, number))


def _one(value: Any, at: tuple[int, ...], form: Form) -> float:
    if value is None and form.nan:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(f"{form.key}{_place(at)}", f"got {_word(value)}, expected a number")
    return float(value)


def _json_place(at: tuple[int, ...], layout: Sequence[int | None], form: Form) -> str:
    """The place, in nested lists of a layout, of a value of (sample, channel, ...)."""
    own = at if layout[0] is None else at[1:]
    missing = len(own) - len(layout)  # the channel axis, if omitted
    own = (own[0], *own[1 + missing :]) if layout[0] is None else own[missing:]
    return f"{form.key}{_place(own)}"


def _as_samples(values: NDArray[Any], form: Form) -> NDArray[Any]:
    """An array of any layout as (sample, channel, ...); RequestError if it fits no layout."""
    layout = form.layouts.get(values.ndim)
    there = " x ".join(map(str, values.shape))
    if layout is None or any(n not in (None, m) for n, m in zip(layout, values.shape, strict=True)):
        raise _refused(form.key, f"got {there or 'one value'}, expected one or more samples of {form.words}")
    made = values.reshape(-1, *form.shape) if values.size else np.empty((0, *form.shape))
    _check_count(len(made), form)
    return made


def _as_floats(values: NDArray[Any], form: Form, place: Any) -> Floats:
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


def _row(line: bytes, number: int, form: Form) -> NDArray[np.float64]:
    if b"[" not in line and b'"' not in line:
        try:
            parsed: Any = simdjson.Parser().parse(b"[" + line + b"]")
            return np.frombuffer(parsed.as_buffer(of_type="d"))
        except (ValueError, TypeError, RuntimeError):
            pass  # valid for float() but not for JSON, or an error reported below
    words = line.decode(errors="replace").split(",")
    return np.array([_number(word, f"line {number}, value {i}", form) for i, word in enumerate(words, 1)])


def _number(word: str, place: str, form: Form) -> float:
    try:
        value = float(word) if word.strip() or not form.nan else math.nan
    except ValueError:
        raise _refused(place, f"got {word.strip()[:40]!r}, expected a number") from None
    if "_" in word:
        raise _refused(place, f"got {word.strip()[:40]!r}, expected a number")
    return value


def _ids(value: Any, count: int) -> list[str]:
    if not isinstance(value, simdjson.Array):
        raise _refused("ids", f"got {_word(value)}, expected a list of {count:,} string{'s' if count != 1 else ''}")
    if len(value) != count:
        raise _refused("ids", f"got {len(value):,} string{'s' if len(value) != 1 else ''}, expected {count:,}, one per sample")
    names: list[Any] = list(value)
    for number, name in enumerate(names):
        if not isinstance(name, str):
            raise _refused(f"ids[{number}]", f"got {_word(name)}, expected a string")
        if len(name) > _ID:
            raise _refused(f"ids[{number}]", f"got {len(name):,} characters, expected at most {_ID}")
    return names


def _times(value: Any, count: int, form: Form) -> Seconds:
    if not isinstance(value, simdjson.Array):
        raise _refused("times", f"got {_word(value)}, expected a list of {count:,} number{'s' if count != 1 else ''}")
    values = list(value)
    if len(values) != count:
        raise _refused(
            "times", f"got {len(values):,} number{'s' if len(values) != 1 else ''}, expected {count:,}, one per sample"
        )
    made = np.array([_one(v, (i,), Form("times", form.shape, form.rows)) for i, v in enumerate(values)], np.float64)
    if not (np.abs(made) < _LATEST).all():
        raise _refused("times", "expected seconds since 1970-01-01 UTC, before the year 3000")
    return made


_LATEST = 32503680000.0  # seconds, the year 3000


def _check_count(count: int, form: Form) -> None:
    if count > form.rows:
        raise RequestError(
            413, f"{form.key}: more than {form.rows:,} sample{'s' if form.rows != 1 else ''}, the limit per request", form.key
        )
    if not count:
        raise _refused(form.key, "contains no samples")


def _numbered(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def _place(at: Sequence[int]) -> str:
    return "".join(f"[{number}]" for number in at)


def _word(value: Any) -> str:
    """Describe a JSON value in an error message."""
    if isinstance(value, simdjson.Array | list):
        return "a list"
    if isinstance(value, simdjson.Object | dict):
        return "an object"
    return json.dumps(value)[:40]


def _refused(at: str, why: str) -> RequestError:
    return RequestError(422, f"{at}: {why}", at)
