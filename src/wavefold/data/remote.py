"""Sources that are elsewhere: `s3://`, `https://` and the like, copied into the cache folder by fsspec and read from there.

A file, or all files below a folder such as a Zarr store, each written whole; a call that was killed goes on after the last one.
Before a copy is used the source is asked for its files' sizes and marks (ETag, times): what changed is fetched again. Names and
passwords are those of the file system: see the pages of s3fs, gcsfs or adlfs.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pydantic import BaseModel, ValidationError

from wavefold.core.errors import DataError, UserError
from wavefold.core.files import NO_ROOM
from wavefold.core.locks import held
from wavefold.core.progress import Progress
from wavefold.core.registry import Table, optional
from wavefold.data.cache import cache_folder
from wavefold.data.layout import Fetch

REMOTES: Table[Fetch] = Table("remotes")

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_FOLDER, _LIST, _DATA = "remote", "copied.json", "data"
_NOTED = 64  # files copied until they are noted
_PIECE = 1 << 20  # bytes copied at a time
_fsspec = optional("fsspec", extra="remote")
_core = optional("fsspec.core", extra="remote")


class _Copied(BaseModel):
    """copied.json: what was there when it was copied."""

    url: str
    marks: dict[str, str]  # path below the folder -> what identifies its content; written last


def local(source: str | Path) -> Path:
    """The path of a source on this machine: its own, or that of a copy in the cache folder."""
    for prefix, fetch in REMOTES.items():
        if str(source).startswith(prefix):
            name = str(source).removeprefix(prefix)
            return fetch(name, cache_folder() / prefix.rstrip(":") / name)
    return _copied(str(source)) if is_url(source) else Path(source).expanduser()


def is_url(source: str | Path) -> bool:
    """Whether a source is a URL, `file://` included."""
    return isinstance(source, str) and _URL.match(source) is not None


def _copied(url: str) -> Path:
    """Copy a file, or all files of a folder, unless the same ones are there; the path of the copy."""
    name = PurePosixPath(url.partition("://")[2].partition("?")[0]).name
    if not re.fullmatch(r"[^/\\\x00]+", name) or name in (".", ".."):
        raise UserError(f"{url}: names no file or folder")
    folder = cache_folder() / _FOLDER / hashlib.sha256(url.encode()).hexdigest()[:16]
    try:
        system, path = _core.url_to_fs(url)
        files = _files(system, path)
        if not files:
            raise DataError(f"{url}: there are no files in it")
        marks = {below: _mark(info) for below, info in files.items()}
        with held(folder, "", wait=True):
            _copy(system, url, files, marks, folder, folder / _DATA / name)
    except (UserError, DataError):
        raise
    except FileNotFoundError:
        raise DataError(f"{url}: no such file or folder") from None
    except ImportError as error:
        raise UserError(f"{url}: needs another package ({error}); try pip install 'wavefold[remote]'") from None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise UserError(f"{folder}: the copy of {url} cannot be written ({error.strerror}); set WAVEFOLD_CACHE") from None
        raise _unreached(url, error) from None
    except Exception as error:  # of the file system's own kinds
        raise _unreached(url, error) from None
    return folder / _DATA / name


def _unreached(url: str, error: Exception) -> UserError:
    why = " ".join(str(error).split())[:120] or type(error).__name__
    return UserError(f"{url}: cannot be read ({why}); check its name, the network and your rights to it")


def _files(system: Any, path: str) -> dict[str, Mapping[str, Any]]:
    """The files of a source: path below it -> facts; "" for a source that is a file itself."""
    try:
        info = system.info(path)
    except FileNotFoundError:
        info = {"type": "directory"}  # an object store's folders exist only by their files
    if info["type"] == "file":
        return {"": info}
    found: Mapping[str, Mapping[str, Any]] = system.find(path, detail=True)
    if not found:
        raise FileNotFoundError(path)
    root = PurePosixPath(system._strip_protocol(path))
    files = {str(PurePosixPath(name).relative_to(root)): facts for name, facts in sorted(found.items())}
    odd = next((name for name in files if ".." in PurePosixPath(name).parts or "\\" in name or ":" in name), None)
    if odd is not None:
        raise DataError(f"{path}: holds a file named '{odd}', which no disk can keep")
    return files


def _mark(info: Mapping[str, Any]) -> str:
    """What identifies the content of a file without reading it."""
    known = ("size", "ETag", "etag", "md5Hash", "LastModified", "mtime", "updated", "last_modified", "created")
    return "; ".join(f"{name} {info[name]}" for name in known if info.get(name) is not None)


def _copy(
    system: Any, url: str, files: Mapping[str, Mapping[str, Any]], marks: Mapping[str, str], folder: Path, to: Path
) -> None:
    """Copy the files that are not there as they are marked, and remove those that the source has no more."""
    try:
        known = _Copied.model_validate_json((folder / _LIST).read_bytes()).marks
    except (OSError, ValidationError):
        known = {}
    if ("" in files) == to.is_dir():  # a file has become a folder, or a folder a file
        shutil.rmtree(folder / _DATA, ignore_errors=True)
    for below in known.keys() - files.keys():
        (to / below).unlink(missing_ok=True)
    done = {below: mark for below, mark in known.items() if marks.get(below) == mark and (to / below).is_file()}
    todo = [below for below in files if below not in done]
    total, copied = sum(int(files[below].get("size") or 0) for below in todo), 0

    def note() -> None:
        list_ = _Copied(url=url, marks=done).model_dump_json()
        _write(folder / _LIST, lambda stream: stream.write(list_.encode()))

    with Progress(f"copying {url}", total, "bytes") as progress:
        try:
            for number, below in enumerate(todo, 1):
                with system.open(files[below]["name"], "rb") as source:
                    _write(to / below, partial(shutil.copyfileobj, source, length=_PIECE))
                size, stated = (to / below).stat().st_size, files[below].get("size")
                if stated is not None and size != stated:
                    raise UserError(f"{url}: {size:,} of {stated:,} bytes came; start the command again")
                done[below] = marks[below]
                copied += size
                progress.update(copied)
                if not number % _NOTED:
                    note()
        finally:
            if todo:
                note()


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file of the copy whole, in whichever process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with open(part, "wb") as stream:
        write(stream)
    os.replace(part, path)
