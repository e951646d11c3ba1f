"""Checksums of a file by blocks, so that a part of a large file can be checked before it is used, and only once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from pydantic import BaseModel, ConfigDict

from wavefold.core.errors import DataError
from wavefold.core.files import write_whole
from wavefold.data.dataset import Ints

BLOCK = 4 << 20  # bytes


class BlockSums(BaseModel):
    """The size of a file and the SHA-256 of each of its blocks."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    sha256: tuple[str, ...]


class Summing:
    """A stream for writing that sums what passes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._digest, self._room = stream, hashlib.sha256(), BLOCK
        self._sums, self._size = list[str](), 0

    def write(self, data: bytes | memoryview) -> int:
        """Write bytes."""
        view = memoryview(data).cast("B")
        self._stream.write(view)
        self._size += len(view)
        while len(view):
            piece, view = view[: self._room], view[self._room :]
            self._digest.update(piece)
            self._room -= len(piece)
            if not self._room:
                self._close()
        return len(data)

    def sums(self) -> BlockSums:
        """The sums of everything written."""
        if self._room < BLOCK:
            self._close()
        return BlockSums(bytes=self._size, sha256=tuple(self._sums))

    def _close(self) -> None:
        self._sums.append(self._digest.hexdigest())
        self._digest, self._room = hashlib.sha256(), BLOCK


def write_summed(path: Path, write: Callable[[Summing], object]) -> BlockSums:
    """Write a file atomically, and return its sums. write: gets an object with a method `write`."""
    made: list[BlockSums] = []

    def run(stream: IO[bytes]) -> None:
        summing = Summing(stream)
        write(summing)
        made.append(summing.sums())

    write_whole(path, run)
    return made[0]


def read_summed(path: Path, sums: BlockSums) -> bytes:
    """The bytes of a file; DataError if they are not those that were summed."""
    checker = BlockChecker(path, sums)
    return b"".join(map(checker.block, range(len(sums.sha256))))


def check_summed(path: Path, sums: BlockSums) -> None:
    """Raise DataError if the bytes of a file are not those that were summed."""
    checker = BlockChecker(path, sums)
    for number in range(len(sums.sha256)):
        checker.block(number)


class BlockChecker:
    """Checks the blocks of a file before they are first used."""

    def __init__(self, path: Path, sums: BlockSums) -> None:
        self._path, self._sums = path, sums
        self._checked = np.zeros(len(sums.sha256), bool)

    def check(self, starts: Ints, ends: Ints) -> None:
        """Check the blocks that hold the bytes from each of `starts` to its end; DataError that names a damaged one."""
        if self._checked.all():
            return
        for number in _blocks(starts // BLOCK, -(-ends // BLOCK)):
            if not self._checked[number]:
                self.block(number)

    def block(self, number: int) -> bytes:
        """The bytes of a block; DataError if it is damaged."""
        start, end = number * BLOCK, min((number + 1) * BLOCK, self._sums.bytes)
        data = self._read(start, end)
        if hashlib.sha256(data).hexdigest() != self._sums.sha256[number]:
            raise DataError(f"{self._place}: bytes {start:,} to {end:,} have changed since they were written; {_ADVICE}")
        self._checked[number] = True
        return data

    def _read(self, start: int, end: int) -> bytes:
        try:
            with open(self._path, "rb", buffering=0) as stream:
                stream.seek(start)
                data = stream.read(end - start)
                size = stream.seek(0, 2)
        except OSError as error:
            raise DataError(f"{self._place}: cannot be read ({error.strerror}); {_ADVICE}") from None
        if len(data) < end - start or size != self._sums.bytes:
            raise DataError(f"{self._place}: has {size:,} bytes, expected {self._sums.bytes:,}; {_ADVICE}")
        return data

    @property
    def _place(self) -> str:
        return f"{self._path.parent.name}/{self._path.name}"


def _blocks(first: Ints, end: Ints) -> list[int]:
    """The numbers from each `first` to its end, each once."""
    several = (np.arange(a, b) for a, b in zip(first.tolist(), end.tolist(), strict=True))
    return np.unique(np.concatenate(list(several))).tolist() if len(first) else []


_ADVICE = "restore the file from a copy, or delete the folder and pack its sources again"
