"""Which signal of a record holds the electrocardiogram: by the name asked for, else by the usual names, else by its unit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from wavefold.core.errors import DataError, nearest
from wavefold.data.units import conversion

MILLIVOLT = "mV"
_USUAL = ("MLII", "II")  # in order of preference: the leads on which beat classifiers are trained
_LEAD = re.compile(r"M?L?(I{1,3}|V\d?R?)|AV[RLF]|MCL\d?|C[MCS]\d*|D[1-5]|ECG.*|EKG.*")
_OTHER = re.compile(
    r"RESP|ABP|ART|BP|CVP|PAP|ICP|PLETH|PPG|SPO2|SAO2|CO2|ETCO2|EEG|EMG|EOG|GSR|EDA|ACC|FLOW|TEMP|HR|THOR|ABDO|NASAL|SOUND|PCG"
)
_VOLT = re.compile(r"([munµμ]?)v(olts?)?", re.IGNORECASE)
_JOINT = ","  # between alternatives


@dataclass(frozen=True)
class SignalChoice:
    """The signal taken of a record."""

    place: int
    name: str  # as in the header
    wanted: str = ""  # the name asked for, if one was
    guessed: bool = False  # whether neither the user nor a usual name settled it


def choose_signal(record: str, names: Sequence[str], units: Sequence[str], wanted: str = "") -> SignalChoice:
    """Choose a record's electrocardiogram. names, units: of its signals; record: its name, for errors.

    wanted: names in order of preference, joined by commas, in any case, or numbers from 1; MLII stands for II and II for MLII.
    "" takes MLII, else II, else the first lead by name, else the first in volts that is not known to be something else.
    DataError lists the signals if none fits, or if two share the name.
    """
    for word in alternatives(wanted):
        place = _named(record, names, word)
        if place is not None:
            return SignalChoice(place, names[place], word)
    if wanted:
        known = [plain_name(name) for name in names]
        raise DataError(
            f"{record}: has no signal {' or '.join(alternatives(wanted))}; it has {_shown(names, units)}"
            f"{nearest(alternatives(wanted)[0].upper(), known)}; set data.signal to one of them"
        )
    for word in _USUAL:
        place = _named(record, names, word)
        if place is not None:
            return SignalChoice(place, names[place])
    leads = [at for at, name in enumerate(names) if _LEAD.fullmatch(_bare(name))]
    sure = len(leads) == 1
    if not leads:
        leads = [at for at, name in enumerate(names) if _OTHER.search(_bare(name)) is None and volts(units[at])]
    if not leads:
        raise DataError(
            f"{record}: none of its signals is an ECG by name or unit: {_shown(names, units)}; set data.signal to the "
            "name of one"
        )
    return SignalChoice(leads[0], names[leads[0]], guessed=not sure)


def alternatives(wanted: str) -> list[str]:
    """The names that a choice of signals lists."""
    return [word.strip() for word in wanted.split(_JOINT) if word.strip()]


def plain_name(name: str) -> str:
    """A signal's name in upper case, without spaces around it."""
    return " ".join(name.split()).upper()


@lru_cache(256)
def volts(unit: str) -> str:
    """A unit of voltage as pint spells it, "uV" for "UV" and "µv"; "" for any other unit."""
    found = _VOLT.fullmatch(unit.strip())
    return f"{found[1].lower()}V" if found else ""


@lru_cache(256)
def millivolts(unit: str) -> float:
    """What turns values in a unit of voltage into millivolt; 0 for any other unit."""
    return conversion(volts(unit), MILLIVOLT)[0] if volts(unit) else 0.0


def _named(record: str, names: Sequence[str], word: str) -> int | None:
    """Where the signal with a name is; the one with just this name comes before one that means the same lead."""
    for form in (plain_name, _meant):
        places = [at for at, name in enumerate(names) if form(name) == form(word)]
        if len(places) > 1:
            numbers = " or ".join(f"data.signal='\"{at + 1}\"'" for at in places)
            raise DataError(f"{record}: has {len(places)} signals named {names[places[0]]}; set its number, {numbers}")
        if places:
            return places[0]
    return int(word) - 1 if word.isdecimal() and 0 < int(word[:6]) <= len(names) else None


def _meant(name: str) -> str:
    """The lead that a name means: "II" for MLII, ML2, "ECG lead II"."""
    bare = _bare(name)
    return {"MLII": "II", "ML2": "II", "D2": "II", "DII": "II", "MLI": "I", "MLIII": "III"}.get(bare, bare)


def _bare(name: str) -> str:
    word = re.sub(r"^(ECG|EKG|LEAD)[\s_:.-]+(?=\S)", "", plain_name(name))
    return re.sub(r"^LEAD[\s_:.-]+(?=\S)", "", word)


def _shown(names: Sequence[str], units: Sequence[str]) -> str:
    return ", ".join(f"{name} ({unit})" for name, unit in zip(names, units, strict=True)) or "none"
