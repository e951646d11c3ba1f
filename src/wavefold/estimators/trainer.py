"""What an estimator's fit leaves unchanged, torch's generators and settings; and the devices it uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from wavefold.core.device import best_device, make_deterministic
from wavefold.core.errors import nearest
from wavefold.estimators.errors import BadValue


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
