"""Simulated frames: they are what they say, the same for the same seed, and the first of many are those of few."""

from __future__ import annotations

import numpy as np
import pytest

from wavefold.core.errors import DataError, UserError
from wavefold.data.lazy import Lazy
from wavefold.domains.maps import simulate
from wavefold.domains.maps.simulate import simulate_digits, simulate_squares

SIMULATORS = [simulate_squares, simulate_digits]


@pytest.mark.parametrize("simulate", SIMULATORS)
def test_each_film_is_a_stretch(simulate):
    series = simulate(5, 1, shape=[2, 24, 30], past=4, ahead=3)
    assert series.frames.shape == (35, 2, 24, 30)
    assert series.frames.dtype == np.float32
    assert series.starts.tolist() == [0, 7, 14, 21, 28]
    assert (series.times, series.unit, len(series.channels)) == (None, "", 2)
    assert series.frames.min() == 0
    assert 0.9 < series.frames.max() <= 1
    assert not np.array_equal(series.frames[:, 0], series.frames[:, 1])


@pytest.mark.parametrize("simulate", SIMULATORS)
def test_the_same_seed_gives_the_same_bits_and_more_films_change_none(simulate):
    few, many, other = (simulate(n, s, shape=[1, 16, 16], past=3, ahead=2).frames for n, s in [(4, 1), (9, 1), (4, 2)])
    np.testing.assert_array_equal(few, many[:20])
    assert not np.array_equal(few, other)


@pytest.mark.parametrize("simulate", SIMULATORS)
def test_what_is_made_on_demand_is_the_same(simulate, monkeypatch):
    made = simulate(6, 1, shape=[2, 16, 20], past=3, ahead=2).frames
    monkeypatch.setattr("wavefold.domains.maps.simulate.LARGE", 10)
    lazy = simulate(6, 1, shape=[2, 16, 20], past=3, ahead=2).frames
    assert isinstance(lazy, Lazy)
    numbers = np.array([17, 3, 29, 3])
    np.testing.assert_array_equal(lazy[numbers], made[numbers])


@pytest.mark.parametrize("simulate", SIMULATORS)
@pytest.mark.parametrize("shape", [[1, 64], [1, 4, 64], [0, 64, 64]])
def test_shapes_that_cannot_be_are_refused(simulate, shape):
    with pytest.raises(UserError, match=r"needs \[channels, rows, columns\] with 8 pixels or more"):
        simulate(1, 1, shape=shape, past=1, ahead=1)
    with pytest.raises(UserError, match="got 0 of 1"):
        simulate(0, 1, shape=[1, 16, 16], past=1, ahead=1)


def test_only_shown_squares_have_noise():
    frames = simulate_squares(40, 1, shape=[1, 40, 40], past=6, ahead=5).frames.reshape(40, 11, 40, 40)
    assert set(np.unique(frames[:, 6:])) == {0, 1}
    faint = frames[:, :6]
    assert set(np.round(np.unique(faint), 2)) >= {0, np.float32(0.1), np.float32(0.9), 1}
    assert 0.001 < ((faint > 0) & (faint < 1)).mean() < 0.1


def test_squares_have_the_published_sizes_and_move_at_most_a_pixel_a_frame():
    films = simulate._draw_squares(500, 1, 40, 30, 5)
    assert set(films.half.ravel()) == {2, 3}
    assert set(films.move.ravel()) == {-1, 0, 1}
    assert set(films.there.sum(axis=1)) == {3, 4, 5, 6, 7}
    assert films.start.reshape(-1, 2).max(axis=0).tolist() == [39, 29]
    frames = simulate_squares(1, 3, shape=[1, 64, 64], past=1, ahead=9).frames[1:, 0]
    areas = frames.sum(axis=(1, 2))
    assert areas.max() <= 7 * 36
    assert areas.min() > 0


def test_digits_move_at_their_speed_and_stay_in_the_frame():
    films = simulate._draw_digits(200, 1, np.ones((10, 28, 28), np.float32), (64, 64), 20)
    assert films.corner.min() == 0
    assert films.corner.max() == 36
    moved = np.diff(films.corner, axis=2)
    lengths = np.hypot(moved[..., 0], moved[..., 1])
    assert lengths.max() <= 3.6 + 2**0.5
    assert np.median(lengths) == pytest.approx(3.6, abs=0.4)
    assert (np.sign(moved[:, :, 1:]) * np.sign(moved[:, :, :-1]) < 0).any(axis=(0, 1, 2)).all()  # they turn on both axes


def test_digits_overlap_by_their_maximum_and_come_from_a_file(tmp_path):
    images = np.stack([np.full((28, 28), 255), np.full((28, 28), 51)]).astype(np.uint8)
    np.savez(tmp_path / "digits.npz", images=images, labels=[0, 1])
    frames = simulate_digits(30, 1, shape=[1, 64, 64], past=5, ahead=5, digits=str(tmp_path / "digits.npz")).frames
    assert set(np.unique(frames)) == {0, np.float32(0.2), 1}
    assert (frames > 0).sum(axis=(1, 2, 3)).max() <= 2 * 28 * 28
    for name, said in [
        ("none.npz", "no such file; expected an .npz of digits"),
        ("other.npz", "no variable 'images'; available: film"),
    ]:
        np.savez(tmp_path / "other.npz", film=images)
        with pytest.raises(UserError, match=said):
            simulate_digits(1, 1, shape=[1, 64, 64], past=1, ahead=1, digits=str(tmp_path / name))
    assert issubclass(DataError, UserError)


def test_digits_shrink_with_the_frame():
    frames = simulate_digits(20, 1, shape=[1, 32, 64], past=2, ahead=2).frames
    inked = (frames > 0).any(axis=2).sum(axis=2)  # columns with ink, of two digits of 14
    assert 14 < inked.max() <= 28


def test_real_digits_move(real):
    path = str(real("movingmnist/mnist_train_digits.npz"))
    frames = simulate_digits(50, 1, shape=[1, 64, 64], past=10, ahead=10, digits=path).frames
    assert frames.mean() == pytest.approx(2 * 0.1307 * 28**2 / 64**2, rel=0.15)  # two digits of MNIST's mean, less overlap
