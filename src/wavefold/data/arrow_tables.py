"""Reads samples from a Parquet or Feather (Arrow IPC) file, batch by batch: a table of numbers, or a column of lists.

The columns are those of a wide CSV: `id`, label, groups and further names, and one column of numbers per position, as they
stand in the file. Or one column holds the signal of each row: a list of numbers, a list of lists (channel, position), or text
of numbers joined by commas as in the contest. All other columns are then further columns. Rows are numbered from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, listed, plural
from wavefold.data.cache import cache_folder
from wavefold.data.csv_text import NumberRows, one_named, shown
from wavefold.data.dataset import Floats, Strings
from wavefold.data.lazy import LARGE, let_go, room
from wavefold.data.parquet import arrow, arrow_compute, arrow_ipc, arrow_parquet
from wavefold.data.table import Table, label_words, without
from wavefold.data.wide_header import WORDS, check_series, label_of, likely_labels

SUFFIXES = (".parquet", ".feather", ".arrow")
SIGNALS = ("signals", "signal", "x", "heartbeat_signals", "values", "flux")  # the column of signals, if several may be it
_INDEX = "__index_level_0__"  # pandas's name for an index without one
_VALUES = 1 << 21  # values read at a time
_AT_ONCE = 64  # columns read together: each holds a page of some megabytes
_BUFFER = 1 << 16  # bytes of a column read at once


def read_arrow(
    path: Path,
    *,
    label_column: str = "",
    group: str = "",
    labels: bool = True,
    apart: Sequence[str] = (),
    skip_bad: bool = False,
) -> Table:
    """Read signals (sample, channel, position), ids, labels and further columns; DataError names row and column.

    The legend is that of `read_wide`. Signals of more than 256 MB lie in an unnamed file in the cache folder. A value that is
    empty or not finite, or a list of another length than that of the first row, is a row that cannot be read.
    """
    with _opened(path) as file:
        columns = _columns(file.schema, path.name, label_column, group, apart, labels=labels)
        if not file.rows:
            raise DataError(f"{path.name}: has columns but no rows")
        signals, words, bad = _read(file, columns, path.name, skip_bad=skip_bad)
    numbers = np.arange(len(signals))
    ids = words.pop("id", None)
    found = words.pop(columns.label, None)
    table = Table(
        signals=signals,
        ids=numbers.astype(np.str_) if ids is None else ids,
        lines=numbers,
        words=None if found is None else label_words(found.tolist()),
        columns=words,
        positions=columns.numbers,
        notes=columns.notes,
    )
    return without(table, bad)


# columns


@dataclass(frozen=True)
class _Columns:
    """What the columns of a file are."""

    words: dict[str, str]  # column -> its name in the table, such as id
    label: str  # "" for none
    signal: str = ""  # the column of signals, if it is one
    numbers: tuple[str, ...] = ()  # otherwise the columns of positions
    notes: tuple[str, ...] = ()


def _columns(schema: Any, name: str, label_column: str, group: str, apart: Sequence[str], *, labels: bool) -> _Columns:
    names = tuple(schema.names)
    twice = next((word for word in names if names.count(word) > 1), "")
    if twice:
        raise DataError(f"{name}: column '{twice}' appears twice")
    label = label_of(names, name, label_column, where="") if labels else ""
    named = {one_named(names, word) for word in (group, label_column, *apart) if word}
    apart_names = {c for c in names if c.lower() in WORDS or c == _INDEX or c in {*named, label, *likely_labels(names)}}
    rest = [c for c in names if c not in apart_names]
    signal = _signal_column(schema, rest, name)
    numbers = tuple(c for c in rest if _is_numeric(schema.field(c).type)) if not signal else ()
    if not signal and not numbers:
        raise DataError(f"{name}: no column of numbers, and none of lists of numbers; columns: {shown(names)}")
    check_series(numbers, name, where="")
    id_ = one_named(names, "id") or (_INDEX if _INDEX in names else "")
    words = {c: "id" if c == id_ else c for c in names if c not in numbers and c != signal}
    odd = [c for c in words if _is_nested(schema.field(c).type)]
    notes = [f"column '{c}' is {schema.field(c).type}, and is left out" for c in odd]
    others = [c for c in rest if c in words and c not in odd]
    if others and numbers:
        notes.append(f"{listed(others)}: not of numbers, so kept as further columns")
    return _Columns({c: n for c, n in words.items() if c not in odd}, label, signal, numbers, tuple(notes))


def _signal_column(schema: Any, columns: Sequence[str], name: str) -> str:
    """The column that holds a signal in each row; '' if there is none. DataError if several may be it."""
    lists = [c for c in columns if _is_list(schema.field(c).type)]
    if not lists and not any(_is_numeric(schema.field(c).type) for c in columns):
        lists = [c for c in columns if c.lower() in SIGNALS and _is_text(schema.field(c).type)]
    known = [c for c in lists if c.lower() in SIGNALS]
    if len(lists) > 1 and len(known) != 1:
        raise DataError(f"{name}: columns {listed(lists)} hold lists; rename the one with the signals to 'signals'")
    return (known or lists or [""])[0]


def _is_numeric(kind: Any) -> bool:
    types = arrow.types
    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def _is_text(kind: Any) -> bool:
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind))


def _is_list(kind: Any) -> bool:
    types = arrow.types
    listing = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(listing) and (_is_numeric(kind.value_type) or _is_list(kind.value_type))


def _is_nested(kind: Any) -> bool:
    return bool(arrow.types.is_nested(kind))


# rows


@dataclass(frozen=True)
class _Like:
    """The first row that has values: what the others must be like."""

    row: int
    channels: int
    length: int


def _read(file: _File, columns: _Columns, name: str, *, skip_bad: bool) -> tuple[Floats, dict[str, Strings], dict[int, str]]:
    """Signals (sample, channel, position), text columns, and row -> error of rows that cannot be read."""
    bad = dict[int, str]()

    def note(wrong: Mapping[int, str]) -> None:
        if wrong and not skip_bad:
            raise DataError(wrong[min(wrong)])
        for row, why in wrong.items():
            bad.setdefault(row, why)

    parts: dict[str, list[Strings]] = {to: [] for to in columns.words.values()}
    for _, batch in file.batches(list(columns.words)):
        for at, to in enumerate(columns.words.values()):
            parts[to].append(_words(batch.column(at)))
    signals = _read_signals(file, columns, name, note, skip_bad=skip_bad)
    signals[list(bad)] = 0
    return signals, {to: np.concatenate(some) for to, some in parts.items()}, bad


def _read_signals(
    file: _File, columns: _Columns, name: str, note: Callable[[Mapping[int, str]], None], *, skip_bad: bool
) -> Floats:
    """note: receives row -> error of rows that cannot be read."""
    if columns.numbers:
        signals = room((file.rows, 1, len(columns.numbers)), cache_folder(), LARGE)
        for first in range(0, len(columns.numbers), _AT_ONCE):
            some = columns.numbers[first : first + _AT_ONCE]
            for rows, batch in file.batches(some):
                values = np.stack([_floats(column) for column in batch.columns], axis=1)
                signals[rows, 0, first : first + len(some)] = values
                let_go(signals[rows])
                note(_not_finite(values[:, None], rows.start, name, [f"column '{c}'" for c in some]))
        return signals
    like, text, made = None, _Text(name, skip_bad), None
    for rows, batch in file.batches([columns.signal]):
        if _is_text(batch.column(0).type):
            values, wrong = text.rows(batch.column(0), rows.start)
        else:
            values, wrong, like = _lists(batch.column(0), name, columns.signal, rows.start, like)
        made = room((file.rows, *values.shape[1:]), cache_folder(), LARGE) if made is None else made
        made[rows] = values
        let_go(made[rows])
        note(wrong)
    assert made is not None  # there are rows
    return made


def _not_finite(values: Floats, start: int, name: str, places: Sequence[str]) -> dict[int, str]:
    """Row -> error of rows with a value that is not finite. places: the words for each value of a row."""
    wrong = {}
    for row in np.flatnonzero(~np.isfinite(values).all(axis=(1, 2))).tolist():
        flat = values[row].reshape(-1)
        at = int(np.argmin(np.isfinite(flat)))
        there = "empty" if np.isnan(flat[at]) else f"{flat[at]:g}"
        wrong[start + row] = f"{name} row {start + row}: {places[at]} is {there}, expected a finite number"
    return wrong


def _lists(column: Any, name: str, signal: str, start: int, like: _Like | None) -> tuple[Floats, dict[int, str], _Like]:
    """Values (row, channel, position) of a column of lists, row -> error, and the row that the others must be like."""
    counts, inner = np.ones(len(column), np.int64), column
    if _is_list(column.type.value_type):  # lists of lists: how many each row has
        counts, inner = _lengths(column), arrow_compute.list_flatten(column)
    if _is_list(inner.type.value_type):
        raise DataError(f"{name}: column '{signal}' holds lists of lists of lists; expected (position) or (channel, position)")
    lengths, numbers = _lengths(inner), _floats(arrow_compute.list_flatten(inner))
    row_of = np.repeat(np.arange(len(column)), counts)  # of each inner list
    sizes = np.bincount(row_of, lengths, len(column)).astype(np.int64)
    if like is None:
        first = int(np.argmax(sizes > 0))
        if not sizes[first]:
            raise DataError(f"{name} row {start}: column '{signal}' has no values, expected a list of numbers")
        like = _Like(start + first, int(counts[first]), int(lengths[np.searchsorted(row_of, first)]))
    good = (counts == like.channels) & (np.bincount(row_of, lengths != like.length, len(column)) == 0)
    values = np.zeros((len(column), like.channels, like.length), np.float32)
    values[good] = numbers[np.repeat(good, sizes)].reshape(-1, like.channels, like.length)
    wrong = {}
    for row in np.flatnonzero(~good).tolist():
        there = f"has {plural(sizes[row], 'value')}" if sizes[row] else "is empty"
        where = f"{name} row {start + row}: column '{signal}'"
        wrong[start + row] = f"{where} {there}, expected {like.channels} x {like.length} as in row {like.row}"
    numbered = [f"column '{signal}': value {at + 1}" for at in range(like.channels * like.length)]
    return values, wrong | _not_finite(values, start, name, numbered), like


def _lengths(column: Any) -> NDArray[np.int64]:
    lengths = arrow_compute.fill_null(arrow_compute.list_value_length(column), 0)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), np.int64)


class _Text:
    """Rows of numbers joined by commas, as text."""

    def __init__(self, name: str, skip_bad: bool) -> None:
        self._name, self._rows = name, NumberRows(skip_bad=skip_bad)

    def rows(self, column: Any, start: int) -> tuple[Floats, dict[int, str]]:
        """Values (row, 1, position), and row -> error."""
        self._rows.restart()
        texts = [(text or "").encode() for text in column.to_pylist()]
        self._rows.add(texts, lambda row: f"{self._name} row {start + row}")
        return self._rows.whole()[:, None].copy(), {start + row: why for row, why in self._rows.bad.items()}


def _floats(column: Any) -> NDArray[np.float32]:
    """Numbers as float32; NaN where there is none."""
    if not arrow.types.is_floating(column.type):
        column = arrow_compute.cast(column, arrow.float64())
    with np.errstate(over="ignore"):  # infinite: found by the check
        return np.asarray(column.to_numpy(zero_copy_only=False), np.float32)


def _words(column: Any) -> Strings:
    """A column as text, "" where there is nothing."""
    if arrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    text = arrow_compute.cast(column, arrow.string(), safe=False)
    return np.array(arrow_compute.fill_null(text, "").to_pylist(), np.str_)


# files


@dataclass(frozen=True)
class _File:
    """A file that is open."""

    schema: Any
    rows: int
    batches: Callable[[Sequence[str]], Iterator[tuple[slice, Any]]]  # columns -> their values, some rows after others


@contextmanager
def _opened(path: Path) -> Iterator[_File]:
    """Open a file; DataError if it is damaged."""
    try:
        if path.suffix == ".parquet":
            yield _parquet(
                arrow_parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER, page_checksum_verification=True)
            )
        else:
            with arrow.memory_map(str(path)) as stream:
                yield _feather(arrow_ipc.open_file(stream))
    except (arrow.ArrowException, OSError) as error:
        kind = "Parquet" if path.suffix == ".parquet" else "Feather"
        line = " ".join(str(error).split())
        raise DataError(f"{path.name}: not a readable {kind} file ({line[:120]}); write it again") from None


def _parquet(file: Any) -> _File:
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    values = max((group.total_byte_size // (4 * max(1, group.num_rows)) for group in groups), default=0) + 1

    def batches(columns: Sequence[str]) -> Iterator[tuple[slice, Any]]:
        some = file.iter_batches(max(64, _VALUES // values), columns=list(columns), use_threads=False)
        return _placed(batch.select(list(columns)) for batch in some)

    return _File(file.schema_arrow, file.metadata.num_rows, batches)


def _feather(file: Any) -> _File:
    numbers = range(file.num_record_batches)

    def batches(columns: Sequence[str]) -> Iterator[tuple[slice, Any]]:
        return _placed(file.get_batch(number).select(list(columns)) for number in numbers)

    return _File(file.schema, sum(file.get_batch(number).num_rows for number in numbers), batches)


def _placed(batches: Iterable[Any]) -> Iterator[tuple[slice, Any]]:
    """Batches with the rows they hold, which are checked, as damaged offsets would be followed; empty ones are passed over."""
    start = 0
    for batch in batches:
        batch.validate(full=True)
        if batch.num_rows:
            yield slice(start, start + batch.num_rows), batch
        start += batch.num_rows
