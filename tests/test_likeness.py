"""Frames of another source are put in the order and unit of the run's, or refused by what they state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wavefold.core.errors import UserError
from wavefold.core.records import Identity, RunInfo
from wavefold.data.lazy import Lazy
from wavefold.data.series import Series
from wavefold.recipe import Recipe
from wavefold.tasks.frames.forecasts import Forecasts
from wavefold.tasks.frames.likeness import as_source, like_run

LATITUDES, LONGITUDES = np.array([60.0, 59, 58]), np.array([-10.0, -9.5, -9, -8.5])
FRAMES = np.arange(5 * 2 * 3 * 4, dtype=np.float32).reshape(5, 2, 3, 4)


def made(**changes: object) -> Series:
    whole = Series(
        FRAMES,
        np.zeros(1, np.int64),
        np.array(["a"]),
        step=3600.0,
        channels=("t2m", "d2m"),
        unit="degC",
        rows=LATITUDES,
        columns=LONGITUDES,
        up="latitude (degrees_north)",
        across="longitude (degrees_east)",
        source="new.nc",
    )
    return replace(whole, **changes)  # type: ignore[arg-type]  # any field


def info(**changes: object) -> RunInfo:
    whole = RunInfo(
        recipe="frames",
        identity=Identity(recipe="", data=""),
        source="old.nc",
        simulated=False,
        samples=1,
        shape=(2, 3, 4),
        channels=("t2m", "d2m"),
        targets=1,
        unit="degC",
        step=3600.0,
        rows=tuple(LATITUDES.tolist()),
        columns=tuple(LONGITUDES.tolist()),
        up="latitude (degrees_north)",
        across="longitude (degrees_east)",
    )
    return whole.model_copy(update=changes)


def like(series: Series, run: RunInfo | None = None, **keys: object) -> Series:
    return like_run(series, run or info(), Recipe.load("frames").with_(keys))


def test_frames_like_those_of_the_run_are_left_alone() -> None:
    assert like(made()).frames is FRAMES
    assert like(made()).notes == ()
    old = info(rows=None, columns=None, up="", across="")  # runs of before keep no coordinates
    assert like(made(rows=LATITUDES - 40), old).notes == ()


@pytest.mark.parametrize("lazy", [False, True])
def test_rows_columns_and_channels_are_put_in_the_order_of_the_run(lazy: bool) -> None:
    around = np.array([350.0, 350.5, 351, 351.5])[::-1]
    frames = np.ascontiguousarray(FRAMES[:, ::-1, ::-1, ::-1])
    held = Lazy(lambda at: frames[at], np.arange(5), frames.shape[1:]) if lazy else frames
    series = like(made(frames=held, rows=LATITUDES[::-1], columns=around, channels=("d2m", "t2m")))
    np.testing.assert_array_equal(series.frames[:], FRAMES)
    assert series.channels == ("t2m", "d2m")
    assert (series.rows.tolist(), series.columns.tolist()) == (LATITUDES.tolist(), LONGITUDES.tolist())
    words = ("channels put in the order", "rows put in the order of the run, latitude (degrees_north) 60 to 58", "columns put")
    assert all(f"new.nc: {word}" in note for word, note in zip(words, series.notes, strict=True))


def test_forecasts_go_back_to_the_order_of_their_source() -> None:
    ours = Forecasts(
        FRAMES.reshape(1, 2, 5, 3, 4), None, np.array(["a"]), ("t2m", "d2m"), rows=LATITUDES, columns=LONGITUDES, past=None
    )
    back = as_source(ours, LATITUDES[::-1], LONGITUDES)
    np.testing.assert_array_equal(back.frames, ours.frames[..., ::-1, :])
    assert back.rows.tolist() == LATITUDES[::-1].tolist()
    assert as_source(ours, LATITUDES, None) is ours


def test_another_region_is_refused_by_its_coordinates_and_crops_are_forecast_anywhere() -> None:
    said = r"new.nc: rows are at latitude \(degrees_north\) 20 to 18; the run was trained on latitude .* 60 to 58"
    with pytest.raises(UserError, match=said):
        like(made(rows=LATITUDES - 40))
    with pytest.raises(UserError, match=r"columns are at longitude \(degrees_east\) -10 to -7"):
        like(made(columns=np.array([-10.0, -9, -8, -7])))
    with pytest.raises(UserError, match=r"set windows\.crop in training"):
        like(made(rows=LATITUDES - 40))
    series = like(made(rows=LATITUDES - 40), **{"windows.crop": [2, 2]})
    assert "new.nc: rows are at latitude (degrees_north) 20 to 18, not at" in series.notes[0]
    assert series.rows.tolist() == [20, 19, 18]


def test_coordinates_in_another_unit_are_the_same_ones() -> None:
    metres = info(rows=(2000.0, 1000.0, 0.0), up="y (m)")
    assert like(made(rows=np.array([2.0, 1, 0]), up="y (km)"), metres).notes == ()
    with pytest.raises(UserError, match=r"rows are at y \(km\) 2000 to 0; the run was trained on y \(m\) 2000 to 0"):
        like(made(rows=np.array([2000.0, 1000, 0]), up="y (km)"), metres)


@pytest.mark.parametrize("lazy", [False, True])
def test_values_are_converted_to_the_unit_of_the_run(lazy: bool) -> None:
    pytest.importorskip("pint")
    kelvin = FRAMES + np.float32(273.15)
    held = Lazy(lambda at: kelvin[at], np.arange(5), kelvin.shape[1:]) if lazy else kelvin
    series = like(made(frames=held, unit="K"))
    np.testing.assert_allclose(series.frames[:], FRAMES, atol=1e-4)
    assert series.unit == "degC"
    assert series.notes == ("new.nc: values converted from K to degC, as in training",)
    assert like(made(unit="degrees_Celsius")).notes == ()
    for unit in ("Pa", "K, Pa", "banana"):
        with pytest.raises(UserError, match=rf"new.nc: unit '{unit}' cannot be converted to 'degC'.*, the unit of the run"):
            like(made(unit=unit))
    with pytest.raises(UserError, match=r"the file states the unit K; that of the run's training stated degC"):
        like(made(attrs={"file's unit": "K"}), info(attrs={"file's unit": "degC"}), **{"series.unit": "degC"})


def test_what_a_source_does_not_state_is_noted() -> None:
    notes = like(made(unit="", rows=None, columns=None, up="", across="")).notes
    assert [note.split(":")[1].strip() for note in notes] == [
        "states no coordinates of rows",
        "states no coordinates of columns",
        "states no unit",
    ]


def test_another_step_and_other_channels_are_refused() -> None:
    for step in (1800.0, 3700.0):
        with pytest.raises(UserError, match=f"the step is {step:g} s; the run was trained on a step of 3600 s"):
            like(made(step=step))
    month = 30.4 * 86400
    assert like(made(step=31 * 86400.0), info(step=month)).notes == ()
    with pytest.raises(UserError, match="channels are t2m, msl; the run was trained on t2m, d2m"):
        like(made(channels=("t2m", "msl")))
    one = info(channels=("t2m",), shape=(1, 3, 4))
    assert like(made(frames=FRAMES[:, :1], channels=("value",)), one).notes == ()
    series = like(made(frames=FRAMES[:, :1], channels=("msl",)), one)
    assert series.notes == ("new.nc: channel 'msl' is taken for 't2m', the run's only one",)
    assert series.channels == ("t2m",)


def test_the_run_keeps_what_its_source_stated(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(info().model_dump_json())
    again = RunInfo.model_validate_json(path.read_text())
    assert (again.rows, again.up) == ((60.0, 59.0, 58.0), "latitude (degrees_north)")
