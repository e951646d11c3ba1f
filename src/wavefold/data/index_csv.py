"""The index of a multi-file source: a CSV `id,type` or `file,type`, and the related files found by its name.

For `train_index.csv`, the samples are in `train_data/` or `train_data.zip`, else in `train/` or `train.zip`, else in the only
zip or folder beside it that holds samples; further columns by id are in `train_meta.csv`, and the wavelength of each
position in `train_wavelength.txt` or `wavelength.txt` beside it, or in `wavelength.txt` in the folder of samples.
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
    """The rows of an index, less its column of ids."""

    name: str
    ids: Strings  # (row,)
    files: Strings  # (row,) the names of their files less the suffix: the ids, unless a column `file` says otherwise
    lines: Ints  # (row,)
    columns: Mapping[str, Strings]  # name -> (row,)


@dataclass(frozen=True)
class Matched:
    """The rows of an index matched with the files found, and the problems known before reading."""

    index: Index
    entries: list[str]  # (row,) what the reader of files takes; '' where no file is there
    missing: Mapping[int, str]  # row -> why, where it has no file
    strays: Sequence[tuple[str, str]]  # (id, why) of files without a row
    further: Mapping[str, Strings]  # columns of the CSV beside the index, `id` among them; none where there is no such CSV


def read_index(path: Path) -> Index:
    """All rows; DataError if there is no id or file column, or an id is duplicated or not a plain file name."""
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
    """Whether a word may be a file's name; folders: whether ones below may stand before it."""
    parts = re.split(r"[/\\]", word)
    return word.isprintable() and bool(parts[0]) and ".." not in parts and (folders or len(parts) == 1)


def check_label(path: Path, label_column: str, facts: Sequence[str] = ()) -> None:
    """DataError unless an index, the CSV beside it or the files themselves have the column of labels, "" being `type`.

    facts: the columns that are found in the files.

    An index that is not its folder's own, such as that of a test part, may be without `type`, not without a named column.
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
    """Whether a file is named as an index is: `*index*.csv`, plain or gzip."""
    return bool(_CSV.search(path.name) and _WORD.search(path.name) and not stem_of(path).endswith("_meta") and path.is_file())


def is_part(path: Path, part: str) -> bool:
    """Whether `train` or `test` begins a word of a file's name: of first_test_index.csv it does, of latest_index.csv not."""
    return bool(re.search(rf"(?<![a-z]){part}", path.name.lower()))


def training_index(folder: Path, *, strict: bool = True) -> Path | None:
    """The index that a folder's name stands for: the one with `train` in its name, else the only one but for test parts.

    DataError where there are several; with strict=False None.
    """
    files = index_files(folder)
    kept = [f for f in files if is_part(f, "train")] or [f for f in files if not is_part(f, "test")] or files
    if len(kept) > 1 and strict:
        raise DataError(f"{folder.name}: contains {listed(f.name for f in kept)}; give the path of one of them")
    return kept[0] if len(kept) == 1 else None


def data_of(index: Path) -> Path | None:
    """The folder or zip that holds an index's txt files; None where there is none.

    DataError where none has the index's name and several others could be meant.
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
    """Whether a folder, or one below it, or a zip that can be read, holds a .txt that is no wavelength."""
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
    """Names of files, one by one: of a folder that may not be ours, where links and what cannot be read do not matter."""
    with suppress(OSError), os.scandir(folder) as scan:
        for entry in scan:
            if entry.is_dir(follow_symlinks=False):
                yield from _names_below(entry.path)
            else:
                yield entry.name


def meta_of(index: Path) -> Path | None:
    """The CSV of further columns beside an index."""
    name = _WORD.sub("meta", stem_of(index))
    return next((f for end in (".csv", ".csv.gz") if (f := index.with_name(name + end)).is_file()), None)


def wavelength_of(path: Path, data: Path | None) -> Path | None:
    """The file of wavelengths in a folder of samples, beside the index, or beside a zip or folder alone. data: the samples'."""
    prefix = _WORD.split(stem_of(path))[0] if is_index(path) else ""
    inside = [data / "wavelength.txt"] if data is not None and data.is_dir() else []
    files = [*inside, path.with_name(f"{prefix}wavelength.txt"), path.with_name("wavelength.txt")]
    return next((f for f in files if f.is_file()), None)


def expected_data(index: Path) -> str:
    """The names that an index's samples are looked for by, for an error."""
    name = _WORD.sub("data", stem_of(index))
    return f"a folder {name} or {name}.zip"


def match(path: Path | None, files: Mapping[str, str], data: str, end: str, *, skip_bad: bool) -> Matched:
    """The rows of the index at `path`, each with its file; without an index a row for each file, numbered from 1.

    files: name less `end` -> what the reader of files takes. data: the name of the zip or folder. end: the files' suffix, for
    errors. DataError for a file without a row, unless bad ones are skipped, and for a row that the CSV beside the index lacks.
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
    """Files without a row. One that another index of the folder lists is none: one zip may hold several parts."""
    named = set(index.files.tolist())
    strays = [name for name in files if name not in named]
    if strays and path is not None:
        elsewhere = {name for other in index_files(path.parent) if other != path for name in read_index(other).files.tolist()}
        strays = [name for name in strays if name not in elsewhere]
    return strays


def _further(path: Path, ids: Strings) -> dict[str, Strings]:
    """The columns beside an index, looked at before the many files are read. ids: (sample,) what they must hold."""
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
    """The rows that could be read, with the index's columns, those of the CSV beside it, and the files' own facts."""
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
    """A CSV's name less its suffix."""
    return _CSV.sub("", path.name)


def file_stem(word: str) -> str:
    """A file's name less its folders and the suffix of a spectrum: the id that it stands for."""
    return _SUFFIX.sub("", PurePosixPath(word).name)
