"""A CSV of words by id, such as `train_meta.csv` beside `train.csv`: who each sample is of, where it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wavefold.base.dataset import Strings
from wavefold.base.errors import DataError
from wavefold.data.header import column_names, column_place
from wavefold.data.table import check_ids
from wavefold.data.text_lines import csv_fields, is_row, line_blocks


def read_columns(path: Path) -> dict[str, Strings]:
    """All columns as words, `id` among them, each (row,); DataError names the line of a row that does not fit."""
    columns: list[str] = []
    rows: list[list[str]] = []
    numbers: list[int] = []
    for first, lines in line_blocks(path):
        for number, line in enumerate(lines, first):
            if number == 1:
                columns = column_names(line, path.name, example="id,record")
                columns[column_place(columns, "id", path.name)] = "id"
            elif is_row(line, path.name, number):
                rows.append(_fields(line, columns, f"{path.name} line {number}"))
                numbers.append(number)
    if not rows:
        raise DataError(f"{path.name}: is empty, expected a header with id and rows below it")
    found = {name: np.array(words, np.str_) for name, words in zip(columns, zip(*rows, strict=True), strict=True)}
    check_ids(found["id"].tolist(), np.array(numbers, np.int64), path.name)
    return found


def _fields(line: bytes, columns: list[str], place: str) -> list[str]:
    fields = csv_fields(line, place)
    if len(fields) != len(columns):
        raise DataError(f"{place}: holds {len(fields)} fields, expected {len(columns)} ({','.join(columns)})")
    return fields
