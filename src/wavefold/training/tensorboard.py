"""TensorBoard metrics, in addition to the JSONL that every run keeps (extra `tensorboard`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from wavefold.core.registry import optional

_tensorboard = optional("torch.utils.tensorboard", extra="tensorboard")


def log_scalars(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Append the last line of a history to the event files of a folder; earlier lines are there already."""
    line = history[-1]
    with _tensorboard.SummaryWriter(str(folder)) as writer:
        for name, value in line.items():
            if name not in ("stage", "epoch", "kept"):
                writer.add_scalar(name, value, len(history) - 1)
