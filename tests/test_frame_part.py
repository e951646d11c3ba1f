"""Windows as a net learns from them: cut where they lie, at places drawn anew, mirrored, shared by processes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from wavefold.core.errors import DataError
from wavefold.data.lazy import Lazy
from wavefold.data.series import Series, Windows, join_stretches, stretches, time_word
from wavefold.data.windows import cut_windows
from wavefold.training.forecast_set import ForecastTrainingSet, cut, forecast_windows, past_of
from wavefold.training.sampler import Draw, EachOnce
from wavefold.transforms.mirror import Mirror

CPU = torch.device("cpu")


def a_series(*lengths: int, channels: int = 2, size: tuple[int, int] = (5, 6), **more: object) -> Series:
    """Frames in which no two values are alike."""
    shape = (sum(lengths), channels, *size)
    frames = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    starts, names = join_stretches([f"s{k}" for k in range(len(lengths))], lengths)
    return Series(frames, starts, names, channels=("a", "b")[:channels], **more)


def a_part(windows: Windows, **more: object) -> ForecastTrainingSet:
    return ForecastTrainingSet(windows, EachOnce(len(windows), 4), CPU, 1, **more)


def places(windows: Windows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return tuple(torch.from_numpy(p) for p in (windows.first, windows.top, windows.left))


def whole(
    part: ForecastTrainingSet, index: list[int], key: int = 3, own: list[int] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.tensor(index)
    return next(part.drawn([Draw(rows, key, torch.arange(len(rows)) if own is None else torch.tensor(own))]))


@pytest.mark.parametrize("crop", [(), (2, 3), (5, 2)])
def test_a_cut_is_what_windows_say(crop):
    windows = cut_windows(a_series(7, 5), past=2, ahead=2, crop=crop)
    made = cut(torch.from_numpy(windows.series.frames), *places(windows), windows)
    np.testing.assert_array_equal(made.numpy(), windows.values())


def test_past_frames_have_no_nan_and_later_ones_keep_theirs():
    series = a_series(6)
    series.frames[1, 0, 2, 3] = series.frames[4, 0, 2, 3] = np.nan
    past, later = whole(a_part(cut_windows(series, past=3, ahead=2)), [0, 1])
    assert past.shape == (2, 2, 3, 5, 6)
    assert later.shape == (2, 1, 2, 5, 6)  # the first channel alone is forecast
    assert past[0, 0, 1, 2, 3] == past[0, 0, 0, 2, 3]  # the latest value before
    assert past[1, 0, 0, 2, 3] == 0  # none came before
    assert torch.isnan(later[0, 0, 1, 2, 3])
    assert int(torch.isnan(later).sum()) == 2
    assert past_of(torch.full((1, 1, 3, 1, 1), torch.nan), 2).tolist() == [[[[[0.0]], [[0.0]]]]]


@pytest.mark.parametrize("anywhere", [False, True])
def test_frames_read_on_demand_give_the_same(anywhere):
    windows = cut_windows(a_series(9), past=2, ahead=1, crop=(3, 3))
    frames, part = windows.series.frames, a_part(windows, changes=(Mirror(),), anywhere=anywhere)
    lazy = windows.of(windows.series.with_frames(Lazy(lambda at: frames[at], np.arange(9), frames.shape[1:])))
    draws = [Draw(torch.tensor(index), key, torch.arange(3)) for key, index in enumerate(([0, 5, 2], [13, 1, 1]))]
    for here, there in zip(part.drawn(draws), replace(part, windows=lazy).drawn(draws), strict=True):
        for one, other in zip(here, there, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_crops_anywhere_stay_inside_and_are_drawn_by_key_and_sample():
    frames = np.broadcast_to(np.arange(30, dtype=np.float32).reshape(1, 1, 5, 6), (300, 1, 5, 6)).copy()
    starts, names = join_stretches(["s"], [300])
    windows = cut_windows(Series(frames, starts, names), past=1, ahead=1, crop=(3, 4))
    part = a_part(windows, anywhere=True)
    every = list(range(len(windows)))
    past, later = whole(part, every)
    corners = past[:, 0, 0, 0, 0].numpy()
    assert sorted(set(corners.tolist())) == [0, 1, 2, 6, 7, 8, 12, 13, 14]  # 3 x 3 places, all inside
    np.testing.assert_array_equal(past[:, 0, 0] - past[:, :1, 0, 0, 0, None], np.tile(frames[0, 0, :3, :4], (len(every), 1, 1)))
    np.testing.assert_array_equal(past[:, 0, 0], later[:, 0, 0])
    backwards, _ = whole(part, every[::-1])
    np.testing.assert_array_equal(backwards.numpy()[::-1], past.numpy())
    other, _ = whole(part, every, key=4)
    assert not np.array_equal(other[:, 0, 0, 0, 0], corners)


def test_the_shares_of_processes_are_the_whole():
    part = a_part(cut_windows(a_series(12), past=2, ahead=2, crop=(2, 2)), changes=(Mirror(),), anywhere=True)
    index = [3, 40, 7, 11, 7]
    past, later = whole(part, index)
    for rank in range(2):
        some_past, some_later = whole(part, index, own=list(range(rank, 5, 2)))
        np.testing.assert_array_equal(some_past, past[rank::2])
        np.testing.assert_array_equal(some_later, later[rank::2])


def test_mirrored_windows_are_images_of_themselves_by_key_and_sample():
    values = torch.arange(200 * 2 * 3 * 2 * 2, dtype=torch.float32).view(200, 2, 3, 2, 2)
    samples = torch.arange(200)
    made = Mirror()(values, samples, 5)
    images = [values.flip(axes) if axes else values for axes in ((), (-2,), (-1,), (-2, -1))]
    alike = torch.stack([(made == image).flatten(1).all(1) for image in images])
    assert alike.sum(0).tolist() == [1] * 200
    assert all(25 <= count <= 75 for count in alike.sum(1).tolist())  # a quarter each, of 200
    np.testing.assert_array_equal(Mirror()(values[50:60], samples[50:60], 5), made[50:60])
    rows = Mirror(columns=False)(values, samples, 5)
    assert all(bool((row == value).all() or (row == value.flip(-2)).all()) for row, value in zip(rows, values, strict=True))
    np.testing.assert_array_equal(Mirror(rows=False, columns=False)(values, samples, 5), values)


def test_a_net_is_asked_in_blocks_and_shown_past_frames_alone():
    class Last(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, past):
            assert past.shape[2] == 2
            return past[:, :1, -1:].expand(-1, -1, 3, -1, -1) * self.weight

    windows = cut_windows(a_series(9), past=2, ahead=3)
    blocks = list(forecast_windows(Last(), windows, size=2))
    assert [rows for rows, _ in blocks] == [slice(0, 2), slice(2, 4), slice(4, 5)]
    said = np.concatenate([forecast for _, forecast in blocks])
    np.testing.assert_array_equal(said, np.repeat(windows.values()[:, :1, 1:2], 3, axis=2))


def test_the_clock_goes_on_past_the_end_of_a_stretch_and_over_a_gap():
    times = np.array([0, 10, 20, 30, 100, 110, 120, 130], float)
    series = a_series(4, 4, times=times, step=10.0)
    at = np.array([0, 1, 2, 4, 6])
    windows = Windows(series, at, at * 0, at * 0, 2, 3, (5, 6))
    assert windows.clock().tolist() == [[20, 30, 40], [30, 40, 50], [40, 50, 60], [120, 130, 140], [140, 150, 160]]
    bare = replace(windows, series=replace(series, times=None, step=0.0))
    assert bare.clock().tolist() == [[2, 3, 4], [3, 4, 5], [4, 5, 6], [6, 7, 8], [8, 9, 10]]
    months = np.array([0, 31, 59, 90], float) * 86400
    last = at[2:3]
    uneven = Windows(a_series(4, times=months, step=31 * 86400.0), last, last * 0, last * 0, 2, 2, (5, 6))
    np.testing.assert_array_equal(uneven.clock() / 86400, [[120, 151]])  # the first of May and of June


def test_stretches_end_at_gaps_and_months_are_even_enough():
    starts, step, notes = stretches(np.array([0, 60, 120, 300, 360, 900.0]), "a.nc")
    assert (starts.tolist(), step) == ([0, 3, 5], 60.0)
    assert notes[0].startswith("a.nc: 2 gaps in time, the first between 1970-01-01 00:02 and 1970-01-01 00:05")
    assert stretches(np.array([0, 60, 120.0]), "a.nc", step=30.0)[0].tolist() == [0, 1, 2]
    assert stretches(np.array([5.0]), "a.nc")[:2] == (np.zeros(1), 0.0)
    months = np.cumsum([0, 31, 28, 31, 30, 31]) * 86400.0
    assert stretches(months, "a.nc")[2] == ()
    with pytest.raises(DataError, match=r"a\.nc frame 2: its time 1970-01-01 00:01 is not after 1970-01-01 00:01"):
        stretches(np.array([0, 60, 60.0]), "a.nc")
    assert time_word(61.0) == "1970-01-01 00:01:01"
