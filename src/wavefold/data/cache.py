"""Parsed sources on disk, so that a second start reads no text: arrays as .npy beside a description of their source.

An entry holds for the same files (path, size, time of change, and the first and last 64 KiB) read the same way. It is
written under a temporary name and renamed; a broken one is passed over and made again, and what a killed process left
under a temporary name is removed a day later. Signals come back memory-mapped,
copy on write: a change to them stays in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wavefold.base.files import digest_file, write_json, write_whole
from wavefold.data.table import Table

VERSION = 2  # of what readers make of a file; a change makes all entries anew
_EDGE = 1 << 16  # bytes at either end that are compared
_DAY = 86_400  # s; no reading or fetching takes that long between two files


def cache_folder() -> Path:
    """Where parsed and fetched data are kept: $WAVEFOLD_CACHE, else ~/.cache/wavefold."""
    named = os.environ.get("WAVEFOLD_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "wavefold"


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
        print(f"wavefold: {entry.parent}: no cache could be written ({error.strerror}); going on without", file=sys.stderr)
    return table, digest


def content_digest(files: Sequence[Path]) -> str:
    """SHA-256 of a file's bytes; of several files, that of their names and digests."""
    if len(files) == 1:
        return digest_file(files[0])
    return hashlib.sha256("".join(f"{digest_file(f)}  {f.name}\n" for f in files).encode()).hexdigest()


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
        )
        return (table, source["sha256"]) if _fits(table) else None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _fits(table: Table) -> bool:
    arrays = [table.ids, table.lines, *table.columns.values(), *([] if table.words is None else [table.words])]
    return table.signals.ndim == 3 and all(len(array) == len(table.signals) for array in arrays)


def _array(entry: Path, name: str) -> Any:
    return np.load(entry / f"{name}.npy", allow_pickle=False)


def _save(entry: Path, table: Table, facts: Mapping[str, Any]) -> None:
    part = entry.with_name(f".{entry.name}.{os.getpid()}.part")
    arrays = {"signals": table.signals, "ids": table.ids, "lines": table.lines}
    arrays |= {} if table.words is None else {"words": table.words}
    arrays |= {f"column{i}": column for i, column in enumerate(table.columns.values())}
    try:
        part.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            write_whole(part / f"{name}.npy", partial(np.save, arr=array, allow_pickle=False))
        told = {"labelled": table.words is not None, "columns": list(table.columns), "classes": table.classes}
        write_json(part / "source.json", {**facts, **told, "unit": table.unit})
        shutil.rmtree(entry, ignore_errors=True)  # a broken or outdated one; a map of it that is in use stays whole
        os.replace(part, entry)
        _sweep(entry.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove the temporary entries and half-fetched databases of processes that were killed."""
    for part in (*folder.glob(".*.part"), *(folder / "physionet").glob(".*.part")):
        with suppress(OSError):  # another process may sweep too
            if time.time() - part.stat().st_mtime > _DAY:
                shutil.rmtree(part)
