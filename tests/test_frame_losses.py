"""Losses of frames against numbers that a hand can check."""

import math

import pytest
import torch

from wavefold.core.errors import UserError
from wavefold.core.registry import build_part
from wavefold.training.forecast_losses import (
    DSSIM,
    FRAME_LOSSES,
    Balanced,
    BinaryCrossEntropy,
    GradientDifference,
    Huber,
    LossSum,
    SquaredError,
    frame_loss,
)

NEEDED = {
    "balanced": {"thresholds": [0.3, 0.6], "weights": [1, 2, 5]},
    "sum": {"parts": [{"loss": "mse"}, {"loss": "dssim", "weight": 0.5, "size": 5}]},
}
NAN = math.nan


def made(name, **options):
    return build_part(FRAME_LOSSES, name, {**NEEDED.get(name, {}), **options}, "stage.0")


def frames(*values):
    """One window of one channel and one frame of one row."""
    return torch.tensor(values).view(1, 1, 1, 1, -1)


def pair(seed=0):
    """A forecast and a truth in 0 to 1, apart in texture and size."""
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(2, 2, 3, 6, 7, generator=rng) * 0.5 + 0.1, torch.rand(2, 2, 3, 6, 7, generator=rng)


@pytest.mark.parametrize("name", FRAME_LOSSES)
def test_every_loss_falls_all_the_way_to_the_truth_and_has_a_gradient(name):
    loss, (forecast, truth) = made(name), pair()
    values = [loss(forecast + share * (truth - forecast), truth).item() for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert values == sorted(values, reverse=True)
    forecast.requires_grad_()
    value = loss(forecast, truth)
    value.backward()
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert torch.isfinite(forecast.grad).all()
    assert (forecast.grad != 0).any()
    assert loss((forecast - 1e-2 * forecast.grad / forecast.grad.abs().max()), truth).item() < value.item()


@pytest.mark.parametrize("name", FRAME_LOSSES)
def test_no_loss_sees_a_forecast_where_the_truth_is_missing(name):
    loss, (forecast, truth) = made(name), pair()
    truth[:, :, :, 1, 2] = NAN
    other = forecast.clone()
    other[:, :, :, 1, 2] = 0.9
    other.requires_grad_()
    value = loss(other, truth)
    value.backward()
    assert value.item() == pytest.approx(loss(forecast, truth).item(), rel=1e-6)
    assert torch.isfinite(other.grad).all()
    assert (other.grad[:, :, :, 1, 2] == 0).all()


@pytest.mark.parametrize("name", FRAME_LOSSES)
def test_nothing_to_count_is_no_loss(name):
    forecast = torch.rand(1, 1, 2, 6, 6, requires_grad=True)
    value = made(name)(forecast, torch.full((1, 1, 2, 6, 6), NAN))
    value.backward()
    assert value.item() == 0.0
    assert (forecast.grad == 0).all()


@pytest.mark.parametrize("name", FRAME_LOSSES)
def test_half_precision_is_summed_in_full(name):
    loss, (forecast, truth) = made(name), pair()
    half = forecast.bfloat16()
    assert loss(half, truth).item() == pytest.approx(loss(half.float(), truth).item(), rel=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(half.float(), truth).item() == pytest.approx(loss(half.float(), truth).item(), rel=1e-6)


@pytest.mark.parametrize("name", FRAME_LOSSES)
def test_constant_and_certain_frames_have_finite_gradients(name):
    for value in (0.0, 1.0):
        forecast = torch.full((1, 1, 1, 6, 6), value, requires_grad=True)
        made(name)(forecast, torch.zeros(1, 1, 1, 6, 6)).backward()
        assert torch.isfinite(forecast.grad).all()


def test_squares_and_absolutes_are_means_over_the_cells_that_count():
    assert made("mse")(frames(1.0, 2.0, 9.0), frames(0.0, 4.0, NAN)).item() == pytest.approx((1 + 4) / 2)
    assert made("mae")(frames(1.0, 2.0, 9.0), frames(0.0, 4.0, NAN)).item() == pytest.approx((1 + 2) / 2)
    assert Huber(delta=0.5)(frames(0.2, 2.0), frames(0.0, 0.0)).item() == pytest.approx((0.02 + 0.5 * (2 - 0.25)) / 2)


def test_cross_entropy_of_chances_and_of_logits_is_the_same():
    chances, truth = frames(0.25, 0.5, 0.9), frames(1.0, 0.5, 0.0)
    by_hand = (math.log(4) + math.log(2) - math.log(0.1)) / 3
    assert BinaryCrossEntropy()(chances, truth).item() == pytest.approx(by_hand)
    assert BinaryCrossEntropy(logits=True)(torch.logit(chances), truth).item() == pytest.approx(by_hand)


def test_cross_entropy_is_finite_at_certainty_and_clamps_the_truth():
    assert BinaryCrossEntropy()(frames(0.0), frames(1.0)).item() == pytest.approx(-math.log(1e-7), rel=1e-4)
    assert BinaryCrossEntropy()(frames(1.0, 0.0), frames(1.0, 0.0)).item() < 1e-6
    assert BinaryCrossEntropy()(frames(0.3), frames(1.7)).item() == pytest.approx(-math.log(0.3))


def test_dssim_of_flat_frames_by_hand():
    guess, truth = torch.full((1, 1, 1, 3, 3), 0.5), torch.ones(1, 1, 1, 3, 3)
    assert DSSIM()(guess, truth).item() == pytest.approx((1 - (1 + 1e-4) / (1.25 + 1e-4)) / 2, abs=1e-6)
    assert DSSIM()(truth, truth).item() == pytest.approx(0.0, abs=1e-6)


def test_dssim_is_the_source_s_where_one_window_is_the_whole_frame():
    # keras_contrib's formula: variances over n, k1 .01, k2 .03
    rng = torch.Generator().manual_seed(3)
    a, b = (torch.rand(1, 1, 1, 3, 3, generator=rng) for _ in range(2))
    cov = ((a - a.mean()) * (b - b.mean())).mean()
    top = (2 * a.mean() * b.mean() + 1e-4) * (2 * cov + 9e-4)
    bottom = (a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (a.var(correction=0) + b.var(correction=0) + 9e-4)
    assert DSSIM()(a, b).item() == pytest.approx(((1 - top / bottom) / 2).item(), abs=1e-6)


def test_gradient_difference_by_hand():
    # steps of the truth 2 and 3, of the forecast 1 and -3: |2 - 1| + |3 - 3| over two pairs
    guess, truth = frames(5.0, 6.0, 3.0), frames(0.0, 2.0, 5.0)
    assert GradientDifference()(guess, truth).item() == pytest.approx(0.5)
    assert GradientDifference(alpha=2.0)(guess, frames(0.0, 4.0, 5.0)).item() == pytest.approx((9 + 4) / 2)
    assert GradientDifference()(guess.transpose(-1, -2), truth.transpose(-1, -2)).item() == pytest.approx(0.5)
    assert GradientDifference()(frames(5.0, 6.0, 3.0, 0.0), frames(0.0, NAN, 5.0, 7.0)).item() == pytest.approx(1.0)


def test_balanced_weighs_by_the_truth():
    loss = Balanced(thresholds=(1.0, 2.0), weights=(1.0, 2.0, 10.0), mae_share=0.25)
    # truths below 1, at 1, at 2: weights 1, 2, 10; errors 1, 2, 1
    by_hand = 0.75 * (1 * 1 + 2 * 4 + 10 * 1) / 3 + 0.25 * (1 * 1 + 2 * 2 + 10 * 1) / 3
    assert loss(frames(1.5, 3.0, 1.0, 7.0), frames(0.5, 1.0, 2.0, NAN)).item() == pytest.approx(by_hand)
    assert not loss.state_dict()


def test_a_sum_is_its_parts_times_their_weights():
    forecast, truth = pair()
    both = LossSum(parts=({"loss": "mse", "weight": 2}, {"loss": "dssim", "size": 5}))
    by_hand = 2 * SquaredError()(forecast, truth) + DSSIM(size=5)(forecast, truth)
    assert both(forecast, truth).item() == pytest.approx(by_hand.item())
    nested = frame_loss("sum", {"parts": [{"loss": "sum", "parts": [{"loss": "mae", "weight": 3}], "weight": 0.5}]}, "stage.0")
    assert nested(forecast, truth).item() == pytest.approx(1.5 * (forecast - truth).abs().mean().item())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mze", {}, r"stage\.0\.loss: 'mze' is not one of bce, mse.*did you mean 'mse'"),
        ("dssim", {"windoe": "uniform"}, r"stage\.0\.windoe: no such option; did you mean 'window'"),
        ("dssim", {"size": 4}, r"stage\.0\.size: 4 is invalid; expected an odd number"),
        ("dssim", {"data_range": 0.0}, r"stage\.0\.data_range: 0\.0 is invalid; expected a finite number above 0"),
        ("huber", {"delta": 0.0}, r"stage\.0\.delta: 0\.0 is not above 0"),
        ("gradient_difference", {"alpha": 0.5}, r"stage\.0\.alpha: 0\.5 is not at least 1"),
        ("balanced", {"thresholds": [2, 1], "weights": [1, 1, 1]}, r"stage\.0\.thresholds: \[2\.0, 1\.0\] .*increasing order"),
        ("balanced", {"thresholds": [1], "weights": [1]}, r"stage\.0\.weights: \[1\.0\] is invalid; expected 2 numbers"),
        (
            "balanced",
            {"thresholds": [1], "weights": [1, 2], "mae_share": 2.0},
            r"stage\.0\.mae_share: 2\.0 is out of range; expected 0 to 1",
        ),
        ("balanced", {}, r"stage\.0\.thresholds: must be set"),
        ("sum", {"parts": []}, r"stage\.0\.parts: must contain at least one loss"),
        ("sum", {"parts": [{"weight": 1}]}, r"stage\.0\.parts\.0\.loss: must be set"),
        ("sum", {"parts": [{"loss": "mse"}, {"loss": "dssim", "windoe": 3}]}, r"stage\.0\.parts\.1\.windoe: .*'window'"),
        ("sum", {"parts": [{"loss": "mse", "wieght": 3}]}, r"stage\.0\.parts\.0\.wieght: .*'weight'"),
        (
            "sum",
            {"parts": [{"loss": "mse", "weight": -1}]},
            r"stage\.0\.parts\.0\.weight: -1 is invalid; expected a number, 0 or more",
        ),
        ("sum", {"parts": [{"loss": "dsim"}]}, r"stage\.0\.parts\.0\.loss: 'dsim' .*did you mean 'dssim'"),
        ("sum", {"parts": [{"loss": "huber", "delta": -1}]}, r"stage\.0\.parts\.0\.delta: -1\.0 is not above 0"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(name, options, message):
    with pytest.raises(UserError, match=message):
        frame_loss(name, options, "stage.0")


def test_frames_of_other_sizes_are_refused():
    with pytest.raises(UserError, match=r"shape \(1, 1, 1, 1, 2\) does not match a truth of shape \(1, 1, 1, 1, 1\)"):
        SquaredError()(frames(0.0, 1.0), frames(0.0))
    with pytest.raises(UserError, match="smaller than the window"):
        DSSIM()(frames(0.0, 1.0), frames(0.0, 1.0))
