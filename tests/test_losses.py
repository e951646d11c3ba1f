"""Losses against numbers that a hand can check."""

import math

import pytest
import torch

from wavefold.core.errors import UserError
from wavefold.core.registry import build_part
from wavefold.training.losses import L1, LOSSES, CrossEntropy, label_smoothed

EVEN = torch.tensor([5, 5, 5, 5])


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_a_number_with_a_gradient_and_is_least_at_the_label(name):
    loss = build_part(LOSSES, name, {}, "stage.loss", counts=EVEN)
    logits = torch.zeros(2, 4, requires_grad=True)
    value = loss(logits, torch.tensor([0, 3]))
    value.backward()
    assert value.shape == ()
    assert logits.grad[0, 0] < 0
    assert (logits.grad[0, 1:] > 0).all()


def test_cross_entropy_of_even_odds_is_the_log_of_the_classes():
    assert CrossEntropy(EVEN)(torch.zeros(3, 4), torch.tensor([0, 1, 2])).item() == pytest.approx(math.log(4))


def test_smoothing_spreads_a_share_over_all_classes():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.125, 0.125]]))
    by_hand = 0.925 * math.log(2) + 0.025 * (math.log(4) + 2 * math.log(8))
    assert label_smoothed(EVEN)(logits, torch.tensor([0])).item() == pytest.approx(by_hand)


def test_balanced_weights_give_each_class_the_same_say():
    loss = CrossEntropy(torch.tensor([6, 2]), class_weights="balanced")
    assert loss.class_weights.tolist() == pytest.approx([8 / (2 * 6), 8 / (2 * 2)])
    loss = CrossEntropy(torch.tensor([9, 1, 0]), class_weights="sqrt")
    assert loss.class_weights.tolist() == pytest.approx([10 / 4 / 3, 10 / 4, 0.0])
    assert (loss.class_weights * torch.tensor([9, 1, 0])).sum().item() == pytest.approx(10)


def test_l1_clamps_its_labels_and_keeps_their_fractions():
    # p is 0.25 four times; the label is 0.9 and 0.1 / 3 three times
    assert L1(EVEN)(torch.zeros(5, 4), torch.arange(5) % 4).item() == pytest.approx(0.65 + 3 * (0.25 - 0.1 / 3))
    assert L1(EVEN, smoothing=0.0)(torch.zeros(1, 4), torch.tensor([2])).item() == pytest.approx(1.5)


def test_l1_is_zero_at_the_clamped_label():
    logits = torch.log(torch.tensor([[0.9, 0.1 / 3, 0.1 / 3, 0.1 / 3]]))
    assert L1(EVEN)(logits, torch.tensor([0])).item() == pytest.approx(0.0, abs=1e-6)


def test_half_precision_logits_are_summed_in_full():
    assert CrossEntropy(EVEN)(torch.zeros(1, 4, dtype=torch.bfloat16), torch.tensor([0])).dtype == torch.float32


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"smoothing: 0\.8 is out of range; expected 0 to 0\.75"):
        L1(EVEN, smoothing=0.8)
    with pytest.raises(UserError, match=r"smoothing: 1\.0"):
        CrossEntropy(EVEN, smoothing=1.0)
    for name in LOSSES:
        for smoothing in (-0.1, 1.0, float("nan")):
            if name == "soft_f1":  # takes no options
                continue
            if name != "l1" or smoothing != 1.0:
                with pytest.raises(UserError, match=f"smoothing: {smoothing} is out of range"):
                    LOSSES[name](EVEN, smoothing=smoothing)
    with pytest.raises(UserError, match="at least two"):
        CrossEntropy(torch.tensor([7]))
    with pytest.raises(UserError, match="did you mean 'smoothing'"):
        build_part(LOSSES, "l1", {"smooting": 0.1}, "stage.loss", counts=EVEN)


def test_soft_f1_is_the_logarithm_of_macro_f1_where_all_is_certain():
    # class 0: 2 of 3 found, 1 of 2 found for class 1: F1 = 4/5 ... by hand: tp 2, 1; predicted 3, 2; there 3, 2
    labels = torch.tensor([0, 0, 0, 1, 1])
    logits = 50 * torch.eye(3)[torch.tensor([0, 0, 1, 1, 0])]
    f1 = (2 * 2 / (3 + 3) + 2 * 1 / (2 + 2)) / 2
    loss = LOSSES["soft_f1"](torch.ones(3))(logits, labels)  # the third class is not in the batch and has no F1
    assert loss.item() == pytest.approx(-math.log(f1), abs=1e-5)


def test_soft_f1_is_the_sources_for_four_classes_in_the_batch():
    torch.manual_seed(0)
    logits, labels = torch.randn(160, 4), torch.arange(160) % 4
    p, y = logits.softmax(1), torch.eye(4)[labels]
    source = -math.log(sum(0.5 * (y * p)[:, i].sum() / (y + p)[:, i].sum() for i in range(4)))
    assert LOSSES["soft_f1"](torch.ones(4))(logits, labels).item() == pytest.approx(source, abs=1e-5)


def test_soft_f1_stays_finite_and_teaches_where_all_is_wrong():
    logits = (60 * torch.eye(2)[torch.tensor([1, 0])]).requires_grad_()
    loss = LOSSES["soft_f1"](torch.ones(2))(logits, torch.tensor([0, 1]))
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(logits.grad).all()
