"""The first line of a wide CSV: column names, numbers that are column names, or a sample of a file without a header.

pandas writes column numbers 0, 1, 2, ... where it was told that a file has no header, and takes the first sample for a header
where it was not told. Such lines are distinguished by their numbers: those of a header are evenly spaced in some order, or rise
or fall all along as wavelengths do. A long table, with one row for each time point, is recognised by its names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, listed
from wavefold.data.csv_text import UNNAMED, column_names, column_place, csv_fields, is_number, shown
from wavefold.data.table import GROUPS

LABELS = ("label", "type", "class", "target")
WORDS = ("id", UNNAMED.lower(), *GROUPS, *LABELS)  # columns of a table that are not measurements, in lower case

_AGAIN = re.compile(r"\.\d+$")  # that pandas adds to the second of two equal names
_EVEN = 8  # numbers from which even spacing is no chance
_TIMES = (  # names of a column that counts the rows of one sample
    *("t", "time", "timestamp", "time_stamp", "timepoint", "time_point", "time_index", "timestep", "time_step", "datetime"),
    *("time_s", "time_ms", "seconds", "sec", "ms", "reading_id", "measurement_number", "sample_index", "tick"),
)
_KEYS = ("id", "series", "series_id", "case", "case_id", "sample", "sample_id", "unit", "name")  # of a sample in a long table
_FEW = 8  # columns up to which a column named for time makes a table long


@dataclass(frozen=True)
class WideHeader:
    """The columns of a wide CSV."""

    columns: list[str]
    is_sample: bool = False  # whether the first line is a sample, so that columns are numbered
    note: str = ""  # what was guessed, as a line for the user
    numbered: bool = False  # whether no column has a name of its own


def wide_header(line: bytes, name: str) -> WideHeader:
    """The columns that a first line names, or their numbers if it is a sample; DataError if it cannot be told."""
    words = [word.strip() for word in csv_fields(line, f"{name} line 1")]
    if len(words) < 2 or not all(is_number(word) and "," not in word for word in words):
        _check_no_sample(words, name)
        columns = column_names(line, name, numbered=True)
        numbered = not words[0] and _count_up(words[1:])
        return WideHeader(columns, numbered=numbered)
    if _count_up(words) or (len(words) >= _EVEN and _is_even(_values(words)) and _is_monotone(_values(words))):
        note = f"line 1 ({_ends(words)}) is taken for column names; if it is a sample, put a line of column names above it"
        return WideHeader(words, note=note, numbered=True)
    columns = [str(number) for number in range(len(words))]
    note = (
        f"line 1 ({_ends(words)}) is taken for a sample, as it names no columns: they are numbered {_ends(columns)}; "
        "put a line of column names above it to name them"
    )
    return WideHeader(columns, is_sample=True, note=note, numbered=True)


def check_not_long(columns: Sequence[str], words: Sequence[str], name: str) -> None:
    """Raise DataError if the columns are those of a long table. words: columns that are not measurements."""
    time = next((c for c in columns if re.split(r"[ ([]", c.lower())[0] in _TIMES), "")
    if not time or len(columns) > _FEW:
        return
    others = [c for c in columns if c != time]
    keys = [c for c in others if c in words and c.lower() not in LABELS] or [c for c in others if c.lower() in _KEYS]
    labels = [c for c in others if c.lower() in LABELS]
    values = [c for c in others if c not in keys and c not in labels]
    raise DataError(
        f"{name}: looks like a long table, one row for each time point (column '{time}'); expected one row for each sample"
        f"{_pivot(name, keys, labels, time, values)}"
    )


def check_series(columns: Sequence[str], name: str, *, where: str = " line 1") -> None:
    """Raise DataError if unnumbered columns, such as age, stand among numbered ones, such as t0, t1."""
    odd = [c for c in columns if not re.search(r"\d", c)]
    numbered = [c for c in columns if re.search(r"\d$", c)]
    if odd and numbered:
        raise DataError(
            f"{name}{where}: {shown(odd)} among the numbered columns ({shown(numbered[:2])}, ...); drop columns that are not "
            "measurements, or set --set split.group=NAME for groups, --set data.label=NAME for labels"
        )


def label_of(columns: Sequence[str], name: str, wanted: str, *, where: str = " line 1") -> str:
    """The column of labels, '' if there is none; DataError if the wanted one is missing, or if several may be it."""
    if wanted:
        return columns[column_place(columns, wanted, name, where=where)]
    there = likely_labels(columns)
    if len(there) > 1:
        raise DataError(
            f"{name}{where}: columns {listed(there)} could each be the label; choose one, such as --set data.label={there[0]}"
        )
    return there[0] if there else ""


def likely_labels(columns: Sequence[str]) -> list[str]:
    """The columns that may be the label by their names."""
    return [c for c in columns if c.lower() in LABELS] or [c for c in columns[-1:] if c.lower() == "y"]


def label_like(values: NDArray[np.float32]) -> bool:
    """Whether the numbers of a column, (sample,), look like class numbers: few distinct whole ones."""
    if not np.array_equal(values, np.rint(values)):
        return False
    return 2 <= len(np.unique(values)) <= min(max(_CLASSES, len(values) // 3), 100)


_DIGITS = 10  # of a column's number, fewer
_CLASSES = 20  # distinct whole numbers that are classes, however few samples there are


def _check_no_sample(words: Sequence[str], name: str) -> None:
    """Raise DataError if a line of numbers and a few words is a sample rather than column names."""
    again = [word for word in words if is_number(_AGAIN.sub("", word)) and not is_number(word)]
    numbers = [word for word in words if is_number(word) and "," not in word]
    if len(numbers) + len(again) < max(3, len(words) / 2) or (not again and _names_positions(_values(numbers))):
        return
    if again:
        raise DataError(
            f"{name} line 1: looks like a sample that was taken for column names, as '{again[0]}' shows, which pandas makes of "
            "a second equal number; write the file again from its original, read with pandas.read_csv(..., header=None)"
        )
    header = [str(number) if is_number(word) else "" for number, word in enumerate(words)]
    empty = [at for at, word in enumerate(header) if not word]
    names = ["label"] if len(empty) == 1 else ["id", *(f"name{at}" for at in range(1, len(empty) - 1)), "label"]
    for at, word in zip(empty, names, strict=False):
        header[at] = word
    raise DataError(
        f"{name} line 1: looks like a sample ({_ends(words)}), not like column names; add a line of them above it, such as "
        f"{','.join(header) if len(header) <= _LISTED else _ends(header, ',')}"
    )


_LISTED = 30  # names that a message lists


def _pivot(name: str, keys: Sequence[str], labels: Sequence[str], time: str, values: Sequence[str]) -> str:
    """How to make one row for each sample of a long table, if one line of Python does."""
    if len(keys) != 1 or len(values) != 1:
        return "; save an .npz with signals (sample, channel, position) and labels instead"
    key, rename = keys[0], ""
    if key.lower() in _KEYS[1:]:
        key, rename = "id", f".rename(columns={{'{keys[0]}': 'id'}})"
    return (
        f", such as pandas.read_csv('{name}'){rename}.pivot(index={[key, *labels]}, columns='{time}', values='{values[0]}')"
        ".to_csv('wide.csv') makes"
    )


def _values(words: Sequence[str]) -> NDArray[np.float64]:
    return np.array([float(word) for word in words])


def _count_up(words: Sequence[str]) -> bool:
    """Whether words are whole numbers in steps of 1, in some order, as in a header of column numbers."""
    if len(words) < 2 or not all(word.isdecimal() and len(word) < _DIGITS for word in words):
        return False
    numbers = sorted(int(word) for word in words)
    return numbers == list(range(numbers[0], numbers[0] + len(numbers))) and numbers[0] <= 1


def _names_positions(values: NDArray[np.float64]) -> bool:
    """Whether numbers may be names of positions: all rising, all falling, or even steps in some order."""
    return _is_monotone(values) or _is_even(values)


def _is_monotone(values: NDArray[np.float64]) -> bool:
    steps = _steps(values)
    return bool((steps > 0).all() or (steps < 0).all())


def _is_even(values: NDArray[np.float64]) -> bool:
    steps = _steps(np.sort(values))
    return bool(steps.min() > 0 and np.allclose(steps, steps[0], rtol=1e-3, atol=0))


def _steps(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # of infinities
        return np.diff(values)


def _ends(words: Sequence[str], mark: str = ", ") -> str:
    """The first two and the last of some words, or all of a few."""
    if len(words) <= 4:
        return mark.join(words)
    return mark.join([*words[:2], "...", words[-1]])
