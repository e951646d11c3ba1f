"""A disk cache of parsed sources, so that a second run parses no text: .npy arrays and a description of their source.

An entry is valid for the same files (path, size, times of modification and of the last change, and up to 64 pieces of 64 KiB
spread from first to last; for a multi-file source, each file's name, size and times) read with the same options. The time of
the last change cannot be set: a file edited with its size and modification time kept is read anew. An entry is written under
a temporary name and renamed; a corrupt one is ignored and rebuilt, and temporary folders left by killed processes are removed
after a day. Signals are memory-mapped copy-on-write: changes stay in memory. Multi-file sources are filled in the temporary
folder, where the next process resumes; a lock lets one process at a time fill it.
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
from typing import IO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from platformdirs import user_cache_path

from wavefold.core.files import NO_ROOM, digest_file, write_json, write_whole
from wavefold.core.process import is_main_process
from wavefold.data.bundles import files_below
from wavefold.data.layout import Found
from wavefold.data.lazy import LARGE, Signals, let_go, row_blocks
from wavefold.data.store import settle
from wavefold.data.table import Table

VERSION = 6  # of the readers' output; increment it to rebuild all entries
_PIECE = 1 << 16  # bytes
_PIECES = 64  # of a file that are hashed; smaller files are hashed whole
_NO_PLACE = (*NO_ROOM, errno.ENOTDIR, errno.EEXIST)
_DAY = 86_400  # s; no reading or fetching takes that long between two files


def cache_folder() -> Path:
    """The folder for parsed and downloaded data: $WAVEFOLD_CACHE, else wavefold in the user's cache folder."""
    named = os.environ.get("WAVEFOLD_CACHE")
    return Path(named) if named else user_cache_path("wavefold")


def cached(files: Sequence[Path], options: Mapping[str, object], parse: Callable[[], Table]) -> tuple[Table, str]:
    """The result of `parse`, from the cache if `files` are unchanged, and the digest of the files' bytes."""
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
        _warn_no_cache(entry, error)
    return table, digest


def stored(found: Found, options: Mapping[str, object], parse: Callable[[Path | None], Table]) -> tuple[Table, str]:
    """Like `cached` for a multi-file source: `parse` fills the folder it is given, resuming from what is there."""
    facts = _facts(found.files, options) | {"listing": _listing(found)}
    key = hashlib.sha256(json.dumps([str(found.path.resolve()), dict(options)]).encode()).hexdigest()[:16]
    entry = cache_folder() / f"{found.path.name.split('.')[0]}-{key}"
    there = _load(entry, facts)
    if there is None and is_main_process():
        try:
            with _locked(entry):
                return _load(entry, facts) or _fill(entry, facts, parse)
        except OSError as error:
            if error.errno not in _NO_PLACE or not _is_below(error.filename, cache_folder()):
                raise
            _warn_no_cache(entry, error)
    return there or with_digest(parse(None))


def fingerprint(found: Found, options: Mapping[str, object]) -> str:
    """What identifies a source and how it is read without reading it whole; '' if its files cannot be told beforehand."""
    if not found.files and not found.suffixes:
        return ""
    facts = _facts(found.files, options) | {"listing": _listing(found)}
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def with_digest(table: Table) -> tuple[Table, str]:
    """A multi-file table and the digest of its samples (ids, columns, signals, axis), independent of their location."""
    digest = hashlib.sha256(json.dumps([table.ids.tolist(), table.digest]).encode())
    for name in sorted(table.columns):
        digest.update(json.dumps([name, table.columns[name].tolist()]).encode())
    if table.axis is not None:
        digest.update(table.axis.tobytes())
    return table, digest.hexdigest()


def content_digest(files: Sequence[Path]) -> str:
    """SHA-256 of a file's bytes; for several files, of their names and digests."""
    if len(files) == 1:
        return digest_file(files[0])
    return hashlib.sha256("".join(f"{digest_file(f)}  {f.name}\n" for f in files).encode()).hexdigest()


def _warn_no_cache(entry: Path, error: OSError) -> None:
    print(f"wavefold: {entry.parent}: cannot write the cache ({error.strerror}); continuing without it", file=sys.stderr)


def _is_below(name: str | bytes | None, folder: Path) -> bool:
    """Whether an error's file, if it names one, belongs to the cache rather than to the source."""
    return name is None or Path(os.fsdecode(name)).is_relative_to(folder) or folder.is_relative_to(os.fsdecode(name))


def _listing(found: Found) -> str:
    """A digest that identifies the files in a source's folder; '' if it has none."""
    digest = hashlib.sha256()
    for file in files_below(found.folder, found.suffixes) if found.folder else ():
        times = f"{file.changed}\0{file.status_changed}"
        digest.update(f"{file.name}\0{file.size}\0{times}\n".encode(errors="surrogateescape"))
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


def _fill(entry: Path, facts: Mapping[str, object], parse: Callable[[Path | None], Table]) -> tuple[Table, str]:
    fields = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    part = entry.with_name(f".{entry.name}.{fields}.part")
    for old in entry.parent.glob(f".{glob.escape(entry.name)}.*.part"):
        if old != part:
            shutil.rmtree(old, ignore_errors=True)  # from an older version of the source
    table, digest = with_digest(parse(part))
    _write(part, table, {**facts, "sha256": digest}, there=("signals",))
    settle(part)
    _put(part, entry)
    return table, digest


def _facts(files: Sequence[Path], options: Mapping[str, object]) -> dict[str, object]:
    """What identifies the parsed files without reading them whole."""
    described = []
    for file in files:
        stat = file.stat()
        times = [stat.st_mtime_ns, stat.st_ctime_ns]
        described.append([str(file.resolve()), stat.st_size, *times, _pieces(file, stat.st_size)])
    return {"version": VERSION, "options": dict(options), "files": described}


def _pieces(file: Path, size: int) -> str:
    """SHA-256 of a file's first and last bytes and of pieces between: 4 MB at most, however large the file is."""
    digest = hashlib.sha256()
    with open(file, "rb", buffering=0) as stream:
        for place in np.linspace(0, max(size - _PIECE, 0), min(_PIECES, -(-size // _PIECE))).astype(np.int64).tolist():
            stream.seek(place)
            digest.update(stream.read(_PIECE))
    return digest.hexdigest()


def _load(entry: Path, facts: Mapping[str, object]) -> tuple[Table, str] | None:
    try:
        source = json.loads((entry / "source.json").read_text())
        if any(source[name] != value for name, value in facts.items()):
            return None
        read = partial(np.load, allow_pickle=False)
        table = Table(
            signals=np.asarray(np.load(entry / "signals.npy", mmap_mode="c", allow_pickle=False)),
            ids=read(entry / "ids.npy"),
            lines=read(entry / "lines.npy"),
            words=read(entry / "words.npy") if source["labelled"] else None,
            columns={name: read(entry / f"column{i}.npy") for i, name in enumerate(source["columns"])},
            classes=tuple(source["classes"]),
            unit=source["unit"],
            axis=read(entry / "axis.npy") if source["measured"] else None,
            left_out=tuple((id_, why) for id_, why in source["left_out"]),
            attrs=source["attrs"],
            positions=tuple(source["positions"]),
            notes=tuple(source["notes"]),
        )
        return (table, source["sha256"]) if _fits(table) else None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _fits(table: Table) -> bool:
    arrays = [table.ids, table.lines, *table.columns.values(), *([] if table.words is None else [table.words])]
    measured = table.axis is None or table.axis.shape == table.signals.shape[2:]
    return table.signals.ndim == 3 and measured and all(len(array) == len(table.signals) for array in arrays)


def _save(entry: Path, table: Table, facts: Mapping[str, object]) -> None:
    part = entry.with_name(f".{entry.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        _write(part, table, facts)
        _put(part, entry)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(part: Path, table: Table, facts: Mapping[str, object], there: Sequence[str] = ()) -> None:
    """Write a table's arrays, except those in `there`, and finally their description."""
    arrays: dict[str, Signals | NDArray[np.generic]] = {"signals": table.signals, "ids": table.ids, "lines": table.lines}
    arrays |= {} if table.words is None else {"words": table.words}
    arrays |= {} if table.axis is None else {"axis": table.axis}
    arrays |= {f"column{i}": column for i, column in enumerate(table.columns.values())}
    for name, array in arrays.items():
        if name not in there:
            write_whole(part / f"{name}.npy", partial(_write_array, array=np.asarray(array)))
    fields = {"labelled": table.words is not None, "columns": list(table.columns), "classes": table.classes}
    fields |= {"measured": table.axis is not None, "left_out": table.left_out}
    fields |= {"attrs": dict(table.attrs), "positions": table.positions, "notes": table.notes}
    write_json(part / "source.json", {**facts, **fields, "unit": table.unit})


def _write_array(stream: IO[bytes], array: NDArray[np.generic]) -> None:
    """Write an array as np.save does, in blocks whose memory is given back if it is mapped."""
    if not array.flags.c_contiguous or array.nbytes < LARGE:
        np.save(stream, array, allow_pickle=False)
        return
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    for rows in row_blocks(len(array), values=array[0].size):
        stream.write(array[rows].data)
        let_go(array[rows])


def _put(part: Path, entry: Path) -> None:
    shutil.rmtree(entry, ignore_errors=True)  # corrupt or outdated; memory maps in use stay valid
    os.replace(part, entry)
    _sweep(entry.parent)


def _sweep(folder: Path) -> None:
    """Remove temporary entries and partial downloads left by killed processes."""
    for part in (*folder.glob(".*.part"), *(folder / "physionet").glob(".*.part")):
        with suppress(OSError):  # another process may be cleaning up too
            if time.time() - part.stat().st_mtime > _DAY:
                shutil.rmtree(part)
