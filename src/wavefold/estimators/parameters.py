"""Valid values of estimator parameters: a description for error messages, and a test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import TypeGuard

import numpy as np
from torch import nn

from wavefold.estimators.errors import BadValue

Wanted = tuple[str, Callable[[object], bool]]

_SHOWN = 80  # maximum characters of an invalid value to print


def need_parameters(estimator: object, wanted: Mapping[str, Wanted]) -> None:
    """Raise BadValue for the first invalid parameter. wanted: parameter -> (description of valid values, test)."""
    for name, (expected, right) in wanted.items():
        value = getattr(estimator, name)
        if not right(value):
            raise BadValue(f"{name}: {' '.join(repr(value).split())[:_SHOWN]} is not {expected}")


def whole_from(least: int) -> Wanted:
    """An integer, Python's or NumPy's, of at least `least`."""
    return f"a whole number, {least} or more", lambda value: _is_whole(value) and value >= least


def or_none(wanted: Wanted) -> Wanted:
    """None, or a value that passes the given test."""
    return f"None or {wanted[0]}", lambda value: value is None or wanted[1](value)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _are_options(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _are_names(value: object) -> TypeGuard[Sequence[str]]:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, str) for v in value)


def _are_steps(value: object) -> bool:
    return isinstance(value, Mapping | str) or (  # single steps are checked where the steps are built
        isinstance(value, Sequence) and all(isinstance(step, str) or _are_options(step) for step in value)
    )


def _are_weights(value: object) -> bool:
    numbers = isinstance(value, Mapping) and all(_is_number(v) and v >= 0 for v in value.values())
    return numbers or (isinstance(value, str) and value == "balanced")


def _is_seed(value: object) -> bool:
    return (_is_whole(value) and 0 <= value < 2**32) or isinstance(value, np.random.RandomState) or value is np.random


def _is_model(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, type) and issubclass(value, nn.Module))


ABOVE_0: Wanted = "a number above 0", lambda value: _is_number(value) and value > 0
FROM_0: Wanted = "a number, 0 or more", lambda value: _is_number(value) and value >= 0
SHARE: Wanted = "a number from 0 to below 1", lambda value: _is_number(value) and 0 <= value < 1
SWITCH: Wanted = "True or False", lambda value: isinstance(value, bool | np.bool_)
NAME: Wanted = "a short name, as a str", lambda value: isinstance(value, str)
NAMES: Wanted = "a sequence of one short name at least", lambda value: _are_names(value) and len(value) > 0
OPTIONS: Wanted = or_none(("a mapping of options by name", _are_options))
STEPS: Wanted = "a sequence of steps, each a short name or a mapping with 'step'", _are_steps
BATCH: Wanted = (
    "'auto' or a whole number, 1 or more",
    lambda value: value == "auto" if isinstance(value, str) else whole_from(1)[1](value),
)
WEIGHTS: Wanted = or_none(("'balanced' or a mapping from class to a number, 0 or more", _are_weights))
SEED: Wanted = or_none(("a whole number from 0 to 4294967295, or a RandomState of NumPy", _is_seed))
MODEL: Wanted = "a short name or a class of nets", _is_model

# parameters shared by the classifier and the forecaster
LEARNING: dict[str, Wanted] = {
    "model": MODEL,
    "model_options": OPTIONS,
    "prepare": STEPS,
    "loss": NAME,
    "loss_options": OPTIONS,
    "epochs": whole_from(1),
    "learning_rate": ABOVE_0,
    "optimiser": NAME,
    "weight_decay": FROM_0,
    "schedule": NAME,
    "average": FROM_0,
    "patience": whole_from(0),
    "validation_fraction": SHARE,
    "device": NAME,
    "random_state": SEED,
}
