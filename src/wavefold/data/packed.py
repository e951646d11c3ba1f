"""Reads packed samples: a folder of .npy parts with checksums, which training maps, so that signals need not fit in memory.

`pack.json` says what the samples are and lists the parts. Part 7 is `00007.signals.npy` (float32, or float16 where that loses
nothing), `00007.rows.npz` (ids, lines, labels, columns) and `00007.json`, the checksums of both by blocks of 4 MiB. A block of
signals is checked when it is first touched, everything else when the folder is opened. `pack.py` writes such folders.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from wavefold.core.errors import DataError, listed, nearest
from wavefold.core.files import write_text
from wavefold.core.progress import Progress
from wavefold.data.block_sums import BlockChecker, BlockSums, read_summed
from wavefold.data.csv_text import one_named
from wavefold.data.dataset import Floats, Ints, Strings
from wavefold.data.layout import Found
from wavefold.data.lazy import LARGE, Lazy, row_blocks
from wavefold.data.table import Table, label_words

MANIFEST = "pack.json"
FORMAT = 1  # of packed folders; later versions of wavefold read earlier ones
_MAPS = 256  # files mapped at once: each takes one of the process's open files, of which 1,024 are usual


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Record):
    """One part: its rows and files."""

    rows: int
    dtype: Literal["float16", "float32"] = "float32"
    signals: BlockSums
    columns: BlockSums  # of the .rows.npz
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()


class Shared(_Record):
    """What all samples have in common; the legend is that of `Table`."""

    shape: tuple[int, ...]  # of a sample
    unit: str = ""
    axis: tuple[float, ...] | None = None
    attrs: dict[str, str] = {}
    positions: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()  # names of the text columns, in order
    grouping: tuple[str, ...] = ()
    labels: Literal["", "words", "column"] = ""  # none, stored as such, or one of the columns
    label: str = ""  # name of the labels stored as such, if it has one


class PackedSource(_Record):
    """One source that was packed, and how it was read."""

    name: str
    layout: str
    digest: str  # of the source, as reading it gives
    fingerprint: str = ""  # of its files, as the cache knows them: the same if they have not been touched
    options: dict[str, JsonValue]
    label_column: str = ""
    rows: int
    parts: int
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()


class PartLine(_Record):
    """A part as the manifest lists it."""

    rows: int
    sha256: str  # of its JSON file


class Manifest(_Record):
    """pack.json."""

    format: int = FORMAT
    shared: Shared
    sources: tuple[PackedSource, ...]
    parts: tuple[PartLine, ...]

    @property
    def rows(self) -> int:
        """All samples."""
        return sum(part.rows for part in self.parts)

    def write(self, folder: Path) -> None:
        """Write pack.json, with a checksum of itself."""
        fields = self.model_dump(mode="json")
        write_text(folder / MANIFEST, json.dumps({"sha256": _sum(fields), **fields}, indent=1) + "\n")


def _sum(fields: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read pack.json; DataError if it is damaged or of a later format."""
    path = folder / MANIFEST
    try:
        fields = json.loads(path.read_bytes())
        stated = fields.pop("sha256")
        if not isinstance(fields["format"], int) or fields["format"] > FORMAT:
            raise DataError(f"{folder.name}/{MANIFEST}: format {fields['format']} is of a later wavefold; update this one")
        if _sum(fields) != stated:
            raise DataError(f"{folder.name}/{MANIFEST}: has changed since it was written; {ADVICE}")
        return Manifest.model_validate(fields)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError):
        raise DataError(f"{folder.name}/{MANIFEST}: is damaged, expected what wavefold pack writes; {ADVICE}") from None


ADVICE = "restore it from a copy, or pack the sources again into another folder"


def part_paths(folder: Path, number: int) -> tuple[Path, Path, Path]:
    """The files of a part: its signals, its rows and its record."""
    return folder / f"{number:05d}.signals.npy", folder / f"{number:05d}.rows.npz", folder / f"{number:05d}.json"


def read_part(folder: Path, number: int, sha256: str = "") -> Part:
    """The record of a part; DataError if it is damaged. sha256: that the manifest states."""
    path = part_paths(folder, number)[2]
    try:
        data = path.read_bytes()
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise DataError(f"{folder.name}/{path.name}: has changed since it was written; {ADVICE}")
        return Part.model_validate_json(data)
    except (OSError, ValueError, ValidationError):
        raise DataError(f"{folder.name}/{path.name}: is missing or damaged; {ADVICE}") from None


def read_rows(folder: Path, number: int, part: Part) -> dict[str, NDArray[np.generic]]:
    """The arrays of a part beside its signals, each (sample,); DataError if they are damaged."""
    data = read_summed(part_paths(folder, number)[1], part.columns)
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def sniff_packed(path: Path) -> float:
    """Return 1 for a folder with pack.json, and for that file; else 0."""
    return 1.0 if (path / MANIFEST).is_file() or (path.name == MANIFEST and path.is_file()) else 0.0


def locate_packed(path: Path) -> Found:
    """Find a packed folder by itself or by its pack.json; DataError if there is none."""
    folder = path.absolute() if path.is_dir() else path.absolute().parent
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{path}: contains no {MANIFEST}, expected a folder that wavefold pack has written")
    return Found(folder, "packed", (folder / MANIFEST,), folder=folder)


def read_packed(
    path: Path,
    *,
    label_column: str = "",
    group: str = "",
    labels: bool = True,
    apart: Sequence[str] = (),
    skip_bad: bool = False,
    **options: object,
) -> Table:
    """The samples of a packed folder, as reading their sources gives them; signals above 256 MB are read on demand.

    label_column: "" takes the labels that the source's layout takes. group: ignored, as all columns are kept. skip_bad:
    ignored; samples left out when packing are listed in left_out. options, apart: what a recipe says of how to read a source;
    DataError if the samples were packed in another way. digest: that of the source, so that a run may go on with either.
    """
    manifest = read_manifest(path)
    shared = manifest.shared
    _check_options(path, manifest, options, apart)
    parts = [read_part(path, number, line.sha256) for number, line in enumerate(manifest.parts)]
    signals = PackedSignals(path, parts, shared.shape)
    every = np.arange(manifest.rows)
    size = 4 * manifest.rows * int(np.prod(shared.shape))
    stored = _rows(path, parts, shared)
    table = Table(
        signals=Lazy(signals, every, shared.shape) if size > LARGE else signals.whole(),
        ids=stored["ids"].astype(np.str_, copy=False),
        lines=stored["lines"].astype(np.int64, copy=False),
        words=stored["words"].astype(np.str_, copy=False) if shared.labels == "words" else None,
        columns={name: stored[f"column{i}"].astype(np.str_, copy=False) for i, name in enumerate(shared.columns)},
        classes=shared.classes,
        unit=shared.unit,
        axis=None if shared.axis is None else np.array(shared.axis, np.float64),
        left_out=tuple(row for source in manifest.sources for row in source.left_out),
        digest=digest_of(manifest),
        attrs=shared.attrs,
        positions=shared.positions,
        grouping=shared.grouping,
        notes=tuple(dict.fromkeys(note for source in manifest.sources for note in source.notes)),
    )
    return _labelled(table, shared, label_column, path.name, wanted=labels)


def digest_of(manifest: Manifest) -> str:
    """The digest of the samples: that of the only source, or of those of several."""
    digests = [source.digest for source in manifest.sources]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


class PackedSignals:
    """Loads rows of signals from the parts, each block checked before its first use."""

    def __init__(self, folder: Path, parts: Sequence[Part], one: tuple[int, ...]) -> None:
        self._one, self._starts = one, np.cumsum([0, *(part.rows for part in parts)])
        self._parts = [_Signals(part_paths(folder, number)[0], part, one) for number, part in enumerate(parts)]
        self._mapped: OrderedDict[int, NDArray[np.floating]] = OrderedDict()
        self._lock = threading.Lock()  # the next block is read in a thread

    def __call__(self, rows: Ints) -> Floats:
        """Values (sample, ...) of some rows, in any order."""
        values = np.empty((len(rows), *self._one), np.float32)
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        cuts = np.searchsorted(ordered, self._starts)
        for number in np.flatnonzero(np.diff(cuts)).tolist():
            at, own = order[cuts[number] : cuts[number + 1]], ordered[cuts[number] : cuts[number + 1]] - self._starts[number]
            if _in_turn(own) and _in_turn(at):
                values[at[0] : at[-1] + 1] = self._parts[number].stretch(int(own[0]), int(own[-1]) + 1)
            else:
                self._parts[number].check(own)
                values[at] = self._map(number)[own]
        return values

    def whole(self) -> Floats:
        """All values."""
        values = np.empty((int(self._starts[-1]), *self._one), np.float32)
        for rows in row_blocks(len(values), values=int(np.prod(self._one))):
            values[rows] = self(np.arange(rows.start, rows.stop))
        return values

    def _map(self, number: int) -> NDArray[np.floating]:
        with self._lock:
            mapped = self._mapped.pop(number, None)
            if mapped is None:
                mapped = self._parts[number].mapped()
                if len(self._mapped) >= _MAPS:
                    self._mapped.popitem(last=False)
            self._mapped[number] = mapped
        return mapped


def _in_turn(rows: Ints) -> bool:
    """Whether rows follow one another."""
    return bool(rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all())


class _Signals:
    """The file of one part's signals."""

    def __init__(self, path: Path, part: Part, one: tuple[int, ...]) -> None:
        self._path, self._shape, self._dtype = path, (part.rows, *one), np.dtype(part.dtype)
        self._row = self._dtype.itemsize * int(np.prod(one))  # bytes
        self._offset = part.signals.bytes - part.rows * self._row
        self._checker = BlockChecker(path, part.signals)

    def stretch(self, start: int, end: int) -> NDArray[np.floating]:
        """Rows from `start` to `end`, read rather than mapped: mapped pages would count as this process's memory."""
        self.check(np.array([start]), end - start)
        with open(self._path, "rb", buffering=0) as stream:
            stream.seek(self._offset + start * self._row)
            values: NDArray[np.floating] = np.fromfile(stream, self._dtype, (end - start) * (self._row // self._dtype.itemsize))
        return values.reshape(-1, *self._shape[1:])

    def mapped(self) -> NDArray[np.floating]:
        """All rows, mapped; unchecked."""
        return np.asarray(np.memmap(self._path, self._dtype, "r", self._offset, self._shape))  # a plain view is faster

    def check(self, rows: Ints, count: int = 1) -> None:
        """Check the blocks that hold `count` rows from each of some rows."""
        first = self._offset + rows * self._row
        self._checker.check(first, first + count * self._row)


def _rows(folder: Path, parts: Sequence[Part], shared: Shared) -> dict[str, NDArray[np.generic]]:
    """The arrays beside the signals, each (sample,)."""
    words = ["words"] if shared.labels == "words" else []
    names = ["ids", "lines", *words, *(f"column{i}" for i in range(len(shared.columns)))]
    found: dict[str, list[NDArray[np.generic]]] = {name: [] for name in names}
    with Progress(f"opening {folder.name}", len(parts), "parts") as progress:
        for number, part in enumerate(parts):
            stored = read_rows(folder, number, part)
            for name, arrays in found.items():
                arrays.append(stored[name])
            progress.update(number + 1)
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def _labelled(table: Table, shared: Shared, label_column: str, name: str, *, wanted: bool) -> Table:
    """The table with the labels of a column, as the layout of its source would have taken them."""
    if not wanted or shared.labels == "column":
        return table.labelled(label_column, name) if wanted else _with(table, None)
    if not label_column or (shared.label and label_column.lower() == shared.label.lower()):
        return table
    found = one_named(table.columns, label_column)
    if not found:
        there = listed([*table.columns, shared.label]) if shared.label else listed(table.columns) or "none"
        raise DataError(
            f"{name}: no column '{label_column}'; available columns: {there}{nearest(label_column, table.columns)}; a column "
            "that the source has is kept if a recipe names it: pack it again with --recipe"
        )
    words = table.columns[found]
    rest = {column: text for column, text in table.columns.items() if column != found}
    if shared.label and table.words is not None:
        rest[shared.label] = table.words
    return _with(table, label_words(words.tolist()), rest)


def _with(table: Table, words: Strings | None, columns: Mapping[str, Strings] | None = None) -> Table:
    return replace(table, words=words, columns=table.columns if columns is None else columns)


def _check_options(folder: Path, manifest: Manifest, options: Mapping[str, object], apart: Sequence[str]) -> None:
    """Raise DataError if a recipe asks to read a source otherwise than it was packed."""
    measured = next((name for name in apart if name in manifest.shared.positions), "")
    if measured:
        raise DataError(
            f"{folder.name}: '{measured}' was packed as a measurement; pack the source again with --recipe, which names it"
        )
    for source in manifest.sources:
        for name, wanted in options.items():
            there = source.options.get(name)
            if wanted and there and not _is_same(wanted, there) and wanted != manifest.shared.attrs.get(name):
                raise DataError(
                    f"{folder.name}: {source.name} was packed with data.{name}={json.dumps(there)}, not {json.dumps(wanted)}; "
                    "pack it again with --recipe or --set, or leave the key out"
                )


def _is_same(wanted: object, there: object) -> bool:
    if isinstance(wanted, list) and isinstance(there, list) and len(wanted) == len(there):
        return bool(np.allclose(wanted, there, rtol=1e-5))
    return wanted == there
