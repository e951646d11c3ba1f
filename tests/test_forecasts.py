"""Forecasts as files: every ending, read back; nothing half-written; mistakes said at once."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wavefold.core.errors import DataError, UserError
from wavefold.data.series_options import Reading
from wavefold.data.series_reader import read_series
from wavefold.tasks.frames.forecasts import Forecasts, check_forecast_target, forecast_columns, write_forecasts

START = 1551830400.0  # 2019-03-06 00:00 UTC
NUMBERS = np.arange(2 * 2 * 3 * 2 * 4, dtype=np.float32).reshape(2, 2, 3, 2, 4) / 8


def made(**changes: object) -> Forecasts:
    """Two forecasts of two channels, three leads of an hour, on 2 x 4 cells; one cell has no value."""
    frames = NUMBERS.copy()
    frames[1, 1, 2, 1, 3] = np.nan
    clock = START + np.array([[0.0, 3600, 7200], [86400, 90000, 93600]])
    whole = Forecasts(
        frames,
        clock,
        np.array(["north, 50%", "südost"]),
        ("t2m", "2nd rain/h"),
        "°C",
        3600.0,
        np.array([58.0, 57.75]),
        np.array([-10.0, -9.75, -9.5, -9.25]),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def bare() -> Forecasts:
    """One forecast of one frame without times, coordinates, unit or value."""
    return Forecasts(np.full((1, 1, 1, 2, 3), np.nan, np.float32), None, np.array(["a"]), ("value",))


def test_npz_and_npy_hold_the_frames_and_what_names_them(tmp_path):
    write_forecasts(tmp_path / "a.npz", made())
    with np.load(tmp_path / "a.npz", allow_pickle=False) as held:
        np.testing.assert_array_equal(held["frames"], made().frames)
        assert held["time"].dtype == "datetime64[s]"
        assert held["time"][1, 2] == np.datetime64("2019-03-07T02:00:00")
        assert held["names"].tolist() == ["north, 50%", "südost"]
        assert held["channels"].tolist() == ["t2m", "2nd rain/h"]
        assert held["unit"] == "°C"
        assert held["step"] == 3600
        assert held["rows"].tolist() == [58.0, 57.75]
    write_forecasts(tmp_path / "a.npy", made())
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), made().frames)
    write_forecasts(tmp_path / "b.npz", bare())
    with np.load(tmp_path / "b.npz", allow_pickle=False) as held:
        assert not {"time", "rows", "columns"} & set(held)


def test_csv_comes_back_as_it_went(tmp_path, capfdbinary):
    write_forecasts(tmp_path / "a.csv", made())
    text = (tmp_path / "a.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0] == {
        **{"name": "north, 50%", "time": "2019-03-06T00:00:00", "lead": "1", "channel": "t2m"},
        **{"row": "58", "column": "-10", "value": "0"},
    }
    assert rows[-1]["value"] == ""  # no value is an empty field
    values = np.array([float(row["value"] or "nan") for row in rows], np.float32).reshape(NUMBERS.shape)
    np.testing.assert_array_equal(values, made().frames)
    columns = forecast_columns(made())
    assert list(columns) == list(rows[0])
    for name in ("name", "channel"):
        assert columns[name].tolist() == [row[name] for row in rows]
    for name in ("lead", "row", "column"):
        assert columns[name].tolist() == [float(row[name]) for row in rows]
    assert np.datetime_as_string(columns["time"]).tolist() == [row["time"] for row in rows]
    write_forecasts("-", made())
    assert capfdbinary.readouterr().out.decode() == text


def test_a_table_without_times_or_coordinates_counts_rows_from_0(tmp_path):
    write_forecasts(tmp_path / "a.csv", bare())
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == "name,lead,channel,row,column,value"
    assert lines[1] == "a,1,value,0,0,"
    assert lines[-1] == "a,1,value,1,2,"


def test_parquet_and_the_spreadsheet_hold_the_same_table(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    openpyxl = pytest.importorskip("openpyxl")
    write_forecasts(tmp_path / "a.parquet", made())
    table = parquet.read_table(tmp_path / "a.parquet").to_pydict()
    assert table["time"][-1].isoformat() == "2019-03-07T02:00:00"
    assert table["value"][:2] == [0.0, 0.125]
    write_forecasts(tmp_path / "a.xlsx", made())
    rows = list(openpyxl.load_workbook(tmp_path / "a.xlsx").active.iter_rows(values_only=True))
    assert list(rows[0]) == list(table)
    assert rows[2] == ("north, 50%", "2019-03-06T00:00:00", 1, "t2m", 58, -9.75, 0.125)
    assert rows[-1][-1] is None
    assert len(rows) == 1 + NUMBERS.size


def test_a_spreadsheet_of_too_many_rows_is_refused_in_one_line(tmp_path):
    pytest.importorskip("openpyxl")
    frames = np.zeros((1, 1, 2, 1024, 512), np.float32)  # 2^20 values: one row too many
    with pytest.raises(
        DataError, match=r"^a spreadsheet holds at most 1,048,575 rows, but this table has 1,048,576; write \.csv"
    ):
        write_forecasts(tmp_path / "a.xlsx", Forecasts(frames, None, np.array(["a"]), ("v",)))
    assert list(tmp_path.iterdir()) == []


def test_netcdf_opens_in_xarray_with_times_and_coordinates(tmp_path):
    xarray = pytest.importorskip("xarray")
    write_forecasts(tmp_path / "a.nc", made())
    with xarray.open_dataset(tmp_path / "a.nc", engine="scipy") as held:
        assert set(held.data_vars) == {"t2m", "channel_2nd_rain_h"}
        assert held["t2m"].dims == ("time", "row", "column")  # one forecast ends before the next begins
        assert held["t2m"].attrs["units"] == "°C"
        np.testing.assert_array_equal(held["channel_2nd_rain_h"], made().frames[:, 1].reshape(6, 2, 4))
        assert held["time"].values[5] == np.datetime64("2019-03-07T02:00:00")
        assert held["row"].values.tolist() == [58.0, 57.75]
        assert held["lead"].values.tolist() == [1, 2, 3, 1, 2, 3]
        assert held["name"].values.tolist() == ["north, 50%"] * 3 + ["südost"] * 3
        assert held.attrs["step_seconds"] == 3600
    together = made(clock=START + np.array([[0.0, 3600, 7200]] * 2))
    write_forecasts(tmp_path / "c.nc", together)
    with xarray.open_dataset(tmp_path / "c.nc", engine="scipy") as held:
        assert held["t2m"].dims == ("sample", "lead", "row", "column")
        np.testing.assert_array_equal(held["channel_2nd_rain_h"], made().frames[:, 1])
        assert held["time"].values[1, 2] == np.datetime64("2019-03-06T02:00:00")
        assert held["lead"].values.tolist() == [1, 2, 3]
        assert held["name"].values.tolist() == ["north, 50%", "südost"]
    write_forecasts(tmp_path / "b.nc", replace(bare(), channels=("row",)))
    with xarray.open_dataset(tmp_path / "b.nc", engine="scipy") as held:
        assert list(held.data_vars) == ["row_0"]
        assert np.isnan(held["row_0"].values).all()


def test_netcdf_has_the_axes_of_its_source_and_is_read_again(tmp_path):
    xarray = pytest.importorskip("xarray")
    first = {"names": np.array(["a"]), "frames": NUMBERS[:1], "clock": START + np.array([[0.0, 3600, 7200]])}
    one = made(up="latitude (degrees_north)", across="lon (degrees)", **first)
    write_forecasts(tmp_path / "a.nc", one)
    with xarray.open_dataset(tmp_path / "a.nc", engine="scipy") as held:
        assert held["t2m"].dims == ("time", "latitude", "lon")
        facts = {name: held[name].attrs for name in ("latitude", "lon")}
        assert facts["latitude"] == {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}
        assert facts["lon"] == {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}
        assert held["time"].attrs == {"standard_name": "time", "axis": "T"}
        there = held["t2m"].sel(latitude=57.7, lon=-9.3, time="2019-03-06T01:00", method="nearest")
        assert float(there) == NUMBERS[0, 0, 1, 1, 3]
    series = read_series(tmp_path / "a.nc", Reading(variable="t2m,channel_2nd_rain_h"))
    np.testing.assert_array_equal(series.frames, NUMBERS[0].swapaxes(0, 1))
    assert (series.unit, series.step, series.up) == ("°C", 3600.0, "latitude (degrees_north)")
    assert series.times.tolist() == [START, START + 3600, START + 7200]
    assert (series.rows.tolist(), series.columns.tolist()) == (one.rows.tolist(), one.columns.tolist())
    write_forecasts(tmp_path / "b.nc", replace(one, clock=None, rows=None, columns=None, up="", across=""))
    assert read_series(tmp_path / "b.nc", Reading(variable="t2m")).frames.shape == (3, 1, 2, 4)


@pytest.mark.parametrize("forecasts", [made(), bare(), replace(bare(), past=np.zeros((1, 1, 2, 2, 3), np.float32))])
def test_pictures_and_animations_are_written(tmp_path, forecasts):
    pytest.importorskip("matplotlib")
    write_forecasts(tmp_path / "a.png", forecasts)
    write_forecasts(tmp_path / "a.gif", forecasts)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "a.gif").read_bytes()[:6] == b"GIF89a"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_target_is_judged_before_the_work(tmp_path):
    with pytest.raises(UserError, match=r"a\.npx: '\.npx' is not one of .*; did you mean '\.np[yz]'\?"):
        check_forecast_target(tmp_path / "a.npx")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"):
        check_forecast_target(tmp_path / "file" / "a.csv")
    (tmp_path / "folder.nc").mkdir()
    with pytest.raises(UserError, match="this is a folder"):
        check_forecast_target(tmp_path / "folder.nc")
    for good in ("-", tmp_path / "a.NC", tmp_path / "new" / "deep" / "a.csv"):
        check_forecast_target(good)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("suffix", [".csv", ".nc", ".npz"])
def test_nothing_is_left_of_a_file_that_failed(tmp_path, suffix, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path: Path = tmp_path / f"a{suffix}"
    with pytest.raises(UserError, match="could not be written: No space left"):
        write_forecasts(path, made())
    assert list(tmp_path.iterdir()) == []


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(DataError, match=r"names has shape \(1,\), expected \(2,\)"):
        made(names=np.array(["a"]))
    with pytest.raises(DataError, match=r"rows has shape \(3,\), expected \(2,\)"):
        made(rows=np.arange(3.0))
