"""Transforms of frames: what they learn, that they can be undone, and that a run can keep them."""

from __future__ import annotations

import numpy as np
import pytest

from wavefold.core.errors import DataError, UserError
from wavefold.data.lazy import Lazy
from wavefold.transforms.frame_scale import FRAME_TRANSFORMS, FrameTransform

OPTIONS: dict[str, dict[str, object]] = {"clip": {"low": 0.0, "high": 100.0}, "anomaly": {"period": 6.0}}
CASES = [(name, OPTIONS.get(name, {})) for name in FRAME_TRANSFORMS] + [
    ("standardise", {"per": "cell"}),
    ("min_max", {"low": 0.0, "high": 70.0}),
    ("log1p", {"scale": 0.1}),
    ("anomaly", {"period": 6.0, "smooth": 1}),
]
CLOCK = np.arange(24.0)


def some_frames(seed: int = 0) -> np.ndarray:
    """(time 24, channel 2, row 3, column 4), 1 to 60, the second channel larger; a few cells without a value."""
    frames = np.random.default_rng(seed).uniform(1, 30, (24, 2, 3, 4)).astype(np.float32)
    frames[:, 1] *= 2
    frames[3, 0, 1, 1] = frames[5, 1] = np.nan
    return frames


def fitted(name: str, options: dict[str, object], frames: object = None) -> FrameTransform:
    transform = FRAME_TRANSFORMS[name](**options)
    transform.fit(some_frames() if frames is None else frames, CLOCK, 1.0)
    return transform


@pytest.mark.parametrize(("name", "options"), CASES)
def test_undo_is_the_inverse_and_nan_stays(name: str, options: dict[str, object]) -> None:
    later, clock = some_frames(1), CLOCK + 24
    kept = later.copy()
    transform = fitted(name, options)
    made = transform.apply(later, clock)
    assert made.dtype == np.float32
    assert made.shape == later.shape
    assert np.array_equal(np.isnan(made), np.isnan(later))
    assert np.array_equal(later, kept, equal_nan=True)
    np.testing.assert_allclose(transform.undo(made, clock), later, rtol=1e-4)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_forecasts_of_first_channels_and_of_crops_are_undone(name: str, options: dict[str, object]) -> None:
    transform, made = fitted(name, options), None
    made = transform.apply(some_frames(), CLOCK)
    np.testing.assert_allclose(transform.undo(made[:, :1], CLOCK), some_frames()[:, :1], rtol=1e-4)
    top, left = np.arange(24) % 2, np.arange(24) % 3
    cut = np.stack([frame[:, r : r + 2, c : c + 2] for frame, r, c in zip(made, top, left, strict=True)])
    whole = np.stack([frame[:, r : r + 2, c : c + 2] for frame, r, c in zip(some_frames(), top, left, strict=True)])
    np.testing.assert_allclose(transform.undo(cut, CLOCK, (top, left)), whole, rtol=1e-4)
    np.testing.assert_allclose(transform.apply(whole, CLOCK, (top, left)), cut, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_run_keeps_what_was_learned_to_the_bit(name: str, options: dict[str, object]) -> None:
    transform, again = fitted(name, options), FRAME_TRANSFORMS[name](**options)
    again.load(transform.state())
    assert again.apply(some_frames(1), CLOCK).tobytes() == transform.apply(some_frames(1), CLOCK).tobytes()
    assert again.undo(some_frames(1), CLOCK).tobytes() == transform.undo(some_frames(1), CLOCK).tobytes()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_frames_on_demand_teach_the_same(name: str, options: dict[str, object]) -> None:
    lazy = Lazy(lambda numbers: some_frames()[numbers], np.arange(24), (2, 3, 4))
    for key, value in fitted(name, options, lazy).state().items():
        assert np.array_equal(value, fitted(name, options).state()[key])


def test_standardise_by_channel_and_by_cell() -> None:
    frames = some_frames()
    by_channel = fitted("standardise", {}).apply(frames, CLOCK)
    assert np.nanmean(by_channel, axis=(0, 2, 3)) == pytest.approx([0, 0], abs=1e-5)
    assert np.nanstd(by_channel, axis=(0, 2, 3)) == pytest.approx([1, 1], rel=1e-5)
    by_cell = fitted("standardise", {"per": "cell"}).apply(frames, CLOCK)
    assert np.nanstd(by_cell, axis=0) == pytest.approx(np.ones((2, 3, 4)), rel=1e-4)


def test_constant_cells_and_cells_without_values_are_safe() -> None:
    frames = some_frames()
    frames[:, 0, 0, 0], frames[:, 0, 0, 1] = 273.15, np.nan
    for name, options in CASES:
        made = fitted(name, options, frames).apply(frames, CLOCK)
        assert np.isfinite(made[:, 0, 0, 0]).all(), name
        assert np.isfinite(fitted(name, options, frames).undo(np.zeros_like(frames), CLOCK)).all(), name
    level = fitted("standardise", {"per": "cell"}, frames).apply(frames, CLOCK)[:, 0, 0, 0]
    assert level == pytest.approx(np.zeros(24), abs=1e-3)
    nothing = np.full((24, 1, 2, 2), np.nan, np.float32)
    for name, options in CASES:
        assert np.isfinite(fitted(name, options, nothing).undo(np.zeros_like(nothing), CLOCK)).all(), name


def test_min_max_keeps_values_outside_unless_told() -> None:
    seen = np.array([10.0, 20.0], np.float32).reshape(2, 1, 1, 1)
    later = np.array([5.0, 15.0, 30.0], np.float32).reshape(3, 1, 1, 1)
    for options, wanted in (({}, [-0.5, 0.5, 2]), ({"clip": True}, [0, 0.5, 1]), ({"low": 0.0, "high": 50.0}, [0.1, 0.3, 0.6])):
        transform = FRAME_TRANSFORMS["min_max"](**options)
        transform.fit(seen, np.arange(2.0), 1.0)
        assert transform.apply(later, np.arange(3.0)).ravel() == pytest.approx(wanted)


def test_anomaly_takes_the_daily_cycle_away() -> None:
    clock = np.arange(96) * 3600.0 + 1800
    daily = 10 * np.sin(2 * np.pi * clock / 86400).astype(np.float32)[:, None, None, None] + np.arange(6).reshape(1, 1, 2, 3)
    transform = FRAME_TRANSFORMS["anomaly"]()
    transform.fit(daily[:48].astype(np.float32), clock[:48], 3600.0)
    assert transform.apply(daily.astype(np.float32), clock) == pytest.approx(np.zeros((96, 1, 2, 3)), abs=1e-4)
    with pytest.raises(UserError, match=r"anomaly: a frame has 4 x 4 cells.*2 x 3"):
        transform.apply(np.zeros((1, 1, 4, 4), np.float32), clock[:1])


def test_wrong_options_and_values_are_named() -> None:
    with pytest.raises(DataError, match=r"log1p: the frames contain -3\.5"):
        fitted("log1p", {}).apply(np.array([[[[1.0, -3.5]]]], np.float32), np.zeros(1))
    for name, options, words in [
        ("clip", {}, "clip"),
        ("clip", {"low": 2.0, "high": 1.0}, "low = 2"),
        ("min_max", {"low": 1.0, "high": 1.0}, "min_max"),
        ("log1p", {"scale": 0.0}, r"log1p\.scale"),
        ("standardise", {"per": "cells"}, "did you mean 'cell'"),
        ("anomaly", {"period": 0.0}, r"anomaly\.period"),
        ("anomaly", {"smooth": -1}, r"anomaly\.smooth"),
    ]:
        with pytest.raises(UserError, match=words):
            FRAME_TRANSFORMS[name](**options)
