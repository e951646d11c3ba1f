"""Check an uploaded file before any reader opens it: its type, and the size it claims to unpack to."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib

from wavefold.serving.parsers import RequestError

_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")  # first bytes of gzip, bzip2 and xz
_MAY_BE_PACKED = (".fits.gz", ".fit.gz")  # their reader has its own limit
_ZIPS = (".zip", ".npz")


def check_file(body: bytes, suffix: str, *, most: int, members: int) -> None:
    """Refuse a file that unpacks to more than `most` bytes or `members` files, or is compressed despite its suffix."""
    if not body:
        raise RequestError(422, "the body is empty", "the body")
    if suffix.endswith(_ZIPS):
        _check_zip(body, most, members)
    elif suffix == ".csv.gz":
        _check_gzip(body, most)
    elif body.startswith(_PACKED) and suffix not in _MAY_BE_PACKED:
        raise RequestError(422, f"the body is compressed; expected a plain {suffix} file", "the body")


def _check_gzip(body: bytes, most: int) -> None:
    size = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
            while size <= most and (piece := stream.read(1 << 20)):
                size += len(piece)
    except (OSError, EOFError, zlib.error):
        raise RequestError(422, "the body is not a complete gzip file", "the body") from None
    if size > most:
        raise RequestError(413, f"the body unpacks to more than {most:,} bytes", "the body")


def _check_zip(body: bytes, most: int, members: int) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            infos = archive.infolist()
    except Exception:  # a corrupt directory fails in many ways
        raise RequestError(422, "the body is not a readable zip file", "the body") from None
    if len(infos) > members:
        raise RequestError(413, f"the body contains {len(infos):,} files, expected at most {members:,}", "the body")
    size = sum(info.file_size for info in infos)
    if size > most:
        raise RequestError(413, f"the body unpacks to {size:,} bytes, expected at most {most:,}", "the body")
    if any(info.flag_bits & 1 for info in infos):
        raise RequestError(422, "the body is encrypted; expected a zip file without a password", "the body")
