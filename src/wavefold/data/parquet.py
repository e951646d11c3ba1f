"""Convert a table to Parquet with pyarrow."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wavefold.core.registry import optional

arrow = optional("pyarrow", extra="tables")
arrow_parquet = optional("pyarrow.parquet", extra="tables")


def check_parquet() -> None:
    """Raise UserError if pyarrow is missing."""
    _ = arrow_parquet.write_table


def parquet_bytes(columns: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Return a Parquet file as bytes. columns: (row,) of text or numbers, by name; types are kept."""
    plain = {name: column.tolist() if column.dtype.kind in "US" else column for name, column in columns.items()}
    content = io.BytesIO()
    arrow_parquet.write_table(arrow.table(plain), content)
    return content.getvalue()
