"""Kernel features agree with convolutions written out, and the classifier on them learns, repeats itself and is bounded."""

from itertools import combinations

import numpy as np
import pytest
import torch

from wavefold.core.errors import UserError
from wavefold.models.kernels import KernelClassifier, KernelFeatures
from wavefold.models.linear import fit_linear, stratified


def waves(count=120, channels=1, length=60, seed=0):
    """Two classes, told apart by the frequency on the last channel."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    signals = rng.normal(0, 0.5, (count, channels, length))
    signals[:, -1] += np.sin(np.arange(length) * (labels[:, None] * 0.5 + 0.5) + rng.uniform(0, 6, (count, 1)))
    return signals.astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize(("channels", "length"), [(1, 9), (1, 30), (3, 40), (1, 600)])
def test_features_are_shares_of_a_convolution_above_its_biases(channels, length):
    signals, _ = waves(10, channels, length)
    features = KernelFeatures(420).fit(signals, np.random.default_rng(0))
    found, column = features.apply(signals), 0
    pairs = list(combinations(range(8), 2))
    for number, (dilation, biases) in enumerate(zip(features.dilations, features.biases, strict=True)):
        for kernel, taps in enumerate(combinations(range(9), 3)):
            weight = torch.full((1, 1, 9), -1.0)
            weight[0, 0, list(taps)] = 2
            summed = signals[:, list(features.subsets[number][pairs.index(taps[:2])])].sum(1, keepdims=True)
            edge = 4 * dilation if (number + kernel) % 2 == 0 else 0
            output = torch.conv1d(torch.from_numpy(summed), weight, padding=edge, dilation=dilation)[:, 0].numpy()
            for bias in biases[kernel]:
                share = (output > bias).mean(1)
                assert np.abs(share - found[:, column]).max() <= 1.01 / output.shape[1]  # one value may sit on the bias
                column += 1
    assert column == found.shape[1]
    assert found.min() >= 0
    assert found.max() <= 1


def test_the_number_of_features_is_the_nearest_multiple_of_84_below():
    signals, _ = waves(10, 1, 205)
    assert KernelFeatures(9996).fit(signals, np.random.default_rng(0)).apply(signals).shape == (10, 9996)
    assert KernelFeatures(300).fit(signals, np.random.default_rng(0)).apply(signals).shape == (10, 252)
    with pytest.raises(UserError, match="features 80 is too small"):
        KernelFeatures(80)


def test_a_samples_features_do_not_depend_on_its_company():
    signals, _ = waves(300)
    features = KernelFeatures(840).fit(signals, np.random.default_rng(0))
    together = features.apply(signals)
    assert np.array_equal(features.apply(signals[[7]]), together[[7]])
    assert np.array_equal(features.apply(signals[::-1]), together[::-1])


@pytest.mark.parametrize("channels", [1, 2, 12])
def test_classifier_tells_frequencies_apart(channels):
    signals, labels = waves(channels=channels)
    fresh, truth = waves(channels=channels, seed=1)
    answers = KernelClassifier(seed=0, features=840).fit(signals, labels, 2).probabilities(fresh)
    assert (answers.argmax(1) == truth).mean() > 0.85


def test_features_of_few_rows_are_held_at_once(monkeypatch):
    signals, labels = waves(2050)  # one batch of 2,048 and one of 2
    fitted = KernelClassifier(seed=0, features=84, rows=60).fit(signals, labels, 2)
    apply, held = fitted.features.apply, []
    monkeypatch.setattr(fitted.features, "apply", lambda part: held.append(len(part)) or apply(part))
    answers = fitted.probabilities(signals)
    assert held == [2048, 2]
    np.testing.assert_allclose(answers, fitted.head.probabilities(apply(signals)), rtol=1e-5)


def test_more_rows_than_asked_for_are_thinned_by_class():
    signals, labels = waves(400)
    labels[:4] = 2  # a rare class
    kept = stratified(labels, 50, np.random.default_rng(0))
    assert set(labels[kept]) == {0, 1, 2}
    assert 48 <= len(kept) <= 52
    assert len(set(kept.tolist())) == len(kept)
    answers = KernelClassifier(seed=0, features=84, rows=50).fit(signals, labels, 3).probabilities(signals)
    assert answers.shape == (400, 3)


def test_another_shape_than_the_fitted_one_is_refused():
    signals, labels = waves()
    fitted = KernelClassifier(seed=0, features=84).fit(signals, labels, 2)
    with pytest.raises(UserError, match=r"signals of shape .* fitted on"):
        fitted.probabilities(signals[:, :, :50])
    with pytest.raises(UserError, match="length 8 are too short; the model needs at least 9"):
        KernelClassifier(seed=0).fit(signals[:, :, :8], labels, 2)


def test_linear_head_gives_probabilities_that_are_meant():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 1)).astype(np.float32)
    labels = (rng.uniform(size=4000) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(np.int64)
    constant = np.full((4000, 1), 7, np.float32)  # a feature without news
    head = fit_linear(np.hstack([x, constant]), labels, 2, np.random.default_rng(0))
    answers = head.probabilities(np.array([[0, 7], [1, 7]], np.float32))[:, 1]
    np.testing.assert_allclose(answers, [0.5, 1 / (1 + np.exp(-2))], atol=0.03)


def test_linear_head_takes_a_handful_of_rows():
    head = fit_linear(np.eye(2, dtype=np.float32), np.array([0, 1]), 2, np.random.default_rng(0))
    assert (head.probabilities(np.eye(2, dtype=np.float32)).argmax(1) == [0, 1]).all()
