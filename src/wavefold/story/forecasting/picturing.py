"""Pictures of forecasts and scores of a forecaster on its test windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavefold.base.errors import UserError
from wavefold.base.series import Windows
from wavefold.output.animation import animate
from wavefold.output.canvas import Field
from wavefold.output.forecast_picture import draw_errors, draw_forecast
from wavefold.output.skill_picture import draw_skill, draw_spectrum
from wavefold.story.forecasting.asking import Forecaster, where_seen
from wavefold.story.forecasting.fitting import truth_of
from wavefold.story.forecasting.judging import Verdict
from wavefold.training.spectrum import radial_power


def clear_pictures(folder: Path) -> None:
    """Delete the pictures of an earlier evaluation, which may not all be redrawn."""
    for path in (*folder.glob("*.png"), *folder.glob("*.gif")):
        path.unlink()


def draw_verdict(folder: Path, forecaster: Forecaster, verdict: Verdict) -> list[str]:
    """Draw one test window, skill by lead, errors by cell and the power spectrum; returns a note if drawing fails."""
    try:
        _draw(folder, forecaster, verdict)
    except UserError as error:  # the extra is not installed
        return [f"no pictures: {error}"]
    return []


def _draw(folder: Path, forecaster: Forecaster, verdict: Verdict) -> None:
    windows = verdict.windows
    series, one = windows.series, windows.take(np.array([_liveliest(windows)]))
    past, truth = one.values()[0, 0, : one.past], truth_of(one, forecaster.targets)[0, 0]
    answers = next(forecaster.answers(one))[1]
    shown = {name: where_seen(answers[name][0, 0], past) for name in ["ensemble", *forecaster.recipe.output.baselines]}
    clock = None if series.times is None else one.clock()[0]
    given: dict[str, Any] = {"field": _field(one), "clock": clock, "title": f"{Path(series.source).name}, {series.channels[0]}"}
    draw_forecast(folder / "forecast.png", past, truth, shown, **given)
    animate(folder / "forecast.gif", past, truth, {"ensemble": shown["ensemble"]}, **given)
    _draw_skill(folder, verdict)
    if windows.size == series.size:
        draw_errors(folder / "errors.png", np.sqrt(verdict.errors), series.channels[: forecaster.targets], field=given["field"])
    seen = {name: np.where(np.isnan(truth[-1]), np.nan, frames[-1]) for name, frames in {"truth": truth, **shown}.items()}
    power = {name: radial_power(torch.from_numpy(frame)).numpy() for name, frame in seen.items()}
    draw_spectrum(folder / "spectrum.png", power, unit=series.unit, title=f"power by size at lead {windows.ahead}")


def _draw_skill(folder: Path, verdict: Verdict) -> None:
    series, names = verdict.windows.series, ["ensemble", *verdict.recipe.output.baselines]
    for metric in dict.fromkeys([verdict.metric, *(m for m in ("rmse", "csi", "ssim") if m in verdict.metric_names)]):
        curves = {name: verdict.scores[name].by_lead(metric) for name in names}
        ends = {name: verdict.ends(name, metric) for name in names}
        unit = series.unit if metric in ("rmse", "mae") else ""
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
