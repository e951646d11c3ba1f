"""Saliency maps of a run: which positions of a sample are evidence for a class, and which are evidence against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from wavefold.core.device import best_device
from wavefold.core.errors import UserError
from wavefold.core.run import RunFolder
from wavefold.data.dataset import Dataset, Floats, Ints
from wavefold.models.saliency import integrated_gradients, occlusion
from wavefold.recipe import Recipe
from wavefold.tasks.samples.ensemble_module import ensemble_module
from wavefold.tasks.samples.inference import Members

GRADIENTS, OCCLUSION = "gradients", "occlusion"
_PIECES = 40  # segments of a signal, occluded in turn
_PANEL_PIECES = (1, 8)  # segments of a panel: all times at once, frequencies in eight
_ORIGIN = 512  # training samples averaged for the baseline signal


@dataclass(frozen=True)
class Explained:
    """Signals and saliency maps of the same shape: the evidence at each position for the explained class."""

    signals: Floats  # (sample, channel, ...)
    maps: dict[str, Floats]
    notes: list[str]


def explain(run: RunFolder, recipe: Recipe, dataset: Dataset, rows: Ints, classes: Ints, train: Ints) -> Explained:
    """Compute saliency maps of samples, each for one class. rows, classes: (sample,); train: samples of the training part.

    Occlusion uses the full ensemble; integrated gradients use only its nets, since kernel features and trees have no gradient.
    """
    signals = dataset.signals[rows]
    origin = origins_of(dataset, train, signals, recipe.seed)
    maps = {OCCLUSION: occlude(run, recipe, signals, classes, origin)}
    try:
        net = ensemble_module(run, recipe, nets_only=True).to(best_device())
    except UserError as error:
        return Explained(signals, maps, [f"no integrated gradients: {error}"])
    given, start = torch.from_numpy(signals).to(best_device()), torch.from_numpy(origin).to(best_device())
    steps = {"steps": 16, "most_steps": 16} if signals.ndim > 3 else {}  # a step is a thousand times slower for cadences
    made = integrated_gradients(net, given, torch.from_numpy(classes).to(best_device()), origin=start, **steps)
    return Explained(signals, {GRADIENTS: made.cpu().numpy(), **maps}, [])


def occlude(run: RunFolder, recipe: Recipe, signals: Floats, classes: Ints, origin: Floats) -> Floats:
    """Drop in the probability of a class when each segment is occluded; same shape as the signals."""
    requested = Members(run, recipe).predictions
    return occlusion(requested, signals, classes, pieces=pieces_of(signals.shape[1:]), origin=origin)


def pieces_of(shape: Sequence[int]) -> int | tuple[int, ...]:
    """Number of occlusion segments along the last axes of a sample (channel, ...)."""
    return _PANEL_PIECES if len(shape) > 2 else min(_PIECES, shape[-1])


def origins_of(dataset: Dataset, train: Ints, signals: Floats, seed: int) -> Floats:
    """Baseline signals: the mean shape of some training samples at each signal's own mean and standard deviation by channel.

    signals and result: (sample, channel, ...). A faint star is thus compared with a faint one, not with the mean flux.
    """
    some = np.sort(np.random.default_rng(seed).permutation(train)[: _ORIGIN if dataset.signals.ndim == 3 else 32])
    known = dataset.signals[some]
    shape = ((known - _level(known)) / _size(known)).mean(axis=0, dtype=np.float64)
    made: Floats = (_level(signals) + _size(signals) * shape).astype(np.float32)
    return made


def _level(signals: Floats) -> Floats:
    """The mean of each channel, (sample, channel, 1, ...)."""
    mean: Floats = signals.mean(axis=tuple(range(2, signals.ndim)), keepdims=True)
    return mean


def _size(signals: Floats) -> Floats:
    """The standard deviation of each channel, 1 where it is flat; (sample, channel, 1, ...)."""
    spread = signals.std(axis=tuple(range(2, signals.ndim)), keepdims=True)
    return np.where(spread > 0, spread, np.float32(1))
