"""Parsed sources on disk, so that a second start reads no text: arrays as .npy beside a description of their source.

An entry holds for the same files (path, size, time of change, and the first and last 64 KiB; of a folder of many files,
each one's name, size and time) read the same way. It is written under a temporary name and renamed; a broken one is passed
over and made again, and what a killed process left under a temporary name is removed a day later. Signals come back
memory-mapped, copy on write: a change to them stays in memory. Sources of many files are filled in that temporary folder,
where the next process goes on; a lock lets one process at a time fill it.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_path

from wavefold.base.files import NO_ROOM, digest_file, write_json, write_whole
from wavefold.base.process import leads
from wavefold.data.bundles import files_below
from wavefold.data.sources import Found
from wavefold.data.store import settle
from wavefold.data.table import Table

VERSION = 4  # of what readers make of a file; a change makes all entries anew
_EDGE = 1 << 16  # bytes at either end that are compared
_NO_PLACE = (*NO_ROOM, errno.ENOTDIR, errno.EEXIST)
_DAY = 86_400  # s; no reading or fetching takes that long between two files


def cache_folder() -> Path:
    """Where parsed and fetched data are kept: $WAVEFOLD_CACHE, else wavefold in the user's cache folder."""
    named = os.environ.get("WAVEFOLD_CACHE")
    return Path(named) if named else user_cache_path("wavefold")


def cached(files: Sequence[Path], options: Mapping[str, str | bool], parse: Callable[[], Table]) -> tuple[Table, str]:
    """What `parse` makes of `files`, from the cache where they are unchanged; with the digest of the files' bytes."""
    facts = _facts(files, options)
    key = hashlib.sha256(json.dumps([str(f.resolve()) for f in files] + [dict(options)]).encode()).hexdigest()[:16]
    entry = cache_folder() / f"{files[0].name.split('.')[0]}-{key}"
    found = _load(entry, facts)
    if found is not None:
        return found
    digest = content_digest(files)
    table = parse()
    try:
        _save(entry, table, {**facts, "sha256": digest})
    except OSError as error:
        _say_no_cache(entry, error)
    return table, digest


def stored(found: Found, options: Mapping[str, Any], parse: Callable[[Path | None], Table]) -> tuple[Table, str]:
    """The same for a source of many files, which `parse` puts in the folder it is given, going on with what is there."""
    facts = _facts(found.files, options) | {"listing": _listing(found)}
    key = hashlib.sha256(json.dumps([str(found.path.resolve()), dict(options)]).encode()).hexdigest()[:16]
    entry = cache_folder() / f"{found.path.name.split('.')[0]}-{key}"
    there = _load(entry, facts)
    if there is None and leads():
        try:
            with _locked(entry):
                return _load(entry, facts) or _fill(entry, facts, parse)
        except OSError as error:
            if error.errno not in _NO_PLACE or not _is_below(error.filename, cache_folder()):
                raise
            _say_no_cache(entry, error)
    return there or with_digest(parse(None))


def with_digest(table: Table) -> tuple[Table, str]:
    """A table of many files and the digest of its samples: ids, words beside them and signals, wherever they were read."""
    digest = hashlib.sha256(json.dumps([table.ids.tolist(), table.digest]).encode())
    for name in sorted(table.columns):
        digest.update(json.dumps([name, table.columns[name].tolist()]).encode())
    return table, digest.hexdigest()


def content_digest(files: Sequence[Path]) -> str:
    """SHA-256 of a file's bytes; of several files, that of their names and digests."""
    if len(files) == 1:
        return digest_file(files[0])
    return hashlib.sha256("".join(f"{digest_file(f)}  {f.name}\n" for f in files).encode()).hexdigest()


def _say_no_cache(entry: Path, error: OSError) -> None:
    print(f"wavefold: {entry.parent}: no cache could be written ({error.strerror}); going on without", file=sys.stderr)


def _is_below(name: Any, folder: Path) -> bool:
    """Whether an error's file, where it says one, is the cache's own rather than the source's."""
    return name is None or Path(os.fsdecode(name)).is_relative_to(folder) or folder.is_relative_to(os.fsdecode(name))


def _listing(found: Found) -> str:
    """What tells that a folder's files are those that were read; '' of a source without one."""
    digest = hashlib.sha256()
    for file in files_below(found.folder, found.ends) if found.folder else ():
        digest.update(f"{file.name}\0{file.size}\0{file.changed}\n".encode(errors="surrogateescape"))
    return digest.hexdigest() if found.folder else ""


@contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """Wait until no other process fills the entry; without waiting on disks that have no such lock."""
    path = entry.parent / "locks" / entry.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()  # an error here is one of the cache
    lock = FileLock(path)
    with suppress(OSError, NotImplementedError):  # a network disk without locks
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fill(entry: Path, facts: Mapping[str, Any], parse: Callable[[Path | None], Table]) -> tuple[Table, str]:
    told = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    part = entry.with_name(f".{entry.name}.{told}.part")
    for old in entry.parent.glob(f".{glob.escape(entry.name)}.*.part"):
        if old != part:
            shutil.rmtree(old, ignore_errors=True)  # of the source as it was before it changed
    table, digest = with_digest(parse(part))
    _write(part, table, {**facts, "sha256": digest}, there=("signals",))
    settle(part)
    _put(part, entry)
    return table, digest


def _facts(files: Sequence[Path], options: Mapping[str, str | bool]) -> dict[str, Any]:
    """What tells, without reading a file whole, that it is the one that was parsed."""
    described = []
    for file in files:
        stat = file.stat()
        described.append([str(file.resolve()), stat.st_size, stat.st_mtime_ns, _edges(file, stat.st_size)])
    return {"version": VERSION, "options": dict(options), "files": described}


def _edges(file: Path, size: int) -> str:
    with open(file, "rb") as stream:
        head = stream.read(_EDGE)
        stream.seek(max(size - _EDGE, 0))
        return hashlib.sha256(head + stream.read(_EDGE)).hexdigest()


def _load(entry: Path, facts: Mapping[str, Any]) -> tuple[Table, str] | None:
    try:
        source = json.loads((entry / "source.json").read_text())
        if any(source[name] != value for name, value in facts.items()):
            return None
        table = Table(
            signals=np.asarray(np.load(entry / "signals.npy", mmap_mode="c", allow_pickle=False)),
            ids=_array(entry, "ids"),
            lines=_array(entry, "lines"),
            words=_array(entry, "words") if source["labelled"] else None,
            columns={name: _array(entry, f"column{i}") for i, name in enumerate(source["columns"])},
            classes=tuple(source["classes"]),
            unit=source["unit"],
            axis=_array(entry, "axis") if source["measured"] else None,
            left_out=tuple((id_, why) for id_, why in source["left_out"]),
        )
        return (table, source["sha256"]) if _fits(table) else None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _fits(table: Table) -> bool:
    arrays = [table.ids, table.lines, *table.columns.values(), *([] if table.words is None else [table.words])]
    measured = table.axis is None or table.axis.shape == table.signals.shape[2:]
    return table.signals.ndim == 3 and measured and all(len(array) == len(table.signals) for array in arrays)


def _array(entry: Path, name: str) -> Any:
    return np.load(entry / f"{name}.npy", allow_pickle=False)


def _save(entry: Path, table: Table, facts: Mapping[str, Any]) -> None:
    part = entry.with_name(f".{entry.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        _write(part, table, facts)
        _put(part, entry)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(part: Path, table: Table, facts: Mapping[str, Any], there: Sequence[str] = ()) -> None:
    """Write a table's arrays, less those that are there, and last what describes them."""
    arrays: dict[str, Any] = {"signals": table.signals, "ids": table.ids, "lines": table.lines}
    arrays |= {} if table.words is None else {"words": table.words}
    arrays |= {} if table.axis is None else {"axis": table.axis}
    arrays |= {f"column{i}": column for i, column in enumerate(table.columns.values())}
    for name, array in arrays.items():
        if name not in there:
            write_whole(part / f"{name}.npy", partial(np.save, arr=array, allow_pickle=False))
    told = {"labelled": table.words is not None, "columns": list(table.columns), "classes": table.classes}
    told |= {"measured": table.axis is not None, "left_out": table.left_out}
    write_json(part / "source.json", {**facts, **told, "unit": table.unit})


def _put(part: Path, entry: Path) -> None:
    shutil.rmtree(entry, ignore_errors=True)  # a broken or outdated one; a map of it that is in use stays whole
    os.replace(part, entry)
    _sweep(entry.parent)


def _sweep(folder: Path) -> None:
    """Remove the temporary entries and half-fetched databases of processes that were killed."""
    for part in (*folder.glob(".*.part"), *(folder / "physionet").glob(".*.part")):
        with suppress(OSError):  # another process may sweep too
            if time.time() - part.stat().st_mtime > _DAY:
                shutil.rmtree(part)
