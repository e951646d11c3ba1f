"""The table that a reader returns and the cache stores, before labels are numbered and groups chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, nearest
from wavefold.data.csv_text import one_named, shown
from wavefold.data.dataset import Ints, Signals, Strings, class_word
from wavefold.data.lazy import part_of
from wavefold.data.missing_words import are_missing

# columns used as groups by default
GROUPS = ("record", "group", "patient", "subject", "star", "source_key", "background")
LABEL = "type"  # label column of multi-file sources


@dataclass(frozen=True)
class Table:
    """Samples of one source in the order of its rows."""

    signals: Signals  # (sample, channel, position), or (sample, panel, time, frequency) read on demand
    ids: Strings  # (sample,)
    lines: Ints  # (sample,) line number of each sample in its file; the row number if there are no lines
    words: Strings | None = None  # (sample,) labels as written, without needless fractions
    columns: Mapping[str, Strings] = field(default_factory=dict)  # further text columns, name -> (sample,)
    classes: tuple[str, ...] = ()  # in the source's own order, if it states one
    unit: str = ""  # of one step along the last axis
    axis: NDArray[np.float64] | None = None  # (position,) wavelength of each position, if known
    left_out: tuple[tuple[str, str], ...] = ()  # (id, reason) of unreadable samples that were skipped
    digest: str = ""  # SHA-256 of the signals' bytes, if the reader provides it
    attrs: Mapping[str, str] = field(default_factory=dict)  # what the source states of all signals: signal, values' unit, clock
    positions: tuple[str, ...] = ()  # names of the positions, if they are columns of a table
    notes: tuple[str, ...] = ()  # what the reader guessed or passed over, as lines for the user
    grouping: tuple[str, ...] = ()  # columns that are groups by default, before the usual ones

    def labelled(self, label_column: str, name: str) -> Table:
        """Take labels from a column ("" is `type`, else `class` if no sample lacks one); DataError if a named one is absent."""
        found = one_named(self.columns, label_column or LABEL)
        if not found and label_column:
            there = shown(self.columns) or "none"
            raise DataError(
                f"{name}: no column '{label_column}'; available columns: {there}{nearest(label_column, self.columns)}"
            )
        words = self.columns.get(found or "class")
        usable = words is not None and (bool(found) or not bool(are_missing(words).any()))
        return replace(self, words=label_words(words.tolist()) if usable and words is not None else None)


def label_words(labels: Sequence[str]) -> Strings:
    """Labels without needless fractions: "0.0" and "0" are one class."""
    meant = {word: class_word(word) for word in set(labels)}
    return np.array([meant[word] for word in labels], np.str_)


def with_columns(table: Table, words: Mapping[str, Strings], name: str) -> Table:
    """Add another file's columns, matched by id; DataError for an id that the file lacks. words: includes the column `id`."""
    order = np.argsort(words["id"])
    at = order[np.minimum(np.searchsorted(words["id"], table.ids, sorter=order), len(order) - 1)]
    missing = words["id"][at] != table.ids
    if missing.any():
        raise DataError(f"{name}: has no row for id '{table.ids[int(np.argmax(missing))]}'")
    more = {column: values[at] for column, values in words.items() if column != "id"}
    return replace(table, columns={**more, **table.columns})  # columns of the signals' own file take precedence


def without(table: Table, reasons: Mapping[int, str], *, empty: bool = False) -> Table:
    """The table without some rows, which are listed as left out; DataError if no row is left, unless `empty`.

    reasons: row -> why.
    """
    if not reasons:
        return table
    if len(reasons) == len(table.ids) and not empty:
        raise DataError(f"{reasons[min(reasons)]}; none of the {len(reasons):,} samples can be used")
    keep = np.ones(len(table.ids), bool)
    keep[list(reasons)] = False
    return replace(
        table,
        signals=part_of(table.signals, np.flatnonzero(keep)),
        ids=table.ids[keep],
        lines=table.lines[keep],
        words=None if table.words is None else table.words[keep],
        columns={name: words[keep] for name, words in table.columns.items()},
        left_out=(*table.left_out, *((str(table.ids[row]), reasons[row]) for row in sorted(reasons))),
    )
