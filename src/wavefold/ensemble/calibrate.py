"""Calibration: make predicted probabilities match observed frequencies.

Temperature scaling (Guo and others 2017) fits one number, so a few hundred held-out samples are enough, and it never
changes which class is first. Fit it on scores of samples that the members were not trained on: on training samples nets are
nearly always right, and the temperature would make them overconfident. As in Platt scaling (1999) the labels are smoothed
by the weight of one row, so that a few samples, all predicted correctly, do not make every prediction certain.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from wavefold.core.errors import DataError
from wavefold.core.registry import later
from wavefold.ensemble.parts import Calibration, State, Values

optimize, special = later("scipy.optimize"), later("scipy.special")

_SMALLEST = 1e-12  # minimum probability before taking its logarithm
_LOWEST, _HIGHEST = 0.05, 20.0  # range of temperatures; beyond it the fit follows single samples


class NoCalibration:
    """Leave probabilities unchanged."""

    learns = False

    def fit(self, probabilities: ArrayLike, labels: ArrayLike) -> Self:
        """Do nothing."""
        return self

    def apply(self, probabilities: ArrayLike) -> Values:
        """The unchanged probabilities, (sample, class)."""
        return np.asarray(probabilities, np.float64)

    def state(self) -> dict[str, Values]:
        """Nothing."""
        return {}

    def load(self, state: State) -> Self:
        """Do nothing: there is no state."""
        return self

    def module(self) -> nn.Module:
        """The same in torch."""
        return nn.Identity()


class Temperature:
    """softmax(log p / temperature), with the least log loss on held-out samples; a temperature above 1 softens."""

    learns = True

    def __init__(self) -> None:
        self.temperature = 1.0

    def fit(self, probabilities: ArrayLike, labels: ArrayLike) -> Self:
        """Fit the temperature on samples that the members were not trained on: (sample, class), labels (sample,)."""
        logs, numbers = _logs(probabilities), np.asarray(labels, np.int64)
        if not len(numbers) or len(numbers) != len(logs):
            raise DataError(
                f"temperature: {len(logs)} rows for {len(numbers)} labels; expected one label per row, and at least one row"
            )
        spread = 1 / (len(numbers) + 2)  # as in Platt: n samples cannot support odds beyond n to 1
        targets = (1 - spread) * np.eye(logs.shape[1])[numbers] + spread / logs.shape[1]

        def loss(log_temperature: float) -> float:
            return -float((targets * special.log_softmax(logs / math.exp(log_temperature), axis=1)).sum(axis=1).mean())

        ends = (math.log(_LOWEST), math.log(_HIGHEST))
        self.temperature = math.exp(optimize.minimize_scalar(loss, bounds=ends, method="bounded").x)
        return self

    def apply(self, probabilities: ArrayLike) -> Values:
        """The calibrated probabilities, (sample, class)."""
        return special.softmax(_logs(probabilities) / self.temperature, axis=1)  # type: ignore[no-any-return]  # scipy has no types

    def state(self) -> dict[str, Values]:
        """The state: temperature (1,)."""
        return {"temperature": np.array([self.temperature])}

    def load(self, state: State) -> Self:
        """Restore the result of `state()`."""
        self.temperature = float(state["temperature"][0])
        return self

    def module(self) -> nn.Module:
        """The same in torch: (N, class) float64 to the same."""
        return _TemperatureModule(self.temperature)


class _TemperatureModule(nn.Module):
    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, probabilities: Tensor) -> Tensor:
        return (probabilities.clamp(min=_SMALLEST).log() / self.temperature).softmax(1)


CALIBRATIONS: dict[str, type[Calibration]] = {"none": NoCalibration, "temperature": Temperature}


def _logs(probabilities: ArrayLike) -> Values:
    return np.log(np.maximum(np.asarray(probabilities, np.float64), _SMALLEST))
