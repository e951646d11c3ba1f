"""The state of one training run, shared by all steps of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from wavefold.core.records import SCORES_FORMAT
from wavefold.core.run import RUN_FORMAT, RunFolder
from wavefold.data.dataset import Dataset
from wavefold.data.split import Fold
from wavefold.recipe import Member, Recipe, digest_of
from wavefold.tasks.base import Unit

BASELINE = "baseline"  # in place of a member number in the folder of a baseline's scores


@dataclass(frozen=True)
class Context:
    """The state of one training run: its folder, recipe, samples, files to predict and folds."""

    run: RunFolder
    recipe: Recipe
    dataset: Dataset
    tests: list[Dataset]
    folds: list[Fold]

    @property
    def members(self) -> list[tuple[int | str, Member]]:
        """The members with their numbers; the baselines come last."""
        return members_of(self.recipe)

    @property
    def units(self) -> list[Unit]:
        """Every member and baseline of every fold."""
        return sample_units(self.run, self.recipe, len(self.folds))

    @property
    def scores_digest(self) -> str:
        """A digest of everything scores.json depends on besides the members."""
        tree = self.recipe.tree()
        left_out = [d.left_out for d in (self.dataset, *self.tests)]
        weights = [m.weight for m in self.recipe.member]
        return digest_of(
            [tree["combine"], weights, tree["output"], [t.digest for t in self.tests], left_out, RUN_FORMAT, SCORES_FORMAT]
        )


def members_of(recipe: Recipe) -> list[tuple[int | str, Member]]:
    """The members of a recipe with their numbers; the baselines come last."""
    members: list[tuple[int | str, Member]] = list(enumerate(recipe.member))
    return members + [(BASELINE, Member(model=name)) for name in recipe.output.compared]


def sample_units(run: RunFolder, recipe: Recipe, folds: int) -> list[Unit]:
    """Every member and baseline of every fold; a unit's predictions, scores.npz, mark it as done."""
    pairs = [(fold, number, member) for fold in range(folds) for number, member in members_of(recipe)]
    return [Unit(fold, n, member, run.member(fold, n, member.model), "scores.npz") for fold, n, member in pairs]


def baseline_file(name: str) -> str:
    """The file with the fitted calibration and decision of a baseline."""
    return f"baseline-{name}.npz"
