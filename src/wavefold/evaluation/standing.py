"""How an ensemble stands to its baselines: the sentence with which every answer about a score begins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from wavefold.core.records import ScoreRow

_SAME_ORDER = {"rmse": "mse", "mse-sum": "mse", "mae-sum": "mae"}  # metrics that rank forecasts as another one does


def standing(
    metric: str, baselines: Sequence[ScoreRow], higher: Mapping[str, bool], units: Mapping[str, str], *, losses: bool = False
) -> str:
    """How an ensemble stands to the best baseline by a metric; '' if it was compared with none.

    baselines: with `differences` from the ensemble. higher: metrics that rank, and whether more is better. units: of metrics.
    losses: name the other metrics by which a baseline is better.
    """
    sign = 1 if higher[metric] else -1
    rows = [row for row in baselines if not math.isnan(row.compared(metric).value)]
    if not rows:
        return ""
    best = max(rows, key=lambda row: sign * row.value(metric))
    line = standing_line(best.name, metric, *best.compared(metric), higher[metric], units.get(metric, ""))
    lost = {row.name: _lost(row, metric, higher) for row in rows} if losses else {}
    words = "; ".join(f"to {name} by {', '.join(metrics)}" for name, metrics in lost.items() if metrics)
    return f"{line}; loses {words}" if words else line


def standing_kind(line: str) -> Literal["good", "plain", "warning"]:
    """Whether the sentence is good news: "plain" if there is no interval that could show it."""
    if line.startswith("not"):
        return "warning"
    return "plain" if _NO_INTERVAL in line else "good"


_NO_INTERVAL = "; too few independent blocks for an interval"


def standing_line(
    name: str, metric: str, difference: float, low: float, high: float, higher_is_better: bool, unit: str = ""
) -> str:
    """Say how the ensemble stands to a baseline: "not better than climatology by mse (difference 0.01 K [-0.02, 0.04])".

    name: of the baseline. difference: ensemble - baseline on the same samples, in `unit`; low, high: ends of its interval,
    NaN if there are too few independent blocks for one. It is better if the difference has the right sign and the interval
    does not reach 0.
    """
    word = "better than" if is_better(difference, low, high, higher_is_better) else "not better than"
    amount = f"{_number(difference)}{f' {unit}' if unit else ''}"
    ends = f" [{_number(low)}, {_number(high)}]" if _known(low, high) else _NO_INTERVAL
    return f"{word} {name} by {metric} (difference {amount}{ends})"


def is_better(difference: float, low: float, high: float, higher_is_better: bool) -> bool:
    """Whether a paired difference has the right sign and its interval, if there is one, does not reach 0."""
    sign = 1 if higher_is_better else -1
    return all(sign * value > 0 for value in (difference, low, high) if not math.isnan(value))


def _lost(row: ScoreRow, metric: str, higher: Mapping[str, bool]) -> list[str]:
    """The metrics by which a baseline is better than the ensemble, besides the recipe's; of those that agree, one."""
    names = [name for name in row.differences if name in higher]
    chosen = dict.fromkeys(_ranked_by(name, names) for name in names)
    chosen.pop(_ranked_by(metric, names), None)
    return [name for name in chosen if (row.compared(name).value < 0 if higher[name] else row.compared(name).value > 0)]


def _ranked_by(name: str, names: Sequence[str]) -> str:
    """The metric that stands for all that rank forecasts alike: mse for rmse, csi-7 for csi."""
    if name in ("csi", "fss"):
        return next((other for other in names if other.startswith(f"{name}-")), name)
    return _SAME_ORDER.get(name, name)


def _known(*values: float) -> bool:
    return not any(math.isnan(value) for value in values)


def _number(value: float) -> str:
    """Three digits, or a whole number from 1,000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
