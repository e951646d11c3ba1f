"""Reading frames: arrays, images and folders of files, their times and gaps, and what is wrong with them."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image
from scipy.io import netcdf_file

from wavefold.core.errors import DataError, UserError
from wavefold.data.lazy import Lazy
from wavefold.data.series import Series, time_word
from wavefold.data.series_options import Reading
from wavefold.data.series_reader import read_series
from wavefold.domains.maps import arrays, images
from wavefold.domains.maps.simulate import simulate_digits, simulate_squares
from wavefold.domains.maps.write import write_frames

HOUR = 3600.0


def some(*shape: int) -> np.ndarray:
    """Distinct values, so that a wrong order of axes is seen."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def hours(first: str, count: int) -> np.ndarray:
    return np.datetime64(first, "s") + np.arange(count) * np.timedelta64(3600, "s")


def png(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values, mode).save(path) if mode is None else Image.fromarray(values).convert(mode).save(path)


# Arrays


def test_axes_of_plain_arrays_are_guessed_by_their_number(tmp_path):
    np.save(tmp_path / "three.npy", some(4, 2, 3))
    np.save(tmp_path / "four.npy", some(4, 2, 3, 5))
    np.save(tmp_path / "five.npy", some(6, 4, 2, 3, 5))
    three, four, five = (read_series(tmp_path / f"{name}.npy") for name in ("three", "four", "five"))
    assert three.frames.shape == (4, 1, 2, 3)
    assert three.frames.dtype == np.float32
    assert (three.channels, three.names.tolist(), three.times, three.step) == (("value",), ["three"], None, 0)
    np.testing.assert_array_equal(four.frames, some(4, 2, 3, 5).transpose(0, 3, 1, 2))
    assert four.channels == tuple(f"channel-{i}" for i in range(1, 6))
    np.testing.assert_array_equal(five.frames[4], some(6, 4, 2, 3, 5)[1, 0].transpose(2, 0, 1))
    np.testing.assert_array_equal(five.starts, [0, 4, 8, 12, 16, 20])


@pytest.mark.parametrize(
    ("shape", "axes", "noted"),
    [
        ((50, 16, 20, 3), "time row column channel", False),
        ((60, 93, 60, 8), "time row column channel", True),
        ((200, 3, 16, 20), "time channel row column", True),
        ((200, 1, 16, 16), "time channel row column", True),
        ((6, 30, 1, 16, 16), "sequence time channel row column", True),
        ((6, 30, 16, 16, 3), "sequence time row column channel", False),
        ((40, 24, 24, 3), "time row column channel", False),
        ((60, 16, 20), "time row column", False),
        ((384, 384, 49), "time row column", True),
        ((64, 48, 3), "time row column", True),
    ],
)
def test_an_axis_of_few_values_in_the_place_of_channels_is_one(tmp_path, shape, axes, noted):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    series = read_series(tmp_path / "a.npy")
    assert series.attrs["axes"] == axes
    size = dict(zip(axes.split(), shape, strict=True))
    assert series.size == (size["row"], size["column"])
    assert len(series.channels) == size.get("channel", 1)
    assert len(series) == size["time"] * size.get("sequence", 1)
    assert [f"is taken for {axes}" in note and "series.axes=" in note for note in series.notes] == [True] * noted


@pytest.mark.parametrize("shape", [(20, 12, 16, 16), (12, 20, 16, 16), (6, 53, 69, 32, 64), (20, 100, 64, 64)])
def test_axes_that_could_be_several_are_asked_for_and_each_answer_works(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"a.npy: the \d axes of .* could be several; set series.axes to one of ") as error:
        read_series(tmp_path / "a.npy")
    for words in str(error.value).split(" one of ")[1].replace('"', "").split(" or "):
        assert read_series(tmp_path / "a.npy", Reading(axes=words)).attrs["axes"] == words


def test_names_and_coordinates_beside_an_array_tell_its_axes(tmp_path):
    np.savez(tmp_path / "a.npz", film=some(9, 6, 7, 8), channels=list("abcdef"), lat=np.arange(7), lon=np.arange(8))
    series = read_series(tmp_path / "a.npz")
    np.testing.assert_array_equal(series.frames, some(9, 6, 7, 8))
    np.savez(tmp_path / "b.npz", film=some(9, 7, 8, 6), channels=list("abcdef"))
    assert read_series(tmp_path / "b.npz").notes == ()
    np.savez(tmp_path / "c.npz", film=some(20, 9, 7, 8), axes="time sequence row column")
    assert read_series(tmp_path / "c.npz").frames.shape == (180, 1, 7, 8)


def test_a_folder_of_arrays_of_one_frame_each_is_a_series(tmp_path):
    for number in range(12):
        np.save(tmp_path / f"frame_{number}.npy", some(5, 6) + number)
    series = read_series(tmp_path)
    assert series.frames.shape == (12, 1, 5, 6)
    assert series.frames[:, 0, 0, 0].tolist() == list(range(12))
    assert (series.starts.tolist(), series.notes) == ([0], ())
    assert read_series(tmp_path, Reading(axes="row column")).size == (5, 6)
    assert read_series(tmp_path, Reading(axes="column row")).size == (6, 5)
    with pytest.raises(DataError, match=r"frame_0.npy: has 2 axes, expected 3 \(time row column\) to 5"):
        read_series(tmp_path / "frame_0.npy")
    (tmp_path / "frame_7.npy").unlink()
    broken = read_series(tmp_path)
    assert broken.starts.tolist() == [0, 7]
    assert "1 gap in the numbers, the first: after frame_6.npy comes frame_8.npy" in broken.notes[0]


def test_a_folder_of_arrays_named_by_date_has_times(tmp_path):
    for day in range(28, 34):
        np.savez(tmp_path / f"{np.datetime64('2019-01-01') + day}.npz", rain=some(5, 6) + day)
    series = read_series(tmp_path)
    assert series.frames[:, 0, 0, 0].tolist() == list(range(28, 34))
    assert (series.step, time_word(series.times[0])) == (86400.0, "2019-01-29 00:00")


def test_a_folder_of_pictures_as_arrays_has_colours(tmp_path):
    for number in range(4):
        np.save(tmp_path / f"{number}.npy", some(5, 6, 3))
    series = read_series(tmp_path)
    assert series.frames.shape == (4, 3, 5, 6)
    assert "5 x 6 x 3 is taken for row column channel" in series.notes[0]


def test_named_axes_put_any_order_right(tmp_path):
    np.save(tmp_path / "film.npy", some(4, 6, 2, 3))  # as the test file of Moving MNIST: time first
    series = read_series(tmp_path / "film.npy", Reading(axes="time sequence row column"))
    assert series.frames.shape == (24, 1, 2, 3)
    np.testing.assert_array_equal(series.frames[5, 0], some(4, 6, 2, 3)[1, 1])  # frame 1 of sequence 1
    np.testing.assert_array_equal(series.ends, [4, 8, 12, 16, 20, 24])


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ("time row colum", "'colum' is not one of.*did you mean 'column'"),
        ("time row column channel", "4 names, expected 3"),
        ("time row row", "names row twice"),
        ("row column channel", "lacks time"),
    ],
)
def test_wrong_axes_say_what_was_expected(tmp_path, axes, said):
    np.save(tmp_path / "a.npy", some(4, 2, 3))
    with pytest.raises(UserError, match=said):
        read_series(tmp_path / "a.npy", Reading(axes=axes))


def test_a_large_npy_stays_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "LARGE", 100)
    stored = some(3, 4, 2, 3)
    stored[1, 2, 0, 1] = 7
    np.save(tmp_path / "large.npy", stored.astype(np.int16))
    series = read_series(tmp_path / "large.npy", Reading(axes="sequence time row column", missing=(7,), scale=0.5, offset=1))
    assert isinstance(series.frames, Lazy)
    expected = np.where(stored == 7, np.nan, stored * 0.5 + 1).reshape(12, 1, 2, 3)
    np.testing.assert_array_equal(series.frames[np.array([11, 6, 0])], expected[[11, 6, 0]])
    np.testing.assert_array_equal(np.asarray(series.frames), expected)


def test_infinite_values_read_on_demand_are_refused_too(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "LARGE", 100)
    stored = some(6, 2, 3)
    stored[4, 1, 2] = np.inf
    np.save(tmp_path / "large.npy", stored)
    with pytest.raises(DataError, match=r"large.npy frame 4, row 1, column 2: the value inf is not finite"):
        read_series(tmp_path / "large.npy")


@pytest.mark.parametrize("name", ["objects.npy", "objects.npz"])
def test_pickled_objects_are_never_loaded(tmp_path, name):
    values = np.array([[[{}]]], dtype=object)
    np.save(tmp_path / name, values) if name.endswith("npy") else np.savez(tmp_path / name, values=values)
    with pytest.raises(DataError, match=f"{name}.*(pickled|type object)") as error:
        read_series(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["broken.npy", "broken.npz"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"PK\x03\x04broken", b"\x93NUMPY\x01\x00"])
def test_broken_arrays_are_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as error:
        read_series(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["npy", "npz", "tif", "png", "gif", "bmp", "pgm", "nc"])
def test_damaged_files_raise_nothing_but_an_error_of_one_line(tmp_path, kind):
    rng = np.random.default_rng(5)
    path = tmp_path / "film" / f"1.{kind}"
    path.parent.mkdir()
    values = rng.integers(0, 255, (6, 5, 4), np.uint8)
    if kind == "npy":
        np.save(path, values)
    elif kind == "npz":
        np.savez_compressed(path, frames=values, time=hours("2014-01-01", 6))
    elif kind == "nc":
        with netcdf_file(path, "w") as file:
            for name, size in zip(("time", "y", "x"), values.shape, strict=True):
                file.createDimension(name, size)
            file.createVariable("rain", "i4", ("time", "y", "x"))[:] = values
    else:
        Image.fromarray(values[0]).save(path)
    whole = path.read_bytes()
    heads = min(len(whole), 200)
    lines = []
    for _ in range(80):
        broken = bytearray(whole)
        for at in rng.integers(0, heads if rng.random() < 0.5 else len(whole), rng.integers(1, 5)):
            broken[at] = rng.integers(0, 256)
        path.write_bytes(broken[: len(whole) if rng.random() < 0.8 else rng.integers(0, len(whole))])
        try:
            read_series(path.parent)
        except UserError as error:
            lines.append(str(error))
    assert lines
    assert not any("\n" in line for line in lines)


def test_an_npy_header_that_cannot_be_parsed_is_one_line(tmp_path):
    np.save(tmp_path / "a.npy", some(3, 2, 2))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole.replace(b"), }", b"(, }"))
    with pytest.raises(DataError, match=r"a.npy: cannot be read as a NumPy array"):
        read_series(tmp_path / "a.npy")


def test_a_cut_npy_is_one_line(tmp_path):
    stream = io.BytesIO()
    np.save(stream, some(4, 2, 3))
    (tmp_path / "cut.npy").write_bytes(stream.getvalue()[:-8])
    with pytest.raises(DataError, match=r"cut.npy: cannot be read"):
        read_series(tmp_path / "cut.npy")


@pytest.mark.parametrize("values", [some(4, 3), some(2, 2, 2, 2, 2, 2), np.empty((0, 2, 3)), np.array([[["a"]]])])
def test_what_cannot_be_frames_is_refused(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(DataError, match=r"a.npy: (has . axes|is empty|has values of type)"):
        read_series(tmp_path / "a.npy")


# Variables, channels and values


def test_the_only_array_of_three_axes_is_taken_and_a_wrong_name_lists_those_there_are(tmp_path):
    np.savez(tmp_path / "a.npz", rain=some(4, 2, 3), lat=[51.0, 50.0], lon=[1, 2, 3], unit="mm/h", note=np.zeros(7))
    series = read_series(tmp_path / "a.npz")
    assert (series.channels, series.unit) == (("rain",), "mm/h")
    np.testing.assert_array_equal(series.rows, [51, 50])
    np.testing.assert_array_equal(series.columns, [1, 2, 3])
    with pytest.raises(UserError, match=r"no variable 'rian'; available: rain \(4 x 2 x 3\), lat \(2\).*did you mean 'rain'"):
        read_series(tmp_path / "a.npz", Reading(variable="rian"))


def test_several_arrays_must_be_chosen_from_and_none_lists_what_there_is(tmp_path):
    np.savez(tmp_path / "two.npz", rain=some(4, 2, 3), wind=some(4, 2, 3) + 1)
    with pytest.raises(UserError, match=r"any of rain, wind could be the frames.*rain \(4 x 2 x 3\)"):
        read_series(tmp_path / "two.npz")
    assert read_series(tmp_path / "two.npz", Reading(variable="wind")).frames[0, 0, 0, 0] == 1
    np.savez(tmp_path / "none.npz", x=some(4), y=some(4))
    with pytest.raises(DataError, match=r"no array with 3 or more axes.*x \(4\), y \(4\); a table of timed events needs"):
        read_series(tmp_path / "none.npz")


def test_values_are_scaled_and_only_missing_codes_and_nan_become_nan(tmp_path):
    stored = np.array([[[927, -32768, 255], [0, -5, 100]]], np.int16)
    np.save(tmp_path / "a.npy", stored)
    series = read_series(tmp_path / "a.npy", Reading(scale=0.01, offset=-1, missing=(-32768, 255), unit="degC"))
    expected = np.float32([[[[8.27, np.nan, np.nan], [-1, -1.05, 0]]]])
    np.testing.assert_array_equal(series.frames, expected)
    assert series.unit == "degC"
    np.save(tmp_path / "b.npy", np.array([[[1, np.nan, -9999.9]]], np.float32))
    np.testing.assert_array_equal(
        read_series(tmp_path / "b.npy", Reading(missing=(-9999.9,))).frames, [[[[1, np.nan, np.nan]]]]
    )


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
def test_infinite_values_name_their_place(tmp_path, value):
    stored = some(4, 2, 3).astype(np.float64)
    stored[2, 1, 0] = value
    np.save(tmp_path / "a.npy", stored)
    with pytest.raises(DataError, match=r"a.npy frame 2, row 1, column 0: the value (-?inf|1e\+300) is not finite"):
        read_series(tmp_path / "a.npy")
    assert np.isnan(read_series(tmp_path / "a.npy", Reading(missing=(value,))).frames[2, 0, 1, 0])


def test_a_series_without_any_value_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.full((4, 2, 3), 255, np.uint8))
    with pytest.raises(DataError, match=r"a.npy: no value is finite"):
        read_series(tmp_path / "a.npy", Reading(missing=(255,)))


def test_channels_are_kept_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", film=some(4, 2, 3, 3), channels=["theft", "fire", "other"])
    series = read_series(tmp_path / "a.npz", Reading(channels=("other", "theft")))
    assert series.channels == ("other", "theft")
    np.testing.assert_array_equal(series.frames, some(4, 2, 3, 3)[..., [2, 0]].transpose(0, 3, 1, 2))
    with pytest.raises(UserError, match="no channel 'thief'; available: theft, fire, other; did you mean 'theft'"):
        read_series(tmp_path / "a.npz", Reading(channels=("thief",)))
    np.savez(tmp_path / "b.npz", film=some(4, 2, 3, 3), channels=["theft", "fire"])
    with pytest.raises(DataError, match=r"b.npz channels: theft, fire; expected 3"):
        read_series(tmp_path / "b.npz")


# Times


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("time", hours("2014-01-01", 4)),
        ("times", np.array(["2014-01-01", "2014-01-01T01", "2014-01-01 02:00", "2014-01-01T04:00+01:00"])),
        ("time_utc", np.array(["201401010000", "20140101-0100", "2014-01-01T02:00:00Z", "20140101030000"])),
        ("time_utc", np.array([b"2014-01-01 00:00", b"2014-01-01 01:00", b"2014-01-01 02:00", b"2014-01-01 03:00"])),
        ("time", 1388534400 + 3600 * np.arange(4)),
        ("hours_since_1970", 385704 + np.arange(4)),
        ("minutes_since_2014-01-01", 60.0 * np.arange(4)),
        ("days_since_2013-12-31", 1 + np.arange(4) / 24),
    ],
)
def test_times_are_read_from_the_array_that_holds_them(tmp_path, name, values):
    np.savez(tmp_path / "a.npz", film=some(4, 2, 3), **{name: values}, label=np.arange(4))
    series = read_series(tmp_path / "a.npz")
    np.testing.assert_allclose(series.times, 1388534400 + HOUR * np.arange(4), atol=1e-3)
    assert series.step == pytest.approx(HOUR)
    assert (series.starts.tolist(), series.notes) == ([0], ())


def test_months_are_a_step_though_their_lengths_differ(tmp_path):
    months = [f"{year}-{month:02}" for year in (2011, 2012) for month in range(1, 13)]
    np.savez(tmp_path / "a.npz", film=some(24, 2, 3), month=months)
    series = read_series(tmp_path / "a.npz")
    assert (series.starts.tolist(), series.step, series.notes) == ([0], 31 * 86400, ())


def test_a_gap_in_time_begins_a_new_stretch_and_is_told(tmp_path):
    times = np.delete(hours("2014-01-01", 8), [3, 4])
    np.savez(tmp_path / "a.npz", film=some(6, 2, 3), time=times)
    series = read_series(tmp_path / "a.npz")
    assert series.starts.tolist() == [0, 3]
    assert series.names.tolist() == ["a-1", "a-2"]
    assert "1 gap in time, between 2014-01-01 02:00 and 2014-01-01 05:00" in series.notes[0]


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (hours("2014-01-01", 4)[[0, 1, 1, 2]], "frame 2: its time 2014-01-01 01:00 is not after"),
        (hours("2014-01-01", 4)[::-1], "frame 1: its time 2014-01-01 02:00 is not after"),
        (np.array(["2014-01-01", "2014-13-01", "", ""]), "frame 1: '2014-13-01' is not a time"),
        (np.array(["2014-01-01", "NaT", "2014-01-02", "2014-01-03"], "M8[s]"), "frame 1: NaT is not a time"),
        (np.array([201609281445, 201609281450, 201609281455, 201609281500]), "frame 0: 201609281445 is not a time"),
        (hours("2014-01-01", 3), "a.npz time: has 3 times for 4 frames"),
    ],
)
def test_times_that_cannot_be_are_refused(tmp_path, times, said):
    np.savez(tmp_path / "a.npz", film=some(4, 2, 3), time=times)
    with pytest.raises(DataError, match=said):
        read_series(tmp_path / "a.npz")


def test_sequences_may_have_their_own_times_or_share_them(tmp_path):
    own = np.stack([hours("2014-01-01", 4), hours("2014-03-01", 4)])
    own[1, 2:] += np.timedelta64(5, "h")
    np.savez(tmp_path / "own.npz", film=some(2, 4, 2, 3, 1), time=own)
    series = read_series(tmp_path / "own.npz")
    assert series.starts.tolist() == [0, 4, 6]
    assert series.names.tolist() == ["sequence-1", "sequence-2-1", "sequence-2-2"]
    np.savez(tmp_path / "shared.npz", film=some(2, 4, 2, 3, 1), time=own[0])
    shared = read_series(tmp_path / "shared.npz")
    assert shared.starts.tolist() == [0, 4]
    np.testing.assert_array_equal(shared.times[:4], shared.times[4:])


# Images


def test_numbered_images_come_in_the_order_of_their_numbers(tmp_path):
    for number in (1, 2, 10, 3, 4, 9):
        png(tmp_path / "film" / f"v2_frame{number}.png", np.full((2, 3), number, np.uint8))
    series = read_series(tmp_path / "film")
    assert series.frames[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 9, 10]
    assert series.starts.tolist() == [0, 4]
    assert series.names.tolist() == ["film-1", "film-2"]
    assert "1 gap in" in series.notes[0]
    assert "after v2_frame4.png comes v2_frame9.png" in series.notes[0]
    assert series.channels == ("value",)


def film(folder, names):
    """Pictures whose values are their place in time."""
    for place, name in enumerate(names):
        png(folder / f"{name}.png", np.full((2, 3), place, np.uint8))
    return read_series(folder)


TEN_MINUTES = np.datetime64("2019-06-30T22:00") + np.arange(24) * np.timedelta64(10, "m")
DAYS = np.datetime64("2019-06-20") + np.arange(24)


@pytest.mark.parametrize(
    ("form", "moments"),
    [
        ("radar_%Y%m%d_%H%M", TEN_MINUTES),
        ("radar_%Y%m%d%H%M", TEN_MINUTES),
        ("radar_%Y-%m-%dT%H-%M-00Z_512x512", TEN_MINUTES),
        ("%Y%m%d%H%M%S", TEN_MINUTES),
        ("sst_%Y-%m-%d", DAYS),
        ("sst_%Y_%m_%d_v2", DAYS),
        ("%d.%m.%Y", DAYS),
        ("%m-%d-%Y %H%M", DAYS),
    ],
)
def test_dates_in_names_are_times(tmp_path, form, moments):
    series = film(tmp_path / "film", [moment.astype("M8[s]").item().strftime(form) for moment in moments])
    assert series.frames[:, 0, 0, 0].tolist() == list(range(24))
    assert series.starts.tolist() == [0]
    np.testing.assert_array_equal(series.times, moments.astype("M8[s]").astype(np.int64))
    assert series.step == (600.0 if moments is TEN_MINUTES else 86400.0)
    assert "times are taken from the names" in series.notes[0]
    assert len(series.notes) == 1


@pytest.mark.parametrize(
    ("names", "starts"),
    [
        ([f"frame_{i:03d}_512x512" for i in range(12)], [0]),
        ([f"frame{i + 1}" for i in range(12)], [0]),
        ([f"run{i // 6}_frame{i % 6}" for i in range(12)], [0, 6]),
        ([f"f{i}_t{10 * i:04d}" for i in range(12)], [0]),
        ([f"2019{i + 5:04d}" for i in range(12)], [0]),  # no dates: a day 13 of month 00
        (["a1", "b2", "c3"], [0]),
    ],
)
def test_numbers_that_differ_order_the_names(tmp_path, names, starts):
    series = film(tmp_path / "film", names)
    assert series.frames[:, 0, 0, 0].tolist() == list(range(len(names)))
    assert series.starts.tolist() == starts
    assert series.times is None


def test_an_order_that_could_be_another_is_noted(tmp_path):
    several = film(tmp_path / "several", ["run1_2", "run1_3", "run2_2"])
    assert (
        "ordered by the 2 numbers that differ in the names, from the left: run1_2.png first, run2_2.png last"
        in several.notes[0]
    )
    words = film(tmp_path / "words", ["img1", "frame2", "img3"])
    assert "ordered by the last number in the names, since their words differ" in words.notes[0]


def test_a_time_missing_among_the_names_is_a_gap(tmp_path):
    names = [str(day) for day in DAYS if day != DAYS[7]]
    series = film(tmp_path / "film", names)
    assert series.starts.tolist() == [0, 7]
    assert "1 gap in time, between 2019-06-26 00:00 and 2019-06-28 00:00" in series.notes[1]


def test_sub_folders_are_sequences(tmp_path):
    for folder in ("a10", "a2"):
        for number in range(3):
            png(tmp_path / "films" / folder / f"{number}.png", np.full((2, 3), int(folder[1:]), np.uint8))
    series = read_series(tmp_path / "films")
    assert series.names.tolist() == ["a2", "a10"]
    assert series.starts.tolist() == [0, 3]
    assert series.frames[:, 0, 0, 0].tolist() == [2] * 3 + [10] * 3


def test_colours_are_channels_16_bits_are_kept_and_what_is_transparent_is_nan(tmp_path):
    coloured = some(2, 3, 3).astype(np.uint8)
    png(tmp_path / "rgb" / "1.png", coloured)
    series = read_series(tmp_path / "rgb")
    assert series.channels == ("red", "green", "blue")
    np.testing.assert_array_equal(series.frames[0], coloured.transpose(2, 0, 1))
    png(tmp_path / "deep" / "1.png", np.array([[0, 65535], [300, 7]], np.uint16))
    assert read_series(tmp_path / "deep").frames[0, 0].tolist() == [[0, 65535], [300, 7]]
    opaque = np.dstack([coloured, np.full((2, 3), 255, np.uint8)])
    opaque[1, 2, 3] = 0
    png(tmp_path / "clear" / "1.png", opaque)
    clear = read_series(tmp_path / "clear").frames
    assert np.isnan(clear[0, :, 1, 2]).all()
    assert np.isnan(clear).sum() == 3
    png(tmp_path / "palette" / "1.png", coloured, "P")
    assert read_series(tmp_path / "palette").frames.shape == (1, 3, 2, 3)


@pytest.mark.parametrize("end", ["pgm", "bmp", "tif", "gif"])
def test_other_formats_are_read(tmp_path, end):
    png(tmp_path / "film" / f"1.{end}", np.array([[0, 50, 100], [150, 200, 250]], np.uint8))
    values = read_series(tmp_path / "film").frames
    assert values[0, 0].tolist() == [[0, 50, 100], [150, 200, 250]]


def test_many_images_are_read_on_demand(tmp_path, monkeypatch):
    for number in range(5):
        png(tmp_path / "film" / f"{number}.png", np.full((2, 3), number, np.uint8))
    monkeypatch.setattr(images, "LARGE", 50)
    series = read_series(tmp_path / "film", Reading(scale=2))
    assert isinstance(series.frames, Lazy)
    assert series.frames[np.array([4, 1])][:, 0, 0, 0].tolist() == [8, 2]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            np.zeros((3, 3), np.uint8),
            r"2.png: frame size or mode is 3 x 3 \(L\), but that of the first image, 1.png, is 2 x 3 \(L\)",
        ),
        (np.zeros((2, 3, 3), np.uint8), r"2.png: frame size or mode is 2 x 3 \(RGB\)"),
    ],
)
def test_images_of_another_size_or_mode_are_named(tmp_path, values, said):
    png(tmp_path / "film" / "1.png", np.zeros((2, 3), np.uint8))
    png(tmp_path / "film" / "2.png", values)
    with pytest.raises(DataError, match=said):
        read_series(tmp_path / "film")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_an_image_that_cannot_be_read_is_named(tmp_path, content):
    png(tmp_path / "film" / "1.png", np.zeros((2, 3), np.uint8))
    (tmp_path / "film" / "2.png").write_bytes(content)
    with pytest.raises(DataError, match=r"2.png: cannot be read as an image"):
        read_series(tmp_path / "film")


def test_an_image_cut_short_is_named(tmp_path):
    rng = np.random.default_rng(0)
    png(tmp_path / "film" / "1.png", rng.integers(0, 255, (50, 50), np.uint8))
    whole = (tmp_path / "film" / "1.png").read_bytes()
    (tmp_path / "film" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"1.png: cannot be read as an image"):
        read_series(tmp_path / "film")


def test_only_plain_formats_are_opened_whatever_the_ending(tmp_path):
    png(tmp_path / "film" / "1.png", np.zeros((2, 3), np.uint8))
    Image.new("L", (3, 2)).save(tmp_path / "film" / "2.eps")  # which Pillow would hand to another program
    (tmp_path / "film" / "2.eps").rename(tmp_path / "film" / "2.png")
    with pytest.raises(DataError, match=r"2.png: cannot be read as an image"):
        read_series(tmp_path / "film")


@pytest.mark.parametrize(("scale", "offset"), [(0.0, 0.0), (1.0, float("nan")), (float("inf"), 0.0)])
def test_a_scale_that_keeps_nothing_is_refused(tmp_path, scale, offset):
    np.save(tmp_path / "a.npy", np.ones((3, 2, 2)))
    with pytest.raises(UserError, match="expected finite numbers and a scale other than 0"):
        read_series(tmp_path / "a.npy", Reading(scale=scale, offset=offset))


@pytest.mark.parametrize("most", [10, 20])
def test_a_decompression_bomb_is_not_read(tmp_path, monkeypatch, most):
    png(tmp_path / "film" / "1.png", np.zeros((5, 5), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)  # above it Pillow warns, above twice of it it raises
    with warnings.catch_warnings(record=True) as fields, pytest.raises(DataError, match=r"1.png: too many pixels"):
        read_series(tmp_path / "film")
    assert fields == []


def test_images_with_one_number_and_films_in_a_file_are_refused(tmp_path):
    for name in ("a1.png", "b01.png"):
        png(tmp_path / "twice" / name, np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match=r"a1.png and b01.png have the same number 1"):
        read_series(tmp_path / "twice")
    (tmp_path / "gif").mkdir()
    pages = [Image.fromarray(np.full((2, 3), i * 50, np.uint8)) for i in range(3)]
    pages[0].save(tmp_path / "gif" / "1.gif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"1.gif: contains 3 images, expected one per file"):
        read_series(tmp_path / "gif")


# Folders


def daily(path, first: str, count: int = 4, size=(2, 3), **more):
    path.parent.mkdir(exist_ok=True)
    np.savez(path, film=some(count, *size) + 100 * int(first[-2:]), time=hours(first, count), **more)


def test_files_are_joined_in_the_order_of_their_times(tmp_path):
    daily(tmp_path / "d" / "a.npz", "2014-01-01T08")
    daily(tmp_path / "d" / "b.npz", "2014-01-01T00")
    daily(tmp_path / "d" / "c.npz", "2014-01-01T04")
    daily(tmp_path / "d" / "e.npz", "2014-01-01T20")
    series = read_series(tmp_path / "d")
    assert series.frames[::4, 0, 0, 0].tolist() == [0, 400, 800, 2000]
    assert series.starts.tolist() == [0, 12]  # the first three go on, the last comes after a gap
    assert series.names.tolist() == ["b", "e"]
    assert len(series.notes) == 1
    np.testing.assert_array_equal(np.diff(series.times[:12]), HOUR)


def test_files_of_a_frame_each_are_one_stretch(tmp_path):
    for i in range(6):
        daily(tmp_path / "d" / f"{i}.npz", f"2014-01-01T{i:02}", 1)
    series = read_series(tmp_path / "d")
    assert (series.starts.tolist(), series.step) == ([0], HOUR)


def test_files_without_times_are_stretches_in_natural_order(tmp_path):
    for number in (2, 10):
        np.save(tmp_path / f"part{number}.npy", np.full((3, 2, 3), number))
    series = read_series(tmp_path)
    assert series.names.tolist() == ["part2", "part10"]
    assert (series.starts.tolist(), series.frames[:, 0, 0, 0].tolist()) == ([0, 3], [2] * 3 + [10] * 3)


def test_large_files_are_joined_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "LARGE", 100)
    monkeypatch.setattr("wavefold.data.series_reader.LARGE", 100)
    np.save(tmp_path / "1.npy", some(6, 2, 3))
    np.save(tmp_path / "2.npy", some(6, 2, 3) + 100)
    series = read_series(tmp_path)
    assert isinstance(series.frames, Lazy)
    assert series.frames[np.array([7, 0, 5, 11])][:, 0, 0, 0].tolist() == [106, 0, 30, 130]


@pytest.mark.parametrize(
    ("first", "more", "said"),
    [
        ("2014-01-01T04", {"size": (2, 4)}, r"b.npz: frame size is 2 x 4 .*, but that of a.npz is 2 x 3"),
        ("2014-01-01T03", {}, "b.npz: begins at 2014-01-01 03:00, before a.npz ends at 2014-01-01 03:00"),
        ("2014-01-01T04", {"unit": "mm"}, "b.npz: unit is 'mm'"),
        ("2014-01-01T04", {"channels": ["rain"]}, "b.npz: has channels rain, but a.npz has film"),
    ],
)
def test_files_that_do_not_fit_together_are_named(tmp_path, first, more, said):
    daily(tmp_path / "d" / "a.npz", "2014-01-01T00")
    daily(tmp_path / "d" / "b.npz", first, **more)
    with pytest.raises(DataError, match=said):
        read_series(tmp_path / "d")


def test_sources_that_are_none_say_what_was_expected(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames.csv").write_text("time,x,y\n")
    (tmp_path / "frames.doc").write_text("?")
    png(tmp_path / "one.png", np.zeros((2, 3), np.uint8))
    for source, said in [
        ("frames", "contains nothing; expected numbered images, or .npy"),
        ("frame", "no such file or folder; did you mean 'frames'"),
        ("frames.csv", r"a table of timed events needs the option events = \{box = \[west, east, south, north\], cells"),
        ("frames.doc", "not one of .npy, .npz, .nc"),
        ("one.png", "is a single image, expected a folder"),
    ]:
        with pytest.raises(UserError, match=said):
            read_series(tmp_path / source)
    with pytest.raises(UserError, match=r"layout 'aray' is not one of auto, array.*did you mean 'array'"):
        read_series(tmp_path / "frames", layout="aray")


def test_the_digest_is_of_the_bytes(tmp_path):
    png(tmp_path / "film" / "1.png", np.zeros((2, 3), np.uint8))
    np.save(tmp_path / "a.npy", some(4, 2, 3))
    before = [read_series(tmp_path / name).digest for name in ("film", "a.npy")]
    assert all(len(d) == 64 for d in before)
    png(tmp_path / "film" / "1.png", np.ones((2, 3), np.uint8))
    np.save(tmp_path / "a.npy", some(4, 2, 3) + 1)
    after = [read_series(tmp_path / name).digest for name in ("film", "a.npy")]
    assert all(a != b for a, b in zip(before, after, strict=True))


# Writing


def nan_at(frames):
    frames = frames.copy()
    frames[1, 0, 0, 1] = np.nan
    return frames


TIMES = 1388534400 + HOUR * np.arange(6)
KINDS = {
    "plain": Series(some(6, 1, 2, 3), np.array([0]), np.array(["a"])),
    "nan": Series(nan_at(some(6, 2, 2, 3)), np.array([0]), np.array(["a"]), TIMES, HOUR, ("u", "v"), "m/s", np.arange(2.0)),
    "gap": Series(
        some(6, 1, 2, 3), np.array([0, 4]), np.array(["x", "y"]), TIMES + 99 * (np.arange(6) > 3) + 0.5, HOUR, ("u",)
    ),
    "sequences": Series(some(6, 3, 2, 3), np.array([0, 2, 4]), np.array(["x", "y", "z"]), step=5.0, channels=("a", "b", "c")),
    "sites": Series(some(6, 1, 2, 3), np.array([0, 3]), np.array(["x", "y"]), np.tile(TIMES[:3], 2), HOUR, ("u",)),
    "squares": simulate_squares(3, 1, shape=(2, 8, 9), past=2, ahead=1),
    "digits": simulate_digits(1, 1, shape=(1, 16, 16), past=2, ahead=2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_as_the_same_series(tmp_path, kind):
    series = KINDS[kind]
    path = write_frames(series, tmp_path / "out")
    assert path == tmp_path / "out" / "frames.npz"
    for source in (path, path.parent):
        again = read_series(source)
        np.testing.assert_array_equal(again.frames, series.frames)
        np.testing.assert_array_equal(again.starts, series.starts)
        assert again.names.tolist() == [
            name if source == path or name.startswith("frames") else f"frames-{name}" for name in series.names.tolist()
        ]
        assert (again.step, again.unit) == (series.step, series.unit)
        assert again.channels == (series.channels or ("frames",))
        for name in ("times", "rows", "columns"):
            np.testing.assert_array_equal(getattr(again, name), getattr(series, name))
    with pytest.raises(UserError, match="already exists"):
        write_frames(series, tmp_path / "out")


# Real data


def test_real_radar_is_read(real):
    fmi = read_series(real("radar/fmi_20160928_2km.npz"), Reading(scale=0.5, offset=-32, missing=(255,), unit="dBZ"))
    assert fmi.frames.shape == (40, 1, 613, 380)
    assert (fmi.step, fmi.starts.tolist()) == (300, [0])
    covered = np.isfinite(fmi.frames)
    assert covered.mean() == pytest.approx(0.76, abs=0.01)
    assert (fmi.frames[covered] >= 7).mean() == pytest.approx(0.32, abs=0.01)
    knmi = read_series(real("radar/knmi_20100826_1km.npz"), Reading(scale=0.01, missing=(255,)))
    assert (knmi.step, len(knmi), np.nanmax(knmi.frames)) == (300, 92, np.float32(2.45))
    mrms = read_series(real("radar/mrms_20190610_4km_west.npz"), Reading(scale=0.05, missing=(65535,)))
    assert (mrms.step, mrms.size) == (120, (875, 1150))


def test_real_temperatures_are_read(real):
    era5 = read_series(real("era5_uk_t2m/era5_uk_t2m.npz"), Reading(scale=0.01, unit="degC"))
    assert (era5.frames.shape, era5.step, era5.channels) == ((600, 1, 33, 49), 3600, ("t2m_centi_c",))
    assert (era5.frames.min(), era5.frames.max()) == (np.float32(-7.47), np.float32(16.94))
    assert era5.times is not None
    assert era5.times[0] == np.datetime64("2019-03-01", "s").astype(np.int64)
    assert era5.rows is not None
    assert era5.rows[0] == 58
    ersst = read_series(real("ersst_v5/ersst_v5_2010_2020.npz"), Reading(scale=0.01, missing=(-32768,)))
    assert (len(ersst), ersst.starts.tolist(), ersst.notes) == (128, [0], ())
    assert (np.nanmin(ersst.frames), np.nanmax(ersst.frames)) == (np.float32(-1.8), np.float32(34.1))


def test_real_taxi_counts_are_read_without_times(real):
    taxi = read_series(real("nyc_taxi/nyc_taxi_pickups_201501.npz"))
    assert (taxi.frames.shape, taxi.times, taxi.frames.max()) == ((1152, 1, 10, 20), None, 2963)
