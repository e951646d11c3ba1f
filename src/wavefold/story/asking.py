"""What a run that is done says of new samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from numpy.typing import NDArray
from torch import nn

from wavefold.base.blocks import blocks_of
from wavefold.base.build import build_part
from wavefold.base.dataset import Dataset, Floats
from wavefold.base.device import best_device
from wavefold.base.runs import Run
from wavefold.combine import Ensemble
from wavefold.models import CLASSIFIERS
from wavefold.prepare import TRANSFORMS, Transform
from wavefold.recipe import Member, Recipe
from wavefold.story.fitting import new_net, ready_to_ask
from wavefold.training.loop import probabilities_of

Values = NDArray[np.float64]


def probabilities_for(run: Run, dataset: Dataset, size: int = 512) -> Values:
    """What a run's whole ensemble says of new samples, whatever the batch size; result: (sample, class).

    Each fold's members are combined and calibrated as they were measured; the folds' answers are averaged.
    """
    recipe, facts = recipe_of(run), run.facts
    ensemble = Ensemble.load(recipe.combine.by, recipe.combine.calibrate, run.folder / "ensemble.npz")
    classes, folds = len(facts["classes"]), range(facts["folds"])
    total: Values = np.zeros((len(dataset), classes))
    transforms = [transforms_of(run, recipe, fold) for fold in folds]
    members = [[_Member(m, run.member(fold, n, m.model), classes, size) for n, m in enumerate(recipe.member)] for fold in folds]
    for rows, block in blocks_of(dataset.signals):
        for fold in folds:
            signals = _prepared(block, transforms[fold])
            asked = [member.probabilities(signals) for member in members[fold]]
            total[rows] += ensemble.probabilities(np.stack(asked)) / len(folds)
    return total


def member_probabilities_for(run: Run, number: int, dataset: Dataset, size: int = 512) -> Values:
    """What one member of a run says of new samples, the mean of its folds, before calibration; result: (sample, class)."""
    recipe, classes, folds = recipe_of(run), len(run.facts["classes"]), run.facts["folds"]
    chosen = recipe.member[number]
    total: Values = np.zeros((len(dataset), classes))
    for fold in range(folds):
        transforms = transforms_of(run, recipe, fold)
        member = _Member(chosen, run.member(fold, number, chosen.model), classes, size)
        for rows, block in blocks_of(dataset.signals):
            total[rows] += member.probabilities(_prepared(block, transforms)) / folds
    return total


def recipe_of(run: Run, skip_bad: bool = False) -> Recipe:
    """The run's own recipe; skip_bad: to go on without samples that cannot be read."""
    recipe = Recipe.from_toml(run.recipe_text, str(run.folder / "recipe.toml"))
    return recipe.with_({"data.skip_bad": True}) if skip_bad else recipe


def transforms_of(run: Run, recipe: Recipe, fold: int) -> list[Transform]:
    """The recipe's transforms as a fold has learned them."""
    found = []
    with np.load(run.folder / f"fold{fold}" / "prepare.npz", allow_pickle=False) as kept:
        for number, step in enumerate(recipe.prepare):
            if step.step in TRANSFORMS:
                transform: Transform = build_part(TRANSFORMS, step.step, step.options, f"prepare.{number}")
                transform.load({k.removeprefix(f"{number}."): kept[k] for k in kept if k.startswith(f"{number}.")})
                found.append(transform)
    return found


_transforms = transforms_of


def member_net(member: Member, folder: Path, shape: Sequence[int], classes: int) -> nn.Module:
    """A member that is a net, ready to ask, from its folder in a fold. shape: (sample, ...) of its prepared signals."""
    own = member.model_dump(exclude={"pretrained"})  # all of its weights are the run's
    model = new_net(Member(**own), shape, classes, 0)
    model.load_state_dict(safetensors.torch.load_file(folder / "weights.safetensors"))
    return ready_to_ask(model, member)


def _prepared(signals: Floats, transforms: Sequence[Transform]) -> Floats:
    """New signals (sample, channel, ...) as a fold's members take them."""
    for transform in transforms:
        signals = transform.apply(signals)
    return np.ascontiguousarray(signals)


class _Member:
    """One member of one fold, read from its folder when it is first asked."""

    def __init__(self, member: Member, folder: Path, classes: int, size: int) -> None:
        self._member, self._folder, self._classes, self._size = member, folder, classes, size
        self._ask: Callable[[Floats], Values] | None = None

    def probabilities(self, signals: Floats) -> Values:
        """What it says of prepared signals, (sample, class)."""
        if self._ask is None:
            self._ask = self._of_classifier() if self._member.model in CLASSIFIERS else self._of_net(signals.shape)
        return self._ask(signals)

    def _of_classifier(self) -> Callable[[Floats], Values]:
        kind: Any = CLASSIFIERS[self._member.model]
        return kind.load(self._folder).probabilities  # type: ignore[no-any-return]

    def _of_net(self, shape: Sequence[int]) -> Callable[[Floats], Values]:
        ready = member_net(self._member, self._folder, shape, self._classes).to(best_device())
        return lambda signals: probabilities_of(ready, signals, self._size)
