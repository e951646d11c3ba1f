"""Sources of labelled signals: one file per layout, each handing over the same Dataset.

`read` takes a file or folder as the user has it, `test_files` lists a folder's files for prediction. Readers are in READERS
by the layout's name, simulators in SIMULATORS, writers of a simulated source in WRITERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from wavefold.base.dataset import Dataset, Ints, Strings, class_names, number_labels
from wavefold.base.errors import DataError, UserError, listed, nearest
from wavefold.data.beats_csv import read_contest, write_contest
from wavefold.data.cache import cache_folder, cached, content_digest
from wavefold.data.columns_csv import read_columns
from wavefold.data.ecg import simulate_beats
from wavefold.data.header import one_named, shown
from wavefold.data.sources import Found, find, test_files
from wavefold.data.table import GROUPS, Table, with_columns
from wavefold.data.ts import read_ts
from wavefold.data.wfdb_records import fetch, read_wfdb
from wavefold.data.wide_csv import read_wide

__all__ = [
    "READERS",
    "SIMULATORS",
    "WRITERS",
    "check_layout",
    "read",
    "simulate_beats",
    "test_files",
    "write_contest",
]

READERS: dict[str, Callable[..., Table]] = {
    "contest": read_contest,
    "wide": read_wide,
    "ts": read_ts,
    "wfdb": read_wfdb,
}
SIMULATORS: dict[str, Callable[..., Dataset]] = {"ecg": simulate_beats}
WRITERS: dict[str, Callable[..., Path]] = {"contest": write_contest}

_PHYSIONET = "physionet:"


def read(
    source: str | Path,
    *,
    layout: str = "auto",
    group: str = "",
    classes: Sequence[str] | None = None,
    label_column: str = "",
    labels: bool = True,
    cache: bool = True,
) -> Dataset:
    """Read a file, a folder or `physionet:<database>` into signals (sample, channel, position), ids, labels and groups.

    Of a folder, its `train*` file or its records are read; `test_files` lists the others. group: the column that holds
    groups, in the file or in `<stem>_meta.csv[.gz]` beside it; "" takes record, group, patient or subject where there is
    one. classes: names that labels must be of, as at scoring; None takes those that the source has. label_column: "" is the
    layout's own. labels: False for prediction, when columns of labels and groups may be missing, and labels may be anything.
    cache: keep the parsed arrays under $WAVEFOLD_CACHE or ~/.cache/wavefold.
    """
    check_layout(layout)
    found = find(_local(source), layout)
    columns: dict[str, str | bool] = {"label_column": label_column, "group": group, "labels": labels}
    if cache:
        table, digest = cached(found.files, {"layout": found.layout, **columns}, lambda: _parse(found, columns))
    else:
        table, digest = _parse(found, columns), content_digest(found.files)
    names = tuple(classes or table.classes or (() if table.words is None else class_names(table.words.tolist())))
    return Dataset(
        signals=table.signals,
        ids=table.ids,
        labels=None if table.words is None else _numbers(table.words, names, table, found),
        classes=names,
        groups=_groups(table, group, found, needed=labels),
        unit=table.unit,
        digest=digest,
        source=str(source),
    )


def check_layout(name: str) -> None:
    """UserError with the nearest name unless `name` is a layout or "auto", which tells layouts by suffix and columns."""
    if name not in ("auto", *READERS):
        raise UserError(f"layout '{name}' is not one of auto, {listed(READERS)}{nearest(name, ('auto', *READERS))}")


def _local(source: str | Path) -> Path:
    if str(source).startswith(_PHYSIONET):
        database = str(source).removeprefix(_PHYSIONET)
        return fetch(database, cache_folder() / "physionet" / database)
    return Path(source).expanduser()


def _parse(found: Found, columns: Mapping[str, str | bool]) -> Table:
    table = READERS[found.layout](found.path, **columns)
    return table if found.meta is None else with_columns(table, read_columns(found.meta), found.meta.name)


def _numbers(words: Strings, names: Sequence[str], table: Table, found: Found) -> Ints:
    unit = "sample" if found.layout == "wfdb" else "line"
    places = np.char.add(f"{unit} ", table.lines.astype(np.str_)).tolist()
    if (words == "").any():
        raise DataError(f"{found.path.name} {places[int(np.argmax(words == ''))]}: the label is empty, expected a class")
    return number_labels(words.tolist(), names, places, found.path.name)


def _groups(table: Table, group: str, found: Found, *, needed: bool) -> Strings | None:
    names = [there for name in ([group] if group else GROUPS) if (there := one_named(table.columns, name))]
    if needed and group and not names:
        beside = f" with {found.meta.name}" if found.meta else ""
        raise DataError(
            f"{found.path.name}{beside}: no column '{group}' for groups; it has {shown(table.columns) or 'none'}"
            f"{nearest(group, table.columns)}"
        )
    return table.columns[names[0]] if names else None
