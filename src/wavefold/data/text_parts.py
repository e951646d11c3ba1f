"""Text files in numbered parts: stretches of whole lines, each read alone, so that a file need not fit in memory.

Every part is read as if the lines above it had been read: column names and the number of values come from the file's first
lines, line and row numbers count from its start. Parts of a gzip file are unpacked from its start, so read them in order.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO

from wavefold.core.progress import Progress
from wavefold.data.csv_text import numbered_lines, read_piece, unpacked, whole_lines

_PIECE = 1 << 20  # bytes read at once to find where lines end
_BLANK = b" \t\r"


class NotInParts(Exception):
    """A reader must see the whole file: what it guesses or checks depends on every row."""


@dataclass(frozen=True)
class Span:
    """A stretch of whole lines."""

    start: int  # first byte, in the unpacked text
    end: int  # byte after the last one
    line: int  # number of the first line, from 1
    row: int  # rows above it


@dataclass(frozen=True)
class TextPart:
    """What a reader needs to read one part; every block is the number of its first line, and its lines."""

    head: Sequence[tuple[int, list[bytes]]]  # the file's first block
    blocks: Iterable[tuple[int, list[bytes]]]  # of the part; the first part begins with the file's first line
    above: int  # rows above the part


@contextmanager
def opened(path: Path) -> Iterator[Callable[[Span], TextPart]]:
    """Open a text file; yields a function from a span to its part, which is to be read before the next one is asked for."""
    with open(path, "rb") as raw:
        stream = unpacked(raw, path)
        head = tuple(islice(numbered_lines(whole_lines(stream, path.name)), 1))
        yield lambda span: TextPart(head, _blocks(stream, span, path.name), span.row)


def head_of(path: Path) -> TextPart:
    """The part without lines: what a file's first block tells."""
    with opened(path) as part:
        return replace(part(Span(0, 0, 1, 0)), blocks=())


def spans_of(path: Path, rows: int, *, header: bool) -> tuple[list[Span], int]:
    """Cut a text file into spans of `rows` rows each, the last one shorter, and count its rows.

    header: whether the first line is not a row.

    A row is a line that is not blank, whether or not it can be read.
    """
    spans, here, counted = list[Span](), Span(0, 0, 1, 0), -int(header)
    at, line = 0, 1
    with open(path, "rb") as raw, Progress(f"scanning {path.name}", path.stat().st_size, "bytes") as progress:
        for lines in _raw_lines(unpacked(raw, path), path.name):
            progress.update(raw.tell())
            for text in lines:
                at, line = at + len(text) + 1, line + 1
                counted += bool(text.strip(_BLANK))
                if counted - here.row == rows:
                    spans.append(Span(here.start, at, here.line, here.row))
                    here = Span(at, at, line, counted)
    rest = [Span(here.start, at, here.line, here.row)] if counted > here.row or not spans else []
    return [*spans, *rest], max(counted, 0)


def _raw_lines(stream: IO[bytes] | gzip.GzipFile, name: str) -> Iterator[list[bytes]]:
    """Lines as they are in the file, without their ends, some at a time."""
    rest = list[bytes]()  # pieces of a line that goes on
    while data := read_piece(stream, name, _PIECE):
        first, *more = data.split(b"\n")
        rest.append(first)
        if more:
            lines, rest = [b"".join(rest), *more[:-1]], [more[-1]]
            yield lines
    if any(rest):
        yield [b"".join(rest)]


class _Limited:
    """A stream that ends after some bytes."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, left: int) -> None:
        self._stream, self._left = stream, left

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, and none beyond the limit."""
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        return data


def _blocks(stream: IO[bytes] | gzip.GzipFile, span: Span, name: str) -> Iterator[tuple[int, list[bytes]]]:
    stream.seek(span.start)
    limited = _Limited(stream, span.end - span.start)
    yield from numbered_lines(whole_lines(limited, name, start=span.start == 0), span.line)


def merged_notes(notes: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The notes on a file, from those on its parts: what holds for every part."""
    return tuple(note for note in notes[0] if all(note in others for others in notes[1:])) if notes else ()


def merged_left_out(parts: Iterable[Sequence[tuple[str, str]]]) -> tuple[tuple[str, str], ...]:
    """The samples left out of a file, from those of its parts: first lines that cannot be split, as when it is read whole."""
    rows = [row for part in parts for row in part]
    unsplit = re.compile(r"line \d+")
    return (*(row for row in rows if unsplit.fullmatch(row[0])), *(row for row in rows if not unsplit.fullmatch(row[0])))
