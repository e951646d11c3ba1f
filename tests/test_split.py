"""Splits: groups whole, classes in their shares, the same by seed."""

from __future__ import annotations

import numpy as np
import pytest

from wavefold.core.errors import UserError
from wavefold.core.registry import build_part
from wavefold.data.dataset import Dataset, Ints
from wavefold.data.split import SPLITS, Fold, column, holdout, kfold
from wavefold.recipe import Recipe
from wavefold.tasks.samples.reading import split_samples
from wavefold.tasks.samples.validation import check_recipe

STRATIFIED = ["holdout", "kfold"]  # the parts of `column` are named by the data
SHARES = [0.6, 0.25, 0.1, 0.05]


def some_labels(count: int, seed: int) -> Ints:
    rng = np.random.default_rng(seed)
    return rng.permutation(np.concatenate([np.repeat(np.arange(4), 10), rng.choice(4, count - 40, p=SHARES)]))


def parts(fold: Fold) -> list[Ints]:
    return [fold.train, fold.validation, fold.test]


def same(one: Fold, other: Fold) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(parts(one), parts(other), strict=True))


def test_holdout_takes_exact_counts():
    labels = np.repeat([0, 1], [40, 20])
    fold = holdout(labels, fraction=0.25, validation=0.2)[0]
    assert np.bincount(labels[fold.test]).tolist() == [10, 5]
    assert np.bincount(labels[fold.validation]).tolist() == [6, 3]  # a fifth of 30 and 15
    assert np.bincount(labels[fold.train]).tolist() == [24, 12]


def test_the_largest_remainder_decides_odd_counts():
    labels = np.repeat([0, 1, 2], [9, 7, 8])  # quarters 2.25, 1.75 and 2: the sixth is of class 1
    assert np.bincount(labels[holdout(labels, fraction=0.25)[0].test]).tolist() == [2, 2, 2]


def test_a_class_of_two_is_tested_and_learned():
    labels = np.repeat([0, 1], [200, 2])
    fold = holdout(labels, fraction=0.05, validation=0.1)[0]
    assert [np.count_nonzero(labels[p] == 1) for p in parts(fold)] == [1, 0, 1]


@pytest.mark.parametrize("name", STRATIFIED)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("grouped", [False, True])
def test_every_split_covers_all_samples_once_in_sorted_parts(name, seed, grouped):
    labels = some_labels(200, seed)
    groups = np.random.default_rng(seed).integers(0, 30, 200).astype(str) if grouped else None
    for fold in SPLITS[name](labels, groups=groups, seed=seed):
        assert np.array_equal(np.sort(np.concatenate(parts(fold))), np.arange(200))
        assert all(len(p) and np.all(np.diff(p) > 0) for p in parts(fold))


@pytest.mark.parametrize("name", STRATIFIED)
@pytest.mark.parametrize("seed", range(5))
def test_groups_never_straddle(name, seed):
    rng = np.random.default_rng(seed)
    groups = np.array([f"patient {g}" for g in rng.zipf(1.5, 400) % 40])
    for fold in SPLITS[name](some_labels(400, seed), groups=groups, seed=seed, validation=0.2):
        train, validation, test = (set(groups[p]) for p in parts(fold))
        assert not train & validation | train & test | validation & test


@pytest.mark.parametrize("seed", range(5))
def test_class_shares_match_within_one_sample(seed):
    labels = some_labels(317, seed)
    sizes = np.bincount(labels)
    test = np.bincount(labels[holdout(labels, fraction=0.3, seed=seed)[0].test])
    assert np.all(np.abs(test - 0.3 * sizes) < 1)
    for fold in kfold(labels, folds=7, seed=seed):
        rest = np.bincount(labels[np.concatenate([fold.train, fold.validation])])
        assert np.all(np.abs(sizes - rest - sizes / 7) < 1)
        assert np.all(np.abs(np.bincount(labels[fold.validation], minlength=4) - 0.1 * rest) <= 1)


def test_grouped_parts_hold_about_their_share_of_each_class():
    labels, groups = some_labels(2000, 0), np.arange(2000) // 10
    fold = holdout(labels, fraction=0.3, groups=groups)[0]
    shares = np.bincount(labels[fold.test]) / np.bincount(labels)
    np.testing.assert_allclose(shares, 0.3, atol=0.03)
    for fold in kfold(labels, folds=4, groups=groups):
        np.testing.assert_allclose(np.bincount(labels[fold.test]) / np.bincount(labels), 0.25, atol=0.03)


def test_groups_of_one_class_each_are_dealt_evenly():
    labels, groups = np.repeat([0, 0, 0, 0, 1, 1, 1, 1], 5), np.repeat(np.arange(8), 5)
    for fold in kfold(labels, folds=4, groups=groups, validation=0):
        assert np.bincount(labels[fold.test]).tolist() == [5, 5]


def test_a_small_part_still_gets_a_group():
    labels, groups = np.tile([0, 1], 15), np.repeat([0, 1, 2], 10)
    fold = holdout(labels, fraction=0.01, validation=0.01, groups=groups)[0]
    assert [len(p) for p in parts(fold)] == [10, 10, 10]


@pytest.mark.parametrize("grouped", [False, True])
def test_each_repeat_tests_every_sample_once_in_another_shuffle(grouped):
    labels = some_labels(100, 0)
    groups = np.minimum(np.arange(100) // 3, 25) if grouped else None
    folds = kfold(labels, folds=4, repeats=3, groups=groups)
    assert [f.number for f in folds] == list(range(12))
    for repeat in range(3):
        tested = np.concatenate([f.test for f in folds[4 * repeat : 4 * repeat + 4]])
        assert np.array_equal(np.sort(tested), np.arange(100))
    assert len({tuple(f.test) for f in folds}) == 12


@pytest.mark.parametrize("name", STRATIFIED)
def test_a_seed_decides_the_split(name):
    labels, groups = some_labels(200, 0), np.arange(200) // 4
    for g in (None, groups):
        one, again, other = (SPLITS[name](labels, groups=g, seed=s)[0] for s in (3, 3, 4))
        assert same(one, again)
        assert not same(one, other)


@pytest.mark.parametrize("name", STRATIFIED)
def test_no_validation_is_an_empty_part(name):
    fold = SPLITS[name](some_labels(100, 0), validation=0)[0]
    assert len(fold.validation) == 0
    assert len(fold.train) + len(fold.test) == 100


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: holdout(np.array([0, 0, 1]), classes=["star", "qso"]), "class 'qso' has 1 sample; .* at least 2"),
        (
            lambda: kfold(np.repeat([0, 1], [9, 3]), folds=5, classes=["a", "x"]),
            "class 'x' has 3 samples; a stratified split of 5 folds needs at least 5",
        ),
        (lambda: kfold(np.repeat([0, 1], 9), folds=3, groups=np.arange(18) % 2), "2 groups of samples; .* at least 3"),
        (lambda: holdout(np.repeat([0, 1], 9), groups=np.arange(18) % 2), "1 group of samples; splitting the samples outside"),
        (
            lambda: holdout(np.repeat([0, 1], 9), fraction=1.0),
            r"split.fraction: 1.0 is out of range; it must be above 0 and below 1",
        ),
        (lambda: holdout(np.repeat([0, 1], 9), validation=-0.1), "split.validation: -0.1"),
        (lambda: kfold(np.repeat([0, 1], 9), folds=1), "split.folds: 1"),
        (lambda: kfold(np.repeat([0, 1], 9), repeats=0), "split.repeats: 0"),
        (lambda: holdout(np.array([], np.int64)), "no samples to split"),
    ],
)
def test_what_cannot_be_split_is_named(call, words):
    with pytest.raises(UserError, match=words):
        call()


def several_labels(count: int = 600, seed: int = 0) -> np.ndarray:
    """Five labels, two of them rare; some samples have none."""
    return (np.random.default_rng(seed).random((count, 5)) < [0.4, 0.25, 0.2, 0.05, 0.02]).astype(float)


@pytest.mark.parametrize("name", STRATIFIED)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("grouped", [False, True])
def test_several_labels_are_split_whole_and_by_seed(name, seed, grouped):
    labels = several_labels(seed=seed)
    groups = np.random.default_rng(seed).integers(0, 90, 600).astype(str) if grouped else None
    folds = SPLITS[name](labels, groups=groups, seed=seed)
    for fold in folds:
        assert np.array_equal(np.sort(np.concatenate(parts(fold))), np.arange(600))
        assert all(len(p) and np.all(np.diff(p) > 0) for p in parts(fold))
        if groups is not None:
            train, validation, test = (set(groups[p]) for p in parts(fold))
            assert not train & validation | train & test | validation & test
    assert same(folds[0], SPLITS[name](labels, groups=groups, seed=seed)[0])
    assert not same(folds[0], SPLITS[name](labels, groups=groups, seed=seed + 1)[0])


@pytest.mark.parametrize("seed", range(5))
def test_each_label_has_its_share_of_each_part(seed):
    labels = several_labels(seed=seed)
    total = labels.sum(axis=0)
    fold = holdout(labels, fraction=0.25, validation=0.2, seed=seed)[0]
    for part, share in zip(parts(fold), (0.6, 0.15, 0.25), strict=True):
        assert labels[part].sum(axis=0) == pytest.approx(share * total, abs=2)
        assert len(part) == pytest.approx(share * 600, abs=2)
    tested = [fold.test for fold in kfold(labels, folds=4, seed=seed)]
    assert np.ptp([labels[test].sum(axis=0) for test in tested], axis=0).max() <= 2
    assert np.ptp([len(test) for test in tested]) <= 2


def test_rare_labels_of_groups_are_spread():
    labels, groups = several_labels(2000), np.arange(2000) // 8
    for fold in kfold(labels, folds=4, groups=groups):
        np.testing.assert_allclose(labels[fold.test].sum(axis=0) / labels.sum(axis=0), 0.25, atol=0.03)


def test_no_part_of_a_few_samples_with_several_labels_is_empty():
    labels = np.array([[1, 1], [1, 0], [0, 0], [0, 0]])
    for fold in kfold(labels, folds=4, validation=0.01):
        assert [len(p) for p in parts(fold)] == [2, 1, 1]
    assert [len(p) for p in parts(holdout(labels, fraction=0.01, validation=0.01)[0])] == [2, 1, 1]
    pairs = holdout(np.repeat(labels, 2, axis=0), fraction=0.01, validation=0.01, groups=np.arange(8) // 2)[0]
    assert [len(p) for p in parts(pairs)] == [4, 2, 2]


FOLDS = {"fold": np.array(["1", "2", "", "10", "9", "1", "10"])}


def test_a_column_names_the_parts():
    options = {"column": "fold", "test": ["10"], "validation": ["9"]}
    fold = build_part(SPLITS, "column", options, "split", labels=np.zeros(7), columns=FOLDS)[0]
    assert [part.tolist() for part in parts(fold)] == [[0, 1, 2, 5], [4], [3, 6]]
    assert fold.number == 0
    fold = column(np.zeros(7), column="fold", test=["10.0", "1"], columns=FOLDS, groups=np.array(list("abcdbad")))[0]
    assert [part.tolist() for part in parts(fold)] == [[1, 2, 4], [], [0, 3, 5, 6]]


def test_a_recipe_splits_by_a_column_and_may_not_set_what_it_is_given():
    named = {"way": "column", "column": "fold", "test": ["10"], "validation": ["9", "1"]}
    recipe = Recipe.load("heartbeat").with_({"split": named, "combine.by": "mean"})
    check_recipe(recipe)
    ids = np.array(list("abcdefg"))
    dataset = Dataset(np.zeros((7, 1, 205), np.float32), ids, np.arange(7) % 2, ("n", "v"), columns=FOLDS)
    assert [part.tolist() for part in parts(split_samples(recipe, dataset)[0])] == [[1, 2], [0, 4, 5], [3, 6]]
    with pytest.raises(UserError, match=r"split\.columns: no such option"):
        check_recipe(recipe.with_({"split.columns": {}}))
    assert len(split_samples(recipe.with_({"split": {"way": "kfold", "folds": 2}}), dataset)) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"column": "folds", "test": ["1"]}, "no column 'folds'; available columns: fold; did you mean 'fold'"),
        ({"test": ["11"]}, "split.test: '11' does not occur in column 'fold'; its values: .*10"),
        ({"test": ["1"], "validation": ["8"]}, "split.validation: '8' does not occur"),
        ({"test": []}, "split.test: names no value"),
        ({"test": ["1", "9"], "validation": ["9"]}, "'9' also names the test part"),
        ({"test": ["1", "2", "", "9", "10"]}, "leave one or more for training"),
        (
            {"test": ["10"], "groups": np.array(list("aabbcdd"))},
            "puts samples of 2 groups into more than one part, first of 'b'",
        ),
        ({"test": ["10"], "groups": np.array(list("abcabca"))}, "puts samples of 1 group into more than one part"),
    ],
)
def test_a_column_that_cannot_split_is_named(options, words):
    with pytest.raises(UserError, match=words):
        column(np.zeros(7), **{"column": "fold", "columns": FOLDS, **options})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kfold(several_labels(3), folds=4), "3 samples with labels; a stratified split of 4 folds needs at least 4"),
        (lambda: holdout(several_labels(2)), "1 sample with labels; splitting the samples outside the test part"),
        (lambda: holdout(several_labels(0)), "no samples to split"),
        (lambda: kfold(several_labels(9), folds=3, groups=np.arange(9) % 2), "2 groups of samples; .* at least 3"),
    ],
)
def test_too_few_samples_with_several_labels_are_named(call, words):
    with pytest.raises(UserError, match=words):
        call()
