"""Reads samples and folds for a recipe, and checks that new samples match the training data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, MissingGroup, UserError, listed, nearest, plural
from wavefold.core.records import RunInfo
from wavefold.core.registry import build_part, pick
from wavefold.core.run import LIMITED
from wavefold.data import read, test_files
from wavefold.data.csv_text import one_named
from wavefold.data.dataset import UNIT, Dataset, Floats, Signals, Strings, shape_words
from wavefold.data.lazy import Lazy
from wavefold.data.missing_words import are_missing
from wavefold.data.read_samples import How
from wavefold.data.split import SPLITS, Fold, holdout
from wavefold.data.text_parts import TextPart
from wavefold.data.units import conversion, is_same
from wavefold.recipe import Recipe, digest_of
from wavefold.tasks.samples.target import target_of

Log = Callable[[str], None]


def read_for(recipe: Recipe, source: str) -> Dataset:
    """Read the samples of a source with their truth, for a recipe; UserError if they do not suit it."""
    dataset, limit = _read(recipe, source), recipe.data.limit
    target = target_of(recipe)
    target.batches(recipe, target.truth(dataset), target.outputs(dataset))  # names a class of the data without a fraction
    if not 0 < limit < len(dataset):
        return dataset
    with _named(f"{source}{LIMITED}{limit}"):
        fraction, names = limit / len(dataset), target.strata_names(dataset)
        some = holdout(target.strata(target.truth(dataset)), fraction=fraction, validation=0, seed=recipe.seed, classes=names)
    return replace(dataset.take(some[0].test), source=f"{dataset.source}{LIMITED}{limit}")


def _read(recipe: Recipe, source: str, *, info: RunInfo | None = None, group: str | None = None) -> Dataset:
    """Read samples with their truth. info: of the run, if they must match its data; group: the recipe's by default."""
    target = target_of(recipe)
    named = recipe.split.group if group is None else group
    found = _reader(recipe, info)(source, labels=target.numbered, grouped=True, group=named)
    return target.with_truth(recipe, found, info)


def read_backgrounds(recipe: Recipe) -> Dataset:
    """Read the samples into which a simulator injects signals; any labels must be among the recipe's classes."""
    return _reader(recipe)(recipe.data.backgrounds, classes=tuple(recipe.data.classes))


def split_samples(recipe: Recipe, dataset: Dataset) -> list[Fold]:
    """Split a dataset into folds; groups stay whole if the recipe names a group."""
    target = target_of(recipe)
    target.check_truth(dataset)
    groups = dataset.groups if recipe.split.group else None
    strata = {"labels": target.strata(target.truth(dataset)), "classes": target.strata_names(dataset)}
    known = {**strata, "groups": groups, "columns": dataset.columns}
    way: Callable[..., list[Fold]] = pick(SPLITS, recipe.split.way, "split.way")
    named = inspect.signature(way).parameters
    given = {name: value for name, value in {**known, "seed": recipe.seed}.items() if name in named}
    with _named(dataset.source):
        folds: list[Fold] = build_part(SPLITS, recipe.split.way, recipe.split.options, "split", **given)
    target.check_folds(dataset, folds)
    held = len(folds[0].validation) if len(folds) == 1 else len(dataset) - max(len(f.test) for f in folds)
    needed = target.parts.combiners[recipe.combine.by].needs
    if held < needed:
        raise UserError(
            f"split: only {plural(held, 'sample')} {'are' if held != 1 else 'is'} held out, "
            f"but combine.by='{recipe.combine.by}' needs {needed} to fit on; raise split.validation or add samples"
        )
    return folds


def read_to_explore(recipe: Recipe, source: str, *, labels: bool = True) -> Dataset:
    """Read all samples of a source for a recipe, even if the group it names is missing. labels: with their truth."""
    if not labels:
        return _reader(recipe)(source, labels=False, group=recipe.split.group)
    try:
        return _read(recipe, source)
    except MissingGroup:
        return _read(recipe, source, group="")


def read_like(recipe: Recipe, source: str, info: RunInfo) -> Dataset:
    """Read samples to predict; they must have the shape of the training samples, and labels are ignored."""
    dataset = _reader(recipe, info)(source, labels=False, group=recipe.split.group)
    return like_training(dataset, info)


def read_part_like(recipe: Recipe, source: str, info: RunInfo, part: TextPart) -> Dataset:
    """Read the samples of one part of a text file to predict, as `read_like` does those of all; there may be none."""
    return like_training(_reader(recipe, info)(source, labels=False, group=recipe.split.group, part=part), info)


def read_labelled(recipe: Recipe, source: str, info: RunInfo, warn: Log) -> Dataset:
    """Read samples to score: a folder's only test file if it has labels, else its training file; or the file given."""
    target, tests = target_of(recipe), test_files(source)
    if len(tests) == 1 and target.has_truth(recipe, _reader(recipe, info)(tests[0], labels=target.numbered)):
        source = str(tests[0])
    try:
        dataset = _read(recipe, source, info=info)
    except MissingGroup:
        dataset = _read(recipe, source, info=info, group="")
        warn(f"{source}: has no column '{recipe.split.group}'; the interval is computed over samples, not over groups")
    if target.numbered and dataset.labels is None and (column := _extra_column(dataset, info)):  # too few rows to see it
        warn(f"{source}: column '{column}', which is not among those of the run, is taken for the label")
        dataset = _read(recipe.with_({"data.label": column}), source, info=info)
    target.truth(dataset)
    return like_training(dataset, info)


def warn_of(dataset: Dataset, warn: Log) -> None:
    """Call `warn` with each note of the reader, and with a message for each sample that could not be read."""
    for note in dataset.notes:
        warn(f"{dataset.source}: {note}")
    for name, why in dataset.left_out:
        warn(f"left out {name}: {why}")


def like_training(dataset: Dataset, info: RunInfo) -> Dataset:
    """The samples as the run's training samples were: positions in their order, values in their unit.

    DataError if shape, wavelengths, names of positions or what both sources state of their signals differ otherwise.
    """
    dataset = _positioned(dataset, info)
    _check_shape(dataset, info)
    for name in info.attrs.keys() & dataset.attrs.keys() - {UNIT}:
        ours, theirs = info.attrs[name], dataset.attrs[name]
        if ours != theirs and not is_same(theirs, ours):
            raise DataError(f"{dataset.source}: its {name} is {theirs}; the run was trained on {ours}")
    return _in_unit(_in_medium(dataset, info), info)


def _in_medium(dataset: Dataset, info: RunInfo) -> Dataset:
    """The samples with a note if they state the medium of their wavelengths and the run does not."""
    medium = dataset.attrs.get("medium")
    if not medium or not info.axis or "medium" in info.attrs:
        return dataset
    note = f"wavelengths are in {medium}; the run does not say whether its own are in vacuum or in air"
    return replace(dataset, notes=(*dataset.notes, f"{note}: train with data.medium to have them converted"))


def _positioned(dataset: Dataset, info: RunInfo) -> Dataset:
    """Put columns in the run's order by their names; DataError that names the first one that the run does not have."""
    ours, theirs = info.positions, dataset.positions
    if (extra := _extra_column(dataset, info)) and not isinstance(dataset.signals, Lazy):
        at = theirs.index(extra)
        values = dataset.signals[:, :, at]
        if np.array_equal(values, np.rint(values)):
            note = f"column '{extra}' of whole numbers, which is not among those of the run, is left out"
            rest, theirs = np.delete(dataset.signals, at, axis=2), (*theirs[:at], *theirs[at + 1 :])
            dataset = replace(dataset, signals=rest, positions=theirs, notes=(*dataset.notes, note))
    if not ours or not theirs or ours == theirs or len(ours) != len(theirs):
        return dataset
    place = {name: at for at, name in enumerate(theirs)}
    lacking = next((name for name in ours if name not in place), None)
    if lacking is not None:
        odd = next(name for name in theirs if name not in set(ours))
        raise DataError(
            f"{dataset.source}: column '{odd}' is not among those of the run, which has '{lacking}' there; rename the columns "
            "as in the training file if they are the same measurements"
        )
    order = np.array([place[name] for name in ours])
    signals = _changed(dataset.signals, lambda values: values[..., order])
    moved = int((order != np.arange(len(order))).sum())
    note = f"{plural(moved, 'column')} put in the order of the training file, by name"
    return replace(dataset, signals=signals, positions=ours, notes=(*dataset.notes, note))


def _changed(signals: Signals, step: Callable[[Floats], Floats]) -> Signals:
    """Signals with a step applied to each sample; to those read on demand when they are read."""
    return signals.then(step) if isinstance(signals, Lazy) else step(signals)


def _extra_column(dataset: Dataset, info: RunInfo) -> str:
    """The only column, the first or the last, that a file has beyond those of the run; '' if there is not one."""
    ours, theirs = info.positions, dataset.positions
    extra = set(theirs) - set(ours)
    if not ours or len(theirs) != len(ours) + 1 or len(extra) != 1:
        return ""
    (name,) = extra
    return name if theirs.index(name) in (0, len(theirs) - 1) else ""


def _in_unit(dataset: Dataset, info: RunInfo) -> Dataset:
    """Convert values to the unit of the run's, where both are stated; DataError if they cannot be."""
    ours, theirs = info.attrs.get(UNIT, ""), dataset.attrs.get(UNIT, "")
    if not ours or not theirs:
        return dataset
    try:
        factor, offset = conversion(theirs, ours)
    except DataError as error:
        raise DataError(f"{dataset.source}: {error}, in which the run was trained") from None
    if (factor, offset) == (1.0, 0.0):
        return dataset
    signals = _changed(dataset.signals, lambda values: (values * np.float64(factor) + offset).astype(np.float32))
    note = f"values converted from {theirs} to {ours}, as in training"
    return replace(dataset, signals=signals, attrs={**dataset.attrs, UNIT: ours}, notes=(*dataset.notes, note))


def _check_shape(dataset: Dataset, info: RunInfo) -> None:
    """Raise DataError if the shape or the wavelengths of signals differ from those of the training samples."""
    have, shape = dataset.signals.shape[1:], info.shape
    if tuple(have) != shape:
        raise DataError(f"{dataset.source}: {_shape_difference(have, shape)}")
    learned, there = info.axis, axis_marks(dataset)
    if learned and there and not np.allclose(learned, there, rtol=1e-5):
        raise DataError(
            f"{dataset.source}: the axis is {axis_words(there, dataset.unit)}; "
            f"the run was trained on {axis_words(learned, info.unit)}"
        )


def _shape_difference(have: Sequence[int], shape: Sequence[int]) -> str:
    if len(have) == len(shape) == 2:
        return f"samples have {shape_words(have)}; the run was trained on {shape[0]} of {shape[1]}"
    return f"samples are {' x '.join(map(str, have))}; the run was trained on {' x '.join(map(str, shape))}"


def column_marks(dataset: Dataset, column: str) -> Strings:
    """Subgroup of each sample by a column, (sample,), for scores by subgroup; "" where the column is empty.

    A numeric column with more than 12 distinct values is binned at the quartiles of its nonzero values; zeros become "".
    """
    found = one_named(dataset.columns, column)
    if not found:
        there = listed(dataset.columns) or "none"
        raise UserError(
            f"{dataset.source}: no column '{column}' to group by; available columns: {there}{nearest(column, dataset.columns)}"
        )
    words = np.where(are_missing(dataset.columns[found]), "", dataset.columns[found])
    if len(set(words.tolist()) - {""}) <= _WORDS:
        return words
    try:
        return _quarters(np.array([float(word or "nan") for word in words.tolist()]))
    except ValueError:
        words_there = f"column '{column}' has {len(set(words.tolist())):,} distinct values"
        raise UserError(
            f"{dataset.source}: {words_there}; to group by it, it must be numeric or have at most {_WORDS}"
        ) from None


_WORDS = 12  # distinct values of a column up to which each is a subgroup


def _quarters(values: NDArray[np.float64]) -> Strings:
    """The range of each value's quartile, "" for zeros and values that are not finite."""
    there = np.isfinite(values) & (values != 0)
    if not there.any():
        return np.full(len(values), "", np.str_)
    edges = np.quantile(values[there], [0, 0.25, 0.5, 0.75, 1])
    names = np.array([f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)])
    return np.where(there, names[np.searchsorted(edges[1:-1], values, side="right")], "")


def data_digest(recipe: Recipe, dataset: Dataset) -> str:
    """What identifies the training data of a run: the source's bytes, the names of the outputs and the signals' shape."""
    return digest_of([dataset.digest, list(target_of(recipe).outputs(dataset)), list(dataset.signals.shape)])


def axis_marks(dataset: Dataset) -> list[float] | None:
    """The axis at 33 positions from first to last, if the source has one: enough to distinguish axes."""
    if dataset.axis is None:
        return None
    marks: list[float] = dataset.axis[np.linspace(0, len(dataset.axis) - 1, 33).round().astype(np.int64)].tolist()
    return marks


def even_grid(dataset: Dataset) -> list[float] | None:
    """First, last and step of an even axis in angstrom, as a grid for resampling FITS files."""
    axis = dataset.axis
    if axis is None or len(axis) < 2 or not dataset.unit.endswith("angstrom"):
        return None
    step = (axis[-1] - axis[0]) / (len(axis) - 1)
    return [float(axis[0]), float(axis[-1]), float(step)] if np.allclose(np.diff(axis), step, rtol=1e-3) else None


def axis_words(marks: Sequence[float], unit: str) -> str:
    """The ends of an axis and its unit, as text. marks: as returned by `axis_marks`."""
    return f"{marks[0]:g} to {marks[-1]:g} ({unit or 'no unit'})"


def how_of(recipe: Recipe) -> How:
    """How the table of a source is read for a recipe, to be packed."""
    data, numbered, stated = recipe.data, target_of(recipe).numbered, stated_for(recipe)
    return How(
        layout=data.layout,
        group=recipe.split.group,
        label_column=data.label if numbered else "",
        grid=stated["grid"],
        rate=data.rate or 0,
        signal=stated["signal"],
        wavelength_unit=stated["wavelength_unit"],
        medium=stated["medium"],
        apart=() if numbered else (*(data.targets or ()), data.label),
        skip_bad=data.skip_bad,
    )


def _reader(recipe: Recipe, info: RunInfo | None = None) -> Callable[..., Dataset]:
    """`read` with what a recipe says of the data, and a run if samples must match its training data."""
    data, numbered = recipe.data, target_of(recipe).numbered
    reader = partial(
        read,
        layout=data.layout,
        label_column=data.label if numbered else "",
        rate=data.rate or 0,
        **stated_for(recipe, info),
        skip_bad=data.skip_bad,
        apart=() if numbered else (*(data.targets or ()), data.label),
        named=data.classes if numbered else (),
    )
    return partial(reader, classes=info.classes) if info and numbered else reader


class Stated(TypedDict):
    """The arguments of `read` that say what the run's files state, or the recipe of its own."""

    grid: Sequence[float] | None
    signal: str
    wavelength_unit: str
    medium: str
    missing: Sequence[float]


def stated_for(recipe: Recipe, info: RunInfo | None = None) -> Stated:
    """What to read of files that hold more than one thing: what the run learned from, else what the recipe says."""
    data, attrs = recipe.data, info.attrs if info else {}
    return {
        "grid": (info.grid if info else None) or data.grid,
        "signal": data.signal or attrs.get("signal", ""),
        "wavelength_unit": data.wavelength_unit or "",
        "medium": data.medium or attrs.get("medium", ""),
        "missing": data.missing or (),
    }


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Prefix errors raised by a split with the source."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{source}: {error}") from None
