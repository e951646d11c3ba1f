"""Which baselines a run of forecasts is compared with: "auto" in a recipe stands for all that the frames allow."""

from __future__ import annotations

from wavefold.core.errors import UserError, listed
from wavefold.core.records import RunInfo
from wavefold.data.series import Series
from wavefold.recipe import Recipe
from wavefold.transforms.climatology import Cycle

AUTO = "auto"
DAY, YEAR = 86400.0, 31556952.0  # seconds; the mean year of the calendar, 365.2425 days
CYCLIC = ("climatology", "damped_anomaly", "seasonal_naive", "seasonal_change")
BY_CELL = ("climatology", "damped_anomaly", "pca_ridge")  # fitted cell by cell: for frames of one size only
_MOVING = ("advection", "spectral", "spectral_matched")
_RADAR = 1800.0  # seconds; frames at most that far apart show how things move
_MOST_MEANS = 2**25  # cells of all phases, 400 MB while they are summed: larger frames get them only if the recipe asks


def with_usual_baselines(recipe: Recipe, series: Series) -> tuple[Recipe, list[str]]:
    """The recipe with baselines for "auto", and a note if those of a cycle do not fit the frames.

    Always persistence and the mean of the past; with times, those of a cycle, which is output.period, or a year if the frames
    are a day or more apart and the period is not longer than that; for whole frames, pca_ridge; for frames at most half an
    hour apart, advection, spectral and spectral_matched.
    """
    names = recipe.output.baselines
    if AUTO not in names:
        return recipe, []
    period = recipe.output.period if series.step < DAY or recipe.output.period > DAY else YEAR
    cyclic, why = _cyclic(series, period)
    crops = recipe.windows is not None and len(recipe.windows.crop) > 0
    found = ["persistence", "mean", *cyclic]
    found += [] if crops or series.times is None else ["pca_ridge"]
    found += _MOVING if series.times is not None and 0 < series.step <= _RADAR else ()
    at = names.index(AUTO)
    chosen = dict.fromkeys([*names[:at], *found, *names[at + 1 :]])
    chosen.pop(AUTO, None)
    return recipe.with_({"output.baselines": list(chosen), "output.period": period}), why


def _cyclic(series: Series, period: float) -> tuple[list[str], list[str]]:
    """The baselines of a cycle that fit the frames, and why some do not."""
    if series.times is None or not series.step:
        return [], []
    cycle = Cycle(period=period, smooth=0, place=CYCLIC[0])
    try:
        steps, phases = cycle.steps(series.step), cycle.phases(series.step)
    except UserError as error:
        return [], [f"no climatology among the baselines: {error}"]
    longest = int((series.ends - series.starts).max())
    names = [name for name in CYCLIC if name not in BY_CELL] if 2 * steps < longest else []
    cells = phases * len(series.channels) * series.size[0] * series.size[1]
    if cells > _MOST_MEANS:
        return names, [f"no climatology among the baselines: {cells:,} means; name it in output.baselines to have it"]
    return [*(name for name in CYCLIC if name in BY_CELL), *names], []


def without_unfit_baselines(recipe: Recipe, series: Series, info: RunInfo) -> tuple[Recipe, list[str]]:
    """A run's recipe without baselines that other frames do not allow, as they have no times or another size; and a note."""
    own, reasons, unfit = list(info.shape[1:]), list[str](), list[str]()
    if list(series.size) != own:
        rows, columns = series.size
        reasons.append(f"these frames have {rows} x {columns} cells, those of the run {own[0]} x {own[1]}")
        unfit += BY_CELL
    if series.times is None and info.timed:
        reasons.append("these frames have no times")
        unfit += [*CYCLIC, "pca_ridge"]
    left = [name for name in recipe.output.baselines if name in unfit]
    if not left:
        return recipe, []
    return recipe.with_({"output.baselines": [name for name in recipe.output.baselines if name not in left]}), [
        f"not compared with {listed(left)}: {listed(reasons)}"
    ]
