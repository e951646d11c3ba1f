"""Writes the layout of PTB-XL: `ptbxl_database.csv`, `scp_statements.csv` and `records100/00000/00001_lr.hea` and `.dat`.

Records are in WFDB's format 16 with a step of 0.001 mV (WFDB Applications Guide, header(5), signal(5)). The codes are the names
of the labels, each its own superclass, and SR, which says nothing. The CSV is written last; until then the records' folder
contains the file `.unfinished`: one with that file and without the CSV was left by a killed process and is rewritten.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, UserError
from wavefold.core.files import write_text
from wavefold.core.process import is_main_process
from wavefold.core.progress import Progress
from wavefold.data.csv_rows import csv_rows
from wavefold.data.dataset import UNIT, Dataset, Floats
from wavefold.data.lazy import row_blocks
from wavefold.data.units import is_same
from wavefold.domains.heartbeat.ptbxl import CODES, DATABASE, RATES, STATEMENTS
from wavefold.domains.heartbeat.signal_choice import MILLIVOLT
from wavefold.domains.heartbeat.twelve_leads import LEADS, length_at

FOLDS = 10  # of strat_fold
_GAIN = 1000  # stored values per mV
_LARGEST = 32767  # stored; -32768 marks an invalid value
_BLOCK = 256  # records at a time: 12 MB at 100 Hz
_A_FOLDER = 1000  # records
_UNFINISHED = ".unfinished"


def write_ptbxl(dataset: Dataset, folder: Path) -> Path:
    """Write records (sample, 12, 10 s) in mV in PTB-XL's layout and return its CSV; the same dataset gives the same bytes.

    The unit says the rate: "1/100 s", as without one, or "1/500 s". Labels come from `targets`, else from the classes. Each
    patient (group) has one strat_fold of 1 to 10. UserError if the CSV or the records' folder already exists, unless it is
    incomplete; DataError for data that the layout cannot represent, such as values beyond 32.767 mV.
    """
    rate = _check(dataset)
    records, table = folder / f"records{rate}", folder / DATABASE
    paths = [f"{records.name}/{n // _A_FOLDER * _A_FOLDER:05}/{n:05}_{RATES[rate][-2:]}" for n in range(1, len(dataset) + 1)]
    text, statements = _table(dataset, paths, rate), _statements(_labels(dataset)[0])
    if is_main_process():  # other processes may see what the main process has just written
        _make_room(table, records)
        _write_records(dataset, folder, records, paths, rate)
        write_text(folder / STATEMENTS, statements)
        write_text(table, text)
        (records / _UNFINISHED).unlink()
    return table


def _check(dataset: Dataset) -> int:
    """The rate in values per second; DataError if samples are not records of ten seconds and twelve leads."""
    rate = next((rate for rate in RATES if f"1/{rate} s" == (dataset.unit or "1/100 s")), 0)
    if not rate:
        raise DataError(f"{dataset.source}: positions are {dataset.unit} apart; PTB-XL's layout supports 1/100 s and 1/500 s")
    if dataset.signals.shape[1:] != (len(LEADS), length_at(rate)):
        shape = " x ".join(map(str, dataset.signals.shape[1:]))
        raise DataError(f"{dataset.source}: samples have shape {shape}; PTB-XL's layout needs {len(LEADS)} x {length_at(rate)}")
    unit = dataset.attrs.get(UNIT, MILLIVOLT)
    if not is_same(unit, MILLIVOLT):
        raise DataError(f"{dataset.source}: values are in {unit}; PTB-XL's layout needs {MILLIVOLT}")
    return rate


def _make_room(table: Path, records: Path) -> None:
    if table.exists():
        raise UserError(f"{table}: already exists; choose another folder")
    if (records / _UNFINISHED).exists():
        shutil.rmtree(records)
    elif records.exists():
        raise UserError(f"{records}: already exists; choose another folder")
    records.mkdir(parents=True)
    write_text(records / _UNFINISHED, f"{table.name} is written after all records\n")


def _write_records(dataset: Dataset, folder: Path, records: Path, paths: Sequence[str], rate: int) -> None:
    """Write the records and flush them all at the end: flushing each would take longer than writing it."""
    with _nothing_left(records), Progress(f"writing {records.name}", len(dataset), "records") as progress:
        for place in sorted({Path(path).parent for path in paths}):
            (folder / place).mkdir(exist_ok=True)
        for rows in row_blocks(len(dataset), _BLOCK):
            ids = dataset.ids[rows].tolist()
            for path, values in zip(paths[rows], _stored(dataset.signals[rows], ids, dataset.source), strict=True):
                (folder / f"{path}.dat").write_bytes(values.T.tobytes())
                (folder / f"{path}.hea").write_text(_header(Path(path).name, values, rate))
            progress.update(rows.stop)
    getattr(os, "sync", lambda: None)()  # Windows has none


@contextmanager
def _nothing_left(records: Path) -> Iterator[None]:
    """Delete what was written on any error, such as a full disk."""
    try:
        yield
    except BaseException:
        shutil.rmtree(records, ignore_errors=True)
        raise


def _stored(values: Floats, ids: Sequence[str], source: str) -> NDArray[np.int16]:
    """Values in mV as stored, (sample, lead, position)."""
    scaled = np.rint(values * np.float64(_GAIN))
    bad = ~(np.abs(scaled) <= _LARGEST).reshape(len(scaled), -1).all(axis=1)
    if bad.any():
        at = int(np.argmax(bad))
        worst = values[at][~(np.abs(scaled[at]) <= _LARGEST)][0]
        raise DataError(f"{source}: id {ids[at]!r} has the value {worst:g}; 16-bit records need values up to 32.767 mV")
    return scaled.astype("<i2")


def _header(name: str, values: NDArray[np.int16], rate: int) -> str:
    """The header of a record. values: (lead, position); a lead's checksum is the sum of its values in 16 bits."""
    sums = (values.sum(axis=1, dtype=np.int64) % 65536).tolist()
    lines = [f"{name} {len(values)} {rate} {values.shape[1]}"]
    for lead, first, total in zip(LEADS, values[:, 0].tolist(), sums, strict=True):
        lines.append(f"{name}.dat 16 {_GAIN}.0(0)/mV 16 0 {first} {total} 0 {lead.upper()}")
    return "\n".join(lines) + "\n"


def _table(dataset: Dataset, paths: Sequence[str], rate: int) -> str:
    names, rows = _labels(dataset)
    patients = dataset.ids.tolist() if dataset.groups is None else dataset.groups.tolist()
    fold = {patient: i % FOLDS + 1 for i, patient in enumerate(dict.fromkeys(patients))}
    columns: dict[str, Sequence[object]] = {
        "ecg_id": dataset.ids.tolist(),
        "patient_id": patients,
        CODES: [repr({names[i]: 100.0 for i in np.flatnonzero(row).tolist()} | {"SR": 0.0}) for row in rows],
        "strat_fold": [fold[patient] for patient in patients],
        RATES[rate]: paths,
    }
    columns = {**columns, **{name: words.tolist() for name, words in dataset.columns.items() if name not in columns}}
    return csv_rows([list(columns), *zip(*columns.values(), strict=True)], DATABASE)


def _labels(dataset: Dataset) -> tuple[Sequence[str], NDArray[np.bool_]]:
    """Names of the labels, and which each sample has (sample, label)."""
    if dataset.targets is not None:
        return dataset.target_names, dataset.targets > 0.5
    if dataset.labels is not None:
        return dataset.classes, np.eye(len(dataset.classes), dtype=bool)[dataset.labels]
    return (), np.zeros((len(dataset), 0), bool)


def _statements(names: Sequence[str]) -> str:
    head = ["", "description", "diagnostic", "form", "rhythm", "diagnostic_class"]
    rows = [[name, f"simulated {name}", "1.0", "", "", name] for name in names]
    return csv_rows([head, *rows, ["SR", "sinus rhythm", "", "", "1.0", ""]], STATEMENTS)
