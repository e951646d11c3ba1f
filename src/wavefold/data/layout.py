"""What a layout is: how files of one kind are recognised, which files belong together, and what reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wavefold.data.series import Series
from wavefold.data.series_options import Reading
from wavefold.data.table import Table


@dataclass(frozen=True)
class Found:
    """What will be read: a file (a folder for records, a header for one), its layout and a CSV of further columns beside it.

    Of many files: the index, or without one the folder, zip or file; and the folder whose files with certain suffixes count.
    """

    path: Path
    layout: str
    files: tuple[Path, ...]  # all whose bytes count
    meta: Path | None = None
    folder: Path | None = None
    suffixes: tuple[str, ...] = ()


def no_test_files(folder: Path) -> list[Path]:
    """A layout whose folders hold no test part."""
    return []


@dataclass(frozen=True)
class Layout:
    """One way in which files hold labelled samples.

    read(path, *, label_column, group, labels) gives a Table; where `keeps` is "rows" it also takes skip_bad and store, and
    where it is "nothing" skip_bad. It also takes the recipe's values that `options` names.
    """

    read: Callable[..., Table]
    sniff: Callable[[Path], float]  # 0 where a path is not of this layout, up to 1 where it surely is
    locate: Callable[[Path], Found]  # all files of a source; DataError where it is none
    test_files: Callable[[Path], Sequence[Path]] = no_test_files  # of a folder
    suffixes: tuple[str, ...] = ()  # of the files that a server may be sent
    keeps: Literal["table", "rows", "nothing"] = "table"  # what the cache keeps: all, rows as they are read, or nothing
    one_file: bool = True  # whether one file holds many samples
    row: str = "line"  # what an error calls the place of a sample
    header: tuple[str, ...] = ()  # columns that a CSV must have to be of this layout
    columns: tuple[str, ...] = ()  # columns that are found in the files themselves
    options: tuple[str, ...] = ()  # of "grid"
    groups: tuple[str, ...] = ()  # columns that are groups where a recipe names none, before the usual ones


@dataclass(frozen=True)
class SeriesLayout:
    """One way in which files hold frames in the order of time."""

    read: Callable[[Path, Reading], Series]
    sniff: Callable[[Path, Reading], float]  # 0 where a path is not of this layout, up to 1 where it surely is
    parts: Callable[[Path], Sequence[Path]] = lambda path: [path]  # the files of a folder that are joined in time
    digest: Callable[[Path], str] | None = None  # SHA-256 of a source; None takes that of the file's bytes
    has_units: bool = False  # whether the reader gives values as they are meant, with scale, offset and missing applied


Fetch = Callable[[str, Path], Path]  # a name after the prefix, and the folder to keep it in -> where it was put
Remotes = Mapping[str, Fetch]
