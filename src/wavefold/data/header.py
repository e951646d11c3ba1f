"""The header of a CSV: parses column names and looks columns up regardless of case."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from wavefold.core.errors import DataError, listed, nearest
from wavefold.data.text_lines import csv_fields

UNNAMED = "Unnamed: 0"  # pandas's word for a column of row numbers that has lost its name
_NUMBERS = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?(,|$)", re.IGNORECASE)
_LONGEST = 60  # characters of a name in an error
_MOST = 12  # names in an error


def column_names(line: bytes, name: str, *, numbered: bool = False, example: str = "id,heartbeat_signals,label") -> list[str]:
    """Column names from a CSV's first line; DataError if one is empty or duplicated, or if all are numbers.

    An unnamed first column is a pandas index: it becomes `id` unless there is one. numbered: whether column names may be
    numbers, as long as some are not. example: a valid header, for the error message.
    """
    if not line.strip():
        raise DataError(f"{name} line 1: line is empty, expected a header of column names")
    columns = [word.strip() for word in csv_fields(line, f"{name} line 1")]
    if all(map(_is_number, columns)):
        raise DataError(f"{name}: has no header; expected a line of column names such as {example}")
    if len(columns) == 1:
        _check_commas(columns, name)
    if not columns[0]:
        columns[0] = UNNAMED if one_named(columns, "id") else "id"
    _check_names(columns, name, numbered)
    return columns


def one_named(columns: Iterable[str], wanted: str) -> str:
    """The column of that name, else the first that has it in another case; '' where there is none."""
    there = [c for c in columns if c.lower() == wanted.lower()]
    return wanted if wanted in there else next(iter(there), "")


def column_place(columns: Sequence[str], wanted: str, name: str) -> int:
    """The index of a column, regardless of case; DataError lists the available columns and the nearest."""
    found = one_named(columns, wanted)
    if not found:
        raise missing(columns, wanted, name)
    return columns.index(found)


def missing(columns: Collection[str], wanted: str, name: str, expected: str = "") -> DataError:
    """The error for a missing column, or for a line that is not comma-separated."""
    _check_commas(columns, name)
    near = nearest(wanted, [c for c in columns if len(c) <= _LONGEST])
    return DataError(f"{name} line 1: no column '{wanted}'; available columns: {shown(columns)}{near}{expected}")


def shown(columns: Collection[str]) -> str:
    """Column names for an error, as many and as much of each as fit a line."""
    words = [c if len(c) <= _LONGEST else f"{c[:_LONGEST]}..." for c in list(columns)[:_MOST]]
    return listed(words) + (f", ... ({len(columns)} in all)" if len(columns) > _MOST else "")


def _check_commas(columns: Iterable[str], name: str) -> None:
    for mark, word in ((";", "';'"), ("\t", "a tab")):
        if any(mark in column for column in columns):
            raise DataError(f"{name} line 1: columns seem to be separated by {word}, expected commas")


def _check_names(columns: Sequence[str], name: str, numbered: bool) -> None:
    bad = [at for at, word in enumerate(columns) if not word or (_is_number(word) and not numbered)]
    if bad:
        there = shown([columns[bad[0]]])
        raise DataError(f"{name} line 1: column {bad[0] + 1} is named '{there}', expected a header of column names")
    if len(set(columns)) < len(columns):
        twice = next(word for word in columns if columns.count(word) > 1)
        raise DataError(f"{name} line 1: column '{shown([twice])}' appears twice")


def _is_number(word: str) -> bool:
    """Whether a field is a number, or several joined by commas as in the contest's signals."""
    return bool(word) and not _NUMBERS.sub("", word.replace(" ", ""))
