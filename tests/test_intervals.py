"""Intervals at the ends of a metric's range, differences of two predictors, and scores of metrics other than of classes."""

import math

import numpy as np
import pytest
from scipy.stats import beta, norm

from wavefold.core.errors import DataError, UserError
from wavefold.evaluation.intervals import bootstrap_interval, paired_difference
from wavefold.evaluation.metrics import METRICS, cut_score, score
from wavefold.evaluation.multilabel_metrics import MULTILABEL_METRICS
from wavefold.evaluation.regression_metrics import regression_metrics

AGE = regression_metrics(["age"])


def least(units, level=0.95):
    """Lower end of Clopper and Pearson's interval of a share if all units agree."""
    return beta.ppf((1 - level) / 2, units, 1)


def all_right(*counts):
    """One-hot probabilities and labels, all right, with as many samples of each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.eye(len(counts))[labels], labels


def test_24_right_of_24_are_not_certain():
    low, high = bootstrap_interval(METRICS["accuracy"], *all_right(10, 14))
    assert (round(low, 3), high) == (0.858, 1.0)
    assert low == pytest.approx(least(24))
    p, y = all_right(10, 14)
    assert bootstrap_interval(METRICS["accuracy"], p, 1 - y) == pytest.approx((0.0, beta.ppf(0.975, 1, 24)))
    assert bootstrap_interval(METRICS["accuracy"], p, y, level=0.8)[0] == pytest.approx(least(24, 0.8))


def test_groups_are_the_units_of_an_exact_interval():
    p, y = all_right(10, 14)
    assert bootstrap_interval(METRICS["accuracy"], p, y, groups=np.arange(24) // 3)[0] == pytest.approx(least(8))
    by_group = bootstrap_interval(METRICS["macro-f1"], p, y, groups=np.arange(24) // 3)[0]
    assert by_group == pytest.approx((least(4) + least(5)) / 2)  # the group of samples 9 to 11 has both classes
    assert all(map(math.isnan, bootstrap_interval(METRICS["accuracy"], p, y, groups=["one"] * 24)))


def test_no_mistake_leaves_every_metric_an_interval():
    p, y = all_right(6, 4, 14)
    ends = {name: bootstrap_interval(METRICS[name], p, y) for name in METRICS}
    assert ends["macro-f1"] == pytest.approx(((least(6) + least(4) + least(14)) / 3, 1.0))
    assert ends["auc"] == pytest.approx(((least(6) + least(4) + least(10)) / 3, 1.0))  # the rest of class 2 are 10
    assert ends["l1"] == pytest.approx((0.0, 2 * 24 * (1 - least(24))))
    assert ends["ece"] == pytest.approx((0.0, 1 - least(24)))
    assert bootstrap_interval(METRICS["auc"], p[:10, :2], y[:10]) == pytest.approx((least(4), 1.0))
    assert bootstrap_interval(METRICS["auc"], 1 - p[:10, :2], y[:10]) == pytest.approx((0.0, 1 - least(4)))
    assert bootstrap_interval(METRICS["l1"], p[:, [1, 2, 0]], y) == pytest.approx((2 * 24 * least(24), 2 * 24))


def test_ends_of_macro_f1_are_conservative():
    low = bootstrap_interval(METRICS["macro-f1"], *all_right(100, 5))[0]
    found = np.linspace(0.01, 0.99, 99)  # of the rare class; the other is always right
    f1 = (2 * found / (1 + found) + 200 / (200 + 5 * (1 - found))) / 2
    assert (f1 < low).any()
    assert (found[f1 < low] ** 5 <= 0.025).all()  # chance of no mistake in 5


def test_all_resamples_alike_within_the_range_stay_as_they_are():
    p, y = np.eye(2)[[0, 1] * 6], np.zeros(12)
    assert bootstrap_interval(METRICS["accuracy"], p, y, groups=np.arange(12) // 2) == (0.5, 0.5)
    assert bootstrap_interval(METRICS["auc"], np.full((12, 2), 0.5), np.arange(12) % 2) == (0.5, 0.5)


def test_a_difference_is_that_on_the_same_resamples():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(60, 1))
    ours, theirs = (np.hstack([truth + rng.normal(0, s, (60, 1)), np.ones((60, 1))]) for s in (0.5, 1.0))
    difference, low, high = paired_difference(AGE["mae"], ours, theirs, truth)
    mae = [np.abs(values[:, 0] - truth[:, 0]) for values in (ours, theirs)]
    assert difference == pytest.approx(mae[0].mean() - mae[1].mean())
    drawn = [(mae[0] - mae[1])[rng.integers(60, size=60)].mean() for _ in range(4000)]
    plain = np.quantile(drawn, [0.025, 0.975])
    assert (low, high) == pytest.approx(plain, abs=0.15 * (plain[1] - plain[0]))
    assert high < 0
    turned = paired_difference(AGE["mae"], theirs, ours, truth)
    assert turned == pytest.approx((-difference, -high, -low))


def test_a_shared_difficulty_does_not_widen_a_difference():
    rng = np.random.default_rng(0)
    truth = np.zeros((200, 1))
    hard = rng.normal(0, 5, (200, 1))
    ours, theirs = np.hstack([hard, hard]), np.hstack([1.1 * hard, hard])
    low, high = paired_difference(AGE["rmse"], ours, theirs, truth)[1:]
    alone = bootstrap_interval(AGE["rmse"], ours, truth)
    assert high - low < 0.2 * (alone[1] - alone[0])
    by_group = paired_difference(AGE["rmse"], ours, theirs, truth, groups=np.arange(200) // 50)[1:]
    assert by_group[1] - by_group[0] != high - low


def test_equal_predictors_differ_by_0_and_one_unit_tells_nothing():
    p, y = all_right(5, 5)
    assert paired_difference(METRICS["auc"], p, p, y) == (0.0, 0.0, 0.0)
    difference, *ends = paired_difference(METRICS["accuracy"], p, 1 - p, y, groups=["one"] * 10)
    assert difference == 1.0
    assert all(map(math.isnan, ends))


def test_differences_hold_the_truth_as_often_as_promised():
    held = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        truth = rng.normal(size=(80, 1))
        ours, theirs = (np.hstack([truth + rng.normal(0, s, (80, 1)), truth]) for s in (0.5, 0.6))
        low, high = paired_difference(AGE["mae"], ours, theirs, truth, seed=trial)[1:]
        held += low <= -0.1 * 2 * norm.pdf(0) <= high  # the mean of |x| is s sqrt(2 / pi)
    assert 180 <= held <= 199


def test_a_score_of_other_metrics_takes_their_table():
    rng = np.random.default_rng(0)
    truth = (rng.random((50, 3)) < 0.4).astype(float)
    odds = np.clip(0.5 * truth + 0.6 * rng.random(truth.shape), 0, 1)
    decided = (odds > 0.4).astype(float)
    result = score(odds, truth, metric="auc", table=MULTILABEL_METRICS, decided=decided)
    assert set(result.others) == set(MULTILABEL_METRICS) - {"auc"}
    assert result.others["macro-f1"] == MULTILABEL_METRICS["macro-f1"].function(decided, truth)
    assert result.interval == bootstrap_interval(MULTILABEL_METRICS["auc"], odds, truth)
    with pytest.raises(UserError, match="'rmse' is not one of"):
        score(odds, truth, metric="rmse", table=MULTILABEL_METRICS)
    with pytest.raises(DataError, match=r"predictions \(49, 3\) do not match 50 truths"):
        score(odds[1:], truth, metric="auc", table=MULTILABEL_METRICS)


def test_a_cut_of_numbers_is_of_its_own_samples():
    rng = np.random.default_rng(0)
    truth, marks = rng.normal(size=(40, 1)), np.array(["b", "a", "", "a"] * 10)
    values = np.hstack([truth + rng.normal(size=(40, 1)), np.ones((40, 1))])
    cuts = cut_score(AGE["mae"], values, truth, marks, seed=2)
    assert list(cuts) == ["a", "b"]
    assert cuts["a"].value == pytest.approx(np.abs(values[marks == "a", 0] - truth[marks == "a", 0]).mean())
    assert cuts["a"].interval == bootstrap_interval(AGE["mae"], values[marks == "a"], truth[marks == "a"], seed=2)
    assert (cuts["a"].n, cuts["b"].n) == (20, 10)


def test_groups_of_another_length_are_refused():
    with pytest.raises(DataError, match=r"groups of shape \(3,\) do not match 24 samples"):
        bootstrap_interval(METRICS["accuracy"], *all_right(10, 14), groups=list("abc"))
