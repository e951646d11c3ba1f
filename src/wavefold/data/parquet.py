"""Convert a table to Parquet with pyarrow."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import IO, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from wavefold.core.registry import optional

arrow = optional("pyarrow", extra="tables")
arrow_parquet = optional("pyarrow.parquet", extra="tables")
arrow_compute = optional("pyarrow.compute", extra="tables")
arrow_ipc = optional("pyarrow.ipc", extra="tables")


def check_parquet() -> None:
    """Raise UserError if pyarrow is missing."""
    _ = arrow_parquet.write_table


def parquet_bytes(columns: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Return a Parquet file as bytes. columns: (row,) of text or numbers, by name; types are kept."""
    content = io.BytesIO()
    arrow_parquet.write_table(_table(columns), content)
    return content.getvalue()


def write_parquet(stream: IO[bytes], tables: Iterable[Mapping[str, NDArray[np.generic]]]) -> None:
    """Write the parts of one table, in order, to the byte as `parquet_bytes` writes it, in the memory of a row group."""
    pieces = (_table(columns) for columns in tables if len(next(iter(columns.values()))))  # none has the types of the others
    pending = [next(pieces)]
    with arrow_parquet.ParquetWriter(stream, pending[0].schema) as writer:
        for piece in pieces:
            pending.append(piece)
            while sum(map(len, pending)) >= _GROUP:
                whole: _ArrowTable = arrow.concat_tables(pending).combine_chunks()
                writer.write_table(whole.slice(0, _GROUP), row_group_size=_GROUP)
                pending = [whole.slice(_GROUP)]
        if any(map(len, pending)):
            writer.write_table(arrow.concat_tables(pending).combine_chunks(), row_group_size=_GROUP)


_GROUP = 1 << 20  # rows of a row group, as pyarrow writes a table


class _ArrowTable(Protocol):
    schema: object

    def __len__(self) -> int: ...

    def combine_chunks(self) -> Self: ...

    def slice(self, offset: int, length: int | None = None, /) -> Self: ...


def _table(columns: Mapping[str, NDArray[np.generic]]) -> _ArrowTable:
    plain = {name: column.tolist() if column.dtype.kind in "US" else column for name, column in columns.items()}
    table: _ArrowTable = arrow.table(plain)
    return table
