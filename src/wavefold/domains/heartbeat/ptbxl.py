"""Reads PTB-XL (Wagner et al. 2020, Scientific Data 7, 154; PhysioNet): `ptbxl_database.csv` and WFDB records of 12 leads.

The CSV has one row per record: `ecg_id`, `patient_id`, `scp_codes` such as "{'NORM': 100.0, 'SR': 0.0}", `strat_fold`, and the
record's path at 100 Hz (`filename_lr`) and at 500 Hz (`filename_hr`). `scp_statements.csv` beside it gives the diagnostic
superclass of each code; without it those of PTB-XL itself are used. A record has the superclasses of all its diagnostic codes,
whatever their likelihood (Strodthoff et al. 2020, IEEE J. Biomed. Health Inform. 25, 1519).
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from wavefold.core.errors import DataError, UserError
from wavefold.data.csv_text import column_place, missing, one_named, read_words
from wavefold.data.dataset import UNIT, Ints, Strings, check_ids
from wavefold.data.table import Table
from wavefold.domains.heartbeat.signal_choice import MILLIVOLT
from wavefold.domains.heartbeat.twelve_leads import fill_records

DATABASE = "ptbxl_database.csv"
STATEMENTS = "scp_statements.csv"
CODES = "scp_codes"
SUPERCLASS = "diagnostic_superclass"
RATES = {100: "filename_lr", 500: "filename_hr"}  # values per second -> column of the records' paths
JOINT = ";"  # between the words of one field
# the diagnostic codes of PTB-XL's own statements, for folders that lack the file
_OF_SUPERCLASS = {
    "NORM": "NORM",
    "MI": "IMI ASMI ILMI AMI ALMI INJAS LMI INJAL IPLMI IPMI INJIN INJLA PMI INJIL",
    "STTC": "NDT NST_ DIG LNGQT ISC_ ISCAL ISCIN ISCIL ISCAS ISCLA ANEUR EL ISCAN",
    "CD": "LAFB IRBBB 1AVB IVCD CRBBB CLBBB LPFB WPW ILBBB 3AVB 2AVB",
    "HYP": "LVH LAO/LAE RVH RAO/RAE SEHYP",
}
OWN_SUPERCLASSES = {code: name for name, codes in _OF_SUPERCLASS.items() for code in codes.split()}
_EXAMPLE = f"ecg_id,patient_id,{CODES},strat_fold,filename_lr"
_YES = ("1", "1.0", "True")


def read_ptbxl(
    path: Path,
    *,
    rate: int = 0,
    label_column: str = "",
    group: str = "",
    labels: bool = True,
    skip_bad: bool = False,
    store: Path | None = None,
) -> Table:
    """Records (sample, 12, position) in millivolt of the CSV at `path` or of its folder; ids are `ecg_id`.

    Leads are I, II, III, aVR, aVL, aVF, V1 to V6. rate: 100 or 500 values per second, else UserError; 0 takes the lower one
    that is there. Columns: all of the CSV, with `scp_codes` as "NORM;SR", and `diagnostic_superclass` such as "CD;MI".
    label_column: any of these; "" means none. group is ignored: all columns are kept. With
    skip_bad, unreadable records are listed in left_out; otherwise the first one raises DataError.
    """
    path = path.absolute()  # "." has no name
    file = path / DATABASE if path.is_dir() else path
    columns, lines = read_words(file, example=_EXAMPLE)
    if labels and label_column:
        column_place([*columns, SUPERCLASS], label_column, file.name)
    ids = check_ids(_column(columns, "ecg_id", file.name), lines, file.name)
    names = _files(columns, lines, file, rate := _rate(columns, file, rate))
    codes = _codes(_column(columns, CODES, file.name), lines, file.name) if labels or one_named(columns, CODES) else None
    filled = fill_records(file.parent, names, rate, store, skip_bad=skip_bad)
    words = {name: np.array(column, np.str_) for name, column in columns.items()} | (
        {} if codes is None else _meanings(codes, file.parent)
    )
    table = Table(
        signals=filled.signals,
        ids=ids[filled.kept],
        lines=lines[filled.kept],
        columns={name: column[filled.kept] for name, column in words.items()},
        unit=f"1/{rate} s",
        left_out=tuple((str(ids[i]), why) for i, why in sorted(filled.problems.items())),
        digest=filled.digest,
        attrs={UNIT: MILLIVOLT},
    )
    return table.labelled(label_column, file.name) if labels else table


def superclasses(path: Path) -> dict[str, str]:
    """The diagnostic superclass (NORM, MI, STTC, CD, HYP) of each diagnostic code of an `scp_statements.csv`."""
    columns, _ = read_words(path, example=",description,diagnostic,diagnostic_class")
    code = next(iter(columns.values()))  # the first column, whose name is often empty
    diagnostic, name = (_column(columns, column, path.name) for column in ("diagnostic", "diagnostic_class"))
    return {c: n for c, d, n in zip(code, diagnostic, name, strict=True) if d.strip() in _YES and n}


def _column(columns: Mapping[str, Sequence[str]], wanted: str, name: str) -> Sequence[str]:
    found = one_named(columns, wanted)
    if not found:
        raise missing(list(columns), wanted, name, f"; expected {_EXAMPLE}" if name == DATABASE else "")
    return columns[found]


def _rate(columns: Mapping[str, Sequence[str]], file: Path, rate: int) -> int:
    """The rate to read: the one wanted, or for 0 the lower one whose first records are there."""
    if rate not in (0, *RATES):
        raise UserError(f"data.rate: {rate} values per second; PTB-XL has 100 (filename_lr) and 500 (filename_hr)")
    if rate:
        return rate
    there = [r for r, name in RATES.items() if (found := one_named(columns, name)) and _any_there(file.parent, columns[found])]
    if not there:
        raise DataError(f"{file.name}: found no record of filename_lr or filename_hr in {file.parent.name}; download them too")
    return there[0]


def _any_there(folder: Path, names: Iterable[str]) -> bool:
    return any(name and os.path.isfile(folder / f"{name}.hea") for name in names)


def _files(columns: Mapping[str, Sequence[str]], lines: Ints, file: Path, rate: int) -> Sequence[str]:
    """The records' paths at a rate, relative to the folder; DataError for one that leads outside it."""
    names = _column(columns, RATES[rate], file.name)
    for name, line in zip(names, lines.tolist(), strict=True):
        parts = re.split(r"[/\\]", name)
        if not parts[0] or ".." in parts or ":" in name or not name.isprintable():
            raise DataError(f"{file.name} line {line}: {RATES[rate]} {name[:80]!r} is not a path inside the folder")
    return names


def _codes(words: Sequence[str], lines: Ints, name: str) -> list[tuple[str, ...]]:
    """Each row's codes, in the order of its dict."""
    known: dict[str, tuple[str, ...]] = {}
    for word, line in zip(words, lines.tolist(), strict=True):
        if word not in known:
            known[word] = _keys(word, f"{name} line {line}")
    return [known[word] for word in words]


def _keys(word: str, place: str) -> tuple[str, ...]:
    """The keys of a dict written in Python; DataError for any other text."""
    try:
        value = ast.literal_eval(word.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, dict) or not all(isinstance(key, str) and JOINT not in key for key in value):
        raise DataError(f"{place}: {CODES} {word[:60]!r} is not a dict of codes, such as {{'NORM': 100.0, 'SR': 0.0}}")
    return tuple(value)


def _meanings(codes: Sequence[tuple[str, ...]], folder: Path) -> dict[str, Strings]:
    """The codes as text, and their superclasses in alphabetical order: those of the statements, if these are there."""
    statements = folder / STATEMENTS
    of = superclasses(statements) if statements.is_file() else OWN_SUPERCLASSES
    rows = {row: JOINT.join(sorted({of[code] for code in row if code in of})) for row in set(codes)}
    words = {CODES: [JOINT.join(row) for row in codes], SUPERCLASS: [rows[row] for row in codes]}
    return {name: np.array(column, np.str_) for name, column in words.items()}
