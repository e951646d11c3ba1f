"""Combining, calibrating and deciding, on numbers that a hand can check or whose truth is known."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from sklearn.metrics import f1_score

from wavefold.core.errors import DataError, UserError
from wavefold.core.registry import build_part
from wavefold.ensemble import CALIBRATIONS, COMBINERS, DECISIONS, Ensemble, OutOfFold, cross_fit
from wavefold.ensemble.calibrate import Temperature
from wavefold.ensemble.decide import l1_decision, one_hot, over_thresholds
from wavefold.ensemble.mixture import Mixture
from wavefold.ensemble.spread_scale import SpreadScale
from wavefold.ensemble.thresholds import LabelThresholds
from wavefold.ensemble.vote import Mean, mean_vote
from wavefold.ensemble.weighted import Weighted


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def members(count=600, classes=3, seed=0):
    """A good member, a bad one and one that calls class 0 class 1: (3, count, classes), labels (count,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    hot = np.eye(classes)
    confused = np.where(labels == 0, 1, labels)
    logits = [3 * hot[labels], 0 * hot[labels], 5 * hot[confused]]
    return softmax(np.stack(logits) + rng.normal(size=(3, count, classes))), labels


def random_odds(count, classes=4, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.6), size=count)


def test_the_mean_is_over_as_many_members_as_there_are():
    votes = [np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]), np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])]
    assert mean_vote(votes).tolist() == [[0.5, 0.5]]
    assert mean_vote(votes[:1]).tolist() == [[1.0, 0.0]]
    assert mean_vote(votes[::2], [3.0, 1.0]).tolist() == [[0.75, 0.25]]
    weighed = Mean([3.0, 1.0])
    assert Mean().load(weighed.state()).probabilities(votes[::2]).tolist() == [[0.75, 0.25]]


def test_members_that_disagree_in_shape_are_refused():
    with pytest.raises(DataError, match="member 1"):
        mean_vote([np.zeros((2, 3)), np.zeros((2, 4))])
    with pytest.raises(DataError, match="no member"):
        mean_vote([])


@pytest.mark.parametrize("name", COMBINERS)
def test_a_combiner_gives_probabilities_and_comes_back_from_its_state(name, tmp_path):
    scores, labels = members()
    combiner = COMBINERS[name]().fit(scores, labels, seed=1)
    given = combiner.probabilities(scores)
    assert given.shape == (600, 3)
    assert given.dtype == np.float64
    assert given.sum(axis=1) == pytest.approx(np.ones(600))
    save_file(combiner.state(), tmp_path / "combiner.safetensors")
    again = COMBINERS[name]().load(load_file(tmp_path / "combiner.safetensors"))
    assert np.array_equal(again.probabilities(scores), given)


@pytest.mark.parametrize("name", COMBINERS)
def test_a_combiner_repeats_and_leaves_the_global_generators(name):
    scores, labels = members()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first = COMBINERS[name]().fit(scores, labels, seed=1).probabilities(scores)
    assert np.array_equal(first, COMBINERS[name]().fit(scores, labels, seed=1).probabilities(scores))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


@pytest.mark.parametrize("name", ["stack_net", "stack_logistic"])
def test_stacking_learns_which_member_to_trust(name):
    scores, labels = members(2000)
    unseen, truth = members(2000, seed=1)
    stacked = COMBINERS[name]().fit(scores, labels, seed=0).probabilities(unseen)
    right, voted = (stacked.argmax(1) == truth).mean(), (mean_vote(unseen).argmax(1) == truth).mean()
    assert right > voted + 0.1


@pytest.mark.parametrize("labelled", [[0, 1, 2], [0, 2], [1]])
@pytest.mark.parametrize("name", COMBINERS)
def test_classes_without_a_label_keep_their_column(name, labelled):
    scores, _ = members(60, classes=4)
    labels = np.resize(labelled, 60)
    given = COMBINERS[name]().fit(scores, labels, seed=0).probabilities(scores[:, :7])
    assert given.shape == (7, 4)
    assert np.isfinite(given).all()
    assert given.sum(axis=1) == pytest.approx(np.ones(7))


def test_stacking_refuses_what_it_cannot_learn_from():
    scores, labels = members(9)
    with pytest.raises(DataError, match="9 held-out samples are too few"):
        COMBINERS["stack_logistic"]().fit(scores, labels, seed=0)
    with pytest.raises(DataError, match="for 5 labels"):
        COMBINERS["stack_net"]().fit(scores, labels[:5], seed=0)
    with pytest.raises(UserError, match="fit it or load"):
        COMBINERS["stack_net"]().probabilities(scores)
    with pytest.raises(UserError, match=r"stack_net\.epochs: 0 is out of range"):
        COMBINERS["stack_net"](epochs=0)
    with pytest.raises(UserError, match="did you mean 'patience'"):
        build_part(COMBINERS, "stack_net", {"patiense": 3}, "combine")


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_scores_is_found(true):
    rng = np.random.default_rng(0)
    odds = random_odds(20_000)
    labels = (rng.random((20_000, 1)) > odds.cumsum(axis=1)).sum(axis=1).clip(max=3)
    shown = softmax(true * np.log(np.maximum(odds, 1e-9)))  # `true` times too sure
    calibration = Temperature().fit(shown, labels)
    assert calibration.temperature == pytest.approx(true, rel=0.05)
    assert calibration.apply(shown) == pytest.approx(odds, abs=0.02)


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_a_calibration_keeps_the_first_class_and_comes_back(name):
    odds = random_odds(200)
    fitted = CALIBRATIONS[name]().fit(odds, np.zeros(200, np.int64))
    given = fitted.apply(odds)
    assert np.array_equal(given.argmax(1), odds.argmax(1))
    assert np.array_equal(CALIBRATIONS[name]().load(fitted.state()).apply(odds), given)


def test_certain_scores_stay_finite():
    calibration = Temperature().fit(np.eye(2)[[0, 1, 0]], [0, 1, 1])
    assert np.isfinite(calibration.apply(np.eye(2))).all()


@pytest.mark.parametrize("table", [COMBINERS, CALIBRATIONS])
def test_parts_are_built_without_options_and_refuse_unknown_ones(table):
    for name in table:
        assert isinstance(build_part(table, name, {}, "combine"), table[name])
        with pytest.raises(UserError, match="no such option"):
            build_part(table, name, {"frobnicate": 1}, "combine")


STACKERS = [name for name in COMBINERS if COMBINERS[name].learns]


def log_loss(odds, labels):
    return -np.log(np.maximum(odds[np.arange(len(labels)), labels], 1e-12)).mean()


def mistaken(share, count, seed):
    """Members' scores whose labels are drawn anew in a share of the rows: no answer can be sure of those."""
    rng = np.random.default_rng(seed)
    scores, labels = members(count, classes=4, seed=seed)
    return scores, np.where(rng.random(count) < share, rng.integers(4, size=count), labels)


@pytest.mark.parametrize("share", [0.0, 0.7])
@pytest.mark.parametrize("by", COMBINERS)
def test_calibrating_on_few_held_back_rows_does_not_make_the_answers_worse(by, share):
    fresh, truth = mistaken(share, 2000, seed=1)
    losses = {"none": [], "temperature": []}
    for seed in range(3):
        scores, labels = mistaken(share, 60, seed=10 + seed)
        for calibrate, found in losses.items():
            ensemble = Ensemble.fit(by, calibrate, scores, labels=labels, seed=seed)
            found.append(log_loss(ensemble.probabilities(fresh), truth))
    assert np.mean(losses["temperature"]) < np.mean(losses["none"]) + 0.05


@pytest.mark.parametrize("by", COMBINERS)
def test_an_ensemble_comes_back_without_its_options_and_repeats(by, tmp_path):
    scores, labels = members(40)
    options = {"stack_net": {"epochs": 3}, "stack_logistic": {"folds": 2}}.get(by, {})
    fitted = Ensemble.fit(by, "temperature", scores, labels=labels, seed=1, options=options)
    fitted.save(tmp_path / "ensemble.npz")
    given = fitted.probabilities(scores)
    assert np.array_equal(Ensemble.load(by, "temperature", tmp_path / "ensemble.npz").probabilities(scores), given)
    again = Ensemble.fit(by, "temperature", scores, labels=labels, seed=1, options=options)
    assert np.array_equal(again.probabilities(scores), given)


def test_a_combiners_options_reach_it():
    scores, labels = members(40)
    fitted = Ensemble.fit("stack_net", "none", scores, labels=labels, seed=1, options={"epochs": 3})
    assert fitted.combiner.epochs == 3
    held = OutOfFold(np.arange(40), np.arange(40) % 2, labels, scores)
    short, long = (
        cross_fit(held, held, range(3), by="stack_net", calibrate="none", seed=0, options={"epochs": n}) for n in (1, 20)
    )
    assert not np.array_equal(short.probabilities, long.probabilities)
    with pytest.raises(UserError, match="did you mean 'epochs'"):
        Ensemble.fit("stack_net", "none", scores, labels=labels, seed=1, options={"epoch": 3})


@pytest.mark.parametrize("calibrate", CALIBRATIONS)
@pytest.mark.parametrize("by", COMBINERS)
def test_as_many_rows_as_a_combiner_needs_are_enough(by, calibrate):
    scores, labels = members(COMBINERS[by].needs, seed=2)
    Ensemble.fit(by, calibrate, scores, labels=labels, seed=0)
    few = COMBINERS[by].needs - 1
    with pytest.raises(DataError, match=f"{by} needs at least {few + 1} held-out samples to fit; got {few}"):
        Ensemble.fit(by, calibrate, scores[:, :few], labels=labels[:few], seed=0)


@pytest.mark.parametrize("by", STACKERS)
def test_rows_of_one_sample_are_left_out_together(by):
    scores, labels = mistaken(1.0, 30, seed=0)  # nothing to learn
    thrice, rows = np.tile(scores, (1, 3, 1)), np.tile(np.arange(30), 3)
    fits = [
        Ensemble.fit(by, "temperature", thrice, labels=np.tile(labels, 3), seed=0, samples=samples) for samples in (rows, None)
    ]
    together, apart = (fit.calibration.temperature for fit in fits)
    assert together > apart  # apart, each row is answered by a fit that saw its twins


@pytest.mark.parametrize("by", STACKERS)
def test_a_class_held_back_once_does_not_soften_all_answers(by):
    scores, labels = members(200)
    lone = np.where(np.arange(200) == 0, 2, labels % 2)  # class 2 has one row, which no fit on other rows can know
    without = np.where(np.arange(200) == 0, 1, labels % 2)
    temperatures = [Ensemble.fit(by, "temperature", scores, labels=y, seed=0).calibration.temperature for y in (lone, without)]
    assert temperatures[0] < 1.5 * temperatures[1]


@pytest.mark.parametrize("name", DECISIONS)
def test_decisions_leave_what_they_are_given(name):
    odds = random_odds(50)
    kept = odds.copy()
    decided = build_part(DECISIONS, name, {}, "combine.decision", probabilities=odds)
    decided[:] = 7.0
    assert np.array_equal(odds, kept)


def test_one_hot_takes_the_first_of_equals():
    assert one_hot([[0.2, 0.4, 0.4]]).tolist() == [[0.0, 1.0, 0.0]]


def test_thresholds_ask_class_0_last_and_leave_the_undecided():
    odds = [[0.495, 0.0, 0.495, 0.01], [0.6, 0.1, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], [0.495, 0.495, 0.01, 0.0]]
    assert over_thresholds(odds).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0.4, 0.3, 0.2, 0.1], [0, 1, 0, 0]]
    assert over_thresholds(odds, threshold=0.0)[2].tolist() == [0, 1, 0, 0]
    with pytest.raises(UserError, match="threshold"):
        over_thresholds(odds, threshold=1.0)


def source_rule(result):
    """The published function, as it stands."""
    thr = [0.49, 0.49, 0.49, 0.49]
    temp = result.T.copy()
    for j in [1, 2, 3, 0]:
        for i in range(temp.shape[1]):
            if temp[j, i] > thr[j]:
                temp[:, i] = 0
                temp[j, i] = 1
    return temp.T


def test_thresholds_equal_the_source():
    odds = np.vstack([random_odds(300), [[0.5, 0.5, 0, 0], [0.495, 0, 0, 0.495]]])
    assert np.array_equal(over_thresholds(odds), source_rule(odds))


def expected_l1(answers, odds):
    """Sum over classes of |a - y|, over the labels as often as `odds` say. (sample, class) both; result: (sample,)."""
    return sum(odds[:, c] * np.abs(answers - np.eye(4)[c]).sum(axis=1) for c in range(4))


def test_no_answer_of_zeros_and_ones_costs_less_than_the_l1_decision():
    odds = random_odds(2000)
    cost = expected_l1(l1_decision(odds), odds)
    for answer in itertools.product([0.0, 0.25, 0.5, 1.0], repeat=4):
        assert (cost <= expected_l1(np.broadcast_to(answer, odds.shape), odds) + 1e-12).all()


def test_the_l1_decision_beats_the_first_class_where_none_is_over_half():
    odds = random_odds(2000)
    gain = expected_l1(one_hot(odds), odds) - expected_l1(l1_decision(odds), odds)
    unsure = odds.max(axis=1) <= 0.5
    assert unsure.sum() > 100
    assert gain[unsure] == pytest.approx(1 - 2 * odds[unsure].max(axis=1))
    assert gain[~unsure] == pytest.approx(0)


def gaussians(count=50, targets=2, seed=0):
    """Three members' means and spreads (3, count, 2 targets), means far from 0."""
    rng = np.random.default_rng(seed)
    return np.concatenate([1e8 + rng.normal(size=(3, count, targets)), rng.uniform(0.5, 2, (3, count, targets))], axis=2)


def test_a_mixture_has_the_mean_and_spread_of_draws_from_its_members():
    rng = np.random.default_rng(0)
    means, spreads = np.array([1.0, 2.0, 4.0]), np.array([0.5, 1.0, 0.2])
    for weights in (None, [1.0, 2.0, 5.0]):
        shares = np.array(weights or [1, 1, 1]) / np.sum(weights or 3)
        which = rng.choice(3, size=400_000, p=shares)
        drawn = rng.normal(means[which], spreads[which])
        mixed = Mixture(weights).probabilities(np.stack([means, spreads], axis=1)[:, None])
        assert mixed[0] == pytest.approx([drawn.mean(), drawn.std()], abs=0.01)


def test_a_mixture_keeps_its_digits_far_from_0_and_comes_back():
    members = gaussians()
    near = members - np.r_[1e8, 1e8, 0, 0]
    fitted = Mixture([1.0, 2.0, 3.0]).fit(members, np.zeros((50, 2)), seed=0)
    given = fitted.probabilities(members)
    assert given[:, 2:] == pytest.approx(fitted.probabilities(near)[:, 2:], rel=1e-6)
    assert np.array_equal(Mixture().load(fitted.state()).probabilities(members), given)
    assert np.array_equal(fitted.module()(torch.from_numpy(members)).numpy(), given)
    assert Mixture().probabilities(members[:1])[:, 2:] == pytest.approx(members[0, :, 2:])
    with pytest.raises(DataError, match="3 weights for 2 members"):
        fitted.probabilities(members[:2])
    with pytest.raises(DataError, match=r"shape \(3, 50, 3\)"):
        Mixture().probabilities(members[:, :, :3])


def test_the_factor_that_made_spreads_too_small_is_found():
    rng = np.random.default_rng(0)
    means, spreads = rng.normal(size=(20_000, 2)), rng.uniform(0.5, 2, (20_000, 2))
    targets = rng.normal(means, spreads)
    targets[::3, 1] = np.nan
    shown = np.hstack([means, spreads / [2.0, 0.5]])
    fitted = SpreadScale().fit(shown, targets)
    assert fitted.factors == pytest.approx([2.0, 0.5], rel=0.02)
    given = fitted.apply(shown)
    assert given == pytest.approx(np.hstack([means, spreads]), rel=0.02)
    assert np.array_equal(SpreadScale().load(fitted.state()).apply(shown), given)
    assert fitted.module()(torch.from_numpy(shown)).numpy() == pytest.approx(given)
    assert SpreadScale().apply(shown) == pytest.approx(shown)


def test_a_spread_of_a_target_without_truths_is_left_and_one_of_0_is_refused():
    shown, targets = np.ones((4, 4)), np.full((4, 2), np.nan)
    targets[:, 0] = [0.0, 2.0, 0.0, 2.0]
    shown[1, 3] = 0.0
    assert SpreadScale().fit(shown, targets).factors.tolist() == [1.0, 1.0]
    targets[1, 1] = 0.0
    with pytest.raises(DataError, match="target 1 in row 1 is 0; expected above 0"):
        SpreadScale().fit(shown, targets)
    with pytest.raises(DataError, match=r"\(4, 4\) do not match targets \(4, 1\)"):
        SpreadScale().fit(shown, targets[:, :1])


def test_no_threshold_has_a_better_f1_than_the_one_chosen():
    rng = np.random.default_rng(0)
    truth = (rng.random((200, 3)) < [0.1, 0.3, 0.6]).astype(float)
    odds = (1 / (1 + np.exp(1.5 - 2 * truth - rng.normal(size=truth.shape)))).round(2)
    fitted = LabelThresholds().fit(odds, truth)
    decided = fitted.apply(odds)
    for label in range(3):
        best = max(f1_score(truth[:, label], odds[:, label] > t, zero_division=0) for t in np.linspace(0, 0.999, 1000))
        assert f1_score(truth[:, label], decided[:, label]) == pytest.approx(best)
    assert np.array_equal(LabelThresholds().load(fitted.state()).apply(odds), decided)
    assert decided.dtype == np.float64


def test_thresholds_stay_near_a_half_where_it_makes_no_difference():
    odds = np.array([[0.1, 0.1, 0.6], [0.2, 0.2, 0.7], [0.3, 0.8, 0.8], [0.4, 0.9, 0.9]])
    labels = np.array([[0, 0, 0], [0, 0, 0], [1, 1, 0], [1, 1, 0]])
    assert LabelThresholds().fit(odds, labels).thresholds == pytest.approx([0.25, 0.5, 0.5])
    assert LabelThresholds().apply([[0.5, 0.51]]).tolist() == [[0.0, 1.0]]
    with pytest.raises(DataError, match=r"\(4, 3\) do not match labels \(4, 2\)"):
        LabelThresholds().fit(odds, labels[:, :2])


def test_weights_are_those_with_the_least_log_loss():
    scores, labels = members(3000)
    fitted = Weighted(rows=0).fit(scores, labels, seed=0)
    chosen = np.array(fitted.weights)
    assert chosen.sum() == pytest.approx(1)
    assert chosen[0] > chosen[2] > chosen[1] - 0.01  # the good member, then the one that is right on two classes

    def loss(weights):
        return -np.log(np.einsum("m,mn->n", weights, scores[:, np.arange(len(labels)), labels])).mean()

    least = loss(chosen)
    for one, other in itertools.permutations(range(3), 2):  # moving weight from one member to another makes it worse
        moved = chosen.copy()
        step = min(0.01, moved[one])
        moved[one], moved[other] = moved[one] - step, moved[other] + step
        assert loss(moved) >= least - 1e-6


def test_few_rows_leave_the_given_weights_almost_as_they_are():
    scores, labels = members(3000)
    given = [1.0, 2.0, 1.0]
    few = Weighted(given, rows=1000).fit(scores[:, :3], labels[:3], seed=0)
    np.testing.assert_allclose(few.weights, np.array(given) / 4, atol=0.01)
    assert Weighted(given).fit(scores[:, :0], labels[:0], seed=0).weights == [0.25, 0.5, 0.25]
    assert Weighted(given, rows=0).fit(scores[:, :0], labels[:0], seed=0).weights == [0.25, 0.5, 0.25]
    with pytest.raises(UserError, match=r"weighted\.rows: -1 is out of range"):
        Weighted(rows=-1)
