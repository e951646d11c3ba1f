"""Equal and nearly equal samples: planted ones are found, chance ones are not, and what they mean is told."""

import numpy as np
import pytest

from wavefold.core.errors import DataError
from wavefold.data import read
from wavefold.data.lazy import Lazy
from wavefold.data.quality import differing, duplicates, label_conflicts, leaks, near_duplicates, near_to


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def lazily(signals):
    return Lazy(lambda rows: signals[rows], np.arange(len(signals)), signals.shape[1:])


def like(signals, correlation, seed=1):
    """Samples that correlate so with those given, within a little, at another level and size."""
    other = noise(*signals.shape, seed=seed)
    return (3 * (correlation * signals + np.sqrt(1 - correlation**2) * other) + 50).astype(np.float32)


@pytest.mark.parametrize("form", [np.asarray, lazily])
def test_equal_samples_are_grouped_in_order(form):
    signals = noise(30, 2, 9)
    signals[[17, 4]] = signals[21]
    signals[8] = signals[29]
    signals[[1, 2, 3]] = 0  # flat samples say nothing
    assert [group.tolist() for group in duplicates(form(signals))] == [[4, 17, 21], [8, 29]]


def test_equal_values_are_equal_to_the_bit_and_holes_too():
    signals = noise(6, 1, 5)
    signals[:, 0, 2] = np.nan
    signals[3] = signals[0]
    signals[4] = signals[0] * np.float32(1 + 1e-6)
    assert [group.tolist() for group in duplicates(signals)] == [[0, 3]]


def test_a_shared_fingerprint_is_no_duplicate(monkeypatch):
    signals = noise(4, 1, 5)
    signals[3] = signals[1]
    monkeypatch.setattr("wavefold.data.quality.fingerprints", lambda samples: np.full(len(samples), 7, np.uint64))
    assert duplicates(signals[:3]) == []
    assert [group.tolist() for group in duplicates(signals[1:])] == [[0, 2]]


def test_no_samples_are_no_error():
    empty = np.empty((0, 1, 5), np.float32)
    assert duplicates(empty) == []
    assert near_duplicates(empty).count == 0
    assert near_to(noise(4, 1, 5), empty).count == near_to(empty, noise(4, 1, 5)).count == 0
    assert label_conflicts([], np.arange(3)) == []


@pytest.mark.parametrize("shape", [(2, 200), (1, 3000), (6, 20, 31)])  # whole, shrunk, shrunk panels
@pytest.mark.parametrize("form", [np.asarray, lazily])
def test_nearly_equal_samples_are_found(shape, form):
    signals = noise(60, *shape)
    signals[50:55] = like(signals[10:15], 0.9999)
    signals[55:58] = like(signals[20:23], 0.9)
    found = near_duplicates(form(signals))
    assert sorted(map(tuple, found.pairs.tolist())) == [(10 + i, 50 + i) for i in range(5)]
    assert found.likeness == pytest.approx(np.full(5, 0.9999), abs=1e-4)
    assert (np.diff(found.likeness) <= 0).all()
    assert (found.count, found.looked_at) == (5, 60)


def test_likeness_is_the_correlation():
    signals = noise(5, 1, 100)
    signals[3] = like(signals[1:2], 0.95)
    found = near_duplicates(signals, least=0.9)
    assert found.pairs.tolist() == [[1, 3]]
    assert found.likeness[0] == pytest.approx(np.corrcoef(signals[1, 0], signals[3, 0])[0, 1], abs=1e-6)


def test_shrinking_keeps_what_samples_differ_in():
    """Smooth samples under their own noise correlate by .5; block means would call them alike."""
    rising = np.linspace(-2, 2, 5000, dtype=np.float32)
    signals = (rising + noise(40, 1, 5000) * rising.std()).astype(np.float32)
    assert near_duplicates(signals, least=0.7).count == 0
    assert near_duplicates(signals, least=0.3).count == 40 * 39 / 2


def test_equal_and_flat_samples_are_not_repeated():
    signals = noise(10, 1, 40)
    signals[6] = signals[2]
    signals[7] = like(signals[2:3], 0.99999)
    signals[8], signals[9] = 5, 0.1
    signals[9, 0, 3] = np.nan  # flat but for a hole
    found = near_duplicates(signals)
    assert found.pairs.tolist() == [[2, 7]]


def test_holes_and_infinities_count_as_the_mean():
    signals = noise(8, 1, 400)
    signals[5] = like(signals[1:2], 0.99999)
    signals[1, 0, 7], signals[5, 0, 300] = np.nan, np.inf
    assert near_duplicates(signals, least=0.98).pairs.tolist() == [[1, 5]]


def test_pairs_past_the_cap_are_counted_and_the_most_alike_kept(monkeypatch):
    monkeypatch.setattr("wavefold.data.quality._ROWS", 16)
    monkeypatch.setattr("wavefold.data.quality._COLUMNS", 16)
    base = noise(1, 1, 300)
    signals = np.concatenate([like(base, 0.9999, seed=seed) for seed in range(50)])
    every, few = (near_duplicates(signals, most_pairs=most) for most in (5000, 20))
    assert every.count == few.count == len(every.pairs) == 50 * 49 / 2
    assert (few.likeness == every.likeness[:20]).all()
    assert (few.pairs == every.pairs[:20]).all()
    assert (every.pairs[:, 0] < every.pairs[:, 1]).all()
    assert len(np.unique(every.pairs, axis=0)) == every.count


def test_many_samples_are_drawn_by_the_seed():
    signals = noise(100, 1, 20)
    signals[50:] = like(signals[:50], 0.99999)
    one, same, other = (near_duplicates(signals, most_samples=40, seed=seed) for seed in (0, 0, 1))
    assert one.looked_at == 40
    assert one.pairs.tolist() == same.pairs.tolist() != other.pairs.tolist()
    assert (one.pairs[:, 1] - one.pairs[:, 0] == 50).all()  # numbers are of all samples


def test_small_and_large_values_correlate_as_others():
    signals = noise(6, 1, 50)
    signals[4] = signals[1] * np.float32(1e-30)
    signals[5] = signals[2] * np.float32(1e30)
    assert sorted(near_duplicates(signals).pairs.tolist()) == [[1, 4], [2, 5]]


@pytest.mark.parametrize("length", [90, 1200])
def test_the_nearest_learned_sample_is_found(length):
    learned, other = noise(40, 1, length), noise(10, 1, length, seed=5)
    other[3] = like(learned[7:8], 0.9999)
    other[6] = learned[30]
    other[8] = 1  # flat
    found = near_to(learned, lazily(other))
    assert found.samples[:2].tolist() == [6, 3]
    assert found.nearest[:2].tolist() == [30, 7]
    assert found.likeness[:2] == pytest.approx([1, 0.9999], abs=1e-4)
    assert found.equal.tolist() == [True] + [False] * 8
    assert (found.count, found.looked_at, sorted(found.samples)) == (2, (40, 10), [0, 1, 2, 3, 4, 5, 6, 7, 9])


def test_shapes_must_be_one():
    with pytest.raises(DataError, match=r"other samples have 1 channel of 6 values; expected 1 channel of 5 values"):
        near_to(noise(3, 1, 5), noise(3, 1, 6))


def test_conflicts_and_leaks_are_those_of_two_marks():
    groups = [np.array([0, 3, 4]), np.array([1, 2]), np.array([5, 6])]
    labels, patients = np.array([0, 1, 1, 0, 1, 2, 0]), np.array(["a", "b", "c", "a", "a", "d", "d"])
    assert differing(groups, labels).tolist() == [True, False, True]
    assert [group.tolist() for group in label_conflicts(groups, labels)] == [[0, 3, 4], [5, 6]]
    assert [group.tolist() for group in leaks(groups, patients)] == [[1, 2]]
    pairs = np.array([[0, 3], [1, 2], [4, 5]])
    assert [pair.tolist() for pair in leaks(pairs, patients)] == [[1, 2], [4, 5]]
    assert differing(pairs[:0], labels).tolist() == []


def test_real_beats_are_near_within_a_patient_only(real):
    beats = read(real("mitbih_beats"))
    found = near_duplicates(beats.signals[:6000])
    assert duplicates(beats.signals) == []
    assert found.count > 0
    assert leaks(found.pairs, beats.groups) == []
