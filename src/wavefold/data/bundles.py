"""Small files of one folder or zip, read by name where they are: nothing is unpacked to the disk.

A zip's directory is read once; each member is then read by its place in the archive, so that other processes need no
directory of their own. Names that lead out of the archive or folder are refused, as are those that no line of text can show,
and so is a member or file that is far too large for one sample.
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

from wavefold.base.errors import DataError

_MOST = 1 << 26  # bytes of one file: 64 MB are some ten million numbers
_LOCAL = struct.Struct("<4s22xHH")  # a member's local header: signature, lengths of its name and of its extra field
_ENCRYPTED = 1


@dataclass(frozen=True)
class Listed:
    """A file below a folder."""

    name: str  # relative, with '/'
    size: int  # bytes
    changed: int  # ns


def bundle(path: Path, end: str = ".txt") -> dict[str, str]:
    """Files of a folder or zip by their names less `end`, in natural order; the values are what `contents` takes.

    DataError for a zip that cannot be read, a name that leads out of it or is not printable, or two files of one name. Litter
    (`__MACOSX`, names that begin with a dot) and `*wavelength.txt` are no samples.
    """
    pairs = [(n, n) for n in (f.name for f in files_below(path, (end,)))] if path.is_dir() else _members(path, end)
    found: dict[str, str] = {}
    for name, entry in sorted(pairs, key=lambda pair: natural(pair[0])):
        stem = name.rpartition("/")[2][: -len(end)]
        if stem.startswith(".") or stem.endswith("wavelength"):
            continue
        if stem in found:
            raise DataError(f"{path.name}: holds {stem}{end} twice ({name}), expected one file for each id")
        found[stem] = entry
    return found


def files_below(folder: Path, ends: Sequence[str]) -> Iterator[Listed]:
    """A folder's files of certain endings, in it and below, by name; links to folders are not followed.

    DataError where a link to such a file or to a folder leads out of it, or where a name is not printable.
    """
    yield from _below(folder, "", folder.resolve(), tuple(ends))


def contents(path: Path, entries: Sequence[str]) -> Iterator[tuple[str, bytes | DataError]]:
    """Each entry's file name and its bytes, or the error that says in one line why they cannot be had."""
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
    """A key that sorts 2 before 10 and keeps names of one number in their order."""
    pairs = ((word, number.lstrip("0")) for word, number in re.findall(r"(\D*)(\d*)", name))
    return tuple((word, len(number), number) for word, number in pairs)  # int() refuses a number of 5,000 digits


def _below(folder: Path, prefix: str, root: Path, ends: tuple[str, ...]) -> Iterator[Listed]:
    with os.scandir(folder) as scan:
        there = sorted(scan, key=lambda entry: entry.name)
    for entry in there:
        wanted = entry.name.lower().endswith(ends)
        if entry.is_symlink() and (wanted or os.path.isdir(entry.path)):
            check_link(entry.path, root)
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path), f"{prefix}{entry.name}/", root, ends)
        elif wanted and (entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)):  # the first asks no disk
            check_printable(entry.name, root.name)
            stat = entry.stat()
            yield Listed(prefix + entry.name, stat.st_size, stat.st_mtime_ns)


def check_link(path: str, root: Path) -> None:
    """DataError where a link leads out of a folder. root: that folder, resolved."""
    if not Path(os.path.realpath(path)).is_relative_to(root):  # Path.resolve raises for a link to itself
        name = os.path.basename(path)
        raise DataError(f"{root.name}: {name} is a link that leads out of the folder; put the file itself there")


def check_printable(name: str, where: str) -> None:
    """DataError where a file's name cannot be shown. where: the folder or archive, for the error."""
    if not name.isprintable():  # it is the id, and would tear the line of an error or of a CSV
        raise DataError(f"{where}: the file name {name[:80]!r} holds what cannot be printed; expected a plain name")


def _members(path: Path, end: str) -> list[tuple[str, str]]:
    """Names of a zip's files, each with where it stands: offset, bytes packed and unpacked, CRC, method or -1, base name."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path.name}: is not a zip that can be read ({str(error)[:80]}); fetch it again") from None
    found = []
    for info in infos:
        name = info.filename
        if not _stays_inside(name):
            raise DataError(f"{path.name}: member {name[:80]!r} leads out of the archive; expected plain names below it")
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
        with open(path, "rb", buffering=0) as stream:  # five times as fast as through a buffer, with room for the most
            size = os.fstat(stream.fileno()).st_size
            return stream.readall() if size <= _MOST else _too_large(what, "holds", size)
    except OSError as error:
        return DataError(f"{what}: cannot be read ({error.strerror})")


def _of_member(stream: BinaryIO, places: Sequence[int], what: str) -> bytes | DataError:
    offset, packed, size, crc, method = places
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        how = "is encrypted" if method < 0 else f"is packed by method {method}"
        return DataError(f"{what}: {how}; expected a zip without a password, deflated or stored")
    if max(size, packed) > _MOST:
        return _too_large(what, "unpacks to", size)
    try:
        stream.seek(offset)
        head = stream.read(_LOCAL.size)
        if len(head) < _LOCAL.size or not head.startswith(b"PK\x03\x04"):
            return _broken(what, "its header is not where the zip says")
        stream.seek(sum(_LOCAL.unpack(head)[1:]), os.SEEK_CUR)
        data = stream.read(packed)
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1) if method else data
    except (zlib.error, OSError, OverflowError, ValueError) as error:  # a disk's, or of a place that no file has
        return _broken(what, str(error))
    return data if len(data) == size and zlib.crc32(data) == crc else _broken(what, "its checksum or size is another")


def _broken(what: str, why: str) -> DataError:
    return DataError(f"{what}: is broken in the zip ({why}); fetch the zip again")


def _too_large(what: str, how: str, size: int) -> DataError:
    return DataError(f"{what}: {how} {size:,} bytes, far more than a sample has (at most {_MOST:,})")
