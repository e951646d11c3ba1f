"""Reads a wide CSV: one row per sample, one column per position, with or without `id` and a label; plain or gzip.

    id,0,1,2,...,139,label

Non-measurement columns (id, label, record, patient and so on, numeric or not) stand before or after the measurements, in any
order and any case. Without an `id` column, rows are numbered from 0.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from wavefold.core.errors import DataError, listed
from wavefold.data.csv_text import (
    UNNAMED,
    NumberRows,
    column_names,
    column_place,
    csv_fields,
    decoded,
    is_row,
    line_blocks,
    one_named,
    shown,
)
from wavefold.data.dataset import check_ids
from wavefold.data.table import GROUPS, Table, label_words

LABELS = ("label", "type", "class", "target")
WORDS = ("id", UNNAMED.lower(), *GROUPS, *LABELS)  # non-measurement columns, in lower case


def read_wide(path: Path, *, label_column: str = "", group: str = "", labels: bool = True, apart: Sequence[str] = ()) -> Table:
    """Read signals (sample, 1, position), ids, labels and further columns of a wide CSV; DataError names line and id.

    label_column: "" takes the one column named label, type, class or target, else a last column named y; a named column must
    exist if labels are wanted. group, apart: columns that are not measurements, those that there are.
    """
    rows = _Rows(path.name)
    for first, lines in line_blocks(path):
        if first == 1:
            columns = column_names(lines[0], path.name, numbered=True)
            label = _label_of(columns, path.name, label_column) if labels else ""
            named = {one_named(columns, word) for word in (group, label_column, *apart)}
            rows.head(columns, label, {*named, label, *_likely_labels(columns)})
        rows.add(lines[first == 1 :], first + (first == 1))
    return rows.table()


class _Rows:
    """The columns read so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.columns: list[str] = []
        self.signals = NumberRows()
        self.fields: list[list[str]] = []  # per text column
        self.lines: list[int] = []

    def head(self, columns: list[str], label: str, words: Collection[str]) -> None:
        """Take the column names and find where the measurements start and end. words: further text columns beside WORDS."""
        self.columns, self._label = columns, label
        is_word = [c.lower() in WORDS or c in words for c in columns]
        if all(is_word):
            raise DataError(f"{self.name} line 1: no column of numbers; columns: {shown(columns)}")
        _check_series([c for c, w in zip(columns, is_word, strict=True) if not w], self.name)
        self._front, self._back = is_word.index(False), is_word[::-1].index(False)
        inside = [c for c, w in zip(columns, is_word, strict=True) if w][self._front : sum(is_word) - self._back]
        if inside:
            raise DataError(
                f"{self.name} line 1: column '{inside[0]}' is between the number columns; move it to the start or end"
            )
        self._words = columns[: self._front] + columns[len(columns) - self._back :]
        self.fields = [[] for _ in self._words]

    def add(self, lines: Sequence[bytes], first: int) -> None:
        """Add a block of lines; the first has line number `first`."""
        numbers = [number for number, line in enumerate(lines, first) if is_row(line, self.name, number)]
        if not numbers:
            return
        pairs = [self._split(lines[number - first], number) for number in numbers]
        for known, new in zip(self.fields, zip(*(words for words, _ in pairs), strict=True), strict=True):
            known += new
        base = len(self.lines)
        self.signals.add([text for _, text in pairs], lambda i: f"{self.name} line {numbers[i]}{self._named(base + i)}")
        self.lines += numbers

    def table(self) -> Table:
        """Return everything read; DataError if there is nothing or an id is duplicated."""
        if not self.columns:
            raise DataError(f"{self.name}: file is empty, expected a header and rows of numbers")
        if not self.lines:
            raise DataError(f"{self.name}: has a header but no rows")
        lines = np.array(self.lines, np.int64)
        words = dict(zip(self._words, self.fields, strict=True))
        ids = words.pop(one_named(words, "id"), [str(i) for i in range(len(lines))])
        labels = words.pop(self._label, None)
        return Table(
            signals=self.signals.whole()[:, None, :],
            ids=check_ids(ids, lines, self.name),
            lines=lines,
            words=None if labels is None else label_words(labels),
            columns={k: np.array(v, np.str_) for k, v in words.items()},
            positions=tuple(self.columns[self._front : len(self.columns) - self._back]),
        )

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
            raise DataError(
                f"{place}: has {len(words)} field{'s' if len(words) != 1 else ''}, expected {len(self.columns)} as in line 1"
            )
        end = len(words) - self._back
        return words[: self._front] + words[end:], ",".join(words[self._front : end]).encode()


def _check_series(columns: Sequence[str], name: str) -> None:
    """Raise DataError if unnumbered columns, such as age, stand among numbered ones, such as t0, t1."""
    odd = [c for c in columns if not re.search(r"\d", c)]
    numbered = [c for c in columns if re.search(r"\d$", c)]
    if odd and numbered:
        raise DataError(
            f"{name} line 1: {shown(odd)} among the numbered columns ({shown(numbered[:2])}, ...); drop columns that are not "
            "measurements, or set --set split.group=NAME for groups, --set data.label=NAME for labels"
        )


def _label_of(columns: Sequence[str], name: str, wanted: str) -> str:
    if wanted:
        return columns[column_place(columns, wanted, name)]
    there = _likely_labels(columns)
    if len(there) > 1:
        raise DataError(
            f"{name} line 1: columns {listed(there)} could each be the label; choose one, such as --set data.label={there[0]}"
        )
    return there[0] if there else ""


def _likely_labels(columns: Sequence[str]) -> list[str]:
    return [c for c in columns if c.lower() in LABELS] or [c for c in columns[-1:] if c.lower() == "y"]
