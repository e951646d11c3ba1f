"""NetCDF and Zarr become series: axes found and put in order, packed values unpacked, large files read in pieces."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from wavefold.core.errors import DataError, UserError
from wavefold.data.lazy import Lazy
from wavefold.data.series import Series
from wavefold.data.series_options import Reading
from wavefold.domains.maps import grid
from wavefold.domains.maps.grid import read_grid

xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
pytest.importorskip("zarr")

HOURS = np.datetime64("2020-01-01", "ns") + np.arange(6) * np.timedelta64(1, "h")
KINDS = ("netcdf4", "netcdf3", "zarr2", "zarr3", "zip")
AXES = ("time", "lat", "lon")
VALUES = np.arange(6 * 2 * 3, dtype=np.float32).reshape(6, 2, 3)


def dataset(times: np.ndarray = HOURS, **variables: tuple[Sequence[str], np.ndarray]) -> xarray.Dataset:
    variables = variables or {"t2m": (AXES, VALUES)}
    made = xarray.Dataset(variables, {"time": times, "lat": [51.0, 50.0], "lon": [0.0, 1.0, 2.0]})
    for name in variables:
        made[name].attrs["units"] = "K"
    return made


def written(data: xarray.Dataset, folder: Path, kind: str = "netcdf4") -> Path:
    if kind.startswith("netcdf"):
        data.to_netcdf(folder / "grid.nc", engine="h5netcdf" if kind == "netcdf4" else "scipy")
        return folder / "grid.nc"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the writer, on what version 3 leaves open
        data.to_zarr(folder / "grid.zarr", zarr_format=2 if kind == "zarr2" else 3, consolidated=False)
    return (
        Path(shutil.make_archive(str(folder / "grid"), "zip", folder / "grid.zarr")) if kind == "zip" else folder / "grid.zarr"
    )


def read(data: xarray.Dataset, folder: Path, **reading: object) -> Series:
    return read_grid(written(data, folder), Reading(**reading))


@pytest.mark.parametrize("kind", KINDS)
def test_frames_times_and_coordinates_are_read(tmp_path: Path, kind: str) -> None:
    series = read_grid(written(dataset(), tmp_path, kind), Reading())
    np.testing.assert_array_equal(series.frames, VALUES[:, None])
    assert isinstance(series.frames, np.ndarray)
    assert series.frames.dtype == np.float32
    assert (series.channels, series.unit, series.step, series.names.tolist()) == (("t2m",), "K", 3600.0, ["grid"])
    assert (series.times == HOURS.astype("M8[s]").astype(np.int64)).all()
    assert (series.rows.tolist(), series.columns.tolist()) == ([51, 50], [0, 1, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_packed_values_are_unpacked_and_fill_values_are_none(tmp_path: Path, kind: str) -> None:
    values = VALUES.copy()
    values[1, 0, 0] = np.nan
    data = dataset(t2m=(AXES, values))
    data["t2m"].encoding = {"dtype": "i2", "scale_factor": 0.5, "add_offset": 10.0, "_FillValue": -99}
    np.testing.assert_allclose(read_grid(written(data, tmp_path, kind), Reading()).frames[:, 0], values)


@pytest.mark.parametrize("kind", KINDS)
def test_large_files_are_read_frame_by_frame_also_in_another_process(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "_SMALL", 0)
    frames = read_grid(written(dataset(), tmp_path, kind), Reading()).frames
    assert isinstance(frames, Lazy)
    assert frames.shape == (6, 1, 2, 3)
    for index in (slice(2, 5), np.array([4, 1, 1, 5]), np.array([3, 2]), 2):
        np.testing.assert_array_equal(frames[index], VALUES[:, None][index])
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as a child sees it: the parent's handle is not its own
    np.testing.assert_array_equal(frames[:], VALUES[:, None])


def test_axes_are_put_in_order_and_further_ones_become_channels(tmp_path: Path) -> None:
    values = np.arange(3 * 2 * 1 * 6 * 2, dtype=np.float32).reshape(3, 2, 1, 6, 2)  # lon, lat, member, time, level
    data = dataset(z=(("lon", "lat", "member", "time", "level"), values)).assign_coords(level=[500, 850])
    series = read(data, tmp_path)
    assert series.channels == ("level=500", "level=850")
    np.testing.assert_array_equal(series.frames, values[:, :, 0].transpose(2, 3, 1, 0))


def test_axes_with_odd_names_are_told_by_attributes_or_by_the_reader(tmp_path: Path) -> None:
    odd = dataset().rename({"lat": "a", "lon": "b", "time": "c"})
    odd["a"].attrs["units"], odd["b"].attrs["axis"] = "degrees_north", "X"
    np.testing.assert_array_equal(read(odd, tmp_path).frames[:, 0], VALUES)
    odd["a"].attrs.clear()
    with pytest.raises(DataError, match=r"grid.nc: t2m has the axes c, a, b; expected one for row such as latitude, lat"):
        read(odd, tmp_path, variable="t2m")
    with pytest.raises(DataError, match=r"no variable has time, row and column axes; available: t2m \(c, a, b\)"):
        read(odd, tmp_path)
    assert read(odd, tmp_path, axes="time row column").size == (2, 3)
    with pytest.raises(UserError, match=r"axes 'time row': expected one role per axis of t2m \(c, a, b\)"):
        read(odd, tmp_path, variable="t2m", axes="time row")


def test_times_may_stand_beside_their_axis_and_have_gaps(tmp_path: Path) -> None:
    steps = dataset().rename_dims(time="step").reset_index("time").reset_coords("time").rename(time="valid_time")
    assert read(steps, tmp_path).step == 3600.0
    times = HOURS.copy()
    times[4:] += np.timedelta64(5, "h")
    gap = read(dataset(times), tmp_path)
    assert gap.starts.tolist() == [0, 4]
    assert gap.names.tolist() == ["grid from 2020-01-01 00:00", "grid from 2020-01-01 09:00"]
    assert "1 gap in time" in gap.notes[0]
    months = np.arange("2020-01", "2020-07", dtype="M8[M]").astype("M8[ns]")
    assert read(dataset(months), tmp_path).notes == ()
    bare = read(dataset().drop_vars("time"), tmp_path)
    assert (bare.times, bare.step) == (None, 0.0)
    with pytest.raises(DataError, match=r"grid.nc frame 1: its time .* is not after"):
        read(dataset(HOURS[::-1]), tmp_path)


def test_several_variables_of_the_same_axes_are_channels(tmp_path: Path) -> None:
    data = dataset(t2m=(AXES, VALUES), msl=(AXES, -VALUES), mean=(("lat", "lon"), VALUES[0]))
    data["msl"].attrs["units"] = "Pa"
    series = read(data, tmp_path, variable="msl, t2m")
    assert (series.channels, series.unit) == (("msl", "t2m"), "Pa, K")
    np.testing.assert_array_equal(series.frames, np.stack([-VALUES, VALUES], axis=1))
    assert read(data, tmp_path, variable="t2m", unit="kelvin").unit == "kelvin"
    with pytest.raises(DataError, match=r"has 2 variables with time, row and column axes: t2m, msl; set variable to one"):
        read(data, tmp_path)
    there = r"t2m \(time, lat, lon\), msl \(time, lat, lon\), mean \(lat, lon\)"
    said = rf"no variable 't2n'; available: {there}; did you mean 't2m'\?"
    with pytest.raises(DataError, match=said):
        read(data, tmp_path, variable="t2n")
    with pytest.raises(DataError, match="mean has axes lat, lon, but t2m has time, lat, lon; expected the same"):
        read(data, tmp_path, variable="t2m,mean")


def test_calendars_that_are_not_the_usual_one_are_refused(tmp_path: Path) -> None:
    data = dataset(np.arange(6))
    data["time"].attrs.update(units="days since 2000-01-01", calendar="360_day")
    with pytest.raises(DataError, match="time counts 'days since 2000-01-01' in the calendar '360_day', expected days"):
        read(data, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_broken_sources_are_one_line(tmp_path: Path, kind: str) -> None:
    path = written(dataset(), tmp_path, kind)
    if path.is_dir():
        next(f for f in path.iterdir() if f.name in ("zarr.json", ".zgroup")).write_text("{")
    else:
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"grid.\w+: cannot be read: .*; it may be truncated or corrupt") as caught:
        read_grid(path, Reading())
    assert "\n" not in str(caught.value)


def test_other_files_are_no_grids(tmp_path: Path) -> None:
    (tmp_path / "grid.nc").write_text("hello")
    with pytest.raises(DataError, match=r"grid.nc: not a NetCDF file; expected NetCDF-3 or NetCDF-4"):
        read_grid(tmp_path / "grid.nc", Reading())
    with pytest.raises(DataError, match=r"grid.nc: word has type .*, expected numbers"):
        read(dataset(word=(AXES, np.full(VALUES.shape, "a"))), tmp_path, variable="word")
    with pytest.raises(DataError, match="has 0 frames of 2 x 3 cells, expected 1 or more"):
        read(dataset().isel(time=slice(0)), tmp_path)


@pytest.mark.parametrize("kind", ["link", "virtual", "external"])
def test_values_that_stand_in_another_file_are_not_read(tmp_path: Path, kind: str) -> None:
    h5py = pytest.importorskip("h5py")
    other = written(dataset(), tmp_path).rename(tmp_path / "other.nc")
    (tmp_path / "raw").write_bytes(bytes(4 * VALUES.size))
    path = written(dataset(), tmp_path)
    with h5py.File(path, "a") as file:
        if kind == "link":
            file["strange"] = h5py.ExternalLink("other.nc", "/t2m")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(VALUES.shape, "f4")
            layout[:] = h5py.VirtualSource(str(other), "t2m", VALUES.shape)
            file.create_virtual_dataset("strange", layout)
        else:
            file.create_dataset("strange", VALUES.shape, "f4", external=str(tmp_path / "raw"))
    with pytest.raises(DataError, match=r"grid.nc: strange is a link to another file; expected the values in this file"):
        read_grid(path, Reading(variable="strange"))


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, package in (("netcdf4", "h5netcdf"), ("zarr3", "zarr"), ("netcdf3", "xarray")):
        path = written(dataset(), tmp_path, kind)
        with monkeypatch.context() as patch:
            for name in [n for n in sys.modules if n.split(".")[0] == package]:
                patch.setitem(sys.modules, name, None)
            with pytest.raises(UserError, match=rf"needs the package {package}.*pip install 'wavefold\[grids\]'"):
                read_grid(path, Reading())


def test_the_digest_follows_the_values(tmp_path: Path) -> None:
    for kind in ("netcdf3", "zarr3"):
        folders = [tmp_path / f"{kind}-{i}" for i in range(3)]
        for folder, more in zip(folders, (0, 0, 1), strict=True):
            folder.mkdir()
            written(dataset(t2m=(AXES, VALUES + more)), folder, kind)
        one, same, other = (read_grid(next(folder.iterdir()), Reading()).digest for folder in folders)
        assert one == same != other
