"""Stratified training, validation and test splits as index arrays, which keep groups together.

Samples are assigned class by class, so that every part has the class proportions of the whole. With groups (patients,
stars, backgrounds), whole groups are assigned, largest first, each to the part that then stays closest to its target share
of every class. scikit-learn's StratifiedGroupKFold is similar; this version also supports parts of unequal size, leaves none
empty, and depends on the seed even if all groups differ in size.

Samples with several labels, 0 or 1 each, are dealt label by label, the rarest first: iterative stratification (Sechidis and
others 2011). Their groups are dealt as those of classes, by the shares of every label. A split can also be read from a column
that names the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from wavefold.core.errors import UserError, listed, nearest, plural
from wavefold.data.dataset import Ints, Strings, class_names, class_word

Labels = NDArray[np.int64]  # (sample,) int64 class numbers, or (sample, label) 0 and 1
Groups = NDArray[np.generic]  # (sample,) any values that can be compared

_TENTHS = 10


@dataclass(frozen=True)
class Fold:
    """One split: three sorted, disjoint index arrays that together cover all samples."""

    number: int
    train: Ints
    validation: Ints
    test: Ints


def holdout(
    labels: Labels,
    *,
    fraction: float = 0.25,
    validation: float = 0.1,
    groups: Groups | None = None,
    seed: int = 0,
    classes: Sequence[str] = (),
) -> list[Fold]:
    """One fold: a stratified test part of `fraction` of the samples and a validation part of `validation` of the rest.

    labels: (sample,) class numbers, or (sample, label) 0 and 1; groups: (sample,) groups to keep in one part; classes: names
    for errors. A class with two samples or more is in both test and training; with groups, as nearly as whole groups allow.
    Of several labels a sample, each is divided as nearly as the others allow.
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
    labels: Labels,
    *,
    folds: int = 5,
    repeats: int = 1,
    validation: float = 0.1,
    groups: Groups | None = None,
    seed: int = 0,
    classes: Sequence[str] = (),
) -> list[Fold]:
    """`folds` x `repeats` folds: each repeat shuffles anew and puts every sample in exactly one test part.

    labels: (sample,) class numbers, or (sample, label) 0 and 1; groups: (sample,) groups to keep in one part; classes: names
    for errors. validation: fraction of the samples outside the test part. A class in fewer groups than folds, or a label of
    fewer samples, is missing from some test parts.
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
        part = _deal(labels, folds, groups, rng)
        result += [_fold(repeat * folds + k, labels, part == k, validation, groups, rng) for k in range(folds)]
    return result


def column(
    labels: Labels,
    *,
    column: str,
    test: str | int | Sequence[str | int],
    validation: str | int | Sequence[str | int] = (),
    columns: Mapping[str, Strings],
    groups: Groups | None = None,
) -> list[Fold]:
    """One fold whose parts a column of the data names; samples with any other value, or none, are for training.

    column: in `columns` (name to (sample,)), such as the strat_fold of PTB-XL, with test = ["10"] and validation = ["9"].
    labels: (sample, ...), only counted. groups: (sample,) groups to keep in one part. UserError if the column or a value does
    not occur, a part is empty, or a group is in more than one part.
    """
    if column not in columns:
        there = listed(columns) or "none"
        raise UserError(f"split.column: no column '{column}'; available columns: {there}{nearest(column, columns)}")
    distinct, place = np.unique(columns[column], return_inverse=True)
    words = np.array([class_word(word) for word in distinct.tolist()])[place]
    named = {"test": _words(test), "validation": _words(validation)}
    _check_named(named, words, column)
    part = np.select([np.isin(words, named["test"]), np.isin(words, named["validation"])], [2, 1], 0)
    if not (part == 0).any():
        raise UserError(f"split: test and validation name every value of column '{column}'; leave one or more for training")
    _check_straddling(groups, part, column)
    train, checked, tested = (np.flatnonzero(part == p) for p in range(3))
    return [Fold(0, train, checked, tested)]


def tenths(numbers: NDArray[np.number]) -> Ints:
    """The tenths that numbers fall in, as classes that a split balances, (sample,); one class for few samples.

    numbers: (sample,), NaN where unknown; ten or more unknown ones are a class of their own.
    """
    gaps = np.isnan(numbers)
    if len(numbers) < 4 * _TENTHS or gaps.all():
        return np.zeros(len(numbers), np.int64)
    edges = np.nanquantile(numbers, np.linspace(0, 1, _TENTHS + 1)[1:-1])
    bins: Ints = np.searchsorted(edges, numbers, side="right").astype(np.int64)
    return np.where(gaps, _TENTHS if gaps.sum() >= _TENTHS else 0, bins)


def _words(given: str | int | Sequence[str | int]) -> list[str]:
    """The values that an option names: one, or several."""
    return [class_word(str(word)) for word in ([given] if isinstance(given, str | int) else given)]


def _check_named(named: Mapping[str, Sequence[str]], words: Strings, column: str) -> None:
    """Raise UserError unless values that name a part occur, each in one part, and some name the test part."""
    there = class_names(words.tolist())
    if not named["test"]:
        raise UserError(f"split.test: names no value of column '{column}'; expected one or more of {listed(there)}")
    for name, values in named.items():
        for value in values:
            if value not in there:
                near = nearest(value, there)
                raise UserError(
                    f"split.{name}: '{value}' does not occur in column '{column}'; its values: {listed(there)}{near}"
                )
    if both := set(named["test"]) & set(named["validation"]):
        raise UserError(f"split.validation: '{min(both)}' also names the test part; each value belongs to one part")


def _check_straddling(groups: Groups | None, part: Ints, column: str) -> None:
    if groups is None:
        return
    names, group = np.unique(groups, return_inverse=True)
    held = np.zeros((len(names), 3), bool)
    held[group.reshape(-1), part] = True
    straddling = np.flatnonzero(held.sum(axis=1) > 1)
    if len(straddling):
        raise UserError(
            f"split.column: '{column}' puts samples of {plural(len(straddling), 'group')} into more than one part, first of "
            f"'{names[straddling[0]]}'; groups must stay whole: split by another column or set split.group to ''"
        )


def _fold(
    number: int, labels: Labels, test: NDArray[np.bool_], validation: float, groups: Groups | None, rng: Generator
) -> Fold:
    rest = np.flatnonzero(~test)
    check = np.zeros(len(rest), bool)
    if validation:
        rest_groups = None if groups is None else groups[rest]
        why = "splitting the samples outside the test part into training and validation"
        _check_groups(rest_groups, 2, why)
        _check_samples(labels[rest], 2, why)
        check = _part(labels[rest], validation, rest_groups, rng)
    return Fold(number, rest[~check], rest[check], np.flatnonzero(test))


def _deal(labels: Labels, parts: int, groups: Groups | None, rng: Generator) -> Ints:
    """Stratified parts of equal size. result: (sample,) part numbers."""
    if groups is not None:
        return _deal_groups(labels, groups, [1] * parts, rng)
    return _deal_labels(labels, [1] * parts, rng) if labels.ndim == 2 else _deal_samples(labels, parts, rng)


def _part(labels: Labels, share: float, groups: Groups | None, rng: Generator) -> NDArray[np.bool_]:
    """A stratified part of the samples. result: (sample,) true where in it."""
    if groups is not None or labels.ndim == 2:
        shares = [1 - share, share]
        dealt = _deal_labels(labels, shares, rng) if groups is None else _deal_groups(labels, groups, shares, rng)
        in_part: NDArray[np.bool_] = dealt == 1
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


def _deal_groups(labels: Labels, groups: Groups, shares: Sequence[float], rng: Generator) -> Ints:
    """Deal whole groups to parts of the given relative sizes, none of them empty. result: (sample,) part numbers.

    Each group goes where the sum over parts and classes of (part's share of the class - its due share)^2 / due share
    grows least.
    """
    names, group = np.unique(groups, return_inverse=True)
    held = _held(labels, group.reshape(-1), len(names))
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


def _held(labels: Labels, group: Ints, count: int) -> NDArray[np.float64]:
    """Samples of each class in each of `count` groups, (group, class); or positives of each label, and last samples."""
    if labels.ndim == 1:
        held = np.zeros((count, labels.max() + 1))
        np.add.at(held, (group, labels), 1)
        return held
    held = np.zeros((count, labels.shape[1] + 1))
    np.add.at(held, group, np.column_stack([labels > 0, np.ones(len(labels))]))
    return held


def _deal_labels(labels: Labels, shares: Sequence[float], rng: Generator) -> Ints:
    """Deal samples with several labels to parts of the given relative sizes, none of them empty.

    labels: (sample, label). Those of the label with the fewest positives left each go to the part that lacks most of it, or
    of equals most samples; samples without labels are dealt last. result: (sample,) part numbers.
    """
    held = _held(labels, np.arange(len(labels)), len(labels))
    dealer = _Dealer(held, np.asarray(shares, float) / np.sum(shares), rng)
    left = held[:, :-1].sum(axis=0)
    while left.any():
        rarest = int(np.where(left > 0, left, np.inf).argmin())
        left -= dealer.deal(np.flatnonzero((held[:, rarest] > 0) & (dealer.part < 0)), rarest)
    dealer.deal(np.flatnonzero(dealer.part < 0), labels.shape[1])
    return dealer.part


class _Dealer:
    """What each part of a split still lacks. held: (sample, label), the last column 1; shares: (part,) that add to 1."""

    def __init__(self, held: NDArray[np.float64], shares: NDArray[np.float64], rng: Generator) -> None:
        self.held, self.rng = held, rng
        self.part: Ints = np.full(len(held), -1)
        self.lacks = shares[:, None] * held.sum(axis=0)  # (part, label)
        self.left, self.empty = len(held), np.ones(len(shares), bool)

    def deal(self, samples: Ints, label: int) -> NDArray[np.float64]:
        """Deal samples in random order by what parts lack of a label. result: (label,) the positives dealt."""
        luck = self.rng.random((len(samples), len(self.empty)))
        for sample, lots in zip(self.rng.permutation(samples).tolist(), luck, strict=True):
            # the part that lacks most of the label; of equals that which lacks most samples, then one at random
            must = self.empty & (self.left <= self.empty.sum())  # all that are left fill empty parts
            self.part[sample] = to = np.lexsort((lots, self.lacks[:, -1], self.lacks[:, label], must))[-1]
            self.lacks[to] -= self.held[sample]
            self.empty[to] = False
            self.left -= 1
        dealt: NDArray[np.float64] = self.held[samples, :-1].sum(axis=0)
        return dealt


def _check_validation(validation: float) -> None:
    if not 0 <= validation < 1:
        raise UserError(f"split.validation: {validation} is out of range; it must be at least 0 and below 1")


def _check_classes(labels: Labels, least: int, what: str, classes: Sequence[str]) -> None:
    if len(labels) == 0:
        raise UserError(f"there are no samples to split; {what} needs at least {least} of each class")
    _check_samples(labels, least, what)
    for number, size in enumerate(np.bincount(labels) if labels.ndim == 1 else []):
        if 0 < size < least:
            name = classes[number] if classes else number
            raise UserError(f"class '{name}' has {size} sample{'s' if size > 1 else ''}; {what} needs at least {least}")


def _check_samples(labels: Labels, least: int, what: str) -> None:
    if labels.ndim == 2 and len(labels) < least:
        raise UserError(f"{plural(len(labels), 'sample')} with labels; {what} needs at least {least}")


def _check_groups(groups: Groups | None, least: int, what: str) -> None:
    count = least if groups is None else len(np.unique(groups))
    if count < least:
        raise UserError(f"{count} group{'s' if count != 1 else ''} of samples; {what} needs at least {least}")


# Each takes those of labels, groups, seed, classes and columns that its signature has, and options.
SPLITS: dict[str, Callable[..., list[Fold]]] = {"holdout": holdout, "kfold": kfold, "column": column}
