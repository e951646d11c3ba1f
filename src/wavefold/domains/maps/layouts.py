"""Recognises sources of frames: NumPy arrays, NetCDF and Zarr, numbered images, tables of timed events."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from wavefold.core.errors import DataError, UserError, listed
from wavefold.data.cache import content_digest
from wavefold.data.layout import SeriesLayout
from wavefold.data.numbered import natural
from wavefold.data.series_options import Reading
from wavefold.domains.maps.arrays import EVENTS_WORD, read_array
from wavefold.domains.maps.events import read_events
from wavefold.domains.maps.grid import read_grid
from wavefold.domains.maps.images import IMAGES, images_in, read_images, sequences_of
from wavefold.domains.maps.other_frames import other_frames

_ARRAYS = (".npy", ".npz")
_GRIDS = (".nc", ".nc4", ".cdf", ".zarr", ".zarr.zip", ".zip")
_TABLES = (".csv", ".csv.gz", ".tsv")
_ZARR = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")  # every Zarr folder contains one of them


def layout_name(path: Path, reading: Reading) -> str:
    """Choose a source's layout by its suffix or by a folder's contents."""
    name = path.name.lower()
    if reading.events is not None:
        return "events"
    if name.endswith(_ARRAYS):
        return "array"
    if name.endswith(_GRIDS) or _is_zarr(path):
        return "grid"
    if path.is_dir():
        return _layout_of_folder(path)
    if name.endswith(_TABLES):
        raise UserError(f"{path.name}: a table of timed events needs the option {EVENTS_WORD}")
    if other := other_frames(path):
        raise DataError(f"{path.name}: {other}")
    if name.endswith(IMAGES):
        raise DataError(f"{path.name}: is a single image, expected a folder of numbered images")
    ends = listed((*_ARRAYS, *_GRIDS[:4]))
    raise DataError(f"{path.name}: not one of {ends}, nor a folder of images; convert it to one of them")


def _layout_of_folder(path: Path) -> str:
    files = _files(path)
    images = images_in(path) or (sequences_of(path) if not files else [])
    if files and images:
        raise DataError(f"{path.name}: contains both {files[0].name} and {images[0].name}; give the path of one of them")
    if files or images:
        return "images" if images else "array"
    there = listed(sorted(f.name for f in path.iterdir())[:8]) or "nothing"
    raise DataError(f"{path}: contains {there}; expected numbered images, or {listed((*_ARRAYS, *_GRIDS[:4]))} files")


def _is_zarr(path: Path) -> bool:
    return path.is_dir() and (path.name.lower().endswith(".zarr") or any((path / name).exists() for name in _ZARR))


def _files(folder: Path) -> list[Path]:
    """The frame files in a folder, in natural order."""
    there = (f for f in folder.iterdir() if f.name.lower().endswith((*_ARRAYS, *_GRIDS[:4])) and not f.name.startswith("."))
    return sorted(there, key=lambda f: natural(f.name))


def files_joined(path: Path) -> list[Path]:
    """Return the files of a folder to be joined in time, or the single file or Zarr folder itself."""
    return _files(path) if path.is_dir() and not _is_zarr(path) else [path]


def digest_of_images(path: Path) -> str:
    """SHA-256 of the names and bytes of a folder's images."""
    files = [file for folder in sequences_of(path) for file in images_in(folder)]
    listing = "".join(f"{file.relative_to(path)}\n" for file in files)
    return hashlib.sha256((listing + content_digest(files)).encode()).hexdigest()


def _sniff(name: str) -> Callable[[Path, Reading], float]:
    return lambda path, reading: float(layout_name(path, reading) == name)


LAYOUTS = {
    "array": SeriesLayout(read_array, _sniff("array"), parts=files_joined),
    "images": SeriesLayout(read_images, _sniff("images"), digest=digest_of_images),
    "grid": SeriesLayout(read_grid, _sniff("grid"), parts=files_joined),
    "events": SeriesLayout(read_events, _sniff("events"), has_units=True),
}
