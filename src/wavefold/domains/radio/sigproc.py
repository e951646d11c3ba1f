"""SIGPROC filterbank files (.fil): keywords between HEADER_START and HEADER_END, then power (time, product, channel).

A keyword is a string preceded by its 32-bit length; numbers are little-endian: 32-bit integers and 64-bit floats.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from wavefold.core.errors import DataError, listed, nearest
from wavefold.core.files import write_whole
from wavefold.data.dataset import Floats
from wavefold.domains.radio.filterbank import Filterbank, Header, check_header, product_note, products_of

_NUMBERS = ("az_start", "za_start", "src_raj", "src_dej", "tstart", "tsamp", "fch1", "foff", "refdm", "period")
_IDS = ("machine_id", "telescope_id", "data_type", "barycentric", "pulsarcentric", "nbeams", "ibeam")
_WHOLE = (*_IDS, "nbits", "nsamples", "nchans", "nifs", "nbins")
_WORDS = ("source_name", "rawdatafile")
_TYPES: dict[int, np.dtype[np.generic]] = {8: np.dtype("<u1"), 16: np.dtype("<u2"), 32: np.dtype("<f4")}  # by bits per value
_SIGNED: dict[int, np.dtype[np.generic]] = {8: np.dtype("<i1"), 16: np.dtype("<i2"), 32: np.dtype("<f4")}
_LONGEST = 80  # maximum bytes of a keyword or string
_BLOCK = 1 << 22  # values copied at a time


def read_fil(path: Path, fine: int = 0, product: str = "") -> Filterbank:
    """The scan in a .fil file, with its power left on disk. fine: fine channels per coarse channel, as in `Filterbank`.

    product: of several polarisations, as `products_of` takes it. DataError for a file that is not a filterbank, lacks a
    keyword, has several products and no choice, or is truncated.
    """
    with open(path, "rb") as stream:
        found, begin = _keywords(stream, path.name), stream.tell()
        size = os.fstat(stream.fileno()).st_size - begin
    missing = [key for key in ("nchans", "nbits", "fch1", "foff", "tsamp") if key not in {**found.whole, **found.numbers}]
    if missing:
        raise DataError(f"{path.name}: its header has no {missing[0]}")
    whole = found.whole
    products = whole.get("nifs", 1)
    taken = products_of(products, product, path.name)
    numbers = {k: found.numbers[k] for k in ("fch1", "foff", "tsamp", "tstart") if k in found.numbers}
    header = Header(
        **numbers,
        source_name=found.texts.get("source_name", "").strip(),
        bits=whole["nbits"],
        signed=bool(whole.get("signed", 0)) and whole["nbits"] < 32,
        telescope=whole.get("telescope_id", 0),
        products=products,
    )
    check_header(header, path.name)
    kind, channels = _kind(header, path.name), whole["nchans"]
    rows = _rows(size, products * channels * kind.itemsize, whole.get("nsamples", 0), path.name)

    def load(first: int, last: int) -> Floats:
        stored = np.memmap(path, kind, "r", begin, (rows, products, channels))
        values: Floats = stored[:, taken[0], first:last].astype(np.float32)
        for number in taken[1:]:
            values += stored[:, number, first:last].astype(np.float32)
        return values

    return Filterbank(path, header, (rows, channels), load, fine, product_note(products, taken))


def write_fil(path: Path, power: ArrayLike, header: Header) -> None:
    """Write power (time, channel) as a .fil file atomically; DataError if it does not fit `header.bits`."""
    values = np.asarray(power)
    kind = _kind(header, path.name)
    whole = kind.kind in "iu"
    least = -(1 << (header.bits - 1)) if header.signed else 0
    most = least + (1 << header.bits) - 1
    if whole and values.size and not (values.min() >= least and values.max() <= most):
        span = f"{header.bits}-bit values range from {least} to {most}"
        raise DataError(f"{path.name}: {span}, not {values.min()} to {values.max()}")
    rows = max(1, _BLOCK // max(1, values.shape[1]))

    def write(stream: IO[bytes]) -> None:
        stream.write(_header_bytes(header, values.shape))
        for first in range(0, len(values), rows):
            part = values[first : first + rows]
            stream.write((part.round() if whole else part).astype(kind).tobytes())

    write_whole(path, write)


class _Keywords(NamedTuple):
    """A header's values by keyword."""

    whole: dict[str, int]
    numbers: dict[str, float]
    texts: dict[str, str]


def _keywords(stream: IO[bytes], name: str) -> _Keywords:
    """Read the header's values by keyword; leaves the stream at the first value of power."""
    if _word(stream, name, first=True) != "HEADER_START":
        raise DataError(f"{name}: not a filterbank file: it does not begin with HEADER_START")
    found = _Keywords({}, {}, {})
    while (key := _word(stream, name)) != "HEADER_END":
        if key in _WORDS:
            found.texts[key] = _word(stream, name)
        elif key in _WHOLE:
            found.whole[key] = struct.unpack("<i", _bytes(stream, 4, name))[0]
        elif key in _NUMBERS:
            found.numbers[key] = struct.unpack("<d", _bytes(stream, 8, name))[0]
        elif key == "signed":
            found.whole[key] = _bytes(stream, 1, name)[0]
        else:
            known = (*_WHOLE, *_NUMBERS, *_WORDS)
            raise DataError(f"{name}: {key!r} is not a SIGPROC header keyword{nearest(key, known)}")
    return found


def _word(stream: IO[bytes], name: str, *, first: bool = False) -> str:
    head = stream.read(4) if first else _bytes(stream, 4, name)
    length = struct.unpack("<i", head)[0] if len(head) == 4 else -1
    if not 0 <= length <= _LONGEST:
        if first:
            return ""
        raise DataError(f"{name}: a header string has {length} bytes, expected 0 to {_LONGEST}")
    return (stream.read(length) if first else _bytes(stream, length, name)).decode("latin-1")


def _bytes(stream: IO[bytes], count: int, name: str) -> bytes:
    found = stream.read(count)
    if len(found) < count:
        raise DataError(f"{name}: ends inside its header, before HEADER_END")
    return found


def _kind(header: Header, name: str) -> np.dtype[np.generic]:
    if header.bits not in _TYPES:
        raise DataError(f"{name}: {header.bits} bits per value (nbits), expected one of {listed(_TYPES)}")
    return (_SIGNED if header.signed else _TYPES)[header.bits]


def _rows(size: int, row: int, fields: int, name: str) -> int:
    """Number of rows in `size` bytes of power; DataError if the last is incomplete or the header states another number."""
    if row <= 0 or size % row or not size:
        raise DataError(f"{name}: {size:,} bytes of power are not a whole number of {row:,}-byte rows; is the file truncated?")
    if fields and size // row != fields:
        raise DataError(f"{name}: has {size // row:,} rows, but its header says {fields:,} (nsamples); is the file truncated?")
    return size // row


def _header_bytes(header: Header, shape: tuple[int, ...]) -> bytes:
    whole = {"machine_id": 20, "telescope_id": header.telescope, "data_type": 1}
    whole |= {"nchans": shape[1], "nbits": header.bits, "nifs": 1, "nsamples": shape[0]}
    numbers = {"tstart": header.tstart, "tsamp": header.tsamp, "fch1": header.fch1, "foff": header.foff}
    parts = [_packed("HEADER_START")]
    parts += [_packed("source_name") + _packed(header.source_name)] if header.source_name else []
    parts += [_packed(key) + struct.pack("<i", value) for key, value in whole.items()]
    parts += [_packed(key) + struct.pack("<d", value) for key, value in numbers.items()]
    parts += [_packed("signed") + b"\x01"] if header.signed else []
    return b"".join([*parts, _packed("HEADER_END")])


def _packed(word: str) -> bytes:
    text = word.encode("latin-1", "replace")[:_LONGEST]
    return struct.pack("<i", len(text)) + text
