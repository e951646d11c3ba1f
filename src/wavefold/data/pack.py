"""Writes packed samples: any source of samples as .npy parts with a manifest; `packed.py` says what the folder holds.

Large CSV files are packed part by part, in several processes, in the memory of one part each; other sources are read as their
layouts read them, rows of many files into a store in the folder. A part counts once its record is written, so a killed call
goes on after the parts that are whole. pack.json is written last: until then the samples are not there.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from wavefold.core.errors import DataError, UserError, listed, nearest
from wavefold.core.files import write_json, write_text
from wavefold.core.locks import held
from wavefold.core.process import at_most, processors
from wavefold.core.progress import Progress
from wavefold.data.block_sums import BlockSums, Summing, check_summed, read_summed, write_summed
from wavefold.data.cache import content_digest, fingerprint
from wavefold.data.csv_text import first_line, one_named
from wavefold.data.dataset import Ints, class_names, shape_words
from wavefold.data.distinct import first_repeat, id_hashes
from wavefold.data.layout import Found
from wavefold.data.lazy import Signals, let_go, part_of, row_blocks, rows_of_part, values_of
from wavefold.data.missing_words import missing_among
from wavefold.data.packed import (
    MANIFEST,
    Manifest,
    PackedSource,
    Part,
    PartLine,
    Shared,
    part_paths,
    read_manifest,
    read_part,
    read_rows,
)
from wavefold.data.read_samples import How, InParts, in_parts, part_table, source_table
from wavefold.data.sources import LAYOUTS
from wavefold.data.table import LABEL, Table
from wavefold.data.text_parts import Span, merged_left_out, merged_notes, opened
from wavefold.data.wide_header import wide_header

PART = 64 << 20  # bytes of signals in a part, as float32
_WRITTEN = 1 << 22  # values written at a time
_PLAN, _STORE = "packing.json", ".reading"
_OURS = re.compile(r"\d{5,}\.(signals\.npy|rows\.npz|json)|packing\.json|pack\.json|\.reading|\.lock|\..*\.part")


@dataclass(frozen=True)
class Packed:
    """What a folder holds after a call of `pack`."""

    rows: int
    parts: int
    bytes: int
    added: int  # samples that this call added; 0 if the source had been packed before
    notes: tuple[str, ...]  # on the source
    left_out: tuple[tuple[str, str], ...]  # of the source


def pack(source: str | Path, folder: Path, how: How, *, workers: int = 0) -> Packed:
    """Pack the samples of a source into a folder, or add them to those that are packed there.

    how: how the source is read. workers: processes, 0 for one per processor. UserError if the folder holds something else;
    DataError if samples of the source cannot stand beside those in the folder, or if an id is there twice. If the same bytes
    were packed before, nothing is done.
    """
    found = how.find(source)
    _check_folder(folder, found.path)
    busy = f"{folder}: another process is packing into it; wait for it, or choose another folder"
    with held(folder, busy, tidy=True), at_most(workers):
        before = read_manifest(folder) if (folder / MANIFEST).exists() else None
        try:
            manifest, added = _added(found, how, folder, before)
        except DataError:  # what was begun is of no use with another source
            _sweep(folder, len(before.parts) if before else 0)
            raise
        _sweep(folder, len(manifest.parts))
    return _report(folder, manifest, added)


def _added(found: Found, how: How, folder: Path, before: Manifest | None) -> tuple[Manifest, PackedSource | None]:
    """The folder's manifest with the source, which is written, and the source as listed; None if it was there."""
    options = {name: value for name, value in how.options().items() if value and name in LAYOUTS[found.layout].options}
    mark = fingerprint(found, {"layout": found.layout, **options, "label": how.label_column, "skip_bad": how.skip_bad})
    if before and mark and any(there.fingerprint == mark for there in before.sources):
        return before, None
    work = _text_work(found, how) or _whole_work(found, how, folder / _STORE / mark[:16])
    if before and any(there.digest == work.digest for there in before.sources):
        return before, None
    first = len(before.parts) if before else 0
    shared = _beside(work.shared, before.shared, found.path.name, folder.name) if before else work.shared
    _begin(folder, first, work, how)
    parts = _written(folder, first, work, shared)
    notes, left_out = work.told(parts)
    rows = sum(part.rows for part in parts)
    if not rows:
        raise DataError(f"{found.path.name}: none of its {len(left_out):,} rows can be read; the first error: {left_out[0][1]}")
    added = PackedSource(
        name=found.path.name,
        layout=found.layout,
        digest=work.digest,
        fingerprint=mark,
        options=json.loads(json.dumps(options)),
        label_column=how.label_column,
        rows=rows,
        parts=len(parts),
        notes=notes,
        left_out=left_out,
    )
    lines = [_line(folder, first + number, part) for number, part in enumerate(parts)]
    old = (before.sources, before.parts) if before else ((), ())
    manifest = Manifest(shared=shared, sources=(*old[0], added), parts=(*old[1], *lines))
    _check_rows(folder, manifest)
    manifest.write(folder)
    return manifest, added


# the work


class _Work(Protocol):
    """A source to be packed."""

    @property
    def digest(self) -> str:
        """The digest of the source, as reading it gives."""

    @property
    def shared(self) -> Shared:
        """What its samples have in common."""

    def counts(self) -> Sequence[int]:
        """The rows of each part, left-out ones included."""

    def write(self, folder: Path, first: int, numbers: Sequence[int], shared: Shared) -> Iterator[tuple[int, Part]]:
        """Write some parts, in any order. first: the number of the first part in the folder."""

    def told(self, parts: Sequence[Part]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        """The notes on the source, and the samples left out."""


def _text_work(found: Found, how: How) -> _Work | None:
    made = in_parts(found, how, labels=True, size=PART)
    return None if made is None else _TextWork(found, how, made, content_digest(found.files), _shared(made.head, found, how))


@dataclass(frozen=True)
class _TextWork:
    """A large text file: each part is read and written by itself."""

    found: Found
    how: How
    made: InParts
    digest: str
    shared: Shared

    def counts(self) -> Sequence[int]:
        starts = [span.row for span in self.made.spans]
        return [*np.diff(starts).tolist(), max(self.made.rows - starts[-1], 0)]

    def write(self, folder: Path, first: int, numbers: Sequence[int], shared: Shared) -> Iterator[tuple[int, Part]]:
        jobs = [(number, self.made.spans[number]) for number in numbers]
        write = _Spans(folder, first, self.found, self.how, shared)
        if self.found.path.suffix == ".gz" or processors() == 1 or len(jobs) == 1:  # parts of a gzip file are read in order
            yield from write.each(jobs)
            return
        todo = (delayed(write.one)(job) for job in jobs)
        yield from Parallel(processors(), return_as="generator_unordered", batch_size=1)(todo)

    def told(self, parts: Sequence[Part]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        return merged_notes([part.notes for part in parts]), merged_left_out([part.left_out for part in parts])


@dataclass(frozen=True)
class _Spans:
    """Writes spans of a text file as parts; travels to other processes."""

    folder: Path
    first: int
    found: Found
    how: How
    shared: Shared

    def each(self, jobs: Iterable[tuple[int, Span]]) -> Iterator[tuple[int, Part]]:
        """Write parts one after the other."""
        with opened(self.found.path) as part:
            for number, span in jobs:
                table = part_table(self.found, self.how, part(span), labels=True)
                yield number, _write_part(self.folder, self.first + number, table, self.shared, alone=True)

    def one(self, job: tuple[int, Span]) -> tuple[int, Part]:
        """Write one part."""
        return next(self.each([job]))


def _whole_work(found: Found, how: How, store: Path) -> _Work:
    """store: a folder for the rows of this source alone, to go on there."""
    table, digest = source_table(found, how, store=store)
    return _WholeWork(table, digest, _shared(table, found, how))


@dataclass(frozen=True)
class _WholeWork:
    """A source that its layout has read: mapped, on demand, or in memory."""

    table: Table
    digest: str
    shared: Shared

    def counts(self) -> Sequence[int]:
        return [rows.stop - rows.start for rows in self._slices()]

    def write(self, folder: Path, first: int, numbers: Sequence[int], shared: Shared) -> Iterator[tuple[int, Part]]:
        slices = list(self._slices())
        for number in numbers:
            part = _rows_of(self.table, slices[number])
            yield number, _write_part(folder, first + number, part, shared)
            let_go(part.signals)

    def told(self, parts: Sequence[Part]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        return self.table.notes, self.table.left_out

    def _slices(self) -> Iterator[slice]:
        count, size = len(self.table.ids), rows_of_part(values_of(self.table.signals), PART)
        return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _rows_of(table: Table, rows: slice) -> Table:
    columns = {name: words[rows] for name, words in table.columns.items()}
    words = None if table.words is None else table.words[rows]
    signals = part_of(table.signals, rows)
    return replace(table, signals=signals, ids=table.ids[rows], lines=table.lines[rows], words=words, columns=columns)


# what all samples have in common


def _shared(table: Table, found: Found, how: How) -> Shared:
    by_column = LAYOUTS[found.layout].keeps == "rows"
    return Shared(
        shape=table.signals.shape[1:],
        unit=table.unit,
        axis=None if table.axis is None else tuple(table.axis.tolist()),
        attrs=dict(table.attrs),
        positions=table.positions,
        classes=table.classes,
        columns=tuple(table.columns),
        grouping=(*table.grouping, *LAYOUTS[found.layout].groups),
        labels="column" if by_column else "" if table.words is None else "words",
        label="" if by_column or table.words is None else _label_name(table, found, how),
    )


def _label_name(table: Table, found: Found, how: How) -> str:
    """The name of the labels' column; '' if they have none, or if it cannot be told."""
    if found.layout == "packed":
        return how.label_column or read_manifest(found.path).shared.label
    layout = LAYOUTS[found.layout]
    if how.label_column or not layout.in_parts:
        return how.label_column
    known = {*table.columns, *table.positions, *layout.header}
    named = [c for c in wide_header(first_line(found.path), found.path.name).columns if c not in known and c.lower() != "id"]
    return named[0] if len(named) == 1 else ""


def _beside(new: Shared, old: Shared, name: str, folder: str) -> Shared:
    """What samples of a further source share with those that are packed; DataError for the first difference."""

    def refuse(what: str, theirs: str, ours: str) -> DataError:
        return DataError(f"{name}: {what} {theirs}; {folder} holds samples with {ours}; pack them into another folder")

    if new.shape != old.shape:
        raise refuse("samples have", shape_words(new.shape), shape_words(old.shape))
    if new.unit != old.unit:
        raise refuse("its axis has the unit", repr(new.unit), repr(old.unit))
    if new.axis != old.axis:
        raise refuse("its axis is", _ends(new.axis), _ends(old.axis))
    for key in dict.fromkeys([*old.attrs, *new.attrs]):
        if new.attrs.get(key) != old.attrs.get(key):
            raise refuse(f"its {key} is", repr(new.attrs.get(key, "not stated")), repr(old.attrs.get(key, "none stated")))
    for what, theirs, ours in (
        ("its measurements are", new.positions, old.positions),
        ("its classes are", new.classes, old.classes),
        ("its columns are", sorted(new.columns), sorted(old.columns)),
    ):
        if list(theirs) != list(ours):
            raise refuse(what, _differing(theirs, ours), _differing(ours, theirs))
    if new.labels != old.labels:
        raise refuse("its labels are", new.labels or "missing", f"labels: {old.labels or 'none'}")
    return old


def _ends(axis: Sequence[float] | None) -> str:
    return "unknown" if axis is None else f"{axis[0]:g} to {axis[-1]:g} in {len(axis):,} steps"


def _differing(these: Sequence[str], others: Sequence[str]) -> str:
    """The names that others do not have, or all if only their order differs."""
    return listed([name for name in these if name not in others][:8] or list(these)[:8]) or "none"


# writing


def _begin(folder: Path, first: int, work: _Work, how: How) -> None:
    """Note what is being packed; parts of anything else that was begun are removed."""
    plan = {"digest": work.digest, "first": first, "size": PART, "skip_bad": how.skip_bad, "label": how.label_column}
    plan |= {"shared": work.shared.model_dump(mode="json"), "rows": list(work.counts())}
    text = json.dumps(plan, indent=1) + "\n"
    with suppress(OSError, ValueError):
        if (folder / _PLAN).read_text(encoding="utf-8") == text:
            return
    _remove_parts(folder, first)
    write_text(folder / _PLAN, text)


def _written(folder: Path, first: int, work: _Work, shared: Shared) -> list[Part]:
    """Write the parts that are not there yet; all parts in order."""
    counts = work.counts()
    done = {number: part for number in range(len(counts)) if (part := _there(folder, first + number)) is not None}
    with Progress(f"packing into {folder.name}", sum(counts), "samples") as progress:
        progress.skip(sum(counts[number] for number in done))
        for number, part in work.write(folder, first, [n for n in range(len(counts)) if n not in done], shared):
            done[number] = part
            progress.update(sum(counts[n] for n in done))
    return [done[number] for number in range(len(counts))]


def _there(folder: Path, number: int) -> Part | None:
    """The record of a part whose files are whole; None if there is none."""
    signals, rows, record = part_paths(folder, number)
    if not record.exists():
        return None
    try:
        part = read_part(folder, number)
        read_summed(rows, part.columns)
        check_summed(signals, part.signals)
    except DataError:
        return None
    return part


def _write_part(
    folder: Path,
    number: int,
    table: Table,
    shared: Shared,
    *,
    alone: bool = False,
) -> Part:
    """Write the files of a part, its record last. alone: whether it was read alone, so that its notes are kept with it."""
    signals, rows, record = part_paths(folder, number)
    dtype, sums = _write_signals(signals, table.signals)
    arrays: dict[str, NDArray[np.generic]] = {"ids": table.ids, "lines": table.lines}
    if shared.labels == "words" and table.words is not None:
        arrays["words"] = table.words
    arrays |= {f"column{i}": table.columns[name] for i, name in enumerate(shared.columns)}
    content = BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # names as keywords
    part = Part.model_validate(
        {
            "rows": len(table.ids),
            "dtype": dtype,
            "signals": sums,
            "columns": write_summed(rows, lambda stream: stream.write(content.getbuffer())),
            "notes": table.notes if alone else (),
            "left_out": table.left_out if alone else (),
        }
    )
    write_json(record, part.model_dump(mode="json"))
    return part


def _write_signals(path: Path, signals: Signals) -> tuple[str, BlockSums]:
    """Write signals as float16 if that loses nothing, else as float32; the type and the sums."""
    with suppress(_Loses):
        return "float16", write_summed(path, lambda stream: _write_values(stream, signals, np.dtype(np.float16)))
    return "float32", write_summed(path, lambda stream: _write_values(stream, signals, np.dtype(np.float32)))


class _Loses(Exception):
    """A value cannot be written in a shorter type."""


def _write_values(stream: Summing, signals: Signals, dtype: np.dtype[np.floating]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(signals.shape)}
    head = BytesIO()
    np.lib.format.write_array_header_1_0(head, header)
    stream.write(head.getvalue())
    step = max(1, _WRITTEN // max(1, values_of(signals)))
    for rows in row_blocks(len(signals), step):
        values = np.ascontiguousarray(signals[rows], np.float32)
        with np.errstate(over="ignore"):
            stored = values.astype(dtype)
        if dtype != np.float32 and not np.array_equal(stored.astype(np.float32).view(np.uint32), values.view(np.uint32)):
            raise _Loses
        stream.write(stored.data)


def _line(folder: Path, number: int, part: Part) -> PartLine:
    return PartLine(rows=part.rows, sha256=hashlib.sha256(part_paths(folder, number)[2].read_bytes()).hexdigest())


# what must hold over all parts


def _check_rows(folder: Path, manifest: Manifest) -> None:
    """Raise DataError for an id that is there twice, and for a label of the last source that no earlier one has."""
    first = len(manifest.parts) - manifest.sources[-1].parts
    starts = np.cumsum([0, *(part.rows for part in manifest.parts)])
    hashes, known, label = np.empty(starts[-1], np.uint64), set[str](), _label_array(manifest)
    for number in range(len(manifest.parts)):
        rows = read_rows(folder, number, read_part(folder, number))
        hashes[starts[number] : starts[number + 1]] = id_hashes(rows["ids"].astype(np.str_))
        words = set(rows[label].tolist()) if label else set()
        if number < first:
            known |= words
        elif first:
            _check_known(rows, label, words - known - set(missing_among(words)), known, manifest.sources[-1], folder)
    repeat = first_repeat(hashes, lambda at: np.array([_row(folder, starts, int(row))[0] for row in at], np.str_))
    if repeat is not None:
        raise _twice(folder, manifest, starts, *repeat)


def _label_array(manifest: Manifest) -> str:
    """The name of the array that holds the classes; '' if there is none."""
    shared, named = manifest.shared, manifest.sources[0].label_column
    if shared.labels == "column":
        column = one_named(shared.columns, named or LABEL)
        return f"column{shared.columns.index(column)}" if column else ""
    return shared.labels


def _check_known(
    rows: Mapping[str, NDArray[np.generic]], label: str, odd: Set[str], known: Set[str], source: PackedSource, folder: Path
) -> None:
    """Raise DataError for the first row whose label is among the odd ones."""
    if not odd:
        return
    at = next(at for at, word in enumerate(rows[label].tolist()) if word in odd)
    word, place = str(rows[label][at]), LAYOUTS[source.layout].row
    raise DataError(
        f"{source.name} {place} {rows['lines'][at]}: label {word!r} is not one of {listed(class_names(sorted(known)))}, the "
        f"classes in {folder.name}{nearest(word, known)}; pack all sources anew into another folder if it is one"
    )


def _row(folder: Path, starts: Ints, row: int) -> tuple[str, int]:
    """The id of a row, and its line in its source."""
    number = int(np.searchsorted(starts, row, side="right")) - 1
    rows = read_rows(folder, number, read_part(folder, number))
    return str(rows["ids"][row - starts[number]]), int(rows["lines"][row - starts[number]])


def _twice(folder: Path, manifest: Manifest, starts: Ints, again: int, first: int) -> DataError:
    """The error for an id that occurs twice, in the words of the readers."""
    (word, line), (_, earlier) = _row(folder, starts, again), _row(folder, starts, first)
    ends = np.cumsum([source.rows for source in manifest.sources])
    sources = [manifest.sources[int(np.searchsorted(ends, row, side="right"))] for row in (again, first)]
    place = LAYOUTS[sources[0].layout].row
    where = f"already in {place} {earlier}"
    if sources[0] is not sources[1]:
        where += f" of {sources[1].name}, which was packed before"
    return DataError(f"{sources[0].name} {place} {line}: id {word!r} is {where}")


# the folder


def _check_folder(folder: Path, source: Path) -> None:
    """Raise UserError if a folder is not one to pack into: a file, other files, or the source itself."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose a folder")
    foreign = sorted(e.name for e in folder.iterdir() if not _OURS.fullmatch(e.name)) if folder.exists() else []
    if foreign:
        raise UserError(f"{folder}: is not a packed folder, but contains '{foreign[0]}'; choose another folder")
    if folder.resolve() == source.resolve():
        raise UserError(f"{folder}: is the source itself; choose another folder")


def _remove_parts(folder: Path, first: int) -> None:
    """Remove the parts from a number on, and what a killed call has left of others."""
    for path in folder.iterdir():
        number = path.name.partition(".")[0]
        if path.name.endswith(".part") or (number.isdigit() and int(number) >= first):
            path.unlink(missing_ok=True)


def _sweep(folder: Path, parts: int) -> None:
    """Remove all but the manifest and its parts."""
    _remove_parts(folder, parts)
    (folder / _PLAN).unlink(missing_ok=True)
    shutil.rmtree(folder / _STORE, ignore_errors=True)


def _report(folder: Path, manifest: Manifest, added: PackedSource | None) -> Packed:
    size = sum(path.stat().st_size for number in range(len(manifest.parts)) for path in part_paths(folder, number))
    told = (added.notes, added.left_out) if added else ((), ())
    return Packed(manifest.rows, len(manifest.parts), size, added.rows if added else 0, *told)
