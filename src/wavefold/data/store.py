"""Rows read from many files, written block by block to one array on disk: constant memory, resumable, in parallel.

The array is made whole at the start, so that a full disk is known before the reading. Each block's rows are written to
their place by the process that parsed them; then one JSON line, with the rows' CRC-32, says that they are there. A later
call in the same folder goes on after the lines whose rows are as they say. Lines and bad rows stay until `settle`, so that a
call that is killed before all is written that goes beside the array need not parse again.
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
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from wavefold.core.errors import DataError, UserError
from wavefold.core.progress import Progress
from wavefold.data.dataset import Floats, Ints

SIGNALS = "signals.npy"
_KEPT = "kept.npy"  # the good rows, where some are bad
_BLOCKS = "blocks.jsonl"
_PIECE = 1 << 20  # bytes read or copied at once
_VALUES = 1 << 22  # of a block at most: 16 MB in each process, however long a row is
_HEADER = 128  # bytes that numpy's format takes before the values of a small header; checked when the array is made


@dataclass(frozen=True)
class Block:
    """What a parser makes of some files, a row each, in their order."""

    rows: Floats  # (sample, position); a bad row may hold anything
    problems: Sequence[str]  # (sample,) '' where a row is good, else the line that says what is wrong with its file
    facts: Mapping[str, Sequence[str]] = field(default_factory=dict)  # words found beside the values: name -> (sample,)


Parse = Callable[[Sequence[str]], Block]  # from files' names; must be picklable, to run in other processes


@dataclass(frozen=True)
class Filled:
    """The good rows of many files, in the files' order, and what was wrong with the others."""

    signals: Floats  # (sample, 1, position), memory-mapped, copy on write: a change stays in memory
    kept: Ints  # (sample,) the place of each among the entries
    problems: Mapping[int, str]  # place among the entries -> what is wrong with it
    facts: Mapping[str, Sequence[str]]  # name -> (sample,) words
    digest: str  # SHA-256 of the signals' bytes


def fill(
    folder: Path,
    entries: Sequence[str],
    width: int,
    parse: Parse,
    *,
    name: str,
    known: Mapping[int, str] | None = None,
    skip_bad: bool = False,
    block: int = 256,
    alone: int = 4096,
) -> Filled:
    """Parse `entries`, a row of `width` values each, into an array in `folder`, or go on with what a killed call left there.

    name: of the source, for the progress line. known: what is wrong with entries that need not be parsed. A bad entry is
    a DataError, the first in the entries' order; with skip_bad it is passed over, unless nothing is left. alone: the number
    of entries from which on all processors parse blocks of `block`, or fewer long rows; below it this process does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _KEPT).unlink(missing_ok=True)
    block = max(1, min(block, _VALUES // width))
    work = _Work(str(folder / SIGNALS), tuple(entries), width, parse, known or {}, block)
    with Progress(f"reading {name}", len(entries), "spectra") as progress:
        done = _go_on(folder, work, progress, skip_bad, jobs=1 if len(entries) < alone else _processors())
    problems = {work.first(b) + int(i): why for b in sorted(done) for i, why in done[b]["problems"].items()}
    if problems and not skip_bad:
        raise DataError(problems[min(problems)])
    if len(problems) == len(entries):
        raise DataError(f"{name}: none of the {len(entries):,} spectra can be read; the first error: {problems[0]}")
    return _whole(folder, work, problems, _facts(work, done, problems))


def settle(folder: Path) -> None:
    """Leave signals.npy with the good rows, and nothing else that `fill` put there; it cannot go on there any more."""
    if (folder / _KEPT).exists():
        os.replace(folder / _KEPT, folder / SIGNALS)
    (folder / _BLOCKS).unlink(missing_ok=True)


@contextmanager
def working_folder(store: Path | None) -> Iterator[Path]:
    """The folder that `fill` works in: the one given, else a temporary one; an array that is mapped outlives it.

    UserError where the temporary one is on a full disk.
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
                f"{tempfile.gettempdir()}: not enough disk space for the spectra ({error.strerror}); set TMPDIR "
                "to a larger disk"
            ) from None


@dataclass(frozen=True)
class _Work:
    """What is to be done, block by block, with the array on disk that takes it."""

    path: str
    entries: tuple[str, ...]
    width: int
    parse: Parse
    known: Mapping[int, str]
    block: int

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


@dataclass(frozen=True)
class _Part:
    """One block's work, as it goes to another process."""

    path: str
    block: int
    first: int
    entries: tuple[str, ...]
    width: int
    parse: Parse
    known: Mapping[int, str]

    def run(self) -> dict[str, Any]:
        """Parse, write the rows to their place, and say so in what becomes the block's line."""
        good = [i for i in range(len(self.entries)) if i not in self.known]
        parsed = self.parse([self.entries[i] for i in good])
        problems = dict(self.known) | {i: why for i, why in zip(good, parsed.problems, strict=True) if why}
        rows = np.zeros((len(self.entries), self.width), np.float32)
        rows[good] = parsed.rows
        rows[list(problems)] = 0  # the same bits however a bad row was left
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


def _go_on(folder: Path, work: _Work, progress: Progress, skip_bad: bool, jobs: int) -> dict[int, dict[str, Any]]:
    """The lines of all blocks, by block; without skip_bad, of those up to the first that holds a bad entry."""
    before = _done_before(folder, work)
    done = {b: line for b, line in before.items() if skip_bad or not line["problems"]}  # a cause may have been mended
    progress.skip(_count(work, done))
    with open(folder / _BLOCKS, "ab") as log:
        for line in _parsed(work, done, skip_bad, jobs):
            log.write(json.dumps(line).encode() + b"\n")
            log.flush()
            os.utime(folder)  # says that somebody is at work here
            done[line["block"]] = line
            progress.update(_count(work, done))
    return done


def _spread(words: Sequence[str], places: Sequence[int], size: int) -> list[str]:
    spread = [""] * size
    for place, word in zip(places, words, strict=True):
        spread[place] = word
    return spread


def _parsed(work: _Work, done: Mapping[int, Any], skip_bad: bool, jobs: int) -> Iterator[dict[str, Any]]:
    """The lines of the blocks that are missing; without skip_bad, of none behind the first that holds a bad entry."""
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


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _count(work: _Work, done: Mapping[int, Any]) -> int:
    return sum(map(work.size, done))


def _done_before(folder: Path, work: _Work) -> dict[int, dict[str, Any]]:
    """Lines of blocks whose rows are in the array, by block; makes the array where it is missing or another."""
    shape = (len(work.entries), 1, work.width)
    with suppress(OSError, ValueError, EOFError):
        if np.load(folder / SIGNALS, mmap_mode="r", allow_pickle=False).shape == shape:
            done = {line["block"]: line for line in _lines(folder / _BLOCKS) if _is_there(line, work)}
            _rewrite(folder / _BLOCKS, done.values())
            return done
    (folder / _BLOCKS).unlink(missing_ok=True)
    _make_array(folder / SIGNALS, shape)
    return {}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with suppress(FileNotFoundError), open(path, "rb") as stream:
        for text in stream:
            with suppress(ValueError):  # torn by a kill
                line = json.loads(text)
                if isinstance(line, dict):
                    yield line


def _is_there(line: Mapping[str, Any], work: _Work) -> bool:
    if not {"crc", "problems", "facts"} <= line.keys():
        return False
    if line.get("block") not in work.blocks() or line.get("size") != work.size(line["block"]):
        return False
    with open(work.path, "rb") as stream:
        stream.seek(_HEADER + work.first(line["block"]) * work.width * 4)
        rows = stream.read(work.size(line["block"]) * work.width * 4)
    return bool(zlib.crc32(rows) == line["crc"])


def _rewrite(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    os.replace(part, path)


def _make_array(path: Path, shape: tuple[int, int, int]) -> None:
    """An array of zeros whose room on the disk is taken; OSError where there is none."""
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
        except OSError as error:  # some file systems cannot say; the writing then does
            if error.errno == errno.ENOSPC:
                path.unlink()  # it would keep the room that is left from who goes on without
                raise


def _facts(work: _Work, done: Mapping[int, Any], problems: Mapping[int, str]) -> dict[str, list[str]]:
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
        _squeeze(folder / SIGNALS, path, kept, work.width)
    digest = hashlib.sha256()
    with open(path, "r+b") as stream:
        os.fsync(stream.fileno())  # before anything says that it is whole
        stream.seek(_HEADER)
        while piece := stream.read(_PIECE):
            digest.update(piece)
    signals = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    return Filled(signals, kept, problems, facts, digest.hexdigest())


def _squeeze(path: Path, target: Path, kept: Ints, width: int) -> None:
    """Copy the rows that are kept to an array without the others."""
    step = max(_PIECE // (4 * width), 1)
    _make_array(target, (len(kept), 1, width))
    with open(path, "rb") as old, open(target, "r+b") as new:
        new.seek(_HEADER)
        for start in range(0, len(kept), step):
            places = kept[start : start + step]
            old.seek(_HEADER + int(places[0]) * width * 4)
            rows = np.frombuffer(old.read(int(places[-1] - places[0] + 1) * width * 4), np.float32).reshape(-1, width)
            new.write(rows[places - places[0]].data)
