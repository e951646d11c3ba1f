"""Reads samples from an .npz with `signals` (or `X`) and optionally `labels` (or `y`), `ids`, `groups` and further columns.

signals: (sample, position) or (sample, channel, position), numeric; every other array (sample,) is a column. Nothing is
unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, listed
from wavefold.data.dataset import Strings, check_ids
from wavefold.data.table import Table, label_words, without

_NAMES = {"signals": ("signals", "X"), "labels": ("labels", "y"), "ids": ("ids", "id"), "groups": ("groups", "group")}


def read_arrays(path: Path, *, label_column: str = "", group: str = "", labels: bool = True, skip_bad: bool = False) -> Table:
    """Read signals (sample, channel, position), ids, labels and groups from an .npz; DataError names the faulty array.

    label_column: alternative name of the label array. group: ignored, as there is only one array of groups. skip_bad:
    list samples with values that are not finite in left_out; otherwise the first one raises DataError.
    """
    names = _NAMES | ({"labels": (label_column,)} if label_column else {})
    arrays = _loaded(path)
    found = {kind: next((arrays[name] for name in known if name in arrays), None) for kind, known in names.items()}
    signals = _signals(found["signals"], arrays, path.name)
    words = {kind: _words(found[kind], len(signals), f"{path.name} {kind}") for kind in ("labels", "ids", "groups")}
    if labels and label_column and words["labels"] is None:
        raise DataError(f"{path.name}: no array '{label_column}'; available: {listed(arrays)}")
    numbers = np.arange(len(signals))
    ids = numbers.astype(np.str_) if words["ids"] is None else words["ids"]
    bad = _not_finite(signals, path.name)
    if bad and not skip_bad:
        raise DataError(bad[min(bad)])
    table = Table(
        signals=signals,
        ids=check_ids(ids.tolist(), numbers, path.name),
        lines=numbers,
        words=label_words(words["labels"].tolist()) if labels and words["labels"] is not None else None,
        columns={**_further(arrays, len(signals)), **({} if words["groups"] is None else {"group": words["groups"]})},
    )
    return without(table, bad)


def _further(arrays: Mapping[str, NDArray[np.generic]], count: int) -> dict[str, Strings]:
    """The arrays without a meaning of their own that have one value for each sample."""
    own = {name for names in _NAMES.values() for name in names}
    return {name: array.astype(np.str_) for name, array in arrays.items() if name not in own and array.shape == (count,)}


def _loaded(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # NumPy, zipfile and zlib raise errors of many kinds for damaged files
        raise DataError(f"{path.name}: not a readable .npz of numbers and text ({str(error)[:80]})") from None


def _signals(array: NDArray[np.generic] | None, arrays: Mapping[str, object], name: str) -> NDArray[np.float32]:
    if array is None:
        raise DataError(f"{name}: no array 'signals' or 'X'; available: {listed(arrays) or 'none'}")
    if array.ndim not in (2, 3) or array.dtype.kind not in "iuf" or not array.size:
        shape = " x ".join(map(str, array.shape))
        raise DataError(
            f"{name} signals: {shape} of {array.dtype}; expected numbers (sample, position) or (sample, channel, position)"
        )
    with np.errstate(over="ignore"):  # values beyond float32 are found by the check
        return array.astype(np.float32).reshape(len(array), -1, array.shape[-1])


def _not_finite(signals: NDArray[np.float32], name: str) -> dict[int, str]:
    """An error for each sample with a value that is not finite, by sample."""
    bad = np.flatnonzero(~np.isfinite(signals).all(axis=(1, 2))).tolist()
    return {row: f"{name} signals: sample {row} has a value that is not finite; expected numbers" for row in bad}


def _words(array: NDArray[np.generic] | None, count: int, place: str) -> Strings | None:
    if array is None:
        return None
    if array.shape != (count,):
        raise DataError(f"{place}: shape {array.shape}; expected one for each of {count:,} samples, ({count},)")
    return array.astype(np.str_)
