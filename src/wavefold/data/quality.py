"""Finds data defects before training: duplicates, near-duplicates, conflicting labels and leaks between groups.

Near-duplicates are found by correlating all values. Long samples are first reduced to 509 numbers: each value gets a random
sign and is added to one of 509 sums (count sketch; Charikar, Chen and Farach-Colton 2002), which preserves angles between
samples. Block means would not: they remove noise and make all smooth samples look alike. For one correlation in fifty the
error exceeds a fifth of its distance from 1: .999 may be estimated as .9988.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError
from wavefold.data.dataset import Floats, Ints, Signals, Strings, shape_words
from wavefold.data.fingerprints import fingerprints
from wavefold.data.lazy import blocks_of, part_of, row_blocks, values_of

Bools = NDArray[np.bool_]
Words = NDArray[np.uint64]

_SUMS = 509  # a prime, so that lines in a cadence panel do not fall into one sum
_FULL = 512  # values per sample up to which samples are not reduced
_ROWS, _COLUMNS = 1024, 4096  # per block of correlations: 16 MB
_NO_WORD = np.uint64(0)  # the fingerprint of constant samples


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of nearly equal samples, most similar first."""

    pairs: Ints  # (pair, 2) sample numbers, the lower first
    likeness: Floats  # (pair,) correlation
    count: int  # pairs found; may exceed len(pairs), as only the most similar are kept
    looked_at: int  # samples that were compared with each other


@dataclass(frozen=True)
class Nearest:
    """For each other sample the most similar training sample, most similar first; constant samples are left out."""

    samples: Ints  # (sample,) numbers of the other samples
    nearest: Ints  # (sample,) numbers of the training samples
    likeness: Floats  # (sample,) correlation
    equal: Bools  # (sample,) whether a training sample has equal values
    count: int  # how many correlate by `least` or more
    looked_at: tuple[int, int]  # training and other samples that were compared


def duplicates(signals: Signals) -> list[Ints]:
    """Groups of two or more samples with equal values, each in source order; constant samples are left out.

    signals: (sample, channel, ...). NaN equals NaN; 0 and -0 differ.
    """
    words = fingerprints(signals)
    order = np.argsort(words, kind="stable")
    _, starts, sizes = np.unique(words[order], return_index=True, return_counts=True)
    shared = (sizes > 1) & (words[order][starts] != _NO_WORD)
    groups = [order[start : start + size] for start, size in zip(starts[shared], sizes[shared], strict=True)]
    if not groups:
        return []
    members, firsts = np.concatenate(groups), np.repeat([group[0] for group in groups], sizes[shared])
    same = np.concatenate([_same(signals[members[rows]], signals[firsts[rows]]) for rows in _rows(signals, len(members))])
    checked = [group[part] for group, part in zip(groups, np.split(same, np.cumsum(sizes[shared])[:-1]), strict=True)]
    return sorted((group for group in checked if len(group) > 1), key=lambda group: int(group[0]))


def near_duplicates(
    signals: Signals, *, least: float = 0.999, most_samples: int = 20_000, most_pairs: int = 10_000, seed: int = 0
) -> NearDuplicates:
    """Pairs of samples whose values correlate by `least` or more, regardless of offset and scale.

    signals: (sample, channel, ...). At most `most_samples`, drawn with the seed, are compared, and the `most_pairs` most
    similar are kept. Constant samples are left out; of exact duplicates (see `duplicates`) only the first is compared.
    """
    drawn = _drawn(len(signals), most_samples, seed)
    directions, words = _directions(part_of(signals, drawn), seed)
    taken = np.sort(np.unique(words, return_index=True)[1])
    taken = taken[words[taken] != _NO_WORD]
    pairs, likeness, count = _alike(directions[taken], least, most_pairs)
    return NearDuplicates(drawn[taken][pairs], likeness, count, len(drawn))


def near_to(learned: Signals, other: Signals, least: float = 0.999, *, most_samples: int = 20_000, seed: int = 0) -> Nearest:
    """For each sample of `other` the most similar one in `learned`, to find leaks between parts.

    learned, other: (sample, channel, ...) of equal sample shape. At most `most_samples` of each, drawn with the seed, are
    compared. Constant samples are left out; exact duplicates are included and flagged. DataError if the shapes differ.
    """
    _check_shapes(learned, other)
    chosen, requested = _drawn(len(learned), most_samples, seed), _drawn(len(other), most_samples, seed)
    (known, known_words), (new, new_words) = (
        _directions(part_of(part, index), seed) for part, index in ((learned, chosen), (other, requested))
    )
    rows, columns = np.flatnonzero(new_words != _NO_WORD), np.flatnonzero(known_words != _NO_WORD)
    if not len(columns):
        rows = rows[:0]
    place, likeness = _most_alike(new[rows], known[columns])
    order = np.argsort(-likeness, kind="stable")
    return Nearest(
        samples=requested[rows][order],
        nearest=chosen[columns][place][order],
        likeness=likeness[order],
        equal=np.isin(new_words[rows], known_words)[order],
        count=int((likeness >= least).sum()),
        looked_at=(len(chosen), len(requested)),
    )


def label_conflicts(equals: Sequence[Ints] | Ints, labels: Ints) -> list[Ints]:
    """The groups or pairs of similar samples that have two or more different labels. labels: (sample,)."""
    return _chosen(equals, differing(equals, labels))


def leaks(equals: Sequence[Ints] | Ints, groups: Strings) -> list[Ints]:
    """The groups or pairs of similar samples that span two or more groups (patients, stars). groups: (sample,)."""
    return _chosen(equals, differing(equals, groups))


def differing(equals: Sequence[Ints] | Ints, marks: Ints | Strings) -> Bools:
    """Whether each group, or pair (pair, 2), of samples has two or more different marks. marks: (sample,); result: (group,)."""
    if not len(equals):
        return np.zeros(0, np.bool_)
    sizes = np.fromiter(map(len, equals), np.int64, len(equals))
    starts = np.cumsum(sizes) - sizes
    borne = marks[np.concatenate(list(equals))]
    return np.logical_or.reduceat(borne != np.repeat(borne[starts], sizes), starts)


def _chosen(equals: Sequence[Ints] | Ints, which: Bools) -> list[Ints]:
    return [equals[int(number)] for number in np.flatnonzero(which)]


def _rows(signals: Signals, count: int) -> Iterator[slice]:
    return row_blocks(count, values=values_of(signals))


def _same(left: Floats, right: Floats) -> Bools:
    """Whether samples are bitwise equal. left, right: (sample, ...)."""
    one, two = (np.ascontiguousarray(part, np.float32).view(np.uint32).reshape(len(part), -1) for part in (left, right))
    same: Bools = (one == two).all(axis=1)
    return same


def _drawn(count: int, most: int, seed: int) -> Ints:
    """Numbers of at most `most` of `count` samples, ascending."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _directions(signals: Signals, seed: int) -> tuple[Floats, Words]:
    """Each sample's values, centred, reduced and scaled to unit length, (sample, number), and its fingerprint (sample,).

    The dot product of two of them is their correlation. Non-finite values are replaced by the mean.
    """
    values = values_of(signals)
    signs = np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), values)
    directions = np.zeros((len(signals), values if values <= _FULL else _SUMS), np.float32)
    words = np.empty(len(signals), np.uint64)
    for rows, block in blocks_of(signals):
        words[rows] = fingerprints(block)
        centred = _centred(block)
        directions[rows] = _unit(centred if values <= _FULL else _sums(_unit(centred) * signs))
    words[~directions.any(axis=1)] = _NO_WORD  # constant apart from non-finite values
    return directions, words


def _centred(signals: Floats) -> Floats:
    """Each sample minus its mean, 0 at non-finite values, and all 0 if it is constant: (sample, value)."""
    flat = np.asarray(signals, np.float32).reshape(len(signals), -1)
    missing = ~np.isfinite(flat)
    if missing.any():
        level = np.where(missing, 0, flat).sum(axis=1, dtype=np.float64) / np.maximum((~missing).sum(axis=1), 1)
        flat = np.where(missing, level[:, None].astype(np.float32), flat)
    centred: Floats = flat - flat.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    centred[flat.max(axis=1) == flat.min(axis=1)] = 0
    return centred


def _unit(rows: Floats) -> Floats:
    """Rows scaled to unit length; zero rows stay zero. rows: (sample, value)."""
    rows = rows / _or_one(np.abs(rows).max(axis=1, keepdims=True))  # otherwise squares of small values would underflow
    return rows / _or_one(np.linalg.norm(rows, axis=1, keepdims=True))


def _or_one(sizes: Floats) -> Floats:
    return np.where(sizes > 0, sizes, 1).astype(np.float32)


def _sums(rows: Floats) -> Floats:
    """Sums of the values whose positions are equal modulo the number of sums. rows: (sample, value); result: (sample, sum)."""
    short = -rows.shape[1] % _SUMS
    sums: Floats = np.pad(rows, ((0, 0), (0, short))).reshape(len(rows), -1, _SUMS).sum(axis=1)
    return sums


def _alike(directions: Floats, least: float, most: int) -> tuple[Ints, Floats, int]:
    """The `most` most similar pairs (pair, 2), their correlations (pair,) and the total count. directions: (sample, number)."""
    pairs, likeness, count, bar = np.empty((0, 2), np.int64), np.empty(0, np.float32), 0, np.float32(least)
    for first, second, block in _triangle(directions):
        count += int((block >= np.float32(least)).sum())
        left, right = np.nonzero(block >= bar)
        if not len(left):
            continue
        pairs = np.concatenate([pairs, np.stack([left + first, right + second], axis=1)])
        likeness = np.concatenate([likeness, block[left, right]])
        if len(likeness) > most:
            best = np.argsort(-likeness, kind="stable")[:most]
            pairs, likeness, bar = pairs[best], likeness[best], max(bar, likeness[best[-1]])
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -likeness))
    return pairs[order], np.minimum(likeness[order], 1), count


def _triangle(directions: Floats) -> Iterator[tuple[int, int, Floats]]:
    """Blocks of correlations of samples with later ones: first row, first column, values; all others are -2."""
    for rows in row_blocks(len(directions), _ROWS):
        for columns in row_blocks(len(directions), _COLUMNS):
            if columns.stop <= rows.start:
                continue
            block = directions[rows] @ directions[columns].T
            if columns.start <= rows.stop:
                later = np.arange(columns.start, columns.stop) > np.arange(rows.start, rows.stop)[:, None]
                block[~later] = -2
            yield rows.start, columns.start, block


def _most_alike(requested: Floats, known: Floats) -> tuple[Ints, Floats]:
    """For each row of `requested`, the index and correlation of the most similar row of `known`. Both: (sample, number)."""
    place, likeness = np.zeros(len(requested), np.int64), np.full(len(requested), -2, np.float32)
    for rows in row_blocks(len(requested), _ROWS):
        for columns in row_blocks(len(known), _COLUMNS):
            block = requested[rows] @ known[columns].T
            best = block.argmax(axis=1)
            value = block[np.arange(len(block)), best]
            better = value > likeness[rows]
            place[rows] = np.where(better, best + columns.start, place[rows])
            likeness[rows] = np.where(better, value, likeness[rows])
    return place, np.minimum(likeness, 1)


def _check_shapes(learned: Signals, other: Signals) -> None:
    if learned.shape[1:] != other.shape[1:]:
        words = [shape_words(signals.shape[1:]) for signals in (learned, other)]
        raise DataError(f"near-duplicates: the other samples have {words[1]}; expected {words[0]}, like the training samples")
