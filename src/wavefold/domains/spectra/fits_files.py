"""FITS files with one spectrum each, with or without an index CSV (`id,type` or `file,type`), resampled to one grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from wavefold.core.errors import DataError, UserError, plural
from wavefold.data.bundles import files_below, natural
from wavefold.data.dataset import UNIT
from wavefold.data.index_csv import Matched, check_label, file_stem, match, table_of
from wavefold.data.rebin import Grid, grid_centres
from wavefold.data.store import Filled, fill, settle, working_folder
from wavefold.data.table import Table
from wavefold.domains.spectra.fits import FACTS, OUTSIDE, STATED, parse_fits
from wavefold.domains.spectra.medium import GRID_UNIT, MEDIUM

ENDS = (".fits", ".fits.gz", ".fit", ".fit.gz")
LABELS = tuple(name for name in FACTS if name not in ("kind", "filled"))  # those two describe the file, not the sample
_ALONE = 64  # minimum files to use all processors: a file takes about 20 ms, starting workers about 2 s
_BLOCK = 32  # files
_EMPTY = 0.01  # share of bins outside a file's good pixels from which a note says so


def read_fits(
    path: Path,
    *,
    grid: Sequence[float] | None = None,
    medium: str = "",
    label_column: str = "",
    group: str = "",
    labels: bool = True,
    skip_bad: bool = False,
    store: Path | None = None,
) -> Table:
    """Spectra (sample, 1, position) from one FITS file, a folder and its subfolders, or the files listed in an index.

    grid: first and last bin centre and the step in angstrom; UserError if None. medium: "vacuum" or "air", of the grid; ""
    takes what most files state. Wavelengths and flux that a file states otherwise are converted, with a note. attrs: `medium`,
    and `unit` of the flux, if stated. label_column: "" means the index's `type`, or without an index the class in the headers
    if all have one; any column or header fact may be named. group, skip_bad and store: as in `read_spectra`.
    """
    path = path.absolute()  # the parent of "a.fits" has no name
    indexed = path.is_file() and not path.name.lower().endswith(ENDS)
    if indexed and labels:
        check_label(path, label_column, LABELS)
    bins = _grid(grid, path.name)
    axis = grid_centres(bins)
    folder = path.parent if indexed else path
    files = paths_of_fits(folder)
    if not files:
        raise DataError(f"{folder.name}: contains no FITS files, expected {', '.join(ENDS)}")
    rows = match(path if indexed else None, files, folder.name, ".fits", skip_bad=skip_bad)
    read_all = partial(_filled, rows, len(axis), folder.name, bins, skip_bad)
    with working_folder(store) as work:
        filled = read_all(work, medium, "")
        wanted, unit = medium or _most(filled, MEDIUM), _most(filled, UNIT)
        if (wanted, unit) != (medium, "") and (_differ(filled, MEDIUM) or _differ(filled, UNIT)):
            settle(work)  # what was read counts no longer
            filled = read_all(work, wanted, unit)
    facts = {name: words for name, words in filled.facts.items() if name not in STATED}
    table = table_of(rows, replace(filled, facts=facts), unit=f"{bins[2]:g} {GRID_UNIT}", axis=axis)
    attrs = {name: word for name, word in ((MEDIUM, wanted), (UNIT, unit)) if word}
    table = replace(table, attrs=attrs, notes=tuple(_notes(filled, wanted, unit, bins, len(axis))))
    return table.labelled(label_column, path.name) if labels else table


def _filled(rows: Matched, width: int, name: str, grid: Grid, skip_bad: bool, work: Path, medium: str, unit: str) -> Filled:
    parse = partial(parse_fits, grid=grid, medium=medium, unit=unit)
    return fill(
        work,
        rows.entries,
        width,
        parse,
        name=name,
        known=rows.missing,
        skip_bad=skip_bad,
        block=_BLOCK,
        alone=_ALONE,
    )


def _most(filled: Filled, name: str) -> str:
    """What most files state, of those that state it; the first of equals."""
    words = Counter(word for word in filled.facts[name] if word)
    return words.most_common(1)[0][0] if words else ""


def _differ(filled: Filled, name: str) -> bool:
    return len({word for word in filled.facts[name] if word}) > 1


def _notes(filled: Filled, medium: str, unit: str, grid: Grid, bins: int) -> Iterator[str]:
    """What was converted, taken for granted and left empty."""
    count = len(filled.facts[MEDIUM])
    if not medium:
        yield "no file states whether its wavelengths are in vacuum or in air; data.medium says so"
    elif silent := filled.facts[MEDIUM].count(""):
        yield f"{silent:,} of {plural(count, 'file')} state neither vacuum nor air; taken as {medium}"
    if other := sum(word not in ("", medium) for word in filled.facts[MEDIUM]):
        yield f"wavelengths of {plural(other, 'file')} converted to {medium} (refractive index of air by Ciddor 1996)"
    if unit and (silent := filled.facts[UNIT].count("")):
        yield f"{silent:,} of {plural(count, 'file')} state no unit of flux; taken as {unit}, as the others say"
    if unit and (other := sum(word not in ("", unit) for word in filled.facts[UNIT])):
        yield f"flux of {plural(other, 'file')} converted to {unit}"
    shares = np.array([int(word or 0) for word in filled.facts[OUTSIDE]]) / bins
    if (partly := shares > _EMPTY).any():
        yield (
            f"{plural(int(partly.sum()), 'file')} of {count:,} {'does' if partly.sum() == 1 else 'do'} not cover the grid "
            f"{grid[0]:g} to {grid[1]:g} {GRID_UNIT}: {shares[partly].mean():.1%} of the bins on average, "
            f"{shares.max():.1%} at most, lie outside the good pixels and hold the level at their edge; "
            "a grid that all files cover avoids it"
        )


def _grid(grid: Sequence[float] | None, name: str) -> Grid:
    if grid is None or len(grid) != 3:
        raise UserError(f"{name}: layout fits needs data.grid=[first, last, step] in {GRID_UNIT}")
    first, last, step = map(float, grid)
    return first, last, step


def paths_of_fits(path: Path) -> dict[str, str]:
    """Paths of the FITS files in a folder and its subfolders, or of one file, keyed by name without suffix.

    DataError if two have the same name, as it is the id.
    """
    if path.is_file():
        return {file_stem(path.name): str(path)}
    found: dict[str, str] = {}
    for file in sorted((f.name for f in files_below(path, ENDS)), key=natural):
        stem = file_stem(file)
        if stem in found:
            raise DataError(f"{path.name}: contains {stem} twice ({file}), expected one file per id")
        found[stem] = str(path / file)
    return found
