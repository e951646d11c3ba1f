"""An index of many files, a sample each: a CSV `id,type` or `file,type`, and what stands beside it by its name.

Of `train_index.csv`, the samples are in `train_data/` or `train_data.zip`, else in `train/` or `train.zip`, else in the only
zip or folder beside it that holds samples; further columns by id are in `train_meta.csv`, and the wavelength of each
position in `train_wavelength.txt` or `wavelength.txt`.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from wavefold.base.dataset import Ints, Strings
from wavefold.base.errors import DataError, listed
from wavefold.data.bundles import files_below
from wavefold.data.columns_csv import read_columns, read_words
from wavefold.data.header import column_names, missing, one_named
from wavefold.data.store import Filled
from wavefold.data.table import LABEL, Table, check_ids, with_columns
from wavefold.data.text_lines import first_line

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


def read_index(path: Path) -> Index:
    """All rows; DataError where there is no column id or file, an id stands twice, or one is no plain name."""
    columns, lines = read_words(path, example=f"id,{LABEL}")
    file, name = one_named(columns, "file"), one_named(columns, "id")
    if not (file or name):
        raise missing(columns, "id", path.name, f"; expected id,{LABEL} or file,{LABEL}")
    files = [file_stem(word) for word in columns[file or name]]
    ids = columns[name] if name else files
    for id_, line in zip(columns[file or name], lines.tolist(), strict=True):
        if not id_ or ".." in re.split(r"[/\\]", id_) or id_.startswith(("/", "\\")) or (not file and re.search(r"[/\\]", id_)):
            raise DataError(f"{path.name} line {line}: {file or name} {id_[:80]!r} is no plain name of a file")
    others = {c: np.array(words, np.str_) for c, words in columns.items() if c not in (name, file)}
    return Index(path.name, check_ids(ids, lines, path.name), np.array(files, np.str_), lines, others)


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
        raise DataError(f"{folder.name}: holds {listed(f.name for f in kept)}; name one of them")
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
    others = sorted(f for f in index.parent.iterdir() if f.suffix == ".zip" or f.is_dir())
    there = [f for f in others if holds_txt(f)]
    if len(there) > 1:
        raise DataError(
            f"{index.name}: {listed(f.name for f in there)} could each hold its samples; name one as the index, such as "
            f"{_WORD.sub('data', stem_of(index))}{there[0].suffix}"
        )
    return there[0] if there else None


def holds_txt(path: Path) -> bool:
    """Whether a folder, or one below it, or a zip that can be read, holds a .txt that is no wavelength."""
    if path.is_dir():
        names = [f.name for f in islice(files_below(path, (".txt",)), 2)]  # one may be the wavelengths
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    else:
        return False
    return any(name.lower().endswith(".txt") and not name.lower().endswith("wavelength.txt") for name in names)


def meta_of(index: Path) -> Path | None:
    """The CSV of further columns beside an index."""
    name = _WORD.sub("meta", stem_of(index))
    return next((f for end in (".csv", ".csv.gz") if (f := index.with_name(name + end)).is_file()), None)


def wavelength_of(path: Path) -> Path | None:
    """The file of wavelengths beside an index, beside a zip, or in or beside a folder of samples."""
    prefix = _WORD.split(stem_of(path))[0] if is_index(path) else ""
    inside = [path / "wavelength.txt"] if path.is_dir() else []
    files = [*inside, path.with_name(f"{prefix}wavelength.txt"), path.with_name("wavelength.txt")]
    return next((f for f in files if f.is_file()), None)


def expected_data(index: Path) -> str:
    """The names that an index's samples are looked for by, for an error."""
    name = _WORD.sub("data", stem_of(index))
    return f"a folder {name} or {name}.zip"


def index_or_names(path: Path | None, files: Mapping[str, str], name: str) -> Index:
    """The rows of an index; without one, a row for each file, numbered from 1."""
    if path is not None:
        return read_index(path)
    stems = np.array(list(files), np.str_)
    return Index(name, stems, stems, np.arange(1, len(stems) + 1), {})


def known_problems(
    index: Index, files: Mapping[str, str], data: str, path: Path | None, end: str
) -> tuple[dict[int, str], list[tuple[str, str]]]:
    """What index and files say of each other: row -> why, where it has no file; and (id, why) of files without a row.

    A file that another index of the folder lists is no stray: one zip may hold several parts. data: the name of the zip or
    folder. path: of the index, None where there is none. end: the files' suffix, for the error.
    """
    places = zip(index.lines.tolist(), index.ids.tolist(), index.files.tolist(), strict=True)
    missing = {
        at: f"{index.name} line {line}: id '{id_}' has no {name}{end} in {data}"
        for at, (line, id_, name) in enumerate(places)
        if name not in files
    }
    named = set(index.files.tolist())
    strays = [name for name in files if name not in named]
    if strays and path is not None:
        elsewhere = {name for other in index_files(path.parent) if other != path for name in read_index(other).files.tolist()}
        strays = [name for name in strays if name not in elsewhere]
    return missing, [(name, f"{data} {name}{end}: has no row in {index.name}") for name in strays]


def table_of(
    index: Index,
    filled: Filled,
    strays: Sequence[tuple[str, str]],
    path: Path | None,
    *,
    unit: str,
    axis: NDArray[np.float64] | None,
) -> Table:
    """The rows that could be read, with the index's columns, those of the CSV beside it at `path`, and the files' own facts."""
    facts = {name: np.array(words, np.str_) for name, words in filled.facts.items()}
    table = Table(
        signals=filled.signals,
        ids=index.ids[filled.kept],
        lines=index.lines[filled.kept],
        columns={**facts, **{name: words[filled.kept] for name, words in index.columns.items()}},
        unit=unit,
        axis=axis,
        left_out=(*strays, *((str(index.ids[i]), why) for i, why in sorted(filled.problems.items()))),
        digest=filled.digest,
    )
    meta = meta_of(path) if path else None
    return table if meta is None else with_columns(table, read_columns(meta), meta.name)


def stem_of(path: Path) -> str:
    """A CSV's name less its suffix."""
    return _CSV.sub("", path.name)


def file_stem(word: str) -> str:
    """A file's name less its folders and the suffix of a spectrum: the id that it stands for."""
    return _SUFFIX.sub("", PurePosixPath(word).name)
