"""The layout of the Tianchi heartbeat contest (competition 531883): a CSV `id,heartbeat_signals,label`, plain or gzip.

The second field is a quoted string of comma-joined values. The label is missing in files for prediction; columns may
come in any order, named in any case, and further ones (`record`) are kept as words that can serve as groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from wavefold.base.dataset import Dataset
from wavefold.base.errors import DataError, UserError
from wavefold.base.files import write_text, write_whole
from wavefold.base.process import leads
from wavefold.data.decimals import joined
from wavefold.data.header import column_names, column_place, one_named
from wavefold.data.number_rows import NumberRows
from wavefold.data.table import Table, check_ids, label_words
from wavefold.data.text_lines import csv_fields, decoded, is_row, line_blocks

SIGNALS = "heartbeat_signals"
_UNIT = "1/125 s"  # from a position to the next, in every file of that contest


def read_contest(path: Path, *, label_column: str = "", group: str = "", labels: bool = True) -> Table:
    """Signals (sample, 1, position), ids, labels and further columns of a contest CSV; DataError names line and id.

    label_column: "" is `label`, where there is one; a named one must be there, unless labels are not wanted. group is not
    needed here: every column is kept by its name.
    """
    rows = _Rows(path.name)
    for first, lines in line_blocks(path):
        if first == 1:
            rows.head(lines[0])
        rows.add(lines[first == 1 :], first + (first == 1))
    return rows.table(label_column, labels)


def write_contest(dataset: Dataset, folder: Path, part: str = "train") -> Path:
    """Write `<part>.csv` in the contest's layout, and `<part>_meta.csv` with each id's record where there are groups.

    UserError where one of the two is there already, DataError for what the layout cannot hold.
    """
    if dataset.signals.shape[1] != 1:
        raise DataError(f"{dataset.source}: has {dataset.signals.shape[1]} channels; the contest's layout holds one")
    path, meta = folder / f"{part}.csv", folder / f"{part}_meta.csv"
    there = [file for file in (path, meta) if file.exists()]
    if there and leads():  # of several processes, another may see what the first one has just written
        raise UserError(f"{there[0]}: is there already; name another folder")
    write_whole(path, lambda stream: stream.writelines(_written(dataset)))
    if dataset.groups is not None:
        pairs = zip(dataset.ids.tolist(), dataset.groups.tolist(), strict=True)
        write_text(meta, "id,record\n" + "".join(f"{_quoted(i)},{_quoted(g)}\n" for i, g in pairs))
    return path


def _written(dataset: Dataset, block: int = 1024) -> Iterator[bytes]:
    yield f"id,{SIGNALS}".encode() + (b"\n" if dataset.labels is None else b",label\n")
    for start in range(0, len(dataset), block):
        part = dataset.take(slice(start, start + block))
        ids, signals = list(map(_quoted, part.ids.tolist())), joined(part.signals[:, 0])
        ends = [""] * len(ids) if part.labels is None else [f",{_label(dataset.classes, i)}" for i in part.labels.tolist()]
        yield b"".join(b'%s,"%s"%s\n' % (i.encode(), s, e.encode()) for i, s, e in zip(ids, signals, ends, strict=True))


def _label(classes: Sequence[str], number: int) -> str:
    name = classes[number] if classes else str(number)
    return f"{name}.0" if name.isdigit() else _quoted(name)  # the contest writes its labels as floats


def _quoted(word: str) -> str:
    if "\n" in word or "\r" in word:
        raise DataError(f"{word!r} holds a line end; the contest's layout has a line for each sample")
    return '"' + word.replace('"', '""') + '"' if "," in word or '"' in word else word


class _Rows:
    """The columns of the file, as far as they are read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.columns: list[str] = []
        self.signals = NumberRows()
        self.fields: list[list[str]] = []  # by column; the signals' own stays empty
        self.lines: list[int] = []

    def head(self, line: bytes) -> None:
        """Take the column names from the first line."""
        self.columns = column_names(line, self.name)
        self.fields = [[] for _ in self.columns]
        self._id = column_place(self.columns, "id", self.name)
        self._values = column_place(self.columns, SIGNALS, self.name)

    def add(self, lines: Sequence[bytes], first: int) -> None:
        """Take a block of lines, of which the first has the number `first`."""
        texts, fields, numbers = [], [], []
        for number, line in enumerate(lines, first):
            if is_row(line, self.name, number):
                text, other = self._split(line, number)
                texts.append(text)
                fields.append(other)
                numbers.append(number)
        if texts:
            columns = [self._words(column, numbers) for column in zip(*fields, strict=True)]
            self.signals.add(texts, lambda i: f"{self.name} line {numbers[i]} (id {columns[self._id][i]})")
            self.lines += numbers
            for known, new in zip(self.fields, columns, strict=True):
                known += new

    def table(self, label_column: str, labels: bool) -> Table:
        """All that was read; DataError where it is nothing or an id stands twice."""
        if not self.columns:
            raise DataError(f"{self.name}: is empty, expected the columns id,{SIGNALS},label")
        if not self.lines:
            raise DataError(f"{self.name}: has a header but no rows below it")
        lines = np.array(self.lines, np.int64)
        words = dict(zip(self.columns, self.fields, strict=True))
        del words[self.columns[self._values]]
        ids = check_ids(words.pop(self.columns[self._id]), lines, self.name)
        if labels and label_column:
            column_place(self.columns, label_column, self.name)
        found = words.pop(one_named(words, label_column or "label"), None)
        return Table(
            signals=self.signals.whole()[:, None, :],
            ids=ids,
            lines=lines,
            words=label_words(found) if labels and found is not None else None,
            columns={k: np.array(v, np.str_) for k, v in words.items()},
            unit=_UNIT,
        )

    def _split(self, line: bytes, number: int) -> tuple[bytes, list[bytes]]:
        pieces = line.split(b'"')
        if len(pieces) == 3:  # the contest's own writing: only the signals are quoted
            fields = (pieces[0] + pieces[2]).split(b",")
            if len(fields) == len(self.columns) and not fields[self._values]:
                return pieces[1], fields
        return self._split_exactly(line, number)

    def _split_exactly(self, line: bytes, number: int) -> tuple[bytes, list[bytes]]:
        words = csv_fields(line, f"{self.name} line {number}")
        if len(words) != len(self.columns):
            raise DataError(
                f"{self.name} line {number}: holds {len(words)} fields, expected {len(self.columns)} "
                f"({','.join(self.columns)}), the signals between quotes"
            )
        fields = [word.encode() for word in words]
        return fields[self._values], fields

    def _words(self, column: Sequence[bytes], numbers: Sequence[int]) -> list[str]:
        try:
            return b"\n".join(column).decode().split("\n")
        except UnicodeDecodeError:
            return [decoded(w, f"{self.name} line {n}") for w, n in zip(column, numbers, strict=True)]
