"""Report sections of regression: residuals against truth and signal to noise, coverage of the spread, histograms of truths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wavefold.core.records import RunInfo, Scores
from wavefold.core.registry import later
from wavefold.data.csv_text import one_named
from wavefold.data.dataset import Dataset
from wavefold.evaluation.regression_metrics import regression_metrics
from wavefold.plots.charts import histogram, scatter
from wavefold.recipe import Recipe
from wavefold.reports.chapters import measured_words, metric_words, number
from wavefold.reports.held_out import HeldOut
from wavefold.reports.page import Block, Chapter, Table, Words

special = later("scipy.special")

Values = NDArray[np.float64]

_SIGNAL_TO_NOISE = ("snr", "snrg", "snr_g", "sn", "sn_g", "snr_median", "snrr")  # columns, the first that is there
_NOMINAL = (0.5, 0.68, 0.8, 0.9, 0.95)  # shares of the truths that intervals should hold
_DOTS = 2000  # drawn at most


def residual_chapters(held: HeldOut, info: RunInfo, dataset: Dataset | None, note: str) -> list[Chapter]:
    """Residuals by target, against the truth and, if the source has a column of it, signal to noise; coverage of the spread.

    dataset: the run's samples, None if they are gone. note: a sentence on repeated folds.
    """
    titles = [_title(info, k) for k in range(len(info.classes))]
    means, _ = np.split(held.probabilities, 2, axis=1)
    residual, some = means - held.labels, _some(len(held.rows))
    blocks: list[Block] = [_errors(held, info, titles)]
    for k, title in enumerate(titles):
        points = {info.classes[k]: (held.labels[some, k], residual[some, k])}
        blocks.append(scatter(points, f"true {title}", "predicted - true"))
    lead = f"Predicted minus true values of test samples; a slope means that extremes are pulled to the middle.{note}"
    noise = _noise_chapter(held, dataset, titles, residual, some)
    return [Chapter("Residuals", blocks, lead), *noise, _coverage(held, titles)]


def _errors(held: HeldOut, info: RunInfo, titles: list[str]) -> Table:
    """Errors by target, from the metrics of one number."""
    rows, metrics = [], regression_metrics(["x"])
    for k, title in enumerate(titles):
        own = held.probabilities[:, [k, len(titles) + k]]
        truth = held.labels[:, [k]].astype(np.float64)
        known = ~np.isnan(truth[:, 0])
        bias = float(np.mean((own[:, 0] - truth[:, 0])[known])) if known.any() else np.nan
        named = [metrics[name].function(own, truth) for name in ("rmse", "mae", "median-ae", "r2", "coverage")]
        rows.append([title, int(known.sum()), *(number(v) for v in named), number(bias)])
    return Table(["target", "n", "RMSE", "MAE", "median error", "R2", "coverage of 95 %", "mean residual"], rows)


def _noise_chapter(
    held: HeldOut, dataset: Dataset | None, titles: list[str], residual: Values, some: NDArray[np.int64]
) -> list[Chapter]:
    if dataset is None:
        return []
    column = next((there for name in _SIGNAL_TO_NOISE if (there := one_named(dataset.columns, name))), "")
    if not column:
        return []
    words = dataset.columns[column][held.rows]
    try:
        noise = np.where(words == "", "nan", words).astype(np.float64)
    except ValueError:
        return []
    blocks: list[Block] = [
        scatter({title: (noise[some], residual[some, k])}, f"signal to noise ({column})", "predicted - true")
        for k, title in enumerate(titles)
    ]
    return [Chapter("Residuals and signal to noise", blocks, "Errors should shrink as signal to noise grows.")]


def _coverage(held: HeldOut, titles: list[str]) -> Chapter:
    """Shares of truths within intervals of several nominal shares."""
    means, spreads = np.split(held.probabilities, 2, axis=1)
    off = np.abs(means - held.labels) / np.maximum(spreads, 1e-300)
    wide = [float(special.ndtri(0.5 + share / 2)) for share in _NOMINAL]
    found = [
        [float(np.nanmean(np.where(np.isnan(off[:, k]), np.nan, off[:, k] <= w))) for w in wide] for k in range(len(titles))
    ]
    curves = {t: (np.array(_NOMINAL), np.array(f)) for t, f in zip(titles, found, strict=True)}
    drawn = scatter(curves, "nominal share", "share found", "diagonal")
    rows = [[title, *(f"{share:.1%}" for share in shares)] for title, shares in zip(titles, found, strict=True)]
    table = Table(["target", *(f"{share:.0%} interval" for share in _NOMINAL)], rows, "share of true values inside")
    lead = (
        "How often the true value lies within the predicted interval: above the diagonal the spread is too wide, below it "
        "too narrow."
    )
    return Chapter("Calibration of the spread", [drawn, table], lead)


def number_members(held: HeldOut, recipe: Recipe, scores: Scores) -> Table:
    """The recipe's metric of each member, and how far its means are from the ensemble's."""
    rows, count = [], held.labels.shape[1]
    size = np.nanstd(held.labels, axis=0)
    for n, row in enumerate(scores.members):
        apart = np.abs(held.members[n][:, :count] - held.probabilities[:, :count]) / np.where(size > 0, size, 1.0)
        rows.append([row.name, measured_words(row.measure(scores.metric)), f"{np.median(apart):.3f}"])
    return Table(["member", metric_words(scores), "median distance from the ensemble, in standard deviations"], rows)


def number_histograms(dataset: Dataset) -> list[Chapter]:
    """A histogram of each target, with the number of unknown values."""
    if dataset.targets is None:
        return [Chapter("Targets", [Words("The source has no numbers to predict: it can be used for prediction only.")])]
    blocks: list[Block] = [
        histogram({name: values}, name) for name, values in zip(dataset.target_names, dataset.targets.T, strict=True)
    ]
    rows = [[name, *_counted(values)] for name, values in zip(dataset.target_names, dataset.targets.T, strict=True)]
    return [Chapter("Targets", [*blocks, Table(["target", "known", "unknown", "least", "median", "most"], rows)])]


def _counted(values: NDArray[np.float32]) -> list[object]:
    """Known and unknown values, least, median and most."""
    known = values[~np.isnan(values)]
    ends = np.quantile(known, (0, 0.5, 1)).tolist() if len(known) else [np.nan] * 3
    return [len(known), len(values) - len(known), *map(number, ends)]


def _title(info: RunInfo, k: int) -> str:
    unit = info.units[k] if info.units else ""
    return f"{info.classes[k]} ({unit})" if unit else info.classes[k]


def _some(count: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).permutation(count)[:_DOTS])
