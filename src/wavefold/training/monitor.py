"""Training progress: one progress line over all folds and members, and each member's metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType

from wavefold.core.files import write_text
from wavefold.core.process import is_main_process
from wavefold.core.progress import Progress
from wavefold.training.checkpoint import TrainingState
from wavefold.training.tensorboard import log_scalars


class TrainingMonitor:
    """Callbacks for a whole run. sizes: samples in each fold's training part; epochs: of each stage; nets: nets per fold."""

    def __init__(self, sizes: Sequence[int], epochs: Sequence[int], nets: int, *, tensorboard: bool = False) -> None:
        self._before_stage = [0, *accumulate(epochs)]
        self._epochs, self._nets, self._folds, self._tensorboard = sum(epochs), nets, len(sizes), tensorboard
        self._progress = Progress("training", max(1, nets * self._epochs * sum(sizes)), "samples")
        self._before = self._done = 0  # samples processed by finished members, and by the current one

    def __enter__(self) -> TrainingMonitor:
        self._progress.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.__exit__(kind, error, trace)

    def begin(self, fold: int, size: int, name: str, folder: Path) -> None:
        """Start a member. size: samples of the fold's training part."""
        self._size, self._folder = size, folder
        self._name = f"fold {fold + 1} of {self._folds}, {name}"
        self._progress.update(self._done, self._name)

    def resume(self, state: TrainingState, steps: int) -> None:
        """Resume a net from its state; `steps` per epoch."""
        self._at(state, steps)
        self._progress.skip(self._done - self._before)

    def step(self, state: TrainingState, steps: int) -> None:
        """Called after each batch: `steps` batches of the epoch are done."""
        self._at(state, steps)
        best = f", best {state.best:.4f}" if state.best is not None else ""
        self._progress.update(self._done, f"{self._name}, epoch {self._epoch(state) + 1} of {self._epochs}{best}")

    def epoch(self, state: TrainingState) -> None:
        """Called after each epoch: writes its metrics to the run."""
        write_text(self._folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in state.history))
        if self._tensorboard and is_main_process():
            log_scalars(self._folder, state.history)

    def end(self, net: bool, *, earlier: bool = False) -> None:
        """Called when a member is done; earlier: it was done in a previous session and must not raise this one's rate."""
        before = self._done
        self._before += self._epochs * self._size if net else 0
        self._done = self._before
        if earlier:
            self._progress.skip(self._done - before)

    def skip_fold(self, size: int) -> None:
        """Count a fold that was done in an earlier session."""
        self._before += self._nets * self._epochs * size
        self._done = self._before
        self._progress.skip(self._nets * self._epochs * size)

    def _epoch(self, state: TrainingState) -> int:
        return self._before_stage[min(state.stage, len(self._before_stage) - 1)] + state.epoch

    def _at(self, state: TrainingState, steps: int) -> None:
        self._done = self._before + int((self._epoch(state) + state.batch / steps) * self._size)
