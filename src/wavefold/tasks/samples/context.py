"""The state of one training run, shared by all steps of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from wavefold.core.records import SCORES_FORMAT
from wavefold.core.run import RUN_FORMAT, RunFolder
from wavefold.data.dataset import Dataset
from wavefold.data.split import Fold
from wavefold.recipe import Member, Recipe, digest_of

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
        members: list[tuple[int | str, Member]] = list(enumerate(self.recipe.member))
        return members + [(BASELINE, Member(model=name)) for name in self.recipe.output.compared]

    @property
    def scores_digest(self) -> str:
        """A digest of everything scores.json depends on besides the members."""
        tree = self.recipe.tree()
        left_out = [d.left_out for d in (self.dataset, *self.tests)]
        weights = [m.weight for m in self.recipe.member]
        return digest_of(
            [tree["combine"], weights, tree["output"], [t.digest for t in self.tests], left_out, RUN_FORMAT, SCORES_FORMAT]
        )


def baseline_file(name: str) -> str:
    """The file with the fitted calibration and decision of a baseline."""
    return f"baseline-{name}.npz"
