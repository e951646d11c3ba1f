"""Small files in a folder or zip, read in place by name: nothing is unpacked to disk.

A zip's directory is read once; each member is then read by its offset in the archive, so that worker processes need not read
the directory again. Paths that escape the archive or folder, names that are not printable, and files far too large for one
sample are rejected.
"""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from wavefold.core.errors import DataError
from wavefold.data.dataset import Dataset

_MOST = 1 << 26  # bytes per file: 64 MB is about ten million numbers
_LOCAL = struct.Struct("<4s22xHH")  # a member's local header: signature, lengths of the name and of the extra field
_ENCRYPTED = 1
_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")  # a file name everywhere, and a plain word in a CSV


@dataclass(frozen=True)
class Listed:
    """A file below a folder."""

    name: str  # relative, with '/'
    size: int  # bytes
    changed: int  # ns, when its bytes were modified, which programs may set
    status_changed: int  # ns, when anything of it last changed, which they may not


def bundle(path: Path, end: str = ".txt") -> dict[str, str]:
    """Files of a folder or zip, keyed by name without `end`, in natural order; the values are entries for `contents`.

    DataError for an unreadable zip, a path that escapes it, a name that is not printable, or a duplicate name. Ignores
    `__MACOSX`, names that begin with a dot, and `*wavelength.txt`.
    """
    pairs = [(n, n) for n in (f.name for f in files_below(path, (end,)))] if path.is_dir() else _members(path, end)
    found: dict[str, str] = {}
    for name, entry in sorted(pairs, key=lambda pair: natural(pair[0])):
        stem = name.rpartition("/")[2][: -len(end)]
        if stem.startswith(".") or stem.endswith("wavelength"):
            continue
        if stem in found:
            raise DataError(f"{path.name}: contains {stem}{end} twice ({name}), expected one file per id")
        found[stem] = entry
    return found


def files_below(folder: Path, ends: Sequence[str]) -> Iterator[Listed]:
    """Files with certain suffixes in a folder and its subfolders, sorted by name; links to folders are not followed.

    DataError if a link to such a file or to a folder points outside the folder, or if a name is not printable.
    """
    yield from _below(folder, "", folder.resolve(), tuple(ends))


def contents(path: Path, entries: Sequence[str]) -> Iterator[tuple[str, bytes | DataError]]:
    """Each entry's file name and its bytes, or a one-line error that explains why they cannot be read."""
    whose = path.name
    if path.is_dir():
        for entry in entries:
            name = entry.rpartition("/")[2]
            yield name, _of_file(f"{path}/{entry}", f"{whose} {name}")
        return
    with open(path, "rb") as stream:
        for entry in entries:
            *places, name = entry.split(" ", 5)
            yield name, _of_member(stream, [int(place) for place in places], f"{whose} {name}")


def natural(name: str) -> tuple[tuple[str, int, str], ...]:
    """A sort key that puts 2 before 10 and keeps names with equal numbers in order."""
    pairs = ((word, number.lstrip("0")) for word, number in re.findall(r"(\D*)(\d*)", name))
    return tuple((word, len(number), number) for word, number in pairs)  # int() rejects a number of 5,000 digits


def _below(folder: Path, prefix: str, root: Path, ends: tuple[str, ...]) -> Iterator[Listed]:
    with os.scandir(folder) as scan:
        there = sorted(scan, key=lambda entry: entry.name)
    for entry in there:
        wanted = entry.name.lower().endswith(ends)
        if entry.is_symlink() and (wanted or os.path.isdir(entry.path)):
            check_link(entry.path, root)
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path), f"{prefix}{entry.name}/", root, ends)
        elif wanted and (entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)):  # the first needs no disk
            check_printable(entry.name, root.name)
            stat = entry.stat()
            yield Listed(prefix + entry.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def check_link(path: str, root: Path) -> None:
    """Raise DataError if a link points outside a folder. root: that folder, resolved."""
    if not Path(os.path.realpath(path)).is_relative_to(root):  # Path.resolve raises on a link to itself
        name = os.path.basename(path)
        raise DataError(f"{root.name}: {name} is a link to a file outside the folder; replace it with the file itself")


def check_printable(name: str, where: str) -> None:
    """Raise DataError if a file name is not printable. where: the folder or archive, for the error message."""
    if not name.isprintable():  # it becomes the id, and would break an error line or a CSV row
        raise DataError(f"{where}: the file name {name[:80]!r} contains unprintable characters; rename the file")


def check_file_names(dataset: Dataset) -> None:
    """DataError unless every id can name a file of its own, on any disk."""
    ids = dataset.ids.tolist()
    wrong = next((i for i in ids if not _SAFE.fullmatch(i)), None)
    if wrong is not None:
        raise DataError(f"{dataset.source}: id {wrong!r} is not safe as a file name; expected letters, digits, _ . + -")
    seen: set[str] = set()
    for word in ids:
        if word.lower() in seen:  # some disks do not tell upper case from lower
            raise DataError(f"{dataset.source}: id {word!r} appears twice (ignoring case); each id is a file name")
        seen.add(word.lower())


def _members(path: Path, end: str) -> list[tuple[str, str]]:
    """Names of a zip's files, each with its entry: offset, packed and unpacked bytes, CRC, method or -1, base name."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path.name}: cannot be read as a zip ({str(error)[:80]}); download it again") from None
    found = []
    for info in infos:
        name = info.filename
        if not _stays_inside(name):
            raise DataError(f"{path.name}: member {name[:80]!r} points outside the archive; expected paths inside it")
        if name.lower().endswith(end) and not name.startswith("__MACOSX/"):
            check_printable(name, path.name)
            method = -1 if info.flag_bits & _ENCRYPTED else info.compress_type
            places = (info.header_offset, info.compress_size, info.file_size, info.CRC, method)
            found.append((name, f"{' '.join(map(str, places))} {name.rpartition('/')[2]}"))
    return found


def _stays_inside(name: str) -> bool:
    parts = re.split(r"[/\\]", name)
    return bool(parts[0]) and ".." not in parts and not re.match(r"[A-Za-z]:", name)


def _of_file(path: str, what: str) -> bytes | DataError:
    try:
        with open(path, "rb", buffering=0) as stream:  # five times as fast as a buffered read of the maximum size
            size = os.fstat(stream.fileno()).st_size
            return stream.readall() if size <= _MOST else _too_large(what, "has", size)
    except OSError as error:
        return DataError(f"{what}: cannot be read ({error.strerror})")


def _of_member(stream: BinaryIO, places: Sequence[int], what: str) -> bytes | DataError:
    offset, packed, size, crc, method = places
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        how = "is encrypted" if method < 0 else f"uses compression method {method}"
        return DataError(f"{what}: {how}; expected an unencrypted zip, deflated or stored")
    if max(size, packed) > _MOST:
        return _too_large(what, "unpacks to", size)
    try:
        stream.seek(offset)
        head = stream.read(_LOCAL.size)
        if len(head) < _LOCAL.size or not head.startswith(b"PK\x03\x04"):
            return _broken(what, "no file header at the offset in the zip directory")
        stream.seek(sum(_LOCAL.unpack(head)[1:]), os.SEEK_CUR)
        data = stream.read(packed)
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1) if method else data
    except (zlib.error, OSError, OverflowError, ValueError) as error:  # a disk error, or an offset beyond the file
        return _broken(what, str(error))
    return data if len(data) == size and zlib.crc32(data) == crc else _broken(what, "wrong checksum or size")


def _broken(what: str, why: str) -> DataError:
    return DataError(f"{what}: is corrupt in the zip ({why}); download the zip again")


def _too_large(what: str, how: str, size: int) -> DataError:
    return DataError(f"{what}: {how} {size:,} bytes, too large for one sample (at most {_MOST:,})")
