"""Targets from text columns: numbers to predict, with gaps, and several labels a sample."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wavefold.core.errors import DataError, nearest, plural
from wavefold.data.csv_text import one_named, shown
from wavefold.data.dataset import Dataset, Floats, Strings, class_names, class_word
from wavefold.data.missing_words import are_missing, is_missing, missing_among, spelled

_MISSING = (-9999.0, -999.0)  # that catalogues write for unknown values, however they are spelled
_LARGEST = float(np.finfo(np.float32).max)
_FLAG = "0 or 1 in every sample"
_SEPARATORS = re.compile(r"[;|,]")


def with_numbers(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The samples with the numbers of some columns as targets, NaN for a gap; DataError names the first other text."""
    columns = [_numbers(dataset, name) for name in names]
    return replace(dataset, targets=np.stack(columns, axis=1), target_names=tuple(names))


def with_labels(dataset: Dataset, column: str, names: Sequence[str], *, complete: bool = True) -> Dataset:
    """The samples with the labels that a column lists as targets of 0 and 1, (sample, label).

    An entry is a Python mapping or list ("{'NORM': 100.0}"), or labels separated by ; | or a comma; an empty or missing one has
    no label, and a note says how many there are. names: labels to use, others are ignored; by default all that occur. DataError
    if one of them never occurs, if `complete`.
    """
    entries = _column(dataset, column).tolist()
    lists = [[word for word in _words(entry) if word in names or not is_missing(word)] for entry in entries]
    every = class_names([word for words in lists for word in words])
    chosen = tuple(names) or every
    if not chosen:
        raise DataError(f"{dataset.source}: column '{column}' has no label in any sample")
    number = {name: i for i, name in enumerate(chosen)}
    targets = np.zeros((len(dataset), len(chosen)), np.float32)
    pairs = [(row, number[word]) for row, words in enumerate(lists) for word in words if word in number]
    if pairs:
        targets[tuple(np.array(pairs).T)] = 1.0
    missing = [name for name in chosen if name not in every]
    if missing and complete:
        raise DataError(
            f"{dataset.source}: column '{column}' has no label '{missing[0]}'; it has {shown(every) or 'none'}"
            f"{nearest(missing[0], every)}"
        )
    notes = [*_unlabelled(entries, column, names), *_miscased(every, chosen, column)]
    return replace(dataset, targets=targets, target_names=chosen, notes=(*dataset.notes, *notes))


def with_flags(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The samples with columns of 0 and 1, one for each label, as targets; DataError for a gap or another number."""
    targets = np.stack([_numbers(dataset, name, _FLAG) for name in names], axis=1)
    bad = ~np.isin(targets, (0.0, 1.0))
    if bad.any():
        row, label = np.argwhere(bad)[0]
        text = _column(dataset, names[label])[row]
        raise DataError(f"{dataset.source} id {dataset.ids[row]}: {names[label]} is '{text}', expected {_FLAG}")
    return replace(dataset, targets=targets, target_names=tuple(names))


def _unlabelled(entries: Sequence[str], column: str, names: Sequence[str]) -> list[str]:
    """A note on entries that are empty or a word for a missing one."""
    words = missing_among(entries, names)
    count = sum(entry in words for entry in entries) if words else 0
    if not count:
        return []
    return [
        f"{plural(count, 'sample')} of {len(entries):,} {'have' if count != 1 else 'has'} no entry in '{column}' "
        f"({spelled(words)}): taken as samples without any of the labels; remove those whose labels are unknown"
    ]


def _miscased(every: Sequence[str], chosen: Sequence[str], column: str) -> list[str]:
    """A note on labels of the data that differ from one that is learned only in case."""
    known = {name.casefold(): name for name in chosen}
    pairs = [f"'{word}' and '{known[word.casefold()]}'" for word in every if word.casefold() in known and word not in chosen]
    if not chosen or not pairs:
        return []
    return [f"'{column}': {', '.join(pairs)} differ only in case and count as other labels; spell them one way in the file"]


def check_occurring(dataset: Dataset, truth: Floats, names: Sequence[str]) -> None:
    """Raise DataError if a label is in no sample or in all of them. truth: (sample, label) 0 and 1."""
    shares = truth.mean(axis=0)
    for name, share in zip(names, shares.tolist(), strict=True):
        if share in (0.0, 1.0):
            where = "no sample" if share == 0 else "every sample"
            raise DataError(
                f"{dataset.source}: label '{name}' is in {where}, so there is nothing to learn; leave it out of the labels"
            )


def _column(dataset: Dataset, name: str) -> Strings:
    found = one_named(dataset.columns, name)
    if not found:
        there = shown(dataset.columns) or "none"
        raise DataError(f"{dataset.source}: no column '{name}'; available columns: {there}{nearest(name, dataset.columns)}")
    return dataset.columns[found]


def _numbers(dataset: Dataset, name: str, expected: str = "a finite number or an empty entry") -> Floats:
    words = np.char.strip(_column(dataset, name))
    gaps = are_missing(words)
    numeric = np.where(gaps, "nan", words)
    try:
        values = numeric.astype(np.float64)
    except ValueError:
        values = np.array([_number(word) for word in numeric.tolist()])
    unknown = gaps | np.isin(values, _MISSING)
    bad = ~unknown & (~(np.abs(values) <= _LARGEST) | (np.char.find(words, "_") >= 0))
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(f"{dataset.source} id {dataset.ids[at]}: {name} is '{words[at]}', expected {expected}")
    return np.where(unknown, np.nan, values).astype(np.float32)


def _number(word: str) -> float:
    """The number that a word spells; infinity, which no value may be, if it spells none."""
    try:
        return float(word)
    except ValueError:
        return math.inf


def _words(entry: str) -> list[str]:
    """The labels of one entry."""
    text = entry.strip()
    if text[:1] in ("{", "[", "("):
        try:
            return [class_word(str(word)) for word in ast.literal_eval(text)]
        except (ValueError, SyntaxError, TypeError):
            return [class_word(word) for word in re.findall(r"[\w.+-]+", text)]
    return [class_word(word) for word in _SEPARATORS.split(text) if word.strip()]
