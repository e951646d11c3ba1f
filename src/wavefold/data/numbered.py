"""Order of files by the numbers and dates in their names: frame2 before frame10, and dates as times.

All names are compared: numbers that are the same in each, such as 512x512, do not count. If each name has a date, perhaps with
a clock (20190630_2200, 2019-06-30T22:00:05Z, 201906302200, 30.06.2019), the files are frames at these times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np

from wavefold.core.errors import DataError, plural
from wavefold.data.lazy import Ints
from wavefold.data.series import Seconds, stretches, time_word

_CLOCK = r"(?:[T_\-. ]?(\d\d)[:\-_.h]?(\d\d)(?:[:\-_.m]?(\d\d))?)?Z?(?!\d)"
_YEAR_FIRST = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.]?)(\d\d)\2(\d\d)" + _CLOCK, re.ASCII)
_YEAR_LAST = re.compile(r"(?<!\d)(\d\d)([-_.])(\d\d)\2((?:19|20)\d\d)" + _CLOCK, re.ASCII)
_Fields = list[list[int]]  # the numbers in each name, in order


@dataclass(frozen=True)
class Numbered:
    """Files in order, split at each gap."""

    order: Ints  # (file,) their positions among the given names
    starts: Ints  # (stretch,) the first file of each stretch, in order
    times: Seconds | None = None  # (file,) in order, if the names have dates
    step: float = 0.0  # seconds
    gaps: tuple[str, ...] = ()  # "after frame3.png comes frame9.png"
    notes: tuple[str, ...] = ()  # what was taken


def natural(name: str) -> list[tuple[int, str]]:
    """A natural sort key for names: frame2 before frame10."""
    return [(int(word), "") if word.isdigit() else (-1, word) for word in re.split(r"([0-9]+)", name)]


def by_name(names: Sequence[str], place: str) -> Numbered:
    """Order files by name; DataError if two have the same numbers, or some have a number and others none.

    names: with or without suffixes, which are ignored.
    """
    stems = [name.rpartition(".")[0] or name for name in names]
    numbers = [[int(word) for word in re.findall(r"[0-9]+", stem)] for stem in stems]
    if not any(numbers):
        return Numbered(_sorted([natural(name) for name in names]), np.zeros(1, np.int64))
    for name, found in zip(names, numbers, strict=True):
        if not found:
            raise DataError(f"{place}: {name} has no number in its name, unlike the others")
    return _dated(names, stems, place) or _counted(names, stems, numbers, place)


def _dated(names: Sequence[str], stems: Sequence[str], place: str) -> Numbered | None:
    """Files at the times in their names; None unless each has a date of its own."""
    way, times = _times(stems)
    if times is None or len(set(times.tolist())) < len(times):
        return None
    order = np.argsort(times)
    times = times[order]
    starts, step, gaps = stretches(times, place)
    taken = f"{place}: times are taken from the names{way}, {time_word(times[0])} to {time_word(times[-1])}"
    return Numbered(order, starts, times, step, (), (taken, *gaps))


def _times(stems: Sequence[str]) -> tuple[str, Seconds | None]:
    """How dates were read, and the seconds of each name; None if one has no valid date."""
    found = [_YEAR_FIRST.search(stem) for stem in stems]
    if all(found):
        return "", _seconds([m.group(1, 3, 4, 5, 6, 7) for m in found if m])
    found = [_YEAR_LAST.search(stem) for stem in stems]
    if not all(found):
        return "", None
    parts = [m.group(4, 3, 1, 5, 6, 7) for m in found if m]
    day_first = _seconds(parts)
    month_first = _seconds([(year, month, day, *clock) for year, day, month, *clock in parts])
    if day_first is None or month_first is None:
        return (" (month first)", month_first) if day_first is None else (" (day first)", day_first)
    even = [len(set(np.diff(np.sort(times)).tolist())) for times in (day_first, month_first)]
    return (" (month first)", month_first) if even[1] < even[0] else (" (day first)", day_first)


def _seconds(parts: Sequence[Sequence[str | None]]) -> Seconds | None:
    """Seconds since 1970 of year, month, day, hour, minute, second; None if one is no date."""
    try:
        numbers = [[int(word or 0) for word in part] for part in parts]
        return np.array([datetime(y, month, d, h, m, s, tzinfo=UTC).timestamp() for y, month, d, h, m, s in numbers])
    except ValueError:
        return None


def _counted(names: Sequence[str], stems: Sequence[str], numbers: _Fields, place: str) -> Numbered:
    """Files by the numbers that differ between names; a step other than the usual one is a gap."""
    alike = len({re.sub(r"[0-9]+", "#", stem) for stem in stems}) == 1
    varying = [i for i in range(len(numbers[0])) if len({found[i] for found in numbers}) > 1] if alike else []
    keys = [tuple(found[i] for i in varying) for found in numbers] if varying else [(found[-1],) for found in numbers]
    order = _sorted(keys)
    ordered = [keys[i] for i in order]
    for (i, before), (j, after) in pairwise(zip(order, ordered, strict=True)):
        if before == after:
            raise DataError(f"{place}: {names[i]} and {names[j]} have the same number {before[-1]}")
    if len({key[0] for key in keys}) == len(keys):  # the first number counts the files, whatever the others do
        ordered = [key[:1] for key in ordered]
    steps = [after[-1] - before[-1] if after[:-1] == before[:-1] else None for before, after in pairwise(ordered)]
    known = [step for step in steps if step is not None]
    usual = max(set(known), key=lambda step: (known.count(step), -step)) if known else 1
    edges = [i + 1 for i, step in enumerate(steps) if step != usual]
    gaps = tuple(f"after {names[order[i - 1]]} comes {names[order[i]]}" for i in edges)
    return Numbered(order, np.array([0, *edges], np.int64), gaps=gaps, notes=_taken(names, order, varying, alike, place))


def _taken(names: Sequence[str], order: Ints, varying: Sequence[int], alike: bool, place: str) -> tuple[str, ...]:
    """A note if the order is a guess that could be another: several numbers differ, or the words of the names do."""
    ends = f"{names[order[0]]} first, {names[order[-1]]} last"
    if not alike and _sorted([natural(name) for name in names]).tolist() != order.tolist():
        return (f"{place}: ordered by the last number in the names, since their words differ: {ends}",)
    if len(varying) > 1:
        return (f"{place}: ordered by the {plural(len(varying), 'number')} that differ in the names, from the left: {ends}",)
    return ()


def _sorted(keys: Sequence[Sequence[object]]) -> Ints:
    at: Callable[[int], Sequence[object]] = keys.__getitem__
    return np.array(sorted(range(len(keys)), key=at), np.int64)  # type: ignore[arg-type]  # keys of one kind are comparable
