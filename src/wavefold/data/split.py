"""Stratified training, validation and test splits as index arrays, which keep groups together.

Samples are assigned class by class, so that every part has the class proportions of the whole. With groups (patients,
stars, backgrounds), whole groups are assigned, largest first, each to the part that then stays closest to its target share
of every class. scikit-learn's StratifiedGroupKFold is similar; this version also supports parts of unequal size, leaves none
empty, and depends on the seed even if all groups differ in size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from wavefold.core.errors import UserError
from wavefold.data.dataset import Ints

Groups = NDArray[Any]  # (sample,) any values that can be compared


@dataclass(frozen=True)
class Fold:
    """One split: three sorted, disjoint index arrays that together cover all samples."""

    number: int
    train: Ints
    validation: Ints
    test: Ints


def holdout(
    labels: Ints,
    *,
    fraction: float = 0.25,
    validation: float = 0.1,
    groups: Groups | None = None,
    seed: int = 0,
    classes: Sequence[str] = (),
) -> list[Fold]:
    """One fold: a stratified test part of `fraction` of the samples and a validation part of `validation` of the rest.

    labels: (sample,) class numbers; groups: (sample,) groups to keep in one part; classes: names for errors.
    A class with two samples or more is in both test and training; with groups, as nearly as whole groups allow.
    """
    if not 0 < fraction < 1:
        raise UserError(f"split.fraction: {fraction} is out of range; it must be above 0 and below 1")
    _check_validation(validation)
    _check_classes(labels, 2, "a stratified split", classes)
    _check_groups(groups, 2, "a split into training and test")
    rng = np.random.default_rng(seed)
    test = _part(labels, fraction, groups, rng)
    return [_fold(0, labels, test, validation, groups, rng)]


def kfold(
    labels: Ints,
    *,
    folds: int = 5,
    repeats: int = 1,
    validation: float = 0.1,
    groups: Groups | None = None,
    seed: int = 0,
    classes: Sequence[str] = (),
) -> list[Fold]:
    """`folds` x `repeats` folds: each repeat shuffles anew and puts every sample in exactly one test part.

    labels: (sample,) class numbers; groups: (sample,) groups to keep in one part; classes: names for errors. validation:
    fraction of the samples outside the test part. A class in fewer groups than folds is missing from some test parts.
    """
    if folds < 2:
        raise UserError(f"split.folds: {folds} is too small; cross-validation needs at least 2 folds")
    if repeats < 1:
        raise UserError(f"split.repeats: {repeats} is too small; it must be 1 or more")
    _check_validation(validation)
    _check_classes(labels, folds, f"a stratified split of {folds} folds", classes)
    _check_groups(groups, folds, f"a split of {folds} folds")
    result: list[Fold] = []
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        part = _deal_samples(labels, folds, rng) if groups is None else _deal_groups(labels, groups, [1] * folds, rng)
        result += [_fold(repeat * folds + k, labels, part == k, validation, groups, rng) for k in range(folds)]
    return result


def _fold(number: int, labels: Ints, test: NDArray[np.bool_], validation: float, groups: Groups | None, rng: Generator) -> Fold:
    rest = np.flatnonzero(~test)
    check = np.zeros(len(rest), bool)
    if validation:
        rest_groups = None if groups is None else groups[rest]
        _check_groups(rest_groups, 2, "splitting the samples outside the test part into training and validation")
        check = _part(labels[rest], validation, rest_groups, rng)
    return Fold(number, rest[~check], rest[check], np.flatnonzero(test))


def _part(labels: Ints, share: float, groups: Groups | None, rng: Generator) -> NDArray[np.bool_]:
    """A stratified part of the samples. result: (sample,) true where in it."""
    if groups is not None:
        in_part: NDArray[np.bool_] = _deal_groups(labels, groups, [1 - share, share], rng) == 1
        return in_part
    order, sizes = _by_class(labels, rng), np.bincount(labels)
    takes = _whole_counts(sizes, share)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # 0, 1, ... within each class
    part = np.zeros(len(labels), bool)
    part[order] = place < np.repeat(takes, sizes)
    return part


def _whole_counts(sizes: Ints, share: float) -> Ints:
    """Samples to take per class, by largest remainder; of two or more, at least one is taken and one left."""
    quotas = sizes * share
    takes = np.floor(quotas).astype(np.int64)
    missing = round(sizes.sum() * share) - takes.sum()
    takes[np.argsort(takes - quotas, kind="stable")[:missing]] += 1
    counts: Ints = np.clip(takes, np.minimum(1, sizes - 1), sizes - 1).clip(0)
    return counts


def _deal_samples(labels: Ints, parts: int, rng: Generator) -> Ints:
    """Deal samples in turn, class by class; classes and totals differ by at most one. result: (sample,) part numbers."""
    part = np.empty(len(labels), np.int64)
    part[_by_class(labels, rng)] = np.arange(len(labels)) % parts
    return part


def _by_class(labels: Ints, rng: Generator) -> Ints:
    """The samples' order by class, shuffled within each."""
    return np.lexsort((rng.random(len(labels)), labels))


def _deal_groups(labels: Ints, groups: Groups, shares: Sequence[float], rng: Generator) -> Ints:
    """Deal whole groups to parts of the given relative sizes, none of them empty. result: (sample,) part numbers.

    Each group goes where the sum over parts and classes of (part's share of the class - its due share)^2 / due share
    grows least.
    """
    names, group = np.unique(groups, return_inverse=True)
    held = np.zeros((len(names), labels.max() + 1))
    np.add.at(held, (group, labels), 1)
    held /= np.maximum(held.sum(axis=0), 1)  # (group, class): shares of the class, so that rare classes weigh as much
    # Heaviest first, as in packing; shuffled among those within a factor of two, so that each seed splits differently.
    order = np.lexsort((rng.random(len(names)), -np.floor(np.log2(held.sum(axis=1)))))
    due, full = np.asarray(shares, float), np.zeros((len(shares), held.shape[1]))
    part, empty = np.empty(len(names), np.int64), np.ones(len(shares), bool)
    for left, g in zip(range(len(names), 0, -1), order, strict=True):
        cost = (2 * full + held[g]) @ held[g] / due
        if left <= empty.sum():
            cost[~empty] = np.inf
        part[g] = np.argmin(cost)
        full[part[g]] += held[g]
        empty[part[g]] = False
    return part[group.reshape(-1)]


def _check_validation(validation: float) -> None:
    if not 0 <= validation < 1:
        raise UserError(f"split.validation: {validation} is out of range; it must be at least 0 and below 1")


def _check_classes(labels: Ints, least: int, what: str, classes: Sequence[str]) -> None:
    if len(labels) == 0:
        raise UserError(f"there are no samples to split; {what} needs at least {least} of each class")
    for number, size in enumerate(np.bincount(labels)):
        if 0 < size < least:
            name = classes[number] if classes else number
            raise UserError(f"class '{name}' has {size} sample{'s' if size > 1 else ''}; {what} needs at least {least}")


def _check_groups(groups: Groups | None, least: int, what: str) -> None:
    count = least if groups is None else len(np.unique(groups))
    if count < least:
        raise UserError(f"{count} group{'s' if count != 1 else ''} of samples; {what} needs at least {least}")


SPLITS = {"holdout": holdout, "kfold": kfold}
