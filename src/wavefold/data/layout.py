"""Defines layouts: how files of one kind are recognised, which files belong together, and what reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wavefold.data.series import Series
from wavefold.data.series_options import Reading
from wavefold.data.table import Table


@dataclass(frozen=True)
class Found:
    """What will be read: a file (for records a folder or a header), its layout and a CSV of further columns beside it.

    For a multi-file source: the index, else the folder, zip or file; and the folder whose files with certain suffixes count.
    """

    path: Path
    layout: str
    files: tuple[Path, ...]  # all files whose bytes affect the result
    meta: Path | None = None
    folder: Path | None = None
    suffixes: tuple[str, ...] = ()


def no_test_files(folder: Path) -> list[Path]:
    """Return no files, for a layout whose folders hold no test part."""
    return []


@dataclass(frozen=True)
class Layout:
    """One file layout of labelled samples.

    read(path, *, label_column, group, labels) returns a Table. It also accepts skip_bad and store if `keeps` is "rows",
    skip_bad if it is "nothing", and what `options` names: the recipe's values, and skip_bad if `keeps` is "table" and rows can
    be left out.
    """

    read: Callable[..., Table]
    sniff: Callable[[Path], float]  # confidence from 0 to 1 that a path has this layout
    locate: Callable[[Path], Found]  # all files of a source; DataError if it is none
    test_files: Callable[[Path], Sequence[Path]] = no_test_files  # of a folder
    suffixes: tuple[str, ...] = ()  # of files that may be uploaded to a server
    # what the cache keeps: the table, rows as they are read, or nothing; or nothing, as the table has the digest of its source
    keeps: Literal["table", "rows", "nothing", "digest"] = "table"
    one_file: bool = True  # whether one file holds many samples
    label_place: str = "a column 'label'"  # where a source of this layout without columns would have labels
    row: str = "line"  # the word for a sample's place in error messages
    header: tuple[str, ...] = ()  # columns that a CSV of this layout must have
    columns: tuple[str, ...] = ()  # columns that the files themselves provide
    options: tuple[str, ...] = ()  # such as "grid" and "rate"
    groups: tuple[str, ...] = ()  # default group columns of this layout, tried before the usual ones
    in_parts: bool = False  # whether read takes a `TextPart` of a large file as `part`
    no_labels: str = ""  # what to do if no label column is named, for layouts whose samples have no usual one


@dataclass(frozen=True)
class SeriesLayout:
    """One file layout of frames in time order."""

    read: Callable[[Path, Reading], Series]
    sniff: Callable[[Path, Reading], float]  # confidence from 0 to 1 that a path has this layout
    parts: Callable[[Path], Sequence[Path]] = lambda path: [path]  # files of a folder, to be joined in time
    digest: Callable[[Path], str] | None = None  # SHA-256 of a source; None hashes the file's bytes
    has_units: bool = False  # whether the reader already applies scale, offset and missing values


Fetch = Callable[[str, Path], Path]  # (name after the prefix, destination folder) -> path of the fetched data
