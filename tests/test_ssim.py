"""SSIM against scikit-image, past missing cells, and as a loss."""

import numpy as np
import pytest
import torch

from wavefold.core.errors import DataError, UserError
from wavefold.evaluation.spectrum import radial_power
from wavefold.evaluation.ssim import mean_ssim, ssim_map

RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=(24, 31))
PAIRS = {
    "random": (RNG.random((24, 31)), RNG.random((24, 31))),
    "near": (NOISE, NOISE + 0.1 * RNG.normal(size=(24, 31))),
    "negative": (NOISE - 40.0, 2 * NOISE - 41.0),
    "constant": (np.full((24, 31), 0.3), np.full((24, 31), 0.7)),
    "one constant": (np.zeros((24, 31)), NOISE),
    "opposed": (NOISE, -NOISE),
}
GAUSSIAN = {"window": "gaussian", "size": 11, "sample_covariance": False}
UNIFORM = {"window": "uniform", "size": 7, "sample_covariance": True}


def tensors(name):
    return tuple(torch.from_numpy(frames) for frames in PAIRS[name])


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("data_range", [1.0, 70.0])
def test_gaussian_ssim_is_that_of_scikit_image(name, data_range):
    metrics = pytest.importorskip("skimage.metrics")
    theirs = metrics.structural_similarity(
        *PAIRS[name], data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert mean_ssim(*tensors(name), data_range=data_range).item() == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("size", [3, 7, 9, 23])
@pytest.mark.parametrize("sample", [True, False])
def test_uniform_ssim_is_that_of_scikit_image(name, size, sample):
    metrics = pytest.importorskip("skimage.metrics")
    theirs = metrics.structural_similarity(*PAIRS[name], data_range=2.0, win_size=size, use_sample_covariance=sample)
    ours = mean_ssim(*tensors(name), data_range=2.0, window="uniform", size=size, sample_covariance=sample)
    assert ours.item() == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(("sigma", "size"), [(0.8, 7), (2.0, 15)])  # the sides that scikit-image takes for these widths
def test_other_gaussians_are_those_of_scikit_image(sigma, size):
    metrics = pytest.importorskip("skimage.metrics")
    theirs = metrics.structural_similarity(*PAIRS["near"], data_range=2.0, gaussian_weights=True, sigma=sigma)
    ours = mean_ssim(*tensors("near"), data_range=2.0, size=size, sigma=sigma, sample_covariance=True)
    assert ours.item() == pytest.approx(theirs, abs=1e-9)


def test_any_leading_axes_are_frames_of_their_own():
    a, b = torch.rand(2, 3, 4, 12, 13, dtype=torch.float64), torch.rand(2, 3, 4, 12, 13, dtype=torch.float64)
    whole = mean_ssim(a, b, data_range=1.0)
    assert whole.shape == (2, 3, 4)
    assert whole[1, 2, 3].item() == pytest.approx(mean_ssim(a[1, 2, 3], b[1, 2, 3], data_range=1.0).item())


def test_constant_frames_by_hand():
    # no contrast: what is left is (2 a b + C1) / (a^2 + b^2 + C1)
    a, b = torch.full((3, 3), 0.5), torch.full((3, 3), 1.0)
    expected = (2 * 0.5 + 1e-4) / (1.25 + 1e-4)
    assert mean_ssim(a, b, data_range=1.0, window="uniform", size=3).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("options", [GAUSSIAN, UNIFORM], ids=["gaussian", "uniform"])
def test_single_precision_stands_a_large_offset(options):
    a, b = (300.0 + torch.from_numpy(frames) for frames in PAIRS["near"])
    exact = mean_ssim(a, b, data_range=1.0, **options).item()
    assert mean_ssim(a.float(), b.float(), data_range=1.0, **options).item() == pytest.approx(exact, abs=1e-4)
    assert mean_ssim(a.float(), a.float(), data_range=1.0, **options).item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("options", [GAUSSIAN, UNIFORM], ids=["gaussian", "uniform"])
def test_windows_that_touch_a_missing_truth_do_not_count(options):
    a, b = tensors("near")
    half = options["size"] // 2
    whole, _ = ssim_map(a, b, data_range=2.0, **options)
    holed = b.clone()
    holed[5, 20] = torch.nan
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(31), indexing="ij")
    free = ((rows - 5).abs() > half) | ((columns - 20).abs() > half)
    free = free[half:-half, half:-half]
    values, counted = ssim_map(a, holed, data_range=2.0, **options)
    assert torch.equal(counted, free)
    assert torch.allclose(values[free], whole[free], atol=1e-12)
    expected = whole[free].mean().item()
    assert mean_ssim(a, holed, data_range=2.0, **options).item() == pytest.approx(expected)


def test_a_frame_without_a_whole_window_is_undefined_and_hurts_no_gradient():
    guess = torch.rand(2, 11, 11, requires_grad=True)
    truth = torch.rand(2, 11, 11)
    truth[0, 5, 5] = torch.nan
    scores = mean_ssim(guess, truth, data_range=1.0)
    assert torch.isnan(scores).tolist() == [True, False]
    scores[1].backward()
    assert torch.isfinite(guess.grad).all()
    assert (guess.grad[0] == 0).all()


def test_the_gradient_is_right_and_finite_on_constant_frames():
    a = torch.rand(1, 8, 8, dtype=torch.float64, requires_grad=True)
    b = torch.rand(1, 8, 8, dtype=torch.float64)
    b[0, 0, 0] = torch.nan
    assert torch.autograd.gradcheck(lambda x: mean_ssim(x, b, data_range=1.0, window="uniform", size=5), a)
    flat = torch.zeros(2, 12, 12, requires_grad=True)
    mean_ssim(flat, torch.zeros(2, 12, 12), data_range=1.0).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_what_cannot_be_is_refused():
    a = torch.zeros(6, 20)
    with pytest.raises(UserError, match=r"frames of 6 x 20 cells are smaller than the window of 11 x 11"):
        mean_ssim(a, a, data_range=1.0)
    with pytest.raises(UserError, match=r"data_range: 0\.0 is invalid; expected a finite number above 0"):
        mean_ssim(a, a, data_range=0.0, size=3)
    with pytest.raises(UserError, match=r"size: 4 is invalid; expected an odd number, 3 or more"):
        mean_ssim(a, a, data_range=1.0, size=4)
    with pytest.raises(DataError, match=r"shape \(6, 20\) does not match a truth of shape \(6, 19\)"):
        mean_ssim(a, a[:, :19], data_range=1.0, size=3)


def test_white_noise_has_its_variance_at_every_wavenumber():
    noise = 3.0 * torch.randn(400, 24, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for hann in (True, False):
        power = radial_power(noise, hann=hann).mean(dim=0)
        assert power.shape == (13,)
        assert power[1:].numpy() == pytest.approx(np.full(12, 9.0), rel=0.25 if hann else 0.1)


@pytest.mark.parametrize(("waves", "size"), [(3, (24, 24)), (5, (24, 36))])
def test_a_wave_has_its_power_at_its_wavenumber(waves, size):
    # waves whole waves across the 24 rows: modes of +- waves share its mean square, 1/2, times all cells
    rows = torch.arange(24, dtype=torch.float64)[:, None].expand(size)
    power = radial_power(torch.cos(2 * torch.pi * waves * rows / 24), hann=False)
    assert power.argmax().item() == waves
    assert power[torch.arange(len(power)) != waves].max().item() < 1e-20


def test_an_offset_and_missing_cells_have_no_power():
    frame = torch.full((8, 9), 7.0, dtype=torch.float64)
    frame[2, 3] = torch.nan
    assert radial_power(frame).abs().max().item() < 1e-20
