"""Reads `.ts` text files of the UCR and aeon archives (timeseriesclassification.com): equal lengths, one or more channels.

    @classLabel true normal early
    @data
    0.1,0.2,0.3:0.4,0.5,0.6:normal

Channels are separated by colons, and the class comes last. Missing values, time stamps, unequal lengths and regression
targets are rejected. Samples are numbered from 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from wavefold.core.errors import DataError, listed, nearest
from wavefold.data.csv_text import NumberRows, decoded, left_out_lines, line_blocks, no_rows, row_numbers
from wavefold.data.dataset import class_word
from wavefold.data.table import Table, without

_REFUSED = {"timestamps": "time stamps", "missing": "missing values", "targetlabel": "numeric targets"}


def read_ts(path: Path, *, label_column: str = "", group: str = "", labels: bool = True, skip_bad: bool = False) -> Table:
    """Read signals (sample, channel, position) and labels from a .ts file; DataError names the line.

    The format has no columns: label_column must be "" if labels are wanted, and group is ignored. With skip_bad, samples that
    cannot be read are listed in left_out; otherwise the first one raises DataError.
    """
    if labels and label_column:
        raise DataError(f"{path.name}: a .ts file has no columns; unset the label column '{label_column}'")
    rows = _Rows(path.name, labels, skip_bad)
    for first, lines in line_blocks(path):
        rows.add(lines, first)
    return rows.table()


class _Rows:
    """The header and the samples read so far."""

    def __init__(self, name: str, labels: bool, skip_bad: bool) -> None:
        self.name = name
        self.bad: dict[int, str] | None = {} if skip_bad else None  # line -> error of samples that cannot be split
        self.labels = labels
        self.header: dict[str, list[str]] = {}  # by lower-case word
        self.classes: tuple[str, ...] | None = None
        self.signals = NumberRows(skip_bad=skip_bad)
        self.lines: list[int] = []
        self.words: list[str] = []
        self.channels = 0

    def add(self, lines: Sequence[bytes], first: int) -> None:
        """Add a block of lines; the first has line number `first`."""
        texts: list[bytes] = []
        start = len(self.lines)
        for number, line in enumerate(lines, first):
            line = line.strip()
            if "data" in self.header and line:
                texts += self._sample_or_note(line, number)
            elif line and not line.startswith(b"#"):
                self._take_header(decoded(line, f"{self.name} line {number}"), number)
                if "data" in self.header and self.bad is not None:  # the first sample may be the bad one
                    self.channels = _usual_channels(lines[number - first + 1 :], self.classes is not None)
        self.signals.add(texts, lambda i: self._place(start + i // self.channels, i % self.channels))

    def table(self) -> Table:
        """Return everything read; DataError if there is no @data or nothing below it."""
        if "data" not in self.header:
            raise DataError(f"{self.name}: has no @data line, expected the header of a .ts file")
        if not self.lines and not self.bad:
            raise DataError(f"{self.name}: has a header but no samples below @data")
        if not self.lines:
            raise no_rows(self.name, self.bad)
        rows, lines = self.signals.whole(), np.array(self.lines, np.int64)
        table = Table(
            signals=rows.reshape(len(self.lines), self.channels, -1),
            ids=row_numbers(lines, self.bad),
            lines=lines,
            words=None if self.classes is None or not self.labels else np.array(self.words, np.str_),
            classes=self.classes or (),
            left_out=left_out_lines(self.bad),
        )
        return without(table, {row // self.channels: why for row, why in reversed(self.signals.bad.items())})

    def _take_header(self, line: str, number: int) -> None:
        if not line.startswith("@"):
            raise DataError(f"{self.name} line {number}: {line[:40]!r}, expected a line that begins with @ or #")
        key, *values = line[1:].split() or [""]
        if not key:
            raise DataError(f"{self.name} line {number}: {line[:40]!r}, expected a word after the @, such as @data")
        self.header[key.lower()] = values
        if key.lower() == "data":
            _refuse(self.header, self.name)
            self.classes = _classes(self.header.get("classlabel", []), self.name)

    def _sample_or_note(self, line: bytes, number: int) -> list[bytes]:
        try:
            return self._sample(line, number)
        except DataError as error:
            if self.bad is None:
                raise
            self.bad[number] = str(error)
            return []

    def _sample(self, line: bytes, number: int) -> list[bytes]:
        *channels, word = line.split(b":")
        place = f"{self.name} line {number}"
        if self.classes is None:
            channels, word = [*channels, word], b""
        self.channels = self.channels or len(channels)
        if not channels or len(channels) != self.channels:
            wanted = f"{self.channels or 1} and a class" if self.classes is not None else str(self.channels)
            raise DataError(
                f"{place}: has {len(channels)} channel{'s' if len(channels) != 1 else ''}, expected {wanted}, "
                "separated by colons"
            )
        self.words.append(self._known(class_word(decoded(word, place)), place))
        self.lines.append(number)
        return channels

    def _known(self, word: str, place: str) -> str:
        if self.labels and self.classes and word not in self.classes:
            near = nearest(word, self.classes)
            raise DataError(f"{place}: label {word!r} is not one of {listed(self.classes)}, the file's @classLabel{near}")
        return word

    def _place(self, row: int, channel: int) -> str:
        return f"{self.name} line {self.lines[row]}" + (f" channel {channel + 1}" if self.channels > 1 else "")


def _usual_channels(lines: Sequence[bytes], classed: bool) -> int:
    """The commonest number of channels of some samples; 0 if there are none. classed: whether a class comes last."""
    counts = Counter(line.count(b":") + (0 if classed else 1) for line in lines if line.strip())
    return counts.most_common(1)[0][0] if counts else 0


def _refuse(header: Mapping[str, Sequence[str]], name: str) -> None:
    for key, what in _REFUSED.items():
        if _first(header.get(key, [])) == "true":
            raise DataError(f"{name}: @{key} true: {what} are not supported; expected plain series with a class")
    if _first(header.get("equallength", [])) == "false":
        raise DataError(f"{name}: @equalLength false: expected series of equal length")


def _classes(values: Sequence[str], name: str) -> tuple[str, ...] | None:
    if _first(values) != "true":
        return None
    classes = tuple(class_word(v) for v in values[1:])
    if len(set(classes)) < len(classes):
        twice = next(c for c in classes if classes.count(c) > 1)
        written = listed(v for v in values[1:] if class_word(v) == twice)
        raise DataError(f"{name}: @classLabel names class '{twice}' twice ({written}), expected each class once")
    return classes


def _first(values: Sequence[str]) -> str:
    return values[0].lower() if values else ""
