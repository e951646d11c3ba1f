"""Kernel features agree with convolutions written out, and the classifier on them learns, repeats itself and is bounded."""

import json
from itertools import combinations, product

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from wavefold.core.errors import UserError
from wavefold.models import kernels
from wavefold.models.kernels import KernelClassifier, KernelFeatures
from wavefold.models.linear import fit_linear, stratified
from wavefold.models.ridge_classes import fit_ridge_classes


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
    features = KernelFeatures(420, wins=False).fit(signals, np.random.default_rng(0))
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


def test_the_number_of_shares_is_the_nearest_multiple_of_84_below():
    signals, _ = waves(10, 1, 205)
    assert KernelFeatures(9996, wins=False).fit(signals, np.random.default_rng(0)).apply(signals).shape == (10, 9996)
    assert KernelFeatures(300, wins=False).fit(signals, np.random.default_rng(0)).apply(signals).shape == (10, 252)
    features = KernelFeatures(300).fit(signals, np.random.default_rng(0))
    assert [features.dilations[number] for number in features.competing] == [1, 5, 25]
    assert features.apply(signals).shape == (10, 252 + 2 * 168 * len(features.competing))
    with pytest.raises(UserError, match="features 80 is too small"):
        KernelFeatures(80)


@pytest.mark.parametrize(("channels", "length"), [(1, 9), (1, 30), (3, 40)])
def test_wins_are_shares_of_positions_where_an_output_is_the_highest_of_its_seven_and_the_lowest(channels, length):
    signals, _ = waves(6, channels, length)
    signals[0, :, length // 2 :] = 0  # where all outputs are the same, none wins
    features = KernelFeatures(84).fit(signals, np.random.default_rng(0))
    found, pairs = features.apply(signals)[:, 84 * len(features.dilations) :], list(combinations(range(8), 2))
    competing, ways = features.competing, (signals, np.diff(signals, axis=2))
    assert found.shape == (6, 2 * 168 * len(competing))
    for place, (way, number) in enumerate(product(ways, competing)):
        outputs, dilation, length = [], features.dilations[number], way.shape[2]
        for taps in combinations(range(9), 3):
            summed = way[:, list(features.subsets[number][pairs.index(taps[:2])])].sum(1)
            padded = np.pad(summed, ((0, 0), (4 * dilation, 4 * dilation)))
            shifts = [padded[:, tap * dilation : tap * dilation + length] for tap in range(9)]
            i, j, k = (3 * shifts[tap] for tap in taps)
            outputs.append(i + j - sum(shifts[1:], shifts[0]) + k)
        groups = np.array(outputs).reshape(12, 7, 6, length)
        varied = np.ptp(groups, axis=1, keepdims=True) > 0
        highest = (groups == groups.max(1, keepdims=True)) & varied
        lowest = (groups == groups.min(1, keepdims=True)) & varied
        wins = np.stack([highest, lowest], 2).mean(4).reshape(168, 6).T
        np.testing.assert_allclose(found[:, place * 168 : (place + 1) * 168], np.sqrt(wins), rtol=1e-6)


@pytest.mark.parametrize(("channels", "length"), [(1, 9), (1, 205), (3, 40), (12, 100)])
def test_numba_numpy_and_the_exported_module_agree_to_the_bit(channels, length, monkeypatch):
    pytest.importorskip("numba", reason="numba, the extra 'fast', is not installed")
    signals, labels = waves(40, channels, length)
    signals[0, :, length // 2 :] = 0
    fitted = KernelClassifier(seed=0, features=420).fit(signals, labels, 2)
    monkeypatch.setattr(kernels, "has_numba", lambda: False)
    by_numpy = fitted.features.apply(signals)
    monkeypatch.setattr(kernels, "has_numba", lambda: True)
    monkeypatch.setattr(kernels, "_WORTH", 0)
    assert np.array_equal(fitted.features.apply(signals), by_numpy)
    exported = fitted.module(signals.shape[1:])[0]
    assert np.array_equal(exported(torch.from_numpy(signals)).numpy(), by_numpy)


def test_a_member_of_an_earlier_version_has_no_wins_and_predicts_as_before(tmp_path):
    signals, labels = waves(60)
    fitted = KernelClassifier(seed=0, features=168, wins=False).fit(signals, labels, 2)
    fitted.save(tmp_path)
    kept = json.loads((tmp_path / "kernels.json").read_text())
    del kept["wins"]
    (tmp_path / "kernels.json").write_text(json.dumps(kept))
    assert np.array_equal(KernelClassifier.load(tmp_path).probabilities(signals), fitted.probabilities(signals))


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


def leave_one_out(x, y, weights, penalty):
    """Scores of each sample by a ridge regression that never saw it; the regression's weights and bias on all samples."""

    def fit(x, y, weights):
        root = np.sqrt(weights)[:, None]
        mean, centre = weights @ x / weights.sum(), weights @ y / weights.sum()
        inner = (root * (x - mean)).T @ (root * (x - mean)) + penalty * np.eye(x.shape[1])
        weight = np.linalg.solve(inner, (root * (x - mean)).T @ (root * (y - centre)))
        return weight, centre - mean @ weight

    scores = []
    for row in range(len(x)):
        others = np.arange(len(x)) != row
        weight, bias = fit(x[others], y[others], weights[others])
        scores.append(x[row] @ weight + bias)
    return np.array(scores), fit(x, y, weights)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [6, 40])  # more features than samples, and fewer
def test_the_ridge_head_has_the_penalty_and_temperature_of_least_log_loss_when_each_sample_is_left_out(weighted, count):
    rng = np.random.default_rng(1)
    labels = np.arange(count) % 3
    features = (rng.normal(size=(count, 12)) + labels[:, None] * np.linspace(0, 1.2, 12)).astype(np.float32)
    weights = rng.uniform(0.3, 3, count).astype(np.float32) if weighted else np.ones(count, np.float32)
    head = fit_ridge_classes(features.copy(), labels, 3, weights if weighted else None)
    x, y = (features - features.mean(0)) / features.std(0), 2 * np.eye(3)[labels] - 1
    share = (weights / weights.mean()).astype(np.float64)
    mean = share @ x / count
    total = (share[:, None] * np.square(x - mean)).sum() / count
    spread = 1 / (share.sum() ** 2 / np.square(share).sum() + 2)
    aim = (1 - spread) * np.eye(3)[labels] + spread / 3
    best = (np.inf,)
    for strength in np.logspace(3, -6, 28):
        scores, (weight, bias) = leave_one_out(x, y, share, strength * total)
        for factor in np.exp(np.linspace(-3, 7, 400)):
            loss = -(share * (aim * log_softmax(factor * scores, axis=1)).sum(1)).mean()
            if loss < best[0] - 1e-9:
                best = (loss, strength, factor, weight, bias)
    assert head.strength == pytest.approx(best[1])
    np.testing.assert_allclose(head.weight.numpy().T, best[2] * best[3], rtol=0.03, atol=1e-4)
    np.testing.assert_allclose(head.bias.numpy(), best[2] * best[4], rtol=0.03, atol=1e-3)


def test_features_of_a_second_kind_have_the_scale_that_serves_samples_left_out():
    rng = np.random.default_rng(3)
    labels = rng.integers(2, size=80)
    good = rng.normal(size=(80, 6)) + 1.5 * labels[:, None]
    noise = rng.normal(size=(80, 300))
    chosen = {}
    for name, features in (("noise", np.hstack([good, noise])), ("both", np.hstack([good[:, :3], good[:, 3:]]))):
        split = 6 if name == "noise" else 3
        head = fit_ridge_classes(features.astype(np.float32), labels, 2, second=split)
        plain = fit_ridge_classes(features.astype(np.float32), labels, 2)
        ratio = plain.spread[split:] / head.spread[split:]  # features are divided by spread / scale
        assert torch.equal(head.spread[:split], plain.spread[:split])
        assert len(set(ratio.tolist())) == 1
        chosen[name] = float(ratio[0])
        answers = head.probabilities(features.astype(np.float32))
        assert answers.sum(1) == pytest.approx(np.ones(80))
    assert chosen == {"noise": 0.25, "both": 1.0}


def test_a_class_of_two_samples_is_learned_and_is_not_certain():
    rng = np.random.default_rng(0)
    signals, labels = waves(80)
    labels[:] = 0
    labels[-2:] = 1
    signals[-2:] += np.float32(3) * np.sin(np.arange(60) * 1.7).astype(np.float32)
    fitted = KernelClassifier(seed=0, features=840).fit(signals, labels, 2)
    fresh = rng.normal(0, 0.5, (5, 1, 60)) + 3 * np.sin(np.arange(60) * 1.7)
    answers = fitted.probabilities(fresh.astype(np.float32))[:, 1]
    assert (answers > 0.5).all()
    assert (answers < 0.999).all()


@pytest.mark.parametrize("count", [300, 2100])  # the ridge head and the logistic one
def test_weights_move_the_answer_towards_the_heavy_class(count):
    signals, labels = waves(count, length=20)
    signals += np.random.default_rng(5).normal(0, 2, signals.shape).astype(np.float32)
    heavy = np.where(labels == 1, 10, 1).astype(np.float32)
    plain = KernelClassifier(seed=0, features=84).fit(signals, labels, 2).probabilities(signals)[:, 1].mean()
    weighted = KernelClassifier(seed=0, features=84).fit(signals, labels, 2, heavy).probabilities(signals)[:, 1].mean()
    assert plain == pytest.approx(0.5, abs=0.05)
    assert weighted > 0.75


def test_classes_without_samples_and_constant_signals_do_not_break_the_fit():
    signals = np.ones((10, 1, 20), np.float32)
    answers = KernelClassifier(seed=0, features=84).fit(signals, np.zeros(10, np.int64), 3).probabilities(signals)
    assert answers.shape == (10, 3)
    assert (answers.argmax(1) == 0).all()
    np.testing.assert_allclose(answers.sum(1), 1)
