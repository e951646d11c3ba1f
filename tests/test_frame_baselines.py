"""Forecasts without a net: by hand, on a moving field, and on real rain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from wavefold.core.errors import UserError
from wavefold.models.advection import advect, frames_apart, motion
from wavefold.models.forecast_baselines import BASELINES, build_baseline
from wavefold.models.spectral import as_distributed

RNG = np.random.default_rng


def moving_field(shift: tuple[float, float], frames: int, rows: int = 60, columns: int = 72, seed: int = 0) -> torch.Tensor:
    """A smooth random field that moves by `shift` pixels a frame, (1, 1, frames, row, column), by its waves alone."""
    rng = RNG(seed)
    row, column = np.mgrid[:rows, :columns].astype(float)
    waves = rng.normal(0, 0.25, (40, 2))  # radians a pixel
    size, start = rng.normal(size=40), rng.uniform(0, 2 * np.pi, 40)
    made = [
        sum(
            s * np.sin(a * (row - shift[0] * t) + b * (column - shift[1] * t) + p)
            for (a, b), s, p in zip(waves, size, start, strict=True)
        )
        for t in range(frames)
    ]
    return torch.tensor(np.stack(made), dtype=torch.float32)[None, None]


@pytest.mark.parametrize("shift", [(1.5, -2.25), (-5.0, 3.5), (0.3, 0.0)])
@pytest.mark.parametrize("scale", [(1.0, 0.0), (0.5, 280.0)])
def test_motion_of_a_moving_field_is_found_in_any_unit(shift: tuple[float, float], scale: tuple[float, float]) -> None:
    found = motion(moving_field(shift, 4) * scale[0] + scale[1])[0, :, 12:-12, 12:-12]
    assert found.mean(dim=(1, 2)).tolist() == pytest.approx(shift, abs=0.1)
    assert (found - torch.tensor(shift)[:, None, None]).abs().max() < 0.4


def test_advection_carries_a_field_on() -> None:
    frames = moving_field((1.5, -2.25), 10)
    past, later = frames[:, :, :5], frames[:, :, 5:]
    error = (advect(past, 5) - later)[..., 14:-14, 14:-14].square().mean(dim=(0, 1, 3, 4))
    still = (past[:, :, -1:] - later)[..., 14:-14, 14:-14].square().mean(dim=(0, 1, 3, 4))
    assert (error < 0.02 * still).all(), (error, still)


def test_windows_of_a_batch_do_not_touch_each_other() -> None:
    one, other = moving_field((1.0, 2.0), 6), moving_field((-2.0, 0.5), 6, seed=1)
    both = advect(torch.cat([one, other]), 3)
    assert torch.allclose(both[:1], advect(one, 3), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (2, 3, 2, 1, 9), (1, 2, 5, 7, 40), (2, 1, 20, 33, 16)])
def test_what_does_not_move_stays(shape: tuple[int, ...]) -> None:
    frame = torch.rand((*shape[:2], 1, *shape[3:]), generator=torch.Generator().manual_seed(0))
    past = frame.expand(shape)
    assert motion(past).shape == (shape[0], 2, *shape[3:])
    assert motion(past).abs().max() < 1e-4
    assert torch.allclose(advect(past, 3), frame.expand(-1, -1, 3, -1, -1), atol=1e-3)
    assert torch.allclose(advect(torch.full(shape, 3.0), 2), torch.full((*shape[:2], 2, *shape[3:]), 3.0))


def test_cells_without_values_do_not_spoil_the_rest() -> None:
    past = moving_field((1.0, -1.5), 6)
    past[..., :20, :20] = torch.nan
    past[:, :, -1, 40, 40] = torch.nan
    assert motion(past)[0, :, 35:-10, 35:-10].mean(dim=(1, 2)).tolist() == pytest.approx([1.0, -1.5], abs=0.1)
    assert advect(past, 4).isfinite().all()
    assert torch.equal(advect(torch.full((1, 1, 3, 8, 8), torch.nan), 2), torch.zeros(1, 1, 2, 8, 8))


@pytest.mark.parametrize("name", list(BASELINES))
def test_every_baseline_is_finite_and_keeps_its_state(name: str) -> None:
    rng = RNG(0)
    frames, clock = rng.normal(size=(48, 2, 8, 9)).astype(np.float32), np.arange(48) * 3600.0
    frames[:, 0, 2, 2] = frames[7, 1] = np.nan
    baseline, again = BASELINES[name](), BASELINES[name]()
    count = max(5, baseline.past_frames(3600.0))
    past = np.stack([frames[k : k + count].swapaxes(0, 1) for k in range(3)])
    kept = past.copy()
    past.flags.writeable = False
    later = clock[count : count + 3] + 3600.0 * np.arange(3)[:, None]
    baseline.fit(frames, clock, 3600.0)
    made = baseline.forecast(past, later)
    assert made.shape == (3, 2, 3, 8, 9)
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    assert np.array_equal(past, kept, equal_nan=True)
    again.load(baseline.state())
    assert again.forecast(past, later).tobytes() == made.tobytes()
    exported = baseline.module()(torch.from_numpy(kept), torch.from_numpy(later)).numpy()
    assert np.allclose(exported, made, atol=1e-6)
    assert baseline.forecast(past[:0], later[:0]).shape == (0, 2, 3, 8, 9)
    if name == "pca_ridge":
        return
    corners = (np.array([0, 1, 2]), np.array([3, 0, 1]))
    cut = np.stack([one[..., r : r + 6, c : c + 6] for one, r, c in zip(past, *corners, strict=True)])
    assert baseline.forecast(cut, later, corners).shape == (3, 2, 3, 6, 6)


def test_persistence_and_mean_by_hand() -> None:
    past = np.array([[1.0, 2.0, 6.0], [4.0, 2.0, np.nan]], np.float32).T.reshape(1, 1, 3, 1, 2)
    later = np.zeros((1, 2))
    assert BASELINES["persistence"]().forecast(past, later).reshape(2, 2).tolist() == [[6, 2], [6, 2]]
    assert BASELINES["mean"]().forecast(past, later).reshape(2, 2).tolist() == [[3, 3], [3, 3]]


def test_climatology_by_hand() -> None:
    clock = np.arange(8) * 10.0 + 5  # a cycle of 40 seconds: phases 0 1 2 3 0 1 2 3
    frames = np.array([1, 2, 3, 4, 3, np.nan, 5, 8], np.float32).reshape(8, 1, 1, 1)
    past, later = np.zeros((1, 1, 2, 1, 1), np.float32), np.array([[85.0, 95.0, 105.0, 115.0, 400005.0]])
    plain, smooth = BASELINES["climatology"](period=40.0), BASELINES["climatology"](period=40.0, smooth=1)
    for baseline in (plain, smooth):
        baseline.fit(frames, clock, 10.0)
    assert plain.forecast(past, later).ravel().tolist() == [2, 2, 4, 6, 2]
    assert smooth.forecast(past, later)[0, 0, 1, 0, 0] == pytest.approx((1 + 3 + 2 + 3 + 5) / 5)
    half = BASELINES["climatology"](period=40.0)
    half.fit(frames[:2], clock[:2], 10.0)
    assert half.forecast(past, later).ravel().tolist() == [1, 2, 1.5, 1.5, 1]  # a phase never seen has the cell's mean


def test_damped_anomaly_keeps_the_share_that_training_frames_keep() -> None:
    """Anomalies that shrink by a factor a step, around a cycle of four steps; a missing cell has none."""
    rng, usual = RNG(0), np.array([0.0, 10.0, 20.0, 10.0])
    anomaly = np.zeros((4000, 2, 3))
    for t in range(1, len(anomaly)):
        anomaly[t] = 0.8 * anomaly[t - 1] + rng.normal(size=(2, 3))
    clock = np.arange(4000) * 10.0
    frames = (usual[np.arange(4000) % 4][:, None, None] + anomaly)[:, None].astype(np.float32)
    baseline = BASELINES["damped_anomaly"](period=40.0)
    baseline.fit(frames, clock, 10.0)
    past = np.full((1, 1, 2, 2, 3), 10.0, np.float32)
    past[0, 0, -1] = 15.0  # at a phase whose usual value is 10
    past[0, 0, -1, 0, 0] = np.nan
    later = baseline.forecast(past, np.array([[20.0, 30.0, 40.0]]))[0, 0]
    assert later[:, 1, 1] - usual[[2, 3, 0]] == pytest.approx([5 * 0.8, 5 * 0.64, 5 * 0.512], abs=0.5)
    assert later[:, 0, 0] == pytest.approx(usual[[2, 3, 0]], abs=0.3)
    other = BASELINES["damped_anomaly"](period=40.0)
    other.load(baseline.state())
    assert np.array_equal(other.forecast(past, np.array([[20.0, 30.0, 40.0]]))[0, 0], later)
    gaps = BASELINES["damped_anomaly"](period=40.0)  # every other step is missing: nothing is known of odd leads
    gaps.fit(frames[::2], clock[::2], 10.0)
    assert gaps.shares[:4, 0] == pytest.approx([0, 0.64, 0, 0.41], abs=0.1)
    long = baseline.forecast(past, 20.0 + 10.0 * np.arange(300)[None])
    assert long.shape == (1, 1, 300, 2, 3)
    assert np.isfinite(long).all()


def test_seasonal_forecasts_by_hand() -> None:
    """A cycle of four steps: 1 2 3 4 and then, a level of 10 higher, 11 12 13 14."""
    values = np.array([1, 2, 3, 4, 11, 12, 13, 14], np.float32).reshape(1, 1, 8, 1, 1)
    clock = 80.0 + 10.0 * np.arange(6)[None]
    naive = BASELINES["seasonal_naive"](period=40.0)
    naive.fit(np.zeros((9, 1, 1, 1), np.float32), 10.0 * np.arange(9), 10.0)
    assert naive.past_frames(10.0) == 4
    assert naive.forecast(values, clock).ravel().tolist() == [11, 12, 13, 14, 11, 12]
    assert naive.forecast(values[:, :, -2:], clock).ravel().tolist() == [14, 14, 13, 14, 14, 14]  # what is not known yet
    change = BASELINES["seasonal_change"](period=40.0)
    assert change.past_frames(10.0) == 5
    change.load({"steps": np.array(4), "shares": np.array([[0.5], [0.25]])})
    assert change.forecast(values, clock).ravel().tolist() == [16, 14.5, 15.5, 16.5, 13.5, 14.5]  # 10 more than a cycle ago
    assert change.forecast(values[:, :, -4:], clock).ravel().tolist() == [11, 12, 13, 14, 11, 12]


def test_seasonal_change_finds_the_share_that_is_left() -> None:
    rng, count = RNG(0), 4000
    usual, anomaly = np.tile([0.0, 5.0, 9.0, 2.0], count // 4), np.zeros((count, 2, 3))
    for t in range(1, count):
        anomaly[t] = 0.9 * anomaly[t - 1] + rng.normal(size=(2, 3))
    frames = (usual[:, None, None] + anomaly)[:, None].astype(np.float32)
    change = BASELINES["seasonal_change"](period=40.0)
    change.fit(frames, 10.0 * np.arange(count), 10.0)
    lead = np.arange(1, 4)
    expected = (2 * 0.9**lead - 0.9 ** (4 - lead) - 0.9 ** (4 + lead)) / (2 - 2 * 0.9**4)  # of an autoregression
    assert change.shares[:3, 0] == pytest.approx(expected, abs=0.05)


def test_pca_and_ridge_find_a_wave_that_turns() -> None:
    """Two patterns that change into each other, under noise: persistence is wrong, the regression is not."""
    rng, angle = RNG(0), 0.2 * np.arange(400)
    patterns = rng.normal(size=(2, 6, 7))
    frames = np.cos(angle)[:, None, None] * patterns[0] + np.sin(angle)[:, None, None] * patterns[1] + 20
    frames = (frames + 0.05 * rng.normal(size=frames.shape))[:, None].astype(np.float32)
    clock = np.arange(400) * 3600.0
    ridge = build_baseline("pca_ridge", "", past=3, ahead=5, period=86400.0)
    ridge.fit(frames[:300], clock[:300], 3600.0)
    past = np.stack([frames[k : k + 3].swapaxes(0, 1) for k in range(310, 390)])
    later = np.stack([frames[k + 3 : k + 8].swapaxes(0, 1) for k in range(310, 390)])
    off = ridge.forecast(past, np.stack([clock[k + 3 : k + 8] for k in range(310, 390)])) - later
    assert np.sqrt((off**2).mean(axis=(0, 1, 3, 4))) == pytest.approx(0.06, abs=0.03)
    few = build_baseline("pca_ridge", "", past=3, ahead=5)
    few.fit(frames[:4], clock[:4], 3600.0)  # too few to regress on: amplitudes stay
    assert np.isfinite(few.forecast(past, clock[None, :5] + np.zeros((80, 1)))).all()


def test_the_first_lead_is_the_same_however_many_follow() -> None:
    """The cycle's phase is that of the last past frame, also where one frame is forecast."""
    clock = np.arange(400) * 3600.0
    frames = (10 * np.sin(clock * 2 * np.pi / 86400) + 0.1 * RNG(0).normal(size=400))[:, None, None, None]
    frames = (frames * np.ones((1, 1, 4, 5))).astype(np.float32)
    made = []
    for ahead in (1, 4):
        ridge = build_baseline("pca_ridge", "", past=1, ahead=ahead, period=86400.0)
        ridge.fit(frames[:300], clock[:300], 3600.0)
        past, later = frames[310:311].swapaxes(0, 1)[None], clock[None, 311 : 311 + ahead]
        made.append(float(ridge.forecast(past, later)[0, 0, 0].mean()))
    assert made == pytest.approx([float(frames[311].mean())] * 2, abs=0.5)


def test_frames_that_repeat_are_seen_apart() -> None:
    field = moving_field((0.5, -1.0), 24)[0].numpy().swapaxes(0, 1)  # (time, 1, row, column)
    assert frames_apart(field) == 1
    stale = field.copy()
    for t in range(1, 24):  # half of the cells are those of the frame before, or of the one before that
        old = RNG(t).random(field.shape[2:]) < 0.5
        stale[t, 0][old] = stale[t - 1, 0][old]
    assert frames_apart(stale) == 3
    assert frames_apart(field[:1]) == 1
    baseline, again = BASELINES["spectral"](), BASELINES["spectral"]()
    baseline.fit(stale, np.arange(24.0), 1.0)
    again.load(baseline.state())
    assert again.apart == 3
    seen = motion(torch.from_numpy(field.swapaxes(0, 1)[None, :, :13]), apart=3)[0, :, 14:-14, 14:-14].mean(dim=(1, 2))
    assert seen.tolist() == pytest.approx((0.5, -1.0), abs=0.1)


def test_matched_values_are_those_of_the_last_frame() -> None:
    like = torch.tensor([[[[9.0, 0.0, torch.nan], [3.0, 1.0, 2.0]]]])
    frames = torch.tensor([[[[[0.1, 0.2, 0.9], [0.5, 0.3, 0.4]]]]])
    made = as_distributed(frames, like)[0, 0, 0]
    assert made.flatten().tolist() == pytest.approx([0.0, 1.0, 0.9, 9.0, 2.0, 3.0])


def test_a_crop_has_the_climatology_of_its_place() -> None:
    frames = np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4)
    baseline = BASELINES["climatology"](period=2.0)
    baseline.fit(frames, np.arange(2.0), 1.0)
    made = baseline.forecast(np.zeros((1, 1, 5, 2, 2), np.float32), np.array([[3.0]]), (np.array([1]), np.array([2])))
    assert made[0, 0, 0].tolist() == [[18, 19], [22, 23]]


def test_the_year_has_twelve_months() -> None:
    times = np.arange("1980-01", "1990-01", dtype="datetime64[M]")
    clock = times.astype("datetime64[s]").astype(np.float64)
    month = (np.arange(120) % 12).astype(np.float32).reshape(120, 1, 1, 1)
    baseline = BASELINES["climatology"](period=31556952.0)
    baseline.fit(month[:96], clock[:96], 31 * 86400.0)
    made = baseline.forecast(np.zeros((1, 1, 2, 1, 1), np.float32), clock[None, 96:])
    assert made.ravel().tolist() == month[96:].ravel().tolist()


def test_months_are_as_far_apart_as_others() -> None:
    """Months differ by three days: shares and regressions are of all of them."""
    rng, count = RNG(0), 600
    anomaly = np.zeros((count, 3, 3))
    for t in range(1, count):
        anomaly[t] = 0.8 * anomaly[t - 1] + rng.normal(size=(3, 3))
    frames = (np.arange(count) % 12)[:, None, None, None] + anomaly[:, None]
    months = (np.datetime64("1950-01", "M") + np.arange(count)).astype("datetime64[s]").astype(np.float64)
    damped, change = (build_baseline(name, "", period=31556952.0) for name in ("damped_anomaly", "seasonal_change"))
    ridge = build_baseline("pca_ridge", "", past=6, ahead=3, period=31556952.0)
    for baseline in (damped, change, ridge):
        baseline.fit(frames.astype(np.float32), months, 31 * 86400.0)
    assert damped.shares[:3, 0] == pytest.approx([0.8, 0.64, 0.51], abs=0.07)
    assert change.shares[:3, 0] == pytest.approx([0.8, 0.64, 0.51], abs=0.1)
    assert np.abs(ridge.state()["weights"]).max() > 0.01


@pytest.mark.parametrize("step", [0.0, 7500.0 * 5, 86400.0])
def test_a_cycle_needs_whole_steps(step: float) -> None:
    with pytest.raises(UserError, match=r"climatology\.period: (a period of )?86400 seconds") as raised:
        BASELINES["climatology"]().fit(np.zeros((4, 1, 1, 1), np.float32), np.arange(4.0), step)
    assert "\n" not in str(raised.value)


def test_advection_beats_persistence_on_real_rain(real: Callable[[str], Path]) -> None:
    code = np.load(real("radar/fmi_20160928_2km.npz"))["code"]
    rain = np.where(code == 255, np.nan, np.maximum(code / 2 - 32.0, 0)).astype(np.float32)
    crops = [rain[14:40, r : r + 60, c : c + 93] for r in range(0, 554, 60) for c in range(0, 288, 93)]
    windows = np.stack([crop for crop in crops if np.isfinite(crop).any()])[:, None]
    past, later, clock = windows[:, :, :6], windows[:, :, 6:12], np.zeros((len(windows), 6))
    scores = {}
    for name in ("persistence", "advection"):
        off = BASELINES[name]().forecast(past, clock) - later
        wet = (BASELINES[name]().forecast(past, clock)[:, :, 5] >= 7) & np.isfinite(later[:, :, 5])
        rains = later[:, :, 5] >= 7
        scores[name] = np.nanmean(off[:, :, 5] ** 2), (wet & rains).sum() / (wet | rains).sum()  # at 30 minutes
    assert scores["advection"][0] < 0.6 * scores["persistence"][0], scores
    assert scores["advection"][1] > scores["persistence"][1] + 0.05, scores
