"""Report page of a classification run: scores and baselines, learning curves, errors, calibration and saliency maps."""

from __future__ import annotations

import json
import shlex
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import UserError
from wavefold.core.run import RunFolder
from wavefold.data import test_files
from wavefold.data.axes import axis_of
from wavefold.data.dataset import Dataset, Ints, Strings
from wavefold.data.split import Fold
from wavefold.data.statistics import Drift, drift
from wavefold.domains.base import Domain, domain_of
from wavefold.evaluation.metrics import METRICS
from wavefold.evaluation.reliability import by_class, confusion_counts, least_certain, reliability_bins, worst
from wavefold.plots.charts import (
    confusion,
    learning_curves,
    reliability_diagram,
    scores_with_intervals,
)
from wavefold.plots.plot import Figure
from wavefold.recipe import Recipe, digest_of
from wavefold.reports.explore_samples import some_of
from wavefold.reports.page import Block, Chapter, Facts, Page, Table, Words
from wavefold.tasks.samples.explain import Explained, explain
from wavefold.tasks.samples.reading import read_for, read_like, split_samples

Log = Callable[[str], None]
Values = NDArray[np.float64]

_DRAWN = 6  # samples per figure; a third of that for cadences
_COMPARED = 4000  # random samples of each part whose values are compared
_MATRIX = 40  # most classes in a confusion matrix


@dataclass(frozen=True)
class HeldOut:
    """Predictions of the ensemble and its members for the test parts, one row per sample and repeat."""

    ids: Strings  # (row,)
    rows: Ints  # (row,) index of the sample
    fold: Ints  # (row,)
    labels: Ints  # (row,)
    probabilities: Values  # (row, class)
    members: Values  # (member, row, class)

    @classmethod
    def of(cls, run: RunFolder) -> HeldOut:
        """Read the saved predictions of a run; UserError if they are missing or damaged."""
        path = run.folder / "held_out.npz"
        if not path.exists():
            raise UserError(
                f"{run.folder}: held_out.npz is missing; delete scores.json in the run and train again to evaluate it anew"
            )
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as kept:
                return cls(**{name: kept[name] for name in cls.__dataclass_fields__})
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            raise UserError(
                f"{path}: the file is damaged; delete scores.json in the run and train again to evaluate it anew"
            ) from None

    def once(self) -> HeldOut:
        """Keep the first row of each sample; with repeated folds, intervals would count the others as independent samples."""
        first = np.unique(self.rows, return_index=True)[1]
        first.sort()
        kept = {name: getattr(self, name)[first] for name in ("ids", "rows", "fold", "labels", "probabilities")}
        return replace(self, **kept, members=self.members[:, first])


def report_samples(run: RunFolder, recipe: Recipe, data: str, warn: Log) -> Page:
    """Build the report page of a classification run. data: new location of its samples, or '' if they have not moved."""
    scores, metadata, held = run.scores, run.metadata, HeldOut.of(run).once()
    dataset = _samples_again(run, recipe, data, warn)
    chapters = [
        score_chapter(scores, metadata),
        learning_chapter(run, recipe, scores["metric"]),
        _errors(held, metadata["classes"], _repeats(scores)),
        _believed(held),
        _members(held, recipe, scores),
        *([] if dataset is None else _of_samples(run, recipe, dataset, held, data or run.source)),
        repeat_chapter(run, recipe, scores),
    ]
    return Page(
        title=f"{metadata['recipe']}: run report",
        lead=f"Run {run.folder}, trained on {metadata['source']}.",
        chapters=chapters,
        headline=headline(scores, metadata, domain_of(recipe.data.simulator).words.sample[1]),
    )


def headline(scores: Mapping[str, Any], metadata: Mapping[str, Any], samples: str = "samples") -> list[tuple[str, str]]:
    """The score with its interval, the sample counts and the scores of the baselines. samples: the domain's word for them."""
    metric = scores["metric"]
    value, low, high = scores["score"][metric]
    beside = [(f"{row['name']} (baseline)", number(row[metric][0])) for row in scores["baselines"]]
    learned = (f"training {samples}", f"{scores['learned_from']:,.0f}")
    words = f"{metric_words(scores)} [{number(low)}, {number(high)}]"
    return [(words, number(value)), (f"test {samples}", f"{scores['n']:,}"), learned, *beside]


def metric_words(scores: Mapping[str, Any]) -> str:
    """The name of the recipe's metric, with the number of rows for which a sum is quoted."""
    return _quoted(scores["metric"], scores)


def _quoted(metric: str, scores: Mapping[str, Any]) -> str:
    return f"l1 per {scores['per']:,}" if metric == "l1" and scores.get("per") else metric


def _better(metric: str) -> str:
    return "higher is better" if METRICS[metric].higher_is_better else "lower is better"


def _repeats(scores: Mapping[str, Any]) -> str:
    """A sentence on repeated folds; '' if each sample was tested once."""
    return " Folds are repeated: only the first prediction of each sample counts here." if scores["rows"] > scores["n"] else ""


def number(value: float | None) -> str:
    """Format a score; an undefined one is a dash."""
    return "–" if value is None or not np.isfinite(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def score_chapter(scores: Mapping[str, Any], metadata: Mapping[str, Any]) -> Chapter:
    """Scores of the ensemble, its members and the baselines, with sample counts, intervals and notes."""
    metric, rows = scores["metric"], _rows(scores)
    value, low, high = np.array([row[metric] for _, _, row in rows], np.float64).T
    names = [name for name, _, _ in rows]
    blocks: list[Block] = [Words(note, "warning") for note in _notes(scores, metadata)]
    blocks.append(scores_with_intervals(names, value, low, high, metric_words(scores), [kind for _, kind, _ in rows]))
    blocks.append(_score_table(scores, rows))
    if "folds" in scores:
        each = [[f["fold"] + 1, f["n"], *(number(v) for v in f[metric])] for f in scores["folds"]]
        blocks.append(Table(["fold", "n", metric_words(scores), "low", "high"], each, "scores of each fold's test part"))
    what = f"{metric_words(scores)} ({_better(metric)}) on {scores['n']:,} test sample{'s' if scores['n'] != 1 else ''}"
    lead = f"{what}, used neither for training nor for choosing weights; bars are 95 % intervals."
    return Chapter("Score", blocks, lead)


def _notes(scores: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[str]:
    simulated = "Trained and tested on simulated samples: the scores may not hold for real data."
    given = list(scores["notes"])
    fields = any("simulated" in note for note in given)
    return [*([simulated] if metadata["simulated"] and not fields else []), *given]


def _rows(scores: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Rows of the score table: (name, kind, metrics)."""
    alone = len(scores["members"]) == 1  # then the ensemble equals the member
    members = [] if alone else [(row["name"], "member", row) for row in scores["members"]]
    baselines = [(f"{row['name']} (baseline)", "baseline", row) for row in scores["baselines"]]
    return [("ensemble", "ensemble", scores["score"]), *members, *baselines]


def _score_table(scores: Mapping[str, Any], rows: Sequence[tuple[str, str, Mapping[str, Any]]]) -> Table:
    with_ends = [m for m, v in scores["score"].items() if isinstance(v, list) and len(v) == 3 and m != "f1-by-class"]
    plain = [m for m, v in scores["score"].items() if isinstance(v, float | int)]

    def cells(row: Mapping[str, Any]) -> list[str]:
        ends = [f"{number(row[m][0])} [{number(row[m][1])}, {number(row[m][2])}]" for m in with_ends]
        return ends + [number(row[m]) for m in plain]

    heads = [_quoted(m, scores) for m in (*with_ends, *plain)]
    return Table(["", *heads], [[name, *cells(row)] for name, _, row in rows])


def learning_chapter(run: RunFolder, recipe: Recipe, metric: str) -> Chapter:
    """Loss and validation score by epoch and stage, for each net of each fold."""
    lines = {}
    for fold in range(run.metadata.get("folds", 1)):
        for n, member in enumerate(recipe.member):
            path = run.member(fold, n, member.model) / "metrics.jsonl"
            if path.exists():
                name = f"{n} {member.model}" + (f", fold {fold + 1}" if run.metadata.get("folds", 1) > 1 else "")
                lines[name] = _epochs(path)
    if not lines:
        return Chapter("Learning curves", [Words("No member is trained in epochs.")])
    best = recipe.stage[-1].best
    shown = best if all(best in line for each in lines.values() for line in each) else metric
    seconds = run.scores.get("seconds")
    took = f" Training and evaluation took {seconds:,.0f} s." if seconds else ""
    lead = f"Dots mark the selected epoch, with the best {best} on the validation part."
    return Chapter("Learning curves", [learning_curves(lines, shown)], lead + took)


def _epochs(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a member's metrics.jsonl; UserError if one is damaged."""
    found = []
    for number_, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        try:
            found.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            raise UserError(f"{path} line {number_}: the line is damaged; delete it to draw the curves without it") from None
    return found


def _errors(held: HeldOut, classes: Sequence[str], note: str) -> Chapter:
    matrix = confusion_counts(held.labels, held.probabilities.argmax(axis=1), len(classes))
    found = by_class(matrix)
    columns = zip(classes, found.precision, found.recall, found.f1, found.support.tolist(), strict=True)
    rows = [[name, *(number(v) for v in values), n] for name, *values, n in columns]
    drawn: list[Block] = [confusion(matrix, classes)] if len(classes) <= _MATRIX else []
    table = Table(["class", "precision", "recall", "F1", "samples"], rows)
    lead = "Rows are true classes, columns predicted classes."
    return Chapter("Confusion matrix", [*drawn, table], lead + note)


def _believed(held: HeldOut) -> Chapter:
    bins = reliability_bins(held.probabilities, held.labels)
    drawn = reliability_diagram(bins.confidence, bins.share_right, bins.low, bins.high, bins.count)
    lead = (
        "Confidence against accuracy; dots of a calibrated ensemble lie on the diagonal, where 80 % of the predictions with "
        "80 % confidence are correct. Bars are 95 % intervals that assume independent samples."
    )
    return Chapter("Calibration", [drawn], lead)


def _members(held: HeldOut, recipe: Recipe, scores: Mapping[str, Any]) -> Chapter:
    """Compare each member with the ensemble: how often they agree, and which is correct where they differ."""
    predicted, metric = held.probabilities.argmax(axis=1), scores["metric"]
    right = predicted == held.labels
    rows = []
    for n, member in enumerate(recipe.member):
        own = held.members[n].argmax(axis=1)
        mends, spoils = (own == held.labels) & ~right, (own != held.labels) & right
        value = scores["members"][n][metric][0]
        rows.append(
            [f"{n} {member.model}", number(value), f"{(own == predicted).mean():.1%}", int(mends.sum()), int(spoils.sum())]
        )
    head = ["member", metric_words(scores), "agreement with the ensemble", "only member correct", "only ensemble correct"]
    kept: list[Block] = [Table(head, rows), *_choices(scores)]
    return Chapter("Members and ensemble", kept, f"Combined by {recipe.combine.by}; calibration: {recipe.combine.calibrate}.")


def _choices(scores: Mapping[str, Any]) -> list[Block]:
    metric = scores["metric"]
    if not scores["choices"]:
        return []
    rows = [[c["by"], c["calibrate"], c["decide"], *(number(v) for v in c[metric])] for c in scores["choices"]]
    caption = "all alternatives, scored on the same samples; picking the best of them would give an optimistic score"
    return [Table(["combiner", "calibration", "decision", metric_words(scores), "low", "high"], rows, caption)]


def _samples_again(run: RunFolder, recipe: Recipe, data: str, warn: Log) -> Dataset | None:
    """Read the samples the run was trained and tested on; None, with a warning, if they are unavailable."""
    source = data or run.source
    try:
        dataset = read_for(recipe.with_({"data.skip_bad": True}), source)
    except UserError as error:
        if data:
            raise
        warn(f"{error}; the report shows no samples (give their location with --data)")
        return None
    own = digest_of([dataset.digest, list(dataset.classes), list(dataset.signals.shape)])
    if own != run.metadata["identity"]["data"]:
        if data:
            raise UserError(
                f"{data}: does not match the training data of the run, {run.metadata['source']}; "
                "give their location with --data, or omit it"
            )
        warn(f"{source}: no longer matches the training data; the report shows no samples (give their location with --data)")
        return None
    return dataset


def _of_samples(run: RunFolder, recipe: Recipe, dataset: Dataset, held: HeldOut, source: str) -> list[Chapter]:
    """The chapters that need the samples. source: location of possible test files."""
    first = split_samples(recipe, dataset)[0]
    return [*_samples(run, recipe, dataset, held, first), _not_shown(run, recipe, dataset, first, source)]


def _samples(run: RunFolder, recipe: Recipe, dataset: Dataset, held: HeldOut, first: Fold) -> list[Chapter]:
    """The hardest and the most uncertain test samples, and saliency maps of some samples. first: the first fold."""
    few = _DRAWN if dataset.signals.ndim == 3 else _DRAWN // 3
    bad = worst(held.probabilities, held.labels, few)
    unsure = least_certain(held.probabilities, few)
    chapters = [
        Chapter(
            "Hardest samples",
            [_drawn(domain_of(recipe.data.simulator), dataset, held, bad)],
            "Test samples with the lowest predicted probability of the true class: errors of the model or wrong labels.",
        ),
        Chapter(
            "Most uncertain samples",
            [_drawn(domain_of(recipe.data.simulator), dataset, held, unsure)],
            "Test samples with nearly tied class probabilities.",
        ),
    ]
    chosen = np.concatenate([_typical(held, few), bad[: few // 2]])
    return [*chapters, _why(run, recipe, dataset, held, chosen, first.train)]


def _typical(held: HeldOut, few: int) -> Ints:
    """The most confident correct test sample of each class, up to a limit."""
    predicted = held.probabilities.argmax(axis=1)
    found = []
    for number_ in np.unique(held.labels)[:few]:
        right = np.flatnonzero((held.labels == number_) & (predicted == number_))
        if len(right):
            found.append(right[np.argmax(held.probabilities[right, number_])])
    return np.array(found, np.int64)


def _titles(dataset: Dataset, held: HeldOut, chosen: Ints) -> list[str]:
    """Titles with the prediction and the true class of some rows."""
    titles = []
    for row in chosen.tolist():
        predicted = int(held.probabilities[row].argmax())
        sure, true = held.probabilities[row, predicted], dataset.classes[held.labels[row]]
        evaluation = "correct" if predicted == held.labels[row] else f"true class {true}"
        titles.append(f"{held.ids[row]}: {dataset.classes[predicted]} {sure:.0%}, {evaluation}")
    return titles


def _drawn(domain: Domain, dataset: Dataset, held: HeldOut, chosen: Ints) -> Figure:
    values, titles = dataset.signals[held.rows[chosen]], _titles(dataset, held, chosen)
    return domain.draw_samples(values, titles, axis_of(dataset, domain.axis_title), held.labels[chosen].tolist())


def _why(run: RunFolder, recipe: Recipe, dataset: Dataset, held: HeldOut, chosen: Ints, train: Ints) -> Chapter:
    predicted = held.probabilities[chosen].argmax(axis=1).astype(np.int64)
    made: Explained = explain(run, recipe, dataset, held.rows[chosen], predicted, train)
    titles = _titles(dataset, held, chosen)
    blocks: list[Block] = [Words(note) for note in made.notes]
    if run.metadata["folds"] > 1:
        blocks.append(Words(_OF_ALL_FOLDS))
    domain = domain_of(recipe.data.simulator)
    for name, figure in domain.draw_explanations(made.signals, made.maps, titles, axis_of(dataset, domain.axis_title)):
        blocks += [*([Words(name)] if name else []), figure]
    lead = (
        "Evidence for (red) and against (blue) the predicted class, "
        "relative to the mean shape of training samples at the sample's own level."
    )
    return Chapter("Saliency maps", blocks, lead)


_OF_ALL_FOLDS = (
    "The maps explain the mean of all folds, including folds trained on these samples; "
    "the prediction in each title is out-of-fold."
)


def _not_shown(run: RunFolder, recipe: Recipe, dataset: Dataset, first: Fold, source: str) -> Chapter:
    """Leakage and shift of the test part and test files relative to training. source: location of possible test files."""
    train, test = first.train, first.test
    blocks: list[Block] = [*_groups_shown(run, recipe, dataset, train, test), *_rare(dataset, train)]
    learned = dataset.take(_some(train)).signals
    name = "test part" if run.metadata["folds"] == 1 else "test part of fold 1"
    parts = [(name, dataset.take(_some(test)))] if len(test) else []
    for path in test_files(source):
        try:
            parts.append((path.name, read_like(recipe, str(path), run.metadata)))
        except UserError as error:
            blocks.append(Words(f"{path.name}: {error}", "warning"))
    for name, part in parts:
        found = drift(learned, part.take(_some(np.arange(len(part)))).signals, seed=recipe.seed)
        blocks += drifted(name, found)
    return Chapter(
        "Leakage and distribution shift",
        blocks,
        "Predictions outside the range of the training part are extrapolations, however confident they are.",
    )


def _some(rows: Ints) -> Ints:
    return np.sort(np.random.default_rng(0).permutation(rows)[:_COMPARED])


def _groups_shown(run: RunFolder, recipe: Recipe, dataset: Dataset, train: Ints, test: Ints) -> list[Block]:
    if dataset.groups is None:
        own = domain_of(recipe.data.simulator).words
        lacking = f"The {own.sample[1]} have no groups (such as {own.group[0]}), so leakage between the parts is not checked."
        return [Words(lacking, "warning")]
    learned, tested = set(dataset.groups[train].tolist()), set(dataset.groups[test].tolist())
    both = learned & tested
    if not both:
        words = (
            f"None of the {len(tested):,} group{'s' if len(tested) != 1 else ''} by {dataset.grouping} in the test part "
            "is in the training part."
        )
        return [Words(words, "good")]
    words = (
        f"{len(both):,} of the {len(tested):,} groups by {dataset.grouping} in the test part "
        f"{'are' if len(both) != 1 else 'is'} also in the training part"
    )
    return [
        Words(f"{words}: the score does not measure generalization to new groups; to measure it, set split.group.", "warning")
    ]


def _rare(dataset: Dataset, train: Ints) -> list[Block]:
    counts = np.bincount(dataset.known_labels()[train], minlength=len(dataset.classes))
    few = [f"{name} ({n})" for name, n in zip(dataset.classes, counts.tolist(), strict=True) if n < 30]
    return [Words(f"Fewer than 30 training samples of {some_of(few, 8)}.", "warning")] if few else []


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


def repeat_chapter(run: RunFolder, recipe: Recipe, scores: Mapping[str, Any]) -> Chapter:
    """Command, environment and recipe to reproduce the run."""
    metadata = run.metadata
    known = [
        ("wavefold", metadata.get("wavefold") or metadata["identity"]["wavefold"]),  # where runs of the first format have it
        ("python", metadata["python"]),
        ("torch", metadata["torch"]),
        ("numpy", metadata["numpy"]),
        ("machine", metadata["machine"]),
        ("seed", str(recipe.seed)),
        ("data, SHA-256", metadata["identity"]["data"]),
        ("recipe, SHA-256", metadata["identity"]["recipe"]),
    ]
    return Chapter("Reproduce this run", [Words(_command(run), "code"), Facts(known), Words(recipe.toml(), "code")])


def _command(run: RunFolder) -> str:
    """The command that made the run; for a run made from Python, a command that trains from its recipe."""
    program, *given = run.metadata["command"]
    if Path(program).stem == "wavefold" or Path(program).parts[-2:] == ("wavefold", "cli.py"):
        return shlex.join(["wavefold", *given])
    data = [] if run.metadata["simulated"] else ["--data", run.source]
    return shlex.join(["wavefold", "train", str(run.folder / "recipe.toml"), *data])
