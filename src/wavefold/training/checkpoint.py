"""Checkpoints: the training state on disk, and each member's weights in the run's folder."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wavefold.core.errors import UserError
from wavefold.core.files import write_whole
from wavefold.core.process import is_main_process

_PATIENCE = 20  # wait at least 20 times as long as the last write took before writing again


@dataclass
class TrainingState:
    """The training position and the best result so far; with weights and the optimiser's state, all that a restart needs."""

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    loss: float = 0.0  # sum over the epoch's batches so far, exactly as the tensor on the device held it
    best: float | None = None  # validation metric of `best_weights`
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    epochs_without_improvement: int = 0  # epochs since the best one
    seconds: float = 0.0  # of all sessions, up to the last write
    history: list[dict[str, float]] = field(default_factory=list)
    parts: dict[str, Mapping[str, object]] = field(default_factory=dict)  # state dicts of model, optimiser and average


class CheckpointFile:
    """A checkpoint file, written at most every `every` seconds, and less often where the state is large."""

    def __init__(self, path: Path, every: float) -> None:
        self.path, self.every = path, every
        self._previous = path.with_name(f"{path.stem}.previous{path.suffix}")
        self._last, self._cost = time.monotonic(), 0.0
        self._counted = self._last  # time up to which the state's seconds are counted

    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() - self._last >= max(self.every, _PATIENCE * self._cost if self.every else 0.0)

    def count_time(self, state: TrainingState) -> None:
        """Add the time since the last call to the state's seconds."""
        now = time.monotonic()
        state.seconds, self._counted = state.seconds + now - self._counted, now

    def write(self, state: TrainingState) -> None:
        """Write the state to a temporary file that then replaces the last one; only the main process writes."""
        if not is_main_process():
            return
        start = time.monotonic()
        self.count_time(state)
        fresh = self.path.with_name(f"{self.path.stem}.fresh{self.path.suffix}")
        packed = io.BytesIO()  # torch.save on a full disk raises its own error, which does not name the cause
        torch.save(dict(vars(state)), packed)
        write_whole(fresh, lambda stream: stream.write(packed.getbuffer()))
        if self.path.exists():
            os.replace(self.path, self._previous)
        os.replace(fresh, self.path)
        self._last = time.monotonic()
        self._cost = self._last - start

    def read(self) -> TrainingState:
        """Read the newest complete state, or return a new one. Only plain values and tensors are loaded: it cannot run code."""
        for path in (self.path, self._previous):
            if path.exists():
                try:
                    return TrainingState(**torch.load(path, map_location="cpu", weights_only=True))
                except Exception:  # a damaged file can raise any error, depending on its first broken byte
                    continue
        return TrainingState()

    def remove(self) -> None:
        """Delete the files once the result is saved."""
        if not is_main_process():
            return
        self.path.unlink(missing_ok=True)
        self._previous.unlink(missing_ok=True)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights in a member's folder; UserError, with advice, if they are missing or damaged."""
    path = folder / "weights.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        raise UserError(
            f"{path}: is missing or damaged; delete {folder} and the run's scores.json, then repeat the training command"
        ) from None
