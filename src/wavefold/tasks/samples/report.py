"""Report page of a run on labelled samples: scores and baselines, learning curves, errors, saliency maps, leakage and shift."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import UserError
from wavefold.core.records import Scores
from wavefold.core.run import RunFolder
from wavefold.data import test_files
from wavefold.data.axes import axis_of
from wavefold.data.dataset import Dataset, Ints
from wavefold.data.split import Fold
from wavefold.data.statistics import drift
from wavefold.domains.base import Domain, domain_of, words_of
from wavefold.plots.plot import Figure
from wavefold.recipe import Recipe
from wavefold.reports.chapters import (
    drifted,
    headline,
    learning_chapter,
    metric_words,
    number,
    repeat_chapter,
    report_lead,
    score_chapter,
)
from wavefold.reports.held_out import HeldOut
from wavefold.reports.page import Block, Chapter, Page, Table, Words
from wavefold.tasks.samples.explain import Explained, explain
from wavefold.tasks.samples.reading import data_digest, read_for, read_like, split_samples
from wavefold.tasks.samples.target import target_of

Log = Callable[[str], None]
Values = NDArray[np.float64]

_DRAWN = 6  # samples per figure; a third of that for cadences
_COMPARED = 4000  # random samples of each part whose values are compared


def report_samples(run: RunFolder, recipe: Recipe, data: str, warn: Log) -> Page:
    """Build the report page of a run. data: new location of its samples, or '' if they have not moved."""
    scores, info, held = run.scores, run.metadata, HeldOut.of(run).once()
    dataset = _samples_again(run, recipe, data, warn)
    chapters = [
        score_chapter(scores, info),
        learning_chapter(run, recipe, scores.metric),
        *target_of(recipe).sections(held, info, dataset, _repeats(scores)),
        _members(held, recipe, scores),
        *([] if dataset is None else _of_samples(run, recipe, dataset, held, data or run.source)),
        repeat_chapter(run, recipe),
    ]
    return Page(
        title=f"{info.recipe}: run report",
        lead=report_lead(run, scores, info),
        chapters=chapters,
        headline=headline(scores, words_of(recipe.data.simulator).sample[1]),
    )


def _repeats(scores: Scores) -> str:
    """A sentence on repeated folds; '' if each sample was tested once."""
    return " Folds are repeated: only the first prediction of each sample counts here." if scores.rows > scores.n else ""


def _members(held: HeldOut, recipe: Recipe, scores: Scores) -> Chapter:
    """Compare the members with the ensemble, and list the alternatives."""
    kept: list[Block] = [target_of(recipe).member_table(held, recipe, scores), *_choices(scores)]
    return Chapter("Members and ensemble", kept, f"Combined by {recipe.combine.by}; calibration: {recipe.combine.calibrate}.")


def _choices(scores: Scores) -> list[Block]:
    if not scores.choices:
        return []
    rows = [[c.by, c.calibrate, c.decide, *(number(v) for v in c.measure(scores.metric))] for c in scores.choices]
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
    if data_digest(recipe, dataset) != run.metadata.identity.data:
        if data:
            raise UserError(
                f"{data}: does not match the training data of the run, {run.metadata.source}; "
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
    target, domain = target_of(recipe), domain_of(recipe.data.simulator)
    bad = target.worst(held.probabilities, held.labels, few)
    unsure = target.least_certain(held.probabilities, few)
    chapters = [
        Chapter(
            "Hardest samples",
            [_drawn(recipe, domain, dataset, held, bad)],
            f"Test samples with {target.worst_words}: errors of the model or wrong labels.",
        ),
        Chapter(
            "Most uncertain samples",
            [_drawn(recipe, domain, dataset, held, unsure)],
            f"Test samples with {target.unsure_words}.",
        ),
    ]
    chosen = np.concatenate([target.typical(held.probabilities, held.labels, few), bad[: few // 2]])
    return [*chapters, _why(run, recipe, dataset, held, chosen, first.train)]


def _titles(recipe: Recipe, dataset: Dataset, held: HeldOut, chosen: Ints) -> list[str]:
    """Titles with the prediction and the truth of some rows."""
    said = target_of(recipe).titles(target_of(recipe).outputs(dataset), held.probabilities[chosen], held.labels[chosen])
    return [f"{id_}: {words}" for id_, words in zip(held.ids[chosen].tolist(), said, strict=True)]


def _drawn(recipe: Recipe, domain: Domain, dataset: Dataset, held: HeldOut, chosen: Ints) -> Figure:
    values, titles = dataset.signals[held.rows[chosen]], _titles(recipe, dataset, held, chosen)
    classes = held.labels[chosen].tolist() if target_of(recipe).numbered else None
    return domain.draw_samples(values, titles, axis_of(dataset, domain.axis_title), classes)


def _why(run: RunFolder, recipe: Recipe, dataset: Dataset, held: HeldOut, chosen: Ints, train: Ints) -> Chapter:
    explained = target_of(recipe).explained(held.probabilities[chosen])
    made: Explained = explain(run, recipe, dataset, held.rows[chosen], explained, train)
    titles = _titles(recipe, dataset, held, chosen)
    blocks: list[Block] = [Words(note) for note in made.notes]
    if run.metadata.folds > 1:
        blocks.append(Words(_OF_ALL_FOLDS))
    domain = domain_of(recipe.data.simulator)
    for name, figure in domain.draw_explanations(made.signals, made.maps, titles, axis_of(dataset, domain.axis_title)):
        blocks += [*([Words(name)] if name else []), figure]
    lead = (
        f"Evidence for (red) and against (blue) {target_of(recipe).explained_words}, "
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
    blocks: list[Block] = [*_groups_shown(recipe, dataset, train, test), *target_of(recipe).rare(dataset, train)]
    learned = dataset.take(_some(train)).signals
    name = "test part" if run.metadata.folds == 1 else "test part of fold 1"
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


def _groups_shown(recipe: Recipe, dataset: Dataset, train: Ints, test: Ints) -> list[Block]:
    if dataset.groups is None:
        own = words_of(recipe.data.simulator)
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
