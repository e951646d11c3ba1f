"""Pictures of forecasts and scores of a forecaster on its test windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from wavefold.core.errors import UserError
from wavefold.data.series import Windows
from wavefold.evaluation.forecast_metrics import metric_unit
from wavefold.evaluation.spectrum import radial_power
from wavefold.plots.animation import animate
from wavefold.plots.canvas import Field
from wavefold.plots.forecast_picture import draw_errors, draw_forecast
from wavefold.plots.skill_picture import draw_skill, draw_spectrum
from wavefold.tasks.frames.evaluate import Evaluation
from wavefold.tasks.frames.fit import truth_of
from wavefold.tasks.frames.inference import Forecaster, where_seen


def clear_pictures(folder: Path) -> None:
    """Delete the pictures of an earlier evaluation, which may not all be redrawn."""
    for path in (*folder.glob("*.png"), *folder.glob("*.gif")):
        path.unlink()


def draw_evaluation(folder: Path, forecaster: Forecaster, evaluation: Evaluation) -> list[str]:
    """Draw one test window, skill by lead, errors by cell and the power spectrum; returns a note if drawing fails."""
    try:
        _draw(folder, forecaster, evaluation)
    except UserError as error:  # the extra is not installed
        return [f"no pictures: {error}"]
    return []


def _draw(folder: Path, forecaster: Forecaster, evaluation: Evaluation) -> None:
    windows = evaluation.parts[-1]  # those of the fold that forecasts
    series, one = windows.series, windows.take(np.array([_liveliest(windows)]))
    past, truth = one.values()[0, 0, : one.past], truth_of(one, forecaster.targets)[0, 0]
    answers = next(forecaster.answers(one))[1]
    shown = {name: where_seen(answers[name][0, 0], past) for name in ["ensemble", *forecaster.recipe.output.baselines]}
    clock, field = None if series.times is None else one.clock()[0], _field(one)
    title = f"{Path(series.source).name}, {series.channels[0]}"
    draw_forecast(folder / "forecast.png", past, truth, shown, field=field, clock=clock, title=title)
    animate(folder / "forecast.gif", past, truth, {"ensemble": shown["ensemble"]}, field=field, clock=clock, title=title)
    _draw_skill(folder, evaluation)
    if windows.size == series.size:
        draw_errors(folder / "errors.png", np.sqrt(evaluation.errors), series.channels[: forecaster.targets], field=field)
    seen = {name: np.where(np.isnan(truth[-1]), np.nan, frames[-1]) for name, frames in {"truth": truth, **shown}.items()}
    power = {name: radial_power(torch.from_numpy(frame)).numpy() for name, frame in seen.items()}
    draw_spectrum(folder / "spectrum.png", power, unit=series.unit, title=f"power by size at lead {windows.ahead}")


def _draw_skill(folder: Path, evaluation: Evaluation) -> None:
    series, names = evaluation.windows.series, ["ensemble", *evaluation.recipe.output.baselines]
    for metric in dict.fromkeys([evaluation.metric, *(m for m in ("rmse", "csi", "ssim") if m in evaluation.metric_names)]):
        curves = {name: evaluation.scores[name].by_lead(metric) for name in names}
        ends = {name: evaluation.ends(name, metric) for name in names}
        unit = metric_unit(metric, series.unit)
        draw_skill(folder / f"{metric}.png", curves, metric, unit=unit, step=series.step, intervals=ends)


def _liveliest(windows: Windows) -> int:
    """The index of the window with the largest change between frames, among at most 64."""
    looked = np.unique(np.linspace(0, len(windows) - 1, 64).round().astype(np.int64))
    values = windows.take(looked).values()[:, 0]
    return int(looked[np.argmax(np.nan_to_num(np.abs(np.diff(values, axis=1))).mean(axis=(1, 2, 3)))])


def _field(one: Windows) -> Field:
    """Labels and coordinates for panels of a window's first channel."""
    series, (rows, columns), top, left = one.series, one.size, int(one.top[0]), int(one.left[0])
    along = None if series.rows is None else series.rows[top : top + rows]
    across = None if series.columns is None else series.columns[left : left + columns]
    return Field(series.channels[0], series.unit, series.step, along, across)
