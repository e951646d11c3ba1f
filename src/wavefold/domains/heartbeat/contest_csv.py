"""The layout of the Tianchi heartbeat contest (competition 531883): a CSV `id,heartbeat_signals,label`, plain or gzip.

The second field is a quoted string of comma-separated values. Test files have no label. Columns may be in any order, with
names in any case; extra columns (`record`) are kept as text and can serve as groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from wavefold.core.errors import DataError, UserError
from wavefold.core.files import write_text, write_whole
from wavefold.core.process import is_main_process
from wavefold.data.csv_text import (
    NumberRows,
    column_names,
    column_place,
    csv_fields,
    decoded,
    left_out_lines,
    line_blocks,
    no_rows,
    one_named,
    split_rows,
)
from wavefold.data.dataset import Dataset, check_ids
from wavefold.data.decimals import joined
from wavefold.data.table import Table, label_words, without
from wavefold.data.text_parts import TextPart

SIGNALS = "heartbeat_signals"
_UNIT = "1/125 s"  # sampling interval of every file in the contest
_Fields = tuple[bytes, list[bytes]]  # of a row: its signal and all its fields


def read_contest(
    path: Path,
    *,
    label_column: str = "",
    group: str = "",
    labels: bool = True,
    skip_bad: bool = False,
    part: TextPart | None = None,
) -> Table:
    """Signals (sample, 1, position), ids, labels and extra columns of a contest CSV; DataError names line and id.

    label_column: "" means `label`, if present; a named column must exist unless labels is False. group is unused: every
    column is kept under its name. With skip_bad, rows that cannot be read are listed in left_out; otherwise the first one
    raises DataError. part: read this part of the file alone; it may turn out to have no row that can be read.
    """
    rows = _Rows(path.name, skip_bad)
    if part is not None:
        rows.read(part.head)
        rows.restart()
    rows.read(line_blocks(path) if part is None else part.blocks)
    return rows.table(label_column, labels, whole=part is None)


def write_contest(dataset: Dataset, folder: Path, part: str = "train") -> Path:
    """Write `<part>.csv` in the contest layout and, if the dataset has groups, `<part>_meta.csv` with each id's record.

    UserError if either file already exists, DataError for data that the layout cannot represent.
    """
    if dataset.signals.shape[1] != 1:
        raise DataError(f"{dataset.source}: has {dataset.signals.shape[1]} channels; the contest layout supports only 1")
    path, meta = folder / f"{part}.csv", folder / f"{part}_meta.csv"
    there = [file for file in (path, meta) if file.exists()]
    if there and is_main_process():  # other processes may see what the main process has just written
        raise UserError(f"{there[0]}: already exists; choose another folder")
    write_whole(path, lambda stream: stream.writelines(_written(dataset)))
    if dataset.groups is not None:
        pairs = zip(dataset.ids.tolist(), dataset.groups.tolist(), strict=True)
        write_text(meta, "id,record\n" + "".join(f"{_quoted(i)},{_quoted(g)}\n" for i, g in pairs))
    return path


def _written(dataset: Dataset, block: int = 1024) -> Iterator[bytes]:
    yield f"id,{SIGNALS}".encode() + (b"\n" if dataset.labels is None else b",label\n")
    for start in range(0, len(dataset), block):
        part = dataset.take(slice(start, start + block))
        ids, signals = list(map(_quoted, part.ids.tolist())), joined(part.signals[:][:, 0])
        ends = [""] * len(ids) if part.labels is None else [f",{_label(dataset.classes, i)}" for i in part.labels.tolist()]
        yield b"".join(b'%s,"%s"%s\n' % (i.encode(), s, e.encode()) for i, s, e in zip(ids, signals, ends, strict=True))


def _label(classes: Sequence[str], number: int) -> str:
    name = classes[number] if classes else str(number)
    return f"{name}.0" if name.isdigit() else _quoted(name)  # the contest writes labels as floats


def _quoted(word: str) -> str:
    if "\n" in word or "\r" in word:
        raise DataError(f"{word!r} contains a line break; the contest layout has one line per sample")
    return '"' + word.replace('"', '""') + '"' if "," in word or '"' in word else word


class _Rows:
    """The columns of the file, as read so far."""

    def __init__(self, name: str, skip_bad: bool) -> None:
        self.name = name
        self.columns: list[str] = []
        self.signals = NumberRows(skip_bad=skip_bad)
        self.bad: dict[int, str] | None = {} if skip_bad else None  # line -> error of rows that cannot be split
        self.fields: list[list[str]] = []  # per column; the signal column stays empty
        self.lines: list[int] = []

    def read(self, blocks: Iterable[tuple[int, list[bytes]]]) -> None:
        """Add blocks of lines, each with the number of its first line."""
        for first, lines in blocks:
            if first == 1:
                self.head(lines[0])
            self.add(lines[first == 1 :], first + (first == 1))

    def restart(self) -> None:
        """Forget the rows, but not the columns and the number of values."""
        self.signals.restart()
        self.bad = None if self.bad is None else {}
        self.fields, self.lines = [[] for _ in self.columns], []

    def head(self, line: bytes) -> None:
        """Parse the column names from the first line."""
        self.columns = column_names(line, self.name)
        self.fields = [[] for _ in self.columns]
        self._id = column_place(self.columns, "id", self.name)
        self._values = column_place(self.columns, SIGNALS, self.name)

    def add(self, lines: Sequence[bytes], first: int) -> None:
        """Add a block of lines; `first` is the line number of its first line."""
        numbers, pairs = split_rows(lines, first, self.name, self._split, self.bad)
        if self.bad is not None:
            numbers, pairs = self._in_utf8(numbers, pairs)
        if pairs:
            columns = [self._words(column, numbers) for column in zip(*(fields for _, fields in pairs), strict=True)]
            self.signals.add(
                [text for text, _ in pairs], lambda i: f"{self.name} line {numbers[i]} (id {columns[self._id][i]})"
            )
            self.lines += numbers
            for known, new in zip(self.fields, columns, strict=True):
                known += new

    def table(self, label_column: str, labels: bool, *, whole: bool = True) -> Table:
        """Everything read; DataError if an id is duplicated, or if there are no rows and the file was read whole."""
        if not self.columns:
            raise DataError(f"{self.name}: file is empty, expected the columns id,{SIGNALS},label")
        if whole and not self.lines:
            raise no_rows(self.name, self.bad)
        lines = np.array(self.lines, np.int64)
        words = dict(zip(self.columns, self.fields, strict=True))
        del words[self.columns[self._values]]
        ids = check_ids(words.pop(self.columns[self._id]), lines, self.name)
        if labels and label_column:
            column_place(self.columns, label_column, self.name)
        found = words.pop(one_named(words, label_column or "label"), None)
        table = Table(
            signals=self.signals.whole()[:, None, :],
            ids=ids,
            lines=lines,
            words=label_words(found) if labels and found is not None else None,
            columns={k: np.array(v, np.str_) for k, v in words.items()},
            unit=_UNIT,
            left_out=left_out_lines(self.bad),
        )
        return without(table, self.signals.bad, empty=not whole)

    def _split(self, line: bytes, number: int) -> _Fields:
        pieces = line.split(b'"')
        if len(pieces) == 3:  # as the contest writes it: only the signal is quoted
            fields = (pieces[0] + pieces[2]).split(b",")
            if len(fields) == len(self.columns) and not fields[self._values]:
                return pieces[1], fields
        return self._split_exactly(line, number)

    def _split_exactly(self, line: bytes, number: int) -> _Fields:
        words = csv_fields(line, f"{self.name} line {number}")
        if len(words) != len(self.columns):
            raise DataError(
                f"{self.name} line {number}: has {len(words)} field{'s' if len(words) != 1 else ''}, expected "
                f"{len(self.columns)} ({','.join(self.columns)}), with the signal in quotes"
            )
        fields = [word.encode() for word in words]
        return fields[self._values], fields

    def _in_utf8(self, numbers: list[int], pairs: list[_Fields]) -> tuple[list[int], list[_Fields]]:
        """The rows whose fields are UTF-8; the others are noted in `bad`."""
        good: list[int] = []
        for at, (number, (_, fields)) in enumerate(zip(numbers, pairs, strict=True)):
            try:
                decoded(b",".join(fields), f"{self.name} line {number}")
                good.append(at)
            except DataError as error:
                if self.bad is not None:
                    self.bad[number] = str(error)
        return [numbers[at] for at in good], [pairs[at] for at in good]

    def _words(self, column: Sequence[bytes], numbers: Sequence[int]) -> list[str]:
        try:
            return b"\n".join(column).decode().split("\n")
        except UnicodeDecodeError:
            return [decoded(w, f"{self.name} line {n}") for w, n in zip(column, numbers, strict=True)]
