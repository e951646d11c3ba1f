"""Tables of dated events become frames: the right cell and step, nothing of a later event, and errors that name the row."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wavefold.core.errors import DataError, UserError
from wavefold.data.series import Series
from wavefold.data.series_options import Events, Reading
from wavefold.domains.maps.events import read_events

BOX = (0.0, 3.0, 0.0, 2.0)  # 2 x 3 cells of side 1
SMALL = Events(BOX, (2, 3))
ROWS = """Date,Primary Type,Latitude,Longitude
2020-01-01T10:00:00,THEFT,1.5,0.5
2020-01-01T23:59:59,BATTERY,0.5,2.5
2020-01-03 00:00:00,THEFT,1.5,0.5
2020-01-03T00:00:01,ASSAULT,1.5,0.5
"""


def table(folder: Path, text: str = ROWS, name: str = "events.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def read(path: Path, events: Events = SMALL) -> Series:
    return read_events(path, Reading(events=events))


def test_events_are_counted_in_their_cell_and_day_with_the_north_on_top(tmp_path: Path) -> None:
    series = read(table(tmp_path))
    assert series.channels == ("ASSAULT", "BATTERY", "THEFT")
    frames = np.zeros((3, 3, 2, 3), np.float32)
    frames[0, 2, 0, 0] = frames[0, 1, 1, 2] = frames[2, 2, 0, 0] = frames[2, 0, 0, 0] = 1
    np.testing.assert_array_equal(series.frames, frames)
    assert series.frames.dtype == np.float32
    assert series.times.astype("M8[s]").astype(str).tolist() == [f"2020-01-0{d}T00:00:00" for d in (1, 2, 3)]
    assert (series.step, series.unit, series.names.tolist(), series.notes) == (86400.0, "events per day", ["events"], ())
    assert (series.rows.tolist(), series.columns.tolist()) == ([1.5, 0.5], [0.5, 1.5, 2.5])


def test_every_way_of_writing_the_same_times_gives_the_same_frames(tmp_path: Path) -> None:
    expected = read(table(tmp_path)).frames
    american = ROWS.replace("2020-01-01T10:00:00", "01/01/2020 10:00:00 AM").replace("2020-01-01T23:59:59", "1/1/2020 23:59")
    american = american.replace("2020-01-03 00:00:00", "01/03/2020 12:00:00 AM").replace("2020-01-03T00:00:01", "01/03/2020")
    offsets = ROWS.replace("T10:00:00", "T10:00:00.000Z").replace("T23:59:59", "T23:59:59+00:00")
    numbers = "minute,type,y,x\n600,THEFT,1.5,.5\n1439,BATTERY,.5,2.5\n2880,THEFT,1.5,.5\n2880.5,ASSAULT,1.5,.5\n"
    quoted = ROWS.replace("THEFT", '"THEFT"').replace("\n", "\r\n") + "\r\n"
    for name, text in {"american": american, "offsets": offsets, "numbers": numbers, "quoted": quoted}.items():
        path = table(tmp_path, text, f"{name}.csv.gz")
        np.testing.assert_array_equal(read(path, replace(SMALL, epoch="2020-01-01")).frames, expected, err_msg=name)


def test_numbers_of_an_npz_count_from_its_epoch_and_its_kinds_have_names(tmp_path: Path) -> None:
    path = tmp_path / "events.npz"
    facts = {"epoch": "2020-01-01", "type_names": np.array(["THEFT", "ASSAULT", "BATTERY"])}
    minutes, kinds = np.array([600, 1439, 2880, 2880], np.uint32), np.array([0, 2, 0, 1], np.uint8)
    places = {"lat": np.array([1.5, 0.5, 1.5, 1.5]), "lon": np.array([0.5, 2.5, 0.5, 0.5], np.float32)}
    np.savez(path, minute=minutes, type=kinds, **places, **facts)
    np.testing.assert_array_equal(read(path).frames, read(table(tmp_path)).frames)
    dates = np.datetime64("2020-01-01", "s") + minutes.astype("m8[m]")
    np.savez(path, time=dates, type=facts["type_names"][kinds], **places)
    np.testing.assert_array_equal(read(path).frames, read(table(tmp_path)).frames)
    np.savez(path, minute=minutes, type=kinds + 1, **places, **facts)
    with pytest.raises(DataError, match=r"events.npz event 1: type is 3, expected 0 to 2, one per name"):
        read(path)
    np.savez(path, minute=minutes, **places)
    with pytest.raises(DataError, match=r"column 'minute' counts minutes since an unknown date; set events.epoch"):
        read(path)


def test_kinds_merge_into_the_channels_that_are_asked_for(tmp_path: Path) -> None:
    kinds = {"violent": ("battery", "ASSAULT"), "all": ("THEFT", "BATTERY", "ASSAULT")}
    series = read(table(tmp_path), replace(SMALL, kinds=kinds))
    assert series.channels == ("violent", "all")
    assert series.frames.sum((0, 2, 3)).tolist() == [2, 4]
    one = read_events(table(tmp_path), Reading(events=SMALL, channels=("THEFT",)))
    assert (one.channels, one.frames.sum()) == (("THEFT",), 2)
    no_kinds = read(table(tmp_path, "time,x,y\n2020-01-01,0.5,0.5\n", "bare.csv"))
    assert (no_kinds.channels, no_kinds.frames.shape) == (("events",), (1, 1, 2, 3))
    with pytest.raises(
        UserError, match=r"events.kinds.t: 'thef' is not one of ASSAULT, BATTERY, THEFT; did you mean 'theft'\?"
    ):
        read(table(tmp_path), replace(SMALL, kinds={"t": ("thef",)}))
    with pytest.raises(DataError, match="the table has no column of kinds"):
        read(tmp_path / "bare.csv", replace(SMALL, kinds={"t": ("theft",)}))


def test_steps_begin_at_their_hour_and_end_with_the_last_whole_one(tmp_path: Path) -> None:
    days = "".join(f"2020-01-{day:02d} 13:20,0.5,0.5\n" for day in range(2, 18))  # 16 days
    path = table(tmp_path, "time,x,y\n" + days)
    weeks = read(path, replace(SMALL, every="1 week"))
    assert weeks.frames.sum((1, 2, 3)).tolist() == [7, 7]
    assert weeks.times.astype("M8[s]")[0] == np.datetime64("2020-01-02")
    assert weeks.notes == ("events.csv: 2 of 16 events are after the last complete step",)
    hours = read(path, replace(SMALL, every="6 hours"))
    assert hours.times.astype("M8[s]")[0] == np.datetime64("2020-01-02T12:00")
    assert (len(hours), hours.step, hours.unit) == (15 * 4 + 1, 21600.0, "events per 6 hours")
    with pytest.raises(DataError, match=r"events span 15.0 days, less than one step"):
        read(path, replace(SMALL, every="3 weeks"))


def test_events_on_the_edge_are_inside_and_those_outside_are_noted(tmp_path: Path) -> None:
    text = "time,x,y\n2020-01-01,3,0\n2020-01-01,0,2\n2020-01-01,3.001,1\n2020-01-01,1,-0.001\n"
    series = read(table(tmp_path, text))
    assert series.frames[0, 0].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert series.notes == ("events.csv: 2 of 4 events are outside the box",)
    with pytest.raises(DataError, match=r"no event is in events.box \[5.*x is 0 to 3.001, y -0.001 to 2"):
        read(tmp_path / "events.csv", replace(SMALL, box=(5, 6, 0, 1)))


def test_smoothing_in_space_keeps_what_stays_inside_and_memory_halves(tmp_path: Path) -> None:
    text = "time,x,y\n2020-01-01,10.5,10.5\n2020-01-03,0.5,0.5\n"
    events = Events((0, 21, 0, 21), (21, 21))
    smooth = read(table(tmp_path, text), replace(events, smooth=1.0)).frames[:, 0]
    assert smooth[0].sum() == pytest.approx(1, abs=1e-5)
    assert smooth[0, 10, 10] == pytest.approx(1 / (2 * np.pi), rel=1e-3)
    assert smooth[1].sum() == 0
    assert 0.4 < smooth[2].sum() < 0.6  # the corner's share that reaches over the edges is lost
    remembered = read(tmp_path / "events.csv", replace(events, memory=1.0)).frames[:, 0, 10, 10]
    assert remembered.tolist() == pytest.approx([1, 0.5 / 1.5, 0.25 / 1.75])


def test_no_frame_knows_a_later_event(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    hours, x, y = np.sort(rng.uniform(0, 24 * 20, 400)), rng.uniform(0, 3, 400), rng.uniform(0, 2, 400)
    events = replace(SMALL, epoch="2020-01-01", smooth=0.7, memory=3.0, every="12 hours")
    np.savez(tmp_path / "a.npz", hour=hours, x=x, y=y)
    later = hours >= 24 * 10
    np.savez(tmp_path / "b.npz", hour=np.where(later, (hours + 240) / 2 + 0.01, hours), x=np.where(later, 0.1, x), y=y)
    one, other = (read(tmp_path / f"{name}.npz", events).frames for name in "ab")
    np.testing.assert_array_equal(one[:20], other[:20])
    assert (one[20] != other[20]).any()


def test_rows_without_a_place_are_counted_and_noted(tmp_path: Path) -> None:
    rows = "time,x,y\n2020-01-01,0.5,0.5\n2020-01-02,,\n2020-01-02, ,1.5\n2020-01-03,9,9\n2020-01-04,1.5,\n"
    series = read(table(tmp_path, rows))
    assert (len(series), series.frames.sum()) == (4, 1)  # a row without a place still says that the table reaches its day
    assert series.notes == ("events.csv: 3 of 5 events have no coordinates", "events.csv: 1 of 5 events are outside the box")
    times = np.array(["2020-01-01", "2020-01-02"], "M8[s]")
    np.savez(tmp_path / "a.npz", time=times, x=np.array([0.5, np.nan]), y=np.array([0.5, 0.5], np.float32))
    assert read(tmp_path / "a.npz").notes == ("a.npz: 1 of 2 events have no coordinates",)
    with pytest.raises(DataError, match=r"bare.csv: none of the 2 events has coordinates"):
        read(table(tmp_path, "time,x,y\n2020-01-01,,0.5\n2020-01-02,0.5,\n", "bare.csv"))
    with pytest.raises(DataError, match=r"far.csv: no event is in events.box .* x is 7 to 1e\+300, y 7 to 8"):
        read(table(tmp_path, "time,x,y\n2020-01-01,7,7\n2020-01-02,1e300,8\n2020-01-02,,\n", "far.csv"))


def test_a_date_far_from_the_others_is_noted(tmp_path: Path) -> None:
    days = "".join(f"2020-01-{day:02d},0.5,0.5\n" for day in range(1, 31))
    series = read(table(tmp_path, f"time,x,y\n2030-01-01,0.5,0.5\n{days}"))
    said = "no events between 2020-01-30 00:00 and 2030-01-01 00:00, 3,624 of 3,654 steps; check for a wrong date"
    assert series.notes == (f"events.csv: {said}",)


def days_of(form: str, days: list[str], folder: Path, **more: str) -> list[str]:
    rows = [np.datetime64(day).item().strftime(form) + ",0.5,0.5" for day in days]
    series = read(table(folder, "\n".join(["time,x,y", *rows])), replace(SMALL, **more))
    hit = series.times[series.frames.sum(axis=(1, 2, 3)) > 0]
    return hit.astype("M8[s]").astype("M8[D]").astype(str).tolist()


DAYS = ["2023-03-11", "2023-03-12", "2023-03-13"]


@pytest.mark.parametrize("form", ["%d/%m/%Y %H:%M", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y %H:%M:%S", "%m-%d-%Y"])
def test_the_order_of_day_and_month_is_decided_from_all_rows(tmp_path: Path, form: str) -> None:
    assert days_of(form, DAYS, tmp_path) == DAYS


def test_an_order_of_day_and_month_that_remains_open_is_asked_for_and_the_answer_works(tmp_path: Path) -> None:
    days = ["2023-03-04", "2023-03-05", "2023-04-04"]
    with pytest.raises(DataError, match=r'such as 04/03/2023 .* set series.events.dates="day first" or "month first"'):
        days_of("%d/%m/%Y %H:%M", days, tmp_path)
    assert days_of("%d/%m/%Y %H:%M", days, tmp_path, dates="day first") == days
    assert days_of("%m/%d/%Y %H:%M", days, tmp_path, dates="month first") == days
    with pytest.raises(DataError, match="has both 13/03/2023 and 03/14/2023, one with the day first"):
        read(table(tmp_path, "time,x,y\n13/03/2023,0,0\n03/14/2023,0,0\n"))
    with pytest.raises(DataError, match="line 3: time is '03/14/2023', expected a time such as 31/01/2016"):
        read(table(tmp_path, "time,x,y\n13/03/2023,0,0\n03/14/2023,0,0\n"), replace(SMALL, dates="day first"))
    american = read(table(tmp_path, "time,x,y\n03/04/2023 01:00 PM,0,0\n"))
    assert "are taken to have the month first, as AM and PM suggest" in american.notes[0]


def test_days_are_counted_by_the_local_clock_if_asked(tmp_path: Path) -> None:
    rows = "time,x,y\n2023-02-20T21:00:00-05:00,0.5,0.5\n2023-02-21T21:00:00-05:00,0.5,0.5\n"
    utc, local = (read(table(tmp_path, rows), replace(SMALL, clock=clock)) for clock in ("utc", "local"))
    assert [str(s.times[:1].astype("M8[s]")[0])[:10] for s in (utc, local)] == ["2023-02-21", "2023-02-20"]
    assert 'set series.events.clock="local"' in utc.notes[0]
    assert local.notes == ()


def test_times_that_are_all_at_midnight_are_noted(tmp_path: Path) -> None:
    rows = "time,x,y\n" + "".join(f"2023-02-{day:02},0.5,0.5\n" for day in range(1, 9))
    assert "all times are at 00:00" in read(table(tmp_path, rows), replace(SMALL, every="1 hour")).notes[0]
    assert read(table(tmp_path, rows)).notes == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("2020-01-03 00:00:00", "31/01/2020", r"events.csv line 4: Date is '31/01/2020', expected a time such as 2016-01-31"),
        ("2020-01-03 00:00:00", "01/03/2020 13:00 PM", r"line 4: Date is '01/03/2020 13:00 PM', expected a time"),
        ("2020-01-03 00:00:00", "", r"line 4: Date is '', expected a time"),
        ("0.5,2.5", "0.5,west", r"line 3: Longitude is 'west', expected a number"),
        ("0.5,2.5", "0.5,nan", r"line 3: Longitude is nan, expected a number"),
        (",0.5,2.5", ",0.5", r"line 3: has 3 fields, expected 4"),
        ("BATTERY", '"BATTERY', r"line 3: .*expected each quote to close on its line"),
        ("Longitude", "Street", r"no column for x, such as longitude,lon,.*; available: Date, Primary Type, Latitude, Street;"),
        ("Date", "When", r"no column for time"),
    ],
)
def test_a_bad_row_or_column_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(table(tmp_path, ROWS.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"time": "Dat"},
            r"no column 'Dat'; available columns: Date, Primary Type, Latitude, Longitude; did you mean 'Date'\?",
        ),
        ({"every": "1 month"}, r"events.every: '1 month': expected a number and one of second, minute, hour, day, week"),
        ({"every": "0 days"}, "events.every"),
        ({"box": (3, 0, 0, 2)}, "events.box: .* expected west, east, south, north with west < east"),
        ({"box": (0, float("inf"), 0, 2)}, "events.box: .* expected west, east, south, north with west < east"),
        ({"cells": (0, 3)}, "events.cells"),
        ({"memory": float("nan")}, "events.memory: nan: expected 0 or more"),
        ({"smooth": -1.0}, "events.smooth: -1: expected 0 or more"),
        ({"every": "1 second", "cells": (900, 900)}, r"makes 136,802 frames of 3 x 900 x 900 .*GiB; the limit is 4 GiB"),
        ({"time": "Latitude"}, r"column 'Latitude' has numbers; expected dates, or a unit in its name \(second"),
    ],
)
def test_options_that_make_no_frames_are_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(table(tmp_path), replace(SMALL, **changes))


def test_a_source_that_is_no_table_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "events.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(DataError, match=r"events.npz: cannot be read as .npz"):
        read(tmp_path / "events.npz")
    with pytest.raises(DataError, match="contains no events"):
        read(table(tmp_path, "time,x,y\n", "empty.csv"))
    with pytest.raises(DataError, match=r"events.json: unsupported table format; save it as CSV"):
        read(table(tmp_path, "[]", "events.json"))
    with pytest.raises(DataError, match="unsupported table format"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"set events.box and events.cells to grid it"):
        read_events(table(tmp_path), Reading())


def test_chicago_becomes_the_risk_maps_of_the_source(real: Callable[[str], Path]) -> None:
    kinds = {"theft": ("THEFT",), "violence": ("BATTERY", "ASSAULT"), "damage": ("CRIMINAL DAMAGE",)}
    events = Events((-87.93, -87.52, 41.64, 42.03), (93, 60), kinds=kinds)
    series = read(real("city_crime/chicago_2016_2017.npz"), events)
    assert (series.frames.shape, series.notes) == ((609, 3, 93, 60), ())
    assert series.frames.sum() == 268_815
    assert (series.frames.sum((0, 1)) > 0).mean() == pytest.approx(0.39, abs=0.005)
    everything = {"all": tuple(kind for some in kinds.values() for kind in some)}
    daily = read(real("city_crime/chicago_2016_2017.npz"), replace(events, kinds=everything, smooth=2.0)).frames[:, 0]
    errors = [np.mean((daily[i] - daily[i - 20 : i].mean(0)) ** 2) for i in range(609 - 121, 609)]
    assert np.mean(errors) == pytest.approx(0.0028, abs=0.0001)  # as the data's own notes have it


def test_earthquakes_become_months_of_seismicity(real: Callable[[str], Path]) -> None:
    events = Events((-180, 180, -90, 90), (36, 72), epoch="1965-01-01", every="4 weeks", smooth=1.0)
    series = read(real("earthquakes/usgs_m55_1965_2016.npz"), events)
    assert (series.frames.shape, series.channels, series.unit) == ((678, 1, 36, 72), ("events",), "events per 4 weeks")
    assert series.times[0] == np.datetime64("1965-01-02", "s").astype(np.int64)
