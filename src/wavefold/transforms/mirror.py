"""Augmentations of windows of frames: mirror images."""

from __future__ import annotations

from torch import Tensor, where

from wavefold.core.random import uniform


class Mirror:
    """Mirrors half of the windows vertically and half horizontally, all frames of a window alike.

    Unsuitable for fixed places, such as coasts. rows, columns: whether to mirror along that axis.
    """

    def __init__(self, rows: bool = True, columns: bool = True) -> None:
        self.axes = [axis for axis, wanted in ((-2, rows), (-1, columns)) if wanted]

    def __call__(self, values: Tensor, samples: Tensor, key: int) -> Tensor:
        """values: (sample, channel, frame, row, column); samples: (sample,) numbers that key the draws."""
        drawn = uniform(key, samples, 2) < 0.5
        for number, axis in enumerate(self.axes):
            values = where(drawn[:, number, None, None, None, None], values.flip(axis), values)
        return values


FRAME_AUGMENTATIONS = {"mirror": Mirror}
