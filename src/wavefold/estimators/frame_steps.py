"""Frames as a series, and the steps between frames and nets: fitted on the training part, undone in every forecast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from wavefold.core.registry import build_part
from wavefold.data.dataset import Floats
from wavefold.data.series import Seconds, Series, stretches
from wavefold.estimators.errors import BadValue
from wavefold.estimators.steps import Step, named_steps
from wavefold.training.forecast_set import Change
from wavefold.transforms.frame_scale import FRAME_TRANSFORMS
from wavefold.transforms.frame_scaling import FrameScaling
from wavefold.transforms.mirror import FRAME_AUGMENTATIONS


def new_scaling(steps: Sequence[Step]) -> FrameScaling:
    """The transforms among the steps, in order, not yet fitted."""
    named = enumerate(named_steps(steps, _STEPS))
    chosen = [(number, step) for number, step in named if step[1] in FRAME_TRANSFORMS]
    return FrameScaling([(n, build_part(FRAME_TRANSFORMS, name, options, place)) for n, (place, name, options) in chosen])


def frame_changes(steps: Sequence[Step]) -> tuple[Change, ...]:
    """The augmentations among the steps, in order."""
    named = named_steps(steps, _STEPS)
    return tuple(
        build_part(FRAME_AUGMENTATIONS, name, options, place) for place, name, options in named if name in FRAME_AUGMENTATIONS
    )


def series_of(frames: Floats, times: Seconds | None, step: float) -> Series:
    """Join sequences of frames into one series, with a new segment after each sequence and each gap in time.

    frames: (sequence, time, row, column, channel), NaN for missing values; times: (sequence, time) seconds.
    """
    count, length = frames.shape[:2]
    values = np.ascontiguousarray(np.moveaxis(frames, -1, 2).reshape(count * length, frames.shape[-1], *frames.shape[2:4]))
    starts = np.arange(count) * length
    if times is not None:
        found = [stretches(own, "times:", step) for own in times]
        starts, step = np.concatenate([s + own[0] for s, own in zip(starts, found, strict=True)]), step or found[0][1]
    return Series(
        values,
        starts.astype(np.int64),
        starts.astype(np.str_),
        times=None if times is None else times.ravel(),
        step=step,
        channels=tuple(str(number) for number in range(frames.shape[-1])),
        source="X",
    )


def as_seconds(times: ArrayLike | None, shape: tuple[int, ...]) -> Seconds | None:
    """Times as seconds, (sequence, time). times: datetime64 or seconds, with the given shape; else BadValue."""
    if times is None:
        return None
    values = np.asarray(times)
    if values.size != np.prod(shape):
        raise BadValue(f"times: shape {values.shape}; expected one time per frame, {shape}")
    if np.issubdtype(values.dtype, np.datetime64):
        values = (values - np.datetime64(0, "s")) / np.timedelta64(1, "s")
    seconds: Seconds = values.astype(np.float64).reshape(shape)
    return seconds


_STEPS: dict[str, object] = {**FRAME_TRANSFORMS, **FRAME_AUGMENTATIONS}
