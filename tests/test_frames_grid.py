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
from wavefold.data import hdf5
from wavefold.data.hdf5 import check_hdf5
from wavefold.data.lazy import Lazy
from wavefold.data.series import Series
from wavefold.data.series_options import Reading
from wavefold.data.series_reader import read_series
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


@pytest.mark.parametrize("calendar", ["360_day", "noleap", "365_day", "all_leap"])
def test_calendars_with_other_dates_keep_order_step_and_gaps_and_say_so(tmp_path: Path, calendar: str) -> None:
    data = dataset(np.array([0, 1, 2, 3, 8, 9]))
    data["time"].attrs.update(units="days since 2000-01-01", calendar=calendar)
    series = read(data, tmp_path)
    assert (series.times, series.step, series.starts.tolist()) == (None, 86400.0, [0, 4])
    assert f"in the calendar '{calendar}'" in series.notes[0]
    assert "1 gap in time, between day 3 and day 8" in series.notes[1]
    assert series.attrs["calendar"] == calendar
    data = data.isel(time=slice(None, None, -1))
    with pytest.raises(DataError, match="its time day 8 is not after day 9"):
        read(data, tmp_path)


@pytest.mark.parametrize(
    ("units", "calendar", "first"),
    [
        ("days since 1-1-1 00:00:0.0", "standard", "1991-06-16T00:00:00"),  # Julian before 1582, as CF has it
        ("days since 1-1-1 00:00:0.0", "proleptic_gregorian", "1991-06-18T00:00:00"),
        ("days since 0001-01-01", "julian", "1991-06-16T00:00:00"),
        ("days since 0001-01-01T06:30Z", "gregorian", "1991-06-16T06:30:00"),
        ("hours since 1908-01-01 01:00:00 +01:00", "", "1990-12-07T16:00:00"),
        ("Minutes since 1970-01-01 UTC", "Standard", "1971-05-20T20:40:00"),
    ],
)
def test_times_are_those_of_their_calendar(tmp_path: Path, units: str, calendar: str, first: str) -> None:
    data = dataset(727000 + np.arange(6))
    data["time"].attrs.update(units=units, **({"calendar": calendar} if calendar else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        series = read(data, tmp_path)
    assert str(np.datetime64(int(series.times[0]), "s")) == first


@pytest.mark.parametrize(
    ("units", "calendar", "said"),
    [
        ("months since 1990-01-01", "", "expected seconds, minutes, hours, days or weeks since a date"),
        ("days since 1990-13-01", "", "which begins at no date"),
        ("days since 1990-01-01", "maya", "expected the calendar standard, proleptic_gregorian, julian, noleap or 360_day"),
        ("weeks since 9000-01-01", "", "is outside the years 1 to 9999"),
    ],
)
def test_times_that_cannot_be_told_are_one_line(tmp_path: Path, units: str, calendar: str, said: str) -> None:
    data = dataset(100000 + np.arange(6))
    data["time"].attrs.update(units=units, **({"calendar": calendar} if calendar else {}))
    with pytest.raises(DataError, match=said):
        read(data, tmp_path)


@pytest.mark.parametrize("version", [2, 3])
def test_zero_as_the_default_fill_value_of_zarr_is_a_number(tmp_path: Path, version: int) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "rain.zarr", mode="w", zarr_format=version)
    rain = np.array([[[0, 1], [0, 2]], [[3, 0], [0, 0]]], np.float32)
    for name, values, dims in (("rain", rain, AXES), ("lat", np.arange(2.0), ("lat",)), ("lon", np.arange(2.0), ("lon",))):
        more = {"dimension_names": dims} if version == 3 else {}
        array = group.create_array(name, shape=values.shape, dtype=values.dtype, fill_value=0, **more)
        array[:] = values
        array.attrs.update({"_ARRAY_DIMENSIONS": list(dims)} if version == 2 else {})
    series = read_grid(tmp_path / "rain.zarr", Reading())
    np.testing.assert_array_equal(series.frames[:, 0], rain)
    assert (series.rows.tolist(), series.columns.tolist()) == ([0, 1], [0, 1])
    assert any("set series.missing=[0]" in note for note in series.notes) == (version == 2)
    assert np.isnan(read_series(tmp_path / "rain.zarr", Reading(missing=(0.0,))).frames).sum() == 5
    group["rain"].attrs["_FillValue"] = 0.0 if version == 2 else "AAAAAAAAAAA="
    if version == 2:
        assert np.isnan(read_grid(tmp_path / "rain.zarr", Reading()).frames).sum() == 5


def test_a_fill_value_that_xarray_wrote_into_zarr_is_missing(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[0, 0, 0] = np.nan
    data = dataset(t2m=(AXES, values))
    data["t2m"].encoding = {"dtype": "u1", "scale_factor": 0.5, "_FillValue": 0}
    assert np.isnan(read_grid(written(data, tmp_path, "zarr2"), Reading()).frames).sum() == 1


@pytest.mark.parametrize("kind", ["netcdf3", "netcdf4", "zarr2"])
@pytest.mark.parametrize(
    "facts", [{"valid_range": np.array([2.0, 30.0])}, {"valid_min": 2.0, "valid_max": 30.0}, {"valid_min": np.float32(2.0)}]
)
def test_values_outside_the_valid_range_are_missing(tmp_path: Path, kind: str, facts: dict[str, object]) -> None:
    data = dataset(t2m=(AXES, np.where(VALUES == 35, -9999, VALUES).astype(np.float32)))
    data["t2m"].attrs.update(facts)
    series = read_grid(written(data, tmp_path, kind), Reading())
    expected = (VALUES < 2) | (VALUES == 35) | ((VALUES > 30) & ("valid_min" not in facts or "valid_max" in facts))
    np.testing.assert_array_equal(np.isnan(series.frames[:, 0]), expected)
    assert series.attrs["valid range"].startswith("2 to ")


def test_a_valid_range_of_packed_values_is_packed_too(tmp_path: Path) -> None:
    data = dataset()
    data["t2m"].encoding = {"dtype": "i2", "scale_factor": 0.1, "add_offset": 10.0, "_FillValue": -999}
    data["t2m"].attrs["valid_range"] = np.array([-100, 150], np.int16)  # 0 to 25
    found = read(data, tmp_path).frames[:, 0]
    np.testing.assert_array_equal(np.isnan(found), VALUES > 25)
    np.testing.assert_allclose(found[VALUES <= 25], VALUES[VALUES <= 25], atol=1e-5)


def test_cells_that_netcdf_never_wrote_are_missing(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[2] = np.float32(9.969209968386869e36)
    data = dataset(t2m=(AXES, values))
    data["t2m"].encoding["_FillValue"] = None
    np.testing.assert_array_equal(np.isnan(read(data, tmp_path).frames[:, 0]), values > 1e36)


def test_an_axis_of_members_is_doubted_and_one_can_be_kept(tmp_path: Path) -> None:
    data = dataset(t2m=(("number", *AXES), np.stack([VALUES, VALUES + 1]))).assign_coords(number=[0, 1])
    series = read(data, tmp_path)
    assert "the 2 values along axis 'number' are taken for channels" in series.notes[0]
    assert 'series.channels=["number=0"]' in series.notes[0]
    one = read_series(tmp_path / "grid.nc", Reading(channels=("number=0",)))
    np.testing.assert_array_equal(one.frames[:, 0], VALUES)


def test_a_file_without_a_time_axis_is_one_frame_at_its_scalar_time(tmp_path: Path) -> None:
    for i, time in enumerate(HOURS):
        one = xarray.Dataset({"rain": (AXES[1:], VALUES[i])}, {"time": time, "lat": [51.0, 50.0], "lon": [0.0, 1.0, 2.0]})
        one.to_netcdf(tmp_path / f"p{i}.nc", engine="scipy" if i % 2 else "h5netcdf")
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.frames[:, 0], VALUES)
    assert (series.starts.tolist(), series.step) == ([0], 3600.0)
    assert (series.times == HOURS.astype("M8[s]").astype(np.int64)).all()


@pytest.mark.parametrize("most", [0, 1 << 30])
def test_a_file_over_which_hdf5_does_not_come_back_is_refused_in_time(tmp_path: Path, monkeypatch, most: int) -> None:
    path = written(dataset(), tmp_path)
    check_hdf5(path, most=most)
    stuck = tmp_path / "stuck.py"
    stuck.write_text("import sys\nsys.stdin.readline()\nwhile True: pass\n")
    monkeypatch.setattr(hdf5, "_PROBE", stuck)
    hdf5._PROBES.stop()
    with pytest.raises(DataError, match=r"grid.nc: cannot be read: HDF5 did not come back within 0.5 seconds"):
        check_hdf5(path, most=most, limit=0.5)
    stuck.write_text("import os\nos.abort()\n")
    with pytest.raises(DataError, match=r"grid.nc: cannot be read: HDF5 crashed"):
        check_hdf5(path, most=most)
    monkeypatch.undo()
    check_hdf5(path, most=most)  # another child


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
