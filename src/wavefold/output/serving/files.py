"""What is looked at in a file that was sent, before any reader opens it: what it says it unpacks to, and what it is."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib

from wavefold.output.serving.bodies import Refusal

_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")  # first bytes of gzip, bzip2 and xz
_MAY_BE_PACKED = (".fits.gz", ".fit.gz")  # whose reader has a bound of its own
_ZIPS = (".zip", ".npz")


def check_file(body: bytes, suffix: str, *, most: int, members: int) -> None:
    """Refusal for a file that unpacks to more than `most` bytes or `members` files, or that is packed against its ending."""
    if not body:
        raise Refusal(422, "the body: is empty", "the body")
    if suffix.endswith(_ZIPS):
        _check_zip(body, most, members)
    elif suffix == ".csv.gz":
        _check_gzip(body, most)
    elif body.startswith(_PACKED) and suffix not in _MAY_BE_PACKED:
        raise Refusal(422, f"the body: is packed; expected a plain {suffix}", "the body")


def _check_gzip(body: bytes, most: int) -> None:
    size = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
            while size <= most and (piece := stream.read(1 << 20)):
                size += len(piece)
    except (OSError, EOFError, zlib.error):
        raise Refusal(422, "the body: is not gzip that can be read to its end", "the body") from None
    if size > most:
        raise Refusal(413, f"the body: unpacks to more than {most:,} bytes", "the body")


def _check_zip(body: bytes, most: int, members: int) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            infos = archive.infolist()
    except Exception:  # a broken directory fails in many ways
        raise Refusal(422, "the body: is not a zip that can be read", "the body") from None
    if len(infos) > members:
        raise Refusal(413, f"the body: holds {len(infos):,} files, expected {members:,} at most", "the body")
    size = sum(info.file_size for info in infos)
    if size > most:
        raise Refusal(413, f"the body: unpacks to {size:,} bytes, expected {most:,} at most", "the body")
    if any(info.flag_bits & 1 for info in infos):
        raise Refusal(422, "the body: is encrypted; expected a zip without a password", "the body")
