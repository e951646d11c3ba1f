"""Labellers give each label a probability of its own that is meant, and keep what they learned."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from wavefold.core.errors import UserError
from wavefold.core.registry import build_part
from wavefold.models import LABELLERS
from wavefold.models.label_head import fit_labels
from wavefold.models.labellers import KernelLabeller
from wavefold.models.lbfgs import minimise_each

SMALL = {"kernels": {"features": 168}}


def waves(count=160, channels=2, length=40, seed=0):
    """Signals with a fast wave, a step, both or neither; of the labels, the last two are none's and everyone's."""
    rng = np.random.default_rng(seed)
    fast, step = rng.uniform(size=(2, count)) < [[0.5], [0.3]]
    signals = rng.normal(0, 0.3, (count, channels, length))
    signals[:, -1] += fast[:, None] * np.sin(2 * np.arange(length) + rng.uniform(0, 6, (count, 1)))
    signals[:, 0, length // 2 :] += 2 * step[:, None]
    labels = np.stack([fast, step, np.zeros(count), np.ones(count)], 1)
    return signals.astype(np.float32), labels.astype(np.float32)


@pytest.mark.parametrize("name", LABELLERS)
def test_a_labeller_tells_each_label(name):
    signals, labels = waves()
    fresh, truth = waves(seed=1)
    answers = LABELLERS[name](seed=0, features=840).fit(signals, labels, 4).predict(fresh)
    assert answers.shape == (160, 4)
    assert answers.dtype == np.float64
    assert (((answers > 0.5) == truth).mean(0) > 0.9).all()


@pytest.mark.parametrize("name", LABELLERS)
def test_a_label_of_all_or_none_gets_its_share(name):
    signals, labels = waves()
    for kept in ([0, 1, 2, 3], [2, 3]):
        answers = LABELLERS[name](seed=0, **SMALL[name]).fit(signals, labels[:, kept], len(kept)).predict(signals)
        assert (answers[:, -2] == 0).all()
        assert (answers[:, -1] == 1).all()


def test_a_labels_fit_does_not_depend_on_the_others():
    features = np.random.default_rng(0).normal(size=(200, 20)).astype(np.float32)
    labels = (features[:, :2] + np.random.default_rng(1).normal(size=(200, 2)) > 0).astype(np.float32)
    both = fit_labels(features.copy(), labels, np.random.default_rng(0))
    alone = fit_labels(features.copy(), labels[:, :1], np.random.default_rng(0))
    assert both.strength[0] == alone.strength[0]
    torch.testing.assert_close(both.weight[:1], alone.weight, rtol=1e-3, atol=1e-4)


def test_weights_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(300, 8)) * np.logspace(-1, 1, 8)).astype(np.float32)
    labels = (features[:, [7, 6]] / features.std(0)[[7, 6]] + rng.normal(size=(300, 2)) > 0.5).astype(np.float32)
    head = fit_labels(features.copy(), labels, np.random.default_rng(0))
    scaled = (features - features.mean(0)) / features.std(0)
    for number in range(2):
        model = LogisticRegression(C=1 / (300 * float(head.strength[number])), tol=1e-8).fit(scaled, labels[:, number])
        np.testing.assert_allclose(head.predict(features)[:, number], model.predict_proba(scaled)[:, 1], atol=2e-3)


def test_probabilities_are_meant():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 1)).astype(np.float32)
    labels = rng.uniform(size=(4000, 2)) < 1 / (1 + np.exp(-x * [2, -1]))
    constant = np.full((4000, 1), 7, np.float32)  # a feature without news
    head = fit_labels(np.hstack([x, constant]), labels.astype(np.float64), np.random.default_rng(0))
    answers = head.predict(np.array([[0, 7], [1, 7]], np.float32))
    np.testing.assert_allclose(answers, [[0.5, 0.5], [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(1))]], atol=0.04)


def test_a_handful_of_samples_suffices():
    labels = np.array([[1.0, 0.0], [0.0, 1.0]])
    head = fit_labels(np.eye(2, dtype=np.float32), labels, np.random.default_rng(0))
    assert ((head.predict(np.eye(2, dtype=np.float32)) > 0.5) == labels).all()


@pytest.mark.parametrize("name", LABELLERS)
def test_a_saved_labeller_predicts_the_same_bits(name, tmp_path):
    signals, labels = waves()
    made = build_part(LABELLERS, name, SMALL[name], "member.0", seed=3)
    answers = made.fit(signals, labels, 4).predict(signals)
    again = LABELLERS[name](seed=3, **SMALL[name]).fit(signals, labels, 4)
    assert np.array_equal(again.predict(signals), answers)
    made.save(tmp_path)
    assert np.array_equal(LABELLERS[name].load(tmp_path).predict(signals), answers)


@pytest.mark.parametrize("name", LABELLERS)
def test_the_module_agrees_with_predict(name):
    signals, labels = waves()
    made = LABELLERS[name](seed=0, **SMALL[name]).fit(signals, labels, 4)
    answers = made.module(signals.shape[1:])(torch.from_numpy(signals))
    assert answers.dtype == torch.float64
    np.testing.assert_allclose(answers.numpy(), made.predict(signals), rtol=1e-5)


@pytest.mark.parametrize("name", LABELLERS)
def test_what_a_labeller_cannot_do_is_told_in_a_line(name):
    signals, labels = waves()
    made = LABELLERS[name](seed=0, **SMALL[name])
    with pytest.raises(UserError, match=f"{name}: not fitted yet"):
        made.predict(signals)
    made.fit(signals, labels, 4)
    assert made.predict(signals[:0]).shape == (0, 4)
    with pytest.raises(UserError, match=r"got signals of shape \(2, 30\), but it was fitted on \(2, 40\)"):
        made.predict(signals[:, :, :30])


def test_a_rare_label_outlives_thinning():
    signals, labels = waves(1000)
    labels[:, 2] = 0
    labels[:2, 2] = 1
    made = KernelLabeller(seed=0, features=84, rows=60).fit(signals, labels, 4)
    assert made.head.strength[2] > 0  # fitted, not taken as a label of none
    assert 0 < made.predict(signals)[:, 2].min() < 1


def test_each_problem_is_minimised_as_if_alone():
    steep = torch.tensor([[1.0, 10], [500, 1], [1e-3, 2]])
    goal = torch.tensor([[3.0, -1], [0, 2], [0.5, 0.5]])

    def losses(weights):
        return (steep * (weights - goal).square() + (weights - goal).square().square()).sum(1)

    found = minimise_each(losses, torch.zeros(3, 2), 100)
    torch.testing.assert_close(found[:2], goal[:2], atol=1e-2, rtol=1e-2)
    assert (losses(found) < 1e-3).all()
