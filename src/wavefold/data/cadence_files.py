"""Which files make up a source of cadences: `<id>.npy` in one folder, and the CSV that lists them with their labels.

The contest's layout is `train_labels.csv` (`id,target`) beside `train/<first character of the id>/<id>.npy`, then `test/` of
the same kind and `sample_submission.csv`. A folder of .npy may do without a CSV, and without folders of one character.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wavefold.base.errors import DataError, listed
from wavefold.data.bundles import check_link, check_printable
from wavefold.data.index_csv import is_part, stem_of

END = ".npy"
SUBMISSION = "sample_submission.csv"
_LABELS = re.compile(r"labels.*\.csv(\.gz)?$", re.IGNORECASE)
_WORD = re.compile("labels", re.IGNORECASE)


@dataclass(frozen=True)
class Parts:
    """A source of cadences."""

    listing: Path | None  # the CSV that has a row for each sample; without one every file is a sample
    samples: Path  # the folder of .npy, or the one .npy

    @property
    def name(self) -> str:
        """What errors call it."""
        return (self.listing or self.samples).name


def parts_of(path: Path) -> Parts | None:
    """The source that a path stands for: a CSV, a folder of .npy or of such a folder, one .npy; None where there is no .npy.

    DataError where a folder has several CSVs of labels.
    """
    if path.name in ("", ".."):
        path = path.resolve()  # for the name
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
    """The `*labels*.csv` of a folder that lists .npy: the one with `train` in its name, else the only one."""
    files = sorted(f for f in folder.iterdir() if _LABELS.search(f.name) and lists_cadences(f))
    kept = [f for f in files if is_part(f, "train")] or [f for f in files if not is_part(f, "test")] or files
    if len(kept) > 1:
        raise DataError(f"{folder.name}: holds {listed(f.name for f in kept)}; name one of them")
    return kept[0] if kept else None


def lists_cadences(path: Path) -> bool:
    """Whether a file is a .npy, or a CSV named as labels or a sample submission with .npy beside it."""
    if path.name.endswith(END):
        return True
    return path.is_file() and bool(_LABELS.search(path.name) or path.name == SUBMISSION) and _samples_of(path) is not None


def part_to_predict(folder: Path) -> list[Path]:
    """The folder `test` of a folder of cadences, where it holds .npy."""
    return [folder / "test"] if _holds(folder / "test") else []


def npy_names(folder: Path) -> Iterator[str]:
    """Names of the .npy in a folder and in its folders of one character, relative, in no order; none of what is no folder.

    DataError where a link leads out of the folder or a name is not printable.
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
    """The folder of a CSV's samples: that of its own name, else `train` (of a test part `test`), else its own folder."""
    bare = _WORD.sub("", stem_of(listing)).strip("_-. ")
    usual = "test" if listing.name == SUBMISSION or is_part(listing, "test") else "train"
    folders = [listing.with_name(name) for name in (bare, usual) if name]
    return next((folder for folder in (*folders, listing.parent) if _holds(folder)), None)


def _listing_beside(folder: Path) -> Path | None:
    """The CSV of a folder of samples: `<folder>_labels.csv` beside it, of `test` else the sample submission."""
    where = folder.resolve()
    names = [f"{where.name}_labels.csv", f"{where.name}_labels.csv.gz", *([SUBMISSION] if where.name == "test" else [])]
    return next((f for name in names if (f := where.parent / name).is_file()), None)
