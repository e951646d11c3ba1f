"""FITS files with one spectrum each, with or without an index CSV (`id,type` or `file,type`), resampled to one grid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from wavefold.core.errors import DataError, UserError
from wavefold.data.bundles import files_below, natural
from wavefold.data.index_csv import check_label, file_stem, match, table_of
from wavefold.data.rebin import Grid, grid_centres
from wavefold.data.store import fill, working_folder
from wavefold.data.table import Table
from wavefold.domains.spectra.fits import FACTS, GRID_UNIT, parse_fits

ENDS = (".fits", ".fits.gz", ".fit", ".fit.gz")
LABELS = tuple(name for name in FACTS if name not in ("kind", "filled"))  # those two describe the file, not the sample
_ALONE = 64  # minimum files to use all processors: a file takes about 20 ms, starting workers about 2 s
_BLOCK = 32  # files


def read_fits(
    path: Path,
    *,
    grid: Sequence[float] | None = None,
    label_column: str = "",
    group: str = "",
    labels: bool = True,
    skip_bad: bool = False,
    store: Path | None = None,
) -> Table:
    """Spectra (sample, 1, position) from one FITS file, a folder and its subfolders, or the files listed in an index.

    grid: first and last bin centre and the step in angstrom; UserError if None. label_column: "" means the index's `type`,
    or without an index the class in the headers if all have one; any column or header fact may be named. group, skip_bad
    and store: as in `read_spectra`.
    """
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
    parse = partial(parse_fits, grid=bins)
    with working_folder(store) as work:
        filled = fill(
            work,
            rows.entries,
            len(axis),
            parse,
            name=folder.name,
            known=rows.missing,
            skip_bad=skip_bad,
            block=_BLOCK,
            alone=_ALONE,
        )
    table = table_of(rows, filled, unit=f"{bins[2]:g} {GRID_UNIT}", axis=axis)
    return table.labelled(label_column, path.name) if labels else table


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
