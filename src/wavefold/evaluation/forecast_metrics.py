"""Metrics of forecast frames: streaming, mergeable, by lead time, each with a confidence interval.

A metric is two functions: `measure` turns forecasts and truths into sums (window, lead, k), and `value` turns sums into
scores. So windows are scored in batches, which can be concatenated in any order. Sums added over windows give the score by
lead; added over leads too, the overall score; resampled with replacement (Efron 1979), by window or by whole group, the
interval. Two forecasters of the same windows are compared on the same resamples.

Legend: N windows, C channels, T leads, k sums, R resamples. Forecasts and truths are (N, C, T, row, column) in physical units;
cells whose truth is NaN are ignored. Sums are float64.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from wavefold.core.errors import DataError, UserError, listed, plural
from wavefold.core.registry import later, pick
from wavefold.evaluation.spectrum import radial_power
from wavefold.evaluation.ssim import check_window, mean_ssim

special = later("scipy.special")

Values = NDArray[np.float64]
Frames = Tensor | NDArray[np.floating]
Measure = Callable[[Frames, Frames], Tensor]
Ends = tuple[float, float, float]  # a value and the ends of its 95 % interval
EndsByLead = tuple[Values, Values, Values]  # (T,) each

FEWEST_UNITS = 10  # windows or groups, below which a bootstrap interval would be too narrow; Student's t is used instead
LEAST_UNITS = 3  # below which there is no interval
_CELLS = 500_000  # measured at once, 4 MB: twice as fast if it fits into the processor's cache
_WEIGHTS = 2_000_000  # of resamples held at once: 16 MB
_MOST_DB = 100.0  # PSNR of an exactly forecast frame, which would be infinite


@dataclass(frozen=True)
class FrameMetric:
    """One metric. measure: forecast and truth (N, C, T, row, column) to sums (N, T, k); value: (..., k) to scores (...)."""

    measure: Measure
    value: Callable[[ArrayLike], Values]
    higher_is_better: bool


def metrics_of_frames(
    data_range: float, thresholds: Sequence[float] = (), scales: Sequence[int] = (1,)
) -> dict[str, FrameMetric]:
    """All metrics by name: csi-7 is for cells at 7 or more, fss-7-9 for the same events in neighbourhoods of 9 x 9 cells.

    data_range: of the values, for PSNR and SSIM. thresholds: in the values' units. scales: sides of neighbourhoods, odd.

    mse, mae, rmse are means over cells; mse-sum and mae-sum are summed over a frame's cells and channels, then averaged over
    frames, as in the tables of video papers. psnr (dB, at most 100 per frame), ssim (Gaussian, 11) and ssim-uniform (7) are
    means over frames, NaN if frames are smaller than the window. csi = hits / (hits + misses + false alarms); bias is forecast
    events / observed events; fss follows Roberts and Lean 2008, with no events beyond the frame; sharpness is the forecast's
    power divided by the truth's in the highest third of wavenumbers: 1 is best, blurred forecasts have less.
    """
    check_window(data_range=data_range, size=11, sigma=1.5)
    errors = partial(_errors, data_range=float(data_range))
    gaussian = partial(_similarity, data_range=float(data_range), window="gaussian", size=11, sample_covariance=False)
    uniform = partial(_similarity, data_range=float(data_range), window="uniform", size=7, sample_covariance=True)
    metrics = {
        "mse": FrameMetric(errors, partial(_ratio, over=(0,), under=(2,)), False),
        "mae": FrameMetric(errors, partial(_ratio, over=(1,), under=(2,)), False),
        "rmse": FrameMetric(errors, _root_mean, False),
        "mse-sum": FrameMetric(errors, partial(_ratio, over=(0,), under=(3,)), False),
        "mae-sum": FrameMetric(errors, partial(_ratio, over=(1,), under=(3,)), False),
        "psnr": FrameMetric(errors, partial(_ratio, over=(4,), under=(3,)), True),
        "ssim": FrameMetric(gaussian, partial(_ratio, over=(0,), under=(1,)), True),
        "ssim-uniform": FrameMetric(uniform, partial(_ratio, over=(0,), under=(1,)), True),
        "sharpness": FrameMetric(_fine_power, partial(_ratio, over=(0,), under=(1,)), True),
    }
    for threshold in thresholds:
        metrics |= _event_metrics(float(threshold), _odd(scales))
    return metrics


def metric_unit(name: str, unit: str) -> str:
    """The unit of a metric of frames whose values are in `unit`: K^2 for mse, dB for psnr; '' for a ratio or if unknown."""
    short = name.partition("-")[0]
    if short == "mse" and unit:
        return f"({unit})^2" if _COMPOUND.search(unit) else f"{unit}^2"
    return {"mae": unit, "rmse": unit, "psnr": "dB"}.get(short, "")


def is_higher_better(name: str) -> bool | None:
    """Whether forecasts are ranked by a metric from high to low; None for bias and sharpness, which are best at 1."""
    short = name.partition("-")[0]
    return None if short in ("bias", "sharpness") else short not in ("mse", "mae", "rmse")


_COMPOUND = re.compile(r"[\s*/^.-]")  # in a unit, whose square needs brackets


class FrameScores:
    """Sums of metrics over windows, added batch by batch, and the scores and intervals computed from them."""

    def __init__(self, metrics: dict[str, FrameMetric]) -> None:
        self.metrics = dict(metrics)
        self._rows: dict[str, list[Values]] = {name: [] for name in self._first_of().values()}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, forecast: Frames, truth: Frames) -> None:
        """Measure a batch of windows. forecast, truth: (N, C, T, row, column). DataError if they do not match."""
        place = next(iter(self.metrics), "scores")
        _check_shapes(forecast, truth, place)
        together = max(1, _CELLS // max(1, math.prod(truth.shape[1:])))
        for start in range(0, len(truth), together):
            pair = _pair(forecast[start : start + together], truth[start : start + together], place, first=len(self))
            for measure, name in self._first_of().items():
                self._rows[name].append(measure(*pair).cpu().numpy())
            self._count += len(pair[0])

    def merge(self, other: FrameScores) -> None:
        """Append another's windows. DataError unless its metrics have the same names."""
        if list(self.metrics) != list(other.metrics):
            raise DataError(f"scores: metrics {listed(other.metrics)} do not match {listed(self.metrics)}")
        for name, rows in other._rows.items():
            self._rows[name].extend(rows)
        self._count += len(other)

    def rows(self) -> dict[str, Values]:
        """Each metric's sums, (N, T, k), in the order of the windows."""
        return {name: self._sums(name) for name in self.metrics}

    def value(self, name: str, windows: slice = slice(None)) -> float:
        """A metric over all windows, or some of them, and all leads; NaN where it is undefined."""
        return float(self._metric(name).value(self._sums(name)[windows].sum(axis=(0, 1))))

    def by_lead(self, name: str) -> Values:
        """A metric at each lead, (T,)."""
        return self._metric(name).value(self._sums(name).sum(axis=0))

    def interval(
        self, name: str, groups: ArrayLike | None = None, *, seed: int = 0, resamples: int = 1000
    ) -> tuple[float, float]:
        """Ends of the 95 % percentile bootstrap interval over windows, or over whole groups.

        groups: (N,) names of the resampling units: windows that share frames belong to one block of time. With fewer than ten
        windows or groups, of which a bootstrap interval would be too narrow by construction, the interval is that of the
        jackknife with Student's t (Tukey 1958), which widens as they get fewer; with fewer than three it is (NaN, NaN).
        """
        metric = self._metric(name)
        one = partial(_over_leads, metric.value)
        low, high = _ends(one, [self._sums(name)], groups, seed, resamples, positive=not metric.higher_is_better)
        return float(low), float(high)

    def interval_by_lead(self, name: str, groups: ArrayLike | None = None, *, seed: int = 0, resamples: int = 1000) -> Values:
        """Ends of the interval at each lead, (T, 2)."""
        metric, sums = self._metric(name), [self._sums(name)]
        return np.stack(_ends(metric.value, sums, groups, seed, resamples, positive=not metric.higher_is_better), axis=-1)

    def difference(
        self, name: str, other: FrameScores, groups: ArrayLike | None = None, *, seed: int = 0, resamples: int = 1000
    ) -> Ends:
        """This metric minus the other's on the same windows, with an interval from resamples common to both."""
        return self._whole(np.subtract, name, other, groups, seed, resamples)

    def difference_by_lead(
        self, name: str, other: FrameScores, groups: ArrayLike | None = None, *, seed: int = 0, resamples: int = 1000
    ) -> EndsByLead:
        """The difference at each lead: its values, low ends and high ends, (T,) each."""
        return self._paired(np.subtract, name, other, groups, seed, resamples)

    def skill(
        self, name: str, other: FrameScores, groups: ArrayLike | None = None, *, seed: int = 0, resamples: int = 1000
    ) -> Ends:
        """1 - error / the other's error: 1 is perfect, 0 no better than the other. UserError if the metric is not an error."""
        return self._whole(self._skill(name), name, other, groups, seed, resamples)

    def skill_by_lead(
        self, name: str, other: FrameScores, groups: ArrayLike | None = None, *, seed: int = 0, resamples: int = 1000
    ) -> EndsByLead:
        """The skill at each lead: its values, low ends and high ends, (T,) each."""
        return self._paired(self._skill(name), name, other, groups, seed, resamples)

    def _whole(
        self, compare: _Compare, name: str, other: FrameScores, groups: ArrayLike | None, seed: int, resamples: int
    ) -> Ends:
        (value,), (low,), (high,) = self._paired(compare, name, other, groups, seed, resamples, leads=False)
        return float(value), float(low), float(high)

    def _paired(
        self,
        compare: _Compare,
        name: str,
        other: FrameScores,
        groups: ArrayLike | None,
        seed: int,
        resamples: int,
        leads: bool = True,
    ) -> EndsByLead:
        metric, pair = self._metric(name), [self._sums(name), other._sums(name)]
        if pair[0].shape != pair[1].shape:
            raise DataError(f"{name}: sums of shape {pair[0].shape} (window, lead, k) do not match {pair[1].shape}")
        if not leads:
            pair = [sums.sum(axis=1, keepdims=True) for sums in pair]

        def compared(mine: Values, theirs: Values) -> Values:  # (..., T, k) each
            return compare(metric.value(mine), metric.value(theirs))

        low, high = _ends(compared, pair, groups, seed, resamples)
        return compared(*(sums.sum(axis=0) for sums in pair)), low, high

    def _skill(self, name: str) -> _Compare:
        if self._metric(name).higher_is_better:
            raise UserError(f"skill: '{name}' is not an error metric; use the difference")
        return _less_error

    def _metric(self, name: str) -> FrameMetric:
        return pick(self.metrics, name, "metric")

    def _first_of(self) -> dict[Measure, str]:
        """Each measure once, with the first metric that uses it: mse, mae, rmse and psnr share their sums."""
        return {metric.measure: name for name, metric in reversed(self.metrics.items())}

    def _sums(self, name: str) -> Values:
        rows = self._rows[self._first_of()[self._metric(name).measure]]
        if not rows:
            raise DataError(f"{name}: no windows have been scored")
        if len(rows) > 1:
            rows[:] = [np.concatenate(rows)]
        return rows[0]


_Compare = Callable[[Values, Values], Values]


def _errors(forecast: Frames, truth: Frames, *, data_range: float) -> Tensor:
    """Squared and absolute errors, number of cells, number of frames with known cells, and their PSNR: (N, T, 5)."""
    guess, seen, known = _masked(forecast, truth, "mse")
    apart = guess - seen
    squares, cells = apart.square().sum(_FRAME), known.sum(_FRAME).double()
    frames = (cells > 0).double()
    least = data_range**2 * 10 ** (-_MOST_DB / 10)
    decibels = 10 * torch.log10(data_range**2 / (squares / cells.clamp(min=1)).clamp(min=least))
    return torch.stack([squares, apart.abs().sum(_FRAME), cells, frames, decibels * frames], dim=-1)


def _similarity(forecast: Frames, truth: Frames, **window: object) -> Tensor:
    """SSIM summed over the channels' frames, and the number of frames that have one: (N, T, 2)."""
    guess, seen = _pair(forecast, truth, "ssim")
    if min(seen.shape[-2:]) < int(str(window["size"])):
        return seen.new_zeros(len(seen), seen.shape[2], 2)
    each = mean_ssim(guess, seen, **window)  # type: ignore[arg-type]  # (N, C, T)
    there = ~torch.isnan(each)
    return torch.stack([torch.where(there, each, 0.0).sum(dim=1), there.sum(dim=1).double()], dim=-1)


def _fine_power(forecast: Frames, truth: Frames) -> Tensor:
    """Power of forecast and truth in the highest third of wavenumbers: (N, T, 2)."""
    guess, seen = _pair(forecast, truth, "sharpness")
    powers = [radial_power(f) for f in (torch.where(torch.isnan(seen), math.nan, guess), seen)]  # (N, C, T, bins) each
    bins = torch.arange(powers[0].shape[-1], device=seen.device)
    fine = 3 * bins > 2 * (len(bins) - 1)
    return torch.stack([power[..., fine].sum(dim=(1, 3)) for power in powers], dim=-1)


def _events(forecast: Frames, truth: Frames, *, threshold: float, scales: tuple[int, ...]) -> Tensor:
    """Hits, misses, false alarms, and for each scale the squared differences and squares of fractions: (N, T, 3 + 2 scales)."""
    guess, seen, known = _masked(forecast, truth, "csi")
    predicted, was = ((frames >= threshold) & known for frames in (guess, seen))
    counts = [(predicted & was).sum(_FRAME), (~predicted & was).sum(_FRAME), (predicted & ~was).sum(_FRAME)]
    tables = [_corner_sums(events) for events in (predicted, was)]
    for scale in scales:
        a, b = (_shares(table, scale) * known for table in tables)
        counts += [(a - b).square().sum(_FRAME), a.square().sum(_FRAME) + b.square().sum(_FRAME)]
    return torch.stack([count.double() for count in counts], dim=-1)


def _corner_sums(events: Tensor) -> Tensor:
    """Number of events above and left of each cell corner, (..., row + 1, column + 1)."""
    sums = events.new_zeros(*events.shape[:-2], events.shape[-2] + 1, events.shape[-1] + 1, dtype=torch.int32)
    sums[..., 1:, 1:] = events.int().cumsum(dim=-1, dtype=torch.int32).cumsum(dim=-2, dtype=torch.int32)
    return sums


def _shares(sums: Tensor, scale: int) -> Tensor:
    """Share of events in the scale x scale cells around each cell, (..., row, column); there are none beyond the frame."""
    reach = scale // 2
    for axis in (-2, -1):
        size = sums.shape[axis] - 1
        low, high = sums.narrow(axis, 0, size), sums.narrow(axis, 1, size)
        if reach:
            place = torch.arange(size, device=sums.device)
            low, high = (
                sums.index_select(axis, at) for at in ((place - reach).clamp(min=0), (place + reach + 1).clamp(max=size))
            )
        sums = high - low
    return sums.double() / scale**2


def _event_metrics(threshold: float, scales: tuple[int, ...]) -> dict[str, FrameMetric]:
    if not math.isfinite(threshold):
        raise UserError(f"thresholds: {threshold} is not a number")
    measure = partial(_events, threshold=threshold, scales=scales)
    metrics = {
        f"csi-{threshold:g}": FrameMetric(measure, partial(_ratio, over=(0,), under=(0, 1, 2)), True),
        f"bias-{threshold:g}": FrameMetric(measure, partial(_ratio, over=(0, 2), under=(0, 1)), True),
    }
    for place, scale in enumerate(scales):
        value = partial(_skill_of_fractions, at=3 + 2 * place)
        metrics[f"fss-{threshold:g}-{scale}"] = FrameMetric(measure, value, True)
    return metrics


def _ratio(sums: ArrayLike, *, over: tuple[int, ...], under: tuple[int, ...]) -> Values:
    """The sums `over` divided by the sums `under`, NaN where these are 0."""
    parts = np.asarray(sums, np.float64)
    top, bottom = parts[..., list(over)].sum(axis=-1), parts[..., list(under)].sum(axis=-1)
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan)


def _root_mean(sums: ArrayLike) -> Values:
    return np.sqrt(_ratio(sums, over=(0,), under=(2,)))


def _skill_of_fractions(sums: ArrayLike, *, at: int) -> Values:
    return 1.0 - _ratio(sums, over=(at,), under=(at + 1,))


def _less_error(mine: Values, theirs: Values) -> Values:
    return np.where(theirs > 0, 1.0 - mine / np.where(theirs > 0, theirs, 1.0), np.nan)


def _ends(
    function: Callable[..., Values],
    rows: Sequence[Values],
    groups: ArrayLike | None,
    seed: int,
    resamples: int,
    positive: bool = False,
) -> tuple[Values, Values]:
    """2.5 and 97.5 % quantiles of a function of sums (R, T, k), with the same windows or groups resampled for all `rows`.

    positive: the function is of errors, whose interval from few units is that of the logarithm, as they are skew.
    """
    by_unit = [_by_group(sums, groups) for sums in rows]
    if len(by_unit[0]) < FEWEST_UNITS:
        if not positive:
            return _jackknife(function, by_unit)
        low, high = _jackknife(lambda *sums: _logarithm(function(*sums)), by_unit)
        return np.exp(low), np.exp(high)
    drawn = [function(*(np.tensordot(w, sums, 1) for sums in by_unit)) for w in _draws(len(by_unit[0]), resamples, seed)]
    return _quantiles(np.concatenate(drawn))


def _jackknife(function: Callable[..., Values], by_unit: Sequence[Values]) -> tuple[Values, Values]:
    """Ends of the 95 % interval from leaving out one unit (window or group) after the other, with Student's t."""
    count = len(by_unit[0])
    value = function(*(sums.sum(axis=0, keepdims=True) for sums in by_unit))[0]
    if count < LEAST_UNITS:
        return np.full_like(value, np.nan), np.full_like(value, np.nan)
    without = function(*(sums.sum(axis=0) - sums for sums in by_unit))  # (unit, ...)
    error = np.sqrt((count - 1) / count * np.square(without - without.mean(axis=0)).sum(axis=0))
    reach = _student(count - 1) * error
    return value - reach, value + reach


def _over_leads(value: Callable[[ArrayLike], Values], sums: Values) -> Values:
    return value(sums.sum(axis=1))


def _logarithm(values: Values) -> Values:
    """NaN where an error is 0: nothing can be said of how far it varies."""
    return np.where(values > 0, np.log(np.where(values > 0, values, 1.0)), np.nan)


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t."""
    return float(special.stdtrit(freedom, 0.975))


def _by_group(rows: Values, groups: ArrayLike | None) -> Values:
    """Sums of each group, (group, T, k)."""
    if groups is None:
        return rows
    names = np.asarray(groups)
    if names.shape != rows.shape[:1]:
        raise DataError(f"scores: groups of shape {names.shape} do not match {plural(len(rows), 'window')}")
    numbers = np.unique(names, return_inverse=True)[1]
    sums = np.zeros((numbers.max() + 1, *rows.shape[1:]))
    np.add.at(sums, numbers, rows)
    return sums


def _draws(units: int, resamples: int, seed: int) -> Iterator[Values]:
    """Yield resampling weights (some R, unit): how often each unit was drawn."""
    rng = np.random.default_rng(seed)
    together = max(1, _WEIGHTS // units)
    for start in range(0, resamples, together):
        size = min(together, resamples - start)
        yield rng.multinomial(units, np.full(units, 1 / units), size=size).astype(np.float64)


def _quantiles(drawn: Values) -> tuple[Values, Values]:
    """Interval ends over the first axis, from the resamples in which the metric is defined."""
    defined = ~np.isnan(drawn)
    filled = np.where(defined.any(axis=0), drawn, 0.0)  # a column of NaN would warn
    low, high = (np.where(defined.any(axis=0), ends, np.nan) for ends in np.nanquantile(filled, [0.025, 0.975], axis=0))
    return low, high


_FRAME = (1, 3, 4)  # channel, row, column of (N, C, T, row, column)


def _masked(forecast: Frames, truth: Frames, place: str) -> tuple[Tensor, Tensor, Tensor]:
    """Forecast and truth, 0 where the truth is missing, and a mask of known truth."""
    guess, seen = _pair(forecast, truth, place)
    known = ~torch.isnan(seen)
    return torch.where(known, guess, 0.0), torch.where(known, seen, 0.0), known


def _pair(forecast: Frames, truth: Frames, place: str, first: int = 0) -> tuple[Tensor, Tensor]:
    """Both as float64; DataError if the forecast is not finite where the truth is known. first: number of the first window."""
    _check_shapes(forecast, truth, place)
    seen = _doubles(truth)
    guess = _doubles(forecast).to(seen.device)
    bad = ~torch.isfinite(guess) & ~torch.isnan(seen)
    if bool(bad.any()):
        window, _, lead, row, column = bad.nonzero()[0].tolist()
        raise DataError(
            f"{place}: the forecast of window {first + window} at lead {lead + 1}, row {row}, column {column} is "
            f"{guess[bad][0].item()}; expected a number where the truth has one"
        )
    return guess, seen


def _check_shapes(forecast: Frames, truth: Frames, place: str) -> None:
    if tuple(forecast.shape) != tuple(truth.shape) or truth.ndim != 5:
        raise DataError(
            f"{place}: a forecast of shape {tuple(forecast.shape)} does not match a truth of shape {tuple(truth.shape)}; "
            "expected (window, channel, lead, row, column) for both"
        )


def _doubles(frames: Frames) -> Tensor:
    if isinstance(frames, Tensor):
        return frames.detach().double()
    return torch.from_numpy(np.array(frames, np.float64))


def _odd(scales: Sequence[int]) -> tuple[int, ...]:
    for scale in scales:
        if scale < 1 or scale % 2 == 0:
            raise UserError(f"scales: {scale} is not an odd number of cells")
    return tuple(scales)
