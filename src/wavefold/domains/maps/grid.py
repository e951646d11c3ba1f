"""Reads frames from NetCDF and Zarr with xarray; axes are identified by CF conventions or by common names.

NetCDF-3 is read by scipy, NetCDF-4 by h5netcdf, Zarr versions 2 and 3 as a folder or zip. Large data stay on disk and are read
on demand: a chunk with many frames is decompressed for every read, so chunks of few frames are fastest. Fill values and values
outside the valid range become NaN, and packed values are unpacked, according to the variable's attributes. Rows keep the file's
order.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, UserError, listed, nearest
from wavefold.core.files import digest_file
from wavefold.core.registry import optional
from wavefold.data.hdf5 import check_hdf5, h5py
from wavefold.data.lazy import Floats, Ints, Lazy
from wavefold.data.series import FILE_UNIT, Seconds, Series, join_stretches, stretches, time_word
from wavefold.data.series_options import Reading
from wavefold.data.zarr_arrays import zarr, zarr_storage
from wavefold.domains.maps.calendars import Moments, moments

if TYPE_CHECKING:
    from xarray import DataArray, Dataset
    from zarr.storage import LocalStore, ZipStore

    ZarrStore = LocalStore | ZipStore

xarray = optional("xarray", extra="grids")
h5netcdf = optional("h5netcdf", extra="grids")

_SMALL = 256 * 10**6  # bytes up to which frames are read at once and a Zarr's digest covers all its bytes
_ZARR_FACTS = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
_NEVER_WRITTEN = 9.969209968386869e36  # the value of cells that NetCDF never wrote, of floats
_ZERO = "fill_value of 0"  # our mark on a variable
_LEVELS = ("level", "lev", "pressure", "isobaricinhpa", "height", "depth", "band", "channel", "z", "plev")
_SIGNS = {b"\x89HDF": "h5netcdf", b"CDF\x01": "scipy", b"CDF\x02": "scipy"}  # a file's first bytes -> xarray engine
_MARKS = {  # CF attributes that identify an axis: axis, standard names, units or a part of them
    "time": ("T", ("time",), (" since ",)),
    "row": ("Y", ("latitude", "grid_latitude", "projection_y_coordinate"), ("degrees_north", "degree_north")),
    "column": ("X", ("longitude", "grid_longitude", "projection_x_coordinate"), ("degrees_east", "degree_east")),
}
_USUAL = {  # names of axes, the likeliest first
    "time": ("time", "valid_time", "date", "datetime", "t", "step", "lead_time", "frame", "lead"),
    "row": ("latitude", "lat", "y", "row", "rows", "rlat", "northing", "south_north", "nlat", "yc", "j"),
    "column": ("longitude", "lon", "x", "column", "columns", "col", "rlon", "easting", "west_east", "nlon", "xc", "i"),
}


def read_grid(path: Path, reading: Reading) -> Series:
    """Read frames of a NetCDF file or a Zarr folder or zip; in memory below 256 MB, otherwise on demand.

    `reading.variable` names the variable, or several with the same axes, "t2m,msl", which become channels. Axes other than
    time, row and column become channels named "level=500"; those of size 1 are dropped. `reading.axes` gives the role of each
    axis if its name does not. A file without a time axis is one frame, at its scalar time if it has one. Of a calendar whose
    dates are not those of the standard one, such as 360_day, only order, step and gaps are kept. The digest covers a file's
    bytes; for a Zarr folder, its metadata and the names and sizes of its chunks, and all bytes if less than 256 MB in total: in
    a larger one, a change that keeps the size is not detected.
    """
    with _opened(path) as dataset:
        names = _variables(dataset, reading, path.name)
        dataset = _with_time(dataset, names, reading, path.name)
        roles = _common_roles(dataset, names, reading, path.name)
        grid = _Grid(path, names, tuple(roles[role] for role in ("time", "row", "column")))
        shape = tuple(dataset.sizes[name] for name in grid.axes)
        channels = tuple(label for name in names for label in _labels(dataset, name, roles, alone=len(names) == 1))
        times = _times(dataset, roles["time"], path.name)
        unit = listed(dict.fromkeys(str(dataset[name].attrs.get("units", "")) for name in names))
        rows, columns = (_coordinates(dataset, roles[role]) for role in ("row", "column"))
        up, across = (_axis_words(dataset, roles[role]) for role in ("row", "column"))
        attrs, notes = (
            _stated(dataset, names, roles),
            _doubts(dataset, names, roles, channels, path.name, zero_is_missing=0.0 in reading.missing),
        )
    if not all(shape):
        raise DataError(f"{path.name}: {names[0]} has {shape[0]} frames of {shape[1]} x {shape[2]} cells, expected 1 or more")
    found = stretches(times.seconds, path.name, dated=times.dated) if times else (np.zeros(1, np.int64), 0.0, ())
    starts, step, gaps = found
    seconds = times.seconds if times and times.dated else None
    if times and times.calendar:
        attrs["calendar"] = times.calendar
    lazy = Lazy(grid.load, np.arange(shape[0]), (len(channels), *shape[1:]))
    return Series(
        lazy[:] if 4 * np.prod([float(s) for s in lazy.shape]) < _SMALL else lazy,
        *join_stretches(_stretch_names(path.stem, starts, seconds), np.diff([*starts, shape[0]]).tolist()),
        times=seconds,
        step=step,
        channels=channels,
        unit=reading.unit or unit,
        rows=rows,
        columns=columns,
        across=across,
        up=up,
        source=str(path),
        digest=digest_file(path) if path.is_file() else _digest_folder(path),
        attrs=attrs,
        notes=(*notes, *(times.notes if times else ()), *gaps),
    )


@dataclass
class _Grid:
    """Variables of a source that is opened once per process: handles cannot be shared."""

    path: Path
    names: tuple[str, ...]
    axes: tuple[str, ...]  # time, row, column
    _dataset: Dataset | None = field(default=None, repr=False)
    _process: int = 0

    def load(self, numbers: Ints) -> Floats:
        """Frames by number, (frame, channel, row, column); each run of neighbours is read in one go, and each frame once."""
        known, back = np.unique(numbers, return_inverse=True)
        runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
        with _one_line(self.path.name):
            pieces = [self._run(int(run[0]), int(run[-1]) + 1) for run in runs]
        values = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return values if len(known) == len(numbers) and (np.diff(back) > 0).all() else values[back]

    def _run(self, first: int, last: int) -> Floats:
        time, row, column = self.axes
        found = []
        for name in self.names:
            whole = self._handle()[name]
            part = whole.isel({time: slice(first, last)}) if time in whole.dims else whole.expand_dims(time)
            values = part.transpose(time, ..., row, column).values
            with np.errstate(over="ignore"):
                kept = _where_valid(whole, values).astype(np.float32)
                found.append(kept.reshape(len(kept), -1, *kept.shape[-2:]))
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

    def _handle(self) -> Dataset:
        if self._dataset is None or self._process != os.getpid():
            self._dataset, self._process = _open(self.path), os.getpid()
        return self._dataset

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_dataset": None, "_process": 0}


# Opening


@contextmanager
def _opened(path: Path) -> Iterator[Dataset]:
    with _one_line(path.name):
        dataset = _open(path)
        try:
            yield dataset
        finally:
            dataset.close()


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn any error of the underlying packages into a one-line DataError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        stated = " ".join(str(error).split())[:200]
        raise DataError(f"{name}: cannot be read: {stated or type(error).__name__}; it may be truncated or corrupt") from error


def _open(path: Path) -> Dataset:
    """Open the dataset, reading only metadata and coordinates; times stay numeric and only the time axis is decoded."""
    options: dict[str, str | bool] = {"engine": "zarr", "consolidated": False}
    if path.suffix == ".zip":
        source = zarr_storage.ZipStore(path, mode="r")
    elif path.is_dir():
        source = zarr_storage.LocalStore(path, read_only=True)
    else:
        source, options = path, {"engine": _engine(path)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd attributes that are still understood
        stored: Dataset = xarray.open_dataset(
            source, mask_and_scale=False, decode_times=False, decode_timedelta=False, chunks=None, cache=False, **options
        )
        if options["engine"] == "zarr":
            _unmask_zero(stored, source)
        decoded: Dataset = xarray.decode_cf(stored, decode_times=False, decode_timedelta=False)
    return decoded


def _unmask_zero(stored: Dataset, source: ZarrStore) -> None:
    """Take a Zarr 2 fill value of 0 for a number: it is what Zarr writes by default, not a code for missing values.

    xarray writes its `_FillValue` there too, so it is kept for packed values, which nobody else has.
    """
    group = zarr.open_group(source, mode="r")
    if group.metadata.zarr_format != 2:
        return
    for name, variable in stored.variables.items():
        facts = variable.attrs
        packed = {"scale_factor", "add_offset"} & facts.keys()
        if np.all(facts.get("_FillValue") == 0) and not packed and "_FillValue" not in dict(group[str(name)].attrs):
            del facts["_FillValue"]
            facts[_ZERO] = "a number"


def _engine(path: Path) -> str:
    with open(path, "rb") as stream:
        head = stream.read(4)
    if head not in _SIGNS:
        raise DataError(f"{path.name}: not a NetCDF file; expected NetCDF-3 or NetCDF-4, or a Zarr folder or zip")
    if _SIGNS[head] == "h5netcdf":
        _ = h5netcdf.File  # if it is not installed, this error is clearer than xarray's
        check_hdf5(path)
        _check_own(path)
    return _SIGNS[head]


def _check_own(path: Path) -> None:
    """Raise DataError if values are in another file than this HDF5 one: HDF5 would read any file that a link names."""

    def elsewhere(name: str, thing: object) -> str | None:
        out = isinstance(thing, h5py.ExternalLink) or (
            isinstance(thing, h5py.Dataset) and bool(thing.external or thing.is_virtual)
        )
        return name if out else None

    with h5py.File(path, "r") as file:
        if name := file.visititems_links(elsewhere) or file.visititems(elsewhere):
            raise DataError(f"{path.name}: {name} is a link to another file; expected the values in this file")


def _digest_folder(folder: Path) -> str:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    small = sum(f.stat().st_size for f in files) < _SMALL
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
        if small or file.name in _ZARR_FACTS:
            found.update(file.read_bytes())
    return found.hexdigest()


# Variables and axes


def _variables(dataset: Dataset, reading: Reading, name: str) -> tuple[str, ...]:
    """The requested variables, or the only one that can be frames."""
    there = {str(key): variable for key, variable in dataset.data_vars.items()}
    shown = listed(f"{key} ({listed(variable.dims)})" for key, variable in there.items()) or "no variables"
    requested = [reading.variable] if reading.variable in there else [word.strip() for word in reading.variable.split(",")]
    if reading.variable:
        for word in requested:
            if word not in there:
                raise DataError(f"{name}: no variable '{word}'; available: {shown}{nearest(word, there)}")
        return tuple(requested)
    fit = [key for key, v in there.items() if v.dtype.kind in "fiub" and len(_roles(dataset, key, reading, name)) == 3]
    if len(fit) > 1:
        raise DataError(f"{name}: has {len(fit)} variables with time, row and column axes: {listed(fit)}; set variable to one")
    if not fit and not reading.axes:
        fit = [key for key, v in there.items() if v.dtype.kind in "fiub" and _is_flat(dataset, key, name)]
        if len(fit) > 1:
            raise DataError(f"{name}: has {len(fit)} variables with row and column axes: {listed(fit)}; set variable to one")
    if not fit:
        raise DataError(f"{name}: no variable has time, row and column axes; available: {shown}; set variable and axes")
    return tuple(fit)


def _common_roles(dataset: Dataset, names: tuple[str, ...], reading: Reading, name: str) -> dict[str, str]:
    """Axis names by role (time, row, column), shared by all the variables."""
    roles = _roles(dataset, names[0], reading, name)
    for variable in names:
        axes = listed(dataset[variable].dims)
        if dataset[variable].dtype.kind not in "fiub":
            raise DataError(f"{name}: {variable} has type {dataset[variable].dtype}, expected numbers")
        if absent := [role for role in _USUAL if role not in roles]:
            expected = f"expected one for {absent[0]} such as {listed(_USUAL[absent[0]][:4])}; set axes to identify it"
            raise DataError(f"{name}: {variable} has the axes {axes}; {expected}")
        if _roles(dataset, variable, reading, name) != roles:
            raise DataError(
                f"{name}: {variable} has axes {axes}, but {names[0]} has {listed(dataset[names[0]].dims)}; expected the same"
            )
    return roles


def _roles(dataset: Dataset, variable: str, reading: Reading, name: str) -> dict[str, str]:
    """A variable's axis names by role (time, row, column), for the roles that were found."""
    axes = [str(axis) for axis in dataset[variable].dims]
    if reading.axes:
        words = reading.axes.split()
        if len(words) != len(axes) and not reading.variable:
            return {}  # `axes` does not describe this variable
        if len(words) != len(axes) or not set(words) <= {*_USUAL, "channel"}:
            expected = f"expected one role per axis of {variable} ({listed(axes)}), out of {listed(_USUAL)} and channel"
            raise UserError(f"{name}: axes '{reading.axes}': {expected}")
        return {word: axis for word, axis in zip(words, axes, strict=True) if word != "channel"}
    roles: dict[str, str] = {}
    for role, usual in _USUAL.items():
        marked = [axis for axis in axes if _is_marked(dataset, axis, role)]
        named = [axis for word in usual for axis in axes if axis.lower() == word]
        if found := [axis for axis in (*marked, *named) if axis not in roles.values()]:
            roles[role] = found[0]
    return roles


def _is_marked(dataset: Dataset, axis: str, role: str) -> bool:
    """Whether the attributes of an axis's coordinate identify it as the axis for time, row or column."""
    letter, standard, units = _MARKS[role]
    facts = dataset.variables[axis].attrs if axis in dataset.variables else {}
    stated = str(facts.get("units", ""))
    return facts.get("axis") == letter or facts.get("standard_name") in standard or any(unit in stated for unit in units)


def _labels(dataset: Dataset, variable: str, roles: dict[str, str], *, alone: bool) -> list[str]:
    """Channel names of a variable: its own name, or the values along its other axes."""
    further = [str(a) for a in dataset[variable].dims if a not in roles.values() and dataset.sizes[a] > 1]
    words = [[f"{axis}={_word(value)}" for value in dataset[axis].values] for axis in further]
    labels = [" ".join(one) for one in product(*words)]
    return [variable] if labels == [""] else labels if alone else [f"{variable} {label}" for label in labels]


def _word(value: object) -> str:
    return f"{float(value):.10g}" if isinstance(value, np.number) else str(value)


def _coordinates(dataset: Dataset, axis: str) -> NDArray[np.float64] | None:
    there = axis in dataset.variables and dataset.variables[axis].dtype.kind in "fiu"
    return dataset.variables[axis].values.astype(np.float64) if there else None


def _axis_words(dataset: Dataset, axis: str) -> str:
    """Name and unit of an axis that has coordinates: "latitude (degrees_north)"."""
    if axis not in dataset.variables:
        return ""
    unit = str(dataset.variables[axis].attrs.get("units", ""))
    return f"{axis} ({unit})" if unit else axis


def _times(dataset: Dataset, axis: str, name: str) -> Moments | None:
    """The times of the frames, if the axis's coordinate or another variable along it counts since a date; else None."""
    along = [str(k) for k, v in dataset.variables.items() if v.dims == (axis,) and _counts(v.attrs)]
    if not along:
        return None
    chosen = axis if axis in along else along[0]
    facts = dataset.variables[chosen].attrs
    values = dataset.variables[chosen].values
    return moments(values, str(facts["units"]), str(facts.get("calendar", "")), f"{name}: {chosen}")


def _counts(facts: Mapping[str, object]) -> bool:
    return " since " in str(facts.get("units", "")).lower()


def _with_time(dataset: Dataset, names: tuple[str, ...], reading: Reading, name: str) -> Dataset:
    """The dataset with an axis of one frame, if its variables have none: a file of one frame, with a scalar time or without."""
    if reading.axes or any("time" in _roles(dataset, v, reading, name) or not _is_flat(dataset, v, name) for v in names):
        return dataset
    scalars = [str(k) for k, v in dataset.variables.items() if not v.dims and _counts(v.attrs)]
    named = sorted(scalars, key=lambda word: _USUAL["time"].index(word) if word in _USUAL["time"] else len(scalars) + 99)
    if not named:
        return dataset.expand_dims("time") if "time" not in dataset.variables else dataset.drop_vars("time").expand_dims("time")
    one = dataset.set_coords(named[0])
    return one.expand_dims(named[0])


def _is_flat(dataset: Dataset, variable: str, name: str) -> bool:
    """Whether a variable has rows and columns, and besides them only axes of size 1 or of levels."""
    roles = _roles(dataset, variable, Reading(), name)
    others = [str(axis) for axis in dataset[variable].dims if axis not in roles.values()]
    return {"row", "column"} <= roles.keys() and all(dataset.sizes[axis] == 1 or axis.lower() in _LEVELS for axis in others)


# What the variables state, and what is doubtful


def _where_valid(variable: DataArray, values: NDArray[np.number]) -> NDArray[np.number]:
    """Decoded values, NaN where they are outside the valid range or where NetCDF never wrote a float."""
    low, high = _valid(variable)
    if values.dtype.kind == "f" and not {"_FillValue", "missing_value"} & variable.encoding.keys():
        unwritten = values == np.asarray(_NEVER_WRITTEN, values.dtype)
        values = np.where(unwritten, np.nan, values) if unwritten.any() else values
    if low == -np.inf and high == np.inf:
        return values
    kept: NDArray[np.number] = np.where((values >= low) & (values <= high), values, np.nan)
    return kept


def _valid(variable: DataArray) -> tuple[float, float]:
    """The lowest and highest valid value, from valid_range, valid_min and valid_max, in the unit of the decoded values.

    Limits of packed values are packed too, unless they are floats (NetCDF user guide, appendix A).
    """
    facts, packing = variable.attrs, variable.encoding
    low, high = facts.get("valid_min", -np.inf), facts.get("valid_max", np.inf)
    if "valid_range" in facts and np.size(facts["valid_range"]) == 2:
        low, high = facts["valid_range"]
    try:
        ends = np.array([np.asarray(end).reshape(()) for end in (low, high)], np.float64)
    except (ValueError, TypeError):
        raise DataError(f"{variable.name}: valid range {low} to {high}: expected two numbers") from None
    stored = np.dtype(packing.get("dtype", variable.dtype))
    kinds = {np.asarray(end).dtype.kind for end in (low, high) if np.isfinite(np.float64(end))}
    if stored.kind in "iu" and kinds <= {"i", "u"} and {"scale_factor", "add_offset"} & packing.keys():
        if str(packing.get("_Unsigned", "")).lower() == "true":
            ends = np.where(ends < 0, ends + 2.0 ** (8 * stored.itemsize), ends)
        scale, offset = float(packing.get("scale_factor", 1.0)), float(packing.get("add_offset", 0.0))
        ends = np.sort(ends * scale + offset) + np.array([-0.5, 0.5]) * abs(scale)  # the decoded values are rounded
    elif variable.dtype.kind == "f":
        ends = ends.astype(variable.dtype).astype(np.float64)
    return float(ends[0]), float(ends[1])


def _stated(dataset: Dataset, names: tuple[str, ...], roles: dict[str, str]) -> dict[str, str]:
    """What the file states of the frames, for the user: variable, axes by role, fill value, valid range and packing."""
    first = dataset[names[0]]
    attrs = {"variable": listed(names), "axes": listed(f"{role} {axis}" for role, axis in roles.items())}
    attrs |= {FILE_UNIT: str(first.attrs["units"])} if "units" in first.attrs else {}
    if "_FillValue" in first.encoding:
        attrs["fill value"] = f"{np.asarray(first.encoding['_FillValue']).ravel()[0]:g}"
    low, high = _valid(first)
    if np.isfinite([low, high]).any():
        attrs["valid range"] = f"{low:g} to {high:g}"
    return attrs


def _doubts(
    dataset: Dataset,
    names: tuple[str, ...],
    roles: dict[str, str],
    channels: tuple[str, ...],
    place: str,
    *,
    zero_is_missing: bool,
) -> list[str]:
    """Notes on what was guessed: a fill value taken for a number, an axis whose values became channels."""
    notes = []
    for name in names:
        if _ZERO in dataset[name].attrs and not zero_is_missing:
            notes.append(
                f"{place}: {name} has Zarr's default fill value 0, taken for the number 0; if 0 marks missing values, "
                "set series.missing=[0]"
            )
    further = [str(a) for a in dataset[names[0]].dims if a not in roles.values() and dataset.sizes[a] > 1]
    for axis in further:
        notes.append(
            f"{place}: the {dataset.sizes[axis]} values along axis '{axis}' are taken for channels; if they are versions or "
            f'members of an ensemble, keep one, as in series.channels=["{channels[0]}"]'
        )
    return notes


def _stretch_names(stem: str, starts: Ints, times: Seconds | None) -> list[str]:
    return [stem] if times is None or len(starts) == 1 else [f"{stem} from {time_word(times[i])}" for i in starts]
