"""Balancers: classes filled up after the real samples, each in its own way, and repeatably."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wavefold.core.errors import UserError
from wavefold.transforms import BALANCERS, GanBalance, Repeat, Smote
from wavefold.transforms.gan import imitate

SIZES = (20, 9, 3)


def waves(sizes: tuple[int, ...] = SIZES, length: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Two channels of noisy sines, one frequency a class, in about 1 to 3."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    turns = (labels + 1)[:, None, None] * np.linspace(0, 1, length) + np.array([[0], [0.25]])
    signals = 2 + np.sin(2 * np.pi * turns) * rng.uniform(0.8, 1, (len(labels), 1, 1))
    return signals.astype(np.float32), labels


def made_by(name: str) -> Repeat | Smote | GanBalance:
    return GanBalance(steps=3) if name == "gan" else BALANCERS[name]()


@pytest.mark.parametrize("name", sorted(BALANCERS))
def test_real_samples_first_then_each_class_filled_up(name):
    signals, labels = waves()
    both, numbers, made = made_by(name).resample(signals, labels, 5)
    assert made == 11 + 17
    assert np.array_equal(both[:32], signals)
    assert np.array_equal(numbers[:32], labels)
    assert np.array_equal(numbers[32:], np.repeat([1, 2], [11, 17]))
    assert (both.dtype, numbers.dtype, both.shape) == (np.float32, np.int64, (60, 2, 24))
    for number in (1, 2):  # nothing leaves its class's range
        new, own = both[32:][numbers[32:] == number], signals[labels == number]
        assert own.min() - 1e-6 <= new.min() <= new.max() <= own.max() + 1e-6


@pytest.mark.parametrize("name", sorted(BALANCERS))
def test_a_seed_decides_and_other_generators_stay(name):
    signals, labels = waves()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, again, other = (made_by(name).resample(signals, labels, s)[0] for s in (5, 5, 6))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize("name", sorted(BALANCERS))
def test_a_ratio_asks_for_less(name):
    signals, labels = waves()
    balancer = made_by(name)
    balancer.ratio = 0.25  # 5 of 20: class 1 has more already
    assert np.bincount(balancer.resample(signals, labels, 0)[1]).tolist() == [20, 9, 5]


@pytest.mark.parametrize("name", sorted(BALANCERS))
def test_balanced_classes_and_missing_numbers_need_nothing(name):
    signals, labels = waves((6, 6))
    both, numbers, made = made_by(name).resample(signals, labels * 2, 0)  # no sample of class 1
    assert (len(both), len(numbers), made) == (12, 12, 0)


def test_repeats_are_even():
    signals, labels = waves((20, 9))
    both, _, _ = Repeat().resample(signals, labels, 0)
    _, counts = np.unique(both[29:].reshape(11, -1), axis=0, return_counts=True)
    assert sorted(counts) == [1] * 7 + [2] * 2


def test_smote_stays_between_two_samples_of_a_class():
    corners = np.array([[[0.0, 0.0]], [[1.0, 2.0]]], np.float32)
    signals, labels = np.concatenate([np.full((9, 1, 2), 5, np.float32), corners]), np.repeat([0, 1], [9, 2])
    new = Smote().resample(signals, labels, 0)[0][11:]  # five neighbours are cut to the one there is
    np.testing.assert_allclose(new[:, 0, 1], 2 * new[:, 0, 0], rtol=1e-6)
    assert len(np.unique(new[:, 0, 0])) == 7


@pytest.mark.parametrize("name", ["smote", "gan"])
def test_a_class_of_one_sample_is_named(name):
    signals, labels = waves((4, 1))
    with pytest.raises(UserError, match=f"class 'qso' has 1 sample in the training part; {name} needs at least 2"):
        made_by(name).resample(signals, labels, 0, ["star", "qso"])


@pytest.mark.parametrize(
    "make", [lambda: Repeat(0.0), lambda: Smote(ratio=1.5), lambda: Smote(0), lambda: GanBalance(epochs=0)]
)
def test_bad_options_are_named(make):
    with pytest.raises(UserError, match=r"^(repeat|smote|gan)"):
        make()


def test_a_gan_learns_range_and_mean():
    signals, _ = waves((64,))
    made = imitate(signals, 200, seed=1, epochs=150)
    assert made.shape == (200, 2, 24)
    assert signals.min() <= made.min() < 1.3
    assert 2.7 < made.max() <= signals.max()
    assert np.abs(made.mean(axis=0) - signals.mean(axis=0)).mean() < 0.25  # of a range of 2
    untrained = imitate(signals, 200, seed=1, epochs=1, steps=1)
    assert np.abs(untrained.mean(axis=0) - signals.mean(axis=0)).mean() > 0.5


@pytest.mark.parametrize("count", [2, 33])
def test_a_last_batch_of_one_is_left_out(count):
    signals, _ = waves((count,))
    assert np.isfinite(imitate(signals, 3, seed=0, epochs=2)).all()


def test_a_flat_class_gives_flat_samples():
    assert np.array_equal(imitate(np.full((4, 1, 8), 3, np.float32), 2, seed=0, epochs=1), np.full((2, 1, 8), 3))
