"""How an ensemble stands to its baselines: the sentence with which every answer about a score begins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wavefold.evaluation.forecast_metrics import is_higher_better, metric_unit

Kind = Literal["good", "plain", "warning"]

_SAME_ORDER = {"rmse": "mse", "mse-sum": "mse", "mae-sum": "mae"}  # metrics that rank forecasts as another one does


@dataclass(frozen=True)
class Standing:
    """The sentence, and whether it is good news: "plain" if there is no interval that could show it."""

    line: str
    kind: Kind


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
    ends = f" [{_number(low)}, {_number(high)}]" if _known(low, high) else "; too few independent blocks for an interval"
    return f"{word} {name} by {metric} (difference {amount}{ends})"


def is_better(difference: float, low: float, high: float, higher_is_better: bool) -> bool:
    """Whether a paired difference has the right sign and its interval, if there is one, does not reach 0."""
    sign = 1 if higher_is_better else -1
    return all(sign * value > 0 for value in (difference, low, high) if not math.isnan(value))


def standing(scores: Mapping[str, Any]) -> Standing:
    """How a forecaster stands to the best baseline by the recipe's metric, and the metrics that it loses to any baseline.

    scores: contents of scores.json, or the same of another source.
    """
    metric, higher = scores["metric"], scores["higher_is_better"]
    rows = [row for row in scores["baselines"] if _difference(row, metric) is not None]
    if not rows:
        return Standing(_nothing_to_say(scores), "warning")
    best = (max if higher else min)(rows, key=lambda row: row[metric][0])
    difference, low, high = (math.nan if v is None else v for v in best["differences"][metric])
    line = standing_line(best["name"], metric, difference, low, high, higher, metric_unit(metric, scores["unit"]))
    lost = {row["name"]: _lost(row, metric) for row in scores["baselines"]}
    losses = "; ".join(f"to {name} by {', '.join(metrics)}" for name, metrics in lost.items() if metrics)
    proven: Kind = "good" if _known(low, high) else "plain"
    kind = proven if is_better(difference, low, high, higher) else "warning"
    return Standing(f"{line}; loses {losses}" if losses else line, kind)


def _nothing_to_say(scores: Mapping[str, Any]) -> str:
    """Why no baseline can be compared with the ensemble."""
    if not scores["baselines"]:
        return "not compared with any baseline: output.baselines is empty, or none of them fits these frames"
    if any("differences" not in row for row in scores["baselines"]):
        return (
            "not compared with the baselines: the run is of an earlier version; repeat its training command to score it again"
        )
    return f"not compared with the baselines: {scores['metric']} is undefined here"


def _lost(row: Mapping[str, Any], metric: str) -> list[str]:
    """The metrics by which a baseline is better than the ensemble, besides the recipe's; of those that agree, one."""
    names = [name for name in row.get("differences", ()) if is_higher_better(name) is not None]
    chosen = dict.fromkeys(_ranked_by(name, names) for name in names)
    chosen.pop(_ranked_by(metric, names), None)
    return [name for name in chosen if _is_loss(_difference(row, name), bool(is_higher_better(name)))]


def _ranked_by(name: str, names: Sequence[str]) -> str:
    """The metric that stands for all that rank forecasts alike: mse for rmse, csi-7 for csi."""
    if name in ("csi", "fss"):
        return next((other for other in names if other.startswith(f"{name}-")), name)
    return _SAME_ORDER.get(name, name)


def _is_loss(difference: float | None, higher_is_better: bool) -> bool:
    return difference is not None and (difference < 0 if higher_is_better else difference > 0)


def _difference(row: Mapping[str, Any], metric: str) -> float | None:
    """A baseline's difference by a metric; None if it is undefined or was not kept."""
    found: float | None = row.get("differences", {}).get(metric, [None])[0]
    return None if found is None or math.isnan(found) else found


def _known(*values: float) -> bool:
    return not any(math.isnan(value) for value in values)


def _number(value: float) -> str:
    """Three digits, or a whole number from 1,000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
