"""Metrics of frames against numbers that a hand can check, and how their rows merge and are drawn."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from wavefold.core.errors import DataError, UserError
from wavefold.evaluation.forecast_metrics import FrameScores, is_higher_better, metric_unit, metrics_of_frames
from wavefold.evaluation.standing import standing_line

METRICS = metrics_of_frames(40.0, (7.0, 20.0), (1, 5))
NAN = math.nan


def made(count=6, size=(13, 12), channels=2, leads=3, spread=4.0, seed=0):
    """Forecasts that worsen with lead, and truths of 0 to 40."""
    rng = np.random.default_rng(seed)
    truth = rng.random((count, channels, leads, *size)) * 40
    off = rng.normal(size=truth.shape) * spread * np.arange(1, leads + 1)[:, None, None]
    return (truth + off).astype(np.float32), truth.astype(np.float32)


def scored(forecast, truth, metrics=METRICS):
    scores = FrameScores(metrics)
    scores.add(forecast, truth)
    return scores


def one(name, forecast, truth, metrics=METRICS):
    """A metric of one window of one frame."""
    lay = [np.array(f, np.float32)[None, None, None] for f in (forecast, truth)]
    return scored(*lay, {name: metrics[name]}).value(name)


def test_all_the_metrics_are_there():
    assert [name for name, metric in METRICS.items() if not metric.higher_is_better] == [
        "mse",
        "mae",
        "rmse",
        "mse-sum",
        "mae-sum",
    ]
    assert {"psnr", "ssim", "ssim-uniform", "sharpness"} < set(METRICS)
    assert {"csi-7", "bias-7", "fss-7-1", "fss-7-5", "csi-20", "bias-20", "fss-20-1", "fss-20-5"} < set(METRICS)
    assert "csi-0.25" in metrics_of_frames(1.0, [0.25])


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_best_at_the_truth(name):
    forecast, truth = made()
    perfect, good, poor = (scored(truth + share * (forecast - truth), truth).value(name) for share in (0.0, 0.3, 3.0))
    best = {"mse": 0, "mae": 0, "rmse": 0, "mse-sum": 0, "mae-sum": 0, "psnr": 100}.get(name, 1)
    assert perfect == pytest.approx(best, abs=1e-9)
    assert abs(good - best) < abs(poor - best)


def test_errors_by_hand():
    guess, truth = [[1.0, 2.0], [3.0, 9.0]], [[0.0, 4.0], [3.0, NAN]]  # errors 1, 2, 0
    values = [one(name, guess, truth) for name in ("mse", "mae", "rmse", "mse-sum", "mae-sum")]
    assert values == pytest.approx([5 / 3, 1.0, math.sqrt(5 / 3), 5.0, 3.0])
    assert one("psnr", guess, truth) == pytest.approx(10 * math.log10(1600 / (5 / 3)))


def test_sums_are_over_the_channels_and_cells_of_a_frame():
    forecast, truth = made(count=3, channels=2)
    squares = (forecast.astype(np.float64) - truth) ** 2
    scores = scored(forecast, truth)
    assert scores.value("mse") == pytest.approx(squares.mean())
    assert scores.value("mse-sum") == pytest.approx(squares.sum(axis=(1, 3, 4)).mean())
    assert scores.by_lead("rmse") == pytest.approx(np.sqrt(squares.mean(axis=(0, 1, 3, 4))))


def test_psnr_and_ssim_are_means_over_frames_of_scikit_image_s():
    metrics = pytest.importorskip("skimage.metrics")
    forecast, truth = (frames.astype(np.float64) for frames in made(count=2, channels=1))
    pairs = [(t[0, k], f[0, k]) for t, f in zip(truth, forecast, strict=True) for k in range(3)]
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    scores = scored(forecast, truth)
    assert scores.value("mse") == pytest.approx(np.mean([metrics.mean_squared_error(*p) for p in pairs]))
    assert scores.value("psnr") == pytest.approx(np.mean([metrics.peak_signal_noise_ratio(*p, data_range=40.0) for p in pairs]))
    ours, theirs = scores.value("ssim"), [metrics.structural_similarity(*p, data_range=40.0, **gaussian) for p in pairs]
    assert ours == pytest.approx(np.mean(theirs), abs=1e-9)
    ours, theirs = scores.value("ssim-uniform"), [metrics.structural_similarity(*p, data_range=40.0) for p in pairs]
    assert ours == pytest.approx(np.mean(theirs), abs=1e-9)


def test_events_by_hand():
    # at 7 or more: a hit, a miss, a false alarm, nothing, a cell without truth
    guess, truth = [[7.0, 6.9, 8.0, 1.0, 30.0]], [[9.0, 7.0, 0.0, 2.0, NAN]]
    assert one("csi-7", guess, truth) == pytest.approx(1 / 3)
    assert one("bias-7", guess, truth) == pytest.approx(2 / 2)
    assert one("fss-7-1", guess, truth) == pytest.approx(1 - 2 / 4)
    assert math.isnan(one("csi-20", guess, truth))
    assert math.isnan(one("bias-20", guess, truth))
    assert math.isnan(one("fss-20-5", guess, truth))


def test_neighbourhoods_forgive_a_near_miss():
    # an event one cell off on a row of 5; in boxes of 3 x 3 shares of 1/9: truth on cells 0-2, forecast on 1-3
    guess, truth = [[0.0, 0.0, 9.0, 0.0, 0.0]], [[0.0, 9.0, 0.0, 0.0, 0.0]]
    metrics = metrics_of_frames(40.0, [7.0], [1, 3])
    assert one("fss-7-1", guess, truth, metrics) == 0.0
    assert one("fss-7-3", guess, truth, metrics) == pytest.approx(1 - 2 / 6)


@pytest.mark.parametrize("scale", [1, 3, 9, 31])
def test_fractions_are_those_of_scipy_s_box(scale):
    forecast, truth = made(count=2, channels=1)
    said, was = ((frames >= 20.0).astype(np.float64) for frames in (forecast, truth))
    a, b = (uniform_filter(f, (0, 0, 0, scale, scale), mode="constant") for f in (said, was))
    expected = 1 - ((a - b) ** 2).sum() / ((a**2).sum() + (b**2).sum())
    assert scored(forecast, truth, metrics_of_frames(40.0, [20.0], [scale])).value(f"fss-20-{scale}") == pytest.approx(expected)


def test_sharpness_falls_with_blur():
    truth = made(count=2)[1]
    blurred = uniform_filter(truth, (0, 0, 0, 3, 3))
    assert scored(2 * truth, truth).value("sharpness") == pytest.approx(4.0)
    assert scored(blurred, truth).value("sharpness") < 0.2


def test_missing_cells_are_in_no_metric():
    forecast, truth = made(count=2)
    truth[:, :, :, 2, 3] = NAN
    truth[1, 0, 2] = NAN
    other = forecast.copy()
    other[:, :, :, 2, 3] = NAN
    other[1, 0, 2] = 1e6
    mine, theirs = scored(forecast, truth), scored(other, truth)
    for name in METRICS:
        assert mine.value(name) == pytest.approx(theirs.value(name), rel=1e-12, nan_ok=True)
        assert mine.by_lead(name) == pytest.approx(theirs.by_lead(name), rel=1e-12, nan_ok=True)


def test_frames_without_any_truth_and_small_frames_are_undefined():
    forecast, truth = made(count=1, size=(5, 5))
    scores = scored(forecast, truth)
    assert math.isnan(scores.value("ssim"))
    assert math.isnan(scores.value("ssim-uniform"))
    assert not math.isnan(scores.value("mse"))
    empty = scored(forecast, np.full_like(truth, NAN))
    assert all(math.isnan(empty.value(name)) for name in METRICS)
    assert all(np.isnan(empty.interval(name)).all() for name in METRICS)


def test_batches_merge_to_the_whole_in_any_order_and_either_kind_of_array():
    forecast, truth = made(count=11)
    whole = scored(forecast, truth)
    first, second = FrameScores(METRICS), FrameScores(METRICS)
    first.add(forecast[:2], truth[:2])
    first.add(torch.from_numpy(forecast[2:3]), torch.from_numpy(truth[2:3]).double())
    second.add(forecast[3:], truth[3:])
    first.merge(second)
    assert len(first) == 11
    backwards = scored(forecast[::-1], truth[::-1])
    for name in METRICS:
        assert np.allclose(first.rows()[name], whole.rows()[name], rtol=1e-12)
        assert first.value(name) == pytest.approx(whole.value(name), rel=1e-12)
        assert first.interval(name) == pytest.approx(whole.interval(name), rel=1e-9)
        assert backwards.value(name) == pytest.approx(whole.value(name), rel=1e-12)
        assert np.allclose(backwards.rows()[name][::-1], whole.rows()[name], rtol=1e-12)


def test_a_big_batch_is_measured_in_pieces():
    forecast, truth = made(count=40, size=(80, 90), leads=2, channels=1)
    scores = scored(forecast, truth, {"mse": METRICS["mse"]})
    assert len(scores) == 40
    assert scores.value("mse") == pytest.approx(((forecast.astype(np.float64) - truth) ** 2).mean())


def test_intervals_hold_the_value_and_narrow_with_windows():
    few, many = (scored(*made(count=count, size=(3, 3), channels=1, leads=2)) for count in (10, 160))
    for scores in (few, many):
        low, high = scores.interval("rmse")
        assert low < scores.value("rmse") < high
    assert np.diff(many.interval("rmse"))[0] < 0.5 * np.diff(few.interval("rmse"))[0]
    ends = many.interval_by_lead("mse")
    assert ends.shape == (2, 2)
    assert (ends[:, 0] < many.by_lead("mse")).all()
    assert (many.by_lead("mse") < ends[:, 1]).all()


def test_an_interval_of_a_mean_is_its_standard_error():
    scores = scored(*made(count=400, size=(2, 2), channels=1, leads=1), {"mse": METRICS["mse"]})
    each = scores.rows()["mse"][:, 0, 0] / 4
    low, high = scores.interval("mse", resamples=4000)
    assert high - low == pytest.approx(2 * 1.96 * each.std() / 20, rel=0.06)


def test_groups_are_drawn_whole():
    forecast, truth = made(count=12, size=(4, 4), leads=1)
    repeated = scored(np.repeat(forecast, 5, axis=0), np.repeat(truth, 5, axis=0))
    blocks = np.repeat([f"2020-{k:02d}" for k in range(12)], 5)
    assert repeated.interval("mse", blocks) == pytest.approx(scored(forecast, truth).interval("mse"))
    assert np.diff(repeated.interval("mse"))[0] < 0.7 * np.diff(repeated.interval("mse", blocks))[0]
    assert np.isnan(repeated.interval("mse", np.arange(60) % 2)).all()  # of two units nothing can be said
    assert np.isnan(repeated.interval_by_lead("mse", np.zeros(60))).all()


@pytest.mark.parametrize("count", [2, 3, 10])
def test_two_units_give_no_interval_and_three_give_one(count):
    forecast, truth = made(count=3 * count, size=(4, 4), leads=2)
    ours, theirs = scored(forecast, truth), scored(truth + 2 * (forecast - truth), truth)
    blocks = np.repeat(np.arange(count), 3)
    ends = [
        *ours.interval("mae", blocks),
        *ours.difference("mae", theirs, blocks)[1:],
        *ours.skill("mse", theirs, blocks)[1:],
        *ours.interval_by_lead("mae", blocks).ravel(),
        *ours.difference_by_lead("mae", theirs, blocks)[1],
    ]
    assert np.isfinite(ends).tolist() == [count > 2] * len(ends)
    assert ours.difference("mae", theirs, blocks)[0] == pytest.approx(ours.value("mae") - theirs.value("mae"))


def test_intervals_of_few_units_cover_the_truth_as_often_as_they_say():
    """Of the error of one forecast, which is skew, and of the difference of two that are equally good, on five units."""
    covered = np.zeros(2)
    for seed in range(200):
        common, *errors = np.random.default_rng(seed).normal(size=(3, 5, 1, 1, 4, 4))
        ours, theirs = (scored(common[:, :, :, :1, :1] + error, np.zeros_like(error)) for error in errors)
        _, low, high = ours.difference("rmse", theirs)
        least, most = ours.interval("mse")
        covered += (low < 0 < high), (0 < least < 2 < most)
    assert (covered > 0.88 * 200).all(), covered
    assert (covered < 0.99 * 200).all(), covered


def test_a_difference_over_all_leads_is_of_their_sums():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(20, 1, 3, 4, 4))
    truth[:, :, 1:, :2] = NAN  # later leads have fewer cells
    off = rng.normal(size=truth.shape) * np.arange(1, 4)[:, None, None]
    ours, theirs = scored(truth + off, truth), scored(truth + 1.5 * off, truth)
    value, low, high = ours.difference("mse", theirs)
    assert value == pytest.approx((off[~np.isnan(truth)] ** 2).mean() * (1 - 1.5**2))
    assert low < value < high < 0
    assert ours.interval("mse")[0] * (1 - 1.5**2) == pytest.approx(high)  # the same resamples: all are scaled alike


@pytest.mark.parametrize(
    ("name", "unit", "expected"),
    [
        ("mse", "K", "K^2"),
        ("mse", "mm/h", "(mm/h)^2"),
        ("mse-sum", "m s-1", "(m s-1)^2"),
        ("mse", "", ""),
        ("rmse", "mm/h", "mm/h"),
        ("mae-sum", "K", "K"),
        ("psnr", "", "dB"),
        ("ssim", "K", ""),
        ("csi-7", "dBZ", ""),
    ],
)
def test_every_metric_has_its_unit(name, unit, expected):
    assert metric_unit(name, unit) == expected


def test_metrics_rank_as_they_say():
    for name, metric in METRICS.items():
        assert is_higher_better(name) in (metric.higher_is_better, None)
    assert {name for name in METRICS if is_higher_better(name) is None} == {"bias-7", "bias-20", "sharpness"}


@pytest.mark.parametrize(
    ("ends", "higher", "said"),
    [
        ((-0.12, -0.2, -0.05), False, "better than mean by mse (difference -0.12 K^2 [-0.2, -0.05])"),
        ((-0.12, -0.2, 0.05), False, "not better than mean by mse (difference -0.12 K^2 [-0.2, 0.05])"),
        ((0.01, -0.02, 0.04), False, "not better than mean by mse (difference 0.01 K^2 [-0.02, 0.04])"),
        ((0.03, 0.02, 0.04), False, "not better than mean by mse (difference 0.03 K^2 [0.02, 0.04])"),
        ((0.03, 0.02, 0.04), True, "better than mean by mse (difference 0.03 K^2 [0.02, 0.04])"),
        ((-1234.5, -2000.4, -0.0), False, "not better than mean by mse (difference -1,234 K^2 [-2,000, -0])"),
        (
            (-0.1, NAN, NAN),
            False,
            "better than mean by mse (difference -0.1 K^2; too few independent blocks for an interval)",
        ),
        (
            (0.0, NAN, NAN),
            False,
            "not better than mean by mse (difference 0 K^2; too few independent blocks for an interval)",
        ),
    ],
)
def test_a_difference_is_said_with_its_sign_and_interval(ends, higher, said):
    assert standing_line("mean", "mse", *ends, higher, "K^2") == said


def test_the_same_seed_draws_the_same():
    scores = scored(*made(count=12))
    assert scores.interval("mae", seed=3) == scores.interval("mae", seed=3)
    assert scores.interval("mae", seed=3) != scores.interval("mae", seed=4)


def test_a_paired_difference_is_surer_than_two_intervals():
    # both are as bad on hard windows: what differs is small and steady
    rng = np.random.default_rng(5)
    truth = rng.random((60, 1, 2, 4, 4)) * 40
    off = rng.normal(size=truth.shape) * rng.uniform(0.2, 6.0, (60, 1, 1, 1, 1))
    ours, theirs = scored(truth + off, truth), scored(truth + 1.2 * off, truth)
    value, low, high = ours.difference("rmse", theirs)
    assert value == pytest.approx(ours.value("rmse") - theirs.value("rmse"))
    assert low < value < high < 0
    apart = ours.interval("rmse")[1] - theirs.interval("rmse")[0]
    assert apart > 0  # the intervals of the two overlap
    assert high - low < 0.3 * np.diff(ours.interval("rmse"))[0]
    values, lows, highs = ours.difference_by_lead("rmse", theirs, np.arange(60) // 3)
    assert values == pytest.approx(ours.by_lead("rmse") - theirs.by_lead("rmse"))
    assert (lows < values).all()
    assert (values < highs).all()


def test_skill_is_the_share_of_another_s_error_that_is_gone():
    _, truth = made(count=10)
    ours, theirs = scored(truth + 1.0, truth), scored(truth + 2.0, truth)
    assert ours.skill("mse", theirs) == pytest.approx((0.75, 0.75, 0.75), abs=1e-5)
    assert ours.skill_by_lead("mae", theirs)[0] == pytest.approx([0.5, 0.5, 0.5], abs=1e-5)
    assert math.isnan(ours.skill("mse", scored(truth, truth))[0])
    with pytest.raises(UserError, match="skill: 'ssim' is not an error metric"):
        ours.skill("ssim", theirs)


def test_what_does_not_fit_is_refused():
    forecast, truth = made(count=3)
    bad = forecast.copy()
    bad[2, 1, 0, 3, 4] = NAN
    scores = scored(forecast, truth)
    with pytest.raises(DataError, match=r"mse: the forecast of window 5 at lead 1, row 3, column 4 is nan"):
        scores.add(bad, truth)
    with pytest.raises(DataError, match=r"sharpness: the forecast of window 2"):
        METRICS["sharpness"].measure(bad, truth)
    with pytest.raises(DataError, match=r"shape \(3, 2, 3, 13, 12\) does not match a truth of shape \(3, 2, 2, 13, 12\)"):
        scored(forecast, truth[:, :, :2])
    with pytest.raises(UserError, match=r"metric: 'mze' is not one of .*did you mean 'mse'"):
        scored(forecast, truth).value("mze")
    with pytest.raises(DataError, match="mse: no windows have been scored"):
        FrameScores(METRICS).value("mse")
    with pytest.raises(DataError, match=r"mse: sums of shape \(3, 3, 5\) .* do not match \(2, 3, 5\)"):
        scored(forecast, truth).difference("mse", scored(forecast[:2], truth[:2]))
    with pytest.raises(DataError, match="metrics mae do not match mse"):
        FrameScores({"mse": METRICS["mse"]}).merge(FrameScores({"mae": METRICS["mae"]}))
    with pytest.raises(DataError, match=r"groups of shape \(2,\) do not match 3 windows"):
        scored(forecast, truth).interval("mse", [0, 1])


def test_metrics_that_cannot_be_are_refused():
    with pytest.raises(UserError, match=r"data_range: 0\.0 is invalid; expected a finite number above 0"):
        metrics_of_frames(0.0)
    with pytest.raises(UserError, match="scales: 4 is not an odd number of cells"):
        metrics_of_frames(1.0, [0.5], [1, 4])
    with pytest.raises(UserError, match="thresholds: nan is not a number"):
        metrics_of_frames(1.0, [NAN])
