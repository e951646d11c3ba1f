"""Format scores.json as a text table: the ensemble first, then its members and the baselines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from wavefold.core.errors import plural
from wavefold.core.progress import clock
from wavefold.core.records import Measure, ScoreRow, Scores
from wavefold.plots.canvas import lead_word


def score_table(scores: Scores) -> str:
    """Return the score table of a run on samples as text: how it stands to the baselines, counts, a row each, and the notes."""
    names = list(dict.fromkeys([scores.metric, *scores.score.with_interval()]))[:_COLUMNS]
    heads = [f"l1 per {scores.per:,}" if name == "l1" and scores.per else with_unit(name, scores) for name in names]
    lines = [
        *([scores.standing] if scores.standing else []),
        f"trained on {plural(scores.learned_from, 'sample')}, tested on "
        f"{scores.n:,} other{'s' if scores.n != 1 else ''} in {clock(scores.seconds or 0.0)}; 95 % intervals",
        _line("", heads),
        *(_line(row.name, [_cell(name, row.measure(name)) for name in names]) for row in _rows(scores)),
        *(f"note: {note}" for note in scores.notes),
        *_by_fold(scores),
    ]
    return "\n".join(lines)


_COLUMNS = 3  # metrics with a column of their own


def _rows(scores: Scores) -> list[ScoreRow]:
    """The ensemble, the members and the baselines."""
    named = [row.model_copy(update={"name": f"{row.name} (baseline)"}) for row in scores.baselines]
    return [scores.score.model_copy(update={"name": "ensemble"}), *scores.members, *named]


def with_unit(name: str, scores: Scores) -> str:
    """A metric with its unit: mse (K^2)."""
    return f"{name} ({scores.units[name]})" if name in scores.units else name


def _by_fold(scores: Scores) -> list[str]:
    """The ensemble's metric in each fold, as one line, if there are several."""
    values = [fold.value(scores.metric) for fold in scores.folds]
    words = " ".join("?" if v != v else f"{v:,.0f}" if scores.metric == "l1" else f"{v:.4f}" for v in values)
    return [f"by fold: {scores.metric} {words}"] if values else []


def score_rows(scores: Scores) -> tuple[list[str], list[list[str]]]:
    """The recipe's metric of ensemble, members and baselines as a table's header and rows."""
    cells = [[row.name, _cell(scores.metric, row.measure(scores.metric))] for row in _rows(scores)]
    return ["", f"{with_unit(scores.metric, scores)} [95 % interval]"], cells


def lead_table(scores: Scores) -> str:
    """Return the scores of a forecaster as text: how it stands, the metric by lead, every metric, and the notes."""
    shown = sorted({round(k) for k in np.linspace(0, scores.leads - 1, min(_LEADS, scores.leads))})
    heads = "".join(f"{lead_word(k + 1, scores.step or 0.0):<11}" for k in shown)
    lines = [
        scores.standing or "not compared with any baseline",
        _tested(scores),
        f"{'':<28}{'all leads':<34}{heads}".rstrip(),
        *(_lead_line(row, scores.metric, shown) for row in _rows(scores)),
        *_metric_lines(scores),
        *_cut_lines(scores),
        *(f"note: {note}" for note in scores.notes),
    ]
    return "\n".join(lines)


def _cut_lines(scores: Scores) -> list[str]:
    """The recipe's metric of the ensemble and of each baseline by cut of a split with rolling origins, if there are several."""
    cuts: dict[int, dict[str, ScoreRow]] = {}
    for row in scores.folds:
        cuts.setdefault(row.fold, {})[row.name] = row
    if not cuts:
        return []
    heads = "".join(f"{name or 'ensemble':<17}" for name in cuts[0])
    lines = [f"{scores.metric + ' by cut':<26}{heads}".rstrip()]
    for cut, rows in cuts.items():
        cells = "".join(f"{_short(row.value(scores.metric)):<17}" for row in rows.values())
        title = f"{cut + 1}, {plural(rows[''].n, 'window')}"
        lines.append(f"{title:<26}{cells}".rstrip())
    return lines


_LEADS = 6  # leads with a column of their own


def _tested(scores: Scores) -> str:
    """How many windows were tested, and what the rows below show."""
    learned = f"trained on {plural(scores.learned_from, 'window')}, " if scores.learned_from else ""
    seconds = f" in {clock(scores.seconds)}" if scores.seconds else ""
    unit = scores.units.get(scores.metric, "")
    interval = "" if math.isnan(scores.score.measure(scores.metric).low) else " with its 95 % interval"
    return (
        f"{learned}tested on {scores.n:,}{' other' if learned else ''} window{'s' if scores.n != 1 else ''} in "
        f"{plural(scores.blocks, 'block')} of time{seconds}; "
        f"{scores.metric}{f' in {unit}' if unit else ''}{interval}, then by lead"
    )


def _lead_line(row: ScoreRow, metric: str, shown: Sequence[int]) -> str:
    words = "".join(f"{_short(row.by_lead[metric][k]):<11}" for k in shown)
    return f"{row.name:<28}{with_interval(row.measure(metric), _short):<34}{words}".rstrip()


def _metric_lines(scores: Scores) -> list[str]:
    """Every metric over all leads, with its unit, of the ensemble and of each baseline beside it."""
    rows, heads = [scores.score, *scores.baselines], ["ensemble", *(row.name for row in scores.baselines)]
    lines = [f"{'all leads':<26}{''.join(f'{head:<17}' for head in heads)}".rstrip()]
    for name in scores.score.by_lead:
        cells = "".join(f"{_short(row.value(name)):<17}" for row in rows)
        lines.append(f"{with_unit(name, scores):<26}{cells}".rstrip())
    return lines


def with_interval(measured: Measure, words: Callable[[float], str]) -> str:
    """A value and its interval; the value alone where there is no interval. words: formats a number."""
    if math.isnan(measured.low):
        return words(measured.value)
    return f"{words(measured.value)} [{words(measured.low)}, {words(measured.high)}]"


def _short(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.4g}"


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<26}{''.join(f'{cell:<28}' for cell in cells)}".rstrip()


def _cell(name: str, measured: Measure) -> str:
    return with_interval(measured, lambda value: _number(name, value))


def _number(name: str, value: float) -> str:
    if math.isnan(value):
        return "?"
    return (
        f"{value:,.0f}" if name == "l1" or abs(value) >= _LARGE else f"{value:.1f}" if abs(value) >= _MIDDLE else f"{value:.4f}"
    )


_LARGE, _MIDDLE = 1000, 10  # from which all, or all but one, of the decimals are left out
