"""Trust in probabilities: bins, intervals, confusion and the order of samples, by a hand's arithmetic."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from wavefold.core.errors import DataError
from wavefold.evaluation.metrics import METRICS, f1_by_class
from wavefold.evaluation.reliability import (
    by_class,
    certainty,
    confusion_counts,
    least_certain,
    reliability_bins,
    wilson_interval,
    worst,
)

HAND = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
LABELS = np.array([0, 1, 1, 2])


def guesses(count, classes, seed=0):
    """Probabilities (count, classes) and labels drawn by them: calibrated."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), count)
    return p, (p.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1).clip(max=classes - 1)


def test_bins_by_hand():
    bins = reliability_bins(HAND, LABELS, bins=5)  # upper edges .2 .4 .6 .8 1
    assert bins.count.tolist() == [0, 0, 2, 2, 0]
    assert bins.confidence[2:4] == pytest.approx([0.6, 0.75])
    assert bins.share_right[2:4] == pytest.approx([0.5, 1.0])
    assert np.isnan([bins.confidence[[0, 1, 4]], bins.share_right[[0, 1, 4]], bins.low[[0, 1, 4]]]).all()
    assert bins.edges == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


def test_bins_are_those_of_ece():
    p, y = guesses(3000, 4)
    bins = reliability_bins(p, y)
    there = bins.count > 0
    gap = np.abs(bins.share_right - bins.confidence)[there]
    assert (bins.count[there] * gap).sum() / 3000 == pytest.approx(METRICS["ece"].function(p, y))


def test_intervals_cover_the_confidence_of_calibrated_probabilities():
    held = []
    for seed in range(40):
        bins = reliability_bins(*guesses(2000, 3, seed))
        full = bins.count > 30
        held += ((bins.low <= bins.confidence) & (bins.confidence <= bins.high))[full].tolist()
    assert len(held) > 300
    assert 0.92 < np.mean(held) < 0.98


def test_wilson_interval_by_hand_and_at_the_ends():
    low, high = wilson_interval([5, 0, 10, 0], [10, 10, 10, 0])
    assert [low[0], high[0]] == pytest.approx([0.2366, 0.7634], abs=1e-4)  # Wilson's of 5 in 10
    assert [low[1], high[1]] == pytest.approx([0, 0.2775], abs=1e-4)
    assert [low[2], high[2]] == pytest.approx([0.7225, 1], abs=1e-4)
    assert np.isnan([low[3], high[3]]).all()


def test_confusion_and_classes_equal_scikit_learn():
    p, y = guesses(500, 5)
    matrix = confusion_counts(y, p.argmax(axis=1), 5)
    own = by_class(matrix)
    theirs = precision_recall_fscore_support(y, p.argmax(axis=1), labels=range(5))
    assert (matrix == confusion_matrix(y, p.argmax(axis=1), labels=range(5))).all()
    for name, values in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
        assert getattr(own, name) == pytest.approx(values), name
    assert own.f1 == pytest.approx(f1_by_class(p, y))


def test_a_class_that_is_absent_is_undefined_not_zero():
    own = by_class(confusion_counts([0, 0, 1], [0, 1, 1], 4))
    assert own.precision[:2] == pytest.approx([1, 0.5])
    assert own.recall[:2] == pytest.approx([0.5, 1])
    assert np.isnan([own.precision[2:], own.recall[2:], own.f1[2:]]).all()
    assert own.support.tolist() == [2, 1, 0, 0]


def test_a_class_that_is_never_said_has_f1_0():
    own = by_class(confusion_counts([0, 1], [0, 0], 2))
    assert np.isnan(own.precision[1])
    assert own.recall[1] == own.f1[1] == 0


def test_certain_worst_and_least_certain():
    assert certainty(HAND) == pytest.approx([0.5, 0.7, 0.3, 0.4])
    assert least_certain(HAND, 3).tolist() == [2, 3, 0]
    assert worst(HAND, LABELS, 2).tolist() == [2, 3]  # .3 and .6 for the true class
    assert worst(HAND, LABELS, 9).tolist() == [2, 3, 0, 1]
    assert certainty([[1.0], [1.0]]).tolist() == [1, 1]


def test_what_does_not_fit_is_named():
    with pytest.raises(DataError, match="label 3 of sample 1 is not a class number from 0 to 2"):
        reliability_bins(HAND[:2], [0, 3])
    with pytest.raises(DataError, match="decision -1 of sample 0"):
        confusion_counts([0, 1], [-1, 1], 2)
    with pytest.raises(DataError, match="1 decisions do not match 2 labels"):
        confusion_counts([0, 1], [1], 2)
    with pytest.raises(DataError, match="do not match 3 labels"):
        worst(HAND, [0, 1, 2], 1)


def test_no_samples_are_no_error():
    bins = reliability_bins(np.empty((0, 3)), np.empty(0, np.int64))
    assert bins.count.sum() == 0
    assert np.isnan(bins.share_right).all()
