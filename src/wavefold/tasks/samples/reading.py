"""Reads samples and folds for a recipe, and checks that new samples match the training data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, MissingGroup, UserError, listed, nearest
from wavefold.core.registry import build_part
from wavefold.core.run import LIMITED
from wavefold.data import read, test_files
from wavefold.data.dataset import Dataset, Strings, shape_words
from wavefold.data.split import SPLITS, Fold, holdout
from wavefold.ensemble import COMBINERS
from wavefold.recipe import Recipe
from wavefold.training.sampler import class_fractions

Log = Callable[[str], None]


def read_for(recipe: Recipe, source: str) -> Dataset:
    """Read the labelled samples of a source for a recipe; UserError if its class fractions do not match the classes."""
    dataset = _in_order(read(source, group=recipe.split.group, **_reading(recipe)), recipe.data.classes)
    labels, limit = dataset.known_labels(), recipe.data.limit
    if recipe.batches.fractions != "each":
        class_fractions(recipe.batches.fractions, labels, dataset.classes)  # names a class of the data without a fraction
    if not 0 < limit < len(dataset):
        return dataset
    with _named(f"{source}{LIMITED}{limit}"):
        some = holdout(labels, fraction=limit / len(dataset), validation=0, seed=recipe.seed, classes=dataset.classes)
    return replace(dataset.take(some[0].test), source=f"{dataset.source}{LIMITED}{limit}")


def _in_order(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """Order two classes as in the recipe if it names the same ones: the last one is the positive class."""
    if len(classes) != 2 or dataset.labels is None or dataset.classes != tuple(classes)[::-1]:
        return dataset
    return replace(dataset, classes=tuple(classes), labels=1 - dataset.known_labels())


def read_backgrounds(recipe: Recipe) -> Dataset:
    """Read the samples into which a simulator injects signals; any labels must be among the recipe's classes."""
    return read(recipe.data.backgrounds, **{**_reading(recipe), "classes": tuple(recipe.data.classes)})


def split_samples(recipe: Recipe, dataset: Dataset) -> list[Fold]:
    """Split a dataset into folds; groups stay whole if the recipe names a group."""
    labels = dataset.known_labels()
    if len(np.unique(labels)) < 2:
        raise DataError(
            f"{dataset.source}: all samples are of class '{dataset.classes[labels[0]]}'; training needs at least two classes"
        )
    given = {"labels": labels, "groups": dataset.groups if recipe.split.group else None, "classes": dataset.classes}
    with _named(dataset.source):
        folds: list[Fold] = build_part(SPLITS, recipe.split.way, recipe.split.options, "split", seed=recipe.seed, **given)
    validation_split = len(folds[0].validation) if len(folds) == 1 else len(labels) - max(len(f.test) for f in folds)
    needed = COMBINERS[recipe.combine.by].needs
    if validation_split < needed:
        raise UserError(
            f"split: only {validation_split} sample{'s are' if validation_split != 1 else ' is'} held out, "
            f"but combine.by='{recipe.combine.by}' needs {needed} to fit on; raise split.validation or add samples"
        )
    return folds


def read_to_explore(recipe: Recipe, source: str, *, labels: bool = True) -> Dataset:
    """Read all samples of a source for a recipe, even if the group it names is missing."""
    try:
        return _in_order(read(source, labels=labels, group=recipe.split.group, **_reading(recipe)), recipe.data.classes)
    except MissingGroup:
        return _in_order(read(source, labels=labels, **_reading(recipe)), recipe.data.classes)


def read_like(recipe: Recipe, source: str, metadata: Mapping[str, Any]) -> Dataset:
    """Read samples to predict; they must have the shape of the training samples, and labels are ignored."""
    dataset = read(source, labels=False, group=recipe.split.group, **_reading(recipe, metadata))
    check_shape(dataset, metadata)
    return dataset


def read_labelled(recipe: Recipe, source: str, metadata: Mapping[str, Any], warn: Log) -> Dataset:
    """Read samples to score: a folder's only test file if it has labels, else its training file; or the file given."""
    options, tests = _reading(recipe, metadata), test_files(source)
    if len(tests) == 1 and read(tests[0], **options).labels is not None:
        source = str(tests[0])
    try:
        dataset = read(source, group=recipe.split.group, **options)
    except MissingGroup:
        dataset = read(source, **options)
        warn(f"{source}: has no column '{recipe.split.group}'; the interval is computed over samples, not over groups")
    dataset.known_labels()
    return dataset


def warn_left_out(dataset: Dataset, warn: Log) -> None:
    """Call `warn` with a message for each sample that could not be read."""
    for name, why in dataset.left_out:
        warn(f"left out {name}: {why}")


def check_shape(dataset: Dataset, metadata: Mapping[str, Any]) -> None:
    """Raise DataError if the shape or the wavelengths of signals differ from those of the training samples."""
    have, shape = dataset.signals.shape[1:], metadata["shape"]
    if tuple(have) != tuple(shape):
        raise DataError(f"{dataset.source}: {_shape_difference(have, shape)}")
    learned, there = metadata.get("axis"), axis_marks(dataset)
    if learned and there and not np.allclose(learned, there, rtol=1e-5):
        raise DataError(
            f"{dataset.source}: the axis is {axis_words(there, dataset.unit)}; "
            f"the run was trained on {axis_words(learned, metadata['unit'])}"
        )


def _shape_difference(have: Sequence[int], shape: Sequence[int]) -> str:
    if len(have) == len(shape) == 2:
        return f"samples have {shape_words(have)}; the run was trained on {shape[0]} of {shape[1]}"
    return f"samples are {' x '.join(map(str, have))}; the run was trained on {' x '.join(map(str, shape))}"


def column_marks(dataset: Dataset, column: str) -> Strings:
    """Subgroup of each sample by a column, (sample,), for scores by subgroup; "" where the column is empty.

    A numeric column with more than 12 distinct values is binned at the quartiles of its nonzero values; zeros become "".
    """
    if column not in dataset.columns:
        there = listed(dataset.columns) or "none"
        raise UserError(
            f"{dataset.source}: no column '{column}' to group by; available columns: {there}{nearest(column, dataset.columns)}"
        )
    words = dataset.columns[column]
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


def _reading(recipe: Recipe, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arguments of `read` from a recipe, and from a run's metadata if samples must match its training data."""
    data = recipe.data
    fields: dict[str, Any] = {
        "layout": data.layout,
        "label_column": data.label,
        "grid": data.grid,
        "rate": data.rate,
        "skip_bad": data.skip_bad,
    }
    if metadata is None:
        return fields
    return {**fields, "classes": tuple(metadata["classes"]), "grid": metadata.get("grid") or data.grid}


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Prefix errors raised by a split with the source."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{source}: {error}") from None
