"""Locates the files of a cadence source: `<id>.npy` in one folder, and the CSV that lists them with their labels.

The contest's layout is `train_labels.csv` (`id,target`) beside `train/<first character of the id>/<id>.npy`, and likewise
`test/` with `sample_submission.csv`. The CSV and the one-character subfolders are optional.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wavefold.core.errors import DataError, listed
from wavefold.data.bundles import check_link, check_printable
from wavefold.data.index_csv import is_part, stem_of

END = ".npy"
SUBMISSION = "sample_submission.csv"
_LABELS = re.compile(r"labels.*\.csv(\.gz)?$", re.IGNORECASE)
_WORD = re.compile("labels", re.IGNORECASE)


@dataclass(frozen=True)
class Parts:
    """The files of a cadence source."""

    listing: Path | None  # the CSV with a row per sample; without it every file is a sample
    samples: Path  # the folder of .npy files, or a single .npy

    @property
    def name(self) -> str:
        """The name used in error messages."""
        return (self.listing or self.samples).name


def parts_of(path: Path) -> Parts | None:
    """The source at a path: a CSV, a folder of .npy files, its parent folder, or one .npy; None if there is no .npy.

    DataError if a folder has several label CSVs.
    """
    if path.name in ("", ".."):
        path = path.resolve()  # to get a name
    if path.is_file():
        if path.name.endswith(END):
            return Parts(None, path)
        samples = _samples_of(path)
        return Parts(path, samples) if samples else None
    listing = labels_in(path)
    if listing:
        return Parts(listing, _samples_of(listing) or path)
    folder = next((folder for folder in (path, path / "train", path / "test") if _holds(folder)), None)
    return Parts(_listing_beside(folder), folder) if folder else None


def labels_in(folder: Path) -> Path | None:
    """The `*labels*.csv` in a folder that lists .npy files: the one with `train` in its name, else the only one."""
    files = sorted(f for f in folder.iterdir() if _LABELS.search(f.name) and lists_cadences(f))
    kept = [f for f in files if is_part(f, "train")] or [f for f in files if not is_part(f, "test")] or files
    if len(kept) > 1:
        raise DataError(f"{folder.name}: contains {listed(f.name for f in kept)}; give the path of one of them")
    return kept[0] if kept else None


def lists_cadences(path: Path) -> bool:
    """Whether a file is a .npy, or a label CSV or sample submission with .npy files beside it."""
    if path.name.endswith(END):
        return True
    return path.is_file() and bool(_LABELS.search(path.name) or path.name == SUBMISSION) and _samples_of(path) is not None


def part_to_predict(folder: Path) -> list[Path]:
    """The `test` subfolder of a cadence folder, if it contains .npy files."""
    return [folder / "test"] if _holds(folder / "test") else []


def npy_names(folder: Path) -> Iterator[str]:
    """Relative names of the .npy files in a folder and its one-character subfolders, unordered; none if not a folder.

    DataError if a link points outside the folder or a name is not printable.
    """
    if folder.is_dir():
        root = folder.resolve()
        yield from _names(folder, "", root)


def _names(folder: Path, prefix: str, root: Path) -> Iterator[str]:
    below = []
    with os.scandir(folder) as scan:
        for entry in scan:
            wanted, letter = entry.name.endswith(END), not prefix and len(entry.name) == 1
            if not (wanted or letter) or (wanted and entry.name.startswith(".")):
                continue
            if entry.is_symlink():
                check_link(entry.path, root)
            if letter and entry.is_dir():
                below.append(entry.name)
            elif wanted:
                check_printable(entry.name, root.name)
                yield prefix + entry.name
    for name in sorted(below):
        yield from _names(folder / name, f"{name}/", root)


def _holds(folder: Path) -> bool:
    return any(True for _ in npy_names(folder))


def _samples_of(listing: Path) -> Path | None:
    """The folder of a CSV's samples: the one with its name, else `train` (for a test part `test`), else the CSV's folder."""
    bare = _WORD.sub("", stem_of(listing)).strip("_-. ")
    usual = "test" if listing.name == SUBMISSION or is_part(listing, "test") else "train"
    folders = [listing.with_name(name) for name in (bare, usual) if name]
    return next((folder for folder in (*folders, listing.parent) if _holds(folder)), None)


def _listing_beside(folder: Path) -> Path | None:
    """The CSV of a sample folder: `<folder>_labels.csv` beside it, or for `test` the sample submission."""
    where = folder.resolve()
    names = [f"{where.name}_labels.csv", f"{where.name}_labels.csv.gz", *([SUBMISSION] if where.name == "test" else [])]
    return next((f for name in names if (f := where.parent / name).is_file()), None)
