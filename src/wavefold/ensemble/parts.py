"""What the parts of an ensemble have in common: combiners, calibrations and decisions are looked up by name and built alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

Values = NDArray[np.float64]
State = Mapping[str, NDArray[np.generic]]  # what a fitted part keeps in ensemble.npz, by name


class Combiner(Protocol):
    """Members' scores (member, row, column) to one prediction (row, column)."""

    learns: bool  # whether it has parameters to fit
    needs: int  # minimum number of out-of-fold rows to fit and calibrate it

    def fit(self, members: ArrayLike, labels: ArrayLike, seed: int, /) -> Self:
        """Fit on out-of-fold scores. labels: (row,) or (row, output)."""

    def probabilities(self, members: ArrayLike, /) -> Values:
        """The combined prediction, (row, column)."""

    def state(self) -> State:
        """What was fitted."""

    def load(self, state: State, /) -> Self:
        """Restore the result of `state()`."""

    def module(self) -> nn.Module:
        """The same in torch."""


class Calibration(Protocol):
    """Predictions (row, column) to calibrated ones."""

    learns: bool

    def fit(self, predictions: ArrayLike, labels: ArrayLike, /) -> Self:
        """Fit on out-of-fold predictions. labels: (row,) or (row, output)."""

    def apply(self, predictions: ArrayLike, /) -> Values:
        """The calibrated predictions, (row, column)."""

    def state(self) -> State:
        """What was fitted."""

    def load(self, state: State, /) -> Self:
        """Restore the result of `state()`."""

    def module(self) -> nn.Module:
        """The same in torch."""


class Decision(Protocol):
    """Predictions (row, column) to what is submitted, (row, column)."""

    learns: bool

    def fit(self, predictions: Values, labels: ArrayLike, /) -> Self:
        """Fit on out-of-fold predictions. labels: (row,) or (row, output)."""

    def apply(self, predictions: Values, /) -> Values:
        """The decisions."""

    def state(self) -> State:
        """What was fitted."""

    def load(self, state: State, /) -> Self:
        """Restore the result of `state()`."""
