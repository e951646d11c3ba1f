"""The state of one training run of forecasters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wavefold.core.run import RUN_FORMAT, RunFolder
from wavefold.data.series import Series, Windows
from wavefold.data.windows import TimeSplit
from wavefold.recipe import Member, Recipe, digest_of


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
    def members(self) -> list[tuple[int, Member, Path]]:
        """The members with their numbers and folders."""
        return [(n, m, self.run.member(0, n, m.model)) for n, m in enumerate(self.recipe.member)]

    @property
    def folder(self) -> Path:
        """The folder of fitted scaling, baselines and members."""
        return self.run.folder / "fold0"

    @property
    def scores_digest(self) -> str:
        """A digest of everything scores.json depends on besides the members."""
        weights = [m.weight for m in self.recipe.member]
        return digest_of([self.recipe.tree()["output"], weights, RUN_FORMAT, _SCORES])


_SCORES = 2  # version of what scores.json holds; finished runs of earlier ones are scored again
