"""De-Doppler search: the classical needle search, sums along drifting lines, ON against OFF; the baseline a net must beat.

Each panel is cleaned (row and column levels, then the few frequency profiles that rows share), lines of every integer drift are
summed, and a track is followed on one clock through the six panels. Its score is the S/N of one, two or all three ON panels,
minus a penalty for signal in OFF panels near the track or in the same columns. Differences from turboSETI: every drift is
summed exactly, ON panels are combined, and a needle may leave the window.

Panels with few rows, such as the 16 of the telescope's finest products, are cleaned with statistics of their OFF panels: a line
that crosses only a column or two within a panel would otherwise be removed as part of those columns' levels.

Legend: N cadences, 6 panels, T rows (time), F columns (frequency), D drifts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wavefold.core.compiled import has_numba
from wavefold.core.errors import UserError
from wavefold.core.files import write_json
from wavefold.core.onnx_ops import eigh, lower_median, orthonormal
from wavefold.core.registry import later
from wavefold.data.dataset import Floats, Ints
from wavefold.data.lazy import Signals, part_of
from wavefold.domains.radio.cadence import OFF, ON, PANELS
from wavefold.domains.radio.drift_lines import joints_of, line_drifts, line_rows, line_shifts, sums_by_drift
from wavefold.domains.radio.drift_net import DriftSearch
from wavefold.models.linear import stratified

drift_kernel = later("wavefold.domains.radio.drift_kernel")  # needs Numba

_BLOCK = 16  # cadences per block: with 96 panels side by side each sum of lines is one long addition
_MANY = 128  # minimum rows for estimating column levels from each panel alone
_EVERY = 4  # stride of the rows or columns in the first level, a median; a clipped mean of all of them follows
_MILD = 2.5  # residual sigma at which that mean clips
_PROFILES = 8  # maximum number of frequency profiles removed from a cadence
_TURNS = 3  # subspace iterations to find them
_EDGE = 1.1  # power threshold of a profile, relative to the largest power of white noise
_SLIM = 16.0  # maximum columns that a line of few rows fills in a profile
_ON_ONLY = 0.25  # a slim profile whose OFF power is below this fraction of its ON power may be a needle
_LOUD = 30.0  # residual sigma at which values are clipped when finding profiles
_CLIP = 6.0  # residual sigma at which values are clipped when summing lines
FEWEST = 20  # minimum rows of a line inside the panel, of 273
_QUIET = 3.0  # S/N in OFF panels below which there is no penalty
_PENALTY = 3.0  # per S/N above that: more than the sqrt(3) that three ON panels together gain on one OFF panel
_BESIDE = 8  # columns on either side of the track in which OFF panels are checked
FINER = (-1, 0, 1)  # thirds of a drift step by which tracks shift from panel to panel
_SAMPLES = 2000  # maximum cadences used to fit the map to probabilities
_STRENGTH = 1e-3  # L2 penalty on its slope
_FAINTEST = 0.1  # scores are raised to this before the logarithm
_LEAST = 8  # minimum rows and columns of a panel
MOST = 16.0  # maximum drift, bins per row


@dataclass(frozen=True)
class Tracks:
    """The best track of each cadence."""

    score: Tensor  # (N,) S/N of ON minus the penalty of OFF
    drift: Tensor  # (N,) bins per row
    column: Tensor  # (N,) bin at the middle row of the first ON panel used in the score
    panel: Tensor  # (N,) number of that panel: 0, 2 or 4
    snr: Tensor  # (N,) S/N of the ON panels used in the score, without penalty


def clean(cadences: Tensor) -> Tensor:
    """Remove row and column levels and shared profiles from cadences (N, 6, T, F); result in residual sigma.

    Noisy columns are downweighted. Each panel may have its own scale. Levels are medians of every fourth row or column, then
    clipped means of all. Profiles are right singular vectors of all six panels' rows with more power than noise: carriers
    and blocks, modulated or not. A line that drifts across more columns than there are profiles is kept. With few rows, the
    OFF panels set column levels and noise for all six, and slim profiles found only in ON panels are kept.
    """
    rows = cadences.shape[2]
    values = cadences / _sigma(cadences.flatten(0, 1)).view(-1, PANELS, 1, 1)
    values = values - lower_median(values[..., ::_EVERY], 3, keepdim=True)
    values = values - lower_median(_telling(values)[:, :, :: _EVERY if rows >= _MANY else 1], 2, keepdim=True)
    values = _without_profiles(_levelled(values).flatten(1, 2), rows).view(cadences.shape)
    values = _levelled(values).clamp(-_CLIP, _CLIP)
    return values / _telling(values).square().mean(2, keepdim=True).clamp(min=1)


def best_tracks(cadences: Tensor, *, drift: float = 0.5) -> Tracks:
    """The best track of each cadence in (N, 6, T, F), with a drift of up to `drift` bins per row in either direction."""
    if cadences.ndim != 4 or cadences.shape[1] != PANELS or min(cadences.shape[2:]) < _LEAST:
        shape = list(cadences.shape[1:])
        raise UserError(
            f"dedoppler: got signals of shape {shape}; expected [{PANELS}, rows, columns], at least {_LEAST} of each"
        )
    if not len(cadences):
        return Tracks(*(torch.zeros(0) for _ in range(5)))
    found = [_search(clean(part), drift) for part in torch.split(cadences, _BLOCK)]
    return Tracks(*(torch.cat(values) for values in zip(*found, strict=True)))


class DeDoppler:
    """The search as a binary classifier: an increasing logistic map from the log of its score to a probability."""

    def __init__(self, *, seed: int, drift: float = 0.5) -> None:
        if not 0 < drift <= MOST:
            raise UserError(f"dedoppler: drift is {drift} bins per row; it must be above 0 and at most {MOST}")
        self.seed, self.drift = seed, drift
        self.slope, self.bias = math.nan, math.nan

    def fit(self, signals: Signals, labels: Ints, classes: int) -> Self:
        """Fit the map on signals (sample, 6, row, column), or on a stratified subset of about 2,000 if there are more."""
        if classes != 2:
            raise UserError(
                f"dedoppler: got {classes} class{'es' if classes != 1 else ''}; it needs 2, without and with needle"
            )
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
        """`probabilities` as a torch module: signals (N, 6, row, column) to (N, 2) float64. shape: (6, rows, columns)."""
        self._need_fitted()
        drifts = line_drifts(shape[1], self.drift)
        places = [[track_places(drift, finer, shape[1]) for finer in FINER] for drift in drifts]
        search = DriftSearch(shape, drifts, fewest=FEWEST, clean=clean, on_and_off=on_and_off, together=together, places=places)
        return _Judged(search, self.slope, self.bias)

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
        """Logarithms of the scores (sample,), with scores raised to a small positive minimum."""
        with torch.inference_mode():
            starts = range(0, max(len(signals), 1), _BLOCK)
            blocks = (torch.from_numpy(np.ascontiguousarray(signals[n : n + _BLOCK], np.float32)) for n in starts)
            scores = torch.cat([best_tracks(block, drift=self.drift).score for block in blocks])
        return np.asarray(np.log(np.maximum(scores.double().numpy(), _FAINTEST)), np.float64)


class _Judged(nn.Module):
    """Maps search scores (N,) to probabilities (N, 2) float64; `front` does not depend on the fit."""

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
        """Probabilities (N, 2) from the logarithms of the scores."""
        needle = (self.slope * logarithms + self.bias).sigmoid()
        return torch.stack([1 - needle, needle], 1)


def _sigma(panels: Tensor) -> Tensor:
    """Standard deviation (N,) of the white residual of panels (N, T, F), from second differences over row and column."""
    even = panels[:, : panels.shape[1] // 2 * 2, : panels.shape[2] // 2 * 2]
    pairs = even[:, ::2] - even[:, 1::2]
    mixed = pairs[..., ::2] - pairs[..., 1::2]  # four values each: twice the residual
    return (lower_median(mixed[:, ::_EVERY].flatten(1).abs(), 1) * (1.4826 / 2)).clamp(min=1e-6)


def _telling(values: Tensor) -> Tensor:
    """Rows for the column statistics of cadences (N, 6, T, F): each panel's own, or if few, all OFF rows (N, 1, 3 T, F)."""
    return values if values.shape[2] >= _MANY else values[:, list(OFF)].flatten(1, 2)[:, None]


def _levelled(values: Tensor) -> Tensor:
    """Subtract the clipped mean of each row, then of each column, from cadences (N, 6, T, F)."""
    values = values - values.clamp(-_MILD, _MILD).mean(3, keepdim=True)
    return values - _telling(values).clamp(-_MILD, _MILD).mean(2, keepdim=True)


def _without_profiles(rows: Tensor, each: int) -> Tensor:
    """Rows (N, row, F), `each` per panel, minus their projection on the few frequency profiles that exceed the noise."""
    _, count, columns = rows.shape
    loud = rows.clamp(-_LOUD, _LOUD)
    power = (
        loud.transpose(1, 2) @ loud
    ).double()  # (N, F, F); in float32 weak profiles would drown in the rounding of strong ones
    axes = torch.eye(columns, min(_PROFILES, columns // 4)).to(power)
    axes = power[:, :, :: columns // axes.shape[1]][:, :, : axes.shape[1]] + axes  # a deterministic initial guess
    for _ in range(_TURNS):
        axes = orthonormal(power @ axes)
    inner, turn = eigh(axes.transpose(1, 2) @ power @ axes)
    white = (math.sqrt(count) + math.sqrt(columns)) ** 2  # the largest power of pure noise (Marchenko and Pastur)
    axes = (axes @ turn).to(rows.dtype)
    known = inner > _EDGE * white  # (N, profile)
    if each < _MANY:
        known = known & ~_like_needles(axes, (rows @ axes).view(-1, PANELS, each, axes.shape[2]))
    axes = axes * known[:, None, :]
    return torch.baddbmm(rows, rows @ axes, axes.transpose(1, 2), alpha=-1)


def _like_needles(axes: Tensor, along: Tensor) -> Tensor:
    """Which profiles (N, F, profile) are slim and only in ON panels. along: the rows' projections (N, 6, T, profile)."""
    on, off = (along[:, list(panels)].square().mean((1, 2)) for panels in (ON, OFF))
    return (axes.pow(4).sum(1) > 1 / _SLIM) & (off < _ON_ONLY * on)


def drift_scores(cadences: Tensor, drift: float) -> tuple[Tensor, Tensor, Tensor]:
    """The best track of each drift and third of a drift in cleaned cadences (N, 6, T, F).

    Scores (N, D, 3), starts (N, D, 3), and the S/N of the ON panels on it (N, D, 3, 3). By compiled code where Numba is
    installed, else by torch, with the same bits.
    """
    count, _, rows, columns = cadences.shape
    drifts = line_drifts(rows, drift)
    if has_numba() and not cadences.is_cuda:
        score = np.empty((count, len(drifts), len(FINER)), np.float32)
        start, values = np.empty(score.shape, np.int64), np.empty((*score.shape, len(ON)), np.float32)
        scales, places = line_scales(rows, columns, drift)
        own = np.ascontiguousarray(cadences.numpy(force=True), np.float32)
        joints = joints_of(rows, tuple(drifts))
        drift_kernel.search_cadences(own, *joints, scales, places, _BESIDE, _QUIET, _PENALTY, score, start, values)
        return torch.from_numpy(score), torch.from_numpy(start), torch.from_numpy(values)
    sums = sums_by_drift(cadences.permute(2, 3, 1, 0).reshape(rows, columns, -1), drifts)  # (D, F, 6 N)
    sums *= torch.from_numpy(line_scales(rows, columns, drift)[0])[:, :, None].to(sums)
    sums = sums.view(len(drifts), columns, PANELS, count)
    best = [_best(snr, d, rows) for d, snr in zip(drifts, sums, strict=True)]
    parts = [torch.stack([torch.stack([third[part] for third in own]) for own in best]) for part in range(3)]  # (D, 3, N)
    return parts[0].permute(2, 0, 1), parts[1].permute(2, 0, 1), parts[2].permute(2, 0, 1, 3)


@lru_cache(maxsize=16)
def line_scales(rows: int, columns: int, drift: float) -> tuple[Floats, Ints]:
    """Factors (D, F) from sums along lines to S/N, 0 for lines with too few rows inside; and places (D, 3, 6)."""
    drifts = line_drifts(rows, drift)
    inside = line_rows(rows, columns, drifts).float()
    scales = torch.where(inside >= min(FEWEST, rows), inside.clamp(min=1).rsqrt(), 0)
    return scales.numpy(), np.array([[track_places(d, finer, rows) for finer in FINER] for d in drifts], np.int64)


def _search(cadences: Tensor, drift: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Score, drift, column, panel and S/N (as `Tracks`) of cleaned cadences (N, 6, T, F)."""
    count, _, rows, _ = cadences.shape
    scores, starts, values = (found.flatten(1, 2) for found in drift_scores(cadences, drift))  # (N, D x third)
    score, which = scores.max(1)
    sample = torch.arange(count)
    return _described(values[sample, which], line_drifts(rows, drift), rows, score, which, starts[sample, which])


def track_places(drift: int, finer: int, rows: int) -> list[int]:
    """Each panel's column offset, 0 or more, that aligns one track across panels, at `finer` thirds beyond a drift."""
    moved = [math.floor(panel * (drift + finer / 3) * rows / max(rows - 1, 1) + 0.5) for panel in range(PANELS)]
    return [max(moved) - m for m in moved]


def _best(snr: Tensor, drift: int, rows: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The best score, its position, (N,) each, and the ON panels' S/N there (N, 3), for each third of a drift step.

    Over six panels a third of a drift step moves a track by up to two columns; within one panel the shift is negligible.
    snr: (F, 6, N).
    """
    columns, _, count = snr.shape
    on, off = on_and_off(snr)
    found = []
    for finer in FINER:
        places = track_places(drift, finer, rows)
        padded = snr.new_zeros(columns + max(places), PANELS, count)
        for panel, place in enumerate(places):
            padded[place : place + columns, panel] = on[:, panel // 2] if panel in ON else off[:, panel // 2]
        first, second, third = (padded[:, panel] for panel in ON)
        best = (together(first, second, third) - padded[:, 1::2].amax(1)).max(0)  # minus OFF signal along the track
        at = best.indices[:, None] - torch.tensor([places[panel] for panel in ON], device=snr.device)
        there = (at >= 0) & (at < columns)
        on_it = snr[at.clamp(0, columns - 1), torch.tensor(ON), torch.arange(count)[:, None]]
        found.append((best.values, best.indices, torch.where(there, on_it, 0)))
    return found


def on_and_off(snr: Tensor) -> tuple[Tensor, Tensor]:
    """ON panels' penalised S/N and the OFF panels' penalty near each column, both (..., F, 3, N), from S/N (..., F, 6, N)."""
    off = _widest(snr[..., 1::2, :])  # maximum near each column
    off = (off - _QUIET).clamp_(min=0).mul_(_PENALTY)
    return snr[..., ::2, :] - off.amax(-2, keepdim=True), off  # minus OFF signal that stays in the same columns


def together(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """The largest combined S/N of one, two or all three panels."""
    total = first + second + third
    least = torch.minimum(torch.minimum(first, second), third)
    most = torch.maximum(torch.maximum(first, second), third)
    return torch.maximum(torch.maximum(most, (total - least) * 2**-0.5), total * 3**-0.5)


def _widest(values: Tensor) -> Tensor:
    """The maximum over `_BESIDE` columns on either side of each column. values: (..., F, 3, N)."""
    columns, reach = values.shape[-3], 1
    values = F.pad(values, (0, 0, 0, 0, _BESIDE, _BESIDE))
    while reach < 2 * _BESIDE + 1:  # windows of 2, 4, 8, ... columns
        step = min(reach, 2 * _BESIDE + 1 - reach)
        values, reach = torch.maximum(values[..., :-step, :, :], values[..., step:, :, :]), reach + step
    return values[..., :columns, :, :]


def _described(
    values: Tensor, drifts: Sequence[int], rows: int, score: Tensor, which: Tensor, start: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The fields of `Tracks`.

    values: the ON panels' S/N (N, 3), 0 outside; which: index of the drift third (N,); start: position (N,).
    """
    places = torch.tensor([track_places(d, finer, rows) for d in drifts for finer in FINER])[which][:, list(ON)]  # (N, 3)
    moved = (torch.tensor(drifts)[:, None] + torch.tensor(FINER) / 3).flatten()[which] / max(rows - 1, 1)
    which = which // len(FINER)
    columns = start[:, None] - places  # of each ON panel's first row
    order = values.sort(1, descending=True)
    together = order.values.cumsum(1) / torch.arange(1, 4).sqrt()
    snr, last = together.max(1)  # of the best one, two or three
    counts = torch.arange(3) <= last[:, None]
    first = torch.where(counts, order.indices, len(ON)).min(1).values
    middle = torch.tensor([line_shifts(rows, [d])[0, rows // 2].item() for d in drifts])[which]
    column = columns.gather(1, first[:, None])[:, 0] + middle
    return score, moved, column, torch.tensor(ON)[first], snr


def _logistic(values: NDArray[np.float64], labels: Ints) -> tuple[float, float]:
    """Slope (0 or more) and bias that minimise the mean log loss of labels 0 and 1: Newton steps, small L2 penalty."""
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
