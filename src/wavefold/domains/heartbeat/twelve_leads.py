"""Whole records of twelve leads: the first ten seconds, in millivolt, in the usual order of the leads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from wavefold.core.errors import DataError, listed
from wavefold.data.dataset import Floats
from wavefold.data.store import Block, Filled, fill, working_folder
from wavefold.domains.heartbeat.format16 import Record
from wavefold.domains.heartbeat.signal_choice import millivolts, volts
from wavefold.domains.heartbeat.wfdb import read_record

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
SECONDS = 10
_ALONE = 4096  # minimum records to use all processors: a record takes about 1 ms, starting workers about 2 s


def fill_records(
    root: Path, entries: Sequence[str], rate: float, store: Path | None, *, notes: Sequence[str] = (), skip_bad: bool = False
) -> Filled:
    """Read records into one array (sample, 12, position) in `store` or a temporary folder; DataError names the first bad one.

    root, entries, rate, notes: as in `parse_records`. skip_bad: leave bad ones out.
    """
    parse = partial(parse_records, folder=str(root), rate=rate, notes=notes)
    width, leads = len(LEADS) * length_at(rate), len(LEADS)
    with working_folder(store) as folder:
        return fill(
            folder, entries, width, parse, name=root.name, channels=leads, unit="records", skip_bad=skip_bad, alone=_ALONE
        )


def parse_records(entries: Sequence[str], *, folder: str, rate: float, notes: Sequence[str] = ()) -> Block:
    """Read records into rows (sample, lead and position) of millivolt; a record's error becomes its problem.

    entries: paths of records below `folder`, without suffix. rate: values per second that each must have. notes: comments of
    the headers to return as facts, such as "Age" of the line `# Age: 50`.
    """
    rows = np.zeros((len(entries), len(LEADS) * length_at(rate)), np.float32)
    problems = [""] * len(entries)
    facts: dict[str, list[str]] = {note: [""] * len(entries) for note in notes}
    for at, entry in enumerate(entries):
        try:
            record = read_record(Path(folder) / entry)
            rows[at] = lead_values(record, rate).ravel()
        except DataError as error:
            problems[at] = str(error)
            continue
        for note in notes:
            facts[note][at] = note_of(record.comments, note)
    return Block(rows, problems, facts)


def length_at(rate: float) -> int:
    """Positions of a record at a rate in values per second."""
    return round(SECONDS * rate)


def lead_values(record: Record, rate: float) -> Floats:
    """The first ten seconds (lead, position) in millivolt, leads ordered as LEADS, whose names match in any case.

    DataError names the record for a lead that is missing, another rate, a shorter record, an unknown unit or an invalid value.
    """
    length, places = length_at(rate), _places(record)
    for lead, place in zip(LEADS, places, strict=True) if set(record.rates) != {rate} else ():
        if abs(record.rates[place] - rate) > 1e-3:
            there = f"{record.name}: lead {lead} has" if len(set(record.rates)) > 1 else f"{record.name}: has"
            raise DataError(f"{there} {record.rates[place]:g} values per second, expected {rate:g} as in the other records")
    shortest = min(len(record.signals[place]) for place in places)
    if shortest < length:
        raise DataError(f"{record.name}: lasts {shortest / rate:g} s, expected at least {SECONDS} s")
    factors, values = _factors(record, places), np.empty((len(LEADS), length), np.float32)
    for row, factor, place in zip(values, factors, places, strict=True):
        row[:] = record.signals[place][:length] * factor
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        lead, at = bad[0].tolist()
        raise DataError(f"{record.name}: lead {LEADS[lead]} has no valid value at position {at + 1} of {length}")
    return values


def note_of(comments: Sequence[str], name: str) -> str:
    """The value of a header's comment `# NAME: VALUE`, values of several such lines joined by commas; "" if there is none."""
    pairs = (comment.partition(":") for comment in comments)
    return ",".join(value.strip() for key, _, value in pairs if key.strip().lower() == name.lower())


def _places(record: Record) -> list[int]:
    """Where each of LEADS is in the record."""
    there = [lead.strip().lower() for lead in record.leads]
    for lead in LEADS:
        if lead.lower() not in there:
            raise DataError(f"{record.name}: lead {lead} is missing; the record has {listed(record.leads) or 'none'}")
    return [there.index(lead.lower()) for lead in LEADS]


def _factors(record: Record, places: Sequence[int]) -> list[float]:
    """What turns each lead's values into millivolt, (lead,)."""
    for lead, place in zip(LEADS, places, strict=True):
        if not volts(record.units[place]):
            raise DataError(f"{record.name}: lead {lead} is in '{record.units[place]}', expected mV, uV or V")
    return [millivolts(record.units[place]) for place in places]
