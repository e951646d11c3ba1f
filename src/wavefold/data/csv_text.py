"""Reads CSV text: blocks of lines from plain or gzip files, column names, rows of numbers, columns by id.

Files are streamed in a few megabytes of memory. A line ends in \\n or \\r\\n; a bare \\r is rejected, and so is a file whose
first bytes show that it is not text. A UTF-8 byte-order mark before the first line is dropped. A field never spans lines.
Column names are case-insensitive. A JSON parser (pysimdjson; Langdale and Lemire 2019) parses rows of comma-separated numbers,
a few dozen at once; rows that are not valid JSON are parsed one by one with float(), so that an error names the row and value.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol, TypeVar

import numpy as np
import simdjson

from wavefold.core.errors import DataError, listed, nearest
from wavefold.core.progress import Progress
from wavefold.data.dataset import Floats, Ints, Strings, check_ids

_BLOCK = 1 << 18  # bytes; up to 10 % faster than 4 MB, whose fresh memory must be mapped each time
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_KINDS = {  # a file's first bytes -> its kind
    b"\x89PNG\r\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF-": "a PDF document",
    b"PK\x03\x04": "a ZIP archive, as .xlsx and .npz files are",
    b"\x89HDF\r\n": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
}


def line_blocks(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Yield blocks of whole lines, each with the number of its first line, counted from 1; shows progress."""
    with open(path, "rb") as raw, Progress(f"reading {path.name}", path.stat().st_size, "bytes") as progress:
        for first, lines in numbered_lines(whole_lines(unpacked(raw, path), path.name)):
            yield first, lines
            progress.update(raw.tell())  # the position in the compressed file if it is compressed


def numbered_lines(blocks: Iterable[bytes], first: int = 1) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the lines of each block with the number of the first of them. first: that of the first block."""
    for block in blocks:
        lines = block.removesuffix(b"\n").split(b"\n")
        yield first, lines
        first += len(lines)


def first_line(path: Path) -> bytes:
    """Return the first line of a file without byte-order mark or line end; b'' if the file is empty."""
    with open(path, "rb") as raw:
        return next(whole_lines(unpacked(raw, path), path.name), b"").split(b"\n")[0]


def check_text(path: Path) -> None:
    """Raise DataError if a file's first bytes are not text, or not gzip although its suffix says so."""
    with open(path, "rb") as raw:
        head = raw.read(8)
    kind = next((kind for start, kind in _KINDS.items() if head.startswith(start)), "")
    packed = path.suffix == ".gz"
    if kind:
        raise DataError(f"{path.name}: is {kind}, not {'a .ts file' if '.ts' in path.suffixes else 'CSV'}")
    if head.startswith(_GZIP) and not packed:
        raise DataError(f"{path.name}: is a gzip file; add the suffix .gz")
    if head and packed and not head.startswith(_GZIP):
        raise DataError(f"{path.name}: is not a gzip file; remove the suffix .gz")


def is_row(line: bytes, name: str, number: int) -> bool:
    """Whether a CSV line holds a row rather than blanks; DataError if it holds only commas."""
    if line.strip(b" \t,"):
        return True
    if b"," in line:
        raise DataError(f"{name} line {number}: has no values; fill in or remove the row")
    return False


def decoded(text: bytes, place: str) -> str:
    """Decode UTF-8 bytes; DataError names the place and the first invalid byte."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: byte 0x{text[error.start]:02x} is not UTF-8 text; save the file as UTF-8") from None


def csv_fields(line: bytes, place: str) -> list[str]:
    """Split one CSV line into fields, with RFC 4180 quoting; DataError if a quote is not closed."""
    text = decoded(line, place)
    if '"' not in text:
        return text.split(",")
    if len(text) > csv.field_size_limit():  # 131,072 characters until something raises it; a signal may be longer
        csv.field_size_limit(len(text))
    try:
        return next(csv.reader([text], strict=True), [""])
    except csv.Error as error:
        raise DataError(f"{place}: {str(error)[:80]}; expected each quote to close on its line") from None


def unpacked(raw: IO[bytes], path: Path) -> IO[bytes] | gzip.GzipFile:
    """The text of an open file: itself, or unpacked if its suffix is .gz; DataError if it is not text."""
    check_text(path)
    return gzip.open(raw) if path.suffix == ".gz" else raw


class Bytes(Protocol):
    """What can be read from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; b'' at the end."""


def whole_lines(stream: Bytes, name: str, *, start: bool = True) -> Iterator[bytes]:
    """Yield blocks of whole lines that end in \\n. start: whether the stream is at the start of the file."""
    rest = list[bytes]()  # pieces of a line that goes on; joined once, so that a long line costs linear time
    while data := read_piece(stream, name):
        if start:
            data, start = data.removeprefix(_BOM), False
            if b"\n" not in data and b"\r" in data[:-1]:
                raise DataError(f"{name}: lines end in a bare CR; save it with LF line endings")
        cut = data.rfind(b"\n") + 1
        if cut:
            block = b"".join([*rest, data[:cut]])
            rest = []
            yield block.replace(b"\r\n", b"\n") if b"\r" in block else block  # one byte is found far faster than two
        if cut < len(data):
            rest.append(data[cut:])
    if rest:
        yield b"".join(rest).removesuffix(b"\r")


def read_piece(stream: Bytes, name: str, size: int = _BLOCK) -> bytes:
    """The next bytes of a stream, b'' at its end; DataError if it is a damaged gzip file."""
    try:
        return stream.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: the gzip file is truncated or corrupt ({error}); download it again") from None


UNNAMED = "Unnamed: 0"  # pandas's name for an unnamed index column
# numbers joined by commas; without backtracking, which would cost quadratic time in a field of many megabytes
_NUMBERS = re.compile(r"(?:[+-]?+(?:\d++(?:\.\d*+)?+|\.\d++)(?:e[+-]?+\d++)?+(?:,|$))++", re.IGNORECASE)
_LONGEST = 60  # characters of a name in an error
_MOST = 12  # names in an error


def column_names(line: bytes, name: str, *, numbered: bool = False, example: str = "id,heartbeat_signals,label") -> list[str]:
    """Column names from a CSV's first line; DataError if one is empty or duplicated, or if all are numbers.

    An unnamed first column is a pandas index: it becomes `id` unless there is one. numbered: whether column names may be
    numbers, as long as some are not. example: a valid header, for the error message.
    """
    if not line.strip():
        raise DataError(f"{name} line 1: line is empty, expected a header of column names")
    columns = [word.strip() for word in csv_fields(line, f"{name} line 1")]
    if len(columns) == 1 and is_number(columns[0]) and not line.count(b'"'):
        raise DataError(f"{name}: holds one number a line, as a recording does; expected a row of values per sample")
    if all(map(is_number, columns)):
        raise DataError(f"{name}: has no header; expected a line of column names such as {example}")
    if len(columns) == 1:
        _check_commas(columns, name)
    if not columns[0]:
        columns[0] = UNNAMED if one_named(columns, "id") else "id"
    _check_names(columns, name, numbered)
    return columns


def one_named(columns: Iterable[str], wanted: str) -> str:
    """Return the column with that name, else the first that differs only in case; '' if there is none."""
    there = [c for c in columns if c.lower() == wanted.lower()]
    return wanted if wanted in there else next(iter(there), "")


def column_place(columns: Sequence[str], wanted: str, name: str, *, where: str = " line 1") -> int:
    """The index of a column, regardless of case; DataError lists the available columns and the nearest."""
    found = one_named(columns, wanted)
    if not found:
        raise missing(columns, wanted, name, where=where)
    return columns.index(found)


def missing(columns: Collection[str], wanted: str, name: str, expected: str = "", *, where: str = " line 1") -> DataError:
    """The error for a missing column, or for a line that is not comma-separated. where: the place in the file."""
    _check_commas(columns, name)
    near = nearest(wanted, [c for c in columns if len(c) <= _LONGEST])
    return DataError(f"{name}{where}: no column '{wanted}'; available columns: {shown(columns)}{near}{expected}")


def shown(columns: Collection[str]) -> str:
    """Column names for an error message, shortened to fit one line."""
    words = [c if len(c) <= _LONGEST else f"{c[:_LONGEST]}..." for c in list(columns)[:_MOST]]
    return listed(words) + (f", ... ({len(columns)} in all)" if len(columns) > _MOST else "")


def _check_commas(columns: Iterable[str], name: str) -> None:
    for mark, word in ((";", "';'"), ("\t", "a tab")):
        if any(mark in column for column in columns):
            raise DataError(f"{name} line 1: columns seem to be separated by {word}, expected commas")


def _check_names(columns: Sequence[str], name: str, numbered: bool) -> None:
    bad = [at for at, word in enumerate(columns) if not word or (is_number(word) and not numbered)]
    if bad:
        there = shown([columns[bad[0]]])
        raise DataError(f"{name} line 1: column {bad[0] + 1} is named '{there}', expected a header of column names")
    if len(set(columns)) < len(columns):
        twice = next(word for word in columns if columns.count(word) > 1)
        raise DataError(f"{name} line 1: column '{shown([twice])}' appears twice")


def is_number(word: str) -> bool:
    """Whether a field is a number, or several joined by commas as in the contest's signals."""
    return _NUMBERS.fullmatch(word.replace(" ", "")) is not None


RowName = Callable[[int], str]  # a row's number in a block -> its name in an error message

_LARGEST = float(np.finfo(np.float32).max)
CHUNK = 64  # rows per parse: 32 to 128 are equally fast, one row is 15 % slower


class RowParser:
    """Parses texts of `width` comma-separated numbers each into float32 rows."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._parser = simdjson.Parser()

    def together(self, texts: Sequence[bytes]) -> Floats | None:
        """Parse all texts at once into (text, position); None if one is not valid JSON or has the wrong values."""
        text = b"[[" + b"],[".join(texts) + b"]]"
        if text.count(b"[") != len(texts) + 1:  # a bracket in the file itself would be valid JSON but not a number
            return None
        try:
            document = self._parser.parse(text)
            if not isinstance(document, simdjson.Array):
                return None
            if any(not isinstance(row, simdjson.Array) or len(row) != self.width for row in document):
                return None
            values = np.frombuffer(document.as_buffer(of_type="d"))
        except (ValueError, TypeError, RuntimeError):  # RuntimeError: an integer beyond 64 bits
            return None
        with np.errstate(over="ignore"):
            rows = values.astype(np.float32).reshape(len(texts), self.width)
        return rows if np.isfinite(rows).all() else None

    def alone(self, text: bytes, place: str, like: str) -> Floats:
        """Parse one row (position,); DataError for text, NaN, infinity or a wrong count. like: source of the expected count."""
        rows = self.together([text])
        if rows is not None:
            return rows.reshape(-1)
        words = decoded(text, place).split(",")
        if len(words) != self.width:
            raise DataError(
                f"{place}: has {len(words)} value{'s' if len(words) != 1 else ''}, expected {self.width} as in {like}"
            )
        return np.array([number(word, f"{place}: value {i}") for i, word in enumerate(words, 1)], np.float32)


Row = TypeVar("Row")


def split_rows(
    lines: Sequence[bytes], first: int, name: str, split: Callable[[bytes, int], Row], bad: dict[int, str] | None
) -> tuple[list[int], list[Row]]:
    """Split the lines that are rows: their line numbers, and what `split` makes of a line and its number.

    first: number of the first line. bad: receives line number -> error of rows that cannot be split, which are left out; with
    None the first one raises DataError.
    """
    try:
        numbers = [number for number, line in enumerate(lines, first) if is_row(line, name, number)]
        return numbers, [split(lines[number - first], number) for number in numbers]
    except DataError:
        if bad is None:
            raise
    pairs: list[tuple[int, Row]] = []
    for number, line in enumerate(lines, first):
        try:
            if is_row(line, name, number):
                pairs.append((number, split(line, number)))
        except DataError as error:
            bad[number] = str(error)
    return [number for number, _ in pairs], [row for _, row in pairs]


def left_out_lines(bad: Mapping[int, str] | None) -> tuple[tuple[str, str], ...]:
    """Rows that could not be split, as a table lists samples that were left out. bad: line number -> error."""
    return tuple((f"line {number}", why) for number, why in sorted((bad or {}).items()))


def row_numbers(lines: Ints, bad: Mapping[int, str] | None, above: int = 0) -> Strings:
    """The number of each row in its file, from 0, as ids; those left out are counted. lines: (row,); bad: line -> error.

    above: rows above the first line that was read.
    """
    left_out = np.array(sorted(bad or {}), np.int64)
    return (np.arange(above, above + len(lines)) + np.searchsorted(left_out, lines)).astype(np.str_)


def no_rows(name: str, bad: Mapping[int, str] | None) -> DataError:
    """The error for a file in which no row can be read, or that has none. bad: line number -> error."""
    if bad:
        return DataError(f"{name}: none of its {len(bad):,} rows can be read; the first error: {bad[min(bad)]}")
    return DataError(f"{name}: has a header but no rows")


class NumberRows:
    """An array that grows row by row; all rows have the length of the first.

    skip_bad: whether a row that cannot be read becomes zeros, with its error in `bad`; all rows then have the length that is
    commonest among the first ones added.
    """

    def __init__(self, *, skip_bad: bool = False) -> None:
        self.bad: dict[int, str] = {}  # row -> error
        self._skip_bad = skip_bad
        self._parser = RowParser(0)
        self._array = np.empty((0, 0), np.float32)
        self._count = 0
        self._first = ""

    def add(self, texts: Sequence[bytes], place: RowName) -> None:
        """Append rows of comma-separated numbers; DataError for text, NaN, infinity or a different number of values."""
        if not self._first and texts:
            self._begin(texts, place)
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            rows = self._parser.together(chunk)
            self._append(self._one_by_one(chunk, start, place) if rows is None else rows)

    @property
    def width(self) -> int:
        """Values in a row; 0 before there is one."""
        return self._parser.width

    def restart(self) -> None:
        """Forget all rows, but not the length that rows must have."""
        self.bad, self._count = {}, 0

    def whole(self) -> Floats:
        """Return all rows, (sample, position) float32."""
        self._array.resize((self._count, self._parser.width), refcheck=False)
        return self._array

    def _begin(self, texts: Sequence[bytes], place: RowName) -> None:
        counts = Counter(text.count(b",") for text in texts if text.strip()).most_common(1) if self._skip_bad else []
        at = next(i for i, text in enumerate(texts) if text.strip() and text.count(b",") == counts[0][0]) if counts else 0
        if not texts[at].strip():
            raise DataError(f"{place(at)}: has no values, expected comma-separated numbers")
        self._parser, self._first = RowParser(texts[at].count(b",") + 1), place(at)
        self._array = np.empty((0, self._parser.width), np.float32)

    def _one_by_one(self, texts: Sequence[bytes], start: int, place: RowName) -> Floats:
        rows = np.zeros((len(texts), self._parser.width), np.float32)
        for i, text in enumerate(texts):
            try:
                rows[i] = self._parser.alone(text, place(start + i), self._first)
            except DataError as error:
                if not self._skip_bad:
                    raise
                self.bad[self._count + i] = str(error)
        return rows

    def _append(self, rows: Floats) -> None:
        end = self._count + len(rows)
        if end > len(self._array):
            self._array.resize((end + end // 8, rows.shape[1]), refcheck=False)  # grows in place: no second copy
        self._array[self._count : end] = rows
        self._count = end


def number(word: str, place: str) -> float:
    """Parse a finite float32 number; DataError quotes the text otherwise."""
    try:
        value = float(word)
    except ValueError:
        list_ = "; it begins a list in one cell: give each number a column" if word.strip()[:1] in ("(", "[") else ""
        raise DataError(f"{place} is {word.strip()[:40]!r}, expected a number{list_}") from None
    if not abs(value) <= _LARGEST or "_" in word:
        raise DataError(f"{place} is {word.strip()[:40]!r}, expected a finite number")
    return value


def read_columns(path: Path) -> dict[str, Strings]:
    """Read all columns as text, including `id`, each (row,); DataError names the line of a malformed row."""
    columns, lines = read_words(path, example="id,record")
    column_place(list(columns), "id", path.name)
    found = {"id" if name.lower() == "id" else name: np.array(words, np.str_) for name, words in columns.items()}
    check_ids(found["id"].tolist(), lines, path.name)
    return found


def read_words(path: Path, example: str) -> tuple[dict[str, list[str]], Ints]:
    """Read columns as text, and each row's line number (row,); DataError names the line of a malformed row.

    example: a valid header, for the error message when there is none.
    """
    columns: list[str] = []
    words: list[list[str]] = []  # per column
    numbers: list[int] = []
    for first, lines in line_blocks(path):
        for number, line in enumerate(lines, first):
            if number == 1:
                columns = column_names(line, path.name, example=example)
                words = [[] for _ in columns]
            elif is_row(line, path.name, number):
                for known, word in zip(words, _fields(line, columns, f"{path.name} line {number}"), strict=True):
                    known.append(word)
                numbers.append(number)
    if not numbers:
        raise DataError(f"{path.name}: contains no rows, expected a header such as {example} and rows below it")
    return dict(zip(columns, words, strict=True)), np.array(numbers, np.int64)


def _fields(line: bytes, columns: list[str], place: str) -> list[str]:
    fields = csv_fields(line, place)
    if len(fields) != len(columns):
        raise DataError(
            f"{place}: has {len(fields)} field{'s' if len(fields) != 1 else ''}, expected {len(columns)} ({','.join(columns)})"
        )
    return fields
