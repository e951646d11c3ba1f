"""Reads rows from many files into one array on disk, block by block: constant memory, resumable, in parallel.

The whole array is allocated at the start, so that a full disk is detected before reading. The process that parsed a block
writes its rows; then one JSON line, with the rows' CRC-32, records that they are there. A later call in the same folder
resumes after the blocks whose rows match their lines. Lines and bad rows stay until `settle`, so that a call killed before
everything beside the array is written need not parse again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np
from joblib import Parallel, delayed

from wavefold.core.errors import DataError, UserError
from wavefold.core.process import processors
from wavefold.core.progress import Progress
from wavefold.data.dataset import Floats, Ints

SIGNALS = "signals.npy"
_KEPT = "kept.npy"  # the good rows, if some are bad
_BLOCKS = "blocks.jsonl"
_PIECE = 1 << 20  # bytes read or copied at once
_VALUES = 1 << 22  # at most per block: 16 MB in each process, however long a row is
_HEADER = 128  # bytes before the values in numpy's format, for a small header; checked when the array is created


@dataclass(frozen=True)
class Block:
    """A parser's result for some files, one row per file, in order."""

    rows: Floats  # (sample, position), channels one after the other; a bad row may hold anything
    problems: Sequence[str]  # (sample,) '' for a good row, else a one-line error about its file
    facts: Mapping[str, Sequence[str]] = field(default_factory=dict)  # text found beside the values: name -> (sample,)


Parse = Callable[[Sequence[str]], Block]  # takes file names; must be picklable, to run in other processes


@dataclass(frozen=True)
class Filled:
    """The good rows of many files, in the files' order, and the problems of the others."""

    signals: Floats  # (sample, channel, position), memory-mapped copy-on-write: changes stay in memory
    kept: Ints  # (sample,) index of each among the entries
    problems: Mapping[int, str]  # index among the entries -> error
    facts: Mapping[str, Sequence[str]]  # name -> (sample,) text
    digest: str  # SHA-256 of the signals' bytes


def fill(
    folder: Path,
    entries: Sequence[str],
    width: int,
    parse: Parse,
    *,
    name: str,
    channels: int = 1,
    unit: str = "spectra",
    known: Mapping[int, str] | None = None,
    skip_bad: bool = False,
    block: int = 256,
    alone: int = 4096,
) -> Filled:
    """Parse `entries`, one row of `width` values each, into an array in `folder`, resuming what a killed call left there.

    name: of the source, for the progress line. channels: of a row, one after the other. unit: word for the entries. known:
    errors of entries that need not be parsed. The first bad entry raises DataError; with skip_bad, bad entries are skipped,
    unless nothing is left. alone: with at least this many entries, all processors parse blocks of `block` entries (fewer if
    rows are long); with fewer, this process parses them alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _KEPT).unlink(missing_ok=True)
    block = max(1, min(block, _VALUES // width))
    work = _Work(str(folder / SIGNALS), tuple(entries), channels, width, parse, known or {}, block)
    with Progress(f"reading {name}", len(entries), unit) as progress:
        done = _go_on(folder, work, progress, skip_bad, jobs=1 if len(entries) < alone else processors())
    problems = {work.first(b) + int(i): why for b in sorted(done) for i, why in done[b]["problems"].items()}
    if problems and not skip_bad:
        raise DataError(problems[min(problems)])
    if len(problems) == len(entries):
        raise DataError(f"{name}: none of the {len(entries):,} {unit} can be read; the first error: {problems[0]}")
    return _whole(folder, work, problems, _facts(work, done, problems))


def settle(folder: Path) -> None:
    """Keep only signals.npy with the good rows and remove the other files of `fill`, which cannot resume there afterwards."""
    if (folder / _KEPT).exists():
        os.replace(folder / _KEPT, folder / SIGNALS)
    (folder / _BLOCKS).unlink(missing_ok=True)


@contextmanager
def working_folder(store: Path | None) -> Iterator[Path]:
    """The folder that `fill` works in: `store`, else a temporary one; a mapped array outlives it.

    UserError if the temporary folder is on a full disk.
    """
    if store is not None:
        yield store
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            yield Path(folder)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise UserError(
                f"{tempfile.gettempdir()}: not enough disk space for the signals ({error.strerror}); set TMPDIR "
                "to a larger disk"
            ) from None


@dataclass(frozen=True)
class _Work:
    """The blocks to parse and the array on disk that receives them."""

    path: str
    entries: tuple[str, ...]
    channels: int
    width: int
    parse: Parse
    known: Mapping[int, str]
    block: int

    def shape(self, count: int) -> tuple[int, int, int]:
        return count, self.channels, self.width // self.channels

    def blocks(self) -> range:
        return range(-(-len(self.entries) // self.block))

    def first(self, block: int) -> int:
        return block * self.block

    def size(self, block: int) -> int:
        return min(self.block, len(self.entries) - self.first(block))

    def part(self, block: int) -> _Part:
        first, size = self.first(block), self.size(block)
        known = {i: self.known[first + i] for i in range(size) if first + i in self.known}
        return _Part(self.path, block, first, self.entries[first : first + size], self.width, self.parse, known)


class _Line(TypedDict):
    """What is recorded of a block whose rows are in the array."""

    block: int
    size: int  # entries
    crc: int  # CRC-32 of the rows' bytes
    problems: dict[str, str]  # index in the block, as text -> error
    facts: dict[str, list[str]]  # as in `Block`


@dataclass(frozen=True)
class _Part:
    """The work of one block, as sent to another process."""

    path: str
    block: int
    first: int
    entries: tuple[str, ...]
    width: int
    parse: Parse
    known: Mapping[int, str]

    def run(self) -> _Line:
        """Parse, write the rows to their place, and return the block's line."""
        good = [i for i in range(len(self.entries)) if i not in self.known]
        parsed = self.parse([self.entries[i] for i in good])
        problems = dict(self.known) | {i: why for i, why in zip(good, parsed.problems, strict=True) if why}
        rows = np.zeros((len(self.entries), self.width), np.float32)
        rows[good] = parsed.rows
        rows[list(problems)] = 0  # makes bad rows deterministic
        with open(self.path, "r+b") as stream:  # not mapped: written pages would count as this process's memory
            stream.seek(_HEADER + self.first * self.width * 4)
            stream.write(rows.data)
        facts = {name: _spread(words, good, len(self.entries)) for name, words in parsed.facts.items()}
        fields = {str(i): problems[i] for i in sorted(problems)}
        return {
            "block": self.block,
            "size": len(self.entries),
            "crc": zlib.crc32(rows.data),
            "problems": fields,
            "facts": facts,
        }


def _go_on(folder: Path, work: _Work, progress: Progress, skip_bad: bool, jobs: int) -> dict[int, _Line]:
    """Return the lines of all blocks, by block; without skip_bad, only up to the first block with a bad entry."""
    before = _done_before(folder, work)
    done = {b: line for b, line in before.items() if skip_bad or not line["problems"]}  # the cause may have been fixed
    progress.skip(_count(work, done))
    with open(folder / _BLOCKS, "ab") as log:
        for line in _parsed(work, done, skip_bad, jobs):
            log.write(json.dumps(line).encode() + b"\n")
            log.flush()
            os.utime(folder)  # shows that a process is working here
            done[line["block"]] = line
            progress.update(_count(work, done))
    return done


def _spread(words: Sequence[str], places: Sequence[int], size: int) -> list[str]:
    spread = [""] * size
    for place, word in zip(places, words, strict=True):
        spread[place] = word
    return spread


def _parsed(work: _Work, done: Mapping[int, _Line], skip_bad: bool, jobs: int) -> Iterator[_Line]:
    """Yield the lines of the missing blocks; without skip_bad, none after the first block with a bad entry."""
    last = len(work.blocks())

    def parts() -> Iterator[_Part]:  # in order, so that all blocks before a bad one have been handed out when it is found
        for block in work.blocks():
            if block not in done and block <= last:
                yield work.part(block)

    todo = (delayed(_Part.run)(part) for part in parts())
    lines = map(_Part.run, parts()) if jobs == 1 else Parallel(jobs, return_as="generator_unordered", batch_size=1)(todo)
    for line in lines:
        if line["problems"] and not skip_bad:
            last = min(last, line["block"])
        yield line


def _count(work: _Work, done: Iterable[int]) -> int:
    return sum(map(work.size, done))


def _done_before(folder: Path, work: _Work) -> dict[int, _Line]:
    """Return the lines of blocks whose rows are in the array; creates the array if it is missing or does not match."""
    shape = work.shape(len(work.entries))
    with suppress(OSError, ValueError, EOFError):
        if np.load(folder / SIGNALS, mmap_mode="r", allow_pickle=False).shape == shape:
            done = {line["block"]: line for line in _lines(folder / _BLOCKS) if _is_there(line, work)}
            _rewrite(folder / _BLOCKS, done.values())
            return done
    (folder / _BLOCKS).unlink(missing_ok=True)
    _make_array(folder / SIGNALS, shape)
    return {}


def _lines(path: Path) -> Iterator[_Line]:
    with suppress(FileNotFoundError), open(path, "rb") as stream:
        for text in stream:
            with suppress(ValueError):  # a line cut short by a kill
                line: _Line = json.loads(text)
                if isinstance(line, dict):
                    yield line


def _is_there(line: _Line, work: _Work) -> bool:
    if not {"crc", "problems", "facts"} <= line.keys():
        return False
    if line.get("block") not in work.blocks() or line.get("size") != work.size(line["block"]):
        return False
    with open(work.path, "rb") as stream:
        stream.seek(_HEADER + work.first(line["block"]) * work.width * 4)
        rows = stream.read(work.size(line["block"]) * work.width * 4)
    return bool(zlib.crc32(rows) == line["crc"])


def _rewrite(path: Path, lines: Iterable[_Line]) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    os.replace(part, path)


def _make_array(path: Path, shape: tuple[int, int, int]) -> None:
    """Create an array of zeros with its disk space allocated; OSError if the disk is full."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    if array.offset != _HEADER:
        raise DataError(
            f"{path.name}: internal error: header has {array.offset} bytes, expected {_HEADER}; report this "
            "with your NumPy version"
        )
    with open(path, "r+b") as stream:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, _HEADER + array.nbytes)
        except OSError as error:  # some file systems cannot tell; writing will
            if error.errno == errno.ENOSPC:
                path.unlink()  # frees the space for a caller that continues without it
                raise


def _facts(work: _Work, done: Mapping[int, _Line], problems: Mapping[int, str]) -> dict[str, list[str]]:
    names = sorted({name for line in done.values() for name in line["facts"]})
    words: dict[str, list[str]] = {name: [] for name in names}
    for block in work.blocks():
        for name in names:
            there = done[block]["facts"].get(name) or [""] * work.size(block)
            words[name] += [w for i, w in enumerate(there, work.first(block)) if i not in problems]
    return words


def _whole(folder: Path, work: _Work, problems: Mapping[int, str], facts: Mapping[str, Sequence[str]]) -> Filled:
    kept = np.array([i for i in range(len(work.entries)) if i not in problems], np.int64)
    path = folder / (_KEPT if problems else SIGNALS)
    if problems:
        _squeeze(folder / SIGNALS, path, kept, work)
    digest = hashlib.sha256()
    with open(path, "r+b") as stream:
        os.fsync(stream.fileno())  # before anything records that it is complete
        stream.seek(_HEADER)
        while piece := stream.read(_PIECE):
            digest.update(piece)
    signals = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    return Filled(signals, kept, problems, facts, digest.hexdigest())


def _squeeze(path: Path, target: Path, kept: Ints, work: _Work) -> None:
    """Copy the kept rows to an array without the others."""
    width = work.width
    step = max(_PIECE // (4 * width), 1)
    _make_array(target, work.shape(len(kept)))
    with open(path, "rb") as old, open(target, "r+b") as new:
        new.seek(_HEADER)
        for start in range(0, len(kept), step):
            places = kept[start : start + step]
            old.seek(_HEADER + int(places[0]) * width * 4)
            rows = np.frombuffer(old.read(int(places[-1] - places[0] + 1) * width * 4), np.float32).reshape(-1, width)
            new.write(rows[places - places[0]].data)
