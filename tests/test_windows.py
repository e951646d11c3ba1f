"""Windows in time: where they may lie, and a split that no window straddles."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from wavefold.core.errors import DataError, UserError
from wavefold.data.series import Series, later
from wavefold.data.windows import cut_windows, finite_share, split_by_time, time_blocks


def a_series(*lengths: int, size: tuple[int, int] = (2, 3), times: object = None, step: float = 0.0) -> Series:
    """Frames that hold their own number in every cell, in stretches of so many frames."""
    total = sum(lengths)
    frames = np.broadcast_to(np.arange(total, dtype=np.float32)[:, None, None, None], (total, 1, *size)).copy()
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    names = np.array([f"s{k}" for k in range(len(lengths))])
    return Series(frames, starts, names, times=None if times is None else np.array(times, float), step=step, source="a.npy")


def test_windows_keep_to_their_stretch_and_stride() -> None:
    windows = cut_windows(a_series(7, 3, 6), past=2, ahead=2, stride=2)
    assert windows.first.tolist() == [0, 2, 10, 12]
    assert windows.values()[1, 0, :, 0, 0].tolist() == [2, 3, 4, 5]
    assert cut_windows(a_series(7), past=2, ahead=2).first.tolist() == [0, 1, 2, 3]


def test_times_past_the_end_go_on_by_months_but_not_by_four_weeks() -> None:
    months = np.arange("2020-01", "2021-01", dtype="M8[M]").astype("M8[s]").astype(np.int64)
    for step, expected in ((31, ["2021-01-01", "2021-02-01", "2021-03-01"]), (28, ["2020-12-29", "2021-01-26", "2021-02-23"])):
        windows = cut_windows(a_series(12, times=months, step=step * 86400.0), past=12, ahead=0)
        clock = replace(windows, ahead=3).clock()
        assert clock.astype("M8[s]").astype("M8[D]").astype(str).tolist() == [expected]
    last = np.array(["2020-03-31T06"], "M8[s]").astype(np.float64)
    assert later(last, 31 * 86400.0, np.array([-1])).astype("M8[s]").astype(str).tolist() == ["2020-02-29T23:59:59"]


def test_crops_tile_from_the_top_left_and_leave_out_what_is_incomplete() -> None:
    series = a_series(5, size=(5, 7))
    windows = cut_windows(series, past=3, ahead=1, crop=(2, 3))
    assert list(zip(windows.first, windows.top, windows.left, strict=True))[:5] == [
        (0, 0, 0),
        (0, 0, 3),
        (0, 2, 0),
        (0, 2, 3),
        (1, 0, 0),
    ]
    assert windows.values().shape == (8, 1, 4, 2, 3)
    near = cut_windows(series, past=3, ahead=1, crop=(2, 3), crop_stride=(3, 2))
    assert sorted(set(near.top.tolist())) == [0, 3]
    assert sorted(set(near.left.tolist())) == [0, 2, 4]


def test_many_sequences_and_many_crops() -> None:
    sequences = Series(np.zeros((200_000, 1, 1, 1), np.float32), np.arange(0, 200_000, 20), np.full(10_000, "s"))
    windows = cut_windows(sequences, past=10, ahead=10)
    assert np.array_equal(windows.first, sequences.starts)
    split = split_by_time(windows)
    assert [len(split.train), len(split.validation), len(split.test)] == [7000, 1500, 1500]
    assert len(cut_windows(a_series(92, size=(600, 380)), past=20, ahead=20, crop=(60, 93))) == 53 * 40


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"past": 4, "ahead": 4}, DataError, ["a.npy", "6 frames", "needs 8"]),
        ({"past": 2, "ahead": 1, "crop": (2, 4)}, UserError, ["windows.crop", "2 x 4", "2 x 3"]),
        ({"past": 2, "ahead": 1, "crop": (2,)}, UserError, ["windows.crop", "[2]"]),
        ({"past": 2, "ahead": 1, "crop_stride": (0, 1)}, UserError, ["windows.crop_stride"]),
        ({"past": 0, "ahead": 1}, UserError, ["windows.past", "0"]),
        ({"past": 1, "ahead": 1, "stride": 0}, UserError, ["windows.stride", "0"]),
    ],
)
def test_impossible_windows_are_named(options: dict[str, object], error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as raised:
        cut_windows(a_series(3, 6), **options)
    assert all(word in str(raised.value) for word in words), raised.value
    assert "\n" not in str(raised.value)


def test_parts_are_in_time_and_a_window_apart() -> None:
    windows = cut_windows(a_series(200), past=3, ahead=2)
    split = split_by_time(windows, validation=0.2, test=0.1)
    spans = [(windows.first[p].min(), windows.first[p].max() + 5) for p in (split.train, split.validation, split.test)]
    assert spans == [(0, 130), (135, 175), (180, 200)]  # 40 and 20 frames as asked, 5 left out before each
    close = split_by_time(windows, validation=0.2, test=0.1, gap=0)
    assert [len(p) for p in (close.train, close.validation, close.test)] == [136, 36, 16]


@pytest.mark.parametrize("seed", range(8))
def test_no_frame_is_in_two_parts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 60, size=8)
    apart = rng.integers(1, 30, size=8)
    begins = np.cumsum(np.append(0, lengths[:-1] + apart[1:]))
    times = np.concatenate([begin + np.arange(n) for begin, n in zip(begins, lengths, strict=True)])
    for clock in (None, times):
        windows = cut_windows(a_series(*lengths, times=clock, step=1.0), past=2, ahead=2)
        split = split_by_time(windows, validation=0.3, test=0.2)
        used = [np.unique(windows.first[p][:, None] + np.arange(4)) for p in (split.train, split.validation, split.test)]
        for before, after in pairwise(used):
            assert before.max() < after.min()
            if clock is not None:
                assert times[after.min()] - times[before.max()] > 4  # a window's length in time


def test_a_cut_near_a_stretch_goes_there_and_needs_no_gap() -> None:
    unclocked = split_by_time(windows := cut_windows(a_series(30, 12), past=2, ahead=2), validation=0, test=0.3)
    assert windows.first[unclocked.train].max() == 26
    assert windows.first[unclocked.test].min() == 30
    assert not len(unclocked.validation)

    close = np.concatenate([np.arange(30), np.arange(12) + 32.0])  # two frames are missing between
    windows = cut_windows(a_series(30, 12, times=close, step=1.0), past=2, ahead=2)
    split = split_by_time(windows, validation=0, test=0.3)
    assert windows.first[split.train].max() + 3 == 27  # 28 and 29 are left out, which with 30 and 31 makes four
    assert windows.first[split.test].min() == 30


def test_a_part_without_windows_is_an_error_that_says_what_to_change() -> None:
    windows = cut_windows(a_series(92), past=20, ahead=20)
    with pytest.raises(UserError) as raised:
        split_by_time(windows)
    for word in ("92 frames", "test 14", "needs 40", "split.test", "split.gap", "windows.past", "windows.ahead"):
        assert word in str(raised.value)
    whole = split_by_time(windows, validation=0, test=0)
    assert len(whole.train) == len(windows)
    for wrong in ({"test": 1.0}, {"validation": -0.1}, {"validation": 0.6, "test": 0.5}, {"gap": -2}):
        with pytest.raises(UserError, match=r"split\."):
            split_by_time(windows, **wrong)


def test_blocks_hold_what_overlaps() -> None:
    windows = cut_windows(a_series(9, 6), past=2, ahead=2)
    assert time_blocks(windows).tolist() == ["0:0"] * 4 + ["0:1"] * 2 + ["1:0"] * 3
    assert time_blocks(windows, np.array([8, 0])).tolist() == ["1:0", "0:0"]


def test_finite_share_counts_the_later_cells() -> None:
    series = a_series(5, size=(3, 4))
    series.frames[3, 0, 0, :2] = np.nan
    series.frames[4] = np.nan
    windows = cut_windows(series, past=2, ahead=1, crop=(3, 2))
    later = windows.values()[:, :, 2:]
    assert finite_share(windows).tolist() == pytest.approx(np.isfinite(later).mean(axis=(1, 2, 3, 4)).tolist())
    assert finite_share(windows)[[2, 4]].tolist() == pytest.approx([2 / 3, 0])
