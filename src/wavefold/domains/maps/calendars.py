"""Times that count since a date, as CF writes them ("hours since 1900-01-01"), in the calendars of CF 1.11.

The standard calendar is Julian before 1582-10-15 and Gregorian from then on, so that "days since 1-1-1" begins two days before
the proleptic Gregorian 0001-01-01. Dates of a calendar with months or years of other lengths are no dates of the standard one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError
from wavefold.data.series import Seconds, time_word

_UNITS = {  # seconds; UDUNITS takes plurals and these short forms
    "microsecond": 1e-6, "microsec": 1e-6, "us": 1e-6, "millisecond": 1e-3, "millisec": 1e-3, "msec": 1e-3, "ms": 1e-3,
    "second": 1.0, "sec": 1.0, "s": 1.0, "minute": 60.0, "min": 60.0, "hour": 3600.0, "hr": 3600.0, "h": 3600.0,
    "day": 86400.0, "d": 86400.0, "week": 604800.0,
}  # fmt: skip
_SINCE = re.compile(
    r"\s*([a-z]+)\s+since\s+(\d{1,4})-(\d{1,2})-(\d{1,2})"
    r"(?:[t\s]+(\d{1,2})(?::(\d{1,2})(?::(\d{1,2}(?:\.\d*)?))?)?)?\s*(z|utc|gmt|[+-]\d{1,2}(?::?\d\d)?)?\s*",
    re.ASCII,
)
_GREGORIAN = ("standard", "gregorian")
_OTHERS = ("noleap", "365_day", "360_day", "all_leap", "366_day")
_REFORM = 2299161  # Julian day number of 1582-10-15, the first of the Gregorian calendar
_UNIX = 2440588  # of 1970-01-01
_EARLIEST, _LATEST = -62135596800.0, 253402300800.0  # seconds, the years 1 to 9999
_DAY = 86400.0


@dataclass(frozen=True)
class Moments:
    """Times of frames."""

    seconds: Seconds  # (time,) since 1970-01-01 UTC, or from an arbitrary start
    dated: bool = True  # whether they are dates of the standard calendar
    calendar: str = ""  # if it is not the standard one
    notes: tuple[str, ...] = ()


def moments(values: NDArray[np.generic], units: str, calendar: str, place: str) -> Moments:
    """Convert numbers that count since a date to times; DataError names `place` if the unit or the calendar is unknown.

    values: (time,). units: such as "days since 1-1-1 00:00:0.0". A calendar whose dates are not those of the standard one
    gives times that are not dated: only their order and distances mean something.
    """
    calendar = calendar.strip().lower() or "standard"
    stated = f"'{units}' in the calendar '{calendar}'"
    found = _SINCE.fullmatch(units.lower())
    unit = _UNITS.get(found[1], _UNITS.get(found[1].removesuffix("s"), 0.0)) if found else 0.0
    if not found or not unit:
        raise DataError(
            f"{place} counts {stated}, expected seconds, minutes, hours, days or weeks since a date such as 1970-01-31 (months "
            "and years differ in length: count days instead)"
        )
    numbers = values.astype(np.float64)
    if not len(numbers):
        return Moments(numbers)
    if np.isnan(numbers).any():
        raise DataError(f"{place} has no value at frame {int(np.argmax(np.isnan(numbers)))}")
    if calendar in _OTHERS:
        note = (
            f"{place} counts in the calendar '{calendar}', whose dates are not those of the standard calendar: only the order, "
            "the step and gaps of the frames are used, and forecasts have no dates"
        )
        return Moments(numbers * unit, dated=False, calendar=calendar, notes=(note,))
    if calendar not in (*_GREGORIAN, "proleptic_gregorian", "julian"):
        known = "standard, proleptic_gregorian, julian, noleap or 360_day"
        raise DataError(f"{place} counts {stated}, expected the calendar {known}")
    year, month, day = (int(word) for word in found.groups()[1:4])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        raise DataError(f"{place} counts {stated}, which begins at no date")
    clock = int(found[5] or 0) * 3600.0 + int(found[6] or 0) * 60.0 + float(found[7] or 0)
    start = (_day_number(year, month, day, calendar) - _UNIX) * _DAY + clock - _zone(found[8])
    seconds: Seconds = np.round(start + numbers * unit, 6)
    bad = ~((seconds >= _EARLIEST) & (seconds < _LATEST))
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(f"{place} counts {stated}; its value {numbers[at]:g} at frame {at} is outside the years 1 to 9999")
    notes = (f"{place} counts {stated}: converted to the standard calendar, {time_word(seconds[0])} first",)
    return Moments(seconds, calendar=calendar, notes=notes) if calendar == "julian" else Moments(seconds)


def _day_number(year: int, month: int, day: int, calendar: str) -> int:
    """The Julian day number of a date, by the formula of C. Tondering's calendar FAQ."""
    early = (14 - month) // 12
    years = year + 4800 - early
    days = day + (153 * (month + 12 * early - 3) + 2) // 5 + 365 * years + years // 4
    julian, gregorian = days - 32083, days - years // 100 + years // 400 - 32045
    if calendar == "julian" or (calendar in _GREGORIAN and gregorian < _REFORM):
        return julian
    return gregorian


def _zone(word: str | None) -> float:
    """Seconds that a clock is ahead of UTC."""
    if not word or word[0] not in "+-":
        return 0.0
    hours, minutes = word[1:].replace(":", "")[:2], word[1:].replace(":", "")[2:]
    return (1.0 if word[0] == "+" else -1.0) * (int(hours) * 3600.0 + int(minutes or 0) * 60.0)
