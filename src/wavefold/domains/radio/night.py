"""Many scans at once: which six form a cadence, by their source names and times, and frequencies known for interference."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from wavefold.core.errors import DataError, UserError, plural
from wavefold.data.csv_text import column_place, number, read_words
from wavefold.domains.radio.cadence import PANELS
from wavefold.domains.radio.filterbank import Filterbank
from wavefold.domains.radio.line_search import Doubles
from wavefold.domains.radio.observation import open_scan
from wavefold.domains.radio.pointing import source_key

_EXAMPLE = "low_mhz,high_mhz"


def expanded(scans: Sequence[str]) -> list[str]:
    """The files of names and of patterns such as `night/*.h5`, each once; UserError for a pattern that no file has."""
    files: list[str] = []
    for name in scans:
        found = sorted(glob.glob(str(Path(name).expanduser()))) if glob.has_magic(name) and not Path(name).exists() else [name]
        if not found:
            raise UserError(f"{name}: no file has such a name")
        files += found
    return list(dict.fromkeys(files)) if len(files) > PANELS else files  # six with one twice are told


def cadences_of(files: Sequence[str], *, product: str, on: str, warn: Callable[[str], None]) -> list[list[str]]:
    """The cadences among more than six scans: six in a row, of the same channels, the first, third and fifth of one source.

    on: the source name of the ON scans, which may then be the second, fourth and sixth too. warn: receives a line on scans that
    are in no cadence. UserError if there is no cadence.
    """
    scans = [open_scan(file, product=product) for file in files]
    bands: dict[tuple[object, ...], list[tuple[Filterbank, str]]] = {}
    for scan, file in zip(scans, files, strict=True):
        header = scan.header
        band = (scan.shape, round(header.fch1, 6), round(header.foff * 1e9), round(header.tsamp, 6), header.telescope)
        bands.setdefault(band, []).append((scan, file))
    found, alone = list[list[str]](), list[str]()
    for some in bands.values():
        some.sort(key=lambda pair: pair[0].header.tstart)
        at = 0
        while at < len(some):
            six = some[at : at + PANELS]
            if _is_cadence([scan for scan, _ in six], on):
                found.append([file for _, file in six])
                at += PANELS
            else:
                alone.append(Path(some[at][1]).name)
                at += 1
    if not found:
        raise UserError(
            f"{len(files)} scans, but no six in a row are of one source in the first, third and fifth and of others between; "
            "give the six of a cadence, in time order"
        )
    if alone:
        names = ", ".join(alone[:6]) + (" ..." if len(alone) > 6 else "")
        warn(f"{plural(len(alone), 'scan is', 'scans are')} in no cadence, and left out: {names}")
    return sorted(found, key=lambda six: open_scan(six[0], product=product).header.tstart)


def _is_cadence(scans: Sequence[Filterbank], on: str) -> bool:
    if len(scans) < PANELS:
        return False
    names = [source_key(scan.header.source_name) for scan in scans]
    ways = [(names[::2], names[1::2]), *([(names[1::2], names[::2])] if on else [])]
    wanted = source_key(on)
    return any(len({*ons}) == 1 and ons[0] and ons[0] not in offs and (not on or ons[0] == wanted) for ons, offs in ways)


def read_mask(path: str) -> Doubles:
    """Ranges of frequencies (range, 2) in MHz from a CSV with the columns low_mhz and high_mhz; DataError names a bad line."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"{path}: no such file; expected a CSV with the columns {_EXAMPLE}")
    columns, lines = read_words(file, _EXAMPLE)
    names = list(columns)
    low, high = (columns[names[column_place(names, word, file.name)]] for word in _EXAMPLE.split(","))
    ranges = []
    for first, last, line in zip(low, high, lines.tolist(), strict=True):
        ends = number(first, f"{file.name} line {line}: low_mhz"), number(last, f"{file.name} line {line}: high_mhz")
        if ends[0] > ends[1]:
            raise DataError(f"{file.name} line {line}: low_mhz {first} is above high_mhz {last}")
        ranges.append(ends)
    return np.array(ranges, np.float64).reshape(-1, 2)
