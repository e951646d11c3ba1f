"""Sources of labelled signals: one file per layout, each handing over the same Dataset.

`read` takes a file or folder as the user has it. Readers are in READERS by the layout's name, simulators in SIMULATORS,
writers of a simulated source in WRITERS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, overload

import numpy as np

from wavefold.base.dataset import Dataset, Ints, Strings, class_names, number_labels
from wavefold.base.errors import DataError, listed, nearest
from wavefold.data.beats_csv import read_contest, write_contest
from wavefold.data.cache import cache_folder, cached, content_digest
from wavefold.data.columns_csv import read_columns
from wavefold.data.ecg import simulate_beats
from wavefold.data.sources import Found, find
from wavefold.data.table import Table, with_columns
from wavefold.data.ts import read_ts
from wavefold.data.wfdb_records import fetch, read_wfdb
from wavefold.data.wide_csv import read_wide

READERS: dict[str, Callable[..., Table]] = {
    "contest": read_contest,
    "wide": read_wide,
    "ts": read_ts,
    "wfdb": read_wfdb,
}
SIMULATORS: dict[str, Callable[..., Dataset]] = {"ecg": simulate_beats}
WRITERS: dict[str, Callable[..., Path]] = {"contest": write_contest}

_PHYSIONET = "physionet:"
_GROUPS = ("record", "group")  # columns that are groups even if nobody asks, so that a run can say that they straddle


@overload
def read(
    source: str | Path,
    *,
    layout: str = ...,
    part: Literal["train"] = ...,
    group: str = ...,
    classes: Sequence[str] | None = ...,
    label_column: str = ...,
    cache: bool = ...,
) -> Dataset: ...


@overload
def read(
    source: str | Path,
    *,
    layout: str = ...,
    part: Literal["test"],
    group: str = ...,
    classes: Sequence[str] | None = ...,
    label_column: str = ...,
    cache: bool = ...,
) -> Dataset | None: ...


def read(
    source: str | Path,
    *,
    layout: str = "auto",
    part: Literal["train", "test"] = "train",
    group: str = "",
    classes: Sequence[str] | None = None,
    label_column: str = "",
    cache: bool = True,
) -> Dataset:
    """Read a file, a folder or `physionet:<database>` into signals (sample, channel, position), ids, labels and groups.

    part: of a folder, its `train*` or `test*` file; None where it has no test file. A file is read whatever the part.
    group: the column that holds groups, in the file or in `<stem>_meta.csv[.gz]` beside it; "" takes `record` or `group`
    where there is one. classes: names that labels must be of, as at scoring; None takes those that the source has.
    label_column: "" is the layout's own. cache: keep the parsed arrays under $WAVEFOLD_CACHE or ~/.cache/wavefold.
    """
    found = find(_local(source), layout, part)
    if found is None:
        return None  # type: ignore[return-value]  # the overloads say when
    options = {"layout": found.layout, "label_column": label_column}
    if cache:
        table, digest = cached(found.files, options, lambda: _parse(found, label_column))
    else:
        table, digest = _parse(found, label_column), content_digest(found.files)
    return _dataset(table, str(source), found, group, classes, digest)


def _local(source: str | Path) -> Path:
    if str(source).startswith(_PHYSIONET):
        database = str(source).removeprefix(_PHYSIONET)
        return fetch(database, cache_folder() / "physionet" / database)
    return Path(source).expanduser()


def _parse(found: Found, label_column: str) -> Table:
    table = READERS[found.layout](found.path, label_column=label_column)
    return table if found.meta is None else with_columns(table, read_columns(found.meta), found.meta.name)


def _dataset(table: Table, source: str, found: Found, group: str, classes: Sequence[str] | None, digest: str) -> Dataset:
    names = tuple(classes or table.classes)
    labels = None
    if table.words is not None:
        names = names or class_names(table.words.tolist())
        labels = _numbers(table.words, names, table, found)
    return Dataset(
        signals=table.signals,
        ids=table.ids,
        labels=labels,
        classes=names,
        groups=_groups(table, group, found),
        unit=table.unit,
        digest=digest,
        source=source,
    )


def _numbers(words: Strings, names: Sequence[str], table: Table, found: Found) -> Ints:
    unit = "sample" if found.layout == "wfdb" else "line"
    places = np.char.add(f"{unit} ", table.lines.astype(np.str_)).tolist()
    if (words == "").any():
        raise DataError(f"{found.path.name} {places[int(np.argmax(words == ''))]}: the label is empty, expected a class")
    return number_labels(words.tolist(), names, places, found.path.name)


def _groups(table: Table, group: str, found: Found) -> Strings | None:
    if group and group not in table.columns:
        beside = f" with {found.meta.name}" if found.meta else ""
        raise DataError(
            f"{found.path.name}{beside}: no column '{group}' for groups; it has {listed(table.columns) or 'none'}"
            f"{nearest(group, table.columns)}"
        )
    name = group or next((c for c in _GROUPS if c in table.columns), "")
    return table.columns[name] if name else None
