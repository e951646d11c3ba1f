"""Inference: the predictions of a finished run for new samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from wavefold.core.device import best_device
from wavefold.core.registry import build_part
from wavefold.core.run import RunFolder
from wavefold.data.dataset import Dataset, Floats
from wavefold.data.lazy import blocks_of
from wavefold.ensemble import Ensemble
from wavefold.models import CLASSIFIERS
from wavefold.recipe import Member, Recipe
from wavefold.tasks.samples.fit import for_inference, new_net
from wavefold.training.checkpoint import read_weights
from wavefold.training.loop import probabilities_of
from wavefold.transforms import TRANSFORMS, Transform

Values = NDArray[np.float64]


def probabilities_for(run: RunFolder, dataset: Dataset, size: int = 512) -> Values:
    """Predict class probabilities of new samples with a run's full ensemble; result: (sample, class).

    Each fold's members are combined and calibrated as in the evaluation, and the folds are averaged. The result does not
    depend on the batch size.
    """
    requested = Members(run, recipe_of(run), size)
    total: Values = np.zeros((len(dataset), len(run.metadata["classes"])))
    for rows, block in blocks_of(dataset.signals):
        total[rows] = requested.probabilities(block)
    return total


def member_probabilities_for(run: RunFolder, number: int, dataset: Dataset, size: int = 512) -> Values:
    """Predict with one member of a run: the mean over its folds, before calibration; result: (sample, class)."""
    requested = Members(run, recipe_of(run), size)
    total: Values = np.zeros((len(dataset), len(run.metadata["classes"])))
    for rows, block in blocks_of(dataset.signals):
        total[rows] = requested.of_member(number, block)
    return total


class Members:
    """The members of all folds of a run, with their transforms and combiner; each is loaded once, on first use."""

    def __init__(self, run: RunFolder, recipe: Recipe, size: int = 512) -> None:
        classes, folds = len(run.metadata["classes"]), range(run.metadata["folds"])
        self._ensemble = Ensemble.load(recipe.combine.by, recipe.combine.calibrate, run.folder / "ensemble.npz")
        self._transforms = [transforms_of(run, recipe, fold) for fold in folds]
        self._members = [
            [_Member(m, run.member(fold, n, m.model), classes, size) for n, m in enumerate(recipe.member)] for fold in folds
        ]

    def probabilities(self, signals: Floats) -> Values:
        """Ensemble probabilities of signals (sample, channel, ...), averaged over folds: (sample, class)."""
        predicted = []
        for transforms, members in zip(self._transforms, self._members, strict=True):
            prepared = _prepared(signals, transforms)
            predicted.append(self._ensemble.probabilities(np.stack([member.probabilities(prepared) for member in members])))
        return _mean(predicted)

    def of_member(self, number: int, signals: Floats) -> Values:
        """Probabilities of one member alone, averaged over folds, before calibration: (sample, class)."""
        each = zip(self._transforms, self._members, strict=True)
        return _mean([members[number].probabilities(_prepared(signals, transforms)) for transforms, members in each])


def _mean(predicted: Sequence[Values]) -> Values:
    total = np.zeros_like(predicted[0])
    for values in predicted:
        total += values / len(predicted)
    return total


def recipe_of(run: RunFolder, skip_bad: bool = False) -> Recipe:
    """Load the run's recipe; skip_bad: skip samples that cannot be read."""
    recipe = Recipe.from_toml(run.recipe_text, str(run.folder / "recipe.toml"))
    return recipe.with_({"data.skip_bad": True}) if skip_bad else recipe


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


def member_net(member: Member, folder: Path, shape: Sequence[int], classes: int) -> nn.Module:
    """Load a member that is a net, ready for inference, from its fold folder. shape: (sample, ...) of its prepared signals."""
    own = member.model_dump(exclude={"pretrained"})  # all weights come from the run
    model = new_net(Member(**own), shape, classes, 0)
    model.load_state_dict(read_weights(folder))
    return for_inference(model, member)


def _prepared(signals: Floats, transforms: Sequence[Transform]) -> Floats:
    """Apply a fold's transforms to new signals (sample, channel, ...)."""
    for transform in transforms:
        signals = transform.apply(signals)
    return np.ascontiguousarray(signals)


class _Member:
    """One member of one fold, loaded from its folder on first use."""

    def __init__(self, member: Member, folder: Path, classes: int, size: int) -> None:
        self._member, self._folder, self._classes, self._size = member, folder, classes, size
        self._ask: Callable[[Floats], Values] | None = None

    def probabilities(self, signals: Floats) -> Values:
        """Predict class probabilities of prepared signals, (sample, class)."""
        if self._ask is None:
            self._ask = self._of_classifier() if self._member.model in CLASSIFIERS else self._of_net(signals.shape)
        return self._ask(signals)

    def _of_classifier(self) -> Callable[[Floats], Values]:
        kind: Any = CLASSIFIERS[self._member.model]
        return kind.load(self._folder).probabilities  # type: ignore[no-any-return]  # classifiers share no base class

    def _of_net(self, shape: Sequence[int]) -> Callable[[Floats], Values]:
        ready = member_net(self._member, self._folder, shape, self._classes).to(best_device())
        return lambda signals: probabilities_of(ready, signals, self._size)
