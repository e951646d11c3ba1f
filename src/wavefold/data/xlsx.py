"""Convert a table to an XLSX spreadsheet with openpyxl: one sheet with a header, text kept as text."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError
from wavefold.core.registry import optional

openpyxl = optional("openpyxl", extra="tables")
openpyxl_cell = optional("openpyxl.cell", extra="tables")
openpyxl_text = optional("openpyxl.cell.cell", extra="tables")

_MOST_ROWS = 1_048_575  # 2^20, the limit of the format, minus the header


def check_xlsx() -> None:
    """Raise UserError if openpyxl is missing."""
    _ = openpyxl.Workbook


def xlsx_bytes(columns: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Return an XLSX spreadsheet as bytes. columns: (row,) of text or numbers, by name."""
    rows = len(next(iter(columns.values())))
    if rows > _MOST_ROWS:
        raise DataError(f"a spreadsheet holds at most {_MOST_ROWS:,} rows, but this table has {rows:,}; write .csv or .parquet")
    _check_texts(columns)
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("predictions")
    sheet.append([_text_cell(sheet, name) for name in columns])
    written = [_cells(sheet, column) for column in columns.values()]
    for row in zip(*written, strict=True):
        sheet.append(row)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _check_texts(columns: Mapping[str, NDArray[np.generic]]) -> None:
    """Raise DataError for control characters before starting a sheet, which openpyxl cannot abandon quietly."""
    illegal = openpyxl_text.ILLEGAL_CHARACTERS_RE
    texts = (column.tolist() for column in columns.values() if column.dtype.kind in "US")
    for text in itertools.chain(columns, *texts):
        if illegal.search(text):
            raise DataError(f"a spreadsheet cannot hold the text {text!r}; write .csv or .parquet")


def _cells(sheet: object, column: NDArray[np.generic]) -> Iterable[object]:
    if column.dtype.kind in "US":
        return (_text_cell(sheet, text) for text in column.tolist())
    whole = np.array_equal(column, column.round())
    cells: Iterable[object] = (column.astype(np.int64) if whole else column).tolist()
    return cells


def _text_cell(sheet: object, text: str) -> object:
    """A text cell: openpyxl would store "=1+1" as a formula, which the spreadsheet program would run."""
    cell = openpyxl_cell.WriteOnlyCell(sheet, text)
    cell.data_type = "s"
    return cell
