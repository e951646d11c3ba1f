"""Resolves a file or folder to the files to read and their layout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from wavefold.core.errors import DataError, UserError, listed
from wavefold.data.bundles import files_below
from wavefold.data.header import column_names, missing, one_named
from wavefold.data.index_csv import data_of, index_files, is_index, is_part, meta_of, training_index, wavelength_of
from wavefold.data.text_lines import check_text, first_line
from wavefold.data.wide_csv import WORDS
from wavefold.domains.heartbeat.contest_csv import SIGNALS
from wavefold.domains.radio.contest_files import labels_in, lists_cadences, part_to_predict, parts_of
from wavefold.domains.radio.contest_npy import EXPECTED
from wavefold.domains.spectra.fits_files import ENDS as FITS

MANY = ("spectra", "fits", "cadence")  # layouts of a file a sample
_TEXT = (".csv", ".csv.gz", ".ts", ".ts.gz")
_RECORD = (".hea", ".dat", ".atr")
_CLOSE = 0.75  # a file name's likeness (difflib) from which on it is suggested


@dataclass(frozen=True)
class Found:
    """What will be read: a file (a folder for records, a header for one), its layout and a CSV of further columns beside it.

    Of many files: the index, or without one the folder, zip or file; and the folder whose files of certain ends count.
    """

    path: Path
    layout: str
    files: tuple[Path, ...]  # all whose bytes count
    meta: Path | None = None
    folder: Path | None = None
    ends: tuple[str, ...] = ()


def find(path: Path, layout: str) -> Found:
    """What a source's name stands for: the file or record, or a folder's training file or records. layout: may be "auto"."""
    record = path if path.suffix == ".hea" else Path(f"{path}.hea")
    if layout in ("auto", "wfdb") and record.is_file() and not path.is_dir():
        return Found(record, "wfdb", _record_files(record))
    if not path.exists():
        raise DataError(f"{path}: no such file or folder{_near(path)}")
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"{path}: neither a file nor a folder")
    many = layout if layout in MANY else _many(path) if layout == "auto" else ""
    if many == "cadence":
        return _found_cadences(path)
    if many:
        return _found_many(path, many)
    if path.is_file():
        return _found_file(path, layout)
    if layout == "wfdb" or (layout == "auto" and any(path.glob("*.hea"))):
        return _found_records(path, layout)
    return _found_train(path, layout)


def test_files(source: str | Path) -> list[Path]:
    """A folder's files named `test*` or `*_test`, each to be read by its own name; none of a file or of records.

    Of a folder with an index of many files, the index files with `test` in their name; of one of cadences, its folder `test`.
    """
    folder = Path(source).expanduser()
    many = _many(folder) if folder.is_dir() else ""
    if many == "cadence":
        return part_to_predict(folder)
    if many:
        return [f for f in index_files(folder) if is_part(f, "test")]
    if not folder.is_dir() or (any(folder.glob("*.hea")) and not _files_of(folder, "train")):
        return []
    return _files_of(folder, "test")


def files_read(source: str | Path) -> list[Path]:
    """The files, and folders of samples, that are read of a source and beside it; the source itself where it is a file."""
    path = Path(source).expanduser()
    alone = [path] if path.is_file() else []
    meta = _meta_beside(path) if path.is_file() else None
    try:
        found = find(path, "auto")
        parts, tests = parts_of(path) if found.layout == "cadence" else None, test_files(path)
    except (UserError, OSError, ValueError):  # read by a layout that is named, or not at all
        return alone if meta is None else [*alone, meta]
    listed_by = (parts.listing, parts.samples) if parts else ()
    further = (found.path, *found.files, found.folder, *listed_by, *tests)
    return [*alone, *(f for f in further if f is not None and f not in (path, path.parent))]


def _many(path: Path) -> str:
    """Which layout of many files a source has; '' where it has another one. Told by names, columns and what is beside."""
    if lists_cadences(path) if path.is_file() else labels_in(path):
        return "cadence"
    if path.is_file():
        if _holds_samples(path):
            return "fits" if path.name.lower().endswith(FITS) else "spectra"
        return _many_of(path) if is_index(path) and _lists_files(path) else ""
    if any(path.glob("*.hea")) or any(not is_index(f) for f in _files_of(path, "train")):
        return ""
    indexes = [f for f in index_files(path) if _lists_files(f)]
    if indexes:
        return _many_of(training_index(path, strict=False) or indexes[0])
    if any(f.name.lower().endswith(FITS) for f in path.iterdir()):
        return "fits"
    if any(map(_holds_numbers, path.iterdir())):
        return "spectra"
    return "cadence" if parts_of(path) else ""


def _many_of(index: Path) -> str:
    return "fits" if data_of(index) is None and any(files_below(index.parent, FITS)) else "spectra"


def _lists_files(index: Path) -> bool:
    """Whether a CSV's columns are those of an index, or samples lie beside it, rather than it holding signals of its own."""
    columns = column_names(first_line(index), index.name, numbered=True)
    listing = one_named(columns, "id") or one_named(columns, "file") or data_of(index)
    return bool(listing) and not one_named(columns, SIGNALS)


def _found_many(path: Path, layout: str) -> Found:
    index = training_index(path) if path.is_dir() else None if _holds_samples(path) else path
    data: Path | None = path
    if index:
        data = index.parent if layout == "fits" else data_of(index)
    ends = FITS if layout == "fits" else (".txt",)
    wavelengths = wavelength_of(index or path, data) if layout == "spectra" else None
    meta = meta_of(index) if index else None
    others = [f for f in index_files(index.parent) if f != index] if index else []  # what they list is no stray
    files = [f for f in (index, meta, wavelengths, data, *others) if f is not None and f.is_file()]
    return Found(index or path, layout, tuple(files), meta, data if data is not None and data.is_dir() else None, ends)


def _found_cadences(path: Path) -> Found:
    parts = parts_of(path)
    if parts is None:
        raise DataError(f"{path.name}: contains no .npy files; {EXPECTED}")
    return Found(parts.listing or parts.samples, "cadence", ())


def _holds_samples(path: Path) -> bool:
    return path.name.lower().endswith((".zip", *FITS)) or _holds_numbers(path)


def _holds_numbers(path: Path) -> bool:
    """Whether a file is a .txt that begins as a sample does."""
    name = path.name.lower()
    if not name.endswith(".txt") or name.endswith("wavelength.txt") or not path.is_file():
        return False
    with open(path, "rb") as stream:
        return bool(re.fullmatch(rb"(\xef\xbb\xbf)?[\s\d+\-.,eE]+", stream.read(64)))  # a byte-order mark may lead


def _found_file(path: Path, layout: str) -> Found:
    if layout == "wfdb":
        raise DataError(f"{path.name}: not a .hea file; layout wfdb needs a folder of .hea, .dat and .atr files, or one .hea")
    meta = _meta_beside(path)
    files = (path,) if meta is None else (path, meta)
    return Found(path, layout_of(path) if layout == "auto" else layout, files, meta)


def _found_records(path: Path, layout: str) -> Found:
    if not any(path.glob("*.hea")):
        raise DataError(f"{path.name}: contains no .hea files, expected WFDB records")
    if layout == "auto" and _files_of(path, "train"):
        raise DataError(f"{path.name}: contains both .hea files and {_files_of(path, 'train')[0].name}; give the path of one")
    files = tuple(sorted(f for f in path.iterdir() if f.suffix in _RECORD))
    return Found(path, "wfdb", files)


def _record_files(header: Path) -> tuple[Path, ...]:
    """The files of one record: those of its name, and those that its header names."""
    named = set(header.read_text(errors="replace").split())
    beside = (f for f in header.parent.iterdir() if f.suffix in _RECORD)
    return tuple(sorted(f for f in beside if f.stem == header.stem or f.name in named))


def _found_train(path: Path, layout: str) -> Found:
    files = _files_of(path, "train")
    if len(files) > 1:
        raise DataError(f"{path.name}: contains {listed(f.name for f in files)}; give the path of one of them")
    if not files:
        there = listed(sorted(f.name for f in path.iterdir())[:8]) or "nothing"
        raise DataError(
            f"{path.name}: contains {there}; expected one train*.csv, train*.csv.gz or *_TRAIN.ts, "
            "an *index*.csv beside the samples, a *labels*.csv beside .npy files, or .hea, .fits, .txt or .npy files; "
            "for a zip of .txt files, give the path of the zip"
        )
    return _found_file(files[0], layout)


def _files_of(folder: Path, part: str) -> list[Path]:
    """Files named `train*` or `*_train` (or test), in either case, less the *_meta ones."""
    pattern = re.compile(rf"({part}.*|.*_{part})")
    return sorted(
        f
        for f in folder.iterdir()
        if f.is_file() and (s := _stem(f).lower()) and pattern.fullmatch(s) and not s.endswith("_meta")
    )


def _stem(path: Path) -> str:
    """The name less its text suffix; '' where it has none that is read."""
    return next((path.name.removesuffix(end) for end in sorted(_TEXT, key=len)[::-1] if path.name.endswith(end)), "")


def _meta_beside(path: Path) -> Path | None:
    names = (path.with_name(f"{_stem(path)}_meta{end}") for end in (".csv", ".csv.gz"))
    return next((name for name in names if name.is_file()), None)


def layout_of(path: Path) -> str:
    """The layout detected from a file's suffix and column names; DataError if it cannot be detected."""
    check_text(path)
    if path.name.endswith((".ts", ".ts.gz")):
        return "ts"
    if not path.name.endswith((".csv", ".csv.gz")):
        raise DataError(f"{path.name}: not one of {listed(_TEXT)}; set its layout, such as --set data.layout=contest")
    columns = column_names(first_line(path), path.name, numbered=True)
    if one_named(columns, SIGNALS):
        return "contest"
    if len([c for c in columns if c.lower() not in WORDS]) < 2:
        raise missing(columns, SIGNALS, path.name, "; expected the contest's columns, or one column per position")
    return "wide"


def _near(path: Path) -> str:
    beside = [f.name for f in path.parent.iterdir()] if path.parent.is_dir() else []
    close = get_close_matches(path.name, beside, n=1, cutoff=_CLOSE)
    return f"; did you mean '{close[0]}'?" if close else ""
