"""Chapters that every run report has: headline, scores, learning curves, distribution shift, how to reproduce the run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import UserError, listed, plural
from wavefold.core.records import Measure, RunInfo, ScoreRow, Scores
from wavefold.core.run import RunFolder
from wavefold.data.statistics import Drift
from wavefold.evaluation.standing import standing_kind
from wavefold.plots.charts import Epoch, learning_curves, scores_with_intervals
from wavefold.recipe import Recipe
from wavefold.reports.page import Block, Chapter, Facts, Table, Words
from wavefold.reports.score_table import with_interval

Values = NDArray[np.float64]


def report_lead(run: RunFolder, scores: Scores, info: RunInfo) -> str:
    """How the ensemble stands to the best baseline, and which run it is."""
    stands = f"The ensemble is {scores.standing}.\n\n" if scores.standing else ""
    return f"{stands}Run {run.folder}, trained on {info.source}."


def headline(scores: Scores, samples: str = "samples") -> list[tuple[str, str]]:
    """The score with its interval, the sample counts and the scores of the baselines. samples: the domain's word for them."""
    measured = scores.score.measure(scores.metric)
    beside = [(f"{row.name} (baseline)", number(row.value(scores.metric))) for row in scores.baselines]
    learned = (f"training {samples}", f"{scores.learned_from:,.0f}")
    ends = "" if np.isnan(measured.low) else f" [{number(measured.low)}, {number(measured.high)}]"
    return [(f"{metric_words(scores)}{ends}", number(measured.value)), (f"test {samples}", f"{scores.n:,}"), learned, *beside]


def metric_words(scores: Scores, metric: str = "") -> str:
    """The name of a metric, by default the recipe's, with its unit or the number of rows for which a sum is quoted."""
    metric = metric or scores.metric
    unit = scores.units.get(metric, "")
    return f"l1 per {scores.per:,}" if metric == "l1" and scores.per else f"{metric}, {unit}" if unit else metric


def number(value: float | None) -> str:
    """Format a score; an undefined one is a dash."""
    return "–" if value is None or not np.isfinite(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def measured_words(measured: Measure) -> str:
    """A value with its interval, if it has one."""
    return with_interval(measured, number)


def score_chapter(scores: Scores, info: RunInfo) -> Chapter:
    """How the ensemble stands to the best baseline; scores of all predictors with counts, intervals and notes."""
    rows = predictor_rows(scores)
    measured = [row.measure(scores.metric) for _, _, row in rows]
    value, low, high = np.array(measured, np.float64).T
    blocks: list[Block] = [*standing_block(scores), *(Words(note, "warning") for note in _notes(scores, info))]
    names, kinds = [name for name, _, _ in rows], [kind for _, kind, _ in rows]
    blocks.append(scores_with_intervals(names, value, low, high, metric_words(scores), kinds))
    blocks.append(_score_table(scores, rows))
    if scores.folds:
        each = [[f.fold + 1, f.n, *(number(v) for v in f.measure(scores.metric))] for f in scores.folds]
        blocks.append(Table(["fold", "n", metric_words(scores), "low", "high"], each, "scores of each fold's test part"))
    better = "" if scores.higher_is_better is None else f" ({'higher' if scores.higher_is_better else 'lower'} is better)"
    what = f"{metric_words(scores)}{better} on {plural(scores.n, 'test sample')}"
    lead = f"{what}, used neither for training nor for choosing weights; bars are 95 % intervals."
    return Chapter("Score", blocks, lead)


def standing_block(scores: Scores) -> list[Block]:
    """How the ensemble stands to the best baseline, as good news or as a warning."""
    line = scores.standing
    return [Words(f"The ensemble is {line}.", standing_kind(line))] if line else []


def _notes(scores: Scores, info: RunInfo) -> list[str]:
    simulated = "Trained and tested on simulated samples: the scores may not hold for real data."
    said = any(note.startswith("trained and tested on simulated") for note in scores.notes)
    return [*([simulated] if info.simulated and not said else []), *scores.notes]


def predictor_rows(scores: Scores) -> list[tuple[str, str, ScoreRow]]:
    """Rows of the score table: (name, kind, metrics)."""
    alone = len(scores.members) == 1  # then the ensemble equals the member
    members = [] if alone else [(row.name, "member", row) for row in scores.members]
    baselines = [(f"{row.name} (baseline)", "baseline", row) for row in scores.baselines]
    return [("ensemble", "ensemble", scores.score), *members, *baselines]


def _score_table(scores: Scores, rows: Sequence[tuple[str, str, ScoreRow]]) -> Table:
    shown = list(scores.score.measures)
    heads = [metric_words(scores, metric) for metric in shown]
    cells = [[name, *(measured_words(row.measure(metric)) for metric in shown)] for name, _, row in rows]
    return Table(["", *heads], cells)


def learning_chapter(run: RunFolder, recipe: Recipe, metric: str) -> Chapter:
    """Loss and validation score by epoch and stage, for each net of each fold."""
    lines = {}
    for fold in range(run.metadata.folds):
        for n, member in enumerate(recipe.member):
            path = run.member(fold, n, member.model) / "metrics.jsonl"
            if path.exists():
                name = f"{n} {member.model}" + (f", fold {fold + 1}" if run.metadata.folds > 1 else "")
                lines[name] = _epochs(path)
    if not lines:
        return Chapter("Learning curves", [Words("No member is trained in epochs.")])
    best = recipe.stage[-1].best
    shown = best if all(best in line for each in lines.values() for line in each) else metric
    seconds = run.scores.seconds
    took = f" Training and evaluation took {seconds:,.0f} s." if seconds else ""
    lead = f"Dots mark the selected epoch, with the best {best} on the validation part."
    return Chapter("Learning curves", [learning_curves(lines, shown)], lead + took)


def _epochs(path: Path) -> list[Epoch]:
    """Read the lines of a member's metrics.jsonl; UserError if one is damaged."""
    found = list[Epoch]()
    for number_, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        try:
            found.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            raise UserError(f"{path} line {number_}: the line is damaged; delete it to draw the curves without it") from None
    return found


def drifted(name: str, found: Drift) -> list[Block]:
    """Describe how other samples differ from the training samples."""
    values, wide = _largest(found.outside), _largest(found.outside_by_position)
    outside = f"{values:.3%} of the values lie outside the range of the training values"
    by_place = (
        f"at the worst position {wide:.1%} of the samples lie outside the training range ({found.by_chance:.1%} by chance)"
    )
    rows = [[s.name, number(s.learned), number(s.other), f"{s.distance:.3f}", f"{s.p:.2g}"] for s in found.shifts]
    head = ["statistic", "median, training part", f"median, {name}", "Kolmogorov-Smirnov distance", "p"]
    caption = "Distance 0: same distribution as the training part; 1: no overlap. The p-values assume independent samples."
    far = values > _OUTSIDE or any(s.distance > _FAR for s in found.shifts)
    return [Words(f"{name}: {outside}; {by_place}.", "warning" if far else "plain"), Table(head, rows, caption)]


def _largest(shares: Values) -> float:
    """The largest share; 0 if none is defined."""
    return float(np.nan_to_num(shares).max(initial=0.0))


_OUTSIDE, _FAR = 0.001, 0.2  # warning thresholds: share of values; distance


def repeat_chapter(run: RunFolder, recipe: Recipe) -> Chapter:
    """Command, environment and recipe to reproduce the run."""
    info = run.metadata
    known = [
        ("wavefold", info.version),
        ("python", info.python),
        ("torch", info.torch),
        ("numpy", info.numpy),
        ("machine", info.machine),
        ("seed", str(recipe.seed)),
        ("data, SHA-256", info.identity.data),
        ("recipe, SHA-256", info.identity.recipe),
    ]
    return Chapter("Reproduce this run", [Words(_command(run), "code"), Facts(known), Words(recipe.toml(), "code")])


def _command(run: RunFolder) -> str:
    """The command that made the run; for a run made from Python, a command that trains from its recipe."""
    program, *given = run.metadata.command
    if Path(program).stem == "wavefold" or Path(program).parts[-2:] == ("wavefold", "cli.py"):
        return shlex.join(["wavefold", *given])
    data = [] if run.metadata.simulated else ["--data", run.source]
    return shlex.join(["wavefold", "train", str(run.folder / "recipe.toml"), *data])


def some_of(words: Sequence[str], most: int) -> str:
    """The first few words, and the number of the others."""
    return listed(words) if len(words) <= most else f"{', '.join(words[:most])} and {len(words) - most:,} more"
