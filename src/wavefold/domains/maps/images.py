"""Reads frames from a folder of images named by number or date: frame2.png before frame10.png, a missing number is a gap.

Each subfolder with images is a sequence of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wavefold.core.errors import DataError, UserError, listed, plural
from wavefold.core.registry import optional
from wavefold.data.lazy import LARGE, Floats, Ints, Lazy
from wavefold.data.numbered import Numbered, by_name, natural
from wavefold.data.series import Seconds, Series, join_stretches
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
    """Read the images in a folder, ordered by the numbers or dates in their names, or in its subfolders, one sequence each.

    Grey images give one channel, colour images red, green and blue; 16-bit depth is kept, and fully transparent pixels are
    NaN. All images must have the same size and mode. Values are as stored: `read_series` applies codes and scale. A missing
    number starts a new stretch. DataError names the file.
    """
    runs = [_run(folder) for folder in sequences_of(path)]
    files = [file for run in runs for file in run.files]
    first = _kind(files[0])
    for file in files[1:]:
        _check_same(file, first, files[0].name)
    channels = ("value",) if _is_grey(first.mode) else _COLOURS
    shape = (len(channels), first.size[1], first.size[0])
    load = partial(_load, tuple(files), first)
    lengths = [np.diff([*run.numbered.starts, len(run.files)]) for run in runs]
    starts, names = join_stretches([name for run in runs for name in run.names], np.concatenate(lengths).tolist())
    return Series(
        frames=Lazy(load, np.arange(len(files)), shape)
        if 4 * len(files) * np.prod(shape) > LARGE
        else load(np.arange(len(files))),
        starts=starts,
        names=names,
        times=_times(runs),
        step=max(run.numbered.step for run in runs),
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


@dataclass(frozen=True)
class _Run:
    """The images of one folder in order."""

    folder: str
    files: tuple[Path, ...]
    numbered: Numbered

    @property
    def names(self) -> list[str]:
        """A name for each stretch without a gap."""
        count = len(self.numbered.starts)
        return [self.folder] if count == 1 else [f"{self.folder}-{i + 1}" for i in range(count)]


@dataclass(frozen=True)
class _Kind:
    """Properties that all images of a source must share."""

    mode: str
    size: tuple[int, int]  # columns, rows

    def __str__(self) -> str:
        return f"{self.size[1]} x {self.size[0]} ({self.mode})"


def _run(folder: Path) -> _Run:
    files = images_in(folder)
    numbered = by_name([file.name for file in files], folder.name)
    return _Run(folder.name, tuple(files[i] for i in numbered.order), numbered)


def _times(runs: Sequence[_Run]) -> Seconds | None:
    """(time,) seconds, if all folders have images named by time."""
    known = [run.numbered.times for run in runs if run.numbered.times is not None]
    return np.concatenate(known) if len(known) == len(runs) else None


def _notes(runs: Sequence[_Run], place: str) -> tuple[str, ...]:
    taken = [note for run in runs for note in run.numbered.notes]
    more = [f"{place}: ... and {len(taken) - 3} more such notes"] if len(taken) > 3 else []
    gaps = [f"{run.folder}: {gap}" for run in runs for gap in run.numbered.gaps]
    if gaps:
        more.append(f"{place}: {plural(len(gaps), 'gap')} in the numbers, the first: {gaps[0]}; no window crosses a gap")
    return (*taken[:3], *more)


def _check_same(file: Path, first: _Kind, name: str) -> None:
    kind = _kind(file)
    if kind != first:
        raise DataError(f"{file.name}: frame size or mode is {kind}, but that of the first image, {name}, is {first}")


def _kind(file: Path) -> _Kind:
    with _Opened(file) as image:
        if (count := getattr(image, "n_frames", 1)) > 1:
            raise DataError(f"{file.name}: contains {count} images, expected one per file; its own path says how to convert it")
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
