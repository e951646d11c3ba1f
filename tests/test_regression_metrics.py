"""Metrics of predicted numbers against scikit-learn, by hand, and with gaps in the truth."""

import math

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import mean_absolute_error, mean_squared_error, median_absolute_error, r2_score

from wavefold.core.errors import DataError, UserError
from wavefold.evaluation.intervals import bootstrap_interval
from wavefold.evaluation.regression_metrics import regression_metrics

ONE = regression_metrics(["age"], ["y"])
NAMES = ["age", "mass"]
TWO = regression_metrics(NAMES, ["y", "kg"])


def guesses(count=200, targets=1, seed=0, gaps=0.0):
    """Predictions (count, 2 targets) far from 0, and truths (count, targets)."""
    rng = np.random.default_rng(seed)
    truth = 1e4 * np.arange(1, targets + 1) + rng.normal(size=(count, targets))
    means, spreads = truth + 0.5 * rng.normal(size=truth.shape), rng.uniform(0.2, 0.8, truth.shape)
    truth[rng.random(truth.shape) < gaps] = np.nan
    return np.hstack([means, spreads]), truth


def from_sklearn(means, truth, weights=None):
    options = {"sample_weight": weights}
    return {
        "rmse": math.sqrt(mean_squared_error(truth, means, **options)),
        "mae": mean_absolute_error(truth, means, **options),
        "r2": r2_score(truth, means, **options),
    }


def test_one_target_equals_scikit_learn():
    p, y = guesses(201)
    for name, value in from_sklearn(p[:, 0], y[:, 0]).items():
        assert ONE[name].function(p, y) == pytest.approx(value, rel=1e-9)
    assert ONE["median-ae"].function(p, y) == pytest.approx(median_absolute_error(y, p[:, :1]))


def test_weights_are_as_good_as_repeated_samples():
    p, y = guesses(40)
    weights = np.random.default_rng(1).integers(0, 4, size=(25, 40))
    for name, metric in ONE.items():
        repeated = [metric.function(np.repeat(p, w, axis=0), np.repeat(y, w, axis=0)) for w in weights]
        assert metric.weighted(p, y)(weights.astype(float)) == pytest.approx(repeated, rel=1e-9), name
    for name, value in from_sklearn(p[:, 0], y[:, 0], weights[0]).items():
        assert ONE[name].weighted(p, y)(weights[:1].astype(float))[0] == pytest.approx(value, rel=1e-9)


def test_several_targets_are_averaged_without_their_units():
    p, y = guesses(150, 2)
    of = [from_sklearn(p[:, t], y[:, t]) for t in (0, 1)]
    assert TWO["r2"].function(p, y) == pytest.approx(np.mean([o["r2"] for o in of]))
    assert TWO["nrmse"].function(p, y) == pytest.approx(np.mean([o["rmse"] / y[:, t].std() for t, o in enumerate(of)]))
    assert TWO["rmse-mass"].function(p, y) == pytest.approx(of[1]["rmse"])
    assert TWO["nrmse"].function(1000 * p, 1000 * y) == pytest.approx(TWO["nrmse"].function(p, y))
    assert [TWO[f"mae-{name}"].unit for name in NAMES] == ["y", "kg"]
    assert {name for name, metric in TWO.items() if not metric.ranks} == {"coverage", "coverage-age", "coverage-mass"}
    assert len(TWO) == 3 + 5 * 2


def test_coverage_is_the_share_within_1_96_spreads():
    p = np.array([[0.0, 1.0], [0.0, 1.0], [5.0, 2.0], [5.0, 2.0]])
    y = np.array([[1.95], [-1.97], [8.9], [np.nan]])
    assert ONE["coverage"].function(p, y) == pytest.approx(2 / 3)
    rng = np.random.default_rng(0)
    drawn = rng.normal(3.0, 2.0, size=(20_000, 1))
    assert ONE["coverage"].function(np.tile([3.0, 2.0], (20_000, 1)), drawn) == pytest.approx(0.95, abs=0.005)


def test_unknown_truths_are_left_out_of_their_own_target():
    p, y = guesses(80, 2, gaps=0.4)
    for t, name in enumerate(NAMES):
        known = ~np.isnan(y[:, t])
        alone = regression_metrics([name])
        for metric, part in alone.items():
            if metric == "nrmse":  # of several, it is the mean over targets only
                continue
            value = part.function(p[known][:, [t, 2 + t]], y[known][:, [t]])
            assert TWO[f"{metric}-{name}"].function(p, y) == pytest.approx(value)


def test_nothing_known_is_undefined_and_not_counted_in_a_mean():
    p, y = guesses(30, 2)
    y[:, 1] = np.nan
    assert math.isnan(TWO["median-ae-mass"].function(p, y))
    assert math.isnan(TWO["rmse-mass"].function(p, y))
    assert TWO["r2"].function(p, y) == TWO["r2-age"].function(p, y)
    only = np.zeros((2, 30))
    only[0, :10] = 1.0
    y[:20, 0] = np.nan
    assert np.isnan([TWO[name].weighted(p, y)(only) for name in TWO]).all()


def test_r2_is_undefined_where_truths_do_not_vary():
    p, y = guesses(30)
    one = np.zeros((1, 30))
    one[0, 7] = 30.0  # one sample, drawn each time
    assert math.isnan(ONE["r2"].weighted(p, y)(one)[0])
    assert ONE["rmse"].weighted(p, y)(one)[0] == pytest.approx(abs(p[7, 0] - y[7, 0]))


@pytest.mark.parametrize("name", TWO)
def test_an_interval_holds_its_value_and_shrinks(name):
    few, many = guesses(60, 2, gaps=0.1), guesses(1500, 2, gaps=0.1)
    low, high = bootstrap_interval(TWO[name], *few)
    assert low < TWO[name].function(*few) < high
    narrow = bootstrap_interval(TWO[name], *many)
    assert narrow[1] - narrow[0] < 0.5 * (high - low)


def test_full_coverage_is_not_certain():
    p, y = guesses(24)
    p[:, 1] = 100.0
    assert bootstrap_interval(ONE["coverage"], p, y) == pytest.approx((beta.ppf(0.025, 24, 1), 1.0))
    y[:4] = np.nan
    low = beta.ppf(0.025, 20, 1)
    assert bootstrap_interval(ONE["coverage"], p, y) == pytest.approx((low, 1.0))
    p[:, 1] = 1e-9
    assert bootstrap_interval(ONE["coverage"], p, y) == pytest.approx((0.0, 1 - low))
    both = np.hstack([p[:, :1], p[:, :1], 100 + p[:, 1:], 100 + p[:, 1:]])
    twice = np.hstack([y, y])
    twice[:14, 1] = np.nan
    assert bootstrap_interval(TWO["coverage"], both, twice)[0] == pytest.approx((low + beta.ppf(0.025, 10, 1)) / 2)


def test_what_does_not_fit_is_refused():
    p, y = guesses(10, 2)
    with pytest.raises(DataError, match=r"predictions \(10, 4\) do not match truths \(10, 2\); expected 2 columns"):
        ONE["mae"].function(p, y)
    with pytest.raises(UserError, match="different names"):
        regression_metrics(["a", "a"])
    with pytest.raises(UserError, match="no names"):
        regression_metrics([])
    with pytest.raises(UserError, match="1 unit for 2 targets"):
        regression_metrics(["a", "b"], ["m"])
