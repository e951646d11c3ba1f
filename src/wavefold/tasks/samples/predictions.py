"""Write predictions to a file: a contest's CSV, a spreadsheet, Parquet, or NumPy arrays.

The CSV is the contest submission: id,label_0,label_1,... with the decisions for heartbeats; id,type without a header for
spectra; id,target with the probability of a needle for cadences. Every input gets one row, in input order; the source's
heartbeat spreadsheet has neither ids nor header. Parquet and the spreadsheet also hold the probabilities and the most probable
class.
"""

from __future__ import annotations

import csv
import io
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, UserError
from wavefold.core.files import write_whole
from wavefold.data.dataset import Strings
from wavefold.data.parquet import parquet_bytes, write_parquet
from wavefold.data.table_files import check_suffix, write_form
from wavefold.data.xlsx import xlsx_bytes

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """The predictions for each sample, in input order."""

    ids: Strings  # (sample,)
    classes: tuple[str, ...]  # names, in the order of the labels
    probabilities: Values  # (sample, class)
    decided: Values  # (sample, class): the values to submit
    submission: str = "labels"  # form of the CSV, a name in SUBMISSIONS
    # of a part of a larger table: name of a column -> whether it holds whole numbers only, in all parts
    integral: Mapping[str, bool] = field(default_factory=dict)

    per_name: ClassVar[int] = 1  # columns of probabilities for each name

    def __post_init__(self) -> None:
        shape = (len(self.ids), self.per_name * len(self.classes))
        for name, values in (("probabilities", self.probabilities), ("decided", self.decided)):
            if values.shape != shape:
                raise DataError(f"predictions: {name} has shape {values.shape}, expected {shape} (id, class)")

    def __len__(self) -> int:
        return len(self.ids)

    def write(self, path: str | Path) -> None:
        """Write a file in the form that its suffix names; "-" is CSV to standard output."""
        write_predictions(path, self)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return id, label_<class>, probability_<class> and predicted, each (sample,)."""
        labels = {f"label_{name}": self.decided[:, i] for i, name in enumerate(self.classes)}
        odds = {f"probability_{name}": self.probabilities[:, i] for i, name in enumerate(self.classes)}
        return {"id": self.ids, **labels, **odds, "predicted": self._named(self.probabilities)}

    def whole_numbers(self) -> dict[str, bool]:
        """For each column of numbers, whether it holds whole ones only."""
        return {name: _is_whole(np.asarray(c, np.float64)) for name, c in self.columns().items() if c.dtype.kind == "f"}

    def csv_rows(self) -> Iterator[Sequence[object]]:
        """The rows of the CSV, the header included if it has one."""
        return SUBMISSIONS[self.submission](self)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The arrays of the .npz file: ids, classes, probabilities and decided."""
        names = {"ids": np.asarray(self.ids, np.str_), "classes": np.array(self.classes, np.str_)}
        return {**names, "probabilities": self.probabilities, "decided": self.decided}

    def messages(self) -> list[dict[str, object]]:
        """For each sample, what the server answers: id, most probable class, probabilities and decisions by class."""
        odds, decided = (self.by_name(values) for values in (self.probabilities, self.decided))
        named = self._named(self.probabilities).tolist()
        rows = zip(self.ids.tolist(), named, odds, decided, strict=True)
        return [{"id": id_, "class": name, "probabilities": p, "decided": d} for id_, name, p, d in rows]

    def by_name(self, values: Values) -> list[dict[str, float]]:
        """Values (sample, name) as one mapping from name to value for each sample, rounded to seven decimals."""
        return [dict(zip(self.classes, row, strict=True)) for row in np.round(values, 7).tolist()]

    def types(self) -> Strings:
        """Return one class per sample, (sample,): the decided one, or the most probable if none or several are decided."""
        return self._named(self.decided + 1e-9 * self.probabilities)

    def _named(self, values: Values) -> Strings:
        names: Strings = np.array(self.classes, np.str_)[values.argmax(axis=1)]
        return names


def write_predictions(path: str | Path, predictions: Predictions) -> None:
    """Write predictions atomically in the format given by the path's suffix, or as CSV to standard output if it is "-"."""
    write_form(path, WRITERS, predictions)


def write_joined(path: str | Path, parts: Callable[[], Iterator[Predictions]]) -> None:
    """Write the parts of one table, in order, as `write_predictions` writes the table: to the byte, in the memory of a part.

    parts: yields them anew at each call, with `integral` of the table. A spreadsheet and an .npz need all parts in memory.
    """
    check_target(path)
    suffix = ".csv" if str(path) == "-" else Path(path).suffix.lower()
    if suffix not in _STREAMS:
        write_predictions(path, _together(list(parts())))
        return
    if str(path) == "-":
        _STREAMS[suffix](sys.stdout.buffer, parts())
        sys.stdout.buffer.flush()
        return
    try:
        write_whole(Path(path), lambda stream: _STREAMS[suffix](stream, parts()))
    except OSError as error:
        raise UserError(
            f"{path}: could not be written: {error.strerror}; no partial file was left; repeat the command to go on"
        ) from error


def check_target(path: str | Path) -> None:
    """Raise UserError, before any work is done, if the suffix is unknown or its package is missing."""
    check_suffix(path, WRITERS)


def _csv_bytes(predictions: Predictions) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(predictions.csv_rows())
    return text.getvalue().encode()


def _labels(predictions: Predictions) -> Iterator[Sequence[object]]:
    """The heartbeat contest's form: a header and a column of decisions per class."""
    yield ["id", *(f"label_{name}" for name in predictions.classes)]
    names = (f"label_{name}" for name in predictions.classes)
    columns = [_written(c, predictions.integral.get(n)) for n, c in zip(names, predictions.decided.T, strict=True)]
    yield from zip(predictions.ids.tolist(), *columns, strict=True)


def _types(predictions: Predictions) -> Iterator[Sequence[object]]:
    """The spectra contest's form: id and class, without a header."""
    yield from zip(predictions.ids.tolist(), predictions.types().tolist(), strict=True)


def _target(predictions: Predictions) -> Iterator[Sequence[object]]:
    """The cadence contest's form: a header, then id and the probability of the last class, a needle."""
    yield ["id", "target"]
    odds = [f"{value:.8g}" for value in predictions.probabilities[:, -1].tolist()]
    yield from zip(predictions.ids.tolist(), odds, strict=True)


SUBMISSIONS: dict[str, Callable[[Predictions], Iterator[Sequence[object]]]] = {
    "labels": _labels,
    "types": _types,
    "target": _target,
}


def _is_whole(column: Values) -> bool:
    return bool(np.array_equal(column, column.round()))


def _written(column: Values, integral: bool | None = None) -> list[int] | list[str]:
    """Integers without a fraction, other values to eight digits. integral: whether the table's whole column is of integers."""
    if _is_whole(column) if integral is None else integral:
        return list(map(int, column.tolist()))
    return [f"{value:.8g}" for value in column.tolist()]  # :g writes 1.0 as 1


def csv_of_columns(predictions: Predictions) -> Iterator[Sequence[object]]:
    """Every column of predictions under a header."""
    columns = predictions.columns()
    yield list(columns)
    whole = predictions.integral
    written = [
        _written(np.asarray(v, np.float64), whole.get(n)) if v.dtype.kind == "f" else v.tolist() for n, v in columns.items()
    ]
    yield from zip(*written, strict=True)


def _npz_bytes(predictions: Predictions) -> bytes:
    """Arrays that np.load reads without pickle."""
    content = io.BytesIO()
    np.savez(content, **predictions.arrays())  # type: ignore[arg-type]  # names as keywords
    return content.getvalue()


def _together(parts: Sequence[Predictions]) -> Predictions:
    values = (np.concatenate([part.probabilities for part in parts]), np.concatenate([part.decided for part in parts]))
    return replace(parts[0], ids=np.concatenate([part.ids for part in parts]), probabilities=values[0], decided=values[1])


def _stream_csv(stream: IO[bytes], parts: Iterator[Predictions]) -> None:
    head: Sequence[object] | None = None
    for part in parts:
        rows = part.csv_rows()
        first = next(rows, None)
        if first is not None:
            text = io.StringIO()
            repeats = head is not None and list(first) == list(head)  # a header: ids of rows are distinct
            csv.writer(text, lineterminator="\n").writerows(rows if repeats else itertools.chain([first], rows))
            stream.write(text.getvalue().encode())
            head = first if head is None else head


def _stream_parquet(stream: IO[bytes], parts: Iterator[Predictions]) -> None:
    write_parquet(stream, (part.columns() for part in parts))


_STREAMS: dict[str, Callable[[IO[bytes], Iterator[Predictions]], None]] = {".csv": _stream_csv, ".parquet": _stream_parquet}

WRITERS: dict[str, Callable[[Predictions], bytes]] = {
    ".csv": _csv_bytes,
    ".xlsx": lambda predictions: xlsx_bytes(predictions.columns()),
    ".parquet": lambda predictions: parquet_bytes(predictions.columns()),
    ".npz": _npz_bytes,
}
