"""Recognises sources of spectra: an index with txt files in a folder or zip, FITS files, or either without an index."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from wavefold.data.bundles import files_below
from wavefold.data.csv_text import column_names, first_line, one_named
from wavefold.data.index_csv import data_of, index_files, is_index, is_part, meta_of, training_index, wavelength_of
from wavefold.data.layout import Found, Layout
from wavefold.data.sources import LAYOUTS as TABLES
from wavefold.data.sources import check_exists
from wavefold.domains.spectra.contest_txt import read_spectra
from wavefold.domains.spectra.fits_files import ENDS as FITS
from wavefold.domains.spectra.fits_files import LABELS, read_fits
from wavefold.domains.spectra.medium import MEDIUM

_HEAD = 2048  # bytes in which a .txt's first numbers are looked for, below comments


def sniff(path: Path, layout: str) -> float:
    """Confidence that a path holds spectra as txt (layout "spectra") or as FITS files (layout "fits")."""
    name, sure = _kind(path)
    return sure if name == layout else 0.0


def locate(path: Path, layout: str) -> Found:
    """Find the index, or without one the folder, zip or file, with everything read beside it."""
    check_exists(path)
    path = path.absolute()  # "." has no name
    index = training_index(path) if path.is_dir() else None if _holds_samples(path) else path
    data: Path | None = path
    if index:
        data = index.parent if layout == "fits" else data_of(index)
    suffixes = FITS if layout == "fits" else (".txt",)
    wavelengths = wavelength_of(index or path, data) if layout == "spectra" else None
    meta = meta_of(index) if index else None
    others = [f for f in index_files(index.parent) if f != index] if index else []  # files they list are not strays
    files = [f for f in (index, meta, wavelengths, data, *others) if f is not None and f.is_file()]
    return Found(index or path, layout, tuple(files), meta, data if data is not None and data.is_dir() else None, suffixes)


def test_indexes(folder: Path) -> list[Path]:
    """The index files of a folder with `test` in their name."""
    return [f for f in index_files(folder) if is_part(f, "test")]


def _kind(path: Path) -> tuple[str, float]:
    """Which of the two layouts a source has, and the confidence; judged by names, columns and neighbouring files."""
    if path.is_file():
        if _holds_samples(path):
            return ("fits" if path.name.lower().endswith(FITS) else "spectra"), 0.5
        return (_kind_of(path), 0.6) if is_index(path) and _lists_files(path) else ("", 0.0)
    if not path.is_dir():
        return "", 0.0
    indexes = [f for f in index_files(path) if _lists_files(f)]
    if indexes:
        return _kind_of(training_index(path, strict=False) or indexes[0]), 0.6
    if any(f.name.lower().endswith(FITS) for f in path.iterdir()):
        return "fits", 0.5
    return ("spectra", 0.4) if any(map(_holds_numbers, path.iterdir())) else ("", 0.0)


def _kind_of(index: Path) -> str:
    return "fits" if data_of(index) is None and any(files_below(index.parent, FITS)) else "spectra"


def _lists_files(index: Path) -> bool:
    """Whether a CSV is an index, by its columns or by samples beside it, rather than a table of signals."""
    columns = column_names(first_line(index), index.name, numbered=True)
    if any(one_named(columns, column) for layout in TABLES.values() for column in layout.header):
        return False
    return bool(one_named(columns, "id") or one_named(columns, "file") or data_of(index))


def _holds_samples(path: Path) -> bool:
    return path.name.lower().endswith((".zip", *FITS)) or _holds_numbers(path)


def _holds_numbers(path: Path) -> bool:
    """Whether a file is a .txt that starts like a sample."""
    name = path.name.lower()
    if not name.endswith(".txt") or name.endswith("wavelength.txt") or not path.is_file():
        return False
    with open(path, "rb") as stream:
        text = stream.read(_HEAD).removeprefix(b"\xef\xbb\xbf")  # a byte-order mark
    numbers = re.sub(rb"(?m)^#.*\n?", b"", text)[:64]
    return bool(re.fullmatch(rb"[\s\d+\-.,;eE]+", numbers))


LAYOUTS = {
    "spectra": Layout(
        read_spectra,
        sniff=partial(sniff, layout="spectra"),
        locate=partial(locate, layout="spectra"),
        test_files=test_indexes,
        suffixes=(".txt", ".zip"),
        keeps="rows",
        one_file=False,
        options=("wavelength_unit", MEDIUM),
    ),
    "fits": Layout(
        read_fits,
        sniff=partial(sniff, layout="fits"),
        locate=partial(locate, layout="fits"),
        test_files=test_indexes,
        suffixes=FITS,
        keeps="rows",
        one_file=False,
        columns=LABELS,
        options=("grid", MEDIUM),
    ),
}
