"""Reads the Tianchi LAMOST contest's layout (2018): an index CSV `id,type` and one `<id>.txt` per spectrum, in a folder or zip.

Each txt is one line of comma-separated fluxes. The zip is read in place. index_csv.py describes which file belongs to which
index. `wavelength.txt`, comma-separated or one number per line, gives the wavelength of each position, in the unit of the
option wavelength_unit; without it in micron if all are below 100, else in angstrom (the contest: 3700 to 9098 angstrom; the
near infrared: 0.8 to 2.4 micron). A note says so if the numbers look like those of another unit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, plural
from wavefold.data.bundles import bundle, contents
from wavefold.data.csv_text import RowParser, decoded, number
from wavefold.data.index_csv import check_label, data_of, expected_data, match, table_of, wavelength_of
from wavefold.data.store import Block, fill, working_folder
from wavefold.data.table import Table
from wavefold.data.units import conversion
from wavefold.domains.spectra.medium import GRID_UNIT, MEDIUM

_ALONE = 4096  # minimum files to use all processors: this one reads as many in the second that others need to start
_TOGETHER = 1 << 15  # values per parse, about twelve files: 64 files exceed the processor's cache and take a third longer
_LOOKED_AT = 64  # files sampled to find the usual length
_BOM = b"\xef\xbb\xbf"
_BETWEEN = re.compile(r"\s*[,\n]\s*")  # wavelengths: joined by commas, or one a line
_MICRON = 100  # wavelengths below it are in micron: no such spectrograph reaches 100 angstrom or 100 micron
_LOGS = (3.0, 4.7)  # log10 of angstrom from 1000 angstrom to 5 micron: such numbers may be either
_NANO = (1100.0, 3000.0)  # first and last below these: nm rather than angstrom, of which few spectrographs see so little
_FAR = 60_000.0  # angstrom; beyond it, numbers look like wavenumbers, or a smaller unit
_LOG = "log10 angstrom"
_MOST_LOG = 30.0
_TABLE = 6  # columns; wavelength, flux, error, mask and the like are fewer
_GAPS = re.compile(r"\s*[,;]\s*|\s+")
_LIKE_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)
_EVEN = 1e-4  # fraction of a step by which steps may differ, for rounding of written wavelengths


def read_spectra(
    path: Path,
    *,
    label_column: str = "",
    group: str = "",
    labels: bool = True,
    wavelength_unit: str = "",
    medium: str = "",
    skip_bad: bool = False,
    store: Path | None = None,
) -> Table:
    """Read spectra (sample, 1, position) of an index, or of a zip, folder or single txt, where file names are the ids.

    label_column: "" means `type`, which a folder's training index must have if labels are wanted. group is ignored: all
    columns are kept. wavelength_unit: of wavelength.txt, as in `read_wavelengths`. medium: "vacuum" or "air" if known, kept in
    attrs. With skip_bad, unreadable samples are listed in left_out; otherwise the first one, in index order,
    raises DataError. store: folder for the array, where an interrupted read resumes; None uses a temporary one.
    """
    path = path.absolute()  # the parent of "7.txt" has no name
    suffix = path.suffix.lower() if path.is_file() else ""
    indexed = suffix not in ("", ".zip", ".txt")
    if indexed and labels:
        check_label(path, label_column)
    data = data_of(path) if indexed else path.parent if suffix == ".txt" else path
    if data is None:
        raise DataError(f"{path.name}: found no samples beside it, expected {expected_data(path)} with <id>.txt files")
    files = {path.stem: path.name} if suffix == ".txt" else _samples(data)
    rows = match(path if indexed else None, files, data.name, ".txt", skip_bad=skip_bad)
    file = wavelength_of(path, data)
    there = read_wavelengths(file, wavelength_unit) if file else None
    width, like = (len(there.values), there.name) if there else _usual_width(data, rows.entries)
    parse = partial(parse_txt, source=str(data), width=width, like=like)
    with working_folder(store) as folder:
        filled = fill(folder, rows.entries, width, parse, name=data.name, known=rows.missing, skip_bad=skip_bad, alone=_ALONE)
    table = table_of(rows, filled, unit=there.steps if there else "", axis=there.values if there else None)
    stated = {MEDIUM: medium} if medium and there else {}
    table = replace(table, attrs=stated, notes=there.notes if there else ())
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


@dataclass(frozen=True)
class Wavelengths:
    """The wavelengths of spectra."""

    name: str  # of their file
    values: NDArray[np.float64]  # (position,) in `unit`
    unit: str  # angstrom or micron
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> str:
        """The unit of an axis: "2 angstrom" if each step is 2, "angstrom" if steps differ; likewise micron."""
        steps = np.diff(self.values)
        even = len(steps) and np.ptp(steps) <= _EVEN * steps.mean()
        return f"{steps.mean():.6g} {self.unit}" if even else self.unit


def read_wavelengths(path: Path, unit: str = "") -> Wavelengths:
    """Read the wavelength of each value; DataError unless finite, above 0 and strictly increasing.

    unit: "angstrom", "nm", "micron" or "log10 angstrom"; "" guesses angstrom or micron by size. Micron stay micron; all others
    become angstrom.
    """
    words = _BETWEEN.split(decoded(path.read_bytes().removeprefix(_BOM), path.name).strip())
    values = np.array([_exact(word, f"{path.name}: value {i}") for i, word in enumerate(words, 1)])
    falls = np.flatnonzero(np.diff(values, prepend=0.0) <= 0)
    if len(falls):
        at = int(falls[0])
        than = f"more than the previous one, {words[at - 1].strip()[:40]}" if at else "a wavelength above 0"
        wave = (
            "; all values fall: if they are wavelengths, reverse them and each spectrum's fluxes; if they are wavenumbers in "
            "1/cm, write 1e8 / value instead, in this order"
        )
        falling = wave if len(values) > 2 and (np.diff(values) < 0).all() else ""
        raise DataError(f"{path.name}: value {at + 1} is {words[at].strip()[:40]}, expected {than}{falling}")
    if unit == _LOG:
        if values[-1] > _MOST_LOG:
            raise DataError(
                f"{path.name}: value {len(values)} is {words[-1].strip()[:40]}, too large for log10 of angstrom; "
                "set data.wavelength_unit to angstrom, nm or micron"
            )
        return Wavelengths(path.name, 10**values, GRID_UNIT)
    guess = unit or ("micron" if values[-1] < _MICRON else GRID_UNIT)
    if guess == "micron":
        return Wavelengths(path.name, values, guess, () if unit else _doubts(path.name, values, guess))
    factor, _ = conversion(guess, GRID_UNIT)
    return Wavelengths(path.name, values * factor, GRID_UNIT, () if unit else _doubts(path.name, values, guess))


def _doubts(name: str, values: NDArray[np.float64], guess: str) -> tuple[str, ...]:
    """A note where the numbers look like those of another unit than the one guessed by their size."""
    first, last = float(values[0]), float(values[-1])
    other, set_to = "", ""
    if guess == "micron" and first >= _LOGS[0] and last <= _LOGS[1]:
        other, set_to = "log10 of angstrom", f"'{_LOG}'"
    elif guess == GRID_UNIT and first < _NANO[0] and last < _NANO[1]:
        other, set_to = "nm", "nm"
    elif guess == GRID_UNIT and last > _FAR:
        other, set_to = "another unit", "theirs (angstrom, nm, micron), or write them in angstrom"
    words = f"{first:g} to {last:g} in {name} are taken as {guess}, but look like {other}; set data.wavelength_unit={set_to}"
    return (f"{words}; {guess} confirms the guess",) if other else ()


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
            shape = _shape_words(text)
            problems[at] = f"{name}: {shape}" if shape else str(error)


def _shape_words(text: bytes) -> str:
    """What a text of numbers looks like that is not one line joined by commas, and what is expected; "" if it is none."""
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    numbers = [_GAPS.split(line) for line in lines if not line.startswith("#") and not line.endswith(",")]
    counts = {len(words) for words in numbers}
    if not numbers or len(counts) > 1 or not all(_LIKE_NUMBER.fullmatch(word) for word in numbers[0] + numbers[-1]):
        return ""
    (columns,), rows = counts, len(numbers)
    if rows > 1 and columns > _TABLE:
        table = f"looks like a table of {rows:,} rows and {columns:,} columns; expected one spectrum a file, joined by commas"
        return f"{table}; if each row is a sample, save it as .csv with a line of column names"
    if rows > 1 and columns > 1:
        looks = f"{'two' if columns == 2 else columns} columns of {rows:,} rows, such as wavelength and flux"
    elif rows > 1:
        looks = f"one value a line ({rows:,} lines)"
    elif columns > 1 and "," not in lines[-1]:
        looks = f"{columns:,} values on a line without commas"
    else:
        looks = "numbers below a header" if len(lines) > rows else ""
    header = f", and {plural(len(lines) - rows, 'line')} of header" if len(lines) > rows and rows + columns > 2 else ""
    expected = "expected one line of fluxes joined by commas, and the wavelengths likewise once in wavelength.txt"
    return f"looks like {looks}{header}; {expected}" if looks else ""


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
