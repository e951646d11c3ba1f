"""Units of measurement as files spell them: what one is in another. pint knows the units (pint.readthedocs.io)."""

from __future__ import annotations

import math
import re
from functools import cache

import numpy as np

from wavefold.core.errors import DataError
from wavefold.core.registry import optional

_pint = optional("pint", extra="all")
# UDUNITS writes exponents without a mark, "kg m-2 s-1"; the rule is the one that MetPy and cf-xarray use
_EXPONENT = re.compile(r"(?<=[A-Za-z\)])(?![A-Za-z\)])(?<![0-9\-][eE])(?<![0-9\-])(?=[0-9\-])")
_ANGSTROM = re.compile(r"\b[Aa]ngstroms?\b|Å")
_NUMBER = re.compile(r"([0-9.]+(?:[eE][+-]?\d+)?(?:/[0-9.]+)?)\s+(\D.*)")
_SPELT = {"deg c": "degC", "deg_c": "degC", "c": "degC", "°c": "degC", "celsius": "degC", "degrees_celsius": "degC"}
_SPELT |= {"angstroms": "angstrom", "ang": "angstrom", "aa": "angstrom", "a": "angstrom", "microns": "micron"}
_SPELT |= {"microvolts": "uV", "millivolts": "mV", "volts": "V", "nanometers": "nm", "nanometres": "nm"}


@cache
def conversion(unit: str, into: str) -> tuple[float, float]:
    """Factor and offset from one unit to another: value in `into` = factor * value in `unit` + offset.

    DataError if one of the two is unknown, or if they measure different things.
    """
    if unit.strip().lower() == into.strip().lower():
        return 1.0, 0.0
    try:
        (factor, mine), (divisor, other) = _parsed(unit), _parsed(into)
        ends = _registry().Quantity(np.array([0.0, factor]), mine).to(other).magnitude / divisor
    except Exception as error:  # pint raises errors of many kinds for text that is no unit
        raise DataError(f"unit '{unit}' cannot be converted to '{into}' ({' '.join(str(error).split())})") from None
    return float(ends[1] - ends[0]), float(ends[0])


def is_same(unit: str, other: str) -> bool:
    """Whether two spellings mean the same unit; False for unknown ones that are spelt differently."""
    try:
        factor, offset = conversion(unit, other)
    except DataError:
        return False
    return math.isclose(factor, 1.0, rel_tol=1e-9) and offset == 0.0


def _as_pint(text: str) -> str:
    return _EXPONENT.sub("**", _ANGSTROM.sub("angstrom", text))


def _parsed(unit: str) -> tuple[float, str]:
    """The number before a unit, 1e-17 of "1e-17 erg/s", and the unit."""
    found = _NUMBER.fullmatch(unit.strip())
    number, word = (found[1], found[2]) if found else ("1", unit.strip())
    whole, _, part = number.partition("/")
    return float(whole) / float(part or 1), _SPELT.get(word.lower(), word)


@cache
def _registry():  # type: ignore[no-untyped-def]  # pint's registry is a class that pint makes at run time
    return _pint.UnitRegistry(autoconvert_offset_to_baseunit=True, preprocessors=[_as_pint])
