"""Reads the header of a NumPy .npy file of plain numbers with numpy.lib.format; objects are never unpickled.

The format is a magic string, two version bytes, the header length, and the text of a dict with `descr`, `fortran_order` and
`shape`; the values follow. Versions 1 to 3 differ in the size of the length field and in the encoding of the text.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from wavefold.core.errors import DataError

HEAD = 4096  # bytes read from the start: NumPy writes 128 for any plain array
_LENGTH = {1: 2, 2: 4, 3: 4}  # version -> bytes of the header length field
_TYPES = {"f": "float16, float32 or float64 (f2, f4, f8)", "fiu": "float32 or another type of real numbers"}
_LARGEST = 1 << 60  # bytes of an array, zero lengths counted as one: NumPy's own limit is 2 ** 63
_AXES = 32


@dataclass(frozen=True)
class Stored:
    """How an array of numbers is stored in its file."""

    dtype: str  # such as "<f2"
    shape: tuple[int, ...]
    fortran: bool  # whether the first axis varies fastest
    offset: int  # bytes before the values

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.offset + math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def values(self, content: bytes) -> NDArray[np.number]:
        """Return the array as a view of the file's whole content."""
        order: Literal["F", "C"] = "F" if self.fortran else "C"
        values: NDArray[np.number] = np.frombuffer(content, self.dtype, offset=self.offset).reshape(self.shape, order=order)
        return values

    def room(self, count: int) -> NDArray[np.floating]:
        """Allocate an array for `count` such files, (file, ...), with axes in storage order."""
        return np.empty((count, *(self.shape[::-1] if self.fortran else self.shape)), self.dtype)

    def turned(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return a filled array from `room` with its axes in the order of the shape."""
        return values.transpose(0, *range(values.ndim - 1, 0, -1)) if self.fortran else values


def read_header(head: bytes, size: int, name: str, *, kinds: str = "f") -> Stored:
    """Parse a file's first HEAD bytes; DataError if it is not an array of such numbers or the file size does not match.

    size: bytes of the file. name: of the file, for the error. kinds: accepted kinds of types, "f" (floats) or "fiu" (integers
    too), of at most 8 bytes.
    """
    try:
        stored = _parsed(head[: _end(head)], kinds)
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
    if not head.startswith(npy_format.MAGIC_PREFIX):
        raise DataError(f"begins with {head[:6]!r}, expected a NumPy .npy file")
    wide = _LENGTH.get(head[6]) if len(head) > 6 else 0
    if wide is None:
        raise DataError(f"has NumPy format version {head[6]}, expected 1, 2 or 3")
    end = 8 + wide + int.from_bytes(head[8 : 8 + wide], "little")
    if len(head) < 8 + wide or (len(head) < end and len(head) < HEAD):
        raise DataError("is truncated in its header; download it again")
    if end > HEAD:
        raise DataError(f"has a header of {end:,} bytes, expected a plain array of numbers (at most {HEAD:,})")
    return end


@lru_cache(maxsize=64)  # files of one kind have one header
def _parsed(header: bytes, kinds: str) -> Stored:
    read = npy_format.read_array_header_1_0 if header[6] == 1 else npy_format.read_array_header_2_0
    words = "floats" if kinds == "f" else "numbers"
    text = header[8 + _LENGTH[header[6]] :].decode("latin-1")
    strange = DataError(f"has the header {text[:60]!r}, expected a plain array of {words}")
    try:
        shape, fortran, dtype = read(io.BytesIO(header[8:]), max_header_size=HEAD)
    except Exception:  # evaluating a literal fails in many ways
        raise strange from None
    if dtype.hasobject:
        raise DataError(f"contains Python objects, which are never unpickled; expected an array of {words}")
    room = math.prod(max(length, 1) for length in shape) * dtype.itemsize
    if dtype.kind == "V" or min(shape, default=0) < 0 or len(shape) > _AXES or room > _LARGEST:
        raise strange
    if dtype.kind not in kinds or dtype.itemsize > 8:
        raise DataError(f"has type {dtype.str[1:]}, expected {_TYPES[kinds]}")
    return Stored(dtype.str, shape, fortran, len(header))
