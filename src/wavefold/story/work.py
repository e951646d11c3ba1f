"""One training as a value: what every part of the story is handed."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import wavefold
from wavefold.base.dataset import Dataset
from wavefold.base.device import best_device
from wavefold.base.runs import RUN_FORMAT, Run
from wavefold.prepare import Fold
from wavefold.recipe import Member, Recipe, digest_of

BASELINE = "baseline"  # stands for a member's number in the folder of a baseline's scores


@dataclass(frozen=True)
class Work:
    """One training: the run it fills, the recipe, the samples, the files to predict, the folds."""

    run: Run
    recipe: Recipe
    dataset: Dataset
    tests: list[Dataset]
    folds: list[Fold]

    @property
    def members(self) -> list[tuple[int | str, Member]]:
        """The members with their numbers; the baseline, if any, comes last."""
        members: list[tuple[int | str, Member]] = list(enumerate(self.recipe.member))
        baseline = self.recipe.output.baseline
        return members + ([(BASELINE, Member(model=baseline))] if baseline else [])

    @property
    def judged(self) -> str:
        """A digest of all that scores.json depends on beside the members."""
        tree = self.recipe.tree()
        left_out = [d.left_out for d in (self.dataset, *self.tests)]
        weights = [m.weight for m in self.recipe.member]
        return digest_of([tree["combine"], weights, tree["output"], [t.digest for t in self.tests], left_out, RUN_FORMAT])


def facts_of(recipe: Recipe, data_digest: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json says: whose run it is, what is known of the data, the command and what it ran on."""
    return {
        "recipe": recipe.name,
        "identity": {"recipe": recipe.digest(), "data": data_digest, "format": RUN_FORMAT},
        **known,
        "command": sys.argv,
        "wavefold": wavefold.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {best_device().type}",
    }
