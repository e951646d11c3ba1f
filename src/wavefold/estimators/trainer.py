"""The training loop without a run folder: nothing is written, and torch's generators are left unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from wavefold.core.device import best_device, make_deterministic, to_cpu
from wavefold.core.errors import nearest
from wavefold.core.random import key as make_key
from wavefold.estimators.errors import BadValue
from wavefold.training.checkpoint import TrainingState
from wavefold.training.loop import Check, Stage, fit_stage
from wavefold.training.sampler import Draw, Source


def train_in_memory(model: nn.Module, part: Source, check: Check, stage: Stage) -> list[dict[str, Any]]:
    """Train a net in place through one stage; it ends with the best weights. Returns loss and checks for each epoch.

    Batch norm statistics are then measured again, since after few steps the running means lag behind the weights; if there are
    validation samples, the new ones are kept only if they are no worse on those.
    """
    state = TrainingState()
    fit_stage(model, part, check, stage, state, _Nowhere(), _Silent())
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if norms:
        before, usual = check(model).get(stage.metric), to_cpu(model.state_dict())
        _measure(model, norms, part, make_key(stage.key, stage.number, stage.epochs))
        if before is not None and _worse(check(model)[stage.metric], before, stage.higher_is_better):
            model.load_state_dict(usual)
    return state.history


def _measure(model: nn.Module, norms: Sequence[_BatchNorm], part: Source, key: int) -> None:
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


_MEASURED = 128  # batch size for estimating mean and variance


@contextmanager
def isolated_rng() -> Iterator[None]:
    """Run the block with deterministic kernels; restore torch's generators and kernel settings afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    exact, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    with torch.random.fork_rng(devices):
        make_deterministic()
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(exact, warn_only=warns)
            torch.backends.cudnn.benchmark = benchmark


def training_device(name: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda"; BadValue if it is not available."""
    if name not in _DEVICES:
        raise BadValue(f"device: {name!r} is not one of {', '.join(_DEVICES)}{nearest(name, _DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise BadValue("device: 'cuda' is not available; 'auto' uses a GPU if there is one")
    return torch.device("cpu") if name == "cpu" else best_device()


def inference_device(name: str) -> torch.device:
    """As `training_device`, but a model trained on a GPU predicts on the CPU if there is no GPU."""
    return torch.device("cpu") if name == "cpu" else best_device()


_DEVICES = ("auto", "cpu", "cuda")


class _Nowhere:
    """A checkpoint store that stores nothing."""

    def due(self) -> bool:
        return False

    def write(self, state: TrainingState) -> None:
        pass


class _Silent:
    """A listener that does nothing."""

    def step(self, state: TrainingState, steps: int) -> None:
        pass

    def epoch(self, state: TrainingState) -> None:
        pass
