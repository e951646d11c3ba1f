"""The scikit-learn face: what scikit-learn checks itself, what its tools do with it, and what it promises beyond them."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import wavefold
from wavefold.data import SERIES_SIMULATORS
from wavefold.estimators import FrameForecaster, SignalClassifier, SignalRegressor
from wavefold.estimators.validation_split import validation_split
from wavefold.models import CLASSIFIERS, LABELLERS, REGRESSORS
from wavefold.training.losses import LOSSES
from wavefold.training.regression_losses import REGRESSION_LOSSES

DOCS = Path(__file__).resolve().parents[1] / "docs" / "estimators.md"
PLAIN = {"model": "repvgg", "model_options": {"width": 8, "blocks": [1]}, "random_state": 0, "device": "cpu"}
QUICK = {**PLAIN, "epochs": 8, "learning_rate": 0.03, "batch_size": 32}

# every check of scikit-learn that cannot apply, with its reason; docs/estimators.md lists them
CANNOT = {
    "check_sample_weight_equivalence_on_dense_data": "a net learns from batches that are drawn by sample: a sample of weight "
    "2 and two samples are drawn into other batches, whose batch norm differs; weight 0 is leaving out (tested below)"
}
# what scikit-learn can check of an estimator that takes no rows of numbers
WITHOUT_ROWS = (
    *("check_estimator_cloneable", "check_valid_tag_types", "check_estimator_repr", "check_no_attributes_set_in_init"),
    *("check_parameters_default_constructible", "check_get_params_invariance", "check_set_params", "check_mixin_order"),
    *("check_do_not_raise_errors_in_init_or_set_params", "check_estimator_tags_renamed"),
)


OF_ANSWERS = ("check_methods_subset_invariance", "check_methods_sample_order_invariance")


def labels_of(words):
    """Class numbers, as the classifier counts classes."""
    return np.unique(words, return_inverse=True)[1].astype(np.int64)


def waves(count: int = 120, length: int = 40, channels: int = 0, seed: int = 0):
    """Two classes of signals, slow and fast sines at any phase."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    turns, phase = 2.0 + 3.0 * labels, rng.uniform(0, 2 * np.pi, count)
    signals = np.sin(2 * np.pi * turns[:, None] * np.arange(length) / length + phase[:, None])
    signals += 0.3 * rng.standard_normal(signals.shape)
    words = np.array(["slow", "fast"])[labels]
    return (signals if not channels else np.repeat(signals[:, None], channels, axis=1)).astype(np.float32), words


def fading(count: int = 80, seed: int = 0):
    """Frames (time, row, column), each .7 of the one before and noise."""
    rng = np.random.default_rng(seed)
    frames = [rng.standard_normal((8, 8))]
    for _ in range(count - 1):
        frames.append(0.7 * frames[-1] + 0.3 * rng.standard_normal((8, 8)))
    return np.stack(frames).astype(np.float32)


def forecaster(**more):
    return FrameForecaster(
        **{"model": "blend", "past": 3, "ahead": 2, "epochs": 4, "learning_rate": 0.05, "random_state": 0, **more}
    )


class Dense(nn.Module):
    """A net of one's own."""

    def __init__(self, channels: int, length: int, classes: int, *, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(channels * length, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, signals):
        return self.layers(signals)


DENSE = {**QUICK, "model": Dense, "model_options": None, "epochs": 12}  # the tables of the checks have no order of columns


def humps(count: int = 160, length: int = 24, seed: int = 0):
    """Signals with a hump, and its height and place."""
    rng = np.random.default_rng(seed)
    height, place = rng.uniform(1, 3, count), rng.uniform(6, 18, count)
    signals = height[:, None] * np.exp(-((np.arange(length) - place[:, None]) ** 2) / 8)
    return (signals + 0.05 * rng.standard_normal(signals.shape)).astype(np.float32), 100 + 10 * height, place


def tones(count: int = 160, seed: int = 0):
    """Signals with a slow tone, a fast one, both or none, and the label matrix (sample, slow and fast)."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, 2)) < (0.5, 0.3)).astype(np.int64)
    phase = rng.uniform(0, 2 * np.pi, (count, 2, 1))
    waves = np.sin(2 * np.pi * np.array([2.0, 6.0])[:, None] * np.arange(40) / 40 + phase)
    return ((labels[..., None] * waves).sum(axis=1) + 0.3 * rng.standard_normal((count, 40))).astype(np.float32), labels


@parametrize_with_checks([SignalClassifier(**QUICK), SignalRegressor(**DENSE)], expected_failed_checks=lambda _: CANNOT)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", [*OF_ANSWERS, "check_estimators_pickle", "check_estimators_dtypes", "check_fit_idempotent"])
def test_the_default_net_passes_the_checks_of_answers(name):
    getattr(estimator_checks, name)("SignalClassifier", SignalClassifier(epochs=2, random_state=0, device="cpu"))


@pytest.mark.parametrize("length", [12, 40])
def test_what_a_small_sample_is_does_not_depend_on_how_many_are_asked(length):
    signals, labels = waves(60, length)
    classifier = SignalClassifier(epochs=2, random_state=0, device="cpu").fit(signals, labels)
    alone = np.concatenate([classifier.predict_proba(signals[n : n + 1]) for n in range(20)])
    np.testing.assert_allclose(classifier.predict_proba(signals)[:20], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("model", "length"), [("auto", 12), ("repvgg", 40)])
def test_after_few_steps_it_answers_as_it_learned(model, length):
    signals, labels = waves(54, length)  # too few to hold any back; batch norm's running means lag behind
    classifier = SignalClassifier(model, epochs=4, random_state=0, device="cpu").fit(signals, labels)
    assert classifier.history_[-1]["loss"] < 0.1
    assert classifier.score(*waves(200, length, seed=99)) > 0.9


def test_what_batch_norm_goes_by_is_kept_where_it_serves_better():
    signals, labels = waves(240)
    classifier = SignalClassifier(**QUICK, validation_fraction=0.3, calibrate="none").fit(signals, labels)
    best = min(line["log-loss"] for line in classifier.history_)
    back = validation_split(labels_of(labels), 0.3, None, int(np.random.RandomState(0).randint(2**31 - 1)))[1]
    said = classifier.predict_proba(signals[back])[np.arange(len(back)), labels_of(labels)[back]]
    assert -np.log(said).mean() <= best + 1e-6


@pytest.mark.parametrize("name", WITHOUT_ROWS)
def test_scikit_learns_checks_that_need_no_rows_pass_for_the_forecaster(name):
    getattr(estimator_checks, name)("FrameForecaster", forecaster())


def test_the_docs_list_every_check_that_cannot_apply():
    text = DOCS.read_text()
    assert all(name in text for name in (*CANNOT, *WITHOUT_ROWS))


@pytest.mark.parametrize("channels", [0, 2])
def test_signals_of_two_and_three_axes_are_learned(channels):
    signals, labels = waves(channels=channels)
    classifier = SignalClassifier(**QUICK).fit(signals, labels)
    assert classifier.score(*waves(seed=1, channels=channels)) > 0.9
    probabilities = classifier.predict_proba(signals)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    assert list(classifier.classes_) == ["fast", "slow"]
    assert classifier.shape_ == (max(1, channels), 40)
    assert classifier.n_iter_ == len(classifier.history_) == 8
    assert {"loss", "log-loss", "accuracy", "kept"} <= set(classifier.history_[0])


def test_cadences_of_four_axes_go_to_nets_of_two_axes():
    rng = np.random.default_rng(0)
    cadences, labels = rng.standard_normal((12, 6, 16, 32)), np.arange(12) % 2
    cadences[labels == 1, ::2, :, 5] += 4
    options = {"model": "on_off", "prepare": (), "epochs": 1, "random_state": 0}
    assert SignalClassifier(**options).fit(cadences, labels).predict(cadences).shape == (12,)
    with pytest.raises(ValueError, match="'net1' takes samples with channels and length; a sample in X is 6 x 16 x 32"):
        SignalClassifier("net1").fit(cadences, labels)


def test_the_default_net_fits_short_and_long_samples():
    for length, kind in ((5, "Net6"), (36, "Net1")):
        signals, labels = waves(24, length)
        classifier = SignalClassifier(epochs=1, random_state=0).fit(signals, labels)
        assert type(classifier.net_.on("cpu")).__name__ == kind


def test_the_same_number_gives_the_same_bits_and_no_generator_moves():
    signals, labels = waves()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (SignalClassifier(**{**QUICK, "random_state": s}).fit(signals, labels) for s in (3, 3, 4))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert np.array_equal(first.predict_proba(signals), again.predict_proba(signals))
    assert not np.array_equal(first.predict_proba(signals), other.predict_proba(signals))


@pytest.mark.parametrize("model", ["repvgg", "kernels", "logistic", Dense])
def test_a_pickle_holds_no_device_answers_alike_and_moves_no_generator(model):
    signals, labels = waves()
    options = {**QUICK, "model": model, "model_options": None if model != "repvgg" else QUICK["model_options"]}
    classifier = SignalClassifier(**options).fit(signals, labels)
    packed = pickle.dumps(classifier)
    assert b"torch.storage" not in packed
    assert b"_rebuild_tensor" not in packed
    before = torch.get_rng_state()
    assert np.array_equal(pickle.loads(packed).predict_proba(signals), classifier.predict_proba(signals))
    assert torch.equal(before, torch.get_rng_state())


def test_a_weight_of_zero_is_leaving_out_and_weights_of_one_change_nothing():
    signals, labels = waves()
    weights = np.ones(len(labels))
    weights[::5] = 0
    left = weights > 0
    weighed = SignalClassifier(**QUICK).fit(signals, labels, sample_weight=weights).predict_proba(signals)
    left_out = SignalClassifier(**QUICK).fit(signals[left], labels[left]).predict_proba(signals)
    assert np.array_equal(weighed, left_out)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_takes_weights(name):
    loss = LOSSES[name](torch.tensor([5, 5, 5]))
    logits, labels = torch.tensor([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3]]), torch.tensor([0, 2])
    torch.testing.assert_close(loss(logits, labels, torch.ones(2)), loss(logits, labels))
    torch.testing.assert_close(loss(logits, labels, torch.tensor([2.0, 0.0])), loss(logits[:1], labels[:1]))


def test_weights_and_class_weights_move_the_answer():
    signals, labels = waves(200, seed=2)
    labels = labels[np.random.default_rng(0).permutation(200)]  # nothing to tell them apart by
    many = np.where(labels == "slow", 50.0, 1.0)
    slow = SignalClassifier(**QUICK).fit(signals, labels, sample_weight=many).predict_proba(signals)[:, 1].mean()
    by_class = SignalClassifier(**QUICK, class_weight={"slow": 50, "fast": 1}).fit(signals, labels).predict_proba(signals)
    plain = SignalClassifier(**QUICK).fit(signals, labels).predict_proba(signals)[:, 1].mean()
    assert slow > plain + 0.1
    assert np.isclose(by_class[:, 1].mean(), slow)


def test_groups_stay_together_and_every_class_is_learned():
    labels = np.repeat([0, 1, 2], [300, 80, 20])
    groups = np.array([f"patient {n // 20}" for n in range(400)])  # class 2 is one patient
    for seed in range(10):
        learned, back = validation_split(labels, 0.3, groups, seed)
        assert not set(groups[learned]) & set(groups[back])
        assert set(labels[learned]) == {0, 1, 2}
        assert sorted([*learned, *back]) == list(range(400))
        assert len(back) >= 60
    assert len(validation_split(labels, 0.3, np.zeros(400), 0)[1]) == 0
    assert len(validation_split(labels[:12], 0.3, None, 0)[1]) == 0


def test_it_is_calibrated_on_what_was_held_back():
    signals, labels = waves(300, seed=3)
    labels = np.where(np.random.default_rng(0).random(300) < 0.25, "slow", labels)  # some labels say nothing
    hot = SignalClassifier(**{**QUICK, "epochs": 20}, validation_fraction=0.3).fit(signals, labels)
    assert hot.temperature_ != 1.0
    assert SignalClassifier(**QUICK, calibrate="none").fit(signals, labels).temperature_ == 1.0
    assert SignalClassifier(**QUICK, validation_fraction=0).fit(signals, labels).temperature_ == 1.0


def test_steps_are_those_of_recipes():
    signals, labels = waves(100)
    rare = np.r_[np.flatnonzero(labels == "slow"), np.flatnonzero(labels == "fast")[:10]]
    steps = ("scale", "repeat", {"step": "noise", "sigma": 0.1}, {"step": "mixup", "label": "mix"})
    classifier = SignalClassifier(**QUICK, prepare=steps)
    classifier.set_params(epochs=20).fit(signals[rare], labels[rare], sample_weight=np.ones(60))
    assert classifier.score(*waves(seed=1)) > 0.8
    assert len(classifier.prepare_) == 1  # the transform; the others are for learning only


def test_warm_start_goes_on_from_the_weights():
    signals, labels = waves()
    classifier = SignalClassifier(**QUICK, warm_start=True, validation_fraction=0).fit(signals, labels)
    first = classifier.history_[0]["loss"]
    assert classifier.fit(signals, labels).history_[0]["loss"] < first


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"model": "repvg"}, "model: 'repvg' is not one of .*did you mean 'repvgg'"),
        ({"model_options": {"widht": 8}}, "model.widht: no such option; did you mean 'width'"),
        ({"model": Dense, "model_options": {"widht": 8}}, "model: Dense must accept channels, length, classes"),
        ({"prepare": "scale"}, "prepare: 'scale' is one step; expected a sequence"),
        ({"prepare": ("scael",)}, "prepare.0.step: 'scael' is not one of .*did you mean 'scale'"),
        ({"loss": "cross"}, "loss: 'cross' is not one of"),
        ({"epochs": 0}, "epochs: 0 is not a whole number, 1 or more"),
        ({"validation_fraction": 1.0}, "validation_fraction: 1.0 is not a number from 0 to below 1"),
        ({"best": "log_loss"}, "best: 'log_loss' is not one of .*did you mean 'log-loss'"),
        ({"device": "gpu"}, "device: 'gpu' is not one of auto, cpu, cuda"),
        (
            {"model": "logistic", "model_options": None, "class_weight": "balanced"},
            "'logistic' accepts neither",
        ),
    ],
)
def test_what_is_wrong_is_a_value_error_that_names_it(wrong, words):
    with pytest.raises(ValueError, match=words):
        SignalClassifier(**{**QUICK, **wrong}).fit(*waves())


WHOLE = "a whole number, 1 or more"
# for each parameter values of a wrong kind, or out of its bounds, and what is expected instead
WRONG = {
    "model": ([3, None, object], "a short name or a class of nets"),
    "model_options": (["width", [8], {1: 8}], "None or a mapping of options by name"),
    "prepare": ([None, 3, (3,), [None]], "a sequence of steps"),
    "loss": ([None, ["l1"]], "a short name"),
    "loss_options": (["balanced", 3], "None or a mapping of options by name"),
    "epochs": (["3", None, 2.0, True, -1, float("nan"), np.bool_(True)], WHOLE),
    "learning_rate": (["x", None, 0, -1.0, True, float("nan"), float("inf"), np.zeros((50, 3))], "a number above 0"),
    "optimiser": ([None, ["adam"]], "a short name"),
    "weight_decay": (["x", None, -0.1, False, float("nan")], "a number, 0 or more"),
    "schedule": ([None, {}], "a short name"),
    "average": (["x", None, -1, float("inf")], "a number, 0 or more"),
    "patience": ([1.5, "2", None, -1, True], "a whole number, 0 or more"),
    "validation_fraction": (["x", None, 1, -0.1, True], "a number from 0 to below 1"),
    "device": ([None, 0], "a short name"),
    "random_state": (["x", -1, 1.5, True, 2**32, np.random.default_rng(0)], "None or a whole number from 0 to 4294967295"),
}
OF_CLASSIFIER = {
    "batch_size": (["x", None, 0, 2.5, True], "'auto' or a whole number, 1 or more"),
    "best": ([None, ["accuracy"]], "a short name"),
    "class_weight": (["x", 3, {"slow": "x"}, {"slow": -1.0}], "None or 'balanced' or a mapping from class to a number"),
    "calibrate": ([None, ["none"]], "a short name"),
    "warm_start": (["yes", None, 1], "True or False"),
}
OF_FORECASTER = {
    "batch_size": (["auto", None, 0, 2.5, True], WHOLE),
    "past": (["3", None, 3.0, True], WHOLE),
    "ahead": (["3", None, 3.0, 0], WHOLE),
    "targets": (["1", 0, 1.0, True], "None or a whole number, 1 or more"),
    "step": (["1", None, -1.0, float("nan")], "a number, 0 or more"),
    "stride": (["1", None, 0, 1.5], WHOLE),
    "baselines": (["mean", None, 3, (3,)], "a sequence of one short name at least"),
}


def named_wrong(fit, made, wrong, *data):
    """Every wrong value is refused in one line that names the parameter, the value and what is expected."""
    for name, (values, expected) in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=re.escape(f" is not {expected}")) as fields:
                fit(made(**{name: value}), *data)
            assert str(fields.value).startswith(f"{name}: {' '.join(repr(value).split())[:70]}")
            assert "\n" not in str(fields.value)


def test_a_wrong_kind_of_parameter_of_the_classifier_is_named():
    wrong = {**WRONG, **OF_CLASSIFIER}
    assert set(wrong) == set(SignalClassifier().get_params())
    named_wrong(SignalClassifier.fit, SignalClassifier, wrong, *waves())


def test_a_wrong_kind_of_parameter_of_the_regressor_is_named():
    wrong = {**WRONG, **{name: OF_CLASSIFIER[name] for name in ("batch_size", "best", "calibrate", "warm_start")}}
    wrong["allow_missing"] = (["yes", None, 1], "True or False")
    assert set(wrong) == set(SignalRegressor().get_params())
    named_wrong(SignalRegressor.fit, SignalRegressor, wrong, *humps()[:2])


def test_a_wrong_kind_of_parameter_of_the_forecaster_is_named():
    wrong = {**WRONG, **OF_FORECASTER}
    assert set(wrong) == set(FrameForecaster().get_params())
    named_wrong(FrameForecaster.fit, FrameForecaster, wrong, fading())
    with pytest.raises(ValueError, match="targets: 2 is not None or from 1 to 1, the channels of X"):
        forecaster(targets=2).fit(fading())


def test_numbers_of_numpy_are_numbers():
    i, f = np.int64, np.float32
    shared = {"learning_rate": f(0.03125), "weight_decay": f(0.0), "average": f(0.5), "patience": i(0), "random_state": i(1)}
    shared |= {"validation_fraction": f(0.25), "epochs": i(2), "batch_size": i(16)}
    signals, labels = waves()
    usual = {name: value.item() for name, value in shared.items()}
    said = [SignalClassifier(**{**PLAIN, **given}).fit(signals, labels).predict_proba(signals) for given in (shared, usual)]
    assert np.array_equal(*said)
    frames = fading()
    shared |= {"past": i(3), "ahead": i(2), "stride": i(2), "targets": i(1), "step": f(0.0)}
    usual = {name: value.item() for name, value in shared.items()}
    assert np.array_equal(*(forecaster(**given).fit(frames).predict(frames) for given in (shared, usual)))


def test_signals_of_another_shape_are_refused():
    classifier = SignalClassifier(**QUICK).fit(*waves(channels=2))
    with pytest.raises(ValueError, match=r"a sample is 2 channels of 30 values; expected 2 channels of 40"):
        classifier.predict(np.zeros((3, 2, 30)))


def test_cross_validation_by_groups():
    signals, labels = waves()
    groups = np.arange(len(labels)) // 10
    scores = cross_val_score(
        SignalClassifier(**QUICK), signals, labels, groups=groups, cv=GroupKFold(3), params={"groups": groups}
    )
    assert scores.min() > 0.8


def test_groups_go_through_a_grid_search():
    signals, labels = waves(80)
    groups = np.arange(80) // 8
    search = GridSearchCV(SignalClassifier(**QUICK), {"epochs": [1, 8]}, cv=GroupKFold(2), error_score="raise")
    search.fit(signals, labels, groups=groups)
    assert search.best_params_["epochs"] == 8


def test_a_table_is_taken_with_its_names():
    pandas = pytest.importorskip("pandas")
    signals, labels = waves(60)
    table = pandas.DataFrame(signals, columns=[f"p{n}" for n in range(40)])
    classifier = SignalClassifier(**PLAIN, epochs=1).fit(table, labels)
    assert list(classifier.feature_names_in_) == list(table.columns)
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(table[table.columns[::-1]])


def test_a_grid_search_chooses_parameters():
    grid = {"learning_rate": [1e-6, 0.03], "model_options": [{"width": 8, "blocks": [1]}]}
    search = GridSearchCV(SignalClassifier(**QUICK), grid, cv=2, error_score="raise").fit(*waves(80))
    assert search.best_params_["learning_rate"] == 0.03


def test_a_pipeline_scales_first():
    signals, labels = waves()
    line = make_pipeline(StandardScaler(), SignalClassifier(**QUICK, prepare=()))
    assert line.fit(1e6 * signals + 5e6, labels).score(1e6 * signals + 5e6, labels) > 0.9
    assert clone(line).get_params()["signalclassifier__epochs"] == 8


def test_it_can_be_calibrated_and_vote():
    signals, labels = waves(80)
    calibrated = CalibratedClassifierCV(SignalClassifier(**QUICK), cv=2).fit(signals, labels)
    assert calibrated.score(signals, labels) > 0.8
    members = [("net", SignalClassifier(**QUICK)), ("line", LogisticRegression())]
    vote = VotingClassifier(members, voting="soft").fit(signals, labels)
    assert vote.score(signals, labels) > 0.8


def test_every_classifier_that_is_fitted_whole_can_be_named():
    signals, labels = waves(40, 12)
    for name in sorted(set(CLASSIFIERS) - {"dedoppler", "lightgbm"}):
        classifier = SignalClassifier(name, random_state=0, validation_fraction=0).fit(signals, labels)
        np.testing.assert_allclose(classifier.predict_proba(signals).sum(axis=1), 1, err_msg=name)


@pytest.mark.parametrize("several", [False, True])
def test_numbers_are_learned_with_their_standard_deviations(several):
    signals, height, place = humps(400)
    numbers = np.stack([height, place], axis=1) if several else height
    regressor = SignalRegressor(**{**DENSE, "epochs": 30}, validation_fraction=0.25).fit(signals[:300], numbers[:300])
    means, deviations = regressor.predict(signals[300:], return_std=True)
    assert means.shape == deviations.shape == numbers[300:].shape
    assert regressor.score(signals[300:], numbers[300:]) > 0.8
    assert np.array_equal(regressor.predict(signals[300:]), means)
    within = np.abs(means - numbers[300:]) < 1.96 * deviations
    assert 0.85 < within.mean() < 1
    assert set(regressor.history_[0]) >= ({"r2", "nrmse"} if several else {"r2", "rmse", "mae"})


def test_standard_deviations_are_calibrated_on_the_validation_part():
    signals, height, _ = humps(300)
    given = {**DENSE, "loss": "mse", "validation_fraction": 0.3}
    told = SignalRegressor(**given).fit(signals, height).predict(signals, return_std=True)[1]
    untold = SignalRegressor(**given, calibrate="none").fit(signals, height).predict(signals, return_std=True)[1]
    assert np.ptp(told) == np.ptp(untold) == 0  # squared errors learn no deviation of a sample's own
    assert untold[0] == pytest.approx(height.std(), rel=0.1)
    assert told[0] < untold[0] / 2


def test_a_gap_in_y_is_refused_unless_it_is_said_to_mean_unknown():
    signals, height, place = humps()
    numbers = np.stack([height, place], axis=1)
    numbers[::3, 0] = np.nan
    numbers[1] = np.nan
    with pytest.raises(ValueError, match="Input y contains NaN"):
        SignalRegressor(**DENSE).fit(signals, numbers)
    regressor = SignalRegressor(**DENSE, allow_missing=True)
    with_gaps = regressor.fit(signals, numbers).predict(signals)
    assert np.isfinite(with_gaps).all()
    left = np.arange(len(signals)) != 1
    assert np.array_equal(regressor.fit(signals[left], numbers[left]).predict(signals), with_gaps)
    with pytest.raises(ValueError, match="infinity"):
        regressor.fit(signals, np.where(np.isnan(numbers), np.inf, numbers))
    numbers[:, 1] = np.nan
    with pytest.raises(ValueError, match="y: no known number of target 1 in the training part; leave it out"):
        regressor.fit(signals, numbers)


def test_the_regressor_keeps_seeds_weights_groups_and_pickles_as_the_classifier_does():
    signals, height, _ = humps()
    weights = np.where(np.arange(len(height)) % 5, 1.0, 0.0)
    left, before = weights > 0, torch.get_rng_state()
    fits = [SignalRegressor(**DENSE).fit(signals, height, sample_weight=weights) for _ in range(2)]
    assert torch.equal(before, torch.get_rng_state())
    said = fits[0].predict(signals)
    assert np.array_equal(said, fits[1].predict(signals))
    assert np.array_equal(said, SignalRegressor(**DENSE).fit(signals[left], height[left]).predict(signals))
    assert np.array_equal(said, pickle.loads(pickle.dumps(fits[0])).predict(signals))
    groups = np.arange(len(height)) // 10
    grouped = SignalRegressor(**DENSE, validation_fraction=0.3).fit(signals, height, groups=groups)
    assert not np.array_equal(grouped.predict(signals), said)


@pytest.mark.parametrize("name", sorted(REGRESSORS))
def test_every_regressor_that_is_fitted_at_once_can_be_named(name):
    signals, height, place = humps()
    numbers = np.stack([height, place], axis=1)
    regressor = SignalRegressor(name, random_state=0, allow_missing=True).fit(signals, np.where(height > 128, np.nan, height))
    assert regressor.predict(signals).shape == (160,)
    several = SignalRegressor(name, random_state=0).fit(signals, numbers)
    assert several.score(signals, numbers) > 0.8
    packed = pickle.loads(pickle.dumps(several))
    assert np.array_equal(packed.predict(signals, return_std=True), several.predict(signals, return_std=True))


def test_warm_start_goes_on_with_numbers_and_refuses_others():
    signals, height, place = humps()
    regressor = SignalRegressor(**DENSE, warm_start=True).fit(signals, height)
    first = regressor.history_[0]["loss"]
    assert regressor.fit(signals, height).history_[0]["loss"] < first
    with pytest.raises(ValueError, match="warm_start: X or y has another shape"):
        regressor.fit(signals, np.stack([height, place], axis=1))


NUMBER_CHANGES = {
    **{
        "model": "net6",
        "model_options": {"width": 4},
        "prepare": ("scale",),
        "loss": "gaussian",
        "loss_options": {"delta": 0.1},
    },
    **{"epochs": 3, "batch_size": 16, "learning_rate": 1e-4, "optimiser": "adadelta", "weight_decay": 0.9},
    **{
        "schedule": "constant",
        "average": 5.0,
        "best": "mae",
        "validation_fraction": 0.4,
        "calibrate": "none",
        "random_state": 5,
    },
}


def test_every_parameter_of_the_regressor_has_its_test():
    elsewhere = {"device", "warm_start", "patience", "allow_missing"}
    assert set(NUMBER_CHANGES) | elsewhere == set(SignalRegressor().get_params())


@pytest.mark.parametrize("name", sorted({*NUMBER_CHANGES} - {"best"}))
def test_a_parameter_of_the_regressor_is_obeyed(name):
    signals, height, _ = humps()
    usual = {**DENSE, "epochs": 4}
    said = [SignalRegressor(**g).fit(signals, height) for g in (usual, {**usual, name: NUMBER_CHANGES[name]})]
    assert not np.array_equal(*(np.stack(fit.predict(signals, return_std=True)) for fit in said))


def test_the_best_metric_of_the_regressor_chooses_the_epoch_and_patience_ends_early():
    signals, _, _ = humps()
    noise = np.random.default_rng(0).standard_normal(160)  # nothing to learn
    fits = [SignalRegressor(**{**DENSE, "epochs": 30, "patience": 2, "best": b}).fit(signals, noise) for b in ("r2", "mae")]
    assert fits[0].n_iter_ < 30
    assert min(line["mae"] for line in fits[1].history_) == [line["mae"] for line in fits[1].history_ if line["kept"]][-1]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"model": "lightgbm"}, "model: 'lightgbm' is not one of auto, .*pca_ridge"),
        ({"loss": "cross_entropy"}, "loss: 'cross_entropy' is not one of mse"),
        ({"best": "coverage"}, "best: 'coverage' is not one of rmse"),
        ({"calibrate": "temperature"}, "calibrate: 'temperature' is not one of none or spread|calibrate: .*spread"),
        ({"prepare": ("smote",)}, "prepare.0.step: 'smote' needs one class per sample"),
        ({"prepare": ("mixup",)}, "prepare.0.step: 'mixup' needs one class per sample"),
        ({"loss_options": {"beta": 1.0}}, "loss.beta: no such option"),
    ],
)
def test_what_is_wrong_with_a_regressor_is_a_value_error(wrong, words):
    with pytest.raises(ValueError, match=words):
        SignalRegressor(**{**DENSE, **wrong}).fit(*humps()[:2])


@pytest.mark.parametrize("name", REGRESSION_LOSSES)
def test_every_loss_of_numbers_gives_standard_deviations(name):
    signals, height, _ = humps()
    deviations = SignalRegressor(**{**DENSE, "loss": name}).fit(signals, height).predict(signals, return_std=True)[1]
    assert (deviations > 0).all()


@pytest.mark.parametrize("model", ["repvgg", *sorted(LABELLERS)])
def test_a_label_matrix_is_learned_label_by_label(model):
    signals, labels = tones(300)
    options = {**QUICK, "model": model, "model_options": QUICK["model_options"] if model == "repvgg" else None}
    classifier = SignalClassifier(**options, validation_fraction=0.2).fit(signals, labels)
    later, truth = tones(200, seed=9)
    probabilities, predicted = classifier.predict_proba(later), classifier.predict(later)
    assert probabilities.shape == predicted.shape == (200, 2)
    assert set(np.unique(predicted)) == {0, 1}
    assert (predicted == truth).mean() > 0.85
    assert list(classifier.classes_) == [0, 1]
    assert np.array_equal(predicted, probabilities > classifier.thresholds_.thresholds)
    odds = np.log(probabilities / (1 - probabilities))
    np.testing.assert_allclose(classifier.decision_function(later), odds, atol=1e-6)
    assert classifier.score(later, truth) == (predicted == truth).all(axis=1).mean()
    assert np.array_equal(pickle.loads(pickle.dumps(classifier)).predict_proba(later), probabilities)


def test_thresholds_of_labels_are_half_without_a_validation_part():
    signals, labels = tones()
    classifier = SignalClassifier(**QUICK, validation_fraction=0).fit(signals, labels)
    assert np.array_equal(classifier.predict(signals), classifier.predict_proba(signals) > 0.5)
    assert classifier.temperature_ == 1.0
    assert SignalClassifier(**QUICK, validation_fraction=0.3).fit(signals, labels).temperature_ != 1.0


def test_labels_are_weighted_and_a_weight_of_zero_is_leaving_out():
    signals, labels = tones()
    labels = labels[np.random.default_rng(0).permutation(160)]  # nothing to tell them by
    plain = SignalClassifier(**QUICK).fit(signals, labels).predict_proba(signals)
    balanced = SignalClassifier(**QUICK, class_weight="balanced").fit(signals, labels).predict_proba(signals)
    assert balanced[:, 1].mean() > plain[:, 1].mean() + 0.05
    weights = np.where(np.arange(160) % 4, 1.0, 0.0)
    weighed = SignalClassifier(**QUICK).fit(signals, labels, sample_weight=weights).predict_proba(signals)
    left = SignalClassifier(**QUICK).fit(signals[weights > 0], labels[weights > 0]).predict_proba(signals)
    assert np.array_equal(weighed, left)


def test_labels_are_all_in_the_training_part():
    labels = np.zeros((200, 3), np.int64)
    labels[::2, 0], labels[:60, 1], labels[:4, 2] = 1, 1, 1
    groups = np.arange(200) // 4  # the third label is one patient's
    for seed in range(10):
        for given in (None, groups):
            learned, back = validation_split(labels, 0.2, given, seed)
            assert labels[learned].any(axis=0).all()
            assert sorted([*learned, *back]) == list(range(200))
            assert given is None or not set(given[learned]) & set(given[back])


@pytest.mark.parametrize(
    ("change", "given", "words"),
    [
        (lambda y: y * [0, 1], {}, "y: column 0 is 0 in every sample; expected 0 and 1 in each column, so leave it out"),
        (lambda y: y | [0, 1], {}, "y: column 1 is 1 in every sample"),
        (lambda y: 2 * y, {}, "y: label [01] of sample .* is 2; expected 0 or 1"),
        (lambda y: y.astype(str), {}, "y: label 0 of sample 0 is [01]; expected 0 or 1"),
        (lambda y: y, {"class_weight": {0: 1.0, 1: 2.0}}, "class_weight: weights by class are for one class per sample"),
        (lambda y: y, {"class_weight": "balanced", "loss": "asymmetric"}, "class_weight: 'balanced' weights the loss 'bce'"),
        (lambda y: y, {"loss": "l1"}, "loss: 'l1' is not one of bce"),
        (lambda y: y, {"model": "logistic"}, "model: 'logistic' is not one of"),
        (lambda y: y, {"prepare": ("repeat",)}, "prepare.0.step: 'repeat' needs one class per sample"),
        (lambda y: y, {"prepare": ({"step": "mixup", "label": "mix"},)}, "prepare.0.step: 'mixup' needs one class"),
        (lambda y: y, {"model": "kernels", "model_options": None, "class_weight": "balanced"}, "'kernels' accepts none with a"),
    ],
)
def test_what_is_wrong_with_a_label_matrix_is_named(change, given, words):
    signals, labels = tones(60)
    with pytest.raises(ValueError, match=words) as fields:
        SignalClassifier(**{**QUICK, **given}).fit(signals, change(labels))
    assert "\n" not in str(fields.value)


def test_a_forecaster_beats_the_last_frame_where_frames_fade():
    frames = fading()
    fields = forecaster().fit(frames[:60])
    assert fields.predict(frames[:60]).shape == (2, 8, 8)
    assert fields.score(frames[60:]) > 0.1
    table = fields.compare(frames[60:])
    assert set(table) == {"forecast", "persistence", "mean"}
    assert table["persistence"]["skill"] == 0
    assert table["forecast"]["mse"] == pytest.approx(table["forecast"]["rmse"] ** 2)


def test_several_windows_are_forecast_as_each_alone():
    frames = fading()[..., None].repeat(2, axis=3)  # two channels
    fields = forecaster(targets=1).fit(frames)
    windows = np.stack([frames[10:13], frames[20:23]])
    both = fields.predict(windows)
    assert both.shape == (2, 2, 8, 8, 1)
    np.testing.assert_allclose(both[1], fields.predict(frames[20:23]), atol=1e-6)
    np.testing.assert_allclose(both[1], fields.predict(frames[:23]), atol=1e-6)  # only the last frames are looked at


def test_sequences_are_learned_apart():
    series = SERIES_SIMULATORS["squares"](6, 0, shape=(1, 12, 12), past=3, ahead=2)
    sequences = np.moveaxis(series.frames[:].reshape(6, 5, 1, 12, 12), 2, -1)
    fields = forecaster(validation_fraction=0.3).fit(sequences)
    assert fields.predict(sequences[:, :3]).shape == (6, 2, 12, 12, 1)
    assert set(fields.compare(sequences)) == {"forecast", "persistence", "mean"}


def test_a_cell_that_never_had_a_value_gets_no_forecast():
    frames = fading()
    frames[:, 2, 3] = np.nan
    frames[5, 0, 0] = np.nan
    said = forecaster().fit(frames).predict(frames)
    assert np.isnan(said[:, 2, 3]).all()
    assert np.isfinite(np.delete(said.reshape(2, -1), 2 * 8 + 3, axis=1)).all()


def test_times_tell_the_phase_of_a_cycle_and_where_frames_are_missing():
    hours = np.datetime64("2024-01-01T00") + np.arange(96).astype("timedelta64[h]")
    usual = np.sin(2 * np.pi * np.arange(96) / 24)[:, None, None] * np.ones((8, 8))
    frames = usual + 0.1 * fading(96)
    steps = ({"step": "anomaly", "period": 86400.0}, "standardise")
    fields = forecaster(prepare=steps).fit(frames, times=hours)
    said = fields.predict(frames[30:40], times=hours[30:40])
    assert np.abs(said - usual[40:42]).mean() < 0.15
    with pytest.raises(ValueError, match="3 frames without a gap"):
        fields.predict(frames[:6], times=np.r_[hours[:5], hours[7:8]])


def test_a_forecaster_is_cloned_pickled_and_searched():
    frames = fading()
    fields = forecaster().fit(frames)
    packed = pickle.dumps(fields)
    assert b"_rebuild_tensor" not in packed
    assert np.array_equal(pickle.loads(packed).predict(frames), fields.predict(frames))
    assert np.array_equal(clone(fields).fit(frames).predict(frames), fields.predict(frames))
    search = GridSearchCV(forecaster(), {"learning_rate": [1e-9, 0.05]}, cv=TimeSeriesSplit(2), error_score="raise")
    assert search.fit(fading(160)).best_params_ == {"learning_rate": 0.05}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"model": "simvpp"}, "model: 'simvpp' is not one of .*did you mean 'simvp'"),
        ({"past": 0}, "past: 0 is not a whole number, 1 or more"),
        ({"past": 90}, "X: the longest gapless stretch has 80 frames"),
        ({"past": 40, "ahead": 30}, "validation_fraction: 0.15 of 80 frames leaves no window"),
        ({"baselines": ()}, r"baselines: \(\) is not a sequence of one short name at least"),
        ({"prepare": ("scale",)}, "prepare.0.step: 'scale' is not one of standardise"),
    ],
)
def test_what_is_wrong_with_a_forecaster_is_a_value_error(wrong, words):
    with pytest.raises(ValueError, match=words):
        forecaster(**wrong).fit(fading())


def test_frames_of_other_axes_are_refused():
    fields = forecaster().fit(fading())
    with pytest.raises(ValueError, match=r"X: 2 axes; expected \(time, row, column"):
        forecaster().fit(np.zeros((9, 3)))
    with pytest.raises(ValueError, match="a forecast needs 3 frames"):
        fields.predict(fading()[:2])


def test_the_public_names_are_there_and_cost_nothing_before():
    assert {*wavefold.__all__} <= {*dir(wavefold)}
    assert wavefold.SignalClassifier is SignalClassifier
    assert wavefold.SignalRegressor is SignalRegressor
    assert all(getattr(wavefold, name) for name in wavefold.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'SignalClassifer'"):
        _ = wavefold.SignalClassifer


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.S | re.M))
def test_the_blocks_of_the_docs_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(block, {})


# for each parameter another value that must change what is answered; those with tests of their own stand below
CHANGES = {
    "model": "net6",
    "model_options": {"width": 8, "blocks": [1, 1]},
    "prepare": ("standardise", {"step": "noise", "sigma": 0.5}),
    "loss": "l1",
    "loss_options": {"class_weights": "balanced"},
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 1e-4,
    "optimiser": "adadelta",
    "weight_decay": 0.9,
    "schedule": "constant",
    "average": 5.0,
    "best": "accuracy",
    "validation_fraction": 0.4,
    "class_weight": {"slow": 9.0, "fast": 1.0},
    "calibrate": "none",
    "random_state": 5,
}
ELSEWHERE = {"device", "warm_start", "patience"}


def unlike():
    """Noisy waves, three of one class to one of the other."""
    signals, labels = waves(160)
    kept = (labels == "slow") | (np.arange(160) % 3 == 0)
    return signals[kept] + np.random.default_rng(1).standard_normal(signals[kept].shape).astype(np.float32), labels[kept]


@pytest.fixture(scope="module")
def usual_answer():
    signals, labels = unlike()
    return SignalClassifier(**{**QUICK, "epochs": 4}).fit(signals, labels).predict_proba(signals)


def test_every_parameter_has_its_test():
    assert set(CHANGES) | ELSEWHERE == set(SignalClassifier().get_params())


@pytest.mark.parametrize("name", CHANGES)
def test_a_parameter_is_obeyed(name, usual_answer):
    signals, labels = unlike()
    given = {**QUICK, "epochs": 4, name: CHANGES[name], **({"model_options": None} if name == "model" else {})}
    assert not np.array_equal(SignalClassifier(**given).fit(signals, labels).predict_proba(signals), usual_answer)


def test_patience_ends_early():
    signals = np.random.default_rng(0).standard_normal((120, 40)).astype(np.float32)  # nothing to learn
    given = {**QUICK, "epochs": 30, "patience": 2}
    assert SignalClassifier(**given).fit(signals, np.arange(120) % 2).n_iter_ < 30


FRAME_CHANGES = {
    "model": "refine",
    "model_options": {"blurs": [3.0]},
    "prepare": ({"step": "min_max"},),
    "loss": "mae",
    "epochs": 2,
    "batch_size": 2,
    "stride": 3,
    "learning_rate": 1e-4,
    "optimiser": "adadelta",
    "weight_decay": 0.9,
    "schedule": "constant",
    "average": 5.0,
    "validation_fraction": 0.4,
    "random_state": 5,
}
FRAMES_ELSEWHERE = {"past", "ahead", "targets", "step", "loss_options", "patience", "baselines", "device"}


def test_every_parameter_of_the_forecaster_has_its_test():
    assert set(FRAME_CHANGES) | FRAMES_ELSEWHERE == set(FrameForecaster().get_params())


@pytest.mark.parametrize("name", FRAME_CHANGES)
def test_a_parameter_of_the_forecaster_is_obeyed(name):
    frames = fading()
    usual = forecaster().fit(frames).predict(frames)
    assert not np.array_equal(forecaster(**{name: FRAME_CHANGES[name]}).fit(frames).predict(frames), usual)


def test_patience_and_options_of_the_loss_reach_the_forecaster():
    frames = fading()
    still = np.random.default_rng(0).standard_normal((60, 8, 8)).astype(np.float32)
    assert len(forecaster(epochs=40, patience=2, learning_rate=0.5).fit(still).history_) < 40
    said = [forecaster(loss="huber", loss_options={"delta": delta}).fit(frames).predict(frames) for delta in (0.05, 5.0)]
    assert not np.array_equal(*said)


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ({}, "kernels"),
        ({"validation_fraction": 0.3, "random_state": 1, "class_weight": "balanced"}, "kernels"),
        ({"loss": "soft_f1", "epochs": 1}, "net1"),
        ({"epochs": 1}, "net1"),
        ({"prepare": ({"step": "noise", "sigma": 0.1},), "epochs": 20, "schedule": "constant"}, "net1"),
    ],
)
def test_auto_is_kernels_unless_an_option_is_set_that_only_nets_have(given, model):
    signals, labels = waves(40)
    fitted = SignalClassifier(**{"random_state": 0, **given}).fit(signals, labels)
    assert fitted.model_ == model


def test_auto_is_a_net_for_signals_that_are_too_short_for_kernels_and_for_weighted_labels():
    signals, labels = waves(40)
    assert SignalClassifier(random_state=0).fit(signals[..., :8], labels).model_ == "net6"
    signals, labels = tones(40)
    assert SignalClassifier(random_state=0).fit(signals, labels).model_ == "kernels"
    assert SignalClassifier(class_weight="balanced", random_state=0).fit(signals, labels).model_ == "net1"
    assert SignalRegressor(random_state=0).fit(*humps()[:2]).model_ == "kernels"


def test_kernels_learn_from_every_sample_and_need_none_to_calibrate_them():
    signals, labels = waves(200)
    fitted = SignalClassifier(random_state=0, validation_fraction=0.5).fit(signals, labels)
    alone = SignalClassifier(random_state=0, validation_fraction=0).fit(signals, labels)
    assert np.array_equal(fitted.predict_proba(signals), alone.predict_proba(signals))
    assert fitted.temperature_ == 1


def test_kernels_obey_weights():
    signals, labels = waves(60)
    signals = signals + np.random.default_rng(0).normal(0, 3, signals.shape)
    kinds = np.unique(labels)
    heavy = SignalClassifier(random_state=0, class_weight={kinds[0]: 20.0, kinds[1]: 1.0}).fit(signals, labels)
    plain = SignalClassifier(random_state=0).fit(signals, labels)
    assert heavy.predict_proba(signals)[:, 0].mean() > plain.predict_proba(signals)[:, 0].mean() + 0.2
    signals, heights = humps()[:2]
    weights = np.where(np.arange(len(signals)) < 10, 1e-6, 1)
    weighted = SignalRegressor("kernels", random_state=0).fit(signals, heights, sample_weight=weights)
    without = SignalRegressor("kernels", random_state=0).fit(signals[10:], heights[10:])
    assert np.abs(weighted.predict(signals) - without.predict(signals)).max() < 0.2 * np.ptp(heights)


def test_samples_of_unequal_length_are_filled_with_zeros_at_the_end():
    signals, labels = waves(40)
    lengths = np.random.default_rng(0).integers(20, signals.shape[-1] + 1, len(signals))
    lengths[0] = signals.shape[-1]
    parts = [signal[..., :length] for signal, length in zip(signals, lengths, strict=True)]
    filled = np.where(np.arange(signals.shape[-1]) < lengths.reshape(-1, *[1] * (signals.ndim - 1)), signals, 0)
    fitted = SignalClassifier(random_state=0).fit(parts, labels)
    expected = SignalClassifier(random_state=0).fit(filled, labels).predict_proba(filled)
    assert np.array_equal(fitted.predict_proba(parts), expected)
    np.testing.assert_allclose(fitted.predict_proba([parts[1]]), expected[1:2], rtol=1e-5)
    longer = np.concatenate([parts[0], parts[0]], axis=-1)
    with pytest.warns(UserWarning, match="1 sample longer than .* positions, the longest in fit; the rest is left out"):
        np.testing.assert_allclose(fitted.predict_proba([longer, parts[1]]), expected[:2], rtol=1e-5)


def test_samples_with_other_channels_are_refused():
    with pytest.raises(ValueError, match=r"X: sample 1 has shape \(2, 20\); expected as many channels as in \(1, 30\)"):
        SignalClassifier().fit([np.zeros((1, 30)), np.zeros((2, 20))], [0, 1])
