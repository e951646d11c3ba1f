"""The index of a multi-file source: a CSV `id,type` or `file,type`, and the related files found by its name.

For `train_index.csv`, the samples are in `train_data/` or `train_data.zip`, else in `train/` or `train.zip`, else in the only
zip or folder beside it that holds samples. Further columns, keyed by id, are in `train_meta.csv`. The wavelength of each
position is in `train_wavelength.txt` or `wavelength.txt` beside the index, or in `wavelength.txt` in the folder of samples.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, listed
from wavefold.data.csv_text import column_names, first_line, missing, one_named, read_columns, read_words
from wavefold.data.dataset import Ints, Strings, check_ids
from wavefold.data.store import Filled
from wavefold.data.table import LABEL, Table, with_columns

_WORD = re.compile("index", re.IGNORECASE)
_CSV = re.compile(r"\.csv(\.gz)?$")
_SUFFIX = re.compile(r"(\.txt|\.fits?|\.fits?\.gz)$", re.IGNORECASE)


@dataclass(frozen=True)
class Index:
    """The rows of an index."""

    name: str
    ids: Strings  # (row,)
    files: Strings  # (row,) file names without suffix: the ids, unless there is a column `file`
    lines: Ints  # (row,)
    columns: Mapping[str, Strings]  # name -> (row,); without the ids


@dataclass(frozen=True)
class Matched:
    """The rows of an index matched with the files found, and the problems known before reading."""

    index: Index
    entries: list[str]  # (row,) entries for the file reader; '' if the file is missing
    missing: Mapping[int, str]  # row -> reason, for rows without a file
    strays: Sequence[tuple[str, str]]  # (id, reason) of files without a row
    further: Mapping[str, Strings]  # columns of the CSV beside the index, including `id`; empty if there is no such CSV


def read_index(path: Path) -> Index:
    """Read all rows; DataError if there is no id or file column, or an id is duplicated or not a plain file name."""
    columns, lines = read_words(path, example=f"id,{LABEL}")
    file, name = one_named(columns, "file"), one_named(columns, "id")
    if not (file or name):
        raise missing(columns, "id", path.name, f"; expected id,{LABEL} or file,{LABEL}")
    files = [file_stem(word) for word in columns[file or name]]
    ids = columns[name] if name else files
    for word, id_, line in zip(columns[file or name], ids, lines.tolist(), strict=True):
        if not _is_plain(word, folders=bool(file)):
            raise DataError(f"{path.name} line {line}: {file or name} {word[:80]!r} is not a plain file name")
        if not id_ or not id_.isprintable():
            raise DataError(f"{path.name} line {line}: id {id_[:80]!r} is empty or not printable")
    others = {c: np.array(words, np.str_) for c, words in columns.items() if c not in (name, file)}
    return Index(path.name, check_ids(ids, lines, path.name), np.array(files, np.str_), lines, others)


def _is_plain(word: str, *, folders: bool) -> bool:
    """Whether a word is a valid file name. folders: whether subfolders may precede it."""
    parts = re.split(r"[/\\]", word)
    return word.isprintable() and bool(parts[0]) and ".." not in parts and (folders or len(parts) == 1)


def check_label(path: Path, label_column: str, facts: Sequence[str] = ()) -> None:
    """Raise DataError unless an index, the CSV beside it or the files themselves have the label column; "" means `type`.

    facts: columns that the files themselves provide.

    An index other than its folder's training index, such as that of a test part, may lack `type`, but not a named column.
    """
    if not label_column and (is_part(path, "test") or training_index(path.parent, strict=False) != path):
        return
    columns, meta = column_names(first_line(path), path.name), meta_of(path)
    more = column_names(first_line(meta), meta.name) if meta else []
    there = list(dict.fromkeys([*columns, *more, *facts]))
    if not one_named(there, label_column or LABEL):
        raise missing(there, label_column or LABEL, path.name)


def index_files(folder: Path) -> list[Path]:
    """The index files of a folder, by name."""
    return sorted(f for f in folder.iterdir() if is_index(f))


def is_index(path: Path) -> bool:
    """Whether a file has the name of an index: `*index*.csv`, plain or gzip."""
    return bool(_CSV.search(path.name) and _WORD.search(path.name) and not stem_of(path).endswith("_meta") and path.is_file())


def is_part(path: Path, part: str) -> bool:
    """Whether a word in a file's name starts with `train` or `test`: true for first_test_index.csv, not latest_index.csv."""
    return bool(re.search(rf"(?<![a-z]){part}", path.name.lower()))


def training_index(folder: Path, *, strict: bool = True) -> Path | None:
    """Return a folder's training index: the one with `train` in its name, else the only one that is not a test part.

    If there are several: DataError, or None with strict=False.
    """
    files = index_files(folder)
    kept = [f for f in files if is_part(f, "train")] or [f for f in files if not is_part(f, "test")] or files
    if len(kept) > 1 and strict:
        raise DataError(f"{folder.name}: contains {listed(f.name for f in kept)}; give the path of one of them")
    return kept[0] if len(kept) == 1 else None


def data_of(index: Path) -> Path | None:
    """Return the folder or zip that holds an index's txt files; None if there is none.

    DataError if none has the index's name and there are several candidates.
    """
    bare = re.sub(r"([_\-. ])[_\-. ]+", r"\1", _WORD.sub("", stem_of(index))).strip("_-. ")
    for name in filter(None, (_WORD.sub("data", stem_of(index)), bare)):
        folder, archive = index.with_name(name), index.with_name(f"{name}.zip")
        if folder.is_dir() and (holds_txt(folder) or not archive.is_file()):
            return folder
        if archive.is_file():
            return archive
    others = sorted(f for f in index.parent.iterdir() if f.suffix.lower() == ".zip" or f.is_dir())
    there = [f for f in others if holds_txt(f)]
    if len(there) > 1:
        raise DataError(
            f"{index.name}: {listed(f.name for f in there)} could each contain its samples; rename one after "
            "the index, such as "
            f"{_WORD.sub('data', stem_of(index))}{there[0].suffix}"
        )
    return there[0] if there else None


def holds_txt(path: Path) -> bool:
    """Whether a folder, one of its subfolders or a readable zip holds a .txt that is not a wavelength file."""
    if path.is_dir():
        names: Iterable[str] = _names_below(path)
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            return False
    return any(name.lower().endswith(".txt") and not name.lower().endswith("wavelength.txt") for name in names)


def _names_below(folder: Path | str) -> Iterator[str]:
    """Yield file names of a folder that may not be ours, ignoring links and anything unreadable."""
    with suppress(OSError), os.scandir(folder) as scan:
        for entry in scan:
            if entry.is_dir(follow_symlinks=False):
                yield from _names_below(entry.path)
            else:
                yield entry.name


def meta_of(index: Path) -> Path | None:
    """Return the CSV of further columns beside an index."""
    name = _WORD.sub("meta", stem_of(index))
    return next((f for end in (".csv", ".csv.gz") if (f := index.with_name(name + end)).is_file()), None)


def wavelength_of(path: Path, data: Path | None) -> Path | None:
    """Return the wavelength file: in the samples' folder `data`, else beside `path`, an index, or a zip or folder alone."""
    prefix = _WORD.split(stem_of(path))[0] if is_index(path) else ""
    inside = [data / "wavelength.txt"] if data is not None and data.is_dir() else []
    files = [*inside, path.with_name(f"{prefix}wavelength.txt"), path.with_name("wavelength.txt")]
    return next((f for f in files if f.is_file()), None)


def expected_data(index: Path) -> str:
    """The names under which an index's samples are searched for, for an error message."""
    name = _WORD.sub("data", stem_of(index))
    return f"a folder {name} or {name}.zip"


def match(path: Path | None, files: Mapping[str, str], data: str, end: str, *, skip_bad: bool) -> Matched:
    """Match the rows of the index at `path` with files; without an index, make one row per file, numbered from 1.

    files: name without `end` -> entry for the file reader. data: name of the zip or folder. end: suffix of the files, for
    errors. DataError for a file without a row, unless skip_bad, and for a row that is missing from the CSV beside the index.
    """
    index = _numbered(files, data) if path is None else read_index(path)
    places = zip(index.lines.tolist(), index.ids.tolist(), index.files.tolist(), strict=True)
    missing = {
        at: f"{index.name} line {line}: id '{id_}' has no {name}{end} in {data}"
        for at, (line, id_, name) in enumerate(places)
        if name not in files
    }
    strays = [(name, f"{data} {name}{end}: has no row in {index.name}") for name in _strays(index, files, path)]
    if strays and not skip_bad:
        raise DataError(strays[0][1])
    entries = [files.get(name, "") for name in index.files.tolist()]
    further = {} if path is None else _further(path, np.delete(index.ids, list(missing)))
    return Matched(index, entries, missing, strays, further)


def _numbered(files: Mapping[str, str], name: str) -> Index:
    stems = np.array(list(files), np.str_)
    return Index(name, stems, stems, np.arange(1, len(stems) + 1), {})


def _strays(index: Index, files: Mapping[str, str], path: Path | None) -> list[str]:
    """Files without a row, except those listed in another index of the folder: one zip may hold several parts."""
    named = set(index.files.tolist())
    strays = [name for name in files if name not in named]
    if strays and path is not None:
        elsewhere = {name for other in index_files(path.parent) if other != path for name in read_index(other).files.tolist()}
        strays = [name for name in strays if name not in elsewhere]
    return strays


def _further(path: Path, ids: Strings) -> dict[str, Strings]:
    """Read the columns beside an index before the many files are read. ids: (sample,) ids that must be present."""
    meta = meta_of(path)
    if meta is None:
        return {}
    words = read_columns(meta)
    known = set(words["id"].tolist())
    lacking = next((id_ for id_ in ids.tolist() if id_ not in known), None)
    if lacking is not None:
        raise DataError(f"{meta.name}: has no row for id '{lacking}'")
    return words


def table_of(rows: Matched, filled: Filled, *, unit: str, axis: NDArray[np.float64] | None) -> Table:
    """Return the readable rows with the columns of the index, of the CSV beside it, and of the files themselves."""
    index = rows.index
    facts = {name: np.array(words, np.str_) for name, words in filled.facts.items()}
    table = Table(
        signals=filled.signals,
        ids=index.ids[filled.kept],
        lines=index.lines[filled.kept],
        columns={**facts, **{name: words[filled.kept] for name, words in index.columns.items()}},
        unit=unit,
        axis=axis,
        left_out=(*rows.strays, *((str(index.ids[i]), why) for i, why in sorted(filled.problems.items()))),
        digest=filled.digest,
    )
    return with_columns(table, rows.further, index.name) if rows.further else table


def stem_of(path: Path) -> str:
    """A CSV's name without its suffix."""
    return _CSV.sub("", path.name)


def file_stem(word: str) -> str:
    """A file's name without folders and spectrum suffix: the sample's id."""
    return _SUFFIX.sub("", PurePosixPath(word).name)
