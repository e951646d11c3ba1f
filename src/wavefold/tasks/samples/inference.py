"""Inference: the predictions of a finished run for new samples."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import nn

from wavefold.core.device import best_device
from wavefold.core.errors import UserError
from wavefold.core.registry import build_part
from wavefold.core.run import RunFolder
from wavefold.data.dataset import Dataset, Floats, Signals
from wavefold.data.lazy import blocks_of
from wavefold.ensemble import Ensemble
from wavefold.recipe import Member, Recipe
from wavefold.tasks.base import recipe_of
from wavefold.tasks.samples.context import BASELINE, baseline_file
from wavefold.tasks.samples.fit import for_inference, new_net
from wavefold.tasks.samples.target import losses_of, target_of
from wavefold.training.checkpoint import read_weights
from wavefold.training.loop import predict_all
from wavefold.transforms import TRANSFORMS, Transform

Values = NDArray[np.float64]


def predictions_for(
    run: RunFolder, dataset: Dataset, size: int = 512, member: int | None = None, *, baseline: str = ""
) -> Values:
    """Predict new samples with a run's full ensemble, (sample, ...): class probabilities, or what its task predicts.

    Each fold's members are combined and calibrated as in the evaluation, and the folds are averaged. The result does not
    depend on the batch size. member: predict with this one alone, before calibration. baseline: predict with this one.
    """
    return Members(run, recipe_of(run), size, baseline=baseline).of_all(dataset.signals, member)


class Members:
    """The members of all folds of a run, with their transforms and combiner; each is loaded once, on first use.

    baseline: one of the run's baselines, in place of the members.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, size: int = 512, *, baseline: str = "") -> None:
        folds, self._target = range(run.metadata.folds), target_of(recipe)
        self._columns = self._target.columns(len(run.metadata.classes))
        by, file = ("mean", baseline_file(baseline)) if baseline else (recipe.combine.by, "ensemble.npz")
        self._ensemble = Ensemble.load(by, recipe.combine.calibrate, run.folder / file, self._target.parts)
        self._transforms = [transforms_of(run, recipe, fold) for fold in folds]
        alone: list[tuple[int | str, Member]] = [(BASELINE, Member(model=baseline))]
        members = alone if baseline else list(enumerate(recipe.member))
        self._members = [[_Member(run, recipe, fold, n, member, size) for n, member in members] for fold in folds]

    def of_all(self, signals: Signals, member: int | None = None) -> Values:
        """Predictions for any number of signals, (sample, ...), by blocks: the ensemble's, or those of one member alone."""
        total: Values = np.zeros((len(signals), self._columns))
        for rows, block in blocks_of(signals):
            total[rows] = self.predictions(block) if member is None else self.of_member(member, block)
        return total

    def predictions(self, signals: Floats) -> Values:
        """The ensemble's predictions for signals (sample, channel, ...), averaged over folds: (sample, ...)."""
        predicted = []
        for transforms, members in zip(self._transforms, self._members, strict=True):
            prepared = _prepared(signals, transforms)
            predicted.append(self._ensemble.probabilities(np.stack([member.predictions(prepared) for member in members])))
        return self._target.average(predicted)

    def of_member(self, number: int, signals: Floats) -> Values:
        """Predictions of one member alone, averaged over folds, before calibration: (sample, ...)."""
        each = zip(self._transforms, self._members, strict=True)
        predicted = [members[number].predictions(_prepared(signals, transforms)) for transforms, members in each]
        return self._target.average(predicted)


def transforms_of(run: RunFolder, recipe: Recipe, fold: int) -> list[Transform]:
    """Load the recipe's transforms as fitted in one fold."""
    found = []
    with np.load(run.folder / f"fold{fold}" / "prepare.npz", allow_pickle=False) as kept:
        for number, step in enumerate(recipe.prepare):
            if step.step in TRANSFORMS:
                transform: Transform = build_part(TRANSFORMS, step.step, step.options, f"prepare.{number}")
                transform.load({k.removeprefix(f"{number}."): kept[k] for k in kept if k.startswith(f"{number}.")})
                found.append(transform)
    return found


def scaling_of(run: RunFolder, fold: int) -> dict[str, Values]:
    """The statistics of the training part's truth in one fold."""
    with np.load(run.folder / f"fold{fold}" / "prepare.npz", allow_pickle=False) as kept:
        return {k.removeprefix("truth."): kept[k] for k in kept if k.startswith("truth.")}


def load_fitted(recipe: Recipe, model: str, folder: Path) -> Any:
    """Load a model that was fitted in one step; UserError, with advice, if its files are missing or damaged."""
    kind: Any = target_of(recipe).fitted[model]
    try:
        return kind.load(folder)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, zipfile.BadZipFile):
        raise UserError(
            f"{folder}: the files of '{model}' are missing or damaged; delete {folder} and the run's scores.json, then repeat "
            "the training command"
        ) from None


def member_net(member: Member, folder: Path, shape: Sequence[int], width: int) -> nn.Module:
    """Load a member that is a net, ready for inference, from its fold folder. shape: (sample, ...) of its prepared signals."""
    own = member.model_dump(exclude={"pretrained"})  # all weights come from the run
    model = new_net(Member(**own), shape, width, 0)
    model.load_state_dict(read_weights(folder))
    return for_inference(model, member)


def _prepared(signals: Floats, transforms: Sequence[Transform]) -> Floats:
    """Apply a fold's transforms to new signals (sample, channel, ...)."""
    for transform in transforms:
        signals = transform.apply(signals)
    return np.ascontiguousarray(signals)


class _Member:
    """One member of one fold, loaded from its folder on first use."""

    def __init__(self, run: RunFolder, recipe: Recipe, fold: int, number: int | str, member: Member, size: int) -> None:
        self._run, self._recipe, self._fold, self._member, self._size = run, recipe, fold, member, size
        self._folder, self._target = run.member(fold, number, member.model), target_of(recipe)
        self._ask: Callable[[Floats], Values] | None = None

    def predictions(self, signals: Floats) -> Values:
        """Predictions for prepared signals, (sample, ...)."""
        if self._ask is None:
            self._ask = self._of_fitted() if self._member.model in self._target.fitted else self._of_net(signals.shape)
        return self._ask(signals)

    def _of_fitted(self) -> Callable[[Floats], Values]:
        fitted = load_fitted(self._recipe, self._member.model, self._folder)
        return lambda signals: self._target.ask(fitted, signals)

    def _of_net(self, shape: Sequence[int]) -> Callable[[Floats], Values]:
        count, losses = len(self._run.metadata.classes), losses_of(self._recipe)
        width, scaling = self._target.width(losses, count), scaling_of(self._run, self._fold)
        head = self._target.head(losses, count, scaling)
        ready = member_net(self._member, self._folder, shape, width).to(best_device())
        return lambda signals: predict_all(ready, head, signals, self._size)
