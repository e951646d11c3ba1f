"""Baselines of a cycle among a run's own: added where frames have times, left out where they cannot be compared with it."""

from __future__ import annotations

from wavefold.core.errors import UserError, listed
from wavefold.core.records import RunInfo
from wavefold.data.series import Series
from wavefold.recipe import Recipe
from wavefold.transforms.climatology import Cycle

DAY, YEAR = 86400.0, 31556952.0  # seconds; the mean year of the calendar, 365.2425 days
CYCLIC = ("climatology", "damped_anomaly")
_MOST_MEANS = 2**25  # cells of all phases, 400 MB while they are summed: larger frames get it only if the recipe asks


def with_climatology(recipe: Recipe, series: Series) -> tuple[Recipe, list[str]]:
    """The recipe with CYCLIC beside its baselines, where the series has times; and a note if they do not fit it.

    The cycle is output.period, or a year if the frames are a day or more apart and the period is not longer than that. A
    recipe that names one of them itself, or no baselines at all, stays as it is.
    """
    names = recipe.output.baselines
    if series.times is None or not series.step or not names or {*names} & {*CYCLIC}:
        return recipe, []
    period = recipe.output.period if series.step < DAY or recipe.output.period > DAY else YEAR
    try:
        phases = Cycle(period=period, smooth=0, place=CYCLIC[0]).phases(series.step)
    except UserError as error:
        return recipe, [f"no climatology among the baselines: {error}"]
    cells = phases * len(series.channels) * series.size[0] * series.size[1]
    if cells > _MOST_MEANS:
        return recipe, [f"no climatology among the baselines: {cells:,} means; name it in output.baselines to have it"]
    return recipe.with_({"output.baselines": [*names, *CYCLIC], "output.period": period}), []


def without_climatology(recipe: Recipe, series: Series, info: RunInfo) -> tuple[Recipe, list[str]]:
    """A run's recipe without CYCLIC, and a note, if other frames have no times or another size than the run's own."""
    names, own = recipe.output.baselines, list(info.shape[1:])
    cyclic = [name for name in names if name in CYCLIC]
    if not cyclic:
        return recipe, []
    if list(series.size) != own:
        rows, columns = series.size
        why = f"these frames have {rows} x {columns} cells, those of the run {own[0]} x {own[1]}"
    elif series.times is None and info.timed:
        why = "these frames have no times"
    else:
        return recipe, []
    return recipe.with_({"output.baselines": [name for name in names if name not in CYCLIC]}), [
        f"not compared with {listed(cyclic)}: {why}"
    ]
