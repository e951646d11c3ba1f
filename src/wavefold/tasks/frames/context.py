"""The state of one training run of forecasters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wavefold.core.run import RUN_FORMAT, RunFolder
from wavefold.data.series import Series, Windows
from wavefold.data.windows import TimeSplit
from wavefold.recipe import Recipe, digest_of
from wavefold.tasks.base import Unit


@dataclass(frozen=True)
class ForecastContext:
    """The state of one training run: its folder, recipe, frames, windows and their splits, a fold each."""

    run: RunFolder
    recipe: Recipe
    series: Series
    windows: Windows
    splits: tuple[TimeSplit, ...]  # in time order; forecasts after the data are made by the last fold, which learned most
    targets: int  # number of leading channels to forecast
    notes: tuple[str, ...] = ()  # on baselines that the frames do not allow

    @property
    def units(self) -> list[Unit]:
        """Every member, fold after fold."""
        return frame_units(self.run, self.recipe, len(self.splits))

    def folder(self, fold: int) -> Path:
        """The folder of a fold's fitted scaling, baselines and members."""
        return self.run.folder / f"fold{fold}"

    @property
    def scores_digest(self) -> str:
        """A digest of everything scores.json depends on besides the members."""
        weights = [m.weight for m in self.recipe.member]
        return digest_of([self.recipe.tree()["output"], self.recipe.combine.by, weights, RUN_FORMAT, _SCORES])


def frame_units(run: RunFolder, recipe: Recipe, folds: int) -> list[Unit]:
    """Every member, fold after fold; the time that it took, seconds.json, marks it as done."""
    members = list(enumerate(recipe.member))
    return [Unit(fold, n, m, run.member(fold, n, m.model), "seconds.json") for fold in range(folds) for n, m in members]


_SCORES = 3  # version of what scores.json holds; finished runs of earlier ones are scored again
