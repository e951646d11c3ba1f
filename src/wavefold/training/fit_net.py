"""The one place where a net is fitted: through all its stages, with or without a folder to keep checkpoints in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wavefold.core.device import to_cpu
from wavefold.core.files import write_json, write_whole
from wavefold.core.random import key as make_key
from wavefold.training.checkpoint import CheckpointFile, TrainingState
from wavefold.training.loop import Check, Stage, TrainingListener, fit_stage, unfinished
from wavefold.training.sampler import Draw, Source

_MEASURED = 128  # batch size for measuring mean and variance
_STAGE_KEYS = ("epochs", "learning_rate", "optimiser", "weight_decay", "schedule", "patience", "average")


class Listener(TrainingListener, Protocol):
    """Callbacks of a fit: those of the loop, and one at its start."""

    def resume(self, state: TrainingState, steps: int) -> None:
        """Called once, with the state to continue from; `steps` per epoch."""


class Nowhere:
    """A checkpoint store that stores nothing."""

    def read(self) -> TrainingState:
        """A new state."""
        return TrainingState()

    def due(self) -> bool:
        """Never: there is nowhere to write to."""
        return False

    def write(self, state: TrainingState) -> None:
        """Do nothing."""


class Silent:
    """A listener that does nothing."""

    def resume(self, state: TrainingState, steps: int) -> None:
        """Do nothing."""

    def step(self, state: TrainingState, steps: int) -> None:
        """Do nothing."""

    def epoch(self, state: TrainingState) -> None:
        """Do nothing."""


def new_stage(
    settings: object, number: int, loss: Callable[..., Tensor], metric: str, *, higher_is_better: bool, key: int
) -> Stage:
    """A stage from an object with the fields of a recipe's stage: that stage itself, or an estimator."""
    values = {name: getattr(settings, name) for name in _STAGE_KEYS}
    same = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    return Stage(number=number, loss=loss, metric=metric, higher_is_better=higher_is_better, key=key, **same)


def fit_net(
    model: nn.Module,
    part: Source,
    check: Check,
    stages: Sequence[Stage],
    *,
    file: CheckpointFile | Nowhere,
    watch: Listener,
    measure: bool = False,
) -> TrainingState:
    """Train a net through its stages, from where its checkpoint stands; it ends with the best weights of the last stage.

    measure: measure the statistics of batch norm again, since after few steps the running means lag behind the weights; if
    there are validation samples, the new ones are kept only if they are no worse on those. Estimators do, recipes do not
    (docs/decisions.md).
    """
    state = file.read()
    watch.resume(state, part.batches.steps)
    for stage in unfinished(stages, state):
        fit_stage(model, part, check, stage, state, file, watch)
    model.load_state_dict(state.best_weights)
    if measure:
        _measure_again(model, part, check, stages[-1])
    return state


def keep_net(folder: Path, state: TrainingState, file: CheckpointFile, keep: Callable[[], None] = lambda: None) -> None:
    """Write a fitted net's weights and seconds to its folder, then what `keep` writes; the checkpoint is removed."""
    weights = {name: value.contiguous() for name, value in state.best_weights.items()}
    write_whole(folder / "weights.safetensors", lambda stream: stream.write(safetensors.torch.save(weights)))
    file.count_time(state)
    write_json(folder / "seconds.json", round(state.seconds, 1))
    keep()
    file.remove()


def _measure_again(model: nn.Module, part: Source, check: Check, stage: Stage) -> None:
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not norms:
        return
    before, usual = check(model).get(stage.metric), to_cpu(model.state_dict())
    _measure_norms(model, norms, part, make_key(stage.key, stage.number, stage.epochs))
    if before is not None and _worse(check(model)[stage.metric], before, stage.higher_is_better):
        model.load_state_dict(usual)


def _measure_norms(model: nn.Module, norms: Sequence[_BatchNorm], part: Source, key: int) -> None:
    """Set batch norm's mean and variance from one epoch, in batches large enough to estimate them, with dropout off."""
    rows = torch.cat(list(part.batches.epoch(key)))
    batches = rows.tensor_split(max(1, len(rows) // _MEASURED))
    model.eval()
    for layer in norms:
        layer.reset_running_stats()
        layer.train()
    usual = [layer.momentum for layer in norms]
    at = part.index_device
    draws = (Draw(b.to(at), make_key(key, n), torch.arange(len(b), device=at)) for n, b in enumerate(batches))
    with torch.no_grad(), closing(part.drawn(draws)) as drawn:
        for number, (signals, _) in enumerate(drawn, 1):
            for layer in norms:
                layer.momentum = 1 / number  # the mean over all batches so far
            model(signals)
    for layer, momentum in zip(norms, usual, strict=True):
        layer.momentum = momentum
    model.eval()


def _worse(value: float, than: float, higher_is_better: bool) -> bool:
    return not (value >= than if higher_is_better else value <= than)
