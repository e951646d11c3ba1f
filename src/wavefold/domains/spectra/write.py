"""Writes the layout of the Tianchi 2018 LAMOST contest: `<part>_index.csv` (`id,type`) and a `<part>_data.zip` of `<id>.txt`.

A txt is one line of comma-separated values with five significant digits, as in the contest's and LAMOST's files. If the dataset
has an axis, `wavelength.txt` beside them holds the wavelengths in angstrom, comma-separated. If it has targets, they and its
other columns are in `<part>_meta.csv`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np

from wavefold.core.errors import DataError, UserError
from wavefold.core.files import write_text, write_whole
from wavefold.core.process import is_main_process
from wavefold.data.bundles import check_file_names
from wavefold.data.csv_rows import csv_rows
from wavefold.data.dataset import Dataset, Floats
from wavefold.data.significant import five_digits

_LEVEL = 1  # zip compression level: four times as fast as the usual 6, files a tenth larger


def write_spectra(dataset: Dataset, folder: Path, part: str = "train") -> Path:
    """Write `dataset` in the contest's layout and return the index file; the same dataset gives the same bytes.

    Without labels the index has ids only. UserError if a file already exists (except `wavelength.txt` with the same
    wavelengths: train and test share it), DataError for data that the layout cannot represent.
    """
    _check(dataset)
    index, data, axis = folder / f"{part}_index.csv", folder / f"{part}_data.zip", folder / "wavelength.txt"
    meta = folder / f"{part}_meta.csv"
    further = "" if dataset.targets is None else _meta(dataset, dataset.targets, meta.name)
    wavelengths = "" if dataset.axis is None else ",".join(f"{value:.10g}" for value in dataset.axis.tolist()) + "\n"
    if is_main_process():  # with several processes, another may see what the first has just written
        there = [file for file in (index, data, *([meta] if further else [])) if file.exists()]
        if wavelengths and axis.exists() and axis.read_text() != wavelengths:
            there.append(axis)
        if there:
            raise UserError(f"{there[0]}: already exists; choose another folder")
    write_whole(data, lambda stream: _write_texts(dataset, stream, f"{part}_data"))
    if wavelengths:
        write_text(axis, wavelengths)
    if further:
        write_text(meta, further)
    write_text(index, _index(dataset))  # written last, so that the rest exists once it does
    return index


def _check(dataset: Dataset) -> None:
    if dataset.signals.shape[1] != 1:
        raise DataError(f"{dataset.source}: has {dataset.signals.shape[1]} channels; the contest layout supports only 1")
    check_file_names(dataset)
    for word in dataset.classes if dataset.labels is not None else ():
        if re.search(r'[,"\r\n]', word):
            raise DataError(
                f"{dataset.source}: class {word!r} contains a comma, a quote or a line break; expected a plain word"
            )


def _write_texts(dataset: Dataset, stream: IO[bytes], folder: str) -> None:
    with ZipFile(stream, "w", ZIP_DEFLATED) as archive:
        for word, row in zip(dataset.ids.tolist(), dataset.signals[:][:, 0], strict=True):
            member = ZipInfo(f"{folder}/{word}.txt", (1980, 1, 1, 0, 0, 0))  # a fixed date: same samples, same bytes
            member.compress_type, member.external_attr = ZIP_DEFLATED, 0o644 << 16
            archive.writestr(member, five_digits(row) + b"\n", compresslevel=_LEVEL)


def _index(dataset: Dataset) -> str:
    ids = dataset.ids.tolist()
    if dataset.labels is None:
        return "id\n" + "".join(f"{word}\n" for word in ids)
    names = [dataset.classes[i] if dataset.classes else str(i) for i in dataset.labels.tolist()]
    return "id,type\n" + "".join(f"{word},{name}\n" for word, name in zip(ids, names, strict=True))


def _meta(dataset: Dataset, targets: Floats, name: str) -> str:
    """The ids with the targets, empty where they are not known, and the other columns. targets: (sample, target)."""
    numbers = np.where(np.isnan(targets), "", targets.astype(np.str_))  # the shortest text that reads back the same
    columns: dict[str, Sequence[str]] = {
        "id": dataset.ids.tolist(),
        **dict(zip(dataset.target_names, numbers.T.tolist(), strict=True)),
    }
    columns |= {column: words.tolist() for column, words in dataset.columns.items() if column not in columns}
    return csv_rows([list(columns), *zip(*columns.values(), strict=True)], name)
