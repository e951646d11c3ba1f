"""Compares the source names of a cadence's scans with the order ON A, OFF B, ON A, OFF C, ON A, OFF D.

Names are compared without case, spaces and signs between letters; a scan without a name contradicts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from wavefold.core.errors import UserError, listed
from wavefold.domains.radio.cadence import OFF, ON
from wavefold.domains.radio.filterbank import Filterbank

_ANYWAY = "--ignore-names to search them in this order"
_AWAY = re.compile(r"off|.*[^a-z0-9](off|r)")  # Green Bank's and Parkes's words for a pointing beside the star


def check_sources(scans: Sequence[Filterbank]) -> None:
    """Raise UserError if the scans' source names say that ON and OFF are not where they should be."""
    on, off = _names(scans, ON), _names(scans, OFF)
    if len(off) == 1 and on and not on & off and (len(on) > 1 or all(map(_AWAY.fullmatch, on))):
        files = listed(scans[number].path.name for number in OFF)
        raise UserError(
            f"{files} are of {_shown(scans, OFF)}, and {_stated(scans, ON)}: the cadence seems to begin with OFF; "
            f"leave out {scans[0].path.name} and add the OFF scan that follows {scans[-1].path.name}, or add {_ANYWAY}"
        )
    if len(on) > 1:
        raise UserError(
            f"the ON scans, first, third and fifth, must be of one source, but {_stated(scans, ON)}; give the scans of "
            f"one cadence, or add {_ANYWAY}"
        )
    if on & off and not (on == off and len(on) == 1):  # one name in all six says nothing
        same = next(number for number in OFF if _key(scans[number]) in on)
        raise UserError(
            f"{scans[same].path.name} is an OFF scan by its place but states source_name {_shown(scans, ON)}, as the ON "
            f"scans do; give ON and OFF scans in turn, beginning with ON, or add {_ANYWAY}"
        )


def scans_of(scans: Sequence[Filterbank], name: str) -> tuple[int, ...]:
    """The numbers of the scans of one source; UserError if there is none, or no other."""
    found = tuple(number for number, scan in enumerate(scans) if _key(scan) == source_key(name))
    if not found or len(found) == len(scans):
        which = "all scans are" if found else "no scan is"
        there = (
            listed(dict.fromkeys(_printable(scan.header.source_name) for scan in scans if scan.header.source_name)) or "none"
        )
        raise UserError(f"--on {name}: {which} of that source; source names in the files: {there}")
    return found


def sources_note(scans: Sequence[Filterbank], taken: Sequence[int] = ON) -> str:
    """One line on which scans were taken as ON and which as OFF, with what their files state. taken: numbers of ON scans."""
    rest = [number for number in range(len(scans)) if number not in taken]
    on, off = (listed(scans[number].path.name for number in panels) for panels in (taken, rest))
    names = [_shown(scans, panels) for panels in (taken, rest)]
    if not any(names):
        return f"taken as ON: {on}; as OFF: {off}; no scan states a source_name"
    if names[0] == names[1]:
        return f"taken as ON: {on}; as OFF: {off}; all state the source_name {names[0]}, which cannot tell ON from OFF"
    return f"taken as ON: {on} ({names[0] or 'no source_name'}); as OFF: {off} ({names[1] or 'no source_name'})"


def _names(scans: Sequence[Filterbank], panels: Sequence[int]) -> set[str]:
    return {key for number in panels if (key := _key(scans[number]))}


def _key(scan: Filterbank) -> str:
    return source_key(scan.header.source_name)


def source_key(name: str) -> str:
    """A source name without case and signs between letters."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


def _shown(scans: Sequence[Filterbank], panels: Sequence[int]) -> str:
    """The names as the files write them, each once."""
    return listed(dict.fromkeys(_printable(name) for number in panels if (name := scans[number].header.source_name)))


def _stated(scans: Sequence[Filterbank], panels: Sequence[int]) -> str:
    """Each file with its name."""
    return listed(
        f"{scans[number].path.name} is of {_printable(scans[number].header.source_name) or 'no stated source'}"
        for number in panels
    )


def _printable(name: str) -> str:
    return name if name.isprintable() else repr(name)
