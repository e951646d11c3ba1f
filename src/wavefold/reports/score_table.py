"""Format scores.json as a text table: the ensemble first, then its members and the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wavefold.core.progress import clock
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


def _cell(name: str, values: Sequence[float | None]) -> str:
    value, low, high = ("?" if v is None else f"{v:,.0f}" if name == "l1" else f"{v:.4f}" for v in values)
    return f"{value} [{low}, {high}]"
