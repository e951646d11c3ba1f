"""Reads PhysioNet's WFDB records (`.hea`, `.dat`, `.atr`) and cuts them into beats like those of the heartbeat contest.

Beats are cut as in the MIT-BIH table this project is evaluated on: lead MLII (else as in `choose_signal`), resampled to 125 Hz
by a polyphase filter; one sample from each annotated R peak, 1.2 times the median beat interval of its 10-second window long,
at most 205 values, scaled to [0, 1], rounded to four decimals and zero-padded. Beats cut short by the record's end are
dropped, and so are those with samples that the record marks as invalid.

Labels follow AAMI's classes: 0 normal and bundle branch, 1 supraventricular ectopic, 2 ventricular ectopic and fusion,
3 paced or unclassifiable. Sources: Moody and Mark 2001; Goldberger et al. 2000 (PhysioNet).
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, UserError, listed, plural
from wavefold.core.progress import Progress
from wavefold.core.registry import later, optional
from wavefold.data.bundles import check_printable
from wavefold.data.dataset import Floats, Ints, Strings, check_ids
from wavefold.data.table import Table
from wavefold.domains.heartbeat.format16 import Record, read_format16
from wavefold.domains.heartbeat.signal_choice import (
    MILLIVOLT,
    SignalChoice,
    alternatives,
    choose_signal,
    millivolts,
    plain_name,
    volts,
)
from wavefold.domains.heartbeat.wfdb_header import GAP, segments_named, segments_of

wfdb = optional("wfdb", extra="ecg")
scipy_signal = later("scipy.signal")

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
_FEW = 5  # records named in a note
SIGNAL = "signal"  # the key of `attrs` and the option


def read_record(path: Path) -> Record:
    """Read one record. path: without suffix. DataError if it is missing or cannot be read, whatever the package raises."""
    if not os.path.isfile(f"{path}.hea"):  # False for a name that no disk can hold
        raise DataError(f"{path.name}.hea: file not found")
    plain = read_format16(path)
    if plain is not None:
        return plain
    if segments := segments_of(path.with_name(f"{path.name}.hea")):
        return _joined(path, segments)
    found = _of_package(path, lambda: wfdb.rdrecord(str(path), smooth_frames=False))  # each signal at its own rate
    signals, rate = found.e_p_signal, float(found.fs or 0)
    if not signals or not any(len(values) for values in signals) or not 0 < rate < np.inf:
        raise DataError(f"{path.name}: cannot be read as a WFDB record (no signals, or no rate)")
    names = found.sig_name or [None] * len(signals)
    return Record(
        name=path.name,
        signals=tuple(np.asarray(values, np.float64) for values in signals),
        leads=tuple(str(name or f"signal {at}") for at, name in enumerate(names)),  # as WFDB calls a signal without a name
        units=tuple(str(unit or MILLIVOLT) for unit in found.units),
        rates=tuple(rate * (frames or 1) for frames in found.samps_per_frame),
        rate=rate,
        comments=tuple(found.comments or ()),
    )


def _joined(path: Path, segments: Sequence[tuple[str, int]]) -> Record:
    """One record from segments, which may lack some of its signals; NaN where there is a gap. segments: names and frames.

    The package fails at gaps when each signal is wanted at its own rate.
    """
    head = _of_package(path, lambda: wfdb.rdheader(str(path)))
    rate, starts = float(head.fs or 0), np.cumsum([0, *(frames for _, frames in segments)])
    parts = [
        (start, _segment(path, name)) for (name, frames), start in zip(segments, starts, strict=False) if frames and name != GAP
    ]
    if not parts or not 0 < rate < np.inf:
        raise DataError(f"{path.name}: cannot be read as a WFDB record (no segments, or no rate)")
    leads = list(dict.fromkeys(lead for _, part in parts for lead in part.leads))
    signals, units, rates = list[NDArray[np.float64]](), list[str](), list[float]()
    for lead in leads:
        there = [(start, part, part.leads.index(lead)) for start, part in parts if lead in part.leads]
        facts = {(part.units[at], part.rates[at] / part.rate) for _, part, at in there}
        if len(facts) > 1:
            raise DataError(f"{path.name}: signal {lead} has several units or rates in its segments: {_segment_facts(facts)}")
        unit, frames = facts.pop()
        values = np.full(round(starts[-1] * frames), np.nan)
        for start, part, at in there:
            place = values[round(start * frames) :][: len(part.signals[at])]
            place[:] = part.signals[at][: len(place)]
        signals.append(values)
        units.append(unit)
        rates.append(rate * frames)
    return Record(path.name, tuple(signals), tuple(leads), tuple(units), tuple(rates), rate, tuple(head.comments or ()))


def _segment_facts(facts: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{unit} with {frames:g} values per frame" for unit, frames in sorted(facts))


def _segment(path: Path, name: str) -> Record:
    header = path.with_name(f"{name}.hea")
    if segments_of(header):
        raise DataError(f"{path.name}: its segment {name} has segments itself")
    try:
        return read_record(path.with_name(name))
    except DataError as error:
        raise DataError(f"{path.name}: its segment {error}") from None


def read_wfdb(
    path: Path,
    *,
    label_column: str = "",
    group: str = "",
    labels: bool = True,
    signal: str = "",
    skip_bad: bool = False,
) -> Table:
    """Beats (sample, 1, position 1/125 s) of a folder's records, or of one .hea; id `record:sample`, column `record`.

    There are no columns to name: label_column must be "" if labels are requested. Beats are cut at the annotations even
    without labels. signal: as in `choose_signal`. The number in an id counts at the signal's own rate. attrs: `signal`, the
    names taken, the most common first, or `signal` as given; `signal unit`, mV, to which volts are converted, if all are volts;
    `scale`. The notes list beats and records passed over, and each guess. With skip_bad, records that cannot be read are listed
    in left_out; otherwise the first one raises DataError.
    """
    if labels and label_column:
        raise DataError(f"{path.name}: WFDB records have no columns; unset the label column '{label_column}'")
    cuts, problems = _cuts(path.absolute(), signal, skip_bad)
    source = path.absolute().name
    if not cuts:
        raise DataError(f"{source}: none of the {len(problems)} records can be read; the first error: {problems[0][1]}")
    signals, samples, words = (np.concatenate([values[i] for values in (cut.arrays for cut in cuts)]) for i in range(3))
    record = np.repeat(np.array([cut.record for cut in cuts], np.str_), [len(cut.arrays[0]) for cut in cuts])
    valid = np.isfinite(signals).all(axis=1)
    if not valid.any():
        raise DataError(f"{source}: {_no_beats(cuts, len(valid))}")
    signals, samples, words, record = (values[valid] for values in (signals, samples, words, record))
    rows = np.arange(1, len(signals) + 1)
    return Table(
        signals=signals[:, None, :],
        ids=check_ids(np.char.add(np.char.add(record, ":"), samples.astype(np.str_)).tolist(), rows, source),
        lines=rows,
        words=words if labels else None,
        columns={"record": record},
        classes=("0", "1", "2", "3"),
        unit="1/125 s",
        left_out=tuple(problems),
        attrs=_stated([cut for cut in cuts if len(cut.arrays[0])], signal),
        notes=tuple(_notes(cuts, signal, int((~valid).sum()))),
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


@dataclass(frozen=True)
class _Cut:
    """What one record gives."""

    record: str
    arrays: tuple[Floats, Ints, Strings]  # (beat, LENGTH) values, sample numbers of their peaks, and classes
    chosen: SignalChoice
    others: tuple[str, ...]  # names of all signals
    unit: str
    rate: float  # of the signal, values per second
    clock: float  # of the annotations, ticks per second
    marks: int  # annotations of any kind
    doubles: tuple[str, ...]  # "1431 (N, V)": samples where several beats are marked
    outside: int  # beats marked before the beginning or beyond the end
    short: int  # beats that the end cuts short


def _cuts(path: Path, signal: str, skip_bad: bool) -> tuple[list[_Cut], list[tuple[str, str]]]:
    """The beats of each record, and the names and errors of those that cannot be read."""
    cuts, problems = list[_Cut](), list[tuple[str, str]]()
    headers = record_headers(path) if path.is_dir() else [path]
    with Progress(f"cutting {path.name}", len(headers), "records") as progress:
        for done, header in enumerate(headers, 1):
            try:
                check_printable(header.name, path.name)
                cuts.append(_beats(header.with_suffix(""), signal))
            except DataError as error:
                if not skip_bad:
                    raise
                problems.append((header.stem, str(error)))
            progress.update(done)
    return cuts, problems


def record_headers(folder: Path) -> list[Path]:
    """The headers of a folder's records, without those of the segments of others."""
    headers = sorted(folder.glob("*.hea"))
    segments = {name for header in headers for name in segments_named(header)}
    return [header for header in headers if header.stem not in segments]


def _beats(path: Path, wanted: str) -> _Cut:
    """Cut one record. path: without suffix."""
    missing = [end for end in (".hea", ".atr") if not path.with_name(path.name + end).exists()]
    if missing:
        raise DataError(
            f"{path.name}{missing[0]}: file not found; the .atr file must mark the R peaks at which beats are cut; "
            "whole records are read from a folder with ptbxl_database.csv, or with a Dx line in each .hea"
        )
    record, marks = read_record(path), _of_package(path, lambda: wfdb.rdann(str(path), "atr"))
    chosen = choose_signal(record.name, record.leads, record.units, wanted)
    rate, clock = record.rates[chosen.place], float(marks.fs or record.rate)
    ratio = Fraction(RATE / rate).limit_denominator(1000)
    if not ratio:
        raise DataError(f"{path.name}: has {rate:g} values per second, expected at most {1000 * RATE:,}")
    if not 0 < clock < np.inf:
        raise DataError(f"{path.name}.atr: has a time resolution of {clock:g} per second, expected more than 0")
    values = record.signals[chosen.place] * (millivolts(record.units[chosen.place]) or 1.0)
    symbols = np.array([symbol if symbol in SYMBOLS else "" for symbol in marks.symbol], np.str_)
    samples, symbols, doubles = _one_at_each(_on_clock(marks.sample, clock, rate)[symbols != ""], symbols[symbols != ""])
    there = (samples >= 0) & (samples < len(values))
    samples, symbols, outside = samples[there], symbols[there], int((~there).sum())
    peaks = np.round(samples * ratio.numerator / ratio.denominator).astype(np.int64)
    beats, kept = cut_beats(scipy_signal.resample_poly(values, ratio.numerator, ratio.denominator), peaks)
    words = np.array([SYMBOLS[symbol] for symbol in symbols.tolist()], np.str_)
    return _Cut(
        record=path.name,
        arrays=(beats, samples[kept], words[kept]),
        chosen=chosen,
        others=record.leads,
        unit=record.units[chosen.place],
        rate=rate,
        clock=clock,
        marks=len(marks.symbol),
        doubles=tuple(doubles),
        outside=outside,
        short=len(samples) - len(kept),
    )


def _on_clock(samples: Ints, clock: float, rate: float) -> Ints:
    """Annotated sample numbers of one clock as the nearest ones of another, both in ticks per second."""
    samples = np.asarray(samples, np.int64)
    return samples if clock == rate else np.round(samples * (rate / clock)).astype(np.int64)


def _one_at_each(samples: Ints, symbols: Strings) -> tuple[Ints, Strings, list[str]]:
    """The first beat at each sample, in order, and a word on each sample that has several."""
    single, first, count = np.unique(samples, return_index=True, return_counts=True)
    doubles = [f"{at} ({', '.join(symbols[samples == at].tolist())})" for at in single[count > 1].tolist()]
    return single, symbols[first], doubles


def _no_beats(cuts: Sequence[_Cut], beats: int) -> str:
    """Why no beat of some records is left. beats: how many were cut."""
    if beats:
        return f"no annotated beat with only valid samples in {plural(len(cuts), 'record')}"
    if any(cut.outside or cut.short for cut in cuts):
        return f"no annotated beat lies whole inside its record in {plural(len(cuts), 'record')}"
    return f"no annotated beats in {plural(len(cuts), 'record')}: {_some(_without_beats(cut) for cut in cuts)}"


def _without_beats(cut: _Cut) -> str:
    return f"{cut.record} ({plural(cut.marks, 'annotation')}, none marks a beat)"


def _stated(cuts: Sequence[_Cut], wanted: str) -> dict[str, str]:
    """What the records state of all beats."""
    names = Counter(_asked_as(cut) for cut in cuts)
    stated = {SIGNAL: wanted or ", ".join(name for name, _ in names.most_common())}
    stated |= {"signal unit": MILLIVOLT} if all(volts(cut.unit) for cut in cuts) else {}
    return {**stated, "scale": "each beat from 0 to 1", "rate": f"{RATE} Hz"}


def _asked_as(cut: _Cut) -> str:
    """What `choose_signal` takes this signal for: its name, or its number if others have that name or it has a comma."""
    name = plain_name(cut.chosen.name)
    alone = [plain_name(other) for other in cut.others].count(name) == 1
    return name if alone and alternatives(name) == [name] else str(cut.chosen.place + 1)


def _notes(cuts: Sequence[_Cut], wanted: str, invalid: int) -> Iterator[str]:
    """What was guessed and passed over, a line for each kind."""
    yield from _signal_notes([cut for cut in cuts if len(cut.arrays[0])], wanted)
    if unlike := [cut for cut in cuts if cut.clock != cut.rate]:
        first = unlike[0]
        yield (
            f"annotations on another clock than the signal's are converted: {_some(cut.record for cut in unlike)} "
            f"({first.clock:g} per second, the signal {first.rate:g})"
        )
    if unlike := [cut for cut in cuts if cut.rate != cuts[0].rate]:
        rates = Counter(f"{cut.rate:g}" for cut in cuts)
        there = ", ".join(f"{rate} Hz in {plural(count, 'record')}" for rate, count in rates.most_common())
        yield f"records have several rates, all resampled to {RATE} Hz: {there}"
    if silent := [cut for cut in cuts if not (len(cut.arrays[0]) or cut.outside or cut.short)]:
        yield f"no annotated beats in {plural(len(silent), 'record')}: {_some(map(_without_beats, silent))}"
    if doubles := [f"{cut.record}:{word}" for cut in cuts for word in cut.doubles]:
        yield f"several beats are annotated at one sample; the first of each is taken: {_some(doubles)}"
    if outside := [cut for cut in cuts if cut.outside]:
        total = plural(sum(cut.outside for cut in outside), "annotated beat")
        yield f"{total} outside the signal left out: {_some(f'{cut.record} ({cut.outside})' for cut in outside)}"
    if short := sum(cut.short for cut in cuts):
        yield f"{plural(short, 'beat')} cut short by the end of the record left out"
    if invalid:
        yield f"{plural(invalid, 'beat')} with invalid samples left out"


def _signal_notes(cuts: Sequence[_Cut], wanted: str) -> Iterator[str]:
    """Where the signal was guessed, stands for another, or is not in volts; and where records differ."""
    if guessed := [cut for cut in cuts if cut.chosen.guessed]:
        said = _some(f"{cut.record} ({cut.chosen.name} of {', '.join(cut.others)})" for cut in guessed)
        yield f"the signal is a guess, for want of MLII or II; data.signal names another: {said}"
    names = Counter(plain_name(cut.chosen.name) for cut in cuts)
    if len(names) > 1:
        there = ", ".join(f"{name} in {plural(count, 'record')}" for name, count in names.most_common())
        only = "" if wanted else f"; data.signal={names.most_common(1)[0][0]} and data.skip_bad=true take one only"
        yield f"the signal is not the same in all records: {there}{only}"
    if stand := [cut for cut in cuts if cut.chosen.wanted and not _is_named(cut.chosen)]:
        yield f"{_some(f'{cut.record} ({cut.chosen.name} for {cut.chosen.wanted})' for cut in stand)}: taken as the same lead"
    if other := [cut for cut in cuts if not volts(cut.unit)]:
        said = _some(f"{cut.record} ({cut.chosen.name} in {cut.unit})" for cut in other)
        yield f"the signal is not in volts: {said}; as each beat is scaled, only its shape counts"


def _is_named(chosen: SignalChoice) -> bool:
    return plain_name(chosen.name) == plain_name(chosen.wanted) or chosen.wanted.isdecimal()


def _some(words: Iterable[str]) -> str:
    """The first few words of many, for a line."""
    words = list(words)
    return listed(words[:_FEW]) + (f" and {len(words) - _FEW:,} more" if len(words) > _FEW else "")


def _of_package(path: Path, read: Callable[[], _Read]) -> _Read:
    """What the package reads; DataError in one line for whatever it raises for a damaged record."""
    try:
        return read()
    except UserError:  # the package is missing
        raise
    except Exception as error:  # damaged headers raise KeyError, TypeError, AttributeError, ...
        why = f"{type(error).__name__} {' '.join(str(error).split())}".strip()[:100]
        raise DataError(f"{path.name}: cannot be read as a WFDB record ({why})") from None
