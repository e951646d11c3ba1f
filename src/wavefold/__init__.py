"""Wavefold: train models on labelled scientific signals, evaluate them and predict with them.

Public names are imported on first access, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from wavefold.core.version import __version__

if TYPE_CHECKING:
    from wavefold.api import Run, check, look, open_run, simulate, train
    from wavefold.domains.base import Domain
    from wavefold.estimators import FrameForecaster, SignalClassifier, SignalRegressor
    from wavefold.recipe import Recipe

__all__ = [
    "Domain",
    "FrameForecaster",
    "Recipe",
    "Run",
    "SignalClassifier",
    "SignalRegressor",
    "__version__",
    "check",
    "look",
    "open_run",
    "simulate",
    "train",
]

_HOMES = {
    **dict.fromkeys(("Run", "check", "look", "open_run", "simulate", "train"), "wavefold.api"),
    **dict.fromkeys(("FrameForecaster", "SignalClassifier", "SignalRegressor"), "wavefold.estimators"),
    "Domain": "wavefold.domains.base",
    "Recipe": "wavefold.recipe",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'wavefold' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
