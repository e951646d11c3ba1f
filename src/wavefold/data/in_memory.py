"""Writes in-memory data (arrays, pandas and polars frames, xarray objects) to a file that the readers know."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from wavefold.core.errors import UserError
from wavefold.core.files import write_arrays, write_whole

_NONE: Mapping[str, ArrayLike] = {}


@runtime_checkable
class PandasFrame(Protocol):
    """A table that writes itself as pandas does."""

    def to_csv(self, *, index: bool) -> str | None: ...


@runtime_checkable
class PolarsFrame(Protocol):
    """A table that writes itself as polars does."""

    def write_csv(self) -> str | None: ...


@runtime_checkable
class XarrayObject(Protocol):
    """An xarray Dataset or DataArray."""

    def to_netcdf(self, path: Path, /) -> object: ...


Data: TypeAlias = str | os.PathLike[str] | ArrayLike | PandasFrame | PolarsFrame | XarrayObject


def is_frame(data: object) -> TypeGuard[PandasFrame | PolarsFrame]:
    """Whether `data` is a table of pandas' or polars' kind."""
    return isinstance(data, PandasFrame | PolarsFrame) and not isinstance(data, XarrayObject)


def is_path(data: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether `data` is a path rather than the data themselves."""
    return isinstance(data, str | os.PathLike)


def write_data(
    data: Data, folder: Path, columns: Mapping[str, ArrayLike] = _NONE, groups: ArrayLike | None = None, *, series: bool = False
) -> Path:
    """Write data as `data.csv`, `data.nc` or `data.npz` in a folder; return the file's path.

    data: a pandas or polars frame, an xarray object, or an array: (sample, position) or (sample, channel, position); with
    `series`, (time, row, column) or (time, channel, row, column). columns, groups: one value for each sample of an array.
    UserError for anything else.
    """
    if isinstance(data, XarrayObject):
        return _written_grid(folder / "data.nc", data)
    if is_frame(data):
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


def _strings(values: ArrayLike) -> Sequence[str]:
    return [str(value) for value in np.asarray(values).tolist()]


def _written_grid(path: Path, data: XarrayObject) -> Path:
    """Write a NetCDF file with the object's own method, first under a temporary name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        data.to_netcdf(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _written_table(path: Path, data: PandasFrame | PolarsFrame) -> Path:
    text = (data.to_csv(index=False) if isinstance(data, PandasFrame) else data.write_csv()) or ""
    write_whole(path, lambda stream: stream.write(text.encode()))
    return path
