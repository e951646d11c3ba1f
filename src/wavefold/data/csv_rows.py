"""Turns rows of words into the text of a CSV file that `csv_text` reads back."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from wavefold.core.errors import DataError


def csv_rows(rows: Iterable[Sequence[object]], name: str) -> str:
    """The text of a CSV with one line per row, quoted where needed; DataError for a word with a line break."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n")
    for row in rows:
        bad = next((word for word in map(str, row) if "\n" in word or "\r" in word), None)
        if bad is not None:
            raise DataError(f"{name}: {bad!r} contains a line break; the layout uses one line per sample")
        write.writerow(row)
    return text.getvalue()
