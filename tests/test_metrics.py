"""Metrics against scikit-learn and a hand's arithmetic; intervals against what they promise."""

import json
import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

from wavefold.core.errors import DataError, UserError
from wavefold.evaluation.intervals import bootstrap_interval
from wavefold.evaluation.metrics import METRICS, Score, f1_by_class, score


def guesses(count, classes, seed=0, right=0.7):
    """Probabilities that mostly favour the label. Returns (count, classes), (count,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    aim = np.where(rng.random(count) < right, labels, rng.integers(classes, size=count))
    logits = rng.normal(size=(count, classes)) + 2 * np.eye(classes)[aim]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels


HAND = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
HAND_LABELS = np.array([0, 1, 1, 2])


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_metrics_equal_scikit_learn(classes):
    p, y = guesses(400, classes)
    p = p.round(2) + 1e-3  # ties
    p /= p.sum(axis=1, keepdims=True)
    predicted = p.argmax(axis=1)
    auc = roc_auc_score(y, p[:, 1]) if classes == 2 else roc_auc_score(y, p, multi_class="ovr")
    assert METRICS["accuracy"].function(p, y) == pytest.approx(accuracy_score(y, predicted))
    assert METRICS["macro-f1"].function(p, y) == pytest.approx(f1_score(y, predicted, average="macro"))
    assert METRICS["log-loss"].function(p, y) == pytest.approx(log_loss(y, p))
    assert METRICS["auc"].function(p, y) == pytest.approx(auc)


def test_metrics_by_hand():
    value = {name: metric.function(HAND, HAND_LABELS) for name, metric in METRICS.items()}
    assert value["accuracy"] == 0.75
    assert value["macro-f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert value["l1"] == pytest.approx(2 * (0.3 + 0.2 + 0.7 + 0.4))
    assert value["log-loss"] == pytest.approx(-(math.log(0.7) + math.log(0.8) + math.log(0.3) + math.log(0.6)) / 4)
    # class 0 beats its rest 3 of 3, class 1 3.5 ties aside 4 of 4, class 2 3 of 3
    assert value["auc"] == pytest.approx(1.0)
    # bins (8/15, 9/15]: 0.6 wrong, 0.6 right: |1 - 1.2|; 0.7 and 0.8 right: 0.3 and 0.2
    assert value["ece"] == pytest.approx((0.2 + 0.3 + 0.2) / 4)


def test_macro_f1_counts_only_classes_that_are_there():
    p = np.eye(4)[[0, 0, 1, 2]]
    y = np.array([0, 0, 1, 1])
    assert METRICS["macro-f1"].function(p, y) == pytest.approx(f1_score(y, p.argmax(1), average="macro"))


def test_auc_counts_ties_half_and_is_undefined_for_one_class():
    p = np.array([[0.5, 0.5], [0.5, 0.5], [0.2, 0.8]])
    assert METRICS["auc"].function(p, [0, 1, 1]) == pytest.approx(0.75)
    assert math.isnan(METRICS["auc"].function(p, [1, 1, 1]))
    assert bootstrap_interval(METRICS["auc"], p, [1, 1, 1])[0] is math.nan
    assert score(p, [1, 1, 1], metric="auc").as_json()["interval"] == [None, None]


def test_sure_mistakes_stay_finite():
    assert METRICS["log-loss"].function(np.eye(2), [1, 0]) == pytest.approx(36.04, abs=0.01)


@pytest.mark.parametrize("name", METRICS)
def test_an_interval_holds_its_value_and_repeats(name):
    p, y = guesses(300, 4)
    ends = bootstrap_interval(METRICS[name], p, y, seed=3)
    assert ends == bootstrap_interval(METRICS[name], p, y, seed=3)
    assert ends != bootstrap_interval(METRICS[name], p, y, seed=4)
    low, high = ends
    assert low < high
    if name != "ece":  # noise adds to a calibration error, so its resamples lie above it
        assert low <= METRICS[name].function(p, y) <= high


@pytest.mark.parametrize("name", METRICS)
def test_an_interval_is_that_of_values_on_drawn_samples(name):
    p, y = guesses(60, 3)
    rng = np.random.default_rng(1)
    drawn = [METRICS[name].function(p[i], y[i]) for i in (rng.integers(60, size=60) for _ in range(2000))]
    plain = np.quantile(drawn, [0.025, 0.975])
    assert bootstrap_interval(METRICS[name], p, y, resamples=2000) == pytest.approx(plain, abs=0.15 * (plain[1] - plain[0]))


def test_intervals_of_accuracy_cover_the_truth():
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        right = rng.random(200) < 0.8
        low, high = bootstrap_interval(
            METRICS["accuracy"], np.eye(2)[np.where(right, 0, 1)], np.zeros(200), resamples=300, seed=trial
        )
        held += low <= 0.8 <= high
    assert 180 <= held <= 199  # 190 promised


def test_groups_are_drawn_whole():
    # 10 patients of 50 beats each, all right or all wrong: 10 things are known, not 500
    right = np.repeat(np.arange(10) < 7, 50)
    p, y = np.eye(2)[np.where(right, 0, 1)], np.zeros(500)
    patients = np.repeat([f"p{i}" for i in range(10)], 50)
    by_beat, by_patient = (
        bootstrap_interval(METRICS["accuracy"], p, y),
        bootstrap_interval(METRICS["accuracy"], p, y, groups=patients),
    )
    assert by_beat[1] - by_beat[0] < 0.1
    assert by_patient[1] - by_patient[0] > 0.4
    assert {round(end * 10, 9) % 1 for end in by_patient} == {0.0}
    assert all(map(math.isnan, bootstrap_interval(METRICS["accuracy"], p, y, groups=["one"] * 500)))
    assert bootstrap_interval(METRICS["accuracy"], np.eye(2), [0, 0], groups=["b", "a"]) == (0.0, 1.0)


def test_l1_of_uneven_groups_is_of_as_many_samples():
    # every sample costs 1, so 5 cost 5 whatever group is drawn
    assert bootstrap_interval(METRICS["l1"], np.full((5, 2), 0.5), [0] * 5, groups=list("aaaab")) == (5.0, 5.0)


def test_a_score_takes_l1_on_what_is_submitted_and_the_rest_on_probabilities():
    decided = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    result = score(HAND, HAND_LABELS, metric="l1", decided=decided)
    assert (result.value, result.n) == (3.0, 4)
    assert result.others["accuracy"] == 0.75
    assert "l1" not in result.others
    plain = score(HAND, HAND_LABELS, metric="accuracy", decided=decided)
    assert plain.others["l1"] == 3.0


def test_a_score_as_json_has_the_frozen_keys_and_no_nan():
    result = score([[0.9, 0.1], [0.8, 0.2]], [0, 0], metric="accuracy").as_json()
    assert list(result) == ["metric", "value", "interval", "n", "others"]
    assert result["others"]["auc"] is None
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_score_as_a_line():
    assert Score("macro-f1", 0.97213, (0.968, 0.97591), 14895, {}).line() == ("macro-f1 0.9721 [0.9680, 0.9759], n 14,895")
    assert Score("l1", 1258.981, (math.nan, math.nan), 1, {}).line() == "l1 1,258.98 [undefined, undefined], n 1"


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        score(HAND, HAND_LABELS, metric="acuracy")
    with pytest.raises(DataError, match="label 3 of sample 1"):
        score(HAND, [0, 3, 1, 1], metric="auc")
    with pytest.raises(DataError, match="at least one"):
        score(np.empty((0, 3)), [], metric="auc")
    with pytest.raises(DataError, match="sample 2 are not finite"):
        score(np.where(np.arange(4)[:, None] == 2, np.nan, HAND), HAND_LABELS, metric="auc")


def test_f1_by_class_is_scikit_learns():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(4), 200), rng.integers(0, 4, 200)
    from_sklearn = f1_score(labels, probabilities.argmax(axis=1), average=None)
    np.testing.assert_allclose(f1_by_class(probabilities, labels), from_sklearn)
