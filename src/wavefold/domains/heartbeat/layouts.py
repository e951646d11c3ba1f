"""Layouts of heartbeat files: the contest's CSV, and WFDB records, in a folder or singly."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from wavefold.core.errors import DataError
from wavefold.data.layout import Found, Layout
from wavefold.data.sources import check_exists, files_of, locate_table, sniff_table
from wavefold.domains.heartbeat.contest_csv import SIGNALS, read_contest
from wavefold.domains.heartbeat.wfdb import read_wfdb

_CSV = (".csv", ".csv.gz")
_RECORD = (".hea", ".dat", ".atr")


def sniff_records(path: Path) -> float:
    """Return 1 for the path of a record, with or without .hea; 0.8 for a folder of records; else 0."""
    if _header(path).is_file() and not path.is_dir():
        return 1.0
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
    return Found(path, "wfdb", tuple(sorted(f for f in path.iterdir() if f.suffix in _RECORD)))


def locate_only_records(path: Path) -> Found:
    """Locate records as `locate_records` does; DataError if the folder also contains a training file, which is ambiguous."""
    if path.is_dir() and (tables := files_of(path, "train")):
        raise DataError(f"{path.name}: contains both .hea files and {tables[0].name}; give the path of one")
    return locate_records(path)


def tests_beside_records(folder: Path) -> list[Path]:
    """Test files of a folder that also contains a training file; records have none."""
    return files_of(folder, "test") if files_of(folder, "train") else []


def _header(path: Path) -> Path:
    return path if path.suffix == ".hea" else Path(f"{path}.hea")


def _record_files(header: Path) -> tuple[Path, ...]:
    """The files of one record: those with its name, and those that its header names."""
    named = set(header.read_text(errors="replace").split())
    beside = (f for f in header.parent.iterdir() if f.suffix in _RECORD)
    return tuple(sorted(f for f in beside if f.stem == header.stem or f.name in named))


LAYOUTS = {
    "contest": Layout(
        read_contest,
        sniff=partial(sniff_table, suffixes=_CSV, header=(SIGNALS,)),
        locate=partial(locate_table, layout="contest"),
        test_files=partial(files_of, part="test"),
        suffixes=_CSV,
        header=(SIGNALS,),
    ),
    "wfdb": Layout(
        read_wfdb,
        sniff=sniff_records,
        locate=locate_only_records,
        test_files=tests_beside_records,
        suffixes=(".zip",),
        one_file=False,
        row="sample",
    ),
}
