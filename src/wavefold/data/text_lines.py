"""The lines of a text file, plain or gzip, in blocks: a file larger than memory passes through a few megabytes.

A line ends in \\n or \\r\\n; a bare \\r is refused, and so is a file whose first bytes say that it is no text. A UTF-8
byte-order mark before the first line is dropped. A field never spans lines here.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from wavefold.core.errors import DataError
from wavefold.core.progress import Progress

_BLOCK = 1 << 18  # bytes; up to 10 % faster than 4 MB, whose fresh memory must be mapped each time
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_KINDS = {  # a file's first bytes -> what it is
    b"\x89PNG\r\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF-": "a PDF document",
    b"PK\x03\x04": "a ZIP archive, as .xlsx and .npz files are",
    b"\x89HDF\r\n": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
}


def line_blocks(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Blocks of whole lines, each with the number of its first line, counted from 1; shows how far it is."""
    first = 1
    with open(path, "rb") as raw, Progress(f"reading {path.name}", path.stat().st_size, "bytes") as progress:
        for block in _whole_lines(_unpacked(raw, path), path.name):
            lines = block.removesuffix(b"\n").split(b"\n")
            yield first, lines
            first += len(lines)
            progress.update(raw.tell())  # the position in the packed file where it is packed


def first_line(path: Path) -> bytes:
    """The first line of a file, with neither byte-order mark nor line end; b'' where the file is empty."""
    with open(path, "rb") as raw:
        return next(_whole_lines(_unpacked(raw, path), path.name), b"").split(b"\n")[0]


def check_text(path: Path) -> None:
    """DataError where a file's first bytes are not those of text, or of gzip where the name says so."""
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
    """Whether a line of a CSV holds a row rather than blanks; DataError where it holds commas only."""
    if line.strip(b" \t,"):
        return True
    if b"," in line:
        raise DataError(f"{name} line {number}: has no values; fill in or remove the row")
    return False


def decoded(text: bytes, place: str) -> str:
    """Text of UTF-8 bytes; DataError naming the place and the first byte that is not."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: byte 0x{text[error.start]:02x} is not UTF-8 text; save the file as UTF-8") from None


def csv_fields(line: bytes, place: str) -> list[str]:
    """Fields of one CSV line with all of RFC 4180's quoting; DataError where a quote does not close."""
    text = decoded(line, place)
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True), [""])
    except csv.Error as error:
        raise DataError(f"{place}: {str(error)[:80]}; expected each quote to close on its line") from None


def _unpacked(raw: IO[bytes], path: Path) -> IO[bytes] | gzip.GzipFile:
    check_text(path)
    return gzip.open(raw) if path.suffix == ".gz" else raw


def _whole_lines(stream: IO[bytes] | gzip.GzipFile, name: str) -> Iterator[bytes]:
    rest, start = b"", True
    while data := _read(stream, name):
        data = rest + data
        if start:
            data, start = data.removeprefix(_BOM), False
            if b"\n" not in data and b"\r" in data[:-1]:
                raise DataError(f"{name}: lines end in a bare CR; save it with LF line endings")
        cut = data.rfind(b"\n") + 1
        rest = data[cut:]
        if cut:
            block = data[:cut]
            yield block.replace(b"\r\n", b"\n") if b"\r" in block else block  # one byte is found far faster than two
    if rest:
        yield rest.removesuffix(b"\r")


def _read(stream: IO[bytes] | gzip.GzipFile, name: str) -> bytes:
    try:
        return stream.read(_BLOCK)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: the gzip file is truncated or corrupt ({error}); download it again") from None
