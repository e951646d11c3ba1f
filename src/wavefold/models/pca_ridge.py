"""PCA and ridge: the leading patterns of the frames, forecast by linear regression on their own past.

The frames' departures from their mean are described by a few principal components. Ridge regression forecasts the change of
their amplitudes from the amplitudes in the window, and from the time of the cycle if there is one; what the components leave
out fades at a rate fitted to the training frames. The penalty is chosen for each lead on the latest quarter of the training
frames. Source: Penland and Magorian 1993 (linear inverse modelling of sea surface temperatures), with several lags.

Legend: T frames, D values of a frame (channel x row x column), K components, F features, A leads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavefold.core.errors import UserError
from wavefold.data.lazy import Floats, Ints, Signals, blocks_of
from wavefold.data.series import mean_step
from wavefold.models.baseline_module import BaselineModule, by_torch
from wavefold.models.damped_anomaly import left_shares, looked_at
from wavefold.transforms.climatology import Corners

Values = NDArray[np.float64]
Seconds = NDArray[np.float64]
_Ridge = tuple[Values, Values, Values, Values]  # level and size of features (F,), weights (F, A, K), constants (A, K)
_LAGS = (0, 1, 2, 4, 8, 16, 32)  # frames before the last one
_PENALTIES = 10.0 ** np.arange(-3, 4)  # by the number of training rows
_MOST_FRAMES, _MOST_VALUES = 1500, 1 << 27  # that components are found on
_FEWEST = 24  # training rows; with fewer, amplitudes stay as they are
_EVEN = 0.2  # of a step, by which a window's times may be uneven: less than a gap, more than months differ


class PcaRidge:
    """Ridge regression of the amplitudes of principal components, for whole frames.

    past, ahead: frames of a window. components: number of patterns. period: seconds of a cycle whose phase is a feature, if it
    has 4 steps or more.
    """

    def __init__(self, *, past: int = 20, ahead: int = 20, components: int = 20, period: float = 86400.0) -> None:
        if components < 1:
            raise UserError(f"pca_ridge.components: {components} is too small; it must be 1 or more")
        self._past, self._ahead, self._components, self._period = past, ahead, components, period
        self._lags: Ints = np.array([lag for lag in _LAGS if lag < past])
        self._state: dict[str, NDArray[np.generic]] = {}

    def past_frames(self, step: float) -> int:
        """Frames back to the longest lag."""
        return int(self._lags[-1]) + 1

    def fit(self, frames: Signals, clock: Seconds, step: float) -> None:
        """Fit mean, components and regression on training frames (time, channel, row, column)."""
        mean, components = _patterns(frames, self._components)
        parts, (first, every) = [], looked_at(len(clock), frames.shape)
        shown = np.zeros(frames.shape[1:], bool)
        shown[:, ::every, ::every] = True
        left = []
        for at, values in blocks_of(frames):
            apart = np.nan_to_num(values.reshape(len(values), -1) - mean)
            amplitudes = apart @ components.T
            parts.append(amplitudes)
            off = (apart - amplitudes @ components)[max(first - at.start, 0) :, shown.ravel()]
            left.append(off.reshape(len(off), frames.shape[1], -1))
        amplitudes = np.concatenate(parts).astype(np.float64)
        harmonics = 2 if step > 0 and self._period >= 4 * step else 0
        features = self._features(amplitudes, clock, harmonics)
        rows = self._rows(clock, step)
        level, size, weights, constant = _regression(features, amplitudes, rows, self._past, self._ahead)
        self._state = {
            "mean": mean.reshape(frames.shape[1:]),
            "components": components.reshape(len(components), *frames.shape[1:]),
            "weights": (weights / size[:, None, None]).astype(np.float32),
            "constant": (constant - np.einsum("f,fak->ak", level / size, weights)).astype(np.float32),
            "shares": left_shares(np.concatenate(left).astype(np.float32), clock[first:], step or 1.0),
            "cycle": np.array([self._period, harmonics, mean_step(step)[0]]),
        }

    def forecast(self, past: Floats, clock: Seconds, corners: Corners | None = None) -> Floats:
        """The later frames, (n, channel, ahead, row, column)."""
        if corners is not None:
            raise UserError("pca_ridge: forecasts whole frames; remove windows.crop, or it from output.baselines")
        return by_torch(self.module(), past, clock)

    def module(self) -> BaselineModule:
        """The same in torch."""
        return _Amplitudes(self._state, self._lags)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """mean and components of frames; weights (feature, lead, component) and constant; shares of the rest; the cycle."""
        return dict(self._state)

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore what `state` returned."""
        self._state = dict(state)

    def _features(self, amplitudes: Values, clock: Seconds, harmonics: int) -> Values:
        """(T, F): amplitudes at each lag, then sines and cosines of the last frame's phase; the first rows have no lags."""
        lagged = [np.roll(amplitudes, lag, axis=0) for lag in self._lags]
        turns = [2 * math.pi * n * clock / self._period for n in range(1, harmonics + 1)]
        return np.concatenate([*lagged, *(np.stack([np.sin(t), np.cos(t)], axis=1) for t in turns)], axis=1)

    def _rows(self, clock: Seconds, step: float) -> Ints:
        """Numbers of the last past frames of all training windows, which no gap crosses."""
        back, ahead, (step, _) = int(self._lags[-1]), self._ahead, mean_step(step or 1.0)
        rows = np.arange(back, len(clock) - ahead)
        span = clock[rows + ahead] - clock[rows - back] - (back + ahead) * step
        return rows[np.abs(span) < _EVEN * step]


class _Amplitudes(BaselineModule):
    needs_clock = True
    mean: Tensor
    components: Tensor
    weights: Tensor
    constant: Tensor
    shares: Tensor

    def __init__(self, state: Mapping[str, NDArray[np.generic]], lags: Ints) -> None:
        super().__init__()
        for name in ("mean", "components", "weights", "constant", "shares"):
            self.register_buffer(name, torch.from_numpy(state[name].astype(np.float32)))
        self.lags = [int(lag) for lag in lags]
        self.period, harmonics, self.step = (float(value) for value in state["cycle"])
        self.harmonics = int(harmonics)

    def forward(self, past: Tensor, clock: Tensor) -> Tensor:
        channels, ahead = past.shape[1], clock.shape[1]
        patterns = self.components.flatten(1)  # (K, D)
        apart = torch.nan_to_num(past - self.mean[:, None], nan=0.0)
        lagged = [apart[:, :, past.shape[2] - 1 - lag].flatten(1) @ patterns.T for lag in self.lags]
        phase = torch.remainder(clock[:, 0] - self.step, self.period)  # small numbers, as exported constants may be rounded
        turns = [phase.float() * (2 * math.pi * n / self.period) for n in range(1, self.harmonics + 1)]
        waves = [torch.stack([torch.sin(t), torch.cos(t)], dim=1) for t in turns]
        change = torch.einsum("nf,fak->nak", torch.cat([*lagged, *waves], dim=1), self.weights) + self.constant
        lead = torch.arange(ahead).clamp(max=len(self.constant) - 1)
        known = (lagged[0][:, None] + change[:, lead]) @ patterns  # (N, A, D)
        rest = apart[:, :, -1] - (lagged[0] @ patterns).view(-1, channels, *past.shape[3:])
        left = self.shares[torch.arange(ahead).clamp(max=len(self.shares) - 1)].T[:, :, None, None]  # (channel, A, 1, 1)
        whole = known.view(-1, ahead, channels, *past.shape[3:]).transpose(1, 2)
        return self.mean[:, None] + whole + left * rest[:, :, None]


def _patterns(frames: Signals, count: int) -> tuple[Floats, Floats]:
    """Mean (D,) and principal components (K, D) of frames, of at most _MOST_FRAMES of them; missing cells are at their mean."""
    size = math.prod(frames.shape[1:])
    most = max(2, min(_MOST_FRAMES, _MOST_VALUES // size))
    some = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), most)).round().astype(np.int64))
    values = frames[some].reshape(len(some), size)
    there = np.isfinite(values)
    mean = np.where(there, values, 0).sum(axis=0, dtype=np.float64) / np.maximum(there.sum(axis=0), 1)
    apart = np.where(there, values - mean, 0).astype(np.float32)
    spread, turns = np.linalg.eigh((apart @ apart.T).astype(np.float64))
    kept = [n for n in np.argsort(spread)[::-1][:count] if spread[n] > 1e-9 * max(spread.max(), 1e-30)]
    components = (turns[:, kept] / np.sqrt(spread[kept])).T @ apart
    return mean.astype(np.float32), components.astype(np.float32)


def _regression(features: Values, amplitudes: Values, rows: Ints, past: int, ahead: int) -> _Ridge:
    """Level and size of the features (F,), weights (F, A, K) and constants (A, K) of the amplitudes' change."""
    count = amplitudes.shape[1]
    level, size = np.zeros(features.shape[1]), np.ones(features.shape[1])
    if len(rows) < _FEWEST or not count:
        return level, size, np.zeros((features.shape[1], ahead, count)), np.zeros((ahead, count))
    leads = np.arange(1, ahead + 1)
    change = amplitudes[rows[:, None] + leads] - amplitudes[rows][:, None]  # (row, A, K)
    cut = len(rows) - len(rows) // 4
    early, late = slice(0, max(cut - past - ahead, cut // 2)), slice(cut, None)
    known = features[rows]
    errors = []
    for penalty in _PENALTIES:
        found = _ridge(known[early], change[early], penalty)
        errors.append(((_applied(found, known[late]) - change[late]) ** 2).sum(axis=(0, 2)))
    best = np.argmin(errors, axis=0)  # (A,)
    weights, constant = np.zeros((known.shape[1], ahead, count)), np.zeros((ahead, count))
    for one in np.unique(best):
        leads = np.flatnonzero(best == one)
        level, size, weights[:, leads], constant[leads] = _ridge(known, change[:, leads], _PENALTIES[one])
    return level, size, weights, constant


def _ridge(features: Values, change: Values, penalty: float) -> _Ridge:
    """The same for all leads with one penalty. change: (row, A, K)."""
    level, spread = features.mean(axis=0), features.std(axis=0)
    size = np.where(spread > 0, spread, 1)
    scaled, constant = (features - level) / size, change.mean(axis=0)
    gram = scaled.T @ scaled + penalty * len(scaled) * np.eye(scaled.shape[1])
    flat = (change - constant).reshape(len(change), -1)
    weights = np.linalg.solve(gram, scaled.T @ flat).reshape(-1, *change.shape[1:])
    return level, size, weights, constant


def _applied(found: _Ridge, features: Values) -> Values:
    level, size, weights, constant = found
    made: Values = np.einsum("nf,fak->nak", (features - level) / size, weights) + constant
    return made
