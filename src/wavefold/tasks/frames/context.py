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
    """The state of one training run: its folder, recipe, frames, windows and their split."""

    run: RunFolder
    recipe: Recipe
    series: Series
    windows: Windows
    split: TimeSplit
    targets: int  # number of leading channels to forecast

    @property
    def units(self) -> list[Unit]:
        """Every member, in the one fold."""
        return frame_units(self.run, self.recipe)

    @property
    def folder(self) -> Path:
        """The folder of fitted scaling, baselines and members."""
        return self.run.folder / "fold0"

    @property
    def scores_digest(self) -> str:
        """A digest of everything scores.json depends on besides the members."""
        weights = [m.weight for m in self.recipe.member]
        return digest_of([self.recipe.tree()["output"], weights, RUN_FORMAT, _SCORES])


def frame_units(run: RunFolder, recipe: Recipe) -> list[Unit]:
    """Every member, in the one fold; the time that it took, seconds.json, marks it as done."""
    return [Unit(0, n, m, run.member(0, n, m.model), "seconds.json") for n, m in enumerate(recipe.member)]


_SCORES = 2  # version of what scores.json holds; finished runs of earlier ones are scored again
