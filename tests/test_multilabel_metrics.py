"""Metrics of several labels a sample against scikit-learn, and their intervals."""

import math
import warnings

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss, roc_auc_score

from wavefold.core.errors import DataError
from wavefold.evaluation.intervals import bootstrap_interval
from wavefold.evaluation.multilabel_metrics import MULTILABEL_METRICS as METRICS


def guesses(count=300, labels=5, seed=0):
    """Probabilities (count, labels) with ties and labels (count, labels)."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((count, labels)) < np.linspace(0.05, 0.5, labels)).astype(float)
    return (1 / (1 + np.exp(1 - 2 * truth - rng.normal(size=truth.shape)))).round(2), truth


def test_metrics_equal_scikit_learn():
    p, y = guesses()
    decided = (p > 0.5).astype(float)
    assert METRICS["auc"].function(p, y) == pytest.approx(roc_auc_score(y, p, average="macro"))
    assert METRICS["average-precision"].function(p, y) == pytest.approx(average_precision_score(y, p, average="macro"))
    assert METRICS["macro-f1"].function(decided, y) == pytest.approx(f1_score(y, decided, average="macro"))
    assert METRICS["accuracy"].function(decided, y) == pytest.approx(accuracy_score(y, decided))
    binary = np.mean([log_loss(y[:, label], p[:, label]) for label in range(5)])
    assert METRICS["log-loss"].function(p, y) == pytest.approx(binary)


@pytest.mark.parametrize("name", METRICS)
def test_weights_are_as_good_as_repeated_samples(name):
    p, y = guesses(40)
    weights = np.random.default_rng(1).integers(0, 3, size=(25, 40))
    repeated = [METRICS[name].function(np.repeat(p, w, axis=0), np.repeat(y, w, axis=0)) for w in weights]
    assert METRICS[name].weighted(p, y)(weights.astype(float)) == pytest.approx(repeated)


def test_decisions_and_probabilities_above_a_half_are_the_same():
    p, y = guesses()
    for name in ("macro-f1", "accuracy"):
        assert METRICS[name].decided
        assert METRICS[name].function(p, y) == METRICS[name].function(p > 0.5, y)


def test_labels_that_are_not_there_do_not_count():
    p, y = guesses()
    p[:, 1] = np.minimum(p[:, 1], 0.5)
    y[:, 1], y[:, 4] = 0.0, 1.0  # label 1 neither there nor decided, label 4 always there
    some = [0, 2, 3]
    assert METRICS["auc"].function(p, y) == pytest.approx(roc_auc_score(y[:, some], p[:, some], average="macro"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f1 = f1_score(y, p > 0.5, average="macro", zero_division=np.nan)
    assert METRICS["macro-f1"].function(p, y) == pytest.approx(f1)
    nothing = np.zeros((20, 2))
    assert all(math.isnan(METRICS[name].function(nothing, nothing)) for name in ("auc", "macro-f1", "average-precision"))
    assert METRICS["accuracy"].function(nothing, nothing) == 1.0


@pytest.mark.parametrize("name", METRICS)
def test_an_interval_holds_its_value(name):
    p, y = guesses()
    low, high = bootstrap_interval(METRICS[name], p, y, seed=3)
    assert low < METRICS[name].function(p, y) < high


def test_no_mistake_in_a_few_samples_is_not_certainty():
    y = np.zeros((24, 3))
    y[:4, 0], y[:14, 1] = 1.0, 1.0  # rarer sides 4 and 10; label 2 is never there
    lower = {n: beta.ppf(0.025, n, 1) for n in (4, 10, 14, 24)}
    ends = {name: bootstrap_interval(METRICS[name], y, y) for name in ("accuracy", "macro-f1", "auc", "average-precision")}
    assert {high for _, high in ends.values()} == {1.0}
    assert ends["accuracy"][0] == pytest.approx(lower[24])
    assert ends["macro-f1"][0] == pytest.approx((lower[4] + lower[14]) / 2)
    assert ends["auc"][0] == ends["average-precision"][0] == pytest.approx((lower[4] + lower[10]) / 2)


def test_what_does_not_fit_is_refused():
    p, y = guesses(10)
    with pytest.raises(DataError, match=r"predictions \(10, 5\) do not match labels \(10, 4\)"):
        METRICS["auc"].function(p, y[:, :4])
    y[3, 2] = 0.5
    with pytest.raises(DataError, match=r"label 2 of sample 3 is 0\.5; expected 0 or 1"):
        METRICS["accuracy"].function(p, y)
