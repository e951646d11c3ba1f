"""Batches: every sample once, or classes in fractions drawn with replacement; the same for the same key."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wavefold.core.errors import UserError
from wavefold.training.sampler import ByClass, EachOnce, class_fractions, names_other_classes

LABELS = np.repeat([0, 1, 2, 3], [600, 300, 80, 20])
CLASSES = ("star", "unknown", "galaxy", "qso")
SOURCE = {"star": 0.8, "unknown": 0.1, "galaxy": 0.05, "qso": 0.05}


def counts_of(batch):
    return np.bincount(LABELS[batch.numpy()], minlength=4).tolist()


def test_an_epoch_visits_every_sample_once_in_an_order_of_its_own():
    once = EachOnce(100, 16)
    first, second = torch.cat(list(once.epoch(-7))), torch.cat(list(once.epoch(8)))
    assert sorted(first.tolist()) == list(range(100))
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.cat(list(once.epoch(-7))))
    assert {len(b) for b in once.epoch(3)} == {14, 15}
    assert once.steps == 7


def test_an_epoch_may_be_cut_to_so_many_batches():
    few = EachOnce(100, 16, most=3)
    assert few.steps == len(few.epoch(1)) == 3
    assert EachOnce(100, 16, most=500).steps == 7
    assert len(set(torch.cat(list(few.epoch(1))).tolist())) == sum(map(len, few.epoch(1)))


def test_the_sources_fractions_hold_in_every_batch():
    batches = ByClass(LABELS, class_fractions(SOURCE, LABELS, CLASSES), 160, most=500)
    assert batches.steps == 7  # as many as would hold each of 1,000 samples once
    assert {tuple(counts_of(b)) for key in range(20) for b in batches.epoch(key)} == {(128, 16, 8, 8)}
    assert ByClass(LABELS, class_fractions(SOURCE, LABELS, CLASSES), 160, most=5).steps == 5


def test_a_part_of_a_sample_is_drawn_as_often_as_it_should():
    batches = ByClass(LABELS, class_fractions("natural", LABELS, CLASSES), 10)  # 6, 3, .8 and .2 samples a batch
    drawn = np.array([counts_of(b) for key in range(30) for b in batches.epoch(key)])
    assert set(drawn[:, 0]) <= {5, 6, 7}
    assert set(drawn[:, 3]) == {0, 1}
    assert (drawn.sum(axis=1) == 10).all()
    np.testing.assert_allclose(drawn.mean(axis=0), [6, 3, 0.8, 0.2], atol=0.03)


def test_draws_are_with_replacement_reach_every_sample_and_follow_the_key():
    batches = ByClass(LABELS, class_fractions("equal", LABELS, CLASSES), 40)
    rows = torch.cat(list(batches.epoch(5)))
    assert torch.equal(rows, torch.cat(list(batches.epoch(5))))
    assert not torch.equal(rows, torch.cat(list(batches.epoch(6))))
    rare = [r for r in rows.tolist() if LABELS[r] == 3]
    assert len(rare) == 250
    assert set(rare) == set(range(980, 1000))


@pytest.mark.parametrize(
    ("how", "fractions"),
    [
        ("natural", [0.6, 0.3, 0.08, 0.02]),
        ("equal", [0.25, 0.25, 0.25, 0.25]),
        ("sqrt", np.sqrt([600, 300, 80, 20]) / np.sqrt([600, 300, 80, 20]).sum()),
        (SOURCE, [0.8, 0.1, 0.05, 0.05]),
        ({"star": 3, "unknown": 1, "galaxy": 0, "qso": 0}, [0.75, 0.25, 0, 0]),
    ],
)
def test_fractions_sum_to_one_in_the_order_of_the_classes(how, fractions):
    np.testing.assert_allclose(class_fractions(how, LABELS, CLASSES), fractions)


def test_a_class_without_samples_leaves_its_share_to_the_others():
    labels = LABELS[LABELS != 1]
    np.testing.assert_allclose(class_fractions(SOURCE, labels, CLASSES), np.array([0.8, 0, 0.05, 0.05]) / 0.9)
    np.testing.assert_allclose(class_fractions("equal", labels, CLASSES), np.array([1, 0, 1, 1]) / 3)


def test_fractions_named_for_other_data_are_natural_and_half_named_ones_an_error():
    assert names_other_classes(SOURCE, ("A", "F"))
    assert not names_other_classes(SOURCE, CLASSES)
    np.testing.assert_allclose(class_fractions(SOURCE, np.array([0, 0, 1]), ("A", "F")), [2 / 3, 1 / 3])
    with pytest.raises(UserError, match=r"no share for class 'quasar', only for star, unknown, galaxy, qso"):
        class_fractions(SOURCE, np.array([0, 1]), ("star", "quasar"))
    with pytest.raises(UserError, match="no class with samples has a share"):
        class_fractions({"star": 0.0, "qso": 0.0}, np.array([0, 1]), ("star", "qso"))
