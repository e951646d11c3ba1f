"""Reads a wide CSV: one row per sample, one column per position, with or without `id` and a label; plain or gzip.

    id,0,1,2,...,139,label

Non-measurement columns (id, label, record, patient and so on, numeric or not) stand before or after the measurements, in any
order and any case. Without an `id` column, rows are numbered from 0. In a file without column names, or with numbers for names
as pandas writes them, the last or the first column is taken for the label if it alone holds few whole numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from wavefold.core.errors import DataError
from wavefold.data.csv_text import (
    NumberRows,
    csv_fields,
    decoded,
    is_number,
    left_out_lines,
    line_blocks,
    no_rows,
    one_named,
    row_numbers,
    shown,
    split_rows,
)
from wavefold.data.dataset import Floats, check_ids
from wavefold.data.table import GROUPS, Table, label_words, without
from wavefold.data.text_parts import NotInParts, TextPart
from wavefold.data.wide_header import (
    WORDS,
    WideHeader,
    check_not_long,
    check_series,
    label_like,
    label_of,
    likely_labels,
    wide_header,
)


def read_wide(
    path: Path,
    *,
    label_column: str = "",
    group: str = "",
    labels: bool = True,
    apart: Sequence[str] = (),
    skip_bad: bool = False,
    part: TextPart | None = None,
) -> Table:
    """Read signals (sample, 1, position), ids, labels and further columns of a wide CSV; DataError names line and id.

    label_column: "" takes the one column named label, type, class or target, else a last column named y; a named column must
    exist if labels are wanted. group, apart: columns that are not measurements, those that there are. With skip_bad, rows that
    cannot be read are listed in left_out; otherwise the first one raises DataError. part: read this part of the file alone; it
    may turn out to have no row that can be read. NotInParts if what is guessed or checked depends on all rows.
    """
    rows = _Rows(path.name, skip_bad)

    def take(blocks: Iterable[tuple[int, list[bytes]]]) -> None:
        for first, lines in blocks:
            below = 0  # lines above the first row
            if first == 1:
                header = wide_header(lines[0], path.name)
                label = label_of(header.columns, path.name, label_column) if labels else ""
                named = {one_named(header.columns, word) for word in (group, label_column, *apart)}
                rows.head(header, label, {*named, label, *likely_labels(header.columns)}, guess=labels and not label)
                below = 0 if header.is_sample else 1
            rows.add(lines[below:], first + below)

    if part is not None:
        take(part.head)
        rows.restart(part.above)
    take(line_blocks(path) if part is None else part.blocks)
    return rows.table(whole=part is None)


class _Rows:
    """The columns read so far."""

    def __init__(self, name: str, skip_bad: bool) -> None:
        self.name = name
        self.columns: list[str] = []
        self.notes: list[str] = []
        self.signals = NumberRows(skip_bad=skip_bad)
        self.bad: dict[int, str] | None = {} if skip_bad else None  # line -> error of rows that cannot be split
        self.fields: list[list[str]] = []  # per text column
        self.lines: list[int] = []
        self._above = 0

    def head(self, header: WideHeader, label: str, words: Collection[str], *, guess: bool) -> None:
        """Take the column names and find where the measurements start and end.

        words: further text columns beside WORDS. guess: whether a column without a name may be the label.
        """
        columns = header.columns
        self.columns, self._label, self._guess = columns, label, guess and header.numbered
        self._numbered = header.numbered
        self.notes = [header.note] if header.note else []
        is_word = [c.lower() in WORDS or c in words for c in columns]
        if all(is_word):
            raise DataError(f"{self.name} line 1: no column of numbers; columns: {shown(columns)}")
        check_not_long(columns, [c for c, w in zip(columns, is_word, strict=True) if w], self.name)
        check_series([c for c, w in zip(columns, is_word, strict=True) if not w], self.name)
        self._front, self._back = is_word.index(False), is_word[::-1].index(False)
        inside = [c for c, w in zip(columns, is_word, strict=True) if w][self._front : sum(is_word) - self._back]
        if inside:
            raise DataError(
                f"{self.name} line 1: column '{inside[0]}' is between the number columns; move it to the start or end"
            )
        self._words = columns[: self._front] + columns[len(columns) - self._back :]
        self.fields = [[] for _ in self._words]

    def restart(self, above: int) -> None:
        """Forget the rows, but not the columns and the number of values. above: rows above the next one.

        NotInParts if the label is guessed from all rows, or if there are so few numbers that rows may be time points.
        """
        if self._guess or self.signals.width <= _FEW_NUMBERS:
            raise NotInParts
        self.signals.restart()
        self.bad = None if self.bad is None else {}
        self.fields, self.lines, self._above = [[] for _ in self._words], [], above

    def add(self, lines: Sequence[bytes], first: int) -> None:
        """Add a block of lines; the first has line number `first`."""
        numbers, pairs = split_rows(lines, first, self.name, self._split, self.bad)
        if not numbers:
            return
        for known, new in zip(self.fields, zip(*(words for words, _ in pairs), strict=True), strict=True):
            known += new
        base = len(self.lines)
        self.signals.add([text for _, text in pairs], lambda i: f"{self.name} line {numbers[i]}{self._named(base + i)}")
        self.lines += numbers

    def table(self, *, whole: bool = True) -> Table:
        """Return everything read; DataError if an id is duplicated, or if there is nothing and the file was read whole."""
        if not self.columns:
            raise DataError(f"{self.name}: file is empty, expected a header and rows of numbers")
        if whole and not self.lines:
            raise no_rows(self.name, self.bad)
        lines, signals = np.array(self.lines, np.int64), self.signals.whole()
        words = dict(zip(self._words, self.fields, strict=True))
        _check_not_long(words, signals, self.name)
        ids = words.pop(one_named(words, "id"), None)
        labels = words.pop(self._label, None)
        table = Table(
            signals=signals[:, None, :],
            ids=row_numbers(lines, self.bad, self._above) if ids is None else check_ids(ids, lines, self.name),
            lines=lines,
            words=None if labels is None else label_words(labels),
            columns={k: np.array(v, np.str_) for k, v in words.items()},
            positions=tuple(self.columns[self._front : len(self.columns) - self._back]),
            left_out=left_out_lines(self.bad),
            notes=tuple(self.notes),
        )
        table = without(table, self.signals.bad, empty=not whole)
        if self._numbered and _counts_rows(table):
            table = replace(table, notes=(*table.notes, _counting(table.positions[0])))
        return _with_guessed_label(table) if self._guess else table

    def _named(self, row: int) -> str:
        name = one_named(self._words, "id")
        return f" (id {self.fields[self._words.index(name)][row]})" if name else ""

    def _split(self, line: bytes, number: int) -> tuple[list[str], bytes]:
        """Split a line into its text fields and its numbers, still comma-joined."""
        place = f"{self.name} line {number}"
        if line.count(b",") + 1 != len(self.columns) or b'"' in line:
            return self._split_exactly(line, place)
        *front, rest = line.split(b",", self._front)
        rest, *back = rest.rsplit(b",", self._back)
        return [decoded(word, place) for word in front + back], rest

    def _split_exactly(self, line: bytes, place: str) -> tuple[list[str], bytes]:
        words = csv_fields(line, place)
        if len(words) != len(self.columns):
            one = len(words) == 1 and is_number(words[0].strip())
            advice = (
                "; lines of description seem to stand above one value a line, as devices write a recording: cut it into "
                "samples, and save an .npz with signals (sample, position) and labels"
            )
            raise DataError(
                f"{place}: has {len(words)} field{'s' if len(words) != 1 else ''}, expected {len(self.columns)} as in line 1"
                f"{advice if one else ''}"
            )
        end = len(words) - self._back
        return words[: self._front] + words[end:], ",".join(words[self._front : end]).encode()


def _with_guessed_label(table: Table) -> Table:
    """Take the last or the first of nameless columns for the label, with a note, if it alone looks like one."""
    values = table.signals[:][:, 0]
    likely = [at for at in (0, -1) if values.shape[1] > 2 and label_like(values[:, at])]
    if len(likely) != 1:
        return table
    name = table.positions[likely[0]]
    rest = slice(1, None) if likely[0] == 0 else slice(None, -1)
    words = values[:, likely[0]].astype(np.int64).astype(np.str_)
    note = (
        f"column '{name}', the {'last' if likely[0] else 'first'} one, is taken for the label, as its values are few whole "
        f"numbers; if another column is, name it, such as --set data.label={table.positions[-1 - likely[0]]}"
    )
    signals = np.ascontiguousarray(values[:, rest])[:, None]
    return replace(table, signals=signals, words=words, positions=table.positions[rest], notes=(*table.notes, note))


def _counts_rows(table: Table) -> bool:
    """Whether the first number of each row is its number, as in an index that was written without a name."""
    first = table.signals[:][:, 0, 0]
    return len(first) >= _FEWEST and np.array_equal(first - first[0], np.arange(len(first)))


def _counting(name: str) -> str:
    return (
        f"column '{name}' counts the rows, and is taken for a measurement; if it is an index, drop it, or put a line of column "
        "names above with 'id' for it"
    )


_FEWEST = 8  # rows from which counting up is no chance


def _check_not_long(words: Mapping[str, Sequence[str]], signals: Floats, name: str) -> None:
    """Raise DataError if rows of one id or group follow one another and a number rises in each: time points, not samples."""
    if signals.shape[1] > _FEW_NUMBERS:
        return
    for column in (c for c in words if c.lower() in ("id", *GROUPS)):
        new = np.concatenate([[True], (keys := np.array(words[column]))[1:] != keys[:-1]])
        runs = int(new.sum())
        rising = (np.diff(signals, axis=0) > 0) | new[1:, None]
        if runs > 1 and runs == len(set(keys.tolist())) and len(keys) >= _LONG * runs and rising.all(axis=0).any():
            raise DataError(
                f"{name}: looks like a long table, one row for each time point of a {column}; expected one row for each "
                "sample, or an .npz with signals (sample, channel, position) and labels"
            )


_FEW_NUMBERS = 4  # columns up to which rows may be time points rather than samples
_LONG = 5  # rows of each id from which they are time points
