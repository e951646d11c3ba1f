"""Layouts of heartbeat files: the contest's CSV; WFDB records, cut into beats or whole; and PTB-XL."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from wavefold.core.errors import DataError
from wavefold.data.layout import Found, Layout
from wavefold.data.sources import check_exists, files_of, locate_table, sniff_table
from wavefold.domains.heartbeat.cinc import COLUMNS, first_headers, has_diagnoses, read_cinc
from wavefold.domains.heartbeat.contest_csv import SIGNALS, read_contest
from wavefold.domains.heartbeat.ptbxl import DATABASE, STATEMENTS, SUPERCLASS, read_ptbxl
from wavefold.domains.heartbeat.wfdb import SIGNAL, read_wfdb
from wavefold.domains.heartbeat.wfdb_header import files_named

_CSV = (".csv", ".csv.gz")
_RECORD = (".hea", ".dat", ".atr")
_WHOLE = (".hea", ".dat", ".mat", ".xyz", ".bin")


def sniff_records(path: Path) -> float:
    """Return 0.9 for the path of a record, with or without .hea; 0.8 for a folder of records; else 0."""
    if _header(path).is_file() and not path.is_dir():
        return 0.9
    return 0.8 if path.is_dir() and any(path.glob("*.hea")) else 0.0


def locate_records(path: Path) -> Found:
    """Locate one record with the files that its header names, or all records of a folder; DataError if there are none."""
    header = _header(path)
    if header.is_file() and not path.is_dir():
        return Found(header, "wfdb", _record_files(header))
    check_exists(path)
    if path.is_file():
        raise DataError(f"{path.name}: not a .hea file; layout wfdb needs a folder of .hea, .dat and .atr files, or one .hea")
    if not any(path.glob("*.hea")):
        raise DataError(f"{path.name}: contains no .hea files, expected WFDB records")
    own = (f for f in path.iterdir() if f.suffix in _RECORD)
    return Found(path, "wfdb", tuple(sorted({*own, *(f for header in path.glob("*.hea") for f in files_named(header))})))


def locate_only_records(path: Path) -> Found:
    """Locate records as `locate_records` does; DataError if the folder also contains a training file, which is ambiguous."""
    _check_only_records(path)
    return locate_records(path)


def sniff_whole_records(path: Path) -> float:
    """Return 1 for the header of a record with a diagnosis and without beats, 0.85 for a folder of such, 0.65 for one above."""
    header = _header(path)
    if header.is_file() and not path.is_dir():
        return 1.0 if not header.with_suffix(".atr").exists() and has_diagnoses([header]) else 0.0
    headers = first_headers(path) if path.is_dir() else []
    if not has_diagnoses(headers):
        return 0.0
    return 0.85 if headers[0].parent == path else 0.65


def locate_whole_records(path: Path) -> Found:
    """Locate one record, or the records of a folder and its subfolders; DataError if the folder has a training file too."""
    header = _header(path)
    if header.is_file() and not path.is_dir():
        beside = (f for f in header.parent.iterdir() if f.suffix in _WHOLE and f.stem == header.stem)
        return Found(header, "cinc", tuple(sorted({*beside, *files_named(header)})))
    check_exists(path)
    if path.is_file():
        raise DataError(f"{path.name}: not a .hea file; layout cinc needs a folder of .hea files and signals, or one .hea")
    _check_only_records(path)
    return Found(path, "cinc", (), folder=path, suffixes=_WHOLE)


def sniff_ptbxl(path: Path) -> float:
    """Return 0.95 for a folder with PTB-XL's table of records, and for that table; else 0."""
    return 0.95 if (path / DATABASE).is_file() or (path.name == DATABASE and path.is_file()) else 0.0


def locate_ptbxl(path: Path) -> Found:
    """Locate PTB-XL's table in a folder or by itself, with the statements beside it; DataError if it is not there."""
    check_exists(path)
    table = path if path.is_file() else path / DATABASE
    if not table.is_file():
        raise DataError(f"{path.name}: contains no {DATABASE}, expected the folder of PTB-XL")
    statements = table.with_name(STATEMENTS)
    files = (table, statements) if statements.is_file() else (table,)
    return Found(table, "ptbxl", files, folder=table.parent, suffixes=_WHOLE)


def tests_beside_records(folder: Path) -> list[Path]:
    """Test files of a folder that also contains a training file; records have none."""
    return files_of(folder, "test") if files_of(folder, "train") else []


def _check_only_records(path: Path) -> None:
    if path.is_dir() and (tables := files_of(path, "train")):
        raise DataError(f"{path.name}: contains both .hea files and {tables[0].name}; give the path of one")


def _header(path: Path) -> Path:
    return path if path.suffix == ".hea" else Path(f"{path}.hea")


def _record_files(header: Path) -> tuple[Path, ...]:
    """The files of one record: those with its name, and those that its header names."""
    beside = (f for f in header.parent.iterdir() if f.suffix in _RECORD and f.stem == header.stem)
    return tuple(sorted({*beside, *files_named(header)}))


LAYOUTS = {
    "contest": Layout(
        read_contest,
        sniff=partial(sniff_table, suffixes=_CSV, header=(SIGNALS,)),
        locate=partial(locate_table, layout="contest"),
        test_files=partial(files_of, part="test"),
        suffixes=_CSV,
        header=(SIGNALS,),
        options=("skip_bad",),
        in_parts=True,
    ),
    "wfdb": Layout(
        read_wfdb,
        sniff=sniff_records,
        locate=locate_only_records,
        test_files=tests_beside_records,
        suffixes=(".zip",),
        one_file=False,
        row="sample",
        options=(SIGNAL, "skip_bad"),
    ),
    "ptbxl": Layout(
        read_ptbxl,
        sniff=sniff_ptbxl,
        locate=locate_ptbxl,
        suffixes=(".zip",),
        keeps="rows",
        one_file=False,
        columns=(SUPERCLASS,),
        no_labels=f"its records have several labels each: use recipe ecg12, or --set data.label={SUPERCLASS} to learn each "
        "combination of labels as a class",
        options=("rate",),
        groups=("patient_id",),
    ),
    "cinc": Layout(
        read_cinc,
        sniff=sniff_whole_records,
        locate=locate_whole_records,
        suffixes=(".zip",),
        keeps="rows",
        one_file=False,
        row="sample",
        columns=COLUMNS,
        no_labels="its records have several diagnoses each: use recipe ecg12 with --set data.label=Dx --set split.way=holdout "
        "--set 'data.classes=[\"CODE\", ...]', or --set data.label=Dx to learn each combination of codes as a class",
    ),
}
