"""Reads PhysioNet's WFDB records (`.hea`, `.dat`, `.atr`) and cuts them into beats like those of the heartbeat contest.

Beats are cut as in the MIT-BIH table this project is evaluated on: lead MLII (else the first), resampled to 125 Hz by a
polyphase filter; one sample from each annotated R peak, 1.2 times the median beat interval of its 10-second window long,
at most 205 values, scaled to [0, 1], rounded to four decimals and zero-padded. Beats cut short by the record's end are
dropped, and so are those with samples that the record marks as invalid.

Labels follow AAMI's classes: 0 normal and bundle branch, 1 supraventricular ectopic, 2 ventricular ectopic and fusion,
3 paced or unclassifiable. Sources: Moody and Mark 2001; Goldberger et al. 2000 (PhysioNet).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from wavefold.core.errors import DataError, UserError
from wavefold.core.progress import Progress
from wavefold.core.registry import optional
from wavefold.data.dataset import Floats, Ints, Strings
from wavefold.data.table import Table
from wavefold.domains.heartbeat.format16 import Record, read_format16

wfdb = optional("wfdb", extra="ecg")

_Read = TypeVar("_Read")

SYMBOLS = {
    **dict.fromkeys("NLRBej", "0"),
    **dict.fromkeys("AaJSn", "1"),
    **dict.fromkeys("VEFr", "2"),
    **dict.fromkeys("/fQ?", "3"),
}
RATE = 125  # values per second, as in the contest
LENGTH = 205  # values, as in the contest
_WINDOW = 10 * RATE
_CUT = 1.2  # beat intervals


def read_record(path: Path) -> Record:
    """Read one record. path: without suffix. DataError if it is missing or cannot be read, whatever the package raises."""
    if not path.with_name(f"{path.name}.hea").is_file():
        raise DataError(f"{path.name}.hea: file not found")
    plain = read_format16(path)
    if plain is not None:
        return plain
    found = _of_package(path, lambda: wfdb.rdrecord(str(path)))
    values, rate = found.p_signal, float(found.fs or 0)
    if values is None or values.ndim != 2 or not values.size or not 0 < rate < np.inf:
        raise DataError(f"{path.name}: cannot be read as a WFDB record (no signals, or no rate)")
    return Record(
        name=path.name,
        values=values,
        leads=tuple(str(name) for name in found.sig_name),
        units=tuple(str(unit) for unit in found.units),
        rate=rate,
        comments=tuple(found.comments or ()),
    )


def read_wfdb(path: Path, *, label_column: str = "", group: str = "", labels: bool = True) -> Table:
    """Beats (sample, 1, position 1/125 s) of a folder's records, or of one .hea; id `record:sample`, column `record`.

    There are no columns to name: label_column must be "" if labels are requested. Beats are cut at the annotations even
    without labels. Reports on standard error how many beats were dropped for invalid samples.
    """
    if labels and label_column:
        raise DataError(f"{path.name}: WFDB records have no columns; unset the label column '{label_column}'")
    headers = sorted(path.glob("*.hea")) if path.is_dir() else [path]
    names = [header.stem for header in headers]
    parts = []
    with Progress(f"cutting {path.name}", len(names), "records") as progress:
        for done, header in enumerate(headers, 1):
            parts.append(_beats(header.with_suffix("")))
            progress.update(done)
    signals, samples, words = (np.concatenate([part[i] for part in parts]) for i in range(3))
    record = np.repeat(np.array(names, np.str_), [len(part[0]) for part in parts])
    valid = np.isfinite(signals).all(axis=1)
    if not valid.any():
        raise DataError(
            f"{path.name}: no annotated beat with only valid samples in {len(names)} record{'s' if len(names) != 1 else ''}"
        )
    if not valid.all():
        print(
            f"wavefold: {path.name}: {(~valid).sum():,} beat{'s' if (~valid).sum() != 1 else ''} with invalid samples left out",
            file=sys.stderr,
        )
        signals, samples, words, record = (values[valid] for values in (signals, samples, words, record))
    return Table(
        signals=signals[:, None, :],
        ids=np.char.add(np.char.add(record, ":"), samples.astype(np.str_)),
        lines=np.arange(1, len(signals) + 1),
        words=words if labels else None,
        columns={"record": record},
        classes=("0", "1", "2", "3"),
        unit="1/125 s",
    )


def fetch(database: str, folder: Path) -> Path:
    """Download a PhysioNet database (`mitdb`) into `folder` unless it exists; UserError for a bad name or failed download."""
    if not re.fullmatch(r"[\w.-]+", database):
        raise UserError(f"physionet:{database}: expected the short name of a database, such as physionet:mitdb")
    if folder.is_dir():
        return folder
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        wfdb.dl_database(database, dl_dir=str(part))
        os.replace(part, folder)
    except UserError:
        raise
    except Exception as error:  # the library passes on any exception of its network packages
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(
            f"physionet:{database}: download failed ({why}); check the name and the network, or give a folder of records"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def cut_beats(signal: Floats, peaks: Ints) -> tuple[Floats, Ints]:
    """Cut one lead (position 1/125 s) at its R peaks; returns scaled beats (beat, LENGTH) and the indices of their peaks."""
    length = np.minimum(np.round(_CUT * window_intervals(peaks)), LENGTH).astype(np.int64)
    kept = np.flatnonzero((peaks + length <= len(signal)) & (length > 1))
    inside = np.arange(LENGTH) < length[kept, None]
    values = signal[np.where(inside, peaks[kept, None] + np.arange(LENGTH), peaks[kept, None])]  # (beat, LENGTH)
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    scaled = np.round((values - low) / np.where(high > low, high - low, 1), 4)
    return np.where(inside, scaled, 0).astype(np.float32), kept


def window_intervals(peaks: Ints) -> NDArray[np.float64]:
    """The median beat interval of each peak's 10-second window, or of the record if the window has only one peak."""
    if not len(peaks):
        return np.zeros(0)
    whole = float(np.median(np.diff(peaks))) if len(peaks) > 1 else 0.0
    window = peaks // _WINDOW
    medians = np.full(int(window.max(initial=0)) + 1, whole, np.float64)
    starts = np.flatnonzero(np.diff(window, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(peaks)], strict=True):
        if end - start > 1:
            medians[window[start]] = np.median(np.diff(peaks[start:end]))
    return medians[window]


def _beats(path: Path) -> tuple[Floats, Ints, Strings]:
    """Beats of one record: (beat, LENGTH) values, the peaks' sample numbers at the record's rate, and the classes."""
    missing = [end for end in (".hea", ".atr") if not path.with_name(path.name + end).exists()]
    if missing:
        raise DataError(f"{path.name}{missing[0]}: file not found; the .atr file must mark the R peaks at which beats are cut")
    record, marks = read_record(path), _of_package(path, lambda: wfdb.rdann(str(path), "atr"))
    lead = record.leads.index("MLII") if "MLII" in record.leads else 0
    ratio = Fraction(RATE / record.rate).limit_denominator(1000)
    if not ratio:
        raise DataError(f"{path.name}: has {record.rate:g} values per second, expected at most {1000 * RATE:,}")
    signal = resample_poly(record.values[:, lead], ratio.numerator, ratio.denominator)
    words = np.array([SYMBOLS.get(symbol, "") for symbol in marks.symbol], np.str_)
    samples = np.asarray(marks.sample, np.int64)[words != ""]
    peaks = np.round(samples * ratio.numerator / ratio.denominator).astype(np.int64)
    beats, kept = cut_beats(signal, peaks)
    return beats, samples[kept], words[words != ""][kept]


def _of_package(path: Path, read: Callable[[], _Read]) -> _Read:
    """What the package reads; DataError in one line for whatever it raises for a damaged record."""
    try:
        return read()
    except UserError:  # the package is missing
        raise
    except Exception as error:  # damaged headers raise KeyError, TypeError, AttributeError, ...
        why = f"{type(error).__name__} {' '.join(str(error).split())}".strip()[:100]
        raise DataError(f"{path.name}: cannot be read as a WFDB record ({why})") from None
