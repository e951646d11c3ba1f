"""Reads samples from an .npz with `signals` (or `X`) and optionally `labels` (or `y`), `ids`, `groups` and further columns.

signals: (sample, position) or (sample, channel, position), numeric; every other array (sample,) is a column. Nothing is
unpickled.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, listed
from wavefold.data.dataset import Floats, Strings, check_ids
from wavefold.data.lazy import blocks_of
from wavefold.data.table import Table, label_words, without

T = TypeVar("T")

NAMES = {"signals": ("signals", "X"), "labels": ("labels", "y"), "ids": ("ids", "id"), "groups": ("groups", "group")}


def read_arrays(path: Path, *, label_column: str = "", group: str = "", labels: bool = True, skip_bad: bool = False) -> Table:
    """Read signals (sample, channel, position), ids, labels and groups from an .npz; DataError names the faulty array.

    label_column: alternative name of the label array. group: ignored, as there is only one array of groups. skip_bad:
    list samples with values that are not finite in left_out; otherwise the first one raises DataError.
    """
    arrays = _loaded(path)
    signals = _signals(named(arrays, "signals"), arrays, path.name)
    return table_of(signals, arrays, path.name, label_column if labels else None, skip_bad=skip_bad)


def named(arrays: Mapping[str, T], kind: str, other: str = "") -> T | None:
    """The array of a kind ("signals", "labels", "ids" or "groups") by one of its names, or by another name if there is one."""
    return next((arrays[name] for name in ((other,) if other else NAMES[kind]) if name in arrays), None)


def table_of(
    signals: Floats, arrays: Mapping[str, NDArray[np.generic]], name: str, label_column: str | None, *, skip_bad: bool
) -> Table:
    """The table of signals (sample, channel, position) and the arrays beside them. label_column: None without labels."""
    _check_text(arrays, name)
    found = {kind: named(arrays, kind) for kind in ("ids", "groups")} | {"labels": named(arrays, "labels", label_column or "")}
    words = {kind: _words(array, len(signals), f"{name} {kind}") for kind, array in found.items()}
    if label_column and words["labels"] is None:
        raise DataError(f"{name}: no array '{label_column}'; available: {listed(arrays)}")
    numbers = np.arange(len(signals))
    ids = numbers.astype(np.str_) if words["ids"] is None else words["ids"]
    bad = _not_finite(signals, name)
    if bad and not skip_bad:
        raise DataError(bad[min(bad)])
    truth = None if label_column is None else words["labels"]
    table = Table(
        signals=signals,
        ids=check_ids(ids.tolist(), numbers, name),
        lines=numbers,
        words=None if truth is None else label_words(truth.tolist()),
        columns={**_further(arrays, len(signals)), **({} if words["groups"] is None else {"group": words["groups"]})},
    )
    return without(table, bad)


def _check_text(arrays: Mapping[str, NDArray[np.generic]], name: str) -> None:
    """DataError if an array of text holds numbers that are no characters, as a damaged one does."""
    for key, array in arrays.items():
        if array.dtype.kind == "U" and array.size:
            codes = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("=")).view(np.uint32)
            if int(codes.max()) > sys.maxunicode:
                raise DataError(f"{name} {key}: holds text that cannot be read; the file is damaged, write it again")


def _further(arrays: Mapping[str, NDArray[np.generic]], count: int) -> dict[str, Strings]:
    """The arrays without a meaning of their own that have one value for each sample."""
    own = {name for names in NAMES.values() for name in names}
    return {name: array.astype(np.str_) for name, array in arrays.items() if name not in own and array.shape == (count,)}


def _loaded(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # NumPy, zipfile and zlib raise errors of many kinds for damaged files
        raise DataError(f"{path.name}: not a readable .npz of numbers and text ({str(error)[:80]})") from None


def _signals(array: NDArray[np.generic] | None, arrays: Mapping[str, object], name: str) -> Floats:
    found = check_signals(array, arrays, name)
    with np.errstate(over="ignore"):  # values beyond float32 are found by the check
        return found.astype(np.float32).reshape(len(found), -1, found.shape[-1])


class Shaped(Protocol):
    """An array, or what stands for one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its axes' lengths."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The type of its values."""


S = TypeVar("S", bound=Shaped)


def check_signals(array: S | None, arrays: Mapping[str, object], name: str) -> S:
    """The array of signals; DataError if it is missing or of another shape or kind than signals have."""
    if array is None:
        raise DataError(f"{name}: no array 'signals' or 'X'; available: {listed(arrays) or 'none'}")
    if len(array.shape) not in (2, 3) or array.dtype.kind not in "iuf" or 0 in array.shape:
        shape = " x ".join(map(str, array.shape))
        raise DataError(
            f"{name} signals: {shape} of {array.dtype}; expected numbers (sample, position) or (sample, channel, position)"
        )
    return array


def _not_finite(signals: Floats, name: str) -> dict[int, str]:
    """An error for each sample with a value that is not finite, by sample."""
    bad = [rows.start + i for rows, some in blocks_of(signals) for i in np.flatnonzero(~np.isfinite(some).all(axis=(1, 2)))]
    return {row: f"{name} signals: sample {row} has a value that is not finite; expected numbers" for row in bad}


def _words(array: NDArray[np.generic] | None, count: int, place: str) -> Strings | None:
    if array is None:
        return None
    if array.shape != (count,):
        raise DataError(f"{place}: shape {array.shape}; expected one for each of {count:,} samples, ({count},)")
    return array.astype(np.str_)
