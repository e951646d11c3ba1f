"""Scaling of frames from a recipe."""

from __future__ import annotations

from wavefold.base.build import build_part
from wavefold.prepare.frame_scale import FRAME_TRANSFORMS
from wavefold.prepare.frame_scaling import FrameScaling
from wavefold.recipe import Recipe


def scaling_of(recipe: Recipe) -> FrameScaling:
    """Build the recipe's frame transforms, not yet fitted."""
    return FrameScaling(
        [
            (number, build_part(FRAME_TRANSFORMS, step.step, step.options, f"prepare.{number}"))
            for number, step in enumerate(recipe.prepare)
            if step.step in FRAME_TRANSFORMS
        ]
    )
