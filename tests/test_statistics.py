"""Statistics of signals by class, channel and sample, and drift: against numpy, scipy and a hand's arithmetic."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from wavefold.core.errors import DataError
from wavefold.data import statistics
from wavefold.data.lazy import Lazy
from wavefold.data.statistics import SUMMARIES, class_statistics, drift, summaries, value_ranges


def lazily(signals):
    """The same samples, read on demand."""
    return Lazy(lambda rows: signals[rows], np.arange(len(signals)), signals.shape[1:])


def with_holes(shape, seed=0):
    """Normal values on a level of 1000, one in ten NaN, a few infinite."""
    rng = np.random.default_rng(seed)
    signals = (1000 + rng.normal(size=shape)).astype(np.float32)
    signals[rng.random(shape) < 0.1] = np.nan
    signals[rng.random(shape) < 0.01] = np.inf
    return signals


@pytest.mark.parametrize("shape", [(600, 2, 7), (120, 3, 4, 5)])
@pytest.mark.parametrize("form", [np.asarray, lazily])
def test_class_statistics_equal_numpy(shape, form):
    signals, labels = with_holes(shape), np.arange(shape[0]) % 3
    found = class_statistics(form(signals), labels, 3)
    clean = np.where(np.isfinite(signals), signals, np.nan).astype(np.float64)
    assert found.quantiles
    assert found.count.tolist() == [shape[0] // 3] * 3
    for number in range(3):
        own = clean[labels == number]
        assert found.mean[number] == pytest.approx(np.nanmean(own, axis=0), rel=1e-12)
        assert found.std[number] == pytest.approx(np.nanstd(own, axis=0), rel=1e-9)
        assert found.low[number] == pytest.approx(np.nanquantile(own, 0.05, axis=0), rel=1e-9)
        assert found.high[number] == pytest.approx(np.nanquantile(own, 0.95, axis=0), rel=1e-9)


def test_a_class_without_samples_is_nan_and_not_an_error():
    found = class_statistics(np.ones((2, 1, 3), np.float32), np.array([0, 2]), 3)
    assert found.count.tolist() == [1, 0, 1]
    assert np.isnan([found.mean[1], found.std[1], found.low[1], found.high[1]]).all()
    assert (found.mean[2] == 1).all()
    assert (found.std[2] == 0).all()


def test_what_is_too_large_for_quantiles_is_told_by_mean_and_spread(monkeypatch):
    monkeypatch.setattr(statistics, "_AT_ONCE", 100)
    signals = np.arange(60, dtype=np.float32).reshape(10, 1, 6)
    found = class_statistics(signals, np.zeros(10, np.int64), 1)
    assert not found.quantiles
    assert found.low[0] == pytest.approx(signals.mean(axis=0) - 2 * signals.std(axis=0))
    assert found.high[0] == pytest.approx(signals.mean(axis=0) + 2 * signals.std(axis=0))


def test_blocks_do_not_change_statistics(monkeypatch):
    signals, labels = with_holes((900, 1, 5)), np.arange(900) // 300  # classes begin and end within blocks
    whole = class_statistics(signals, labels, 3), value_ranges(signals)
    monkeypatch.setattr("wavefold.data.lazy._VALUES", 5 * 70)
    blocks = class_statistics(signals, labels, 3), value_ranges(signals)
    for one, other in zip(whole, blocks, strict=True):
        for name in vars(one):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, err_msg=name)


def test_labels_are_checked():
    signals = np.ones((3, 1, 2), np.float32)
    with pytest.raises(DataError, match="label 2 of sample 1 is not a class number from 0 to 1"):
        class_statistics(signals, np.array([0, 2, 1]), 2)
    with pytest.raises(DataError, match="2 labels for 3 samples"):
        class_statistics(signals, np.array([0, 1]), 2)


def test_value_ranges_by_hand():
    nan, inf = np.nan, np.inf
    signals = np.array(
        [
            [[1, 2, 3, 0, 0], [4, 0, 0, 0, 0]],  # tail of 2: the first channel's 3 ends it
            [[5, 5, 5, 5, 5], [5, 5, nan, 5, 5]],  # flat but for a hole
            [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
            [[nan, nan, inf, nan, nan], [nan, nan, nan, nan, nan]],
            [[-7, 0, 0, 0, nan], [0, 0, 0, 0, 0]],  # a hole is no zero
        ],
        np.float32,
    )
    found = value_ranges(signals)
    assert found.lowest.tolist() == [-7, 0]
    assert found.highest.tolist() == [5, 5]
    assert found.mean[0] == pytest.approx((6 + 25 - 7) / 19)
    assert found.std[1] == pytest.approx(np.std([4, 0, 0, 0, 0, 5, 5, 5, 5] + [0] * 10))
    np.testing.assert_array_equal(found.low, [0, 5, 0, nan, -7])
    np.testing.assert_array_equal(found.high, [4, 5, 0, nan, 0])
    assert found.not_finite.tolist() == [0, 1, 0, 10, 1]
    assert found.flat.tolist() == [False, True, True, True, False]
    assert found.zero_tail.tolist() == [2, 0, 5, 0, 0]


def test_zero_tail_of_panels_counts_the_last_axis():
    signals = np.ones((1, 6, 3, 8), np.float32)
    signals[..., 5:] = 0
    assert value_ranges(signals).zero_tail.tolist() == [3]
    signals[0, 4, 2, 7] = 1
    assert value_ranges(signals).zero_tail.tolist() == [0]


def test_values_of_nothing_are_nan():
    found = value_ranges(np.empty((0, 2, 4), np.float32))
    assert np.isnan([found.lowest, found.highest, found.mean, found.std]).all()
    assert len(found.flat) == len(found.zero_tail) == 0


def test_summaries_by_hand():
    signals = np.array([[[1, 3, 3, 0]], [[2, np.nan, 2, 6]], [[np.nan] * 4]], np.float32)
    found = dict(zip(SUMMARIES, summaries(signals).T, strict=True))
    assert found["mean"][:2] == pytest.approx([1.75, 10 / 3])
    assert found["spread"][:2] == pytest.approx([np.std([1, 3, 3, 0]), np.std([2, 2, 6])])
    assert found["roughness"][:2] == pytest.approx([5 / 3, 4])  # across a hole there is no step
    assert found["share of zeros"][:2].tolist() == [0.25, 0]
    assert found["zero tail"].tolist() == [1, 0, 0]
    assert all(np.isnan(found[name][2]) for name in SUMMARIES[:4])


def test_drift_of_samples_drawn_alike_is_chance():
    signals = np.random.default_rng(0).normal(size=(3000, 1, 40)).astype(np.float32)
    found = drift(signals[:2000], signals[2000:], seed=0)
    assert found.outside[0] < 2e-4
    assert found.by_chance == pytest.approx(2 / 2001)
    assert found.outside_by_position.shape == (1, 40)
    assert found.outside_by_position.mean() == pytest.approx(found.by_chance, rel=0.5)
    assert min(shift.p for shift in found.shifts) > 0.01
    assert found.looked_at == (2000, 1000)


def test_drift_by_hand():
    learned = np.array([[[0, 10], [5, 5]], [[2, 20], [5, 5]]], np.float32)
    other = np.array([[[3, 15], [5, 5]], [[1, 21], [6, np.nan]]], np.float32)
    found = drift(learned, other, seed=0)
    assert found.lowest.tolist() == [0, 5]
    assert found.highest.tolist() == [20, 5]
    assert found.outside == pytest.approx([1 / 4, 1 / 3])  # 21; 6 of what is known
    assert found.outside_by_position.tolist() == [[0.5, 0.5], [0.5, 0]]


def test_distances_equal_scipy():
    rng = np.random.default_rng(1)
    learned = rng.normal(size=(400, 1, 30)).astype(np.float32)
    other = (1.1 * rng.normal(size=(300, 1, 30))).astype(np.float32)
    found = {shift.name: shift for shift in drift(learned, other, seed=0).shifts}
    for number, name in enumerate(SUMMARIES):
        true = ks_2samp(summaries(learned)[:, number], summaries(other)[:, number], method="asymp")
        assert found[name].distance == pytest.approx(true.statistic), name
        assert found[name].p == pytest.approx(true.pvalue, abs=0.01), name
    assert found["spread"].p < 1e-6
    assert found["spread"].other / found["spread"].learned == pytest.approx(1.1, abs=0.03)


def test_drift_draws_by_its_seed_and_takes_lazy_signals():
    signals = np.random.default_rng(2).normal(size=(500, 1, 8)).astype(np.float32)
    one, same, other = (drift(lazily(signals), signals, seed=seed, most_samples=50) for seed in (0, 0, 1))
    assert one.looked_at == (50, 50)
    assert one.shifts == same.shifts
    assert one.shifts != other.shifts


def test_drift_says_what_does_not_fit():
    signals = np.ones((3, 1, 4), np.float32)
    with pytest.raises(DataError, match=r"other samples have 2 channels of 4 values; expected 1 channel"):
        drift(signals, np.ones((3, 2, 4), np.float32), seed=0)
    with pytest.raises(DataError, match="3 training and 0 other samples"):
        drift(signals, signals[:0], seed=0)
