"""Reads records of 12 leads with diagnoses in their headers, as in the PhysioNet/CinC Challenges 2020 and 2021.

Each header has lines such as `# Age: 50`, `# Sex: Male` and `# Dx: 426783006,164889003` (SNOMED CT codes); signals are in .mat
or .dat files. Sources: Perez Alday et al. 2020, Physiological Measurement 41, 124003; Reyna et al. 2021.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np

from wavefold.core.errors import DataError
from wavefold.data.bundles import files_below, natural
from wavefold.data.csv_text import column_place
from wavefold.data.dataset import UNIT, Strings
from wavefold.data.store import Filled
from wavefold.data.table import Table
from wavefold.domains.heartbeat.signal_choice import MILLIVOLT
from wavefold.domains.heartbeat.twelve_leads import LEADS, fill_records

NOTES = ("Dx", "Age", "Sex")  # comments of the headers that become columns
COLUMNS = (*NOTES, "record")
_LEADS = frozenset(lead.upper() for lead in LEADS)
_LOOKED_AT = 64  # headers sampled to find the usual rate
_DIAGNOSIS = re.compile(rb"^#\s*Dx\s*:", re.MULTILINE | re.IGNORECASE)
_HEAD = 1 << 14  # bytes of a header that are looked at
_FEW = 5  # headers looked at to recognise a folder
_DEPTH, _FOLDERS = 3, 64  # how far below a folder headers are looked for


def read_cinc(
    path: Path,
    *,
    label_column: str = "",
    group: str = "",
    labels: bool = True,
    skip_bad: bool = False,
    store: Path | None = None,
) -> Table:
    """The first 10 s (sample, 12, position) in millivolt of a folder's records and its subfolders', or of one .hea.

    Leads are I, II, III, aVR, aVL, aVF, V1 to V6; ids are the records' names. Columns: `Dx` (codes joined by ";"), `Age`, `Sex`
    and `record`. label_column: one of these; "" means none. All records must have one rate: the most common of some spread over
    the source. group is ignored. With skip_bad, unreadable records are listed in left_out; otherwise the first one raises
    DataError.
    """
    if labels and label_column:
        column_place(COLUMNS, label_column, path.name)
    path = path.absolute()  # "." has no name
    root = path if path.is_dir() else path.parent
    entries = _entries(path)
    rate = _usual_rate(root, list(entries.values()))
    filled = fill_records(root, list(entries.values()), rate, store, notes=NOTES, skip_bad=skip_bad)
    table = _table(filled, np.array(list(entries), np.str_), rate)
    return table.labelled(label_column, path.name) if labels else table


def first_headers(folder: Path) -> list[Path]:
    """Headers of the first folder with any, at or below `folder`; none if that folder also has annotations (.atr)."""
    for place in _folders(folder):
        names = _names(place)
        headers = sorted(name for name in names if name.endswith(".hea"))
        if headers:
            return [] if any(name.endswith(".atr") for name in names) else [place / name for name in headers]
    return []


def has_diagnoses(headers: Iterable[Path]) -> bool:
    """Whether one of the first few headers has a line `# Dx: ...`."""
    return any(_DIAGNOSIS.search(_head(header)) for header in islice(headers, _FEW))


def _table(filled: Filled, ids: Strings, rate: float) -> Table:
    facts = {name: np.array(words, np.str_) for name, words in filled.facts.items()}
    facts["Dx"] = np.array([";".join(re.findall(r"[^\s,;]+", word)) for word in filled.facts["Dx"]], np.str_)
    kept = ids[filled.kept]
    return Table(
        signals=filled.signals,
        ids=kept,
        lines=filled.kept + 1,
        columns={**{name: facts[name] for name in NOTES}, "record": kept},
        unit=f"1/{rate:g} s",
        left_out=tuple((str(ids[i]), why) for i, why in sorted(filled.problems.items())),
        digest=filled.digest,
        attrs={UNIT: MILLIVOLT},
    )


def _entries(path: Path) -> dict[str, str]:
    """Records by name, with their paths below the folder without suffix, in natural order; DataError if two share a name."""
    if path.is_file():
        return {path.stem: path.stem}
    found: dict[str, str] = {}
    for name in sorted((file.name for file in files_below(path, (".hea",))), key=natural):
        entry = name[: -len(".hea")]
        stem = entry.rpartition("/")[2]
        if stem in found:
            raise DataError(
                f"{path.name}: contains the record {stem} twice ({found[stem]}.hea and {name}), expected one record per name"
            )
        found[stem] = entry
    if not found:
        raise DataError(f"{path.name}: contains no .hea files, expected WFDB records of {len(LEADS)} leads")
    return found


def _usual_rate(root: Path, entries: Sequence[str]) -> float:
    """The most common rate in values per second among some headers; DataError if none states one."""
    some = [entries[i] for i in sorted({int(i) for i in np.linspace(0, len(entries) - 1, _LOOKED_AT)})]
    rates = Counter(rate for entry in some if (rate := _rate_of(_head(root / f"{entry}.hea"))))
    if not rates:
        raise DataError(f"{some[0]}.hea: states no rate; expected a first line such as 'A0001 12 500 5000'")
    return rates.most_common(1)[0][0]


def _rate_of(head: bytes) -> float:
    """The rate of the leads in a header, `name leads rate length` in its first line times samples per frame; 0 if none."""
    text = head.decode("latin-1").splitlines()
    lines = [words for line in text if not line.startswith("#") and (words := line.split())]
    words = lines[0] if lines else []
    found = re.match(r"\d+(\.\d+)?", words[2]) if len(words) > 2 else None
    frames = (re.match(r"\d+x(\d+)", line[1]) for line in lines[1:] if line[1:] and line[-1].upper() in _LEADS)
    return float(found[0]) * max((int(many[1]) for many in frames if many), default=1) if found else 0.0


def _head(header: Path) -> bytes:
    with suppress(OSError), open(header, "rb") as stream:
        return stream.read(_HEAD)
    return b""


def _folders(folder: Path) -> Iterator[Path]:
    """The folder and those below it, nearest first, up to a depth and a number."""
    level, seen = [folder], 0
    for _ in range(_DEPTH + 1):
        yield from level[: _FOLDERS - seen]
        seen += len(level)
        level = [place for above in level for place in _below(above)] if seen < _FOLDERS else []


def _names(folder: Path) -> list[str]:
    with suppress(OSError):
        return os.listdir(folder)
    return []


def _below(folder: Path) -> list[Path]:
    with suppress(OSError), os.scandir(folder) as scan:
        return sorted(Path(entry.path) for entry in scan if entry.is_dir(follow_symlinks=False) and entry.name[0] != ".")
    return []
