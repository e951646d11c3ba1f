"""Transforms and augmentations: what they keep, what they change, and that no sample depends on its neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wavefold.core.errors import UserError
from wavefold.core.registry import build_part, check_options
from wavefold.domains.heartbeat.crop import CropTail
from wavefold.transforms import AUGMENTATIONS, MIXERS, TRANSFORMS, Gain, Noise, Scale, Shift, Standardise, Stretch, Wander


def beats(count: int = 60, channels: int = 2, length: int = 40) -> np.ndarray:
    """Random positive signals (sample, channel, position) with zero tails of 0 to 19 positions."""
    rng = np.random.default_rng(0)
    signals = rng.uniform(0.1, 1, (count, channels, length)).astype(np.float32)
    signals[np.arange(length) >= length - np.arange(count)[:, None, None] % 20 + np.zeros((1, channels, 1))] = 0
    return signals


def tensors(count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(beats(count)), torch.arange(100, 100 + count)


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_a_transform_comes_back_from_its_state(name):
    signals = beats()
    before = signals.copy()
    fitted = build_part(TRANSFORMS, name, {}, "prepare").fit(signals[:30], None)
    fresh = build_part(TRANSFORMS, name, {}, "prepare")
    fresh.load(fitted.state())
    result = fitted.apply(signals[30:])
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, fresh.apply(signals[30:]))
    np.testing.assert_array_equal(signals, before)


def tails(*ends: int) -> np.ndarray:
    signals = np.zeros((len(ends), 2, 10), np.float32)
    for i, end in enumerate(ends):
        signals[i, i % 2, :end] = 1
    return signals


@pytest.mark.parametrize(
    ("share", "multiple", "length"),
    [(0.0, 1, 9), (0.25, 1, 5), (0.5, 1, 4), (0.5, 3, 6), (0.0, 4, 10)],  # 12 would be past the whole
)
def test_the_tail_is_cut_where_few_lose_a_value(share, multiple, length):
    crop = CropTail(share, multiple).fit(tails(3, 9, 5, 4))
    assert crop.length == length
    assert crop.apply(tails(1)).shape == (1, 2, length)


def test_signals_of_zeros_keep_one_position():
    assert CropTail().fit(tails(0, 0)).length == 1


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("constant", [0, 0.5, 1, -1]),
        ("max", [0, 0.5, 1, -1]),
        ("range", [0.5, 0.75, 1, 0]),
        ("std", np.array([-0.25, 0.75, 1.75, -2.25]) / np.sqrt(35 / 16)),
        ("median", [0, 2 / 3, 4 / 3, -4 / 3]),
        ("l2", [0, 1 / 3, 2 / 3, -2 / 3]),
    ],
)
def test_each_scaling_by_hand(by, expected):
    signals = np.array([[[0, 1], [2, -2]]], np.float32)  # mean 0.25, median |x| 1.5, two channels scaled together
    np.testing.assert_allclose(Scale(by, constant=2.0).apply(signals).ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("by", ["max", "range", "std", "median", "l2"])
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_flat_sample_stays_finite(by, value):
    assert np.abs(Scale(by).apply(np.full((1, 1, 205), value, np.float32))).max() <= 1.001


def test_standardise_learns_each_position():
    signals = np.array([[[1, 0, 0.1]], [[3, 0, 0.1]]], np.float32)
    step = Standardise().fit(signals)
    np.testing.assert_allclose(step.apply(signals), [[[-1, 0, 0]], [[1, 0, 0]]], atol=1e-6)
    np.testing.assert_allclose(step.apply(signals + 1)[0, 0], [0, 1, 1], atol=1e-6)


def test_standardise_per_channel_keeps_the_shape_of_signals_and_need_not_centre_them():
    signals = beats() * np.float32([[3], [500]]) + np.float32([[2], [-70]])
    mean, std = (of(axis=(0, 2), dtype=np.float64)[:, None] for of in (signals.mean, signals.std))
    np.testing.assert_allclose(Standardise("channel").fit(signals).apply(signals), (signals - mean) / std, rtol=1e-4, atol=1e-5)
    divided = Standardise("channel", centre=False).fit(signals)
    np.testing.assert_allclose(divided.apply(signals), signals / std, rtol=1e-5)
    with torch.inference_mode():
        np.testing.assert_allclose(divided.module()(torch.from_numpy(signals)).numpy(), signals / std, rtol=1e-5)
    with pytest.raises(UserError, match=r"standardise\.per: 'beat' is not one of position, channel"):
        Standardise("beat")


@pytest.mark.parametrize("by", ["std", "l2", "max", "range", "median"])
@pytest.mark.parametrize("per", ["sample", "channel"])
def test_scaling_and_its_exported_module_agree_to_the_bit(by, per):
    signals = np.random.default_rng(0).normal(3, 20, (200, 2, 1024)).astype(np.float32)  # a last digit decides among kernels
    scale = Scale(by, per=per)
    assert np.array_equal(scale.module()(torch.from_numpy(signals)).numpy(), scale.apply(signals))


def fitting(name: str, count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Signals that an augmentation takes: cadences for those of cadences."""
    signals, samples = tensors(count)
    return (signals[:, None, :, :].expand(-1, 6, -1, -1) if name in ("flip", "roll") else signals), samples


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_a_sample_changes_alike_alone_and_in_any_batch(name):
    augment, (signals, samples) = build_part(AUGMENTATIONS, name, {}, "prepare"), fitting(name)
    whole = augment(signals, samples, 7)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(augment(signals[order], samples[order], 7), whole[order], rtol=0, atol=1e-7)
    torch.testing.assert_close(augment(signals[3:4], samples[3:4], 7), whole[3:4], rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_another_key_or_sample_is_another_change(name):
    augment, (signals, samples) = build_part(AUGMENTATIONS, name, {}, "prepare"), fitting(name, 1)
    first = augment(signals, samples, 7)
    assert first.shape == signals.shape
    assert first.dtype == signals.dtype
    assert any(not torch.equal(augment(signals, samples, key), signals) for key in (7, 8, 9, 10))
    assert any(not torch.equal(first, augment(signals, samples, key)) for key in (8, 9, 10))
    assert any(not torch.equal(first, augment(signals, samples + step, 7)) for step in (1, 2, 3))


@pytest.mark.parametrize("augment", [Noise(0.1), Wander(0.1), Gain(0.2)])
def test_the_zero_tail_is_kept(augment):
    signals, samples = tensors()
    changed = augment(signals, samples, 1)
    assert torch.equal(changed == 0, signals == 0)


def test_noise_is_normal_and_may_fill_the_tail():
    noise = Noise(0.1, inside=False)(torch.zeros(500, 1, 200), torch.arange(500), 3)
    assert abs(noise.mean()) < 0.001
    assert abs(noise.std() - 0.1) < 0.001
    assert abs((noise.abs() < 0.1).float().mean() - 0.6827) < 0.005


def test_shift_moves_every_way_and_lets_zeros_in():
    signals = torch.arange(1.0, 11).repeat(2000, 2, 1)
    moved = Shift(2)(signals, torch.arange(2000), 5)
    expected = {
        (3, 4, 5, 6, 7, 8, 9, 10, 0, 0),
        (2, 3, 4, 5, 6, 7, 8, 9, 10, 0),
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
        (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
        (0, 0, 1, 2, 3, 4, 5, 6, 7, 8),
    }
    rows, counts = moved[:, 0].int().unique(dim=0, return_counts=True)
    assert {tuple(r) for r in rows.tolist()} == expected
    assert counts.min() > 330  # of 400 expected
    assert torch.equal(moved[:, 0], moved[:, 1])


def test_gain_lies_evenly_in_its_range():
    gain = Gain(0.2)(torch.ones(5000, 1, 3), torch.arange(5000), 2)
    assert torch.equal(gain[:, :, 0], gain[:, :, 2])
    assert 0.8 <= gain.min() < 0.801
    assert 1.199 < gain.max() <= 1.2
    assert abs(gain.mean() - 1) < 0.01


def test_stretch_moves_a_ramp_in_proportion():
    ramp = torch.arange(101.0).repeat(300, 1, 1)
    stretched = Stretch(0.1)(ramp, torch.arange(300), 2)[:, 0]
    factor = 50 / stretched[:, 50]
    assert 0.9 <= factor.min() < 0.91
    assert 1.09 < factor.max() <= 1.1
    torch.testing.assert_close(stretched[:, :80], torch.arange(80.0) / factor[:, None], rtol=1e-4, atol=1e-3)
    assert torch.all(stretched[factor < 0.95, -1] == 0)


def test_wander_is_slow_and_no_larger_than_its_size():
    wave = Wander(0.3, inside=False)(torch.zeros(200, 2, 100), torch.arange(200), 2)
    assert 0.25 < wave.abs().max() <= 0.3
    assert wave.diff(dim=2).abs().max() <= 0.3 * 2 * torch.pi / 100 + 1e-6  # one turn at most
    assert torch.equal(wave[:, 0], wave[:, 1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: CropTail(share=1.0),
        lambda: CropTail(multiple=0),
        lambda: Scale("constant", constant=0),
        lambda: Scale("rnage"),
        lambda: Noise(-1),
        lambda: Shift(-1),
        lambda: Gain(1.0),
        lambda: Stretch(-0.1),
        lambda: Wander(-0.1),
    ],
)
def test_bad_options_are_named(make):
    with pytest.raises(UserError, match=r"[a-z_]+\.[a-z]+: "):
        make()


@pytest.mark.parametrize("table", [TRANSFORMS, AUGMENTATIONS, MIXERS])
def test_recipes_can_check_every_option(table):
    for part in table.values():
        with pytest.raises(UserError, match="no such option"):
            check_options(part, {"nonsense": 1}, "prepare")


@pytest.mark.parametrize("per", ["sample", "channel", "dataset"])
@pytest.mark.parametrize("by", ["max", "range", "std", "median", "l2"])
@pytest.mark.parametrize("power", [-99, 99])
def test_a_scaling_is_the_same_for_tiny_and_huge_values(by, per, power):
    signals = np.random.default_rng(0).normal(1, 2, (6, 2, 30)).astype(np.float32)
    far = np.ldexp(signals, power)  # about 1e-30 and 1e30
    usual, there = (Scale(by=by, per=per).fit(values) for values in (signals, far))
    np.testing.assert_array_equal(there.apply(far), usual.apply(signals))
    np.testing.assert_allclose(there.module()(torch.from_numpy(far)).numpy(), usual.apply(signals), rtol=1e-5, atol=1e-6)


def test_one_size_serves_all_samples_of_a_dataset():
    signals = np.array([[[1.0, -2.0]], [[4.0, 0.0]], [[0.0, 0.0]], [[8.0, 1.0]]], np.float32)
    step = Scale(by="max", per="dataset").fit(signals)
    np.testing.assert_array_equal(step.apply(signals), signals / 4)  # the median of 2, 4 and 8: zeros say nothing
    again = Scale(by="max", per="dataset")
    again.load(step.state())
    np.testing.assert_array_equal(again.apply(signals), signals / 4)
