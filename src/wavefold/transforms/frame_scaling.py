"""A chain of frame transforms: fitted on the training part, applied to whole frames, inverted on forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from wavefold.core.files import write_arrays
from wavefold.data.dataset import Floats, Ints
from wavefold.data.lazy import Lazy
from wavefold.data.series import Seconds, Series, Windows
from wavefold.transforms.climatology import Corners
from wavefold.transforms.frame_scale import FrameTransform

_IN_MEMORY = 1 << 30  # maximum bytes of frames used for fitting; beyond this, a random subset is used


class FrameScaling:
    """Frame transforms in order, each with its number among all steps, which is its key in saved files."""

    def __init__(self, steps: Sequence[tuple[int, FrameTransform]]) -> None:
        self._steps = list(steps)

    @property
    def steps(self) -> list[FrameTransform]:
        """The transforms in their order."""
        return [step for _, step in self._steps]

    def fit(self, series: Series, numbers: Ints) -> Self:
        """Fit on the frames with these numbers, or on a random subset if they exceed a gigabyte; returns self."""
        frames, clock = frames_at(series, numbers)
        for _, step in self._steps:
            step.fit(frames, clock, series.step)
            frames = step.apply(frames, clock)
        return self

    def apply(self, series: Series) -> Series:
        """The scaled series; frames that are read on demand are scaled when read."""
        frames = series.frames
        if not isinstance(frames, Lazy):
            return series.with_frames(self._scaled(frames, series, np.arange(len(series))))
        load = frames
        rows = np.arange(len(series), dtype=np.int64)
        return series.with_frames(Lazy(lambda at: self._scaled(load[at], series, at), rows, frames.one))

    def undo(self, values: Floats, windows: Windows) -> Floats:
        """Forecasts of windows in the unit of the frames. values: (sample, target, ahead, row, column), scaled."""
        count, targets, ahead, rows, columns = values.shape
        flat = np.ascontiguousarray(values.swapaxes(1, 2)).reshape(count * ahead, targets, rows, columns)
        clock, corners = windows.clock().ravel(), corners_of(windows, ahead)
        for _, step in reversed(self._steps):
            flat = step.undo(flat, clock, corners)
        return np.ascontiguousarray(flat.reshape(count, ahead, targets, rows, columns).swapaxes(1, 2), np.float32)

    def save(self, path: Path) -> None:
        """Write the fitted state."""
        write_arrays(path, {f"{number}.{name}": value for number, step in self._steps for name, value in step.state().items()})

    def load(self, path: Path) -> Self:
        """Load the fitted state; returns self."""
        with np.load(path, allow_pickle=False) as kept:
            for number, step in self._steps:
                step.load({k.partition(".")[2]: kept[k] for k in kept if k.startswith(f"{number}.")})
        return self

    def _scaled(self, frames: Floats, series: Series, numbers: Ints) -> Floats:
        clock = series.clock(numbers)
        for _, step in self._steps:
            frames = step.apply(frames, clock)
        return np.ascontiguousarray(frames, np.float32)


def frames_at(series: Series, numbers: Ints) -> tuple[Floats, Seconds]:
    """Frames by number with their times in seconds; if they exceed a gigabyte, a random subset that fits, in order.

    The subset is deterministic. It is random because evenly spaced frames could miss hours of each day.
    """
    most = max(2, _IN_MEMORY // (4 * int(np.prod(series.frames.shape[1:]))))
    if len(numbers) > most:
        numbers = np.sort(np.random.default_rng(0).choice(numbers, most, replace=False))
    return series.frames[numbers], series.clock(numbers)


def corners_of(windows: Windows, each: int = 1) -> Corners | None:
    """First row and column of every window, repeated `each` times, if windows are crops."""
    if windows.size == windows.series.size:
        return None
    return np.repeat(windows.top, each), np.repeat(windows.left, each)
