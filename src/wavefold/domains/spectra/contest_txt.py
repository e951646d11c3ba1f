"""Reads the Tianchi LAMOST contest's layout (2018): an index CSV `id,type` and one `<id>.txt` per spectrum, in a folder or zip.

Each txt is one line of comma-separated fluxes. The zip is read in place. index_csv.py describes which file belongs to which
index. `wavelength.txt`, comma-separated or one number per line, gives the wavelength of each position, in micron if all are
below 100, else in angstrom (the contest: 3700 to 9098 angstrom; the near infrared: 0.8 to 2.4 micron).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError
from wavefold.data.bundles import bundle, contents
from wavefold.data.csv_text import RowParser, decoded, number
from wavefold.data.index_csv import check_label, data_of, expected_data, match, table_of, wavelength_of
from wavefold.data.store import Block, fill, working_folder
from wavefold.data.table import Table

_ALONE = 4096  # minimum files to use all processors: this one reads as many in the second that others need to start
_TOGETHER = 1 << 15  # values per parse, about twelve files: 64 files exceed the processor's cache and take a third longer
_LOOKED_AT = 64  # files sampled to find the usual length
_BOM = b"\xef\xbb\xbf"
_BETWEEN = re.compile(r"\s*[,\n]\s*")  # wavelengths: joined by commas, or one a line
_MICRON = 100  # wavelengths below it are in micron: no such spectrograph reaches 100 angstrom or 100 micron
_EVEN = 1e-4  # fraction of a step by which steps may differ, for rounding of written wavelengths


def read_spectra(
    path: Path,
    *,
    label_column: str = "",
    group: str = "",
    labels: bool = True,
    skip_bad: bool = False,
    store: Path | None = None,
) -> Table:
    """Read spectra (sample, 1, position) of an index, or of a zip, folder or single txt, where file names are the ids.

    label_column: "" means `type`, which a folder's training index must have if labels are wanted. group is ignored: all
    columns are kept. With skip_bad, unreadable samples are listed in left_out; otherwise the first one, in index order,
    raises DataError. store: folder for the array, where an interrupted read resumes; None uses a temporary one.
    """
    suffix = path.suffix.lower() if path.is_file() else ""
    indexed = suffix not in ("", ".zip", ".txt")
    if indexed and labels:
        check_label(path, label_column)
    data = data_of(path) if indexed else path.parent if suffix == ".txt" else path
    if data is None:
        raise DataError(f"{path.name}: found no samples beside it, expected {expected_data(path)} with <id>.txt files")
    files = {path.stem: path.name} if suffix == ".txt" else _samples(data)
    rows = match(path if indexed else None, files, data.name, ".txt", skip_bad=skip_bad)
    wavelengths = wavelength_of(path, data)
    axis = read_wavelengths(wavelengths) if wavelengths else None
    width, like = (len(axis), wavelengths.name) if axis is not None and wavelengths else _usual_width(data, rows.entries)
    parse = partial(parse_txt, source=str(data), width=width, like=like)
    with working_folder(store) as folder:
        filled = fill(folder, rows.entries, width, parse, name=data.name, known=rows.missing, skip_bad=skip_bad, alone=_ALONE)
    table = table_of(rows, filled, unit="" if axis is None else axis_unit(axis), axis=axis)
    return table.labelled(label_column, path.name) if labels else table


def _samples(data: Path) -> dict[str, str]:
    files = bundle(data)
    if not files:
        raise DataError(f"{data.name}: contains no .txt files, expected one <id>.txt per spectrum")
    return files


def parse_txt(entries: Sequence[str], *, source: str, width: int, like: str) -> Block:
    """Parse txt files of a folder or zip into rows (sample, position); a file's error becomes its problem.

    entries: as returned by `bundle`. width: values per file. like: where that number comes from, for errors.
    """
    parser, path, most = RowParser(width), Path(source), max(1, _TOGETHER // width)
    whose = path.name
    rows, problems = np.zeros((len(entries), width), np.float32), [""] * len(entries)
    texts: dict[int, tuple[str, bytes]] = {}
    for at, (name, text) in enumerate(contents(path, entries)):
        if isinstance(text, bytes):
            texts[at] = (f"{whose} {name}", text.removeprefix(_BOM))
        else:
            problems[at] = str(text)
        if len(texts) == most:
            _parse_some(parser, texts, rows, problems, like)
            texts = {}
    _parse_some(parser, texts, rows, problems, like)
    return Block(rows, problems)


def read_wavelengths(path: Path) -> NDArray[np.float64]:
    """Read the wavelength of each value (position,); DataError unless finite, above 0 and strictly increasing."""
    words = _BETWEEN.split(decoded(path.read_bytes().removeprefix(_BOM), path.name).strip())
    values = np.array([_exact(word, f"{path.name}: value {i}") for i, word in enumerate(words, 1)])
    falls = np.flatnonzero(np.diff(values, prepend=0.0) <= 0)
    if len(falls):
        at = int(falls[0])
        than = f"more than the previous one, {words[at - 1].strip()[:40]}" if at else "a wavelength above 0"
        raise DataError(f"{path.name}: value {at + 1} is {words[at].strip()[:40]}, expected {than}")
    return values


def axis_unit(axis: NDArray[np.float64]) -> str:
    """The unit of wavelengths (position,): "2 angstrom" if each step is 2, "angstrom" if steps differ; likewise micron."""
    unit = "micron" if axis[-1] < _MICRON else "angstrom"
    steps = np.diff(axis)
    even = len(steps) and np.ptp(steps) <= _EVEN * steps.mean()
    return f"{steps.mean():.6g} {unit}" if even else unit


def _exact(word: str, place: str) -> float:
    number(word, place)  # a finite number, or an error
    return float(word)


def _parse_some(
    parser: RowParser, texts: Mapping[int, tuple[str, bytes]], rows: NDArray[np.float32], problems: list[str], like: str
) -> None:
    """Store the rows of some texts, or their errors, at their places. texts: place -> name and text."""
    together = parser.together([text for _, text in texts.values()]) if texts else None
    if together is not None:
        rows[list(texts)] = together
        return
    for at, (name, text) in texts.items():
        try:
            if not text.strip():
                raise DataError(f"{name}: file is empty, expected {parser.width} values as in {like}")
            rows[at] = parser.alone(text, name, like)
        except DataError as error:
            problems[at] = str(error)


def _usual_width(data: Path, entries: Sequence[str]) -> tuple[int, str]:
    """The most common number of values among some files spread over the source; DataError if none can be read."""
    there = [entry for entry in entries if entry]
    if not there:
        return 1, data.name  # no file of the index exists; the error is reported for each
    some = [there[i] for i in sorted({int(i) for i in np.linspace(0, len(there) - 1, _LOOKED_AT)})]
    read = [_width(text) for _, text in contents(data, some)]
    widths = Counter(width for width in read if isinstance(width, int) and width)
    if not widths:
        bad = next((error for error in read if isinstance(error, DataError)), None)
        raise bad or DataError(f"{data.name}: all .txt files are empty, expected comma-separated numbers")
    return widths.most_common(1)[0][0], f"most of {data.name}"


def _width(text: bytes | DataError) -> int | DataError:
    """The number of values in a text; 0 if it is empty."""
    if isinstance(text, DataError):
        return text
    return text.count(b",") + 1 if text.strip() else 0
