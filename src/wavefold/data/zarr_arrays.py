"""Reads samples from a Zarr folder (format 2 or 3, sharded or not) with the arrays of an .npz: `signals`, `labels`, `ids`, ...

Signals are read chunk by chunk. Their attributes are obeyed: scale_factor, add_offset, _FillValue and missing_value as CF has
them, units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError
from wavefold.core.registry import optional
from wavefold.data.arrays import NAMES, check_signals, named, table_of
from wavefold.data.cache import cache_folder
from wavefold.data.dataset import UNIT, Floats
from wavefold.data.layout import Found
from wavefold.data.lazy import LARGE, let_go, room
from wavefold.data.table import Table

zarr = optional("zarr", extra="grids")
zarr_storage = optional("zarr.storage", extra="grids")
_VALUES = 1 << 22  # values read at a time, or one chunk


def sniff_zarr(path: Path) -> float:
    """Confidence that a path is a Zarr group with an array of signals."""
    is_group = path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zmetadata"))
    return 0.9 if is_group and any((path / name).is_dir() for name in NAMES["signals"]) else 0.0


def locate_zarr(path: Path) -> Found:
    """All files of a Zarr folder; DataError if it is none."""
    if not sniff_zarr(path):
        raise DataError(f"{path}: not a Zarr group with an array 'signals' or 'X'")
    return Found(path, "zarr", tuple(sorted(file for file in path.rglob("*") if file.is_file())))


def read_zarr(path: Path, *, label_column: str = "", group: str = "", labels: bool = True, skip_bad: bool = False) -> Table:
    """Read signals (sample, channel, position), ids, labels and groups; the legend is that of `read_arrays`.

    Signals of more than 256 MB lie in an unnamed file in the cache folder.
    """
    try:
        arrays: dict[str, Any] = dict(zarr.open_group(str(path), mode="r").arrays())
        stored = check_signals(named(arrays, "signals"), arrays, path.name)
        signals = _signals(stored)
        others = {name: array for name, array in arrays.items() if array is not stored and array.shape == stored.shape[:1]}
        beside = {name: _text(array) for name, array in others.items()}
    except DataError:
        raise
    except Exception as error:  # of the codecs too
        raise DataError(f"{path.name}: not a readable Zarr group ({' '.join(str(error).split())[:120]})") from None
    table = table_of(signals, beside, path.name, label_column if labels else None, skip_bad=skip_bad)
    unit = stored.attrs.get("units")
    return replace(table, attrs={UNIT: str(unit)} if unit else {})


def _signals(stored: Any) -> Floats:
    """All values (sample, channel, position), as their attributes decode them."""
    count, *one = stored.shape
    signals = room((count, 1 if len(one) == 1 else one[0], one[-1]), cache_folder(), LARGE)
    chunk = (getattr(stored, "shards", None) or stored.chunks)[0]
    rows = max(1, _VALUES // int(np.prod(one)) // chunk) * chunk
    for start in range(0, count, rows):
        signals[start : start + rows] = _decoded(stored[start : start + rows], stored.attrs).reshape(-1, *signals.shape[1:])
        let_go(signals[start : start + rows])
    return signals


def _decoded(values: NDArray[np.generic], attrs: Mapping[str, object]) -> Floats:
    codes = [code for name in ("_FillValue", "missing_value") if isinstance(code := attrs.get(name), Real)]
    scale, offset = (float(str(attrs.get(name, default))) for name, default in (("scale_factor", 1), ("add_offset", 0)))
    missing = np.isin(values, np.array(codes, values.dtype)) if codes else None
    with np.errstate(over="ignore"):  # values beyond float32 are found by the check
        numbers = values.astype(np.float64) * scale + offset if (scale, offset) != (1, 0) else values
        decoded = numbers.astype(np.float32)
    if missing is not None:
        decoded[missing] = np.nan
    return decoded


def _text(array: Any) -> NDArray[np.generic]:
    values = np.asarray(array[:])
    return values.astype(np.str_) if values.dtype.kind in "OT" else values
