"""A net's weights as a run keeps them."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wavefold.base.errors import UserError


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights in a member's folder; UserError, with what to do, where they are gone or damaged."""
    path = folder / "weights.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        raise UserError(
            f"{path}: is gone or damaged; delete {folder} and the run's scores.json, and the training makes them again"
        ) from None
