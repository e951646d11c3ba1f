"""Writes the layout of the contest "SETI Breakthrough Listen": `<part>/<id[0]>/<id>.npy` float16, and `<part>_labels.csv` last.

The CSV (`id,target` and the dataset's other columns) marks the output as complete. Until then the folder contains the file
`.unfinished`: a folder with that file and without the CSV was left by a killed process and is rewritten.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

from wavefold.core.errors import DataError, UserError
from wavefold.core.files import write_text
from wavefold.core.process import is_main_process
from wavefold.core.progress import Progress
from wavefold.data.bundles import check_file_names
from wavefold.data.dataset import Dataset, Floats
from wavefold.data.lazy import row_blocks
from wavefold.domains.radio.cadence import PANELS
from wavefold.domains.radio.contest_npy import LABELS

_BLOCK = 32  # cadences at a time: 54 MB of contest cadences
_UNFINISHED = ".unfinished"


def write_cadences(dataset: Dataset, folder: Path, part: str = "train") -> Path:
    """Write cadences (sample, 6, time, frequency), lazy ones included, in the contest layout and return the CSV's path.

    Without labels the CSV has no `target`. UserError if the CSV or the part's folder already exists, unless the folder is
    incomplete; DataError for data that the layout cannot represent, such as values beyond float16.
    """
    _check(dataset)
    listing, samples = folder / f"{part}_labels.csv", folder / part
    text = _listing(dataset, listing.name)
    if is_main_process():  # other processes may see what the main process has just written
        _make_room(listing, samples)
        _write_samples(dataset, samples)
        write_text(listing, text)
        (samples / _UNFINISHED).unlink()
    return listing


def _check(dataset: Dataset) -> None:
    if dataset.signals.ndim != 4 or dataset.signals.shape[1] != PANELS:
        shape = " x ".join(map(str, dataset.signals.shape[1:]))
        raise DataError(f"{dataset.source}: samples have shape {shape}; the contest layout needs {PANELS} x time x frequency")
    check_file_names(dataset)


def _make_room(listing: Path, samples: Path) -> None:
    if listing.exists():
        raise UserError(f"{listing}: already exists; choose another folder")
    if (samples / _UNFINISHED).exists():
        shutil.rmtree(samples)
    elif samples.exists() and (not samples.is_dir() or any(not f.name.startswith(".") for f in samples.iterdir())):
        raise UserError(f"{samples}: already exists; choose another folder")
    samples.mkdir(parents=True, exist_ok=True)  # an empty one was left by a process killed early
    write_text(samples / _UNFINISHED, f"{listing.name} is written after all samples\n")


def _write_samples(dataset: Dataset, samples: Path) -> None:
    """Write one file per sample and flush them all at the end: flushing each would take longer than writing it."""
    head = _header(dataset.signals.shape[1:])
    for letter in sorted({id_[0] for id_ in dataset.ids.tolist()}):
        (samples / letter).mkdir()
    with _nothing_left(samples), Progress(f"writing {samples.name}", len(dataset), "cadences") as progress:
        for rows in row_blocks(len(dataset), _BLOCK):
            ids = dataset.ids[rows].tolist()
            for id_, values in zip(ids, _as_float16(dataset.signals[rows], ids, dataset.source), strict=True):
                (samples / id_[0] / f"{id_}.npy").write_bytes(head + values.tobytes())
            progress.update(rows.stop)
    getattr(os, "sync", lambda: None)()  # Windows has none


@contextmanager
def _nothing_left(samples: Path) -> Iterator[None]:
    """Delete what was written on any error, such as a full disk."""
    try:
        yield
    except BaseException:
        shutil.rmtree(samples, ignore_errors=True)
        raise


def _header(shape: Sequence[int]) -> bytes:
    stream = io.BytesIO()
    npy_format.write_array_header_1_0(stream, {"descr": "<f2", "fortran_order": False, "shape": tuple(shape)})
    return stream.getvalue()


def _as_float16(values: Floats, ids: Sequence[str], source: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    bad = ~np.isfinite(half).reshape(len(half), -1).all(axis=1)
    if bad.any():
        at = int(np.argmax(bad))
        worst = values[at][~np.isfinite(half[at])][0]
        raise DataError(f"{source}: id {ids[at]!r} has the value {worst:g}; float16 files need finite values up to 65504")
    return half


def _listing(dataset: Dataset, name: str) -> str:
    columns = {column: words.tolist() for column, words in dataset.columns.items() if column.lower() not in ("id", *LABELS)}
    if dataset.groups is not None:
        columns.setdefault(dataset.grouping or "background", dataset.groups.tolist())
    if dataset.labels is not None:
        words = [dataset.classes[i] if dataset.classes else str(i) for i in dataset.labels.tolist()]
        columns = {LABELS[0]: words, **columns}
    rows = [["id", *columns], *map(list, zip(dataset.ids.tolist(), *columns.values(), strict=True))]
    bad = next((word for row in rows for word in row if re.search(r"[\r\n]", word)), None)
    if bad is not None:
        raise DataError(f"{name}: {bad!r} contains a line break; the contest layout uses one line per sample")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
