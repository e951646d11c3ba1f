"""Reads frames from a folder of numbered images: frame2.png comes before frame10.png, a missing number is a gap.

Each subfolder with images is a sequence of its own.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wavefold.core.errors import DataError, UserError, listed
from wavefold.core.registry import optional
from wavefold.data.lazy import LARGE, Floats, Ints, Lazy
from wavefold.data.series import Series, join_stretches
from wavefold.data.series_options import Reading

if TYPE_CHECKING:
    from PIL.Image import Image

pictures = optional("PIL.Image", extra="pictures")

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".pgm", ".ppm")

_FORMS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM")  # Pillow detects others by content, and some of those run programs
_COLOURS = ("red", "green", "blue")
_GREY = ("1", "L", "LA", "I", "F")  # Pillow's modes; also I;16 and similar
_PARSED = {"P": "RGBA", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "RGBX": "RGB"}  # modes that are converted first


def read_images(path: Path, reading: Reading) -> Series:
    """Read the images in a folder, ordered by the last number in their names, or in its subfolders, one sequence each.

    Grey images give one channel, colour images red, green and blue; 16-bit depth is kept, and fully transparent pixels are
    NaN. All images must have the same size and mode. Values are as stored: `read_series` applies codes and scale. A missing
    number starts a new stretch. DataError names the file.
    """
    folders = sequences_of(path)
    runs = [run for folder in folders for run in _runs(folder)]
    files = [file for run in runs for file in run.files]
    first = _kind(files[0])
    for file in files[1:]:
        _check_same(file, first, files[0].name)
    channels = ("value",) if _is_grey(first.mode) else _COLOURS
    shape = (len(channels), first.size[1], first.size[0])
    load = partial(_load, tuple(files), first)
    starts, names = join_stretches([run.name for run in runs], [len(run.files) for run in runs])
    return Series(
        frames=Lazy(load, np.arange(len(files)), shape)
        if 4 * len(files) * np.prod(shape) > LARGE
        else load(np.arange(len(files))),
        starts=starts,
        names=names,
        channels=channels,
        unit=reading.unit,
        source=str(path),
        notes=_notes(runs, path.name),
    )


def sequences_of(path: Path) -> list[Path]:
    """Return the folder itself if it holds images, else its subfolders that do; empty if there are no images."""
    if not path.is_dir():
        return []
    if images_in(path):
        return [path]
    return sorted((f for f in path.iterdir() if f.is_dir() and images_in(f)), key=lambda f: natural(f.name))


def images_in(folder: Path) -> list[Path]:
    """Return a folder's image files, by name, without hidden ones."""
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGES and not f.name.startswith(".") and f.is_file())


def natural(name: str) -> list[tuple[int, str]]:
    """A natural sort key for names: frame2 before frame10."""
    return [(int(word), "") if word.isdigit() else (-1, word) for word in re.split(r"([0-9]+)", name)]


@dataclass(frozen=True)
class _Run:
    """Images without a gap between them."""

    name: str
    files: tuple[Path, ...]
    missing: str = ""  # a note on the gap before it; "" if there is none


@dataclass(frozen=True)
class _Kind:
    """Properties that all images of a source must share."""

    mode: str
    size: tuple[int, int]  # columns, rows

    def __str__(self) -> str:
        return f"{self.size[1]} x {self.size[0]} ({self.mode})"


def _runs(folder: Path) -> list[_Run]:
    """The images of one folder in order, split at each gap in their numbers."""
    files = images_in(folder)
    numbers = _numbers(files, folder.name)
    if numbers is None:
        return [_Run(folder.name, tuple(sorted(files, key=lambda f: natural(f.name))))]
    order = np.argsort(np.array(numbers, dtype=object), kind="stable")
    files, numbers = [files[i] for i in order], [numbers[i] for i in order]
    steps = [after - before for before, after in pairwise(numbers)]
    if 0 in steps:
        at = steps.index(0)
        raise DataError(f"{folder.name}: {files[at].name} and {files[at + 1].name} have the same number {numbers[at]}")
    usual = max(set(steps), key=lambda step: (steps.count(step), -step)) if steps else 1
    edges = [0, *(i + 1 for i, step in enumerate(steps) if step != usual), len(files)]
    runs: list[_Run] = []
    for begin, end in pairwise(edges):
        missing = f"{folder.name}: after {files[begin - 1].name} comes {files[begin].name}" if begin else ""
        runs.append(_Run(f"{folder.name}-{len(runs) + 1}" if len(edges) > 2 else folder.name, tuple(files[begin:end]), missing))
    return runs


def _numbers(files: Sequence[Path], place: str) -> list[int] | None:
    """The last number in each file's name; None if no name has one."""
    found = [re.findall(r"[0-9]+", file.stem) for file in files]
    if not any(found):
        return None
    for file, words in zip(files, found, strict=True):
        if not words:
            raise DataError(f"{place}: {file.name} has no number in its name, unlike the others")
    return [int(words[-1]) for words in found]


def _notes(runs: Sequence[_Run], place: str) -> tuple[str, ...]:
    gaps = [run.missing for run in runs if run.missing]
    return (
        (
            f"{place}: {len(gaps)} gap{'s' if len(gaps) != 1 else ''} in the numbers, the first: {gaps[0]}; "
            "no window crosses a gap",
        )
        if gaps
        else ()
    )


def _check_same(file: Path, first: _Kind, name: str) -> None:
    kind = _kind(file)
    if kind != first:
        raise DataError(f"{file.name}: frame size or mode is {kind}, but that of the first image, {name}, is {first}")


def _kind(file: Path) -> _Kind:
    with _Opened(file) as image:
        if (count := getattr(image, "n_frames", 1)) > 1:
            raise DataError(f"{file.name}: contains {count} images, expected one per file")
        return _Kind(image.mode, image.size)


def _is_grey(mode: str) -> bool:
    return mode in _GREY or mode.startswith("I;16")


def _load(files: tuple[Path, ...], kind: _Kind, numbers: Ints) -> Floats:
    """Load images by number, (frame, channel, row, column)."""
    made = np.empty((len(numbers), 1 if _is_grey(kind.mode) else 3, kind.size[1], kind.size[0]), np.float32)
    for i, number in enumerate(numbers):
        _check_same(files[number], kind, files[0].name)  # it may have changed since
        made[i] = _values(files[number])
    return made


def _values(file: Path) -> Floats:
    """Read one image, (channel, row, column)."""
    with _Opened(file) as image:
        values = np.asarray(image.convert(_PARSED[image.mode]) if image.mode in _PARSED else image, np.float32)
    if values.ndim == 2:
        return values[None]
    bands = values.transpose(2, 0, 1)
    if len(bands) in (2, 4):  # the last one is opacity
        bands = np.where(bands[-1] == 0, np.float32(np.nan), bands[:-1])
    if len(bands) not in (1, 3):
        raise DataError(f"{file.name}: has {len(bands)} bands, expected grey or red, green and blue")
    return bands


class _Opened:
    """An open image file; errors become a one-line DataError that names it. Orientation tags are ignored."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._quiet = warnings.catch_warnings()

    def __enter__(self) -> Image:
        self._quiet.__enter__()
        warnings.simplefilter("ignore")  # only errors matter
        warnings.simplefilter("error", pictures.DecompressionBombWarning)
        try:
            image: Image = pictures.open(self._file, formats=_FORMS)
        except BaseException as error:
            self._quiet.__exit__(None, None, None)
            self._log(error)
            raise
        self._image = image
        return image

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._image.close()
        self._quiet.__exit__(None, None, None)
        if error is not None:
            self._log(error)

    def _log(self, error: BaseException) -> None:
        if isinstance(error, pictures.DecompressionBombWarning | pictures.DecompressionBombError):
            raise DataError(f"{self._file.name}: too many pixels for a frame; the image was not read") from None
        if isinstance(error, Exception) and not isinstance(error, UserError):  # Pillow's parsers raise errors of many kinds
            raise DataError(f"{self._file.name}: cannot be read as an image, expected {listed(IMAGES)}") from None
