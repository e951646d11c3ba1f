"""Regressors fitted in one step agree with scikit-learn's ridge and with leave-one-out written out, whatever is missing."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.svm import SVR

from wavefold.core.errors import DataError, UserError
from wavefold.core.registry import build_part
from wavefold.models import REGRESSORS
from wavefold.models.ridge import fit_ridge

SMALL = {"kernels": {"features": 168}, "pca_ridge": {"components": 5}, "svr": {"components": 5}}
STRENGTHS = np.logspace(3, -6, 28)


def table(rows=60, features=12, seed=0):
    """Features of unlike scale that share four causes, one of them constant, and two targets of unlike size."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(rows, 4))
    x = causes @ rng.normal(size=(4, features)) + rng.normal(size=(rows, features))
    x = x * np.logspace(-2, 2, features) + 5
    x[:, 3] = 7
    y = causes @ rng.normal(size=(4, 2)) + 2 * rng.normal(size=(rows, 2))
    return x.astype(np.float32), y * [1, 2000] + [0, 6000]


def waves(count=90, channels=2, length=40, seed=0):
    """Signals whose frequency and offset are the targets."""
    rng = np.random.default_rng(seed)
    frequency, offset = rng.uniform(0.2, 1, count), rng.normal(size=count)
    signals = rng.normal(0, 0.1, (count, channels, length))
    signals[:, -1] += np.sin(np.arange(length) * frequency[:, None] + rng.uniform(0, 6, (count, 1))) + offset[:, None]
    return signals.astype(np.float32), np.stack([1000 * frequency, offset], 1)


def theirs(x, y):
    """scikit-learn's ridge on standardised features, its penalty chosen by leave-one-out from the same strengths."""
    varied, exact = x.std(0) > 0, x.astype(np.float64)
    scaled = (exact - exact.mean(0))[:, varied] / exact[:, varied].std(0)
    return RidgeCV(STRENGTHS * np.square(scaled).sum() / len(x)).fit(scaled, y), scaled


@pytest.mark.parametrize(("rows", "features"), [(60, 12), (40, 300)])
def test_ridge_agrees_with_scikit_learn(rows, features):
    x, y = table(rows, features)
    head = fit_ridge(x, y, "ridge")
    for target in range(2):
        model, scaled = theirs(x, y[:, target])
        np.testing.assert_allclose(head.predict(x)[:, target], model.predict(scaled), rtol=1e-4, atol=1e-4 * y[:, target].std())
        refitted = Ridge(model.alpha_)
        left_out = cross_val_predict(refitted, scaled, y[:, target], cv=LeaveOneOut())
        deviation = np.sqrt(np.mean((left_out - y[:, target]) ** 2))
        np.testing.assert_allclose(head.deviation[target], deviation, rtol=1e-3)
        np.testing.assert_allclose(head.strength[target], model.alpha_ / np.square(scaled).sum() * rows, rtol=1e-4)


def test_a_target_is_fitted_on_the_rows_that_know_it():
    x, y = table()
    holes = y.copy()
    holes[::3, 0] = np.nan
    both, known = fit_ridge(x, holes, "ridge"), ~np.isnan(holes[:, 0])
    alone, whole = fit_ridge(x[known], y[known][:, :1], "ridge"), fit_ridge(x, y, "ridge")
    assert torch.equal(both.weight[0], alone.weight[0])
    assert torch.equal(both.deviation[0], alone.deviation[0])
    torch.testing.assert_close(both.weight[1], whole.weight[1], rtol=1e-9, atol=0)
    assert not torch.allclose(both.weight[0], whole.weight[0], rtol=1e-3)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_targets_of_either_precision_and_any_unit(kind):
    x, y = table()
    one, million = fit_ridge(x, y.astype(kind), "ridge"), fit_ridge(x, (y * 2**20).astype(kind), "ridge")
    torch.testing.assert_close(million.weight, one.weight * 2**20, rtol=1e-6, atol=0)
    torch.testing.assert_close(million.deviation, one.deviation * 2**20)


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_regressor_learns_and_states_its_error(name):
    signals, targets = waves(400)
    fresh, truth = waves(400, seed=1)
    answers = REGRESSORS[name](seed=0, **SMALL[name]).fit(signals, targets, 2).predict(fresh)
    assert answers.shape == (400, 4)
    assert answers.dtype == np.float64
    errors = np.sqrt(((answers[:, :2] - truth) ** 2).mean(0))
    assert errors[1] < 0.5 * truth[:, 1].std()
    np.testing.assert_allclose(answers[:, 2:], np.broadcast_to(answers[0, 2:], (400, 2)))
    np.testing.assert_allclose(answers[0, 2:], errors, rtol=0.2)


def test_kernel_features_tell_a_frequency():
    signals, targets = waves(400)
    fresh, truth = waves(400, seed=1)
    answers = REGRESSORS["kernels"](seed=0, features=840).fit(signals, targets, 2).predict(fresh)
    assert np.sqrt(((answers[:, 0] - truth[:, 0]) ** 2).mean()) < 0.3 * truth[:, 0].std()


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_constant_target_is_predicted_as_it_is(name):
    signals, targets = waves()
    targets[:, 1] = 5777.7
    answers = REGRESSORS[name](seed=0, **SMALL[name]).fit(signals, targets, 2).predict(signals)
    np.testing.assert_allclose(answers[:, 1], 5777.7, rtol=1e-9)
    assert (answers[:, 3] == np.spacing(np.float32(5777.7))).all()


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_saved_regressor_predicts_the_same_bits(name, tmp_path):
    signals, targets = waves()
    made = build_part(REGRESSORS, name, SMALL[name], "member.0", seed=3)
    answers = made.fit(signals, targets, 2).predict(signals)
    again = REGRESSORS[name](seed=3, **SMALL[name]).fit(signals, targets, 2)
    assert np.array_equal(again.predict(signals), answers)
    made.save(tmp_path)
    loaded = REGRESSORS[name].load(tmp_path)
    assert np.array_equal(loaded.predict(signals), answers)
    loaded.save(tmp_path / "again")
    for file in tmp_path.glob("*.*"):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", REGRESSORS)
def test_the_module_agrees_with_predict(name):
    signals, targets = waves()
    made = REGRESSORS[name](seed=0, **SMALL[name]).fit(signals, targets, 2)
    answers = made.module(signals.shape[1:])(torch.from_numpy(signals))
    assert answers.dtype == torch.float64
    np.testing.assert_allclose(answers.numpy(), made.predict(signals), rtol=1e-5)


@pytest.mark.parametrize("name", REGRESSORS)
def test_no_signals_have_no_answers(name):
    signals, targets = waves()
    made = REGRESSORS[name](seed=0, **SMALL[name]).fit(signals, targets, 2)
    assert made.predict(signals[:0]).shape == (0, 4)


@pytest.mark.parametrize("name", REGRESSORS)
def test_what_a_regressor_cannot_do_is_told_in_a_line(name, tmp_path):
    signals, targets = waves()
    made = REGRESSORS[name](seed=0, **SMALL[name])
    for act in (lambda: made.predict(signals), lambda: made.save(tmp_path), lambda: made.module((2, 40))):
        with pytest.raises(UserError, match=f"{name}: not fitted yet"):
            act()
    targets[1:, 1] = np.nan
    with pytest.raises(UserError, match=f"{name}: target 2 of 2 has 1 known values .* at least (2|10); leave it out"):
        made.fit(signals, targets, 2)
    made.fit(signals, targets[:, :1], 1)
    with pytest.raises(UserError, match=rf"{name}: got signals of shape \(2, 30\), but it was fitted on \(2, 40\)"):
        made.predict(signals[:, :, :30])


def test_options_without_sense_are_named():
    with pytest.raises(UserError, match="pca_ridge: components 0 is too small; it must be 1 or more"):
        REGRESSORS["pca_ridge"](seed=0, components=0)
    with pytest.raises(UserError, match="kernels: rows 0 is too small"):
        REGRESSORS["kernels"](seed=0, rows=0)


def test_more_rows_than_asked_for_are_thinned(monkeypatch):
    signals, targets = waves()
    seen = []
    made = REGRESSORS["kernels"](seed=0, features=84, rows=50)
    fit = made.features.fit
    monkeypatch.setattr(made.features, "fit", lambda part, rng: seen.append(len(part)) or fit(part, rng))
    assert made.fit(signals, targets, 2).predict(signals).shape == (90, 4)
    assert seen == [50]


@pytest.mark.parametrize("components", [3, 1000])
def test_components_are_those_of_scikit_learn(components):
    signals, targets = waves()
    flat = signals.reshape(len(signals), -1)
    parts = PCA(min(components, *flat.shape), random_state=0).fit(flat)
    made = REGRESSORS["pca_ridge"](seed=0, components=components).fit(signals, targets, 2)
    expected = fit_ridge(parts.transform(flat), targets, "ridge").predict(parts.transform(flat))
    np.testing.assert_allclose(made.predict(signals), expected, rtol=1e-4, atol=1e-3)


def test_without_news_the_mean_is_predicted():
    targets = waves(9)[1]
    head = fit_ridge(np.ones((9, 4), np.float32), targets, "ridge")
    assert not head.weight.any()
    np.testing.assert_allclose(head.bias, targets.mean(0))
    np.testing.assert_allclose(head.deviation, targets.std(0) * 9 / 8)  # the mean of the others is farther away


def test_svr_says_what_scikit_learns_machine_says():
    signals, targets = waves(length=30)
    made = REGRESSORS["svr"](seed=3, components=6, cost=2.0, clip=0.1).fit(signals, targets, 2)
    low, high = np.quantile(signals, [0.1, 0.9], axis=(0, 2)).astype(np.float32)
    flat = np.clip(signals, low[:, None], high[:, None]).reshape(len(signals), -1).astype(np.float64)
    features = PCA(6, random_state=3).fit_transform(flat)
    scale, centre = targets[:, 1].std(), targets[:, 1].mean()
    theirs = SVR(C=2.0, epsilon=0.05).fit(features, (targets[:, 1] - centre) / scale).predict(features) * scale + centre
    np.testing.assert_allclose(made.predict(signals)[:, 1], theirs, atol=1e-6)


def test_svr_needs_ten_known_values():
    signals, targets = waves()
    targets[9:, 1] = np.nan
    with pytest.raises(DataError, match=r"svr: target 2 of 2 has 9 known values .* at least 10; leave it out"):
        REGRESSORS["svr"](seed=0).fit(signals, targets, 2)
