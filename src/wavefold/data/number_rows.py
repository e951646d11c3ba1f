"""Parses rows of comma-separated numbers into one float32 array with a JSON parser (pysimdjson; Langdale and Lemire 2019).

A line of numbers in brackets is a JSON array; a few dozen rows are parsed at once. If the text is not valid JSON but valid
for float() (".5", "1.", "+1"), or if anything is wrong, rows are parsed one by one, so that an error names row and value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import simdjson

from wavefold.core.errors import DataError
from wavefold.data.dataset import Floats
from wavefold.data.text_lines import decoded

CheckpointStore = Callable[[int], str]  # from a row's number in a block to the words that name it in an error

_LARGEST = float(np.finfo(np.float32).max)
CHUNK = 64  # rows a parse: 32 to 128 are equally fast, one row is 15 % slower


class RowParser:
    """Texts of comma-joined numbers, each of `width` values, to float32 rows."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._parser = simdjson.Parser()

    def together(self, texts: Sequence[bytes]) -> Floats | None:
        """Rows (text, position) of all texts at once; None where JSON does not admit one, or where one is wrong."""
        text = b"[[" + b"],[".join(texts) + b"]]"
        if text.count(b"[") != len(texts) + 1:  # a bracket of the file's own would be JSON, and is no number
            return None
        try:
            document: Any = self._parser.parse(text)
            if any(len(row) != self.width for row in document):
                return None
            values = np.frombuffer(document.as_buffer(of_type="d"))
        except (ValueError, TypeError, RuntimeError):  # the last for a whole number beyond 64 bits
            return None
        with np.errstate(over="ignore"):
            rows = values.astype(np.float32).reshape(len(texts), self.width)
        return rows if np.isfinite(rows).all() else None

    def alone(self, text: bytes, place: str, like: str) -> Floats:
        """One row (position,), exactly; DataError for a word, NaN, infinity or another count. like: where the count is from."""
        rows = self.together([text])
        if rows is not None:
            return rows.reshape(-1)
        words = decoded(text, place).split(",")
        if len(words) != self.width:
            raise DataError(
                f"{place}: has {len(words)} value{'s' if len(words) != 1 else ''}, expected {self.width} as in {like}"
            )
        return np.array([number(word, f"{place}: value {i}") for i, word in enumerate(words, 1)], np.float32)


class NumberRows:
    """One array that grows by rows, all of the first row's length."""

    def __init__(self) -> None:
        self._parser = RowParser(0)
        self._array = np.empty((0, 0), np.float32)
        self._count = 0
        self._first = ""

    def add(self, texts: Sequence[bytes], place: CheckpointStore) -> None:
        """Append rows of comma-joined numbers; DataError for a word, NaN, infinity or another count of values."""
        if not self._first and texts:
            self._begin(texts[0], place(0))
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            rows = self._parser.together(chunk)
            self._append(self._one_by_one(chunk, start, place) if rows is None else rows)

    def whole(self) -> Floats:
        """All rows. Result: (sample, position) float32."""
        self._array.resize((self._count, self._parser.width), refcheck=False)
        return self._array

    def _begin(self, text: bytes, place: str) -> None:
        if not text.strip():
            raise DataError(f"{place}: has no values, expected comma-separated numbers")
        self._parser, self._first = RowParser(text.count(b",") + 1), place
        self._array = np.empty((0, self._parser.width), np.float32)

    def _one_by_one(self, texts: Sequence[bytes], start: int, place: CheckpointStore) -> Floats:
        return np.vstack([self._parser.alone(text, place(i), self._first) for i, text in enumerate(texts, start)])

    def _append(self, rows: Floats) -> None:
        end = self._count + len(rows)
        if end > len(self._array):
            self._array.resize((end + end // 8, rows.shape[1]), refcheck=False)  # grows in place: no second copy
        self._array[self._count : end] = rows
        self._count = end


def number(word: str, place: str) -> float:
    """A finite float32 number from its text; DataError with the word otherwise."""
    try:
        value = float(word)
    except ValueError:
        raise DataError(f"{place} is {word.strip()[:40]!r}, expected a number") from None
    if not abs(value) <= _LARGEST or "_" in word:
        raise DataError(f"{place} is {word.strip()[:40]!r}, expected a finite number")
    return value
