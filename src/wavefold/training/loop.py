"""The training loop for all nets: train, validate, keep the weights if better, save a checkpoint.

A step is a function of (key, stage, epoch, batch), since the order of samples, augmentation and dropout are drawn from these
numbers. So an interrupted run resumes bit-identically.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Adadelta, Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wavefold.core.device import seed_step, to_cpu
from wavefold.core.distributed import all_gather, all_reduce_gradients, join, share_buffers, sharing
from wavefold.core.errors import UserError, plural
from wavefold.core.interrupt import asked_to_stop, signals_wait, stop_if_asked
from wavefold.core.process import keep_freed_memory
from wavefold.core.random import key as make_key
from wavefold.data.lazy import Lazy, Signals
from wavefold.training.checkpoint import TrainingState
from wavefold.training.sampler import Draw, OnDemand, Pair, Source

Check = Callable[[nn.Module], dict[str, float]]

_VALUES = 1 << 24  # values per batch when predicting, at most

OPTIMISERS: dict[str, Callable[..., Optimizer]] = {"adadelta": Adadelta, "adam": Adam, "adamw": AdamW}


def constant(done: float) -> float:
    """The full rate throughout. done: completed share of the stage, so that a schedule has no state to save."""
    return 1.0


def cosine(done: float) -> float:
    """From the full rate to zero along half a cosine (Loshchilov and Hutter 2017), after a warm-up of 2 %."""
    return min(1.0, done / 0.02 + 1e-3) * 0.5 * (1 + math.cos(math.pi * done))


def one_cycle(done: float) -> float:
    """Up from 1/25 over the first 30 %, then down to zero, both along cosines (Smith and Topin 2018)."""
    if done < 0.3:
        return 1 - 0.96 * 0.5 * (1 + math.cos(math.pi * done / 0.3))
    return 0.5 * (1 + math.cos(math.pi * (done - 0.3) / 0.7))


SCHEDULES: dict[str, Callable[[float], float]] = {"constant": constant, "cosine": cosine, "one_cycle": one_cycle}


@dataclass(frozen=True)
class Stage:
    """One stage of training with one loss, as the loop needs it."""

    number: int
    loss: Callable[..., Tensor]  # of logits and labels, and of sample weights if the training part has any
    epochs: int
    learning_rate: float
    optimiser: str = "adam"
    weight_decay: float = 0.0
    schedule: str = "constant"
    patience: int = 0  # epochs without improvement before the stage ends; 0: no early stopping
    average: float = 0.0  # span of the weight average in epochs; 0: no averaging
    metric: str = "log-loss"  # validation metric that selects the best weights
    higher_is_better: bool = False
    key: int = 0


class TrainingListener(Protocol):
    """Callbacks of the loop."""

    def step(self, state: TrainingState, steps: int) -> None:
        """Called after each batch: `steps` batches of the epoch are done."""

    def epoch(self, state: TrainingState) -> None:
        """Called after each epoch, whose metrics are the last entry of `state.history`."""


class CheckpointStore(Protocol):
    """Where a checkpoint is stored: a run's file, or nowhere."""

    def due(self) -> bool:
        """Whether it is time to write again."""

    def write(self, state: TrainingState) -> None:
        """Save the state."""


@signals_wait()
def fit_stage(
    model: nn.Module,
    part: Source,
    check: Check,
    stage: Stage,
    state: TrainingState,
    file: CheckpointStore,
    watch: TrainingListener,
) -> None:
    """Train `model` in place through one stage, from where `state` stands; it ends with the best weights seen.

    check: scores of a model on validation samples, as metric name to value; empty if there are none.
    """
    keep_freed_memory()
    learner = _Learner(model, part, stage)
    if state.parts:
        learner.load(state.parts)
        state.parts = {}
    while state.epoch < stage.epochs and not (stage.patience and state.epochs_without_improvement >= stage.patience):
        _train_epoch(learner, state, file, watch)
        share_buffers(learner.validated)
        scores = check(learner.validated)
        _keep_if_better(learner.validated, scores, stage, state)
        state.history.append(_line(stage, state, learner, scores))
        state.epoch, state.batch, state.loss = state.epoch + 1, 0, 0.0
        watch.epoch(state)
        if file.due() or asked_to_stop():
            _save(learner, state, file)
    if state.best_weights:  # none if the first stages have no epochs
        model.load_state_dict(state.best_weights)
    _next_stage(state, stage.number + 1, model, file)


def predict_all(model: nn.Module, head: nn.Module, signals: Tensor | Signals, size: int = 512) -> NDArray[np.float64]:
    """Predictions for all samples, in order. signals: (sample, channel, ...); result: (sample, ...), as `head` returns them.

    head: from what the model returns to predictions. size: batch size, reduced if a batch would hold more than 2^24 values.
    """
    keep_freed_memory()
    device = next(model.parameters()).device
    head = head.to(device)
    size = min(size, max(1, _VALUES // max(1, math.prod(signals.shape[1:]))))
    model.eval()
    with torch.inference_mode():
        pieces = [head(model(piece)) for piece in _pieces(signals, size, device)]
    return torch.cat(pieces).cpu().numpy()


def _pieces(signals: Tensor | Signals, size: int, device: torch.device) -> Iterator[Tensor]:
    if isinstance(signals, Lazy):
        return OnDemand(signals, device).each(torch.split(torch.arange(len(signals)), size))
    values = signals if isinstance(signals, Tensor) else torch.from_numpy(signals)
    return (piece.to(device) for piece in torch.split(values, size))


class _Learner:
    """A model with its optimiser and weight average, and the training step."""

    def __init__(self, model: nn.Module, part: Source, stage: Stage) -> None:
        self.model, self.part, self.stage = model, part, stage
        self.device = part.device
        make = OPTIMISERS[stage.optimiser]
        fused = {"fused": True} if "fused" in inspect.signature(make).parameters and self.device.type in ("cpu", "cuda") else {}
        self.optimiser = make(model.parameters(), stage.learning_rate, weight_decay=stage.weight_decay, **fused)
        self.rolls_out = getattr(
            model, "takes_truth", False
        )  # scheduled sampling: the net gets part of the truth as input, less and less
        self.steps = part.batches.steps
        decay = max(0.0, 1 - 1 / max(1.0, stage.average * self.steps))
        averaging = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # untyped in torch
        self.average = AveragedModel(model, multi_avg_fn=averaging, use_buffers=True) if stage.average else None
        self.rank, self.processes = join()
        if part.batches.least < self.processes:
            least = plural(part.batches.least, "sample")
            raise UserError(f"batches.size: {least} per batch cannot be split over {self.processes} processes")

    @property
    def validated(self) -> nn.Module:
        """The model that is validated and saved: the weight average, if there is one."""
        return self.average.module if self.average else self.model

    def draw(self, index: Tensor, key: int) -> Draw:
        """Draw this process's share of a batch. index: (sample,) rows of the part; of n processes each takes every n-th."""
        at = self.part.index_device
        return Draw(index.to(at), key, torch.arange(self.rank, len(index), self.processes, device=at))

    def step(self, index: Tensor, batch: Pair, key: int, done: float) -> Tensor:
        """Train on one batch; returns the loss without waiting for it. done: share of the stage before this step.

        index: (sample,) rows of the whole batch; batch: signals of this process's share, and targets if a step mixes samples.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.stage.learning_rate * SCHEDULES[self.stage.schedule](done)
        shares = [index[rank :: self.processes].to(self.device) for rank in range(self.processes)]
        seed_step(make_key(key, 0))
        signals, targets = batch
        counts = [len(s) for s in shares]
        with sharing(self.rank, counts):
            logits = self._answer(signals, targets, done)
        rows = torch.cat(shares)
        known, weights = self.part.known(rows), self.part.weights_of(rows)
        labels = all_gather(targets, counts) if known is None else known
        # the loss is taken over the whole batch, since some, such as soft F1, are not means over samples
        loss = self.stage.loss(all_gather(logits, counts), labels, *([] if weights is None else [weights]))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        all_reduce_gradients(self.model.parameters())
        self.optimiser.step()
        if self.average:
            self.average.update_parameters(self.model)
        return loss.detach()

    def _answer(self, signals: Tensor, targets: Tensor, done: float) -> Tensor:
        if self.rolls_out:
            self.model.set_done(done)  # type: ignore[operator]  # only scheduled sampling has it
        logits: Tensor = self.model(signals, targets) if self.rolls_out else self.model(signals)
        return logits

    def parts(self) -> dict[str, Mapping[str, object]]:
        """State dicts of model, optimiser and average."""
        average = self.average.state_dict() if self.average else {}
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "average": average}

    def load(self, parts: Mapping[str, Mapping[str, object]]) -> None:
        """Load state dicts saved by `parts` in an earlier process."""
        self.model.load_state_dict(parts["model"])
        if "optimiser" in parts:
            self.optimiser.load_state_dict(dict(parts["optimiser"]))
        if self.average and parts.get("average"):
            self.average.load_state_dict(parts["average"])
        elif self.average:
            self.average.module.load_state_dict(parts["model"])


def _train_epoch(learner: _Learner, state: TrainingState, file: CheckpointStore, watch: TrainingListener) -> None:
    """Run the remaining steps of one epoch."""
    stage = learner.stage
    learner.model.train()
    epoch_key = make_key(stage.key, stage.number, state.epoch)
    batches = learner.part.batches.epoch(epoch_key)
    total = torch.tensor(state.loss, dtype=torch.float64, device=learner.device)
    todo = [(number, batches[number], make_key(epoch_key, number)) for number in range(state.batch, learner.steps)]
    drawn = learner.part.drawn(learner.draw(index, key) for _, index, key in todo)
    with closing(drawn):  # stops the read-ahead thread even after an error
        for (number, index, key), batch in zip(todo, drawn, strict=True):
            done = (state.epoch + number / learner.steps) / stage.epochs
            total += learner.step(index, batch, key, done)
            state.batch = number + 1
            watch.step(state, learner.steps)
            if file.due() or asked_to_stop():
                state.loss = float(total)
                _save(learner, state, file)
    state.loss = float(total)


def _keep_if_better(model: nn.Module, scores: dict[str, float], stage: Stage, state: TrainingState) -> None:
    """Copy the weights if their score is the best of the stage, or if there is no validation part."""
    value = scores.get(stage.metric)
    if value is not None and math.isnan(value):  # undefined on this validation part: never better than a number
        better, value = state.best is None, None
    elif value is None or state.best is None:
        better = True
    else:
        better = value > state.best if stage.higher_is_better else value < state.best
    state.epochs_without_improvement = 0 if better else state.epochs_without_improvement + 1
    if better:
        state.best, state.best_weights = value, to_cpu(model.state_dict())


def _line(stage: Stage, state: TrainingState, learner: _Learner, scores: dict[str, float]) -> dict[str, float]:
    return {
        "stage": stage.number,
        "epoch": state.epoch,
        "loss": state.loss / learner.steps,
        **scores,
        "kept": not state.epochs_without_improvement,
    }


def _save(learner: _Learner, state: TrainingState, file: CheckpointStore) -> None:
    state.parts = learner.parts()
    file.write(state)
    state.parts = {}
    stop_if_asked()


def _next_stage(state: TrainingState, number: int, model: nn.Module, file: CheckpointStore) -> None:
    """Move the cursor to the start of the next stage, which starts from the best weights with a new optimiser."""
    state.stage, state.epoch, state.batch, state.loss, state.epochs_without_improvement, state.best = number, 0, 0, 0.0, 0, None
    state.best_weights = to_cpu(model.state_dict())
    state.parts = {"model": state.best_weights}
    file.write(state)


def unfinished(stages: Sequence[Stage], state: TrainingState) -> Iterable[Stage]:
    """The stages still to do, starting with the current one."""
    return stages[state.stage :]
