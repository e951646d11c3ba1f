"""Format scores.json as a text table: the ensemble first, then its members and the baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from wavefold.core.errors import plural
from wavefold.core.progress import clock
from wavefold.evaluation.forecast_metrics import metric_unit
from wavefold.evaluation.standing import standing
from wavefold.plots.canvas import lead_word


def score_table(scores: Mapping[str, Any]) -> str:
    """Return the score table of a classifier as text: sample counts, one row per predictor, and the notes."""
    names = list(dict.fromkeys([scores["metric"], "accuracy", "macro-f1"]))
    heads = [f"l1 per {scores['per']:,}" if name == "l1" and scores["per"] else name for name in names]
    rows = [{"name": "ensemble", **scores["score"]}, *scores["members"]]
    rows += [{**row, "name": f"{row['name']} (baseline)"} for row in scores["baselines"]]
    lines = [
        f"trained on {scores['learned_from']:,} sample{'s' if scores['learned_from'] != 1 else ''}, tested on "
        f"{scores['n']:,} other{'s' if scores['n'] != 1 else ''} in {clock(scores['seconds'])}; 95 % intervals",
        _line("", heads),
        *(_line(row["name"], [_cell(name, row[name]) for name in names]) for row in rows),
        *(f"note: {note}" for note in scores["notes"]),
    ]
    return "\n".join(lines)


def score_rows(scores: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The recipe's metric of ensemble, members and baselines as a table's header and rows, for classifiers and forecasters."""
    metric = scores["metric"]
    rows = [{"name": "ensemble", **scores["score"]}, *scores["members"]]
    rows += [{**row, "name": f"{row['name']} (baseline)"} for row in scores["baselines"]]
    return ["", f"{metric} [95 % interval]"], [[row["name"], _cell(metric, row[metric])] for row in rows]


def lead_table(scores: Mapping[str, Any]) -> str:
    """Return the scores of a forecaster as text: how it stands, the metric by lead, every metric, and the notes."""
    metric, leads = scores["metric"], scores["leads"]
    shown = sorted({round(k) for k in np.linspace(0, leads - 1, min(_LEADS, leads))})
    rows = [{"name": "ensemble", **scores["score"]}, *scores["members"]]
    rows += [{**row, "name": f"{row['name']} (baseline)"} for row in scores["baselines"]]
    heads = "".join(f"{lead_word(k + 1, scores['step']):<11}" for k in shown)
    lines = [
        standing(scores).line,
        _tested(scores),
        f"{'':<26}{'all leads':<34}{heads}".rstrip(),
        *(_lead_line(row, metric, shown) for row in rows),
        *_metric_lines(scores),
        *(f"note: {note}" for note in scores.get("notes", [])),
    ]
    return "\n".join(lines)


_LEADS = 6  # leads with a column of their own


def _tested(scores: Mapping[str, Any]) -> str:
    """How many windows were tested, and what the rows below show."""
    learned = f"trained on {plural(scores['learned_from'], 'window')}, " if "learned_from" in scores else ""
    seconds = f" in {clock(scores['seconds'])}" if "seconds" in scores else ""
    unit = metric_unit(scores["metric"], scores["unit"])
    interval = " with its 95 % interval" if scores["score"][scores["metric"]][1] is not None else ""
    return (
        f"{learned}tested on {scores['n']:,}{' other' if learned else ''} window{'s' if scores['n'] != 1 else ''} in "
        f"{plural(scores['blocks'], 'block')} of time{seconds}; "
        f"{scores['metric']}{f' in {unit}' if unit else ''}{interval}, then by lead"
    )


def _lead_line(row: Mapping[str, Any], metric: str, shown: Sequence[int]) -> str:
    words = "".join(f"{_short(row['by-lead'][metric][k]):<11}" for k in shown)
    return f"{row['name']:<26}{with_interval(row[metric], _short):<34}{words}".rstrip()


def _metric_lines(scores: Mapping[str, Any]) -> list[str]:
    """Every metric over all leads, with its unit, of the ensemble and of each baseline beside it."""
    rows = [scores["score"], *scores["baselines"]]
    heads = ["ensemble", *(row["name"] for row in scores["baselines"])]
    lines = [f"{'all leads':<26}{''.join(f'{head:<14}' for head in heads)}".rstrip()]
    for name in scores["score"]["by-lead"]:
        cells = "".join(f"{_short(value_of(row, name)):<14}" for row in rows)
        lines.append(f"{named_unit(name, scores['unit']):<26}{cells}".rstrip())
    return lines


def value_of(row: Mapping[str, Any], metric: str) -> float | None:
    """A metric over all leads, of a forecaster's row in scores.json; None if it is undefined."""
    value: float | Sequence[float | None] | None = row[metric]
    return value[0] if isinstance(value, Sequence) else value


def named_unit(metric: str, unit: str) -> str:
    """A metric with its unit: mse (K^2). unit: of the frames."""
    own = metric_unit(metric, unit)
    return f"{metric} ({own})" if own else metric


def with_interval(values: Sequence[float | None], words: Callable[[float | None], str]) -> str:
    """A value and its interval; the value alone where no interval is given. words: formats a number."""
    value, low, high = (None if v is None or v != v else v for v in values)
    return words(value) if low is None or high is None else f"{words(value)} [{words(low)}, {words(high)}]"


def _short(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.4g}"


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<26}{''.join(f'{cell:<28}' for cell in cells)}".rstrip()


def _cell(name: str, values: Sequence[float | None]) -> str:
    return with_interval(values, lambda v: "?" if v is None else f"{v:,.0f}" if name == "l1" else f"{v:.4f}")
