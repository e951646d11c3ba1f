"""What a run that is done says of new samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from wavefold.base.blocks import row_blocks
from wavefold.base.build import build_part
from wavefold.base.dataset import Dataset, Floats
from wavefold.base.device import best_device
from wavefold.base.runs import Run
from wavefold.combine import Ensemble
from wavefold.models import CLASSIFIERS, prepare_for_prediction
from wavefold.prepare import TRANSFORMS
from wavefold.recipe import Member, Recipe
from wavefold.story.fitting import new_net
from wavefold.training.loop import probabilities_of

Values = NDArray[np.float64]


def probabilities_for(run: Run, dataset: Dataset, size: int = 512) -> Values:
    """What a run's whole ensemble says of new samples, whatever the batch size; result: (sample, class).

    Each fold's members are combined and calibrated as they were measured; the folds' answers are averaged.
    """
    recipe, facts = recipe_of(run), run.facts
    ensemble = Ensemble.load(recipe.combine.by, recipe.combine.calibrate, run.folder / "ensemble.npz")
    total: Values = np.zeros((len(dataset), len(facts["classes"])))
    for fold, rows in product(range(facts["folds"]), row_blocks(len(dataset))):
        signals = _prepare_like(run, recipe, fold, dataset.signals[rows])
        shape = (*signals.shape, len(facts["classes"]))
        asked = [_ask_member(m, run.member(fold, n, m.model), signals, shape, size) for n, m in enumerate(recipe.member)]
        total[rows] += ensemble.probabilities(np.stack(asked)) / facts["folds"]
    return total


def recipe_of(run: Run, skip_bad: bool = False) -> Recipe:
    """The run's own recipe; skip_bad: to go on without samples that cannot be read."""
    recipe = Recipe.from_toml(run.recipe_text, str(run.folder / "recipe.toml"))
    return recipe.with_({"data.skip_bad": True}) if skip_bad else recipe


def _prepare_like(run: Run, recipe: Recipe, fold: int, signals: Floats) -> Floats:
    """Apply a fold's learned transforms to new signals (sample, channel, position)."""
    with np.load(run.folder / f"fold{fold}" / "prepare.npz", allow_pickle=False) as kept:
        for number, step in enumerate(recipe.prepare):
            if step.step in TRANSFORMS:
                transform = build_part(TRANSFORMS, step.step, step.options, f"prepare.{number}")
                transform.load({k.removeprefix(f"{number}."): kept[k] for k in kept if k.startswith(f"{number}.")})
                signals = transform.apply(signals)
    return np.ascontiguousarray(signals)


def _ask_member(member: Member, folder: Path, signals: Floats, shape: Sequence[int], size: int) -> Values:
    """One member's probabilities of prepared signals. shape: of the signals, then the number of classes."""
    if member.model in CLASSIFIERS:
        classifier: Any = CLASSIFIERS[member.model]
        result: Values = classifier.load(folder).probabilities(signals)
        return result
    model = new_net(member, shape[:3], shape[3], 0)
    model.load_state_dict(safetensors.torch.load_file(folder / "weights.safetensors"))
    return probabilities_of(prepare_for_prediction(model.to(best_device())), torch.from_numpy(signals), size)
