"""Cadences in the layout of the contest "SETI Breakthrough Listen" (2021): one .npy (panel 6, time, frequency) per sample.

Nothing is converted, copied or cached: the CSV and every file's header are read up front, values only when a batch needs
them, so that 50 GB stream at disk speed. A non-finite value raises an error in the batch that contains it; with skip_bad, all
values are read once at the start instead. Files are never unpickled.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError
from wavefold.core.progress import Progress
from wavefold.core.registry import later
from wavefold.data.bundles import natural
from wavefold.data.csv_text import missing, one_named, read_words
from wavefold.data.dataset import Floats, Ints, Strings, check_ids
from wavefold.data.index_csv import is_part
from wavefold.data.lazy import Lazy
from wavefold.data.npy_header import HEAD, Stored, read_header
from wavefold.data.other_kinds import unread_kind
from wavefold.data.table import Table, label_words
from wavefold.domains.radio.cadence import PANELS
from wavefold.domains.radio.contest_files import END, SUBMISSION, Parts, npy_names, parts_of

if TYPE_CHECKING:
    import torch
else:
    torch = later("torch")

LABELS = ("target", "label", "type")  # label columns; the first one present is used
EXPECTED = "expected train_labels.csv (id,target) beside train/<first character>/<id>.npy, a folder of .npy files, or one .npy"
_THREADS = 4  # reader threads; they wait for the disk, not for each other
_TOGETHER = 64  # files per thread task
_LONGEST = 200  # characters of an id, which is a file name
_EDGE = 64  # bytes of values at either end that enter the digest


def read_cadences(path: Path, *, label_column: str = "", group: str = "", labels: bool = True, skip_bad: bool = False) -> Table:
    """Lazy cadences (sample, 6, time, frequency) from a folder, a CSV that lists them, or one .npy; ids are file names.

    label_column: "" means `target`, else `label` or `type`; with labels, a CSV must have it unless it is a test part. A sample
    submission only sets the order. Files not listed in the CSV are ignored. group is unused: all columns are kept. skip_bad
    reads all values once and lists unreadable samples in left_out; without it the first one raises DataError. The digest
    covers names, sizes and the first and last 64 bytes of the values.
    """
    parts = parts_of(path)
    if parts is None:
        raise DataError(f"{path.name}: contains no {END} files; {EXPECTED}")
    rows = _rows(parts)
    label = _label(rows, parts, label_column, labels)
    entries, problems = _placed(rows, parts)
    folder = parts.samples if parts.samples.is_dir() else parts.samples.parent
    looked = _Looked.at(folder, entries, problems)
    _check_shapes(looked, folder, entries, problems)
    _stop_at_first(problems, skip_bad)
    kept = np.array([i for i in range(len(entries)) if i not in problems], np.int64)
    files = looked.files(folder, entries, kept)
    if skip_bad:
        problems |= {int(kept[i]): why for i, why in _not_finite(files).items()}
        kept = np.array([i for i in kept.tolist() if i not in problems], np.int64)
        _stop_at_first(problems, skip_bad=len(kept) > 0)
        files = looked.files(folder, entries, kept)
    columns = {name: np.array(words, np.str_)[kept] for name, words in rows.columns.items()}
    return Table(
        signals=Lazy(files, np.arange(len(kept)), files.one),
        ids=rows.ids[kept],
        lines=rows.lines[kept],
        words=label_words(columns[label].tolist()) if label else None,
        columns=columns,
        left_out=tuple((str(rows.ids[i]), why) for i, why in sorted(problems.items())),
        digest=looked.digest(kept),
    )


@dataclass(frozen=True, eq=False)
class CadenceFiles:
    """Loads cadences from files that match their `Stored` headers."""

    folder: Path
    names: Sequence[str]  # (sample,) relative to the folder
    kinds: Sequence[Stored]
    kind: Ints  # (sample,) index into `kinds`
    threads: int = _THREADS

    def __call__(self, samples: Ints) -> Floats:
        """Values (sample, 6, time, frequency); DataError names a file that cannot be read or has a non-finite value."""
        values = np.empty((len(samples), *self.one), np.float32)
        kinds = self.kind[samples]
        for kind in np.unique(kinds).tolist():
            at = np.flatnonzero(kinds == kind)
            _put(self._stored(samples[at], self.kinds[kind]), values, at)
        self._check(values, samples)
        return values

    @property
    def one(self) -> tuple[int, ...]:
        """The shape of a sample, (6, time, frequency)."""
        return self.kinds[0].shape

    def _stored(self, samples: Ints, stored: Stored) -> NDArray[np.floating]:
        """Values (sample, 6, time, frequency) as stored in files of one kind."""
        room = stored.room(len(samples))
        bytes_of = room.reshape(len(room), -1).view(np.uint8)
        _each(lambda at: self._fill(int(samples[at]), stored.offset, bytes_of[at]), len(samples), self.threads)
        return stored.turned(room)

    def _fill(self, sample: int, offset: int, room: NDArray[np.uint8]) -> None:
        name = self.names[sample]
        try:
            with open(f"{self.folder}/{name}", "rb", buffering=0) as stream:
                stream.seek(offset)
                there = stream.readinto(room.data)
        except OSError as error:
            raise DataError(f"{_place(self.folder, name)}: cannot be read ({error.strerror})") from None
        if there != len(room):
            raise DataError(f"{_place(self.folder, name)}: the file has shrunk since the run started; check it and run again")

    def _check(self, values: Floats, samples: Ints) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            sums = values.sum(axis=(2, 3))  # finite if all values are: ten times as fast as checking each value
        for at, panel in np.argwhere(~np.isfinite(sums)).tolist():
            bad = np.argwhere(~np.isfinite(values[at, panel]))
            if len(bad):
                row, column = bad[0].tolist()
                raise DataError(
                    f"{_place(self.folder, self.names[int(samples[at])])}: panel {panel + 1} has the value "
                    f"{values[at, panel, row, column]:g} in row {row + 1}, column {column + 1}; "
                    "expected finite numbers (set skip_bad to leave such samples out)"
                )


@dataclass(frozen=True)
class _Rows:
    """The samples listed by a source."""

    ids: Strings  # (sample,)
    lines: Ints  # (sample,)
    columns: Mapping[str, Sequence[str]]  # without `id`
    names: Mapping[str, list[str]]  # file name without .npy -> relative paths


def _rows(parts: Parts) -> _Rows:
    names: dict[str, list[str]] = {}
    for name in npy_names(parts.samples) if parts.samples.is_dir() else (parts.samples.name,):
        names.setdefault(name.rpartition("/")[2].removesuffix(END), []).append(name)
    if parts.listing is None:
        ids = sorted(names, key=natural)
        return _Rows(np.array(ids, np.str_), np.arange(1, len(ids) + 1), {}, names)
    columns, lines = read_words(parts.listing, example="id,target")
    name = one_named(columns, "id")
    if not name:
        raise missing(list(columns), "id", parts.name, "; expected id,target")
    words = columns.pop(name)
    if parts.listing.name == SUBMISSION:  # its column holds no labels
        columns.pop(one_named(columns, LABELS[0]), None)
    for word, line in zip(words, lines.tolist(), strict=True):
        if not 0 < len(word) <= _LONGEST or not word.isprintable() or word.startswith(".") or set("/\\") & set(word):
            raise DataError(f"{parts.name} line {line}: id {word[:80]!r} is not a plain file name")
    return _Rows(check_ids(words, lines, parts.name), lines, columns, names)


def _label(rows: _Rows, parts: Parts, label_column: str, wanted: bool) -> str:
    """The label column; '' if there is none or labels are not wanted."""
    found = one_named(rows.columns, label_column) if label_column else ""
    found = found or next((there for name in LABELS if not label_column and (there := one_named(rows.columns, name))), "")
    if parts.listing is None or parts.listing.name == SUBMISSION or not wanted:
        return ""
    if not found and (label_column or not is_part(parts.listing, "test")):
        raise missing(["id", *rows.columns], label_column or LABELS[0], parts.name)
    return found


def _placed(rows: _Rows, parts: Parts) -> tuple[list[str], dict[int, str]]:
    """Each sample's file ('' if it has none), and a message for each one that is missing or misplaced."""
    everywhere = [name for names in rows.names.values() for name in names]
    by_letter = sum("/" in name for name in everywhere) * 2 >= max(len(everywhere), 1)
    folder = parts.samples.name
    entries, problems = [], {}
    for at, (id_, line) in enumerate(zip(rows.ids.tolist(), rows.lines.tolist(), strict=True)):
        name = f"{id_[:1]}/{id_}{END}" if by_letter else f"{id_}{END}"
        there = rows.names.get(id_, [])
        entries.append(name if name in there else "")
        if name not in there:
            who = f"{parts.name} line {line}: id '{id_}'" if parts.listing else f"{folder}: id '{id_}'"
            lies = f"is at {folder}/{there[0]}, expected" if there else "has no file"
            problems[at] = f"{who} {lies} {folder}/{name}" + (", like most files" if there else "")
    return entries, problems


@dataclass(frozen=True)
class _Looked:
    """File headers and digests of a source."""

    stored: Sequence[Stored | None]  # (sample,) None if the file has a problem
    edges: Sequence[bytes]  # (sample,) first and last bytes of the values

    @classmethod
    def at(cls, folder: Path, entries: Sequence[str], problems: dict[int, str]) -> _Looked:
        """Read each file's header; add to `problems` by sample."""
        looked: list[tuple[Stored | None, bytes]] = [(None, b"")] * len(entries)

        def look(block: int) -> None:
            for i in range(block * _TOGETHER, min((block + 1) * _TOGETHER, len(entries))):
                if entries[i]:
                    try:
                        looked[i] = _look(f"{folder}/{entries[i]}", _place(folder, entries[i]))
                    except DataError as error:
                        problems[i] = str(error)

        blocks = -(-len(entries) // _TOGETHER)
        with Progress(f"scanning {folder.name}", blocks * _TOGETHER, "files") as progress:
            _each(look, blocks, _THREADS, lambda done: progress.update(done * _TOGETHER))
        return cls([stored for stored, _ in looked], [edge for _, edge in looked])

    def files(self, folder: Path, entries: Sequence[str], kept: Ints) -> CadenceFiles:
        """A loader for the kept samples."""
        kinds = {stored: number for number, stored in enumerate(dict.fromkeys(self.stored[i] for i in kept))}
        kind = np.array([kinds[self.stored[i]] for i in kept], np.int64)
        return CadenceFiles(folder, [entries[i] for i in kept], [stored for stored in kinds if stored], kind)

    def digest(self, kept: Ints) -> str:
        """SHA-256 of the kept files' headers and of the first and last bytes of their values, in order."""
        digest = hashlib.sha256()
        for i in kept.tolist():
            digest.update(f"{self.stored[i]}\n".encode() + self.edges[i])
        return digest.hexdigest()


def _look(path: str, name: str) -> tuple[Stored, bytes]:
    try:
        with open(path, "rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            head = stream.read(HEAD)
            stored = read_header(head, size, name)
            stream.seek(max(size - _EDGE, stored.offset))
            return stored, head[stored.offset :][:_EDGE] + stream.read(_EDGE)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from None


def _check_shapes(looked: _Looked, folder: Path, entries: Sequence[str], problems: dict[int, str]) -> None:
    """Mark files whose shape differs from most as problems; DataError if none is a cadence."""
    shapes = [stored.shape if stored else () for stored in looked.stored]
    usual = Counter(shape for shape in shapes if _is_cadence(shape)).most_common(1)
    for i, shape in enumerate(shapes):
        if looked.stored[i] and not (usual and shape == usual[0][0]):
            like = f"{usual[0][0]} as most of {folder.name}" if usual and _is_cadence(shape) else f"({PANELS}, time, frequency)"
            problems[i] = f"{_place(folder, entries[i])}: has shape {shape}, expected {like}"
            if len(shape) == 2 and len(entries) == 1:
                problems[i] += f"; as signals, it {unread_kind(Path(entries[i]), b'')}"
    if not usual:
        raise DataError(problems[min(problems)] if problems else f"{folder.name}: contains no samples; {EXPECTED}")


def _place(folder: Path, name: str) -> str:
    """A file's name for a message, with its folder's; that of the working folder is not known."""
    return f"{folder.name}/{name}" if folder.name else name


def _is_cadence(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] == PANELS and min(shape) > 0


def _stop_at_first(problems: Mapping[int, str], skip_bad: bool) -> None:
    if problems and not skip_bad:
        raise DataError(problems[min(problems)])


def _not_finite(files: CadenceFiles) -> dict[int, str]:
    """Error messages for files with unreadable or non-finite values, by sample; reads all of them."""
    problems: dict[int, str] = {}

    def look(sample: int) -> None:
        try:
            files(np.array([sample]))
        except DataError as error:
            problems[sample] = str(error)

    with Progress(f"checking {files.folder.name}", len(files.names), "cadences") as progress:
        _each(look, len(files.names), files.threads, progress.update)
    return problems


def _each(do: Callable[[int], None], count: int, threads: int, done: Callable[[int], None] = lambda _: None) -> None:
    """Call `do` with 0 to count - 1 on a thread pool; raises the first error."""
    if count < 2 or threads < 2:
        results: Iterable[None] = map(do, range(count))
        for number, _ in enumerate(results, 1):
            done(number)
        return
    pool = ThreadPoolExecutor(min(threads, count))
    try:
        for number, _ in enumerate(pool.map(do, range(count)), 1):
            done(number)
    finally:
        pool.shutdown(cancel_futures=True)  # on an error or Ctrl-C, do not wait for the rest


def _put(stored: NDArray[np.floating], values: Floats, at: Ints) -> None:
    """Assign the samples at `at`, or all at once: torch converts half precision nine times as fast as NumPy."""
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    if len(at) == len(values):
        torch.from_numpy(values).copy_(torch.from_numpy(native))
        return
    with np.errstate(over="ignore"):  # values beyond float32 are found by the check
        values[at] = native
