"""Tables, ranks and figures of benchmarks/ucr.py from its rows.

Means are taken over seeds and folds first, then ranks within a set (1 is best, ties share their mean rank). Methods are
compared by Wilcoxon's signed-rank test over sets with Holm's correction over all pairs; the critical-difference diagram (Demsar
2006, JMLR 7, 1) joins methods no pair of which differs, after Friedman's test, as Ismail Fawaz and others (2019, Data Mining
and Knowledge Discovery 33, 917) do.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, rankdata, wilcoxon
from ucr_data import EIGHT
from ucr_worker import METHODS, OURS

from wavefold.core.errors import UserError, listed
from wavefold.plots.canvas import LINES

HEAD = (
    "set",
    "fold",
    "method",
    "seed",
    "n_train",
    "n_test",
    "accuracy",
    "macro_f1",
    "log_loss",
    "probabilities",
    "fit_s",
    "predict_s",
)
HEAD += ("warm_up_s", "commit", "machine", "date")
METRICS = {"accuracy": 4, "macro_f1": 4, "log_loss": 4, "fit_s": 2, "predict_s": 3}  # with digits
ALPHA = 0.05
MARKS = "osD^vPX"  # a mark and a colour of LINES a method

Rows = list[dict[str, str]]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """The printed lines, and what the figures show."""

    lines: list[str]
    methods: list[str]
    ranks: Values  # (method,) mean rank by accuracy
    groups: list[tuple[int, ...]]  # methods (positions in `methods`) no pair of which differs
    accuracy: Values  # (method,) mean over the sets that all ran
    seconds: Values  # (method,) of fit and predict, mean over these sets
    sets: int


def read_rows(path: Path) -> Rows:
    """The rows of the table; none if there is no table."""
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def chosen_rows(rows: Rows, commit: str = "") -> Rows:
    """The rows to compare: of ours those of a commit, by default of the last row's; of a peer those of its last version.

    Of two results of the same task the last counts.
    """
    ours = commit or next((row["commit"] for row in reversed(rows) if row["method"] in OURS), "")
    last = {row["method"]: ours if row["method"] in OURS else row["commit"] for row in rows}
    kept = [row for row in rows if row["commit"] == last[row["method"]]]
    return list({(row["set"], row["fold"], row["method"], row["seed"]): row for row in kept}.values())


def means(rows: Rows, metric: str, sets: Sequence[str], methods: Sequence[str]) -> Values:
    """Means of a metric over seeds and folds, (set, method); NaN where a method has no row of a set."""
    found = np.full((len(sets), len(methods)), np.nan)
    for i, name in enumerate(sets):
        for j, method in enumerate(methods):
            values = [float(row[metric]) for row in rows if row["set"] == name and row["method"] == method]
            found[i, j] = np.mean(values) if values else np.nan
    return found


def ranks(scores: Values) -> Values:
    """Ranks (set, method) of scores (set, method), 1 for the highest; scores equal to ten digits share their mean rank."""
    return np.asarray(rankdata(-np.round(scores, 10), axis=1), np.float64)


def differences(scores: Values) -> dict[tuple[int, int], float]:
    """Holm's p of each pair of methods, from Wilcoxon's signed-rank test over sets. scores: (set, method)."""
    raw = {}
    for i, j in combinations(range(scores.shape[1]), 2):
        apart = np.round(scores[:, i] - scores[:, j], 10)
        raw[i, j] = float(wilcoxon(apart).pvalue) if apart.any() else 1.0
    return holm(raw)


def holm(raw: Mapping[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    """p of several tests, corrected as Holm does: the smallest times their number, the next times one less, never falling."""
    corrected, so_far = {}, 0.0
    for place, pair in enumerate(sorted(raw, key=lambda pair: raw[pair])):
        so_far = max(so_far, min(1.0, raw[pair] * (len(raw) - place)))
        corrected[pair] = so_far
    return corrected


def cliques(mean_ranks: Values, corrected: Mapping[tuple[int, int], float]) -> list[tuple[int, ...]]:
    """The longest runs of two or more methods, in the order of mean rank, no pair of which differs by ALPHA."""
    order = np.argsort(mean_ranks, kind="stable").tolist()
    found = list[tuple[int, ...]]()
    end = 0
    for start in range(len(order)):
        longest = start + 1
        while longest < len(order) and all(_p(corrected, a, order[longest]) > ALPHA for a in order[start:longest]):
            longest += 1
        if longest > max(end, start + 1):  # else it lies within the run before
            found.append(tuple(order[start:longest]))
            end = longest
    return found


def _p(corrected: Mapping[tuple[int, int], float], a: int, b: int) -> float:
    return corrected[min(a, b), max(a, b)]


def groups_of(scores: Values) -> tuple[list[tuple[int, ...]], float]:
    """Cliques of methods, and Friedman's p: above ALPHA all are one clique; NaN below three methods. scores: (set, method)."""
    places = ranks(scores)
    corrected = differences(scores)
    p = float("nan")
    if scores.shape[1] > 2:
        p = float(friedmanchisquare(*places.T).pvalue) if np.ptp(places) else 1.0
        if p > ALPHA:
            corrected = dict.fromkeys(corrected, 1.0)
    return cliques(places.mean(axis=0), corrected), p


def summary(rows: Rows, notes: Mapping[str, str], published: Mapping[str, Mapping[str, float]]) -> Summary:
    """Compare the methods of some rows; UserError if no set has rows of all of them.

    notes: what to say of each set, in the order of sets. published: accuracies by method and set.
    """
    methods = [method for method in METHODS if any(row["method"] == method for row in rows)]
    sets = [name for name in notes if any(row["set"] == name for row in rows)]
    of = {metric: means(rows, metric, sets, methods) for metric in METRICS}
    by_all = ~np.isnan(of["accuracy"]).any(axis=1)
    if not by_all.any():
        raise UserError(f"no set has rows of {listed(methods) or 'any method'}; run more sets, or choose fewer --methods")
    common = {metric: values[by_all] for metric, values in of.items()}
    accuracy = common["accuracy"]
    groups, friedman = groups_of(accuracy)
    lines = [*_about(rows, methods, sets, notes), *_overall(of, by_all, sets, methods)]
    for metric, digits in METRICS.items():
        lines += _table(metric, of[metric], sets, methods, digits)
    lines += [*_pairs(accuracy, methods, friedman), *_published(of["accuracy"], sets, methods, published)]
    lines += _aims(of, by_all, sets, methods)
    seconds = (common["fit_s"] + common["predict_s"]).mean(axis=0)
    return Summary(lines, methods, ranks(accuracy).mean(axis=0), groups, accuracy.mean(axis=0), seconds, len(accuracy))


def _about(rows: Rows, methods: Sequence[str], sets: Sequence[str], notes: Mapping[str, str]) -> list[str]:
    """Versions, machines, what was done to the sets, and what is missing."""
    lines = []
    for method in methods:
        own = [row for row in rows if row["method"] == method]
        of = {name: ", ".join(sorted({row[name] for row in own})) for name in ("commit", "probabilities", "machine")}
        warm = max(float(row["warm_up_s"]) for row in own)
        about = f"{of['commit']}, {len(own)} rows, probabilities {of['probabilities']}"
        lines.append(f"{method}: {about}, first call {warm:.1f} s, {of['machine']}")
    lines += [
        "",
        "Zeros follow shorter samples for all methods; spectra (lamost, spex_prism, miles) are standardised.",
    ]
    lines += ["Log-loss of probabilities held within 1e-6 and 1; where they are 0 and 1, it is 13.8 times the share of errors."]
    for name in sets:
        size = next(f"{row['n_train']} to train, {row['n_test']} tested" for row in rows if row["set"] == name)
        counts = {m: sum(row["set"] == name and row["method"] == m for row in rows) for m in methods}
        less = [f"{m} {n}" for m, n in counts.items() if n < max(counts.values())]
        missing = f"; fewer rows than others ({max(counts.values())}): {', '.join(less)}" if less else ""
        lines.append(f"- {name}: {size}{f'; {notes[name]}' if notes[name] else ''}{missing}")
    return lines


def _overall(of: Mapping[str, Values], by_all: NDArray[np.bool_], sets: Sequence[str], methods: Sequence[str]) -> list[str]:
    """Mean ranks over the sets that all ran and means over the eight, the best mean rank first."""
    eight, signs = _eight(sets), {"accuracy": 1, "macro_f1": 1, "log_loss": -1}
    mean_ranks = {metric: ranks(sign * of[metric][by_all]).mean(axis=0) for metric, sign in signs.items()}
    few = "" if eight.sum() == len(EIGHT) else f" ({eight.sum()} of them)"
    lines = ["", f"Mean ranks over the {by_all.sum()} sets that all ran; means over the eight{few}.", ""]
    lines += ["| method | rank by accuracy | by macro-F1 | by log-loss | accuracy | macro-F1 | log-loss | fit s | predict s |"]
    lines += ["| --- " * 9 + "|"]
    for j in np.argsort(mean_ranks["accuracy"], kind="stable"):
        cells = [f"{values[j]:.2f}" for values in mean_ranks.values()]
        cells += [_number(of[metric][eight, j].mean(), digits) for metric, digits in METRICS.items() if eight.any()]
        lines.append(f"| {methods[j]} | {' | '.join(cells)} |")
    return lines


def _eight(sets: Sequence[str]) -> NDArray[np.bool_]:
    return np.isin(sets, EIGHT)


def _table(metric: str, values: Values, sets: Sequence[str], methods: Sequence[str], digits: int) -> list[str]:
    """A metric by set and method."""
    lines = ["", f"| {metric} | {' | '.join(methods)} |", "| --- " * (len(methods) + 1) + "|"]
    eight = _eight(sets)
    name_of_mean = f"mean of {'the' if eight.sum() == len(EIGHT) else f'{eight.sum()} of the'} eight"
    means_of_eight = [(name_of_mean, values[eight].mean(axis=0))] if eight.any() else []
    for name, row in [*zip(sets, values, strict=True), *means_of_eight]:
        lines.append(f"| {name} | {' | '.join(_number(value, digits) for value in row)} |")
    return lines


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def _pairs(accuracy: Values, methods: Sequence[str], friedman: float) -> list[str]:
    """Every pair of methods: sets won, tied and lost by the first, and Holm's p."""
    lines = ["", f"Accuracy over {len(accuracy)} sets; Friedman's p {friedman:.2g}", ""]
    lines += ["| pair | won, tied, lost by the first | p (Wilcoxon, Holm) |", "| --- | --- | --- |"]
    for (i, j), p in sorted(differences(accuracy).items(), key=lambda item: item[1]):
        apart = np.round(accuracy[:, i] - accuracy[:, j], 10)
        counts = f"{(apart > 0).sum()}, {(apart == 0).sum()}, {(apart < 0).sum()}"
        lines.append(f"| {methods[i]} : {methods[j]} | {counts} | {p:.3g} |")
    return lines


def _published(
    accuracy: Values, sets: Sequence[str], methods: Sequence[str], published: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """Mean accuracy of the eight, here and as published, best first."""
    if not published or _eight(sets).sum() < len(EIGHT):
        return []
    found = [(value, f"{m}, here") for m, value in zip(methods, accuracy[_eight(sets)].mean(axis=0), strict=True)]
    found += [
        (float(np.mean([by[s] for s in EIGHT])), f"{m}, published") for m, by in published.items() if set(EIGHT) <= by.keys()
    ]
    ordered = sorted(((value, name) for value, name in found if not np.isnan(value)), reverse=True)
    return ["", "| mean accuracy of the eight | |", "| --- | --- |", *(f"| {name} | {value:.4f} |" for value, name in ordered)]


def _aims(of: Mapping[str, Values], by_all: NDArray[np.bool_], sets: Sequence[str], methods: Sequence[str]) -> list[str]:
    """What SignalClassifier was to reach, and what it reached; none without its rows."""
    if OURS[0] not in methods or not by_all.any():
        return []
    own, eight = methods.index(OURS[0]), _eight(sets)
    others = [j for j, method in enumerate(methods) if method not in OURS]
    mean_ranks = ranks(of["accuracy"][by_all])[:, [own, *others]].mean(axis=0)
    both = of["fit_s"] + of["predict_s"]
    first = _yes(mean_ranks[0] <= mean_ranks[1:].min())
    lines = ["", f"mean rank {mean_ranks[0]:.2f}, the best peer's {mean_ranks[1:].min():.2f}; first: {first}"]
    for metric, limit, reached in (("accuracy", 0.96, np.greater), ("log_loss", 0.15, np.less)):
        value = of[metric][eight, own].mean() if eight.sum() == len(EIGHT) else np.nan
        lines.append(f"{metric} of the eight {value:.4f}, aim {limit}: {_yes(bool(reached(value, limit)))}")
    for peer, values, what in (("MultiRocket-Hydra", both, "fit and predict"), ("MiniRocket", of["predict_s"], "predict")):
        if peer in methods:
            ratios = values[:, own] / values[:, methods.index(peer)]  # NaN where one of them was not run
            slower = [name for name, ratio in zip(sets, ratios, strict=True) if ratio >= 1]
            count = np.isfinite(ratios).sum()
            times = f"median time {np.nanmedian(ratios):.2f} of its" if count else "not run"
            lines.append(f"{what} faster than {peer} on {count - len(slower)} of {count} sets, {times}")
            lines += [f"  not on {listed(slower)}"] if slower else []
    return lines


def _yes(reached: bool) -> str:
    return "yes" if reached else "no"


def draw_ranks(path: Path, table: Summary) -> None:
    """The critical-difference diagram: mean ranks on a line, the best to the right; bars join methods that do not differ."""
    count, half, bars = len(table.methods), (len(table.methods) + 1) // 2, len(table.groups)
    first = -0.45 - 0.5 * bars  # height of the uppermost names, below the bars
    last = first - 0.7 * (half - 1)
    figure = Figure(figsize=(8.0, 0.6 - 0.42 * last), layout="constrained")
    place = figure.subplots()
    place.set(xlim=(count + 0.2, 0.8), ylim=(last - 0.3, 0.8))
    place.axis("off")
    place.set_title(f"Mean rank by accuracy over {table.sets} sets; bars: no significant difference", fontsize=10)
    place.plot([1, count], [0, 0], color="black", linewidth=1.2)
    for rank in range(1, count + 1):
        place.plot([rank, rank], [0, 0.2], color="black", linewidth=1.2)
        place.text(rank, 0.35, f"{rank}", ha="center", fontsize=9)
    for row, group in enumerate(table.groups):
        ends = [table.ranks[list(group)].max() + 0.04, table.ranks[list(group)].min() - 0.04]
        place.plot(ends, [-0.45 - 0.5 * row] * 2, color="black", linewidth=3.5, solid_capstyle="butt")
    for at, j in enumerate(np.argsort(-table.ranks, kind="stable")):  # from left to right
        left = at < half
        level = first - 0.7 * (at if left else count - 1 - at)  # the outermost is uppermost, so that no lines cross
        end, side = (count + 0.1, "right") if left else (0.9, "left")
        colour = LINES[0] if table.methods[j] in OURS else "black"
        place.plot([table.ranks[j]] * 2 + [end], [0, level, level], color=colour, linewidth=0.9)
        word = f" {table.methods[j]}  {table.ranks[j]:.2f} "
        place.text(end, level, word, ha=side, va="center", fontsize=10, color=colour)
    _save(path, figure)


def draw_seconds(path: Path, table: Summary) -> None:
    """Mean accuracy against mean processor seconds of fit and predict."""
    figure = Figure(figsize=(8.0, 4.0), layout="constrained")
    place = figure.subplots()
    for j, method in enumerate(table.methods):
        size = 110 if method in OURS else 60
        place.scatter(table.seconds[j], table.accuracy[j], s=size, marker=MARKS[j], color=LINES[j], label=method, zorder=3)
    place.set_xscale("log")
    place.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    place.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    place.xaxis.set_minor_formatter(NullFormatter())
    place.set_xlim(table.seconds.min() / 1.5, table.seconds.max() * 1.5)
    place.set_xlabel("processor seconds to fit and predict, one thread")
    place.set_ylabel("accuracy")
    place.set_title(f"Means over {table.sets} sets", fontsize=10)
    place.grid(alpha=0.3)
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    _save(path, figure)


def _save(path: Path, figure: Figure) -> None:
    """Write a picture; the same numbers give the same bytes."""
    with matplotlib.rc_context({"svg.hashsalt": "wavefold", "font.sans-serif": ["DejaVu Sans"]}):
        figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
