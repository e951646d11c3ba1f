"""Losses of numbers and of several labels, against scipy, scikit-learn and a hand's arithmetic."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import log_loss, mean_pinball_loss

from wavefold.core.errors import UserError
from wavefold.core.registry import build_part
from wavefold.training.multilabel_losses import MULTILABEL_LOSSES, Asymmetric, BinaryCrossEntropy
from wavefold.training.regression_losses import REGRESSION_LOSSES, Gaussian, Huber, Quantile

COUNTS = torch.tensor([2, 8])


def numbers(loss, count=12, seed=0):
    """Outputs (count, ...) of a loss of two targets, targets (count, 2)."""
    torch.manual_seed(seed)
    return torch.randn(count, 2 * loss.outputs_per_target), torch.randn(count, 2)


def regression_loss(name, targets=2, **options):
    return build_part(REGRESSION_LOSSES, name, options, "stage.0", targets=targets)


def test_errors_by_hand():
    outputs, targets = torch.tensor([[0.0, 3.0]]), torch.tensor([[0.5, 1.0]])
    assert regression_loss("mse")(outputs, targets).item() == pytest.approx((0.25 + 4) / 2)
    assert regression_loss("mae")(outputs, targets).item() == pytest.approx((0.5 + 2) / 2)
    assert Huber(2, delta=1.0)(outputs, targets).item() == pytest.approx((0.125 + 1.5) / 2)


def test_gaussian_is_the_likelihood():
    loss = Gaussian(2)
    outputs, targets = numbers(loss)
    means, spreads = outputs[:, :2].numpy(), outputs[:, 2:].exp().numpy()
    assert loss(outputs, targets).item() == pytest.approx(-norm.logpdf(targets.numpy(), means, spreads).mean(), rel=1e-5)


def test_beta_weights_the_gradient_of_the_mean_by_the_variance():
    gradients = {}
    for beta in (0.0, 0.5, 1.0):
        outputs = torch.tensor([[0.3, math.log(0.1)]], requires_grad=True)
        Gaussian(1, beta=beta)(outputs, torch.tensor([[0.5]])).backward()
        gradients[beta] = outputs.grad[0].tolist()
    assert gradients[0.0] == pytest.approx([-0.2 / 0.01, 1 - 0.04 / 0.01])
    assert gradients[0.5] == pytest.approx([0.1 * g for g in gradients[0.0]])
    assert gradients[1.0][0] == pytest.approx(-0.2)  # that of half the squared error


def test_quantile_is_scikit_learns_pinball_loss():
    loss = Quantile(2, spread=0.8)
    outputs, targets = numbers(loss)
    parts = np.split(outputs.numpy(), 3, axis=1)
    by_hand = [mean_pinball_loss(targets.numpy(), p, alpha=a) for p, a in zip(parts, (0.1, 0.5, 0.9), strict=True)]
    assert loss(outputs, targets).item() == pytest.approx(np.mean(by_hand), rel=1e-5)


@pytest.mark.parametrize("name", REGRESSION_LOSSES)
def test_unknown_targets_neither_count_nor_teach(name):
    loss = regression_loss(name)
    outputs, targets = numbers(loss)
    targets[3:, 1] = math.nan
    outputs.requires_grad_()
    value = loss(outputs, targets)
    value.backward()
    known = [(i, t) for i in range(12) for t in (0, 1) if not targets[i, t].isnan()]
    alone = [torch.where(torch.arange(2) == t, targets[i : i + 1], math.nan) for i, t in known]
    entries = [loss(outputs[i : i + 1], target).item() for (i, _), target in zip(known, alone, strict=True)]
    assert value.item() == pytest.approx(np.mean(entries), rel=1e-5)
    assert torch.isfinite(outputs.grad).all()
    assert (outputs.grad[3:, 1::2] == 0).all()
    assert (outputs.grad[:, 0] != 0).all()


@pytest.mark.parametrize("name", REGRESSION_LOSSES)
def test_nothing_known_is_a_loss_of_0_without_a_gradient(name):
    loss = regression_loss(name)
    outputs = numbers(loss)[0].requires_grad_()
    value = loss(outputs, torch.full((12, 2), math.nan), torch.ones(12))
    value.backward()
    assert value.item() == 0
    assert (outputs.grad == 0).all()


@pytest.mark.parametrize("name", REGRESSION_LOSSES)
def test_weights_multiply_the_losses_of_their_samples(name):
    loss = regression_loss(name)
    outputs, targets = numbers(loss)
    weights = torch.tensor([2.0, 0.0] * 6)
    assert loss(outputs, targets, weights).item() == pytest.approx(loss(outputs[::2], targets[::2]).item(), rel=1e-5)


@pytest.mark.parametrize("name", REGRESSION_LOSSES)
def test_a_fitted_loss_predicts_the_targets_mean_and_spread(name):
    torch.manual_seed(0)
    loss, targets = regression_loss(name, 1), 2.0 + 0.5 * torch.randn(4000, 1)
    outputs = torch.zeros(1, loss.outputs_per_target, requires_grad=True)
    optimiser = torch.optim.Adam([outputs], lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        loss(outputs.expand(4000, -1), targets).backward()
        optimiser.step()
    spread = 1.0 if loss.outputs_per_target == 1 else 0.5
    assert loss.predictions(outputs.detach())[0].tolist() == pytest.approx([2.0, spread], abs=0.05)


def test_predictions_of_several_targets_are_means_and_then_spreads():
    outputs = torch.tensor([[1.0, 2.0, math.log(3.0), -99.0]])
    assert Gaussian(2).predictions(outputs)[0].tolist() == pytest.approx([1.0, 2.0, 3.0, math.exp(-7)])
    assert math.isfinite(Gaussian(2)(outputs, torch.zeros(1, 2)).item())
    crossed = torch.tensor([[4.0, 5.0, 2.0]])
    assert Quantile(1).predictions(crossed)[0].tolist() == pytest.approx([5.0, 1.0], abs=1e-4)
    assert regression_loss("mae", 1).predictions(torch.tensor([[7.0]])).tolist() == [[7.0, 1.0]]


@pytest.mark.parametrize("name", REGRESSION_LOSSES)
def test_half_precision_outputs_are_summed_in_full(name):
    loss = regression_loss(name)
    assert loss(numbers(loss)[0].bfloat16(), torch.zeros(12, 2)).dtype == torch.float32


def test_bce_is_scikit_learns_log_loss():
    torch.manual_seed(0)
    logits, labels = torch.randn(20, 2), (torch.rand(20, 2) < 0.4).float()
    by_label = [log_loss(labels[:, k].numpy(), logits[:, k].sigmoid().double().numpy()) for k in (0, 1)]
    assert BinaryCrossEntropy(COUNTS, 20)(logits, labels).item() == pytest.approx(np.mean(by_label), rel=1e-5)
    weights = torch.tensor([2.0, 0.0] * 10)
    halved = BinaryCrossEntropy(COUNTS, 20)(logits[::2], labels[::2]).item()
    assert BinaryCrossEntropy(COUNTS, 20)(logits, labels, weights).item() == pytest.approx(halved, rel=1e-5)


def test_balanced_positives_count_as_much_as_negatives():
    assert BinaryCrossEntropy(COUNTS, 10, pos_weight="balanced").pos_weight.tolist() == pytest.approx([4.0, 0.25])
    assert BinaryCrossEntropy(COUNTS, 10, pos_weight="sqrt").pos_weight.tolist() == pytest.approx([2.0, 0.5])
    none = BinaryCrossEntropy(torch.tensor([0, 10]), 10, pos_weight="balanced").pos_weight
    assert none.tolist() == pytest.approx([10.0, 0.1])
    labels = torch.tensor([[1.0, 1.0]] * 2 + [[0.0, 1.0]] * 6 + [[0.0, 0.0]] * 2)
    logits = torch.zeros(10, 2, requires_grad=True)
    BinaryCrossEntropy(COUNTS, 10, pos_weight="balanced")(logits, labels).backward()
    assert logits.grad.sum(dim=0).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_asymmetric_by_hand():
    logits = torch.tensor([[math.log(4.0), math.log(0.25)]])  # probabilities .8 and .2
    q = 0.2 - 0.05
    by_hand = -(0.2**2 * math.log(0.8) + q**4 * math.log(1 - q)) / 2
    loss = Asymmetric(COUNTS, 10, gamma_positive=2.0)(logits, torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx(by_hand, rel=1e-4)
    assert Asymmetric(COUNTS, 10)(torch.full((1, 2), -4.0), torch.zeros(1, 2)).item() == pytest.approx(0.0, abs=1e-12)


def test_asymmetric_without_its_options_is_cross_entropy():
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(20, 2), (torch.rand(20, 2) < 0.4).float()
    plain = Asymmetric(COUNTS, 20, gamma_negative=0.0, clip=0.0)(logits, labels).item()
    assert plain == pytest.approx(BinaryCrossEntropy(COUNTS, 20)(logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in MULTILABEL_LOSSES),
        ("bce", {"pos_weight": "sqrt"}),
        ("asymmetric", {"gamma_negative": 0.5, "gamma_positive": 0.5}),
        ("asymmetric", {"clip": 0.0}),
    ],
)
def test_certain_nets_still_have_a_finite_gradient(name, options):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = build_part(MULTILABEL_LOSSES, name, options, "stage.0", counts=COUNTS, samples=10)
    loss(logits, torch.tensor([[1.0, 1.0], [0.0, 0.0]])).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 1] < 0


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: regression_loss("huber", delta=0.0), "delta: 0.0 is out of range"),
        (lambda: regression_loss("gaussian", beta=1.5), "beta: 1.5 is out of range"),
        (lambda: regression_loss("quantile", spread=1.0), "spread: 1.0 is out of range"),
        (lambda: regression_loss("mse", 0), "0 targets"),
        (lambda: regression_loss("mse", delta=1.0), "delta: no such option"),
        (lambda: Asymmetric(COUNTS, 10, clip=1.0), "clip: 1.0"),
        (lambda: Asymmetric(COUNTS, 10, gamma_positive=-1.0), "gamma_positive: -1.0"),
        (lambda: BinaryCrossEntropy(COUNTS, 7), "label 1 has 8 positives among 7 samples"),
        (lambda: BinaryCrossEntropy(torch.tensor([]), 7), "no labels"),
    ],
)
def test_what_cannot_be_is_refused(build, words):
    with pytest.raises(UserError, match=words):
        build()
