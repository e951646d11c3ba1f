"""Defines Dataset, the frozen container of labelled signals that readers return and every later step takes.

Axes: signals are (sample, channel, position) float32, or (sample, panel, row, column) and the like; labels are class
numbers; ids are in the order of the source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, listed, nearest, plural
from wavefold.data.lazy import Floats, Ints, Signals, part_of

__all__ = [
    "UNIT",
    "Dataset",
    "Floats",
    "Ints",
    "Signals",
    "Strings",
    "check_ids",
    "class_names",
    "class_word",
    "number_labels",
    "shape_words",
]

Strings = NDArray[np.str_]
UNIT = "unit"  # the key of `attrs` for the unit of the values


@dataclass(frozen=True)
class Dataset:
    """Samples of one source, in the order of its rows."""

    signals: Signals  # (sample, channel, ...); may be memory-mapped, or read on demand
    ids: Strings  # (sample,)
    labels: Ints | None = None  # (sample,) class numbers; None if the source has none
    classes: tuple[str, ...] = ()  # class names, in the order of their numbers
    groups: Strings | None = None  # (sample,) what a split must keep together: record, star, background
    grouping: str = ""  # the groups' column, or "star" if they come from sky positions
    unit: str = ""  # unit of the last axis's steps, for display: "1/125 s"
    digest: str = ""  # hash of the source's bytes
    source: str = ""  # path or name that was read, for messages
    axis: NDArray[np.float64] | None = None  # (position,) wavelength or time of each position, if known
    left_out: tuple[tuple[str, str], ...] = ()  # (id, reason) of samples skipped because they could not be read
    columns: Mapping[str, Strings] = field(default_factory=dict)  # further text columns, name -> (sample,)
    attrs: Mapping[str, str] = field(default_factory=dict)  # what the source states of all signals: signal, values' unit, clock
    positions: tuple[str, ...] = ()  # names of the positions, if they are columns of a table
    notes: tuple[str, ...] = ()  # what the reader guessed or passed over, as lines for the user
    targets: Floats | None = None  # (sample, target): numbers to predict, NaN where unknown; or 0 and 1 for each label
    target_names: tuple[str, ...] = ()  # names of the numbers, or of the labels, in the order of `targets`
    label_advice: str = ""  # how to name labels, for the error if there are none

    def __len__(self) -> int:
        return len(self.signals)

    def take(self, index: Ints | slice) -> Dataset:
        """Select the samples at `index`, in its order."""
        return replace(
            self,
            signals=part_of(self.signals, index),
            ids=self.ids[index],
            labels=None if self.labels is None else self.labels[index],
            groups=None if self.groups is None else self.groups[index],
            columns={name: words[index] for name, words in self.columns.items()},
            targets=None if self.targets is None else self.targets[index],
        )

    def known_labels(self) -> Ints:
        """Return the labels; DataError if the source has none."""
        if self.labels is None:
            advice = f"; {self.label_advice}" if self.label_advice else ""
            raise DataError(f"{self.source}: has no labels; training and scoring need a label for each sample{advice}")
        return self.labels


def shape_words(shape: Sequence[int]) -> str:
    """Describe the shape of one sample: "1 channel of 205 values", or "6 x 273 x 256" for more axes."""
    return f"{plural(shape[0], 'channel')} of {plural(shape[1], 'value')}" if len(shape) == 2 else " x ".join(map(str, shape))


def class_names(words: Sequence[str]) -> tuple[str, ...]:
    """Distinct labels in natural order: numeric if all are finite numbers, otherwise alphabetical."""
    distinct = sorted(set(words))  # '01' and '1' are equal as numbers and stay in alphabetical order
    try:
        values = {word: float(word) for word in distinct}
    except ValueError:
        return tuple(distinct)
    return tuple(sorted(distinct, key=values.__getitem__) if all(map(math.isfinite, values.values())) else distinct)


def class_word(word: str) -> str:
    """A label as written, without a needless fraction: '0.0' and '0' are the same class."""
    word = word.strip()
    whole, dot, zeros = word.partition(".")
    return whole if dot and not zeros.strip("0") and whole.lstrip("+-").isdigit() else word


def check_ids(ids: Sequence[str], lines: Ints, name: str) -> Strings:
    """Return the ids as an array; DataError names both lines of a duplicate id."""
    if len(set(ids)) < len(ids):
        seen: dict[str, int] = {}
        for at, word in enumerate(ids):
            if word in seen:
                raise DataError(f"{name} line {lines[at]}: id {word!r} is already in line {lines[seen[word]]}")
            seen[word] = at
    return np.array(ids, dtype=np.str_)


def number_labels(words: Sequence[str], classes: Sequence[str], places: Sequence[object], source: str) -> Ints:
    """Class numbers of labels. places: the line or id of each label, to name the first unknown one in the error."""
    number = {name: i for i, name in enumerate(classes)}
    labels = np.fromiter((number.get(w, -1) for w in words), np.int64, len(words))
    if len(labels) and labels.min() < 0:
        at = int(np.argmin(labels))
        raise DataError(
            f"{source} {places[at]}: label {words[at]!r} is not one of {listed(classes)}{nearest(words[at], classes)}"
        )
    return labels
