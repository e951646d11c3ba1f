"""Parses the header of a NumPy .npy file of floats without evaluating anything; objects are never unpickled.

The format (numpy.lib.format) is a magic string, two version bytes, the header length, and the text of a dict with `descr`,
`fortran_order` and `shape`; the values follow. Versions 1 to 3 differ in the size of the length field and of the text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError

HEAD = 4096  # bytes read from the start: NumPy writes 128 for any plain array
MAGIC = b"\x93NUMPY"
_LENGTH = {1: 2, 2: 4, 3: 4}  # version -> bytes of the header length field
_TEXT = re.compile(
    r"\{(?:'descr': '([<>=|]?)([a-zA-Z])(\d*)'|'fortran_order': (True|False)|'shape': \(([\d, ]{0,99})\)|[, ])+\}\s*"
)
_SIZES = ("2", "4", "8")  # bytes per float


@dataclass(frozen=True)
class Stored:
    """How an array of floats is stored in its file."""

    dtype: str  # such as "<f2"
    shape: tuple[int, ...]
    fortran: bool  # whether the first axis varies fastest
    offset: int  # bytes before the values

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.offset + math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def room(self, count: int) -> NDArray[np.floating]:
        """Allocate an array for `count` such files, (file, ...), with axes in storage order."""
        return np.empty((count, *(self.shape[::-1] if self.fortran else self.shape)), self.dtype)

    def turned(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return a filled array from `room` with its axes in the order of the shape."""
        return values.transpose(0, *range(values.ndim - 1, 0, -1)) if self.fortran else values


def read_header(head: bytes, size: int, name: str) -> Stored:
    """Parse a file's first HEAD bytes; DataError if it is not an array of floats or the file size does not match.

    size: bytes of the file. name: of the file, for the error.
    """
    try:
        stored = _parsed(head[: _end(head)])
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    if size > stored.size:
        raise DataError(f"{name}: has {size - stored.size:,} more bytes than its header says")
    if size < stored.size:
        raise DataError(f"{name}: is truncated, {size:,} of {stored.size:,} bytes; download it again")
    return stored


def _end(head: bytes) -> int:
    """The offset at which the values begin."""
    if not head:
        raise DataError("is empty, expected a NumPy array")
    if not head.startswith(MAGIC):
        raise DataError(f"begins with {head[:6]!r}, expected a NumPy .npy file")
    wide = _LENGTH.get(head[6]) if len(head) > 6 else 0
    if wide is None:
        raise DataError(f"has NumPy format version {head[6]}, expected 1, 2 or 3")
    end = 8 + wide + int.from_bytes(head[8 : 8 + wide], "little")
    if len(head) < 8 + wide or (len(head) < end and len(head) < HEAD):
        raise DataError("is truncated in its header; download it again")
    if end > HEAD:
        raise DataError(f"has a header of {end:,} bytes, expected a plain array of floats (at most {HEAD:,})")
    return end


@lru_cache(maxsize=64)  # files of one kind have one header
def _parsed(header: bytes) -> Stored:
    text = header[8 + _LENGTH[header[6]] :].decode("latin-1")
    order, kind, size, fortran, shape = found.groups() if (found := _TEXT.fullmatch(text)) else (None,) * 5
    if kind == "O":
        raise DataError("contains Python objects, which are never unpickled; expected an array of floats")
    if kind is None or size is None or fortran is None or shape is None:
        raise DataError(f"has the header {text[:60]!r}, expected a plain array of floats")
    if kind != "f" or size not in _SIZES:
        raise DataError(f"has type {kind}{size}, expected float16, float32 or float64 (f2, f4, f8)")
    numbers = tuple(int(word) for word in shape.split(",") if word.strip())
    return Stored(f"{order or '='}f{size}", numbers, fortran == "True", len(header))
