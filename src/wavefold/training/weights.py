"""The weights of a net in a run's folder."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wavefold.core.errors import UserError


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights in a member's folder; UserError, with advice, if they are missing or damaged."""
    path = folder / "weights.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        raise UserError(
            f"{path}: is missing or damaged; delete {folder} and the run's scores.json, then repeat the training command"
        ) from None
