"""Predictions as files: a contest's CSV, a spreadsheet, Parquet, and NumPy arrays.

The CSV is the submission of the system's contest: id,label_0,label_1,... with what was decided for heartbeats; id,type without
a header for spectra; id,target with the probability of a needle for cadences. Every input gets its row, in the order of the
input; the source's heartbeat spreadsheet has neither ids nor header. Parquet and the spreadsheet also hold the probabilities
and the most probable class.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wavefold.base.dataset import Strings
from wavefold.base.errors import DataError, UserError, listed
from wavefold.base.files import write_whole
from wavefold.output.parquet import check_parquet, parquet_bytes
from wavefold.output.xlsx import check_xlsx, xlsx_bytes

Values = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True)
class Predictions:
    """What was predicted for each sample, in the order of the input."""

    ids: Strings  # (sample,)
    classes: tuple[str, ...]  # names, in the order of their numbers
    probabilities: Values  # (sample, class)
    decided: Values  # (sample, class): what one hands in
    submission: str = "labels"  # what the CSV holds, a name of SUBMISSIONS

    def __post_init__(self) -> None:
        shape = (len(self.ids), len(self.classes))
        for name, values in (("probabilities", self.probabilities), ("decided", self.decided)):
            if values.shape != shape:
                raise DataError(f"predictions: {name} are {values.shape}, not {shape}: one row an id, one column a class")

    def __len__(self) -> int:
        return len(self.ids)

    def columns(self) -> dict[str, NDArray[Any]]:
        """id, label_<class>, probability_<class> and predicted, each (sample,)."""
        labels = {f"label_{name}": self.decided[:, i] for i, name in enumerate(self.classes)}
        odds = {f"probability_{name}": self.probabilities[:, i] for i, name in enumerate(self.classes)}
        return {"id": self.ids, **labels, **odds, "predicted": self._named(self.probabilities)}

    def types(self) -> Strings:
        """One class for each sample, (sample,): the decided one, or the most probable where none or several are."""
        return self._named(self.decided + 1e-9 * self.probabilities)

    def _named(self, values: Values) -> Strings:
        names: Strings = np.array(self.classes, np.str_)[values.argmax(axis=1)]
        return names


def write_predictions(path: str | Path, predictions: Predictions) -> None:
    """Write the file whole, in the layout that its ending names, or CSV to standard output where the path is "-"."""
    hand_over(path, WRITERS, predictions)


def hand_over(path: str | Path, forms: Mapping[str, Callable[[T], bytes]], what: T) -> None:
    """Write what a form makes of something, whole; the path's ending names the form, and "-" is CSV to standard output."""
    check_target(path)
    if str(path) == "-":
        sys.stdout.buffer.write(forms[".csv"](what))
        sys.stdout.buffer.flush()
        return
    path = Path(path)
    content = forms[path.suffix.lower()](what)
    try:
        write_whole(path, lambda stream: stream.write(content))
    except OSError as error:
        raise UserError(f"{path}: could not be written, and nothing was left: {error.strerror}") from error


def check_target(path: str | Path) -> None:
    """UserError where a path's ending names no layout or its package is missing; asked first, so that no work is lost."""
    suffix = Path(path).suffix.lower()
    if str(path) != "-" and suffix not in WRITERS:
        raise UserError(f"{path}: '{suffix}' is not one of {listed(WRITERS)}, or - for CSV on standard output")
    _NEEDS.get(suffix, lambda: None)()


def _csv_bytes(predictions: Predictions) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(SUBMISSIONS[predictions.submission](predictions))
    return text.getvalue().encode()


def _labels(predictions: Predictions) -> Iterator[Sequence[Any]]:
    """The heartbeat contest's: a column of decisions for each class, below a header."""
    yield ["id", *(f"label_{name}" for name in predictions.classes)]
    columns = [_written(column) for column in predictions.decided.T]
    yield from zip(predictions.ids.tolist(), *columns, strict=True)


def _types(predictions: Predictions) -> Iterator[Sequence[Any]]:
    """The spectra contest's: id and class, without a header."""
    yield from zip(predictions.ids.tolist(), predictions.types().tolist(), strict=True)


def _target(predictions: Predictions) -> Iterator[Sequence[Any]]:
    """The cadence contest's: id and the probability of the last class, that there is a needle, below a header."""
    yield ["id", "target"]
    odds = [f"{value:.8g}" for value in predictions.probabilities[:, -1].tolist()]
    yield from zip(predictions.ids.tolist(), odds, strict=True)


SUBMISSIONS: dict[str, Callable[[Predictions], Iterator[Sequence[Any]]]] = {
    "labels": _labels,
    "types": _types,
    "target": _target,
}


def _written(column: Values) -> list[Any]:
    """Whole numbers without a fraction, others to eight digits."""
    if np.array_equal(column, column.round()):
        return list(column.astype(np.int64).tolist())
    return [f"{value:.8g}" for value in column.tolist()]  # :g writes 1.0 as 1


def _npz_bytes(predictions: Predictions) -> bytes:
    """Arrays ids, classes, probabilities, decided; np.load needs no pickle for them."""
    content = io.BytesIO()
    np.savez(
        content,
        ids=np.asarray(predictions.ids, np.str_),
        classes=np.array(predictions.classes, np.str_),
        probabilities=predictions.probabilities,
        decided=predictions.decided,
    )
    return content.getvalue()


_NEEDS: dict[str, Callable[[], None]] = {".xlsx": check_xlsx, ".parquet": check_parquet}
WRITERS: dict[str, Callable[[Predictions], bytes]] = {
    ".csv": _csv_bytes,
    ".xlsx": lambda predictions: xlsx_bytes(predictions.columns()),
    ".parquet": lambda predictions: parquet_bytes(predictions.columns()),
    ".npz": _npz_bytes,
}
