"""Format scores.json as a text table: the ensemble first, then its members and the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wavefold.core.errors import plural
from wavefold.core.progress import clock
from wavefold.core.records import Measure, ScoreRow, Scores
from wavefold.plots.canvas import lead_word


def score_table(scores: Scores) -> str:
    """Return the score table of a run on samples as text: how it stands to the baselines, counts, a row each, and the notes."""
    names = list(dict.fromkeys([scores.metric, *scores.score.with_interval()]))[:_COLUMNS]
    heads = [f"l1 per {scores.per:,}" if name == "l1" and scores.per else _with_unit(name, scores) for name in names]
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


def _with_unit(name: str, scores: Scores) -> str:
    return f"{name} ({scores.units[name]})" if name in scores.units else name


def _by_fold(scores: Scores) -> list[str]:
    """The ensemble's metric in each fold, as one line, if there are several."""
    values = [fold.value(scores.metric) for fold in scores.folds]
    words = " ".join("?" if v != v else f"{v:,.0f}" if scores.metric == "l1" else f"{v:.4f}" for v in values)
    return [f"by fold: {scores.metric} {words}"] if values else []


def score_rows(scores: Scores) -> tuple[list[str], list[list[str]]]:
    """The recipe's metric of ensemble, members and baselines as a table's header and rows."""
    cells = [[row.name, _cell(scores.metric, row.measure(scores.metric))] for row in _rows(scores)]
    return ["", f"{_with_unit(scores.metric, scores)} [95 % interval]"], cells


def lead_table(scores: Mapping[str, Any]) -> str:
    """Return the score table of a forecaster as text: the metric over all leads and at some, other metrics, and the notes."""
    metric, leads = scores["metric"], scores["leads"]
    shown = sorted({round(k) for k in np.linspace(0, leads - 1, min(_LEADS, leads))})
    rows = [{"name": "ensemble", **scores["score"]}, *scores["members"]]
    rows += [{**row, "name": f"{row['name']} (baseline)"} for row in scores["baselines"]]
    unit = f" in {scores['unit']}" if scores["unit"] and metric in ("rmse", "mae") else ""
    seconds = f" in {clock(scores['seconds'])}" if "seconds" in scores else ""
    learned = (
        f"trained on {scores['learned_from']:,} window{'s' if scores['learned_from'] != 1 else ''}, "
        if "learned_from" in scores
        else ""
    )
    heads = "".join(f"{lead_word(k + 1, scores['step']):<11}" for k in shown)
    lines = [
        f"{learned}tested on {scores['n']:,}{' other' if learned else ''} window{'s' if scores['n'] != 1 else ''} in "
        f"{scores['blocks']} block{'s' if scores['blocks'] != 1 else ''} of time{seconds}; "
        f"{metric}{unit} with its 95 % interval, then by lead",
        f"{'':<26}{'all leads':<34}{heads}".rstrip(),
        *(_lead_line(row, metric, shown) for row in rows),
        *(f"{name} {value:.4g}" for name, value in scores["score"].items() if _is_other(name, value, metric)),
        *(f"note: {note}" for note in scores.get("notes", [])),
    ]
    return "\n".join(lines)


_LEADS = 6  # leads with a column of their own


def _lead_line(row: Mapping[str, Any], metric: str, shown: Sequence[int]) -> str:
    value, low, high = ("?" if v is None or v != v else f"{v:.4g}" for v in row[metric])
    cells = [row["by-lead"][metric][k] for k in shown]
    words = "".join(f"{'?' if v is None else f'{v:.4g}':<11}" for v in cells)
    return f"{row['name']:<26}{f'{value} [{low}, {high}]':<34}{words}".rstrip()


def _is_other(name: str, value: Any, metric: str) -> bool:
    return name != metric and isinstance(value, float) and value == value


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<26}{''.join(f'{cell:<28}' for cell in cells)}".rstrip()


def _cell(name: str, measured: Measure) -> str:
    value, low, high = ("?" if v != v else _number(name, v) for v in measured)
    return f"{value} [{low}, {high}]" if measured.low == measured.low else value


def _number(name: str, value: float) -> str:
    return f"{value:,.0f}" if name == "l1" or abs(value) >= _LARGE else f"{value:.4f}"


_LARGE = 1000  # from which decimals are left out
