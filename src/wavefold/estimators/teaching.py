"""The loop without a run's folder: nothing is written, and torch's generators stay as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from wavefold.base.device import be_repeatable, best_device
from wavefold.base.errors import nearest
from wavefold.estimators.mistakes import BadValue
from wavefold.training.loop import Check, Stage, fit_stage
from wavefold.training.part import Source
from wavefold.training.state import State


def teach(model: nn.Module, part: Source, check: Check, stage: Stage) -> list[dict[str, Any]]:
    """Train a net in place through one stage; it ends with the best weights. Returns a line an epoch: loss and checks."""
    state = State()
    fit_stage(model, part, check, stage, state, _Nowhere(), _Silent())
    return state.history


@contextmanager
def own_randomness() -> Iterator[None]:
    """Torch's generators and its choice of kernels, put back as they were."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    exact, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    with torch.random.fork_rng(devices):
        be_repeatable()
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(exact, warn_only=warns)
            torch.backends.cudnn.benchmark = benchmark


def device_to_learn_on(name: str) -> torch.device:
    """The device of "auto", "cpu" or "cuda"; BadValue where it is not there."""
    if name not in _DEVICES:
        raise BadValue(f"device: {name!r} is not one of {', '.join(_DEVICES)}{nearest(name, _DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise BadValue("device: 'cuda' is not here; 'auto' takes a GPU where there is one")
    return torch.device("cpu") if name == "cpu" else best_device()


def device_to_ask_on(name: str) -> torch.device:
    """The same, but what was learned on a GPU answers on a processor where there is no GPU."""
    return torch.device("cpu") if name == "cpu" else best_device()


_DEVICES = ("auto", "cpu", "cuda")


class _Nowhere:
    """No place: a state that nobody will ask for."""

    def due(self) -> bool:
        return False

    def write(self, state: State) -> None:
        pass


class _Silent:
    """A watch that says nothing."""

    def step(self, state: State, steps: int) -> None:
        pass

    def epoch(self, state: State) -> None:
        pass
