"""A CSV of metadata by id, such as `train_meta.csv` beside `train.csv`: the subject and origin of each sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wavefold.core.errors import DataError
from wavefold.data.dataset import Ints, Strings
from wavefold.data.header import column_names, column_place
from wavefold.data.table import check_ids
from wavefold.data.text_lines import csv_fields, is_row, line_blocks


def read_columns(path: Path) -> dict[str, Strings]:
    """All columns as text, including `id`, each (row,); DataError names the line of a malformed row."""
    columns, lines = read_words(path, example="id,record")
    column_place(list(columns), "id", path.name)
    found = {"id" if name.lower() == "id" else name: np.array(words, np.str_) for name, words in columns.items()}
    check_ids(found["id"].tolist(), lines, path.name)
    return found


def read_words(path: Path, example: str) -> tuple[dict[str, list[str]], Ints]:
    """Columns as text and the line number (row,) of each row; DataError names the line of a malformed row.

    example: a valid header, for the error message when there is none.
    """
    columns: list[str] = []
    words: list[list[str]] = []  # per column
    numbers: list[int] = []
    for first, lines in line_blocks(path):
        for number, line in enumerate(lines, first):
            if number == 1:
                columns = column_names(line, path.name, example=example)
                words = [[] for _ in columns]
            elif is_row(line, path.name, number):
                for known, word in zip(words, _fields(line, columns, f"{path.name} line {number}"), strict=True):
                    known.append(word)
                numbers.append(number)
    if not numbers:
        raise DataError(f"{path.name}: contains no rows, expected a header such as {example} and rows below it")
    return dict(zip(columns, words, strict=True)), np.array(numbers, np.int64)


def _fields(line: bytes, columns: list[str], place: str) -> list[str]:
    fields = csv_fields(line, place)
    if len(fields) != len(columns):
        raise DataError(
            f"{place}: has {len(fields)} field{'s' if len(fields) != 1 else ''}, expected {len(columns)} ({','.join(columns)})"
        )
    return fields
