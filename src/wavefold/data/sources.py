"""Resolves a user's path to the files to read and their layout."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from wavefold.core.errors import DataError, UserError, listed
from wavefold.core.registry import Table
from wavefold.data.arrays import read_arrays
from wavefold.data.arrow_tables import SUFFIXES as ARROW
from wavefold.data.arrow_tables import read_arrow
from wavefold.data.csv_text import check_text, column_names, first_line, is_number, missing, one_named
from wavefold.data.index_csv import is_index
from wavefold.data.layout import Found, Layout
from wavefold.data.other_kinds import unread_kind
from wavefold.data.packed import locate_packed, read_packed, sniff_packed
from wavefold.data.remote import is_url, local
from wavefold.data.ts import read_ts
from wavefold.data.wide_csv import read_wide
from wavefold.data.wide_header import WORDS, wide_header
from wavefold.data.zarr_arrays import locate_zarr, read_zarr, sniff_zarr

_TEXT = (".csv", ".csv.gz", ".ts", ".ts.gz")
_TABLES = (*_TEXT, *ARROW)
_CLOSE = 0.75  # minimum similarity (difflib) for suggesting a file name


def find(path: Path, layout: str) -> Found:
    """Find the files of a source. layout: "auto" takes the layout with the highest confidence."""
    name = _surest(path) if layout == "auto" else layout
    if layout == "auto" and name in ("", "wide"):
        return locate_table(path, "auto")  # reports what is missing
    return LAYOUTS[name].locate(path)


def test_files(source: str | Path) -> list[Path]:
    """List a folder's test files, as its layout names them, each to be read by its own name; empty for a file."""
    folder = local(source) if is_url(source) else Path(source).expanduser()
    name = _surest(folder) if folder.is_dir() else ""
    if name:
        return list(LAYOUTS[name].test_files(folder))
    return files_of(folder, "test") if folder.is_dir() else []


def files_read(source: str | Path) -> list[Path]:
    """List the files and sample folders read for a source, including those beside it; the source itself if it is a file."""
    if is_url(source):
        return []
    path = Path(source).expanduser()
    alone = [path] if path.is_file() else []
    meta = _meta_beside(path) if path.is_file() else None
    try:
        found = find(path, "auto")
        tests = test_files(path)
    except (UserError, OSError, ValueError):  # readable only with an explicit layout, or not at all
        return alone if meta is None else [*alone, meta]
    further = (found.path, *found.files, found.folder, *tests)
    return [*alone, *(f for f in further if f is not None and f not in (path, path.parent))]


def check_exists(path: Path) -> None:
    """Raise DataError, with the nearest name, unless the file or folder exists."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder{_near(path)}")
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"{path}: neither a file nor a folder")


def files_of(folder: Path, part: str) -> list[Path]:
    """Files named `train*` or `*_train` (or test), regardless of case, except *_meta files."""
    pattern = re.compile(rf"({part}.*|.*_{part})")
    return sorted(
        f
        for f in folder.iterdir()
        if f.is_file() and (s := _stem(f).lower()) and pattern.fullmatch(s) and not s.endswith("_meta")
    )


def table_in(path: Path) -> Path | None:
    """The sample file of a path: the path itself, or a folder's first training file that is not an index."""
    if path.is_file():
        return path
    return next((f for f in files_of(path, "train") if not is_index(f)), None) if path.is_dir() else None


def locate_table(path: Path, layout: str) -> Found:
    """Find a sample file, or a folder's only training file, with the CSV of further columns beside it.

    layout: "auto" uses the suffix and the columns. DataError if there is no such file, or if there are several.
    """
    check_exists(path)
    file = path if path.is_file() else _training_file(path)
    name = layout_of(file) if layout == "auto" else layout
    meta = _meta_beside(file)
    return Found(file, name, (file,) if meta is None else (file, meta), meta)


def layout_of(path: Path) -> str:
    """The layout detected from a file's suffix and column names; DataError if it cannot be detected."""
    if not path.name.endswith(_TEXT):
        raise DataError(f"{path.name}: {_why_unread(path)}")
    check_text(path)
    if path.name.endswith((".ts", ".ts.gz")):
        return "ts"
    columns = wide_header(first_line(path), path.name).columns
    needs = {name: layout.header for name, layout in LAYOUTS.items() if layout.header}
    for name, header in needs.items():
        if all(one_named(columns, column) for column in header):
            return name
    if len([c for c in columns if c.lower() not in WORDS]) < 2:
        first = next((header[0] for header in needs.values()), "0")
        raise missing(columns, first, path.name, "; expected the contest's columns, or one column per position")
    return "wide"


def _why_unread(path: Path) -> str:
    """Why a file of another suffix is not read, and what to do: convert it, or name the layout of a text with commas."""
    try:
        line = first_line(path)
    except DataError:
        if kind := unread_kind(path, b""):
            return kind
        raise  # not text either
    if kind := unread_kind(path, line):
        return kind
    known = f"not one of {listed((*_TABLES, '.npz'))}"
    if not line.isascii() or b"," not in line:
        words = line.split()
        spaced = len(words) > 1 and all(is_number(word.decode()) for word in words if word.isascii())
        made = f"pandas.read_csv('{path.name}', sep=r'\\s+', header=None).to_csv('{path.stem}.csv', index=False)"
        return f"{known}; {f'convert it, such as by {made}' if spaced else 'convert it to one of them'}"
    columns = wide_header(line, path.name).columns
    layouts = (name for name, layout in LAYOUTS.items() if layout.header and all(one_named(columns, c) for c in layout.header))
    return f"{known}; if it is a CSV, name its layout: --set data.layout={next(layouts, 'wide')}"


def sniff_table(path: Path, suffixes: tuple[str, ...], header: tuple[str, ...] = ()) -> float:
    """Confidence that a path holds a table of samples with one of the suffixes and, if given, the header's columns."""
    file = table_in(path)
    if file is None or not file.name.endswith(suffixes):
        return 0.0
    if header:
        try:
            check_text(file)
            columns = column_names(first_line(file), file.name, numbered=True)
        except DataError:  # locating the file will report the problem
            return 0.0
        if not all(one_named(columns, column) for column in header):
            return 0.0
    return (0.7 if path.is_dir() else 0.2) + (0.05 if header else 0.0)


def _tests(folder: Path) -> list[Path]:
    return files_of(folder, "test")


LAYOUTS: Table[Layout] = Table(
    "layouts",
    {
        "wide": Layout(
            read_wide,
            sniff=partial(sniff_table, suffixes=(".csv", ".csv.gz")),
            locate=partial(locate_table, layout="wide"),
            test_files=_tests,
            suffixes=(".csv", ".csv.gz"),
            options=("apart", "skip_bad"),
            in_parts=True,
        ),
        "ts": Layout(
            read_ts,
            sniff=partial(sniff_table, suffixes=(".ts", ".ts.gz")),
            locate=partial(locate_table, layout="ts"),
            test_files=_tests,
            suffixes=(".ts",),
            label_place="a line @classLabel true with the classes, and the class at the end of each line of data",
            options=("skip_bad",),
        ),
        "packed": Layout(
            read_packed,
            sniff=sniff_packed,
            locate=locate_packed,
            keeps="digest",
            one_file=False,
            row="sample",
            options=("grid", "rate", "signal", "wavelength_unit", "medium", "apart", "skip_bad"),
        ),
        "arrow": Layout(
            read_arrow,
            sniff=partial(sniff_table, suffixes=ARROW),
            locate=partial(locate_table, layout="arrow"),
            test_files=_tests,
            suffixes=ARROW,
            options=("apart", "skip_bad"),
            row="row",
        ),
        "zarr": Layout(
            read_zarr,
            sniff=sniff_zarr,
            locate=locate_zarr,
            label_place="an array 'labels'",
            row="sample",
            options=("skip_bad",),
        ),
        "arrays": Layout(
            read_arrays,
            sniff=partial(sniff_table, suffixes=(".npz",)),
            locate=partial(locate_table, layout="arrays"),
            suffixes=(".npz",),
            label_place="an array 'labels'",
            row="sample",
            options=("skip_bad",),
        ),
    },
)


def _surest(path: Path) -> str:
    """The layout with the highest confidence for a path; "" if none recognises it."""
    sure = {name: layout.sniff(path) for name, layout in LAYOUTS.items()}
    name = max(sure, key=sure.__getitem__)
    return name if sure[name] > 0 else ""


def _training_file(path: Path) -> Path:
    files = files_of(path, "train")
    if len(files) > 1:
        raise DataError(f"{path.name}: contains {listed(f.name for f in files)}; give the path of one of them")
    if not files:
        there = listed(sorted(f.name for f in path.iterdir())[:8]) or "nothing"
        raise DataError(
            f"{path.name}: contains {there}; expected one train*.csv, train*.csv.gz or *_TRAIN.ts, "
            "an *index*.csv beside the samples, a *labels*.csv beside .npy files, or .hea, .fits, .txt or .npy files; "
            "for a zip of .txt files, give the path of the zip"
        )
    return files[0]


def _stem(path: Path) -> str:
    """The name without its suffix; '' if it has no readable suffix."""
    return next((path.name.removesuffix(end) for end in sorted(_TABLES, key=len)[::-1] if path.name.endswith(end)), "")


def _meta_beside(path: Path) -> Path | None:
    names = (path.with_name(f"{_stem(path)}_meta{end}") for end in (".csv", ".csv.gz"))
    return next((name for name in names if name.is_file()), None)


def _near(path: Path) -> str:
    beside = [f.name for f in path.parent.iterdir()] if path.parent.is_dir() else []
    close = get_close_matches(path.name, beside, n=1, cutoff=_CLOSE)
    return f"; did you mean '{close[0]}'?" if close else ""
