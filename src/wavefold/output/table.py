"""A run's scores.json as a table that people read: the ensemble first, its members and the baselines below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wavefold.base.progress import clock


def score_table(scores: Mapping[str, Any]) -> str:
    """Lines of text: what was learned from and tested on, a row each, the notes."""
    names = list(dict.fromkeys([scores["metric"], "accuracy", "macro-f1"]))
    heads = [f"l1 per {scores['per']:,}" if name == "l1" and scores["per"] else name for name in names]
    rows = [{"name": "ensemble", **scores["score"]}, *scores["members"]]
    rows += [{**row, "name": f"{row['name']} (baseline)"} for row in scores["baselines"]]
    lines = [
        f"learned from {scores['learned_from']:,} samples, tested on {scores['n']:,} others in {clock(scores['seconds'])}; "
        "95 % intervals",
        _line("", heads),
        *(_line(row["name"], [_cell(name, row[name]) for name in names]) for row in rows),
        *(f"note: {note}" for note in scores["notes"]),
    ]
    return "\n".join(lines)


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<26}{''.join(f'{cell:<28}' for cell in cells)}".rstrip()


def _cell(name: str, values: Sequence[float | None]) -> str:
    value, low, high = ("?" if v is None else f"{v:,.0f}" if name == "l1" else f"{v:.4f}" for v in values)
    return f"{value} [{low}, {high}]"
