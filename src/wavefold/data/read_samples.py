"""Reads labelled samples from a source: finds its files, uses the cache, numbers the labels and chooses the groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import numpy as np

from wavefold.core.errors import DataError, MissingGroup, UserError, listed, nearest
from wavefold.core.registry import Table as Parts
from wavefold.data.cache import cache_folder, cached, content_digest, stored, with_digest
from wavefold.data.csv_text import one_named, read_columns, shown
from wavefold.data.dataset import Dataset, Ints, Strings, class_names, number_labels
from wavefold.data.index_csv import check_label
from wavefold.data.layout import Fetch, Found
from wavefold.data.rebin import grid_centres
from wavefold.data.sky import stars
from wavefold.data.sources import LAYOUTS, find
from wavefold.data.table import GROUPS, Table, with_columns

REMOTES: Parts[Fetch] = Parts("remotes")


class _Columns(TypedDict):
    """The arguments that every layout's `read` takes."""

    label_column: str
    group: str
    labels: bool


def read(
    source: str | Path,
    *,
    layout: str = "auto",
    group: str = "",
    classes: Sequence[str] | None = None,
    label_column: str = "",
    labels: bool = True,
    cache: bool = True,
    grid: Sequence[float] | None = None,
    rate: int = 0,
    signal: str = "",
    wavelength_unit: str = "",
    medium: str = "",
    skip_bad: bool = False,
    grouped: bool | None = None,
    apart: Sequence[str] = (),
) -> Dataset:
    """Read a file, a folder or `physionet:<database>` into signals (sample, channel, position), ids, labels and groups.

    From a folder, reads its `train*` file, the index of a multi-file source, or its records; `test_files` lists the rest.
    group: the column with the groups, in the file or in `<stem>_meta.csv[.gz]` beside it; "" and "auto" use the first of
    record, group, patient, subject, star, source_key and background that exists, otherwise stars found from `ra` and `dec`
    (degrees), as "star" does. classes: class names that labels must belong to, as in evaluation; None uses those in the
    source. label_column: "" means the layout's default. labels: False for inference, when label and group columns may be
    missing and labels are not checked. cache: keep the parsed arrays under $WAVEFOLD_CACHE or the user's cache folder.
    grid: for FITS files, the first and last wavelength and the step in angstrom. rate: for PTB-XL, values per second, 100 or
    500; 0 takes the lower one that is there. signal: for WFDB records, the name of the signal to cut beats from, or several in
    order of preference, joined by commas. wavelength_unit: of the numbers in wavelength.txt. medium: "vacuum" or "air", in
    which wavelengths are wanted. skip_bad: in a source of many files, skip those that cannot be read and list them in left_out;
    otherwise the first one raises DataError. grouped: whether a named group column must exist; None means as `labels`. apart:
    columns of a wide CSV that are not measurements, such as numbers to predict.
    """
    check_layout(layout)
    found = find(_local(source), layout)
    columns: _Columns = {"label_column": label_column, "group": group, "labels": labels}
    options: dict[str, object] = {"grid": grid and [float(v) for v in grid], "rate": rate}
    options |= {"apart": [name for name in apart if name], "skip_bad": skip_bad}
    options |= {"signal": signal, "wavelength_unit": wavelength_unit, "medium": medium}
    table, digest = _table(found, columns, cache, options, skip_bad)
    names = tuple(classes or table.classes or (() if table.words is None else class_names(table.words.tolist())))
    numbers = None if table.words is None else _numbers(table.words, names, table, found)
    groups, grouping = _groups(table, group, found, needed=labels if grouped is None else grouped)
    return Dataset(
        signals=table.signals,
        ids=table.ids,
        labels=numbers,
        classes=names,
        groups=groups,
        grouping=grouping,
        unit=table.unit,
        digest=digest,
        source=str(source),
        axis=table.axis,
        left_out=table.left_out,
        columns=table.columns,
        attrs=table.attrs,
        positions=table.positions,
        notes=table.notes,
    )


def check_layout(name: str) -> None:
    """Raise UserError, with the nearest name, unless `name` is a layout or "auto" (detect by suffix and columns)."""
    if name not in ("auto", *LAYOUTS):
        raise UserError(f"layout '{name}' is not one of auto, {listed(LAYOUTS)}{nearest(name, ('auto', *LAYOUTS))}")


def check_grid(grid: Sequence[float]) -> None:
    """Raise UserError unless `grid` is a valid (first, last, step) of wavelengths in angstrom."""
    try:
        first, last, step = grid
        grid_centres((first, last, step))
    except UserError as error:
        raise UserError(f"data.grid: {error}") from None


def _local(source: str | Path) -> Path:
    for prefix, fetch in REMOTES.items():
        if str(source).startswith(prefix):
            name = str(source).removeprefix(prefix)
            return fetch(name, cache_folder() / prefix.rstrip(":") / name)
    return Path(source).expanduser()


def _table(found: Found, columns: _Columns, cache: bool, options: Mapping[str, object], skip_bad: bool) -> tuple[Table, str]:
    layout = LAYOUTS[found.layout]
    if layout.keeps == "nothing":
        return with_digest(layout.read(found.path, **columns, skip_bad=skip_bad))
    if layout.keeps == "rows":
        return _many(found, columns, cache, {name: options[name] for name in layout.options}, skip_bad)
    given = {**columns, **{name: options[name] for name in layout.options if options[name]}}
    if cache:
        return cached(found.files, {"layout": found.layout, **given}, lambda: _parse(found, given))
    return _parse(found, given), content_digest(found.files)


def _many(found: Found, columns: _Columns, cache: bool, options: Mapping[str, object], skip_bad: bool) -> tuple[Table, str]:
    """A multi-file source; one cache entry serves any label column, group column and skip_bad setting."""

    def parse(store: Path | None) -> Table:
        return LAYOUTS[found.layout].read(found.path, **columns, **options, skip_bad=skip_bad, store=store)

    if columns["labels"] and ".csv" in found.path.suffixes:  # the reader checks this too, but a cache hit skips the reader
        check_label(found.path, columns["label_column"], LAYOUTS[found.layout].columns)
    if cache:
        table, digest = stored(found, {"layout": found.layout, **options}, parse)
    else:
        table, digest = with_digest(parse(None))
    if table.left_out and not skip_bad:
        raise DataError(table.left_out[0][1])
    labelled = table.labelled(columns["label_column"], found.path.name) if columns["labels"] else replace(table, words=None)
    return labelled, digest


def _parse(found: Found, given: Mapping[str, object]) -> Table:
    table = LAYOUTS[found.layout].read(found.path, **given)
    return table if found.meta is None else with_columns(table, read_columns(found.meta), found.meta.name)


def _numbers(words: Strings, names: Sequence[str], table: Table, found: Found) -> Ints:
    layout = LAYOUTS[found.layout]
    if layout.keeps != "table" and ".csv" not in found.path.suffixes:
        places = table.ids.tolist()  # file names
    else:
        places = np.char.add(f"{layout.row} ", table.lines.astype(np.str_)).tolist()
    if (words == "").any():
        raise DataError(f"{found.path.name} {places[int(np.argmax(words == ''))]}: the label is empty, expected a class name")
    return number_labels(words.tolist(), names, places, found.path.name)


def _groups(table: Table, group: str, found: Found, *, needed: bool) -> tuple[Strings | None, str]:
    """The groups and the name of their column; None and '' if there are none and none are needed."""
    free = group in ("", "auto")
    usual = (*LAYOUTS[found.layout].groups, *GROUPS)
    names = [there for name in (usual if free else [group]) if (there := one_named(table.columns, name))]
    if names:
        return table.columns[names[0]], names[0]
    places = [table.columns[there] for name in ("ra", "dec") if (there := one_named(table.columns, name))]
    if len(places) == 2 and (free or group.lower() == "star"):
        found_stars = _stars(places, found, needed=not free)
        return found_stars, "" if found_stars is None else "star"
    if needed and not free:
        beside = f" with {found.meta.name}" if found.meta else ""
        raise MissingGroup(
            f"{found.path.name}{beside}: no group column '{group}'; available columns: {shown(table.columns) or 'none'}"
            f"{nearest(group, table.columns)}"
        )
    return None, ""


def _stars(places: Sequence[Strings], found: Found, *, needed: bool) -> Strings | None:
    """Groups by sky position; None if positions are not numbers, or DataError if groups are needed."""
    try:
        ra, dec = (np.where(words == "", "nan", words).astype(np.float64) for words in places)
    except ValueError as error:
        if not needed:
            return None
        raise MissingGroup(f"{found.path.name}: grouping by star needs numeric ra and dec in degrees ({error})") from None
    return stars(ra, dec)
