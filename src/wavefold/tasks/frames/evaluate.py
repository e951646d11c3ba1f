"""Evaluation of forecasts and baselines by lead time, on the same windows; and notes on the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import listed, plural
from wavefold.core.progress import Progress
from wavefold.core.records import SCORES_FORMAT, ScoreRow, Scores
from wavefold.data.dataset import Ints
from wavefold.data.series import Series, Windows
from wavefold.data.windows import TimeSplit, time_blocks
from wavefold.evaluation.forecast_metrics import FEWEST_UNITS, LEAST_UNITS, FrameScores, is_higher_better, metric_unit
from wavefold.evaluation.standing import standing
from wavefold.recipe import Recipe
from wavefold.tasks.frames.fit import metrics_of, truth_of
from wavefold.tasks.frames.inference import Forecaster
from wavefold.tasks.frames.reading import sections, with_truth

Values = NDArray[np.float64]


class _Drawn(TypedDict):
    """How resamples are drawn."""

    groups: NDArray[np.str_]  # (sample,) names of the resampling units
    seed: int


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of the ensemble, its members and the baselines on the test windows of each fold."""

    recipe: Recipe
    parts: tuple[Windows, ...]  # of each fold, in time order
    scores: dict[str, FrameScores]  # by forecaster: the ensemble, then members, then baselines; fold after fold
    squares: Values  # (target, row, column) sums of the ensemble's squared errors; 0 for crops
    cells: Values  # how many errors are in each sum

    @classmethod
    def joined(cls, evaluations: Sequence[Evaluation]) -> Evaluation:
        """The evaluations of several folds as one."""
        first, *others = evaluations
        for other in others:
            for name, scores in first.scores.items():
                scores.merge(other.scores[name])
        squares, cells = (sum(getattr(one, sums) for one in evaluations) for sums in ("squares", "cells"))
        return cls(first.recipe, tuple(p for one in evaluations for p in one.parts), first.scores, squares, cells)

    @cached_property
    def windows(self) -> Windows:
        """The windows of all folds."""
        first, top, left = (np.concatenate([getattr(p, name) for p in self.parts]) for name in ("first", "top", "left"))
        return replace(self.parts[0], first=first, top=top, left=left)

    @property
    def errors(self) -> Values:
        """Mean square error of the ensemble, (target, row, column); NaN without truth, or for crops."""
        return np.where(self.cells > 0, self.squares / np.maximum(self.cells, 1), np.nan)

    @cached_property
    def blocks(self) -> NDArray[np.str_]:
        """Block of time of each window, (sample,), the resampling units of intervals."""
        return time_blocks(self.windows)

    @property
    def metric(self) -> str:
        """The recipe's metric."""
        return self.recipe.output.metric

    def row(self, name: str) -> dict[str, object]:
        """All metrics over all leads and by lead; the recipe's metric with its intervals."""
        scores, others = self.scores[name], [m for m in self.metric_names if m != self.metric]
        own = np.array([scores.value(self.metric), *scores.interval(self.metric, **self._drawn)])
        return {
            self.metric: plain(own),
            **dict(zip(others, plain(np.array([scores.value(other) for other in others])), strict=True)),
            "by-lead": {m: plain(scores.by_lead(m)) for m in self.metric_names},
            "interval-by-lead": plain(self.ends(name, self.metric)),
        }

    def ends(self, name: str, metric: str) -> Values:
        """The interval of a metric at each lead, (lead, 2)."""
        return self.scores[name].interval_by_lead(metric, **self._drawn)

    def skill(self, baseline: str) -> dict[str, object]:
        """Differences, ensemble - baseline, of each metric over all leads; of the recipe's, and skill, by lead; with intervals.

        Skill is 1 - mse / baseline mse.
        """
        ours, theirs = self.scores["ensemble"], self.scores[baseline]
        value, low, high = ours.difference_by_lead(self.metric, theirs, **self._drawn)
        skill = ours.skill_by_lead("mse", theirs, **self._drawn)
        whole = {name: ours.difference(name, theirs, **self._drawn) for name in self.metric_names}
        return {
            "differences": {name: plain(np.array(ends)) for name, ends in whole.items()},
            "difference": plain(np.stack([value, low, high], axis=-1)),
            "skill": plain(np.stack(skill, axis=-1)),
        }

    def results(self) -> Scores:
        """The scores of the windows, without notes."""
        names, baselines, series = list(self.scores), list(self.recipe.output.baselines), self.windows.series
        members = [name for name in names[1:] if name not in baselines]
        rows = tuple(ScoreRow.of({**self.row(name), **self.skill(name)}, name=name) for name in baselines)
        units = {name: unit for name in self.metric_names if (unit := metric_unit(name, series.unit))}
        higher = {name: better for name in self.metric_names if (better := is_higher_better(name)) is not None}
        return Scores(
            format=SCORES_FORMAT,
            task=self.recipe.kind,
            metric=self.metric,
            higher_is_better=metrics_of(self.recipe, 1.0)[self.metric].higher_is_better,
            standing=standing(self.metric, rows, higher, units, losses=True),
            units=units,
            unit=series.unit,
            n=len(self.windows),
            blocks=len(set(self.blocks.tolist())),
            leads=self.windows.ahead,
            step=series.step,
            score=ScoreRow.of(self.row("ensemble")),
            members=tuple(ScoreRow.of(self.row(name), name=name) for name in members),
            baselines=rows,
            folds=self._by_fold() if len(self.parts) > 1 else (),
        )

    def _by_fold(self) -> tuple[ScoreRow, ...]:
        """The recipe's metric of the ensemble, which has no name, and of each baseline over each fold's windows."""
        ends, rows = np.cumsum([len(part) for part in self.parts]).tolist(), []
        for fold, (part, end) in enumerate(zip(self.parts, ends, strict=True)):
            some = slice(end - len(part), end)
            for name in ("ensemble", *self.recipe.output.baselines):
                value = self.scores[name].value(self.metric, some)
                shown = "" if name == "ensemble" else name
                rows.append(ScoreRow.of({self.metric: _defined(value)}, name=shown, fold=fold, n=len(part)))
        return tuple(rows)

    @property
    def _drawn(self) -> _Drawn:
        return {"groups": self.blocks, "seed": self.recipe.seed}

    @property
    def metric_names(self) -> Sequence[str]:
        """The names of all metrics."""
        return list(metrics_of(self.recipe, 1.0))


def evaluate_windows(forecaster: Forecaster, windows: Windows, data_range: float) -> Evaluation:
    """Evaluate a forecaster and its baselines on the windows with true later frames."""
    windows = with_truth(windows, forecaster.targets)
    metrics, scores = metrics_of(forecaster.recipe, data_range), dict[str, FrameScores]()
    whole = windows.size == windows.series.size
    squares, cells = (np.zeros((forecaster.targets, *windows.size)) for _ in range(2))
    with Progress("scoring", len(windows), "windows") as progress:
        for rows, answers in forecaster.answers(windows):
            truth = truth_of(windows.take(rows), forecaster.targets)
            for name, predicted in answers.items():
                scores.setdefault(name, FrameScores(metrics)).add(predicted, truth)
            if whole:
                off = (answers["ensemble"].astype(np.float64) - truth) ** 2
                squares += np.nansum(off, axis=(0, 2))
                cells += np.isfinite(off).sum(axis=(0, 2))
            progress.update(rows.stop)
    return Evaluation(forecaster.recipe, (windows,), scores, squares, cells)


def frame_notes(recipe: Recipe, series: Series, windows: Windows, splits: Sequence[TimeSplit]) -> list[str]:
    """Caveats about the data for reading the score."""
    notes = list(series.notes)
    tested = windows.take(np.concatenate([split.test for split in splits]))
    share = _missing(tested, len(sections(recipe)[0].targets) or len(series.channels))
    if share:
        notes.append(f"{share:.1%} of the cells in the test part's later frames are missing; they are excluded from the scores")
    return notes


def interval_notes(blocks: int) -> list[str]:
    """A note if there are too few blocks of time, each as long as a window, for a sure interval, or for any."""
    if blocks >= FEWEST_UNITS:
        return []
    given = "no interval is given" if blocks < LEAST_UNITS else "intervals are wide, by the jackknife and Student's t"
    return [f"fewer than {FEWEST_UNITS} blocks of time ({blocks}): {given}"]


def evaluation_notes(results: Scores) -> list[str]:
    """Notes on missing intervals, and on baselines that the ensemble does not beat, with the leads."""
    notes, better = interval_notes(results.blocks), 1 if results.higher_is_better else -1
    for row in results.baselines:
        lost = better * np.array(row.difference, np.float64)[:, 0] <= 0  # False where the metric is undefined
        if lost.any():
            where = "at any lead" if lost.all() else f"at lead {_ranges(np.flatnonzero(lost) + 1)}"
            notes.append(f"no better than {row.name} by {results.metric} {where}")
    whole = lead_standing(results)
    return [*notes, whole] if whole else notes


def lead_standing(results: Scores) -> str:
    """At how many leads the ensemble is better than, no different from and worse than the best baseline there, as a sentence.

    The baseline that is best at a lead is found on the same windows, which favours it. '' without intervals or baselines.
    """
    better = 1 if results.higher_is_better else -1
    counts = {"better": 0, "no different": 0, "worse": 0}
    for lead in range(results.leads):
        rows = [row for row in results.baselines if row.by_lead[results.metric][lead] is not None]
        if not rows:
            return ""
        best = max(rows, key=lambda row: better * float(row.by_lead[results.metric][lead] or 0.0))
        _, low, high = best.difference[lead]
        if low is None or high is None:
            return ""
        ends = sorted((better * low, better * high))
        counts["better" if ends[0] > 0 else "worse" if ends[1] < 0 else "no different"] += 1
    return (
        f"against the best baseline of each lead, by {results.metric} and its 95 % intervals: better at {counts['better']} of "
        f"{plural(results.leads, 'lead')}, no different at {counts['no different']}, worse at {counts['worse']}"
    )


def _ranges(numbers: Ints) -> str:
    """Format ascending integers as ranges: 1, 4 to 6."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return listed(f"{run[0]}" if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def plain(values: Values) -> list[object]:
    """Convert numbers for JSON; undefined ones become None."""
    array = np.asarray(values, np.float64)
    return [plain(v) for v in array] if array.ndim > 1 else [_defined(float(v)) for v in array]


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _missing(windows: Windows, targets: int) -> float:
    """The share of missing cells in the later frames of windows, estimated from at most 32 windows."""
    if not len(windows):
        return 0.0
    looked = np.unique(np.linspace(0, len(windows) - 1, 32).round().astype(np.int64))
    return float(np.mean([np.isnan(truth_of(windows.take(np.array([one])), targets)).mean() for one in looked]))
