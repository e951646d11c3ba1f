"""Wavefold: train models on labelled scientific signals, evaluate them and predict with them.

Public names are imported on first access, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavefold.core.run import Run, open_run
    from wavefold.estimators import FrameForecaster, SignalClassifier
    from wavefold.recipe import Recipe

__version__ = "0.1.0"

__all__ = ["FrameForecaster", "Recipe", "Run", "SignalClassifier", "__version__", "open_run"]

_HOMES = {
    "FrameForecaster": "wavefold.estimators",
    "Recipe": "wavefold.recipe",
    "Run": "wavefold.core.run",
    "SignalClassifier": "wavefold.estimators",
    "open_run": "wavefold.core.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'wavefold' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
