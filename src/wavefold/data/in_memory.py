"""Writes in-memory data (arrays, pandas and polars frames, xarray objects) to a file that the readers know."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from wavefold.core.errors import UserError
from wavefold.core.files import write_arrays, write_whole

_NONE: Mapping[str, ArrayLike] = {}


def is_path(data: object) -> bool:
    """Whether `data` is a path rather than the data themselves."""
    return isinstance(data, str | os.PathLike)


def write_data(
    data: Any, folder: Path, columns: Mapping[str, ArrayLike] = _NONE, groups: ArrayLike | None = None, *, series: bool = False
) -> Path:
    """Write data as `data.csv`, `data.nc` or `data.npz` in a folder; return the file's path.

    data: a pandas or polars frame, an xarray object, or an array: (sample, position) or (sample, channel, position); with
    `series`, (time, row, column) or (time, channel, row, column). columns, groups: one value for each sample of an array.
    UserError for anything else.
    """
    if hasattr(data, "to_netcdf"):
        return _written(folder / "data.nc", data, "to_netcdf")
    if hasattr(data, "to_csv") or hasattr(data, "write_csv"):
        if groups is not None or columns:
            raise UserError("data: a frame holds its labels and groups as columns; name them by labels= and groups=")
        return _written_table(folder / "data.csv", data)
    array = np.asarray(data)
    if array.ndim < 2 or array.dtype.kind not in "iuf":
        raise UserError(f"data: {type(data).__name__} is not a path, a frame, an xarray object or an array of numbers")
    if series:
        write_arrays(folder / "data.npz", {"frames": array})
    else:
        further = dict(columns) if groups is None else {**columns, "groups": groups}
        write_arrays(folder / "data.npz", {"signals": array, **{name: np.array(_strings(v)) for name, v in further.items()}})
    return folder / "data.npz"


def _strings(values: Any) -> Sequence[str]:
    return [str(value) for value in np.asarray(values).tolist()]


def _written(path: Path, data: Any, method: str) -> Path:
    """Write a file with the object's own method, first under a temporary name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        getattr(data, method)(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _written_table(path: Path, data: Any) -> Path:
    text: str = data.to_csv(index=False) if hasattr(data, "to_csv") else data.write_csv()
    write_whole(path, lambda stream: stream.write(text.encode()))
    return path
