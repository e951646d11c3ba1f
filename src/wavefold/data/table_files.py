"""Tables of results as files: the suffix selects the form, CSV, a spreadsheet, Parquet or NumPy arrays."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

from wavefold.core.errors import UserError, listed
from wavefold.core.files import write_whole
from wavefold.data.parquet import check_parquet
from wavefold.data.xlsx import check_xlsx

T = TypeVar("T")

SUFFIXES = (".csv", ".xlsx", ".parquet", ".npz")
_NEEDS: dict[str, Callable[[], None]] = {".xlsx": check_xlsx, ".parquet": check_parquet}


def check_suffix(path: str | Path, known: Collection[str] = SUFFIXES) -> None:
    """Raise UserError, before any work is done, if the suffix is unknown or its package is missing."""
    suffix = Path(path).suffix.lower()
    if str(path) != "-" and suffix not in known:
        raise UserError(f"{path}: '{suffix}' is not one of {listed(known)}, or - for CSV on standard output")
    _NEEDS.get(suffix, lambda: None)()


def write_form(path: str | Path, forms: Mapping[str, Callable[[T], bytes]], what: T) -> None:
    """Write the bytes of a form atomically; the path's suffix selects the form, and "-" means CSV to standard output."""
    check_suffix(path, forms)
    if str(path) == "-":
        sys.stdout.buffer.write(forms[".csv"](what))
        sys.stdout.buffer.flush()
        return
    path = Path(path)
    content = forms[path.suffix.lower()](what)
    try:
        write_whole(path, lambda stream: stream.write(content))
    except OSError as error:
        raise UserError(f"{path}: could not be written: {error.strerror}; no partial file was left") from error
