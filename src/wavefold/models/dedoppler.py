"""The classical search for needles: sums along every drifting line, ON against OFF; the baseline that a net must beat.

Each panel is cleaned (levels of rows and columns, then the few profiles that rows share), lines of every whole drift are
summed, and a track runs on one clock through the six panels. Its score is the S/N of one, two or all three ON panels, less what
OFF panels hold beside the track or in the same columns. What differs from turboSETI: every drift is summed exactly, ON
panels add up, and a needle may leave the window.

Panels of few rows, such as the 16 of the telescope's finest products, are cleaned by what their OFF panels show: a line that
crosses a column or two within a panel would there count as that column's own level.

Legend: N cadences, 6 panels, T rows (time), F columns (frequency), D drifts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wavefold.base.cadence import OFF, ON, PANELS
from wavefold.base.dataset import Ints
from wavefold.base.errors import UserError
from wavefold.base.files import write_json
from wavefold.base.lazy import Signals, part_of
from wavefold.base.written_out import lower_median, orthonormal, own_axes
from wavefold.models.drift_lines import line_drifts, line_rows, line_shifts, sums_by_drift
from wavefold.models.drift_net import DriftSearch
from wavefold.models.linear import stratified

_BLOCK = 16  # cadences at a time: 96 panels side by side make each sum of lines one long addition
_MANY = 128  # rows from which on each panel tells its columns' levels by itself
_EVERY = 4  # rows or columns of which a first level is the median; a clipped mean of all of them follows
_MILD = 2.5  # residual sigma at which that mean clips
_PROFILES = 8  # most profiles over frequency that are taken out of a cadence
_TURNS = 3  # of the subspace iteration that finds them
_EDGE = 1.1  # above the largest power that white noise gives a profile
_SLIM = 16.0  # columns that a line of few rows fills in a profile, at most
_ON_ONLY = 0.25  # of the power that such a profile has in ON: less in OFF and it may be a needle
_LOUD = 30.0  # residual sigma at which a value no longer adds to a profile
_CLIP = 6.0  # residual sigma at which a value no longer adds to a line
_FEWEST = 20  # rows inside the panel that a line needs, of 273
_QUIET = 3.0  # S/N that OFF panels may hold for nothing
_PENALTY = 3.0  # of each S/N above that: more than the sqrt(3) that three ON panels together gain on one OFF panel
_BESIDE = 8  # columns either side of the track in which OFF panels are looked at
_FINER = (-1, 0, 1)  # thirds of a drift by which tracks differ from panel to panel
_SAMPLES = 2000  # cadences from which the map to probabilities is fitted
_STRENGTH = 1e-3  # of shrinkage of its slope
_FAINTEST = 0.1  # least score that has a logarithm here
_LEAST = 8  # rows and columns of a panel
_STEEPEST = 4.0  # bins a row


@dataclass(frozen=True)
class Tracks:
    """The best track of each cadence."""

    score: Tensor  # (N,) S/N of ON less the penalty of OFF
    drift: Tensor  # (N,) bins a row
    column: Tensor  # (N,) bin at the middle row of the first ON panel that counts
    panel: Tensor  # (N,) number of that panel: 0, 2 or 4
    snr: Tensor  # (N,) S/N of the ON panels that count, without penalty


def clean(cadences: Tensor) -> Tensor:
    """Cadences (N, 6, T, F) less rows' and columns' levels and shared profiles, in residual sigma; loud columns weigh less.

    Each panel may have a scale of its own. Levels are medians of every fourth row or column, then clipped means of all.
    Profiles are right singular vectors of all six panels' rows whose power is above that of noise: carriers and blocks,
    modulated as they may be. A line that drifts by more columns than there are profiles stays. Of few rows, the OFF panels
    tell the columns' levels and loudness for all six, and slim profiles that only ON panels hold stay.
    """
    rows = cadences.shape[2]
    values = cadences / _sigma(cadences.flatten(0, 1)).view(-1, PANELS, 1, 1)
    values = values - lower_median(values[..., ::_EVERY], 3, keepdim=True)
    values = values - lower_median(_telling(values)[:, :, :: _EVERY if rows >= _MANY else 1], 2, keepdim=True)
    values = _without_profiles(_levelled(values).flatten(1, 2), rows).view(cadences.shape)
    values = _levelled(values).clamp(-_CLIP, _CLIP)
    return values / _telling(values).square().mean(2, keepdim=True).clamp(min=1)


def best_tracks(cadences: Tensor, *, drift: float = 0.5) -> Tracks:
    """The best track of each of cadences (N, 6, T, F), of up to `drift` bins a row either way."""
    if cadences.ndim != 4 or cadences.shape[1] != PANELS or min(cadences.shape[2:]) < _LEAST:
        shape = list(cadences.shape[1:])
        raise UserError(f"dedoppler: signals of shape {shape}; it needs [{PANELS}, rows, columns] of {_LEAST} or more")
    if not len(cadences):
        return Tracks(*(torch.zeros(0) for _ in range(5)))
    found = [_search(clean(part), drift) for part in torch.split(cadences, _BLOCK)]
    return Tracks(*(torch.cat(values) for values in zip(*found, strict=True)))


class DeDoppler:
    """The search as a classifier of two classes: a rising logistic map from the logarithm of its score to a probability."""

    def __init__(self, *, seed: int, drift: float = 0.5) -> None:
        if not 0 < drift <= _STEEPEST:
            raise UserError(f"dedoppler: drift {drift} bins a row; it must be above 0 and at most {_STEEPEST}")
        self.seed, self.drift = seed, drift
        self.slope, self.bias = math.nan, math.nan

    def fit(self, signals: Signals, labels: Ints, classes: int) -> Self:
        """Fit the map on signals (sample, 6, row, column); of more than 2,000 a stratified part is searched."""
        if classes != 2:
            raise UserError(f"dedoppler: {classes} classes; it tells needle from none, so it needs 2")
        if len(labels) > _SAMPLES:
            kept = stratified(labels, _SAMPLES, np.random.default_rng(self.seed))
            signals, labels = part_of(signals, kept), labels[kept]
        self.slope, self.bias = _logistic(self._logarithms(signals), labels)
        return self

    def probabilities(self, signals: Signals) -> NDArray[np.float64]:
        """Class probabilities (sample, class) of signals (sample, 6, row, column)."""
        self._need_fitted()
        needle = 1 / (1 + np.exp(-(self.slope * self._logarithms(signals) + self.bias)))
        return np.stack([1 - needle, needle], 1)

    def save(self, folder: Path) -> None:
        """Write the options and the map to dedoppler.json."""
        self._need_fitted()
        kept = {"seed": self.seed, "drift": self.drift, "slope": self.slope, "bias": self.bias}
        write_json(folder / "dedoppler.json", kept)

    def module(self, shape: Sequence[int]) -> nn.Module:
        """`probabilities` in torch: signals (N, 6, row, column) to (N, 2) float64. shape: (6, rows, columns)."""
        self._need_fitted()
        drifts = line_drifts(shape[1], self.drift)
        places = [[_places(drift, finer, shape[1]) for finer in _FINER] for drift in drifts]
        given: dict[str, Any] = {"clean": clean, "on_and_off": _on_and_off, "together": _together, "places": places}
        return _Judged(DriftSearch(shape, drifts, fewest=_FEWEST, **given), self.slope, self.bias)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The classifier that `save` wrote."""
        kept = json.loads((folder / "dedoppler.json").read_text())
        made = cls(seed=kept["seed"], drift=kept["drift"])
        made.slope, made.bias = kept["slope"], kept["bias"]
        return made

    def _need_fitted(self) -> None:
        if math.isnan(self.slope):
            raise UserError("dedoppler: not fitted yet; call fit first")

    def _logarithms(self, signals: Signals) -> NDArray[np.float64]:
        """(sample,) logarithms of the scores, which start at a little above 0."""
        with torch.inference_mode():
            starts = range(0, max(len(signals), 1), _BLOCK)
            blocks = (torch.from_numpy(np.ascontiguousarray(signals[n : n + _BLOCK], np.float32)) for n in starts)
            scores = torch.cat([best_tracks(block, drift=self.drift).score for block in blocks])
        return np.asarray(np.log(np.maximum(scores.double().numpy(), _FAINTEST)), np.float64)


class _Judged(nn.Module):
    """Scores of the search (N,) to probabilities (N, 2) float64; `front` is the same whatever was fitted."""

    def __init__(self, search: nn.Module, slope: float, bias: float) -> None:
        super().__init__()
        self.search, self.slope, self.bias = search, slope, bias

    def forward(self, signals: Tensor) -> Tensor:
        return self.answer(*self.front(signals))

    def front(self, signals: Tensor) -> tuple[Tensor]:
        """The logarithms of the scores, (N,) float64."""
        scores: Tensor = self.search(signals)
        return (scores.double().clamp(min=_FAINTEST).log(),)

    def answer(self, logarithms: Tensor) -> Tensor:
        """Probabilities (N, 2) of the scores' logarithms."""
        needle = (self.slope * logarithms + self.bias).sigmoid()
        return torch.stack([1 - needle, needle], 1)


def _sigma(panels: Tensor) -> Tensor:
    """The white residual's standard deviation of panels (N, T, F), from second differences over row and column, (N,)."""
    even = panels[:, : panels.shape[1] // 2 * 2, : panels.shape[2] // 2 * 2]
    pairs = even[:, ::2] - even[:, 1::2]
    mixed = pairs[..., ::2] - pairs[..., 1::2]  # four values each: twice the residual
    return (lower_median(mixed[:, ::_EVERY].flatten(1).abs(), 1) * (1.4826 / 2)).clamp(min=1e-6)


def _telling(values: Tensor) -> Tensor:
    """The rows that tell the columns of cadences (N, 6, T, F): each panel's own, all of them; of few, (N, 1, 3 T, F) of OFF."""
    return values if values.shape[2] >= _MANY else values[:, list(OFF)].flatten(1, 2)[:, None]


def _levelled(values: Tensor) -> Tensor:
    """Cadences (N, 6, T, F) less the clipped mean of each row, then of each column."""
    values = values - values.clamp(-_MILD, _MILD).mean(3, keepdim=True)
    return values - _telling(values).clamp(-_MILD, _MILD).mean(2, keepdim=True)


def _without_profiles(rows: Tensor, each: int) -> Tensor:
    """Rows (N, row, F), of panels of `each`, less their part along the few profiles over frequency that stand out of noise."""
    _, count, columns = rows.shape
    loud = rows.clamp(-_LOUD, _LOUD)
    power = (loud.transpose(1, 2) @ loud).double()  # (N, F, F); weak profiles are lost in the rounding of strong ones
    axes = torch.eye(columns, min(_PROFILES, columns // 4)).to(power)
    axes = power[:, :, :: columns // axes.shape[1]][:, :, : axes.shape[1]] + axes  # a first guess, the same at every call
    for _ in range(_TURNS):
        axes = orthonormal(power @ axes)
    inner, turn = own_axes(axes.transpose(1, 2) @ power @ axes)
    white = (math.sqrt(count) + math.sqrt(columns)) ** 2  # the largest power of pure noise (Marchenko and Pastur)
    axes = (axes @ turn).to(rows.dtype)
    known = inner > _EDGE * white  # (N, profile)
    if each < _MANY:
        known = known & ~_like_needles(axes, (rows @ axes).view(-1, PANELS, each, axes.shape[2]))
    axes = axes * known[:, None, :]
    return torch.baddbmm(rows, rows @ axes, axes.transpose(1, 2), alpha=-1)


def _like_needles(axes: Tensor, along: Tensor) -> Tensor:
    """Which profiles (N, F, profile) are slim and in ON panels only, by the rows' parts along them (N, 6, T, profile)."""
    on, off = (along[:, list(panels)].square().mean((1, 2)) for panels in (ON, OFF))
    return (axes.pow(4).sum(1) > 1 / _SLIM) & (off < _ON_ONLY * on)


def _search(cadences: Tensor, drift: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Score, drift, column, panel and S/N (as `Tracks`) of cleaned cadences (N, 6, T, F)."""
    count, _, rows, columns = cadences.shape
    drifts = line_drifts(rows, drift)
    sums = sums_by_drift(cadences.permute(2, 3, 1, 0).reshape(rows, columns, -1), drifts)  # (D, F, 6 N)
    inside = line_rows(rows, columns, drifts).to(sums)
    sums *= torch.where(inside >= min(_FEWEST, rows), inside.clamp(min=1).rsqrt(), 0)[:, :, None]  # now S/N
    sums = sums.view(len(drifts), columns, PANELS, count)
    best = [found for d, snr in zip(drifts, sums, strict=True) for found in _best(snr, d, rows)]
    score, which = torch.stack([values for values, _ in best]).max(0)
    start = torch.stack([starts for _, starts in best])[which, torch.arange(count)]
    return _described(sums, drifts, rows, score, which, start)


def _places(drift: int, finer: int, rows: int) -> list[int]:
    """Where each panel's first column goes for one track to stand in one place, 0 or more, `finer` thirds beyond a drift."""
    moved = [math.floor(panel * (drift + finer / 3) * rows / max(rows - 1, 1) + 0.5) for panel in range(PANELS)]
    return [max(moved) - m for m in moved]


def _best(snr: Tensor, drift: int, rows: int) -> list[tuple[Tensor, Tensor]]:
    """The best score and its place, (N,) each, for each third of a drift: S/N (F, 6, N).

    Over six panels a third of a drift moves a track by up to two columns, within a panel by none that matters.
    """
    columns, _, count = snr.shape
    on, off = _on_and_off(snr)
    found = []
    for finer in _FINER:
        places = _places(drift, finer, rows)
        padded = snr.new_zeros(columns + max(places), PANELS, count)
        for panel, place in enumerate(places):
            padded[place : place + columns, panel] = on[:, panel // 2] if panel in ON else off[:, panel // 2]
        first, second, third = (padded[:, panel] for panel in ON)
        best = (_together(first, second, third) - padded[:, 1::2].amax(1)).max(0)  # less what drifts along
        found.append((best.values, best.indices))
    return found


def _on_and_off(snr: Tensor) -> tuple[Tensor, Tensor]:
    """What ON panels have left of S/N (..., F, 6, N), and what OFF panels take off it near each column; (..., F, 3, N) both."""
    off = _widest(snr[..., 1::2, :])  # the largest near each column
    off = (off - _QUIET).clamp_(min=0).mul_(_PENALTY)
    return snr[..., ::2, :] - off.amax(-2, keepdim=True), off  # less what stays in its columns


def _together(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """The largest S/N that one, two or all three panels have together."""
    total = first + second + third
    least = torch.minimum(torch.minimum(first, second), third)
    most = torch.maximum(torch.maximum(first, second), third)
    return torch.maximum(torch.maximum(most, (total - least) * 2**-0.5), total * 3**-0.5)


def _widest(values: Tensor) -> Tensor:
    """The largest of `_BESIDE` columns either side of each; values: (..., F, 3, N)."""
    columns, reach = values.shape[-3], 1
    values = F.pad(values, (0, 0, 0, 0, _BESIDE, _BESIDE))
    while reach < 2 * _BESIDE + 1:  # windows of 2, 4, 8, ... columns
        step = min(reach, 2 * _BESIDE + 1 - reach)
        values, reach = torch.maximum(values[..., :-step, :, :], values[..., step:, :, :]), reach + step
    return values[..., :columns, :, :]


def _described(
    sums: Tensor, drifts: Sequence[int], rows: int, score: Tensor, which: Tensor, start: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The tracks of these scores: S/N (D, F, 6, N), number of the third of a drift and place of the start (N,), as `Tracks`."""
    places = torch.tensor([_places(d, finer, rows) for d in drifts for finer in _FINER])[which][:, list(ON)]  # (N, 3)
    moved = (torch.tensor(drifts)[:, None] + torch.tensor(_FINER) / 3).flatten()[which] / max(rows - 1, 1)
    which = which // len(_FINER)
    columns = start[:, None] - places  # of each ON panel's first row
    there = (columns >= 0) & (columns < sums.shape[1])
    sample = torch.arange(len(score))[:, None]
    values = sums[which[:, None], columns.clamp(0, sums.shape[1] - 1), torch.tensor(ON), sample]
    order = torch.where(there, values, 0).sort(1, descending=True)
    together = order.values.cumsum(1) / torch.arange(1, 4).sqrt()
    snr, last = together.max(1)  # of the best one, two or three
    counts = torch.arange(3) <= last[:, None]
    first = torch.where(counts, order.indices, len(ON)).min(1).values
    middle = torch.tensor([line_shifts(rows, [d])[0, rows // 2].item() for d in drifts])[which]
    column = columns.gather(1, first[:, None])[:, 0] + middle
    return score, moved, column, torch.tensor(ON)[first], snr


def _logistic(values: NDArray[np.float64], labels: Ints) -> tuple[float, float]:
    """Slope (0 or more) and bias of the least mean log loss of labels 0 and 1, by Newton's steps with a little shrinkage."""
    design, truth = np.stack([values, np.ones_like(values)], 1), (labels == 1).astype(np.float64)
    middle = np.clip(truth.mean(), 1e-3, 1 - 1e-3)
    flat = 0.0, float(np.log(middle / (1 - middle)))
    weights, shrink = np.array(flat), np.diag([_STRENGTH, 0.0])
    for _ in range(50):
        share = 1 / (1 + np.exp(-design @ weights))
        pull = design.T @ (share - truth) / len(truth) + shrink @ weights
        bend = (design * (share * (1 - share))[:, None]).T @ design / len(truth) + shrink + 1e-9 * np.eye(2)
        step = np.linalg.solve(bend, pull)
        weights = weights - step * min(1.0, 2.0 / float(np.abs(step).max() + 1e-12))
    return (float(weights[0]), float(weights[1])) if weights[0] > 0 else flat
