"""Labelled signals as one frozen value: what readers hand over and every later step takes.

Axes: signals are (sample, channel, position) float32, or (sample, panel, row, column) and the like; labels number the
classes; ids keep the order of the source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from wavefold.base.errors import DataError, listed, nearest
from wavefold.base.lazy import Floats, Ints, Signals, part_of

__all__ = [
    "Dataset",
    "Floats",
    "Ints",
    "Signals",
    "Strings",
    "class_names",
    "class_word",
    "number_labels",
    "shape_words",
]

Strings = NDArray[np.str_]


@dataclass(frozen=True)
class Dataset:
    """Samples of one source, in the order of its rows."""

    signals: Signals  # (sample, channel, ...); may be memory-mapped, or read on demand
    ids: Strings  # (sample,)
    labels: Ints | None = None  # (sample,) numbers of classes; None where the source has none
    classes: tuple[str, ...] = ()  # names, in the order of their numbers
    groups: Strings | None = None  # (sample,) what must not straddle a split: record, star, background
    grouping: str = ""  # what the groups are: the column's name, or star where positions on the sky tell them
    unit: str = ""  # of the last axis's steps, as people write it: "1/125 s"
    digest: str = ""  # of the source's bytes
    source: str = ""  # the path or name that was read, for messages
    axis: NDArray[np.float64] | None = None  # (position,) the wavelength or time of each position, where the source says it
    left_out: tuple[tuple[str, str], ...] = ()  # (id, why) of samples that could not be read and were passed over
    columns: Mapping[str, Strings] = field(default_factory=dict)  # further words of each sample, name -> (sample,)

    def __len__(self) -> int:
        return len(self.signals)

    def take(self, index: Ints | slice) -> Dataset:
        """The samples at `index`, in its order."""
        return replace(
            self,
            signals=part_of(self.signals, index),
            ids=self.ids[index],
            labels=None if self.labels is None else self.labels[index],
            groups=None if self.groups is None else self.groups[index],
            columns={name: words[index] for name, words in self.columns.items()},
        )

    def known_labels(self) -> Ints:
        """The labels, where they are needed; DataError where the source has none."""
        if self.labels is None:
            raise DataError(f"{self.source}: has no labels; training and scoring need a label for each sample")
        return self.labels


def shape_words(shape: Sequence[int]) -> str:
    """The shape of one sample for people: "1 channel(s) of 205 values", or "6 x 273 x 256" where there are more axes."""
    return f"{shape[0]} channel(s) of {shape[1]} values" if len(shape) == 2 else " x ".join(map(str, shape))


def class_names(words: Sequence[str]) -> tuple[str, ...]:
    """Distinct label words in their natural order: as numbers where all are finite numbers, else by letter."""
    distinct = sorted(set(words))  # of '01' and '1', which are one number, the first by letter stays first
    try:
        values = {word: float(word) for word in distinct}
    except ValueError:
        return tuple(distinct)
    return tuple(sorted(distinct, key=values.__getitem__) if all(map(math.isfinite, values.values())) else distinct)


def class_word(word: str) -> str:
    """A label as written, less a needless fraction: '0.0' and '0' are one class."""
    word = word.strip()
    whole, dot, zeros = word.partition(".")
    return whole if dot and not zeros.strip("0") and whole.lstrip("+-").isdigit() else word


def number_labels(words: Sequence[str], classes: Sequence[str], places: Sequence[object], source: str) -> Ints:
    """Class numbers of label words. places: the line or id of each word, for the error that names the first bad one."""
    number = {name: i for i, name in enumerate(classes)}
    labels = np.fromiter((number.get(w, -1) for w in words), np.int64, len(words))
    if len(labels) and labels.min() < 0:
        at = int(np.argmin(labels))
        raise DataError(
            f"{source} {places[at]}: label {words[at]!r} is not one of {listed(classes)}{nearest(words[at], classes)}"
        )
    return labels
