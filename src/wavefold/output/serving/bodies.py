"""What a request brings, to samples: JSON, rows of numbers, a NumPy array; each fault names its place and what was expected.

Nothing is unpickled, and no array is made before its size is known to be that of the bytes which are there.
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

from wavefold.base.dataset import Floats
from wavefold.base.errors import listed, nearest
from wavefold.base.series import Seconds

LARGEST = float(np.finfo(np.float32).max)
_ID = 200  # characters of an id
_HEAD = 4096  # bytes of an .npy's header
_PLAIN = frozenset(b"0123456789+-.eE, \t\r")  # of a line that holds numbers only


class Refusal(Exception):
    """A request that gets no answer: the HTTP status, one line, the field that is at fault ('' where none is)."""

    def __init__(self, status: int, error: str, at: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.at, self.headers = status, error, at, dict(headers or {})


@dataclass(frozen=True)
class Asked:
    """Samples that a request asks about."""

    ids: list[str]
    signals: Floats  # (sample, channel, ...), or past frames (sample, channel, past, row, column)
    times: Seconds | None = None  # (sample,) seconds since 1970-01-01 UTC of each sample's last frame


@dataclass(frozen=True)
class Form:
    """What samples must be like."""

    key: str  # of the JSON object: "signals", "frames"
    shape: tuple[int, ...]  # of one sample
    rows: int  # samples of a request at most
    nan: bool = False  # whether a value may be missing: null in JSON
    timed: bool = False  # whether each sample needs a time
    layouts: dict[int, tuple[int | None, ...]] = field(init=False)  # by number of axes; None is the axis sample

    def __post_init__(self) -> None:
        shape, axes = self.shape, len(self.shape)
        layouts: dict[int, tuple[int | None, ...]] = {axes + 1: (None, *shape), axes: shape}
        if shape[0] == 1:  # whose axis may be left out
            layouts |= {axes: (None, *shape[1:]), axes - 1: shape[1:]}
        object.__setattr__(self, "layouts", layouts)

    @property
    def words(self) -> str:
        """The shape of one sample, for people."""
        return " x ".join(map(str, self.shape))


def json_samples(body: bytes, form: Form) -> Asked:
    """The samples of a JSON object {"signals": ..., "ids": [...]}; Refusal names the place of the first fault."""
    document = _parsed(body)
    if not isinstance(document, simdjson.Object):
        raise _refused("the body", f'is {_word(document)}, expected an object {{"{form.key}": [...]}}')
    keys = list(document.keys())
    known = (form.key, "ids", *(["times"] if form.timed else []))
    for key in keys:
        if key not in known:
            raise Refusal(422, f"{key[:80]!r} is not one of {listed(known)}{nearest(key[:80], known)}", key[:80])
        if keys.count(key) > 1:
            raise _refused(key, "stands twice")
    if form.key not in keys:
        raise _refused(form.key, f"is missing, expected samples of {form.words} values")
    try:
        most = body.count(b"[") - ("ids" in keys) - ("times" in keys)
        signals = _numbers(document[form.key], form, most)
        ids = _ids(document["ids"], len(signals)) if "ids" in keys else _numbered(len(signals))
        return Asked(ids, signals, _times(document["times"], len(signals), form) if "times" in keys else None)
    except RuntimeError:  # a whole number beyond 64 bits, which only Python's own parser reads
        return json_samples(_rewritten(body), form)


def row_samples(body: bytes, form: Form) -> Asked:
    """Samples from lines of comma-joined numbers, one a line; Refusal names the line."""
    lines = list(islice(_lines(body.removeprefix(b"\xef\xbb\xbf")), form.rows + 1))  # no more: they would fill the memory
    _check_count(len(lines), form)
    width = math.prod(form.shape)
    values = np.empty((len(lines), width), np.float64)
    for row, (n, line) in enumerate(lines):
        count = line.count(b",") + 1
        if count != width:
            raise _refused(f"line {n}", f"has {count:,} values, expected {width:,}")
        values[row] = _row(line, n, form)
    floats = _as_floats(values, form, lambda at: f"line {lines[at[0]][0]}, value {at[1] + 1}")
    return Asked(_numbered(len(lines)), floats.reshape(len(lines), *form.shape))


def _lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that hold something, with their numbers."""
    return ((number, line) for number, line in enumerate(io.BytesIO(body), 1) if line.strip())


def holds_numbers_only(body: bytes) -> bool:
    """Whether the first line of a text holds numbers and commas only: it is then a sample, and no header."""
    first = body.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n").partition(b"\n")[0]
    return bool(first) and set(first) <= _PLAIN


def npy_samples(body: bytes, form: Form) -> Asked:
    """The samples of a .npy array of numbers; its header is held against the body's length before anything is made of it."""
    values = _as_samples(npy_values(body), form)
    return Asked(_numbered(len(values)), _as_floats(values, form, lambda at: f"{form.key}{_place(at)}"))


def npy_values(body: bytes) -> NDArray[Any]:
    """The array of a .npy's bytes, a view of them; Refusal for objects, for anything but numbers and for another length."""
    stream = io.BytesIO(body)
    shape, fortran, dtype = _npy_head(stream)
    offset = stream.tell()
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=1) < 0 or size != len(body) - offset:
        raise _refused("the body", f"holds {len(body) - offset:,} bytes of values, its header says {size:,}")
    values: NDArray[Any] = np.frombuffer(body, dtype, offset=offset).reshape(shape, order="F" if fortran else "C")
    return values


def _npy_head(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type as a header says them."""
    head = stream.getbuffer()[: _HEAD + 12].tobytes()
    if head[6:7] not in (b"\x01", b"\x02") or not head.startswith(b"\x93NUMPY"):
        raise _refused("the body", f"begins with {head[:6]!r}, expected a NumPy .npy file")
    wide = 2 if head[6] == 1 else 4
    length = int.from_bytes(head[8 : 8 + wide], "little")
    text = head[8 + wide : 8 + wide + length]
    if length > _HEAD or len(text) < length or text.count(b"(") > 2 or b"[" in text:
        raise _refused("the body", "has no header of a plain array of numbers")
    if b"'|O'" in text or b'"|O"' in text or b"'O'" in text:
        raise _refused("the body", "holds Python objects, which are never unpickled; expected numbers")
    read: Any = npy_format.read_array_header_1_0 if wide == 2 else npy_format.read_array_header_2_0
    stream.seek(8)
    try:
        shape, fortran, dtype = read(stream, max_header_size=_HEAD)
    except Exception:  # a text that is evaluated as a literal fails in many ways
        raise _refused("the body", "has no header of a plain array of numbers") from None
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise _refused("the body", f"holds values of type {dtype}, expected float32 or the like")
    return shape, fortran, dtype


def check_sample_shape(asked: Asked, form: Form, place: str) -> Asked:
    """The same samples, where they are of the right shape and number; else a Refusal."""
    if asked.signals.shape[1:] != form.shape:
        raise _refused(place, f"its samples are {' x '.join(map(str, asked.signals.shape[1:]))}, expected {form.words}")
    _check_count(len(asked.signals), form)
    signals = _as_floats(asked.signals, form, lambda at: f"{place} sample {asked.ids[at[0]]}{_place(at[1:])}")
    return Asked(asked.ids, signals, asked.times)


def shown_place(key: str, sample: int) -> str:
    """A sample's place in a request, for errors."""
    return f"{key}[{sample}]"


def _parsed(body: bytes) -> Any:
    try:
        return simdjson.Parser().parse(body)
    except RuntimeError:
        return _parsed(_rewritten(body))
    except (ValueError, UnicodeDecodeError) as error:
        raise _refused("the body", f"is not JSON ({_why_no_json(body, error)})") from None


def _why_no_json(body: bytes, error: Exception) -> str:
    """What is wrong with a text, in words: values that JSON has none of are what Python's own json writes by itself."""
    word = next((word for word in (b"NaN", b"Infinity") if word in body), None)
    if word is not None:
        return f"it has no {word.decode()}"
    said = str(error).partition(":")[0].lower()[:60]
    return "it breaks off or has a fault" if said == "tape_error" else said


def _rewritten(body: bytes) -> bytes:
    """The same JSON with whole numbers beyond 64 bits as floats."""
    try:
        return json.dumps(json.loads(body, parse_int=_whole)).encode()
    except (ValueError, RecursionError, OverflowError):
        raise _refused("the body", "is not JSON") from None


def _whole(word: str) -> int | float:
    value = float(word)
    if not math.isfinite(value):
        raise Refusal(422, f"the body: holds a number of {len(word)} digits", "the body")
    return value if abs(value) > 2**53 else int(word)


def _numbers(value: Any, form: Form, most_lists: int) -> Floats:
    """Nested lists to (sample, channel, ...) float32. most_lists: that there can be."""
    axes = _depth(value, max(form.layouts))
    if isinstance(value, simdjson.Array) and not len(value):
        raise _refused(form.key, "holds no sample")
    layout = form.layouts.get(axes)
    if layout is None:
        raise _refused(form.key, f"is {axes} lists deep, expected {listed(sorted(form.layouts))}; a sample is {form.words}")
    if layout[0] is None:
        _check_count(len(value), form)
    _check_lengths(value, layout, (), form.key)
    sizes = tuple(len(value) if n is None else n for n in layout)
    flat = _flat(value, sizes, most_lists)
    if flat is None:
        flat = np.fromiter((_one(v, at, form) for at, v in _leaves(value, len(layout))), np.float64, math.prod(sizes))
    return _as_floats(_as_samples(flat.reshape(sizes), form), form, lambda at: _json_place(at, layout, form))


def _flat(value: Any, sizes: Sequence[int], most_lists: int) -> NDArray[np.float64] | None:
    """All numbers of nested lists of these lengths; None where something among them is no number, but a list, say."""
    try:
        flat = np.frombuffer(value.as_buffer(of_type="d"))
    except TypeError:
        return None
    lists = sum(math.prod(sizes[:axis]) for axis in range(len(sizes)))
    more = most_lists > lists and value.mini.count(b"[") > lists  # the parser goes into lists that stand for a number
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
    """Refusal unless nested lists have the layout's lengths."""
    place = f"{key}{_place(at)}"
    if not isinstance(value, simdjson.Array):
        raise _refused(place, f"is {_word(value)}, expected a list of {layout[0]} values")
    if layout[0] is not None and len(value) != layout[0]:
        raise _refused(place, f"has {len(value):,} values, expected {layout[0]:,}")
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
        raise _refused(f"{form.key}{_place(at)}", f"is {_word(value)}, expected a number")
    return float(value)


def _json_place(at: tuple[int, ...], layout: Sequence[int | None], form: Form) -> str:
    """Where in nested lists of a layout a value of (sample, channel, ...) stands."""
    own = at if layout[0] is None else at[1:]
    missing = len(own) - len(layout)  # the channel's axis, where it was left out
    own = (own[0], *own[1 + missing :]) if layout[0] is None else own[missing:]
    return f"{form.key}{_place(own)}"


def _as_samples(values: NDArray[Any], form: Form) -> NDArray[Any]:
    """An array of any layout as (sample, channel, ...); Refusal where it has none."""
    layout = form.layouts.get(values.ndim)
    there = " x ".join(map(str, values.shape))
    if layout is None or any(n not in (None, m) for n, m in zip(layout, values.shape, strict=True)):
        raise _refused(form.key, f"is {there or 'one value'}, expected one or more samples of {form.words}")
    made = values.reshape(-1, *form.shape) if values.size else np.empty((0, *form.shape))
    _check_count(len(made), form)
    return made


def _as_floats(values: NDArray[Any], form: Form, place: Any) -> Floats:
    """The values as float32; Refusal names the first that is none."""
    with np.errstate(over="ignore", invalid="ignore"):
        made: Floats = np.array(values, np.float32, order="C")  # a copy, for a view of the body cannot be written to
    good = ~np.isinf(made) if form.nan else np.isfinite(made)
    if values.dtype == np.float64:
        good &= ~(np.abs(values) > LARGEST)  # a number just above it would round to it
    if not good.all():
        at = tuple(int(i) for i in np.argwhere(~good)[0])
        raise _refused(place(at), f"is {values[at]:g}, expected a finite number of float32")
    return made


def _row(line: bytes, number: int, form: Form) -> NDArray[np.float64]:
    if b"[" not in line and b'"' not in line:
        try:
            parsed: Any = simdjson.Parser().parse(b"[" + line + b"]")
            return np.frombuffer(parsed.as_buffer(of_type="d"))
        except (ValueError, TypeError, RuntimeError):
            pass  # what JSON does not admit and float() does, or a fault that is named below
    words = line.decode(errors="replace").split(",")
    return np.array([_number(word, f"line {number}, value {i}", form) for i, word in enumerate(words, 1)])


def _number(word: str, place: str, form: Form) -> float:
    try:
        value = float(word) if word.strip() or not form.nan else math.nan
    except ValueError:
        raise _refused(place, f"is {word.strip()[:40]!r}, expected a number") from None
    if "_" in word:
        raise _refused(place, f"is {word.strip()[:40]!r}, expected a number")
    return value


def _ids(value: Any, count: int) -> list[str]:
    if not isinstance(value, simdjson.Array):
        raise _refused("ids", f"is {_word(value)}, expected a list of {count:,} words")
    if len(value) != count:
        raise _refused("ids", f"has {len(value):,} words, expected {count:,}, one a sample")
    names: list[Any] = list(value)
    for number, name in enumerate(names):
        if not isinstance(name, str):
            raise _refused(f"ids[{number}]", f"is {_word(name)}, expected a word")
        if len(name) > _ID:
            raise _refused(f"ids[{number}]", f"has {len(name):,} characters, expected {_ID} at most")
    return names


def _times(value: Any, count: int, form: Form) -> Seconds:
    if not isinstance(value, simdjson.Array):
        raise _refused("times", f"is {_word(value)}, expected a list of {count:,} numbers")
    values = list(value)
    if len(values) != count:
        raise _refused("times", f"has {len(values):,} numbers, expected {count:,}, one a sample")
    made = np.array([_one(v, (i,), Form("times", form.shape, form.rows)) for i, v in enumerate(values)], np.float64)
    if not (np.abs(made) < _LATEST).all():
        raise _refused("times", "expected seconds since 1970-01-01 UTC")
    return made


_LATEST = 32503680000.0  # seconds, the year 3000


def _check_count(count: int, form: Form) -> None:
    if count > form.rows:
        raise Refusal(413, f"{form.key}: more than {form.rows:,} samples, which is the most of a request", form.key)
    if not count:
        raise _refused(form.key, "holds no sample")


def _numbered(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def _place(at: Sequence[int]) -> str:
    return "".join(f"[{number}]" for number in at)


def _word(value: Any) -> str:
    """A JSON value in an error."""
    if isinstance(value, simdjson.Array | list):
        return "a list"
    if isinstance(value, simdjson.Object | dict):
        return "an object"
    return json.dumps(value)[:40]


def _refused(at: str, why: str) -> Refusal:
    return Refusal(422, f"{at}: {why}", at)
