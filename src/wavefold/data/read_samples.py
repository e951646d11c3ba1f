"""Reads labelled samples from a source: finds its files, uses the cache, numbers the labels and chooses the groups."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypedDict

import numpy as np

from wavefold.core.errors import DataError, MissingGroup, UserError, listed, nearest, plural
from wavefold.data.cache import cached, content_digest, stored, with_digest
from wavefold.data.csv_text import first_line, one_named, read_columns, shown
from wavefold.data.dataset import Dataset, Strings, class_names, number_labels
from wavefold.data.distinct import first_repeat, id_hashes
from wavefold.data.index_csv import check_label
from wavefold.data.layout import Found
from wavefold.data.lazy import blocks_of, rows_of_part, values_of
from wavefold.data.missing_words import are_missing, missing_among, spelled
from wavefold.data.rebin import grid_centres
from wavefold.data.remote import local
from wavefold.data.sky import stars
from wavefold.data.sources import LAYOUTS, find
from wavefold.data.table import GROUPS, Table, with_columns, without
from wavefold.data.text_parts import NotInParts, Span, TextPart, head_of, spans_of
from wavefold.data.wide_header import label_like, wide_header


class _Columns(TypedDict):
    """The arguments that every layout's `read` takes."""

    label_column: str
    group: str
    labels: bool


@dataclass(frozen=True)
class How:
    """How the table of a source is read; the legend is that of `read`."""

    layout: str = "auto"
    group: str = ""
    label_column: str = ""
    grid: Sequence[float] | None = None
    rate: int = 0
    signal: str = ""
    wavelength_unit: str = ""
    medium: str = ""
    apart: Sequence[str] = ()
    skip_bad: bool = False

    def find(self, source: str | Path) -> Found:
        """The files of a source."""
        check_layout(self.layout)
        return find(local(source), self.layout)

    def columns(self, *, labels: bool) -> _Columns:
        """The arguments that every layout takes."""
        return {"label_column": self.label_column, "group": self.group, "labels": labels}

    def options(self) -> dict[str, object]:
        """The arguments that some layouts take, by name."""
        options: dict[str, object] = {"grid": self.grid and [float(v) for v in self.grid], "rate": self.rate}
        options |= {"apart": [name for name in self.apart if name], "skip_bad": self.skip_bad}
        return options | {"signal": self.signal, "wavelength_unit": self.wavelength_unit, "medium": self.medium}


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
    missing: Sequence[float] = (),
    skip_bad: bool = False,
    grouped: bool | None = None,
    apart: Sequence[str] = (),
    named: Sequence[str] = (),
    part: TextPart | None = None,
) -> Dataset:
    """Read signals (sample, channel, position), ids, labels and groups.

    source: a file, a folder, a URL such as `s3://bucket/file.csv`, or `physionet:<database>`.

    From a folder, reads its `train*` file, the index of a multi-file source, or its records; `test_files` lists the rest.
    group: the column with the groups, in the file or in `<stem>_meta.csv[.gz]` beside it; "" and "auto" use the first of
    record, group, patient, subject, star, source_key and background that exists, otherwise stars found from `ra` and `dec`
    (degrees), as "star" does. classes: class names that labels must belong to, as in evaluation; None uses those in the
    source. label_column: "" means the layout's default. labels: False for inference, when label and group columns may be
    missing and labels are not checked. cache: keep the parsed arrays under $WAVEFOLD_CACHE or the user's cache folder. grid:
    for FITS files, the first and last wavelength and the step in angstrom. rate: for PTB-XL, values per second, 100 or 500; 0
    takes the lower one that is there. signal: for WFDB records, the name of the signal to cut beats from, or several in order
    of preference, joined by commas. wavelength_unit: of the numbers in wavelength.txt. medium: "vacuum" or "air", in which
    wavelengths are wanted. missing: values that mean missing, such as -9999: a sample with one cannot be read. skip_bad: skip
    samples (files, or rows of a table) that cannot be read or have no label, and list them in left_out; otherwise the first
    one raises DataError. grouped: whether a named group column must exist; None means as `labels`. apart: columns of a wide
    CSV that are not measurements, such as numbers to predict. named: classes that the recipe names: a word such as "none" is a
    class only if it is among them, among `classes`, or in the file's own list of classes; otherwise it means that the label is
    missing. part: of a text file, to read it alone; ids are then distinct within it, and nothing is cached.
    """
    how = How(layout, group, label_column, grid, rate, signal, wavelength_unit, medium, apart, skip_bad)
    found = how.find(source)
    if part is None:
        table, digest = _table(found, how.columns(labels=labels), cache, how.options(), skip_bad)
    else:
        table, digest = part_table(found, how, part, labels=labels), ""
    table = _without_codes(table, found, missing, skip_bad=skip_bad, empty=part is not None) if missing else table
    table = _with_labels(table, found, {*named, *(classes or ()), *table.classes}, skip_bad=skip_bad)
    names = tuple(classes or table.classes or (() if table.words is None else class_names(table.words.tolist())))
    numbers = (
        None if table.words is None else number_labels(table.words.tolist(), names, _places(table, found), found.path.name)
    )
    needed = labels if grouped is None else grouped
    groups, grouping = _groups(table, group, found, needed=needed)
    if groups is not None:
        table, groups = _with_lone_groups(table, groups, grouping, needed=needed)
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
        label_advice=_label_advice(table, found) if labels and numbers is None else "",
    )


def part_table(found: Found, how: How, part: TextPart, *, labels: bool) -> Table:
    """The table of one part of a text file, for a layout that can be read in parts; it may have no rows."""
    layout, options = LAYOUTS[found.layout], how.options()
    given = {**how.columns(labels=labels), **{name: options[name] for name in layout.options if options[name]}}
    table = layout.read(found.path, **given, part=part)
    if found.meta is None:
        return table
    stat = found.meta.stat()
    return with_columns(table, _further(found.meta, stat.st_mtime_ns, stat.st_size), found.meta.name)


@lru_cache(maxsize=1)  # for the parts of one file
def _further(meta: Path, changed: int, size: int) -> Mapping[str, Strings]:
    """The columns beside a table, for each of its parts. changed, size: of the file, so that another one is read anew."""
    return read_columns(meta)


@dataclass(frozen=True)
class InParts:
    """A large text file, to be read in parts."""

    head: Table  # without rows: what the first lines tell
    spans: tuple[Span, ...]
    rows: int  # those that cannot be read included


def in_parts(found: Found, how: How, *, labels: bool, size: int) -> InParts | None:
    """How a source is read in parts of about `size` bytes of signals; None if it is small, or can only be read whole."""
    layout = LAYOUTS[found.layout]
    if not layout.in_parts or found.path.stat().st_size < LARGE_TEXT:
        return None
    try:
        head = part_table(found, how, head_of(found.path), labels=labels)
    except NotInParts:
        return None
    values = values_of(head.signals)
    if not values:  # no row of the first lines can be read
        return None
    header = not wide_header(first_line(found.path), found.path.name).is_sample
    spans, rows = spans_of(found.path, rows_of_part(values, size), header=header)
    return InParts(head, tuple(spans), rows)


LARGE_TEXT = 64 << 20  # bytes of a file, packed or not; smaller ones are read whole


def source_table(found: Found, how: How, *, store: Path | None = None) -> tuple[Table, str]:
    """A whole source as its layout reads it, with its digest, without the cache: labels of many files are still a column.

    store: a folder in which rows of many files are kept while they are read, to go on there.
    """
    layout, options = LAYOUTS[found.layout], how.options()
    if layout.keeps != "rows":
        return _table(found, how.columns(labels=True), False, options, how.skip_bad)
    given = {name: options[name] for name in layout.options}
    read_rows = partial(layout.read, found.path, **how.columns(labels=False), **given)
    return with_digest(_with_distinct_ids(read_rows(skip_bad=how.skip_bad, store=store), found))


def _without_codes(table: Table, found: Found, missing: Sequence[float], *, skip_bad: bool, empty: bool) -> Table:
    """Leave out the samples with a value that means missing; DataError for the first one unless skip_bad."""
    codes, bad = np.array(missing, np.float32), dict[int, str]()
    places = _places(table, found)
    for rows, values in blocks_of(table.signals):
        flat = np.isin(values, codes).reshape(len(values), -1)
        for row in np.flatnonzero(flat.any(axis=1)).tolist():
            at, whole = int(flat[row].argmax()), rows.start + row
            value = values[row].reshape(-1)[at]
            bad[whole] = f"{found.path.name} {places[whole]}: value {at + 1} is {value:g}, which data.missing names"
    if bad and not skip_bad:
        raise DataError(
            f"{bad[min(bad)]}; leave out the {plural(len(bad), 'sample')} like it with --skip-bad, or fill the gaps"
        )
    return without(table, bad, empty=empty)


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


def _table(found: Found, columns: _Columns, cache: bool, options: Mapping[str, object], skip_bad: bool) -> tuple[Table, str]:
    layout = LAYOUTS[found.layout]
    if layout.keeps == "nothing":
        return with_digest(_with_distinct_ids(layout.read(found.path, **columns, skip_bad=skip_bad), found))
    if layout.keeps == "digest":
        table = layout.read(found.path, **columns, **{name: options[name] for name in layout.options})
        if table.left_out and not skip_bad:
            raise DataError(table.left_out[0][1])
        return table, table.digest
    if layout.keeps == "rows":
        return _many(found, columns, cache, {name: options[name] for name in layout.options}, skip_bad)
    given = {**columns, **{name: options[name] for name in layout.options if options[name]}}
    if cache:
        return cached(found.files, {"layout": found.layout, **given}, lambda: _parse(found, given))
    return _parse(found, given), content_digest(found.files)


def _many(found: Found, columns: _Columns, cache: bool, options: Mapping[str, object], skip_bad: bool) -> tuple[Table, str]:
    """A multi-file source; one cache entry serves any label column, group column and skip_bad setting."""

    def parse(store: Path | None) -> Table:
        read_rows = LAYOUTS[found.layout].read
        return _with_distinct_ids(read_rows(found.path, **columns, **options, skip_bad=skip_bad, store=store), found)

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
    table = _with_distinct_ids(LAYOUTS[found.layout].read(found.path, **given), found)
    return table if found.meta is None else with_columns(table, read_columns(found.meta), found.meta.name)


def _with_distinct_ids(table: Table, found: Found) -> Table:
    """The table itself; DataError names both places of an id that occurs twice, whatever the reader."""
    repeat = first_repeat(id_hashes(table.ids), table.ids.__getitem__)
    if repeat is not None:
        again, first = repeat
        word, lines = LAYOUTS[found.layout].row, table.lines
        raise DataError(f"{found.path.name} {word} {lines[again]}: id '{table.ids[again]}' is already in {word} {lines[first]}")
    return table


def _places(table: Table, found: Found) -> Sequence[str]:
    """The line or id of each sample, for an error message, (sample,)."""
    layout = LAYOUTS[found.layout]
    if layout.keeps != "table" and ".csv" not in found.path.suffixes:
        ids: list[str] = table.ids.tolist()  # file names
        return ids
    places: list[str] = np.char.add(f"{layout.row} ", table.lines.astype(np.str_)).tolist()
    return places


def _with_labels(table: Table, found: Found, named: Collection[str], *, skip_bad: bool) -> Table:
    """Leave out samples without a label, if `skip_bad`; otherwise DataError for the first one. named: as in `read`."""
    if table.words is None:
        return table
    bad = are_missing(table.words, named)
    if not bad.any():
        return table
    rows, places = np.flatnonzero(bad).tolist(), _places(table, found)
    reasons = {row: _no_label(str(table.words[row]), f"{found.path.name} {places[row]}") for row in rows}
    if not skip_bad:
        others = class_names([w for w in set(table.words[~bad].tolist()) | {str(table.words[rows[0]])} if w])
        raise DataError(f"{reasons[rows[0]]}; {_way_on(str(table.words[rows[0]]), others)}")
    return without(table, reasons)


def _no_label(word: str, place: str) -> str:
    return f"{place}: the label is {f'{word!r}, which means missing' if word else 'empty'}, expected a class name"


def _way_on(word: str, names: Sequence[str]) -> str:
    """What to do about a missing label. names: all classes, with the word if it is not empty."""
    way = "leave such samples out with --skip-bad"
    if not word or len(names) > _FEW:
        return way
    quoted = ",".join(f'"{name}"' for name in names)
    return f"{way}, or, if it is a class, name the classes: --set 'data.classes=[{quoted}]'"


def _label_advice(table: Table, found: Found) -> str:
    """What to do if a source has no labels."""
    layout = LAYOUTS[found.layout]
    if layout.no_labels:
        return layout.no_labels
    ends = dict.fromkeys([*table.positions[-1:], *table.positions[:1]])
    likely = [name for name in ends if label_like(table.signals[:][:, 0, table.positions.index(name)])]
    there = likely or [name for name in table.columns if _has_words(table.columns[name])]
    if there:
        also = f" (columns {listed(likely)} hold few whole numbers)" if len(likely) > 1 else f"; columns: {shown(there)}"
        return f"name their column, such as --set data.label={there[0]}{also}"
    return f"add {layout.label_place}"


def _with_lone_groups(table: Table, groups: Strings, grouping: str, *, needed: bool) -> tuple[Table, Strings]:
    """Make each sample without a group a group of its own, with a note if groups are needed."""
    of = [grouping] if grouping in table.columns else [one_named(table.columns, name) for name in ("ra", "dec")]
    bad = np.any([are_missing(table.columns[name]) for name in of], axis=0)
    if not bad.any():
        return table, groups
    written = [word for name in of for word in missing_among(table.columns[name].tolist())]
    alone = np.char.add(np.char.add(table.ids, " without "), grouping)
    note = (
        f"{int(bad.sum()):,} of {plural(len(bad), 'sample')} {'have' if bad.sum() != 1 else 'has'} no {' or '.join(of)} "
        f"({spelled(written)}): each is a group of its own"
    )
    return replace(table, notes=(*table.notes, note) if needed else table.notes), np.where(bad, alone, groups)


def _groups(table: Table, group: str, found: Found, *, needed: bool) -> tuple[Strings | None, str]:
    """The groups and the name of their column; None and '' if there are none and none are needed."""
    free = group in ("", "auto")
    usual = (*table.grouping, *LAYOUTS[found.layout].groups, *GROUPS)
    names = [there for name in (usual if free else [group]) if (there := one_named(table.columns, name))]
    names = [name for name in names if not free or _has_words(table.columns[name])]
    if names:
        return table.columns[names[0]], names[0]
    places = [table.columns[there] for name in ("ra", "dec") if (there := one_named(table.columns, name))]
    if len(places) == 2 and (all(map(_has_words, places)) if free else group.lower() == "star"):
        found_stars = _stars(places, found, needed=not free)
        return found_stars, "" if found_stars is None else "star"
    if needed and not free:
        beside = f" with {found.meta.name}" if found.meta else ""
        raise MissingGroup(
            f"{found.path.name}{beside}: no group column '{group}'; available columns: {shown(table.columns) or 'none'}"
            f"{nearest(group, table.columns)}"
        )
    return None, ""


def _has_words(words: Strings) -> bool:
    distinct = set(words.tolist())
    return len(missing_among(distinct)) < len(distinct)


def _stars(places: Sequence[Strings], found: Found, *, needed: bool) -> Strings | None:
    """Groups by sky position; None if positions are not numbers, or DataError if groups are needed."""
    try:
        ra, dec = (np.where(are_missing(words), "nan", words).astype(np.float64) for words in places)
    except ValueError as error:
        if not needed:
            return None
        raise MissingGroup(f"{found.path.name}: grouping by star needs numeric ra and dec in degrees ({error})") from None
    return stars(np.where(np.abs(ra) <= _TURN, ra, np.nan), dec)  # -999 and the like are no places


_TURN = 360  # degrees
_FEW = 12  # classes that a message lists
