"""A scikit-learn forecaster of frames, built from the same nets, steps and training loop as recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_array, check_is_fitted
from torch import nn

from wavefold.core.device import seed_step
from wavefold.core.errors import UserError, plural
from wavefold.core.registry import pick
from wavefold.data.dataset import Floats, Ints
from wavefold.data.series import Series, Windows
from wavefold.data.windows import cut_windows, split_by_time
from wavefold.estimators.errors import BadValue, as_value_errors
from wavefold.estimators.fitted import FittedNet, NetName, new_forecaster
from wavefold.estimators.frame_steps import as_seconds, frame_changes, new_scaling, series_of
from wavefold.estimators.parameters import FROM_0, LEARNING, NAMES, need_parameters, or_none, whole_from
from wavefold.estimators.steps import Step
from wavefold.estimators.trainer import inference_device, isolated_rng, training_device
from wavefold.evaluation.forecast_metrics import FrameScores, metrics_of_frames
from wavefold.models.forecast_baselines import FrameBaseline, build_baseline
from wavefold.training.fit_net import Nowhere, Silent, fit_net, new_stage
from wavefold.training.forecast_losses import frame_loss
from wavefold.training.forecast_set import ForecastTrainingSet, forecast_windows
from wavefold.training.loop import OPTIMISERS, SCHEDULES
from wavefold.training.sampler import EachOnce

_CHECKED = 256  # validation windows used to select weights after each epoch, evenly spread over all
_METRICS = ("mse", "mae", "rmse")
_PARAMETERS = {
    **LEARNING,
    "past": whole_from(1),
    "ahead": whole_from(1),
    "targets": or_none(whole_from(1)),
    "step": FROM_0,
    "batch_size": whole_from(1),
    "stride": whole_from(1),
    "baselines": NAMES,
}


class FrameForecaster(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A net that forecasts the next `ahead` frames from the last `past` ones.

    Frames are (time, row, column), (time, row, column, channel), or (sequence, time, row, column, channel): the axes of an .npy
    file in `docs/frames.md`. NaN is a missing value: losses and scores ignore it.

    model: a short name in `wavefold.models.forecasters.FORECASTERS`, or a net class whose constructor takes channels, targets,
        past and ahead; model_options: its further arguments. targets: number of (first) channels to forecast; None: all.
    prepare: transforms and augmentations of frames by short name, such as {"step": "anomaly", "period": 86400.0}; transforms
        are undone in forecasts. step: seconds between frames, for cycles; not needed if `times` are given.
    loss, loss_options: of `training.forecast_losses.FRAME_LOSSES`. epochs, batch_size, learning_rate, optimiser, weight_decay,
        schedule, average, patience: as in a recipe's stage. stride: frames from one training window to the next.
    validation_fraction: share of the frames, the latest, that `fit` uses for validation, after a gap of a window's length; the
        weights of the epoch with the least squared error there are kept. baselines: forecasts that `compare` adds; `score` is
        the skill against the first.
    device: "auto", "cpu", "cuda". random_state: the same integer gives the same weights.
    """

    def __init__(
        self,
        model: NetName = "refine",
        *,
        past: int = 10,
        ahead: int = 10,
        targets: int | None = None,
        model_options: Mapping[str, object] | None = None,
        prepare: Sequence[Step] = ("standardise",),
        step: float = 0.0,
        loss: str = "mse",
        loss_options: Mapping[str, object] | None = None,
        epochs: int = 20,
        batch_size: int = 8,
        stride: int = 1,
        learning_rate: float = 2e-3,
        optimiser: str = "adamw",
        weight_decay: float = 0.01,
        schedule: str = "one_cycle",
        average: float = 0.5,
        patience: int = 0,
        validation_fraction: float = 0.15,
        baselines: Sequence[str] = ("persistence", "mean"),
        device: Literal["auto", "cpu", "cuda"] = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.model = model
        self.past = past
        self.ahead = ahead
        self.targets = targets
        self.model_options = model_options
        self.prepare = prepare
        self.step = step
        self.loss = loss
        self.loss_options = loss_options
        self.epochs = epochs
        self.batch_size = batch_size
        self.stride = stride
        self.learning_rate = learning_rate
        self.optimiser = optimiser
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.average = average
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.baselines = baselines
        self.device = device
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: None = None, *, times: ArrayLike | None = None) -> Self:
        """Train on frames in time order.

        X: (time, row, column[, channel]) or (sequence, time, row, column, channel). y: ignored, for scikit-learn compatibility.
        times: (time,) or (sequence, time), seconds or datetime64; no window crosses a gap in them.
        """
        with as_value_errors(), isolated_rng():
            self._check_parameters()
            values = _numbers(X)
            if not 3 <= values.ndim <= 5:
                raise BadValue(
                    f"X: {values.ndim} axes; expected (time, row, column[, channel]) or (sequence, time, row, column, channel)"
                )
            self.frame_axes_ = min(values.ndim, 4)  # with time
            frames = _sequences(values, self.frame_axes_)
            self.channels_ = frames.shape[-1]
            self.targets_ = self.channels_ if self.targets is None else int(self.targets)
            if self.targets_ > self.channels_:
                raise BadValue(f"targets: {self.targets} is not None or from 1 to {self.channels_}, the channels of X")
            series = series_of(frames, as_seconds(times, frames.shape[:2]), float(self.step))
            self.step_ = series.step
            self._learn(cut_windows(series, past=int(self.past), ahead=int(self.ahead), stride=int(self.stride)))
        return self

    def predict(self, X: ArrayLike, *, times: ArrayLike | None = None) -> Floats:
        """Forecast the `ahead` frames after the last ones, (ahead, row, column[, target]), in the frames' units.

        X: frames with the same axes as in `fit`, `past` of them or more; or several such windows, (sample, ...), for
        forecasts (sample, ahead, ...). times: (time,) or (sample, time). Cells without a value in any past frame are NaN.
        """
        check_is_fitted(self)
        with as_value_errors():
            values = _numbers(X)
            frames = self._known_frames(values)
            windows = self._last_windows(series_of(frames, as_seconds(times, frames.shape[:2]), self.step_), frames.shape[1])
            predicted = self._forecast(windows)
            never = np.isnan(replace(windows, ahead=0).values()[:, : self.targets_]).all(axis=2, keepdims=True)
        later: Floats = np.moveaxis(
            np.where(never, np.float32(np.nan), predicted), 1, -1
        )  # (sample, ahead, row, column, target)
        later = later[..., 0] if self.frame_axes_ == 3 else later
        return later if values.ndim > self.frame_axes_ else later[0]

    def score(self, X: ArrayLike, y: None = None, *, times: ArrayLike | None = None) -> float:
        """Skill against the first baseline: 1 - mean squared error / the baseline's. 1 is best, 0 no better than it."""
        return self.compare(X, times=times)["forecast"]["skill"]

    def compare(self, X: ArrayLike, *, times: ArrayLike | None = None) -> dict[str, dict[str, float]]:
        """Compute mse, mae, rmse and skill over all windows in the frames, for the "forecast" and for each baseline.

        X: as for `fit`, `past` + `ahead` frames or more. skill: 1 - mse / the first baseline's mse.
        """
        check_is_fitted(self)
        with as_value_errors():
            frames = self._known_frames(_numbers(X))
            series = series_of(frames, as_seconds(times, frames.shape[:2]), self.step_)
            windows = cut_windows(series, past=self.past, ahead=self.ahead)
            truth, clock = _later(windows, self.targets_), windows.clock()
            predicted = {"forecast": self._forecast(windows)}
            for name, baseline in self.baselines_.items():
                past = windows.before(max(windows.past, baseline.past_frames(series.step)))
                predicted[name] = baseline.forecast(past, clock)[:, : self.targets_]
            rows = {name: _measured(values, truth) for name, values in predicted.items()}
        usual = rows[self.baselines[0]]["mse"]
        return {name: {**row, "skill": 1 - row["mse"] / usual if usual else float("nan")} for name, row in rows.items()}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    def _check_parameters(self) -> None:
        need_parameters(self, _PARAMETERS)
        pick(OPTIMISERS, self.optimiser, "optimiser")
        pick(SCHEDULES, self.schedule, "schedule")

    def _learn(self, windows: Windows) -> None:
        """Fit scaling, baselines and the net on the training windows; sets all fitted attributes."""
        learned, back = self._split(windows)
        numbers = np.unique(learned.first[:, None] + np.arange(windows.length))
        series = windows.series
        self.scaling_ = new_scaling(self.prepare).fit(series, numbers)
        self.baselines_ = {name: self._baseline(name, series, numbers) for name in self.baselines}
        scaled, device = self.scaling_.apply(series), training_device(self.device)
        options = dict(self.model_options or {})
        given = {"channels": self.channels_, "targets": self.targets_, "past": int(self.past), "ahead": int(self.ahead)}
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        seed_step(seed)
        net = new_forecaster(self.model, options, given).to(device)
        batches = EachOnce(len(learned), int(self.batch_size))
        part = ForecastTrainingSet(learned.of(scaled), batches, device, self.targets_, frame_changes(self.prepare))
        loss = frame_loss(self.loss, self.loss_options or {}, "loss")
        stages = [new_stage(self, 0, loss, "mse", higher_is_better=False, key=seed)]
        check = self._checker(back, scaled)
        self.history_ = fit_net(net, part, check, stages, file=Nowhere(), watch=Silent(), measure=True).history
        self.n_iter_ = len(self.history_)
        self.net_ = FittedNet(partial(new_forecaster, self.model, options, given), net.state_dict())

    def _split(self, windows: Windows) -> tuple[Windows, Windows]:
        """The training windows and the latest ones, for validation."""
        if not self.validation_fraction:
            return windows, windows.take(slice(0, 0))
        try:
            split = split_by_time(windows, validation=float(self.validation_fraction), test=0.0)
        except UserError:
            raise BadValue(
                f"validation_fraction: {self.validation_fraction:g} of {plural(len(windows.series), 'frame')} leaves no window "
                f"of {windows.length} frames on one side of a gap of the same length; give more frames, or set it to 0"
            ) from None
        return windows.take(split.train), windows.take(split.validation)

    def _baseline(self, name: str, series: Series, numbers: Ints) -> FrameBaseline:
        baseline = build_baseline(name, "baselines", past=int(self.past), ahead=int(self.ahead))
        baseline.fit(series.frames[numbers], series.clock(numbers), series.step)
        return baseline

    def _checker(self, back: Windows, scaled: Series) -> Callable[[nn.Module], dict[str, float]]:
        """The check after each epoch: errors of a net's forecasts on validation windows, in the frames' units."""
        some = back.take(np.unique(np.linspace(0, len(back) - 1, _CHECKED).round().astype(np.int64))) if len(back) else back

        def check(model: nn.Module) -> dict[str, float]:
            if not len(some):
                return {}
            return _measured(self._requested(model, some, scaled), _later(some, self.targets_))

        return check

    def _forecast(self, windows: Windows) -> Floats:
        net = self.net_.on(inference_device(self.device))
        return self._requested(net, windows, self.scaling_.apply(windows.series))

    def _requested(self, net: nn.Module, windows: Windows, scaled: Series) -> Floats:
        """A net's forecasts for windows, (sample, target, ahead, row, column), in the frames' units."""
        predicted = np.concatenate([forecast for _, forecast in forecast_windows(net, windows.of(scaled))])
        if not np.isfinite(predicted).all():
            raise BadValue("learning_rate: the net's forecasts are no longer finite; lower it, or choose another loss")
        return self.scaling_.undo(predicted, windows)

    def _known_frames(self, values: Floats) -> Floats:
        """Check that frames match the fitted ones, and return them as (sequence, time, row, column, channel)."""
        if values.ndim not in (self.frame_axes_, self.frame_axes_ + 1):
            raise BadValue(
                f"X: {values.ndim} axes; expected {self.frame_axes_} for one series, or one more for several windows"
            )
        frames = _sequences(values, self.frame_axes_)
        if frames.shape[-1] != self.channels_:
            raise BadValue(f"X: {plural(frames.shape[-1], 'channel')}; the forecaster was fitted on {self.channels_}")
        return frames

    def _last_windows(self, series: Series, length: int) -> Windows:
        """The last past frames of all sequences, each `length` frames long; BadValue if there are too few or time has a gap."""
        first = np.arange(length, len(series) + 1, length) - self.past
        stretch = np.searchsorted(series.starts, first, side="right") - 1
        if length < self.past or (stretch != np.searchsorted(series.starts, first + self.past - 1, side="right") - 1).any():
            raise BadValue(f"X: a forecast needs {plural(self.past, 'frame')} without a gap; X has {length}, or a gap in time")
        none = np.zeros(len(first), np.int64)
        return Windows(series, first.astype(np.int64), none, none, self.past, self.ahead, series.size)


def _numbers(X: ArrayLike) -> Floats:
    """Values as float32, NaN allowed; errors are worded as in scikit-learn."""
    values: Floats = check_array(
        X, dtype=np.float32, allow_nd=True, ensure_all_finite="allow-nan", ensure_2d=False, input_name="X"
    )
    return values


def _sequences(values: Floats, frame_axes: int) -> Floats:
    """Frames as (sequence, time, row, column, channel), from one series or several, with or without a channel axis."""
    several = values if values.ndim > frame_axes else values[None]
    return several if frame_axes == 4 else several[..., None]


def _later(windows: Windows, targets: int) -> Floats:
    """The future frames of windows, (sample, target, ahead, row, column)."""
    later = replace(windows, first=windows.first + windows.past, past=windows.ahead, ahead=0)
    return later.values()[:, :targets]


def _measured(predicted: Floats, truth: Floats) -> dict[str, float]:
    """Mean errors over all cells with a value, by metric name."""
    every = metrics_of_frames(1.0)
    scores = FrameScores({name: every[name] for name in _METRICS})
    scores.add(predicted, truth)
    return {name: scores.value(name) for name in _METRICS}
