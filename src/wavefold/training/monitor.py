"""Training progress: one progress line over all folds and members, and each member's metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from wavefold.core.files import write_text
from wavefold.core.process import is_main_process
from wavefold.core.progress import Progress
from wavefold.training.checkpoint import TrainingState
from wavefold.training.tensorboard import log_scalars


class ProgressView(Protocol):
    """Where progress is shown: a line on standard error (`Progress`), or elsewhere."""

    def update(self, done: int, note: str = "") -> None:
        """Report samples done, and what is being done."""

    def skip(self, more: int) -> None:
        """Count `more` as done before this session."""


class TrainingMonitor:
    """Callbacks for several members, in turn. total: samples to process, over all of them; epochs: of each stage.

    view: where progress is shown; a line on standard error by default. watch: called after each epoch; may raise to end.
    """

    def __init__(
        self,
        total: int,
        epochs: Sequence[int],
        *,
        tensorboard: bool = False,
        view: ProgressView | None = None,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self._watch = watch
        self._before_stage = [0, *accumulate(epochs)]
        self._epochs, self._tensorboard = sum(epochs), tensorboard
        self._view: ProgressView = Progress("training", max(1, total), "samples") if view is None else view
        self._before = self._done = 0  # samples processed by finished members, and by the current one

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(self._view, Progress):
            self._view.__exit__(kind, error, trace)

    def begin(self, size: int, name: str, folder: Path) -> None:
        """Start a member. size: samples that it learns from in an epoch, 0 if it has no epochs; name: for people."""
        self._size, self._name, self._folder = size, name, folder
        self._view.update(self._done, self._name)

    def resume(self, state: TrainingState, steps: int) -> None:
        """Resume a net from its state; `steps` per epoch."""
        self._at(state, steps)
        self._view.skip(self._done - self._before)

    def step(self, state: TrainingState, steps: int) -> None:
        """Called after each batch: `steps` batches of the epoch are done."""
        self._at(state, steps)
        best = f", best {state.best:.4f}" if state.best is not None else ""
        self._view.update(self._done, f"{self._name}, epoch {self._epoch(state) + 1} of {self._epochs}{best}")

    def epoch(self, state: TrainingState) -> None:
        """Called after each epoch: writes its metrics to the run."""
        write_text(self._folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in state.history))
        if self._tensorboard and is_main_process():
            log_scalars(self._folder, state.history)
        self._watch()

    def end(self, *, earlier: bool = False) -> None:
        """Called when a member is done; earlier: it was done in a previous session and must not raise this one's rate."""
        before = self._done
        self._before += self._epochs * self._size
        self._done = self._before
        if earlier:
            self._view.skip(self._done - before)

    def _epoch(self, state: TrainingState) -> int:
        return self._before_stage[min(state.stage, len(self._before_stage) - 1)] + state.epoch

    def _at(self, state: TrainingState, steps: int) -> None:
        self._done = self._before + int((self._epoch(state) + state.batch / steps) * self._size)
