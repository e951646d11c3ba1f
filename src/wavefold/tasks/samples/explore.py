"""Data overview page of a source, before training: counts, classes, statistics, samples and defects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import UserError, listed
from wavefold.core.registry import build_part
from wavefold.data import test_files
from wavefold.data.axes import Axis, axis_of
from wavefold.data.dataset import Dataset, Ints, Strings, shape_words
from wavefold.data.quality import NearDuplicates, duplicates, label_conflicts, leaks, near_duplicates, near_to
from wavefold.data.statistics import ClassStatistics, ValueRanges, class_statistics, value_ranges
from wavefold.domains.base import Domain, domain_of, words_of
from wavefold.plots.charts import histogram, mean_and_spread
from wavefold.recipe import Recipe
from wavefold.reports.chapters import some_of
from wavefold.reports.page import Block, Chapter, Facts, Page, Table, Words
from wavefold.tasks.samples.reading import axis_words, read_to_explore
from wavefold.tasks.samples.target import target_of
from wavefold.transforms import TRANSFORMS

_SHOWN = 12  # samples drawn in total
_LISTED = 20  # rows in a table of defects


def explore_samples(recipe: Recipe, source: str) -> Page:
    """Build the page of a source of samples, including the test files of a folder."""
    dataset, tests, unread = _read(recipe, source)
    domain = domain_of(recipe.data.simulator)
    axis, ranges = axis_of(dataset, domain.axis_title), value_ranges(dataset.signals)
    found = _defects(dataset, tests, ranges, unread)
    chapters = [
        _there(dataset, tests, ranges),
        *target_of(recipe).truth_chapters(dataset),
        *_by_position(recipe, dataset, axis),
        _samples(domain, dataset, axis, recipe.seed),
        _values(dataset, ranges),
        found,
    ]
    named = Path(dataset.source).name or dataset.source
    return Page(
        title=f"{named}: data overview",
        lead=f"{dataset.source}, read with recipe '{recipe.name}'. No model was trained.",
        chapters=chapters,
        headline=_headline(dataset, found, words_of(recipe.data.simulator).sample[1]),
    )


def _read(recipe: Recipe, source: str) -> tuple[Dataset, list[Dataset], list[str]]:
    """Read the samples of a source and the test files in its folder; the last item lists errors of unreadable test files."""
    lenient = recipe.with_({"data.skip_bad": True})
    dataset, tests, unread = read_to_explore(lenient, source), list[Dataset](), list[str]()
    for path in test_files(source):
        try:
            tests.append(read_to_explore(lenient, str(path), labels=False))
        except UserError as error:
            unread.append(str(error))
    return dataset, tests, unread


def _headline(dataset: Dataset, found: Chapter, samples: str) -> list[tuple[str, str]]:
    warned = sum(isinstance(block, Words) and block.kind == "warning" for block in found.blocks)
    groups = [(f"groups by {dataset.grouping}", f"{len(set(dataset.groups.tolist())):,}")] if dataset.groups is not None else []
    classes = [("classes", f"{len(dataset.classes):,}")] if dataset.labels is not None else []
    return [
        (samples, f"{len(dataset):,}"),
        *classes,
        *groups,
        (f"kind{'s' if warned != 1 else ''} of defect", f"{warned}"),
    ]


def _there(dataset: Dataset, tests: Sequence[Dataset], ranges: ValueRanges) -> Chapter:
    pairs = [
        ("source", dataset.source),
        ("samples", f"{len(dataset):,}"),
        ("sample shape", shape_words(dataset.signals.shape[1:])),
        ("step of the last axis", dataset.unit or "not given by the source"),
    ]
    if dataset.axis is not None:
        pairs.append(("axis", axis_words(dataset.axis.tolist(), dataset.unit)))
    pairs += [(name, value) for name, value in dataset.attrs.items()]
    if dataset.groups is not None:
        pairs.append(("groups", f"{len(set(dataset.groups.tolist())):,} by {dataset.grouping}"))
    if dataset.columns:
        pairs.append(("other columns", listed(dataset.columns)))
    pairs += [
        ("test file", f"{Path(test.source).name}: {len(test):,} sample{'s' if len(test) != 1 else ''} to predict")
        for test in tests
    ]
    pairs.append(("SHA-256", dataset.digest))
    return Chapter("Overview", [Facts(pairs), *(Words(note, "warning") for note in dataset.notes)])


def _by_position(recipe: Recipe, dataset: Dataset, axis: Axis) -> list[Chapter]:
    """Mean and spread of each class along the axis; for cadences, the mean panels."""
    labels = np.zeros(len(dataset), np.int64) if dataset.labels is None else dataset.labels
    names = dataset.classes if dataset.labels is not None else ("all samples",)
    found = class_statistics(dataset.signals, labels, len(names))
    if dataset.signals.ndim > 3:
        titles = [f"mean of {name}" for name in names]
        draw = domain_of(recipe.data.simulator).draw_samples
        return [Chapter("Mean by class", [draw(found.mean.astype(np.float32), titles, axis, None)])]
    words = "5th to 95th percentile" if found.quantiles else "two standard deviations either side"
    few = "" if len(names) <= _DRAWN_CLASSES else f" Only the {_DRAWN_CLASSES} largest of {len(names)} classes are shown."
    lead = f"Lines: class mean at each position; bands: {words}. Classes are separable where their bands do not overlap.{few}"
    chapters = [Chapter("Mean and spread by position", _bands(found, axis, names), lead)]
    scaling = [step for step in recipe.prepare if step.step == "scale"]
    if scaling:
        transform = build_part(TRANSFORMS, "scale", scaling[0].options, "prepare")
        some = _as_fit(dataset, recipe.seed)
        scaled = class_statistics(transform.apply(dataset.take(some).signals[:]), labels[some], len(names))
        of = "" if len(some) == len(dataset) else f" From {len(some):,} sample{'s' if len(some) != 1 else ''} chosen at random."
        lead = f"The same statistics after the scaling step of the recipe.{of}"
        chapters.append(Chapter("Mean and spread after scaling", _bands(scaled, axis, names), lead))
    return chapters


def _as_fit(dataset: Dataset, seed: int) -> Ints:
    """Indexes of samples whose signals fit in memory, chosen at random if not all do."""
    most = max(1, _AT_ONCE // (4 * int(np.prod(dataset.signals.shape[1:]))))
    if most >= len(dataset):
        return np.arange(len(dataset))
    return np.sort(np.random.default_rng(seed).choice(len(dataset), most, replace=False))


_AT_ONCE = 256 << 20  # bytes of signals to scale


def _bands(found: ClassStatistics, axis: Axis, names: Sequence[str]) -> list[Block]:
    """One figure per channel, with the largest classes."""
    shown, channels = np.sort(np.argsort(-found.count, kind="stable")[:_DRAWN_CLASSES]), found.mean.shape[1]
    mean, low, high, called = found.mean[shown], found.low[shown], found.high[shown], [names[k] for k in shown]
    return [
        mean_and_spread(
            axis.values,
            axis.title,
            mean[:, c],
            low[:, c],
            high[:, c],
            called,
            value_title="value" if channels == 1 else f"value of channel {c + 1}",
        )
        for c in range(min(channels, _CHANNELS))
    ]


_CHANNELS = 12  # with a figure each
_DRAWN_CLASSES = 12  # per figure


def _samples(domain: Domain, dataset: Dataset, axis: Axis, seed: int) -> Chapter:
    """Random samples of each class."""
    chosen = _some_of_each(dataset, _SHOWN if dataset.signals.ndim == 3 else 4, seed)
    some = dataset.take(chosen)
    names = [""] * len(some) if some.labels is None else [some.classes[k] for k in some.labels]
    titles = [f"{name}  {word}".strip() for name, word in zip(names, some.ids.tolist(), strict=True)]
    values = some.signals[:]
    by_class = some.labels is not None and values.shape[1] == 1  # with several channels, colours mark channels
    drawn = domain.draw_samples(values, titles, axis, some.known_labels().tolist() if by_class else None)
    return Chapter("Samples", [drawn], f"Chosen at random (seed {seed}){_of_classes(some, dataset)}.")


def _of_classes(some: Dataset, dataset: Dataset) -> str:
    if some.labels is None or dataset.labels is None:
        return ""
    shown, there = (len(np.unique(labels)) for labels in (some.labels, dataset.labels))
    return ", the same number per class where possible" if shown == there else f", from {shown} of {there} classes"


def _some_of_each(dataset: Dataset, count: int, seed: int) -> Ints:
    rng = np.random.default_rng(seed)
    if dataset.labels is None:
        return np.sort(rng.choice(len(dataset), min(count, len(dataset)), replace=False))
    there = np.unique(dataset.labels)
    each = max(1, count // len(there))
    chosen = there if len(there) <= count else np.sort(rng.choice(there, count, replace=False))
    drawn = [rng.permutation(np.flatnonzero(dataset.labels == k))[:each] for k in chosen]
    return np.concatenate(drawn)


def _values(dataset: Dataset, ranges: ValueRanges) -> Chapter:
    head = ["channel", "minimum", "mean", "maximum", "standard deviation"]
    rows = [
        [n, *(f"{v:.5g}" for v in row)]
        for n, row in enumerate(zip(ranges.lowest, ranges.mean, ranges.highest, ranges.std, strict=True), start=1)
    ]
    blocks: list[Block] = [
        Table(head, rows),
        histogram({"sample minimum": ranges.low.tolist(), "sample maximum": ranges.high.tolist()}, "value"),
    ]
    if (ranges.zero_tail > 0).mean() > _TAILED:
        blocks.append(histogram({"trailing zeros": ranges.zero_tail.tolist()}, "positions"))
    return Chapter(
        "Values", blocks, "Range of all values, and histograms of the minimum and maximum of each sample; outliers stand apart."
    )


_TAILED = 0.01  # share of samples with trailing zeros above which a figure is drawn


def _defects(dataset: Dataset, tests: Sequence[Dataset], ranges: ValueRanges, unread: Sequence[str]) -> Chapter:
    """Problems that may harm training or inflate scores, with a warning for each."""
    equal, near = duplicates(dataset.signals), near_duplicates(dataset.signals, least=_ALIKE)
    blocks = [
        *_unreadable(dataset),
        *_not_values(dataset, ranges),
        *_equal_samples(dataset, equal),
        *_near_samples(dataset, near),
        *_between_groups(dataset, equal, near),
        *(Words(f"Cannot be read: {line}", "warning") for line in unread),
        *(block for test in tests for block in _in_both(dataset, test)),
    ]
    if not any(isinstance(block, Words) and block.kind == "warning" for block in blocks):
        blocks.insert(0, Words("None found: no missing values, constant samples or duplicates.", "good"))
    words = f"The search for near-duplicates covered {near.looked_at:,} of {len(dataset):,} samples."
    return Chapter("Defects", blocks, words if near.looked_at < len(dataset) else "")


def _unreadable(dataset: Dataset) -> list[Block]:
    if not dataset.left_out:
        return []
    words = (
        f"{len(dataset.left_out):,} sample{'s' if len(dataset.left_out) != 1 else ''} cannot be read; "
        "training stops unless --skip-bad is given."
    )
    return [Words(words, "warning"), Table(["id", "reason"], [list(row) for row in dataset.left_out[:_LISTED]])]


def _not_values(dataset: Dataset, ranges: ValueRanges) -> list[Block]:
    blocks: list[Block] = []
    missing = np.flatnonzero(ranges.not_finite)
    if len(missing):
        blocks.append(
            Words(
                f"{len(missing):,} sample{'s have' if len(missing) != 1 else ' has'} NaN or infinite values: "
                f"{_some(dataset.ids[missing])}.",
                "warning",
            )
        )
    flat = np.flatnonzero(ranges.flat)
    if len(flat):
        blocks.append(
            Words(
                f"{len(flat):,} sample{'s are' if len(flat) != 1 else ' is'} constant: {_some(dataset.ids[flat])}.", "warning"
            )
        )
    tailed = ranges.zero_tail > 0
    if tailed.any():
        half = float(np.median(ranges.zero_tail[tailed]))
        words = (
            f"{tailed.sum():,} sample{'s end' if tailed.sum() != 1 else ' ends'} in zeros ({tailed.mean():.2%}), "
            f"with a median of {half:,.0f}"
        )
        shared = int(ranges.zero_tail.min())
        blocks.append(
            Words(
                f"{words}. All samples end in at least {shared:,}; the step crop_tail removes them." if shared else f"{words}."
            )
        )
    return blocks


def _equal_samples(dataset: Dataset, equal: Sequence[Ints]) -> list[Block]:
    if not equal:
        return []
    repeats = sum(len(group) - 1 for group in equal)
    blocks: list[Block] = [
        Words(
            f"{repeats:,} sample{'s are exact duplicates' if repeats != 1 else ' is an exact duplicate'} of an earlier one, "
            f"in {len(equal):,} set{'s' if len(equal) != 1 else ''}.",
            "warning",
        )
    ]
    if dataset.labels is not None:
        torn = label_conflicts(equal, dataset.labels)
        if torn:
            blocks.append(
                Words(
                    f"{len(torn):,} of these sets {'have' if len(torn) != 1 else 'has'} conflicting labels: no model can "
                    "predict all of them correctly.",
                    "warning",
                )
            )
            blocks.append(_sets(dataset, torn))
            return blocks
    blocks.append(_sets(dataset, equal))
    return blocks


def _sets(dataset: Dataset, sets: Sequence[Ints]) -> Table:
    def words(group: Ints) -> str:
        if dataset.labels is None:
            return ""
        return listed(dict.fromkeys(dataset.classes[k] for k in dataset.labels[group].tolist()))

    rows = [[_some(dataset.ids[group]), len(group), words(group)] for group in sets[:_LISTED]]
    return Table(["ids", "samples", "labels"], rows, f"the first {len(rows)} of {len(sets):,}" if len(sets) > len(rows) else "")


def _near_samples(dataset: Dataset, near: NearDuplicates) -> list[Block]:
    if not near.count:
        return []
    first = np.argsort(-near.likeness)[:_LISTED]
    rows = [
        [dataset.ids[i], dataset.ids[j], f"{r:.5f}", *_labels_of(dataset, (i, j))]
        for (i, j), r in zip(near.pairs[first].tolist(), near.likeness[first].tolist(), strict=True)
    ]
    words = f"{near.count:,} pair{'s' if near.count != 1 else ''} of near-duplicate samples (correlation {_ALIKE:g} or more)."
    head = ["id", "id", "correlation", *(["labels"] if dataset.labels is not None else [])]
    return [Words(words, "warning"), Table(head, rows, "highest correlation first")]


def _labels_of(dataset: Dataset, pair: tuple[int, int]) -> list[str]:
    return [] if dataset.labels is None else [listed(dict.fromkeys(dataset.classes[dataset.labels[n]] for n in pair))]


def _between_groups(dataset: Dataset, equal: Sequence[Ints], near: NearDuplicates) -> list[Block]:
    if dataset.groups is None:
        return []
    torn = leaks(equal, dataset.groups) + leaks(list(near.pairs), dataset.groups)
    if not torn:
        words = f"No duplicate or near-duplicate is in two groups by {dataset.grouping}"
        return [Words(f"{words}, among the samples compared.", "good")]
    rows = [[_some(dataset.ids[g]), listed(dict.fromkeys(dataset.groups[g].tolist()))] for g in torn[:_LISTED]]
    words = (
        f"{len(torn):,} set{'s' if len(torn) != 1 else ''} of duplicates or near-duplicates in more than one group: "
        "a split by group does not prevent leakage between them."
    )
    return [Words(words, "warning"), Table(["ids", f"groups by {dataset.grouping}"], rows)]


def _in_both(dataset: Dataset, test: Dataset) -> list[Block]:
    """Samples of a test file that are also among the training samples."""
    if test.signals.shape[1:] != dataset.signals.shape[1:]:
        shapes = [shape_words(part.signals.shape[1:]) for part in (test, dataset)]
        words = f"{Path(test.source).name}: samples have shape {shapes[0]}, but training samples have {shapes[1]}."
        return [Words(words, "warning")]
    name, found = Path(test.source).name, near_to(dataset.signals, test.signals, _ALIKE)
    compared = found.looked_at[1]
    if not found.count:
        return [
            Words(
                f"None of {compared:,} sample{'s' if compared != 1 else ''} compared in {name} is among the training samples.",
                "good",
            )
        ]
    there = np.flatnonzero(found.likeness >= _ALIKE)[:_LISTED]
    rows = [
        [test.ids[n], dataset.ids[k], f"{likeness:.5f}"]
        for n, k, likeness in zip(found.samples[there], found.nearest[there], found.likeness[there].tolist(), strict=True)
    ]
    words = (
        f"{found.count:,} of {compared:,} samples compared in {name} {'have' if found.count != 1 else 'has'} "
        "a duplicate or near-duplicate in the training data."
    )
    return [Words(words, "warning"), Table(["id in the test file", "id of the training sample", "correlation"], rows)]


_ALIKE = 0.999  # correlation


def _some(ids: Strings | NDArray[np.str_]) -> str:
    """The first few ids, as text."""
    return some_of([str(word) for word in ids.tolist()], 4)
