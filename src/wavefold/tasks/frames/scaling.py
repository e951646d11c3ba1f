"""Scaling of frames from a recipe."""

from __future__ import annotations

from wavefold.core.registry import build_part
from wavefold.recipe import Recipe
from wavefold.transforms.frame_scale import FRAME_TRANSFORMS
from wavefold.transforms.frame_scaling import FrameScaling


def scaling_of(recipe: Recipe) -> FrameScaling:
    """Build the recipe's frame transforms, not yet fitted."""
    return FrameScaling(
        [
            (number, build_part(FRAME_TRANSFORMS, step.step, step.options, f"prepare.{number}"))
            for number, step in enumerate(recipe.prepare)
            if step.step in FRAME_TRANSFORMS
        ]
    )
