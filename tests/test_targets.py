"""Numbers and labels from text columns: gaps, several spellings of lists, and one line for what they cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from wavefold.core.errors import DataError
from wavefold.data.dataset import Dataset
from wavefold.data.targets import check_occurring, with_flags, with_labels, with_numbers


def table(**columns: list[str]) -> Dataset:
    """Samples with text columns."""
    count = len(next(iter(columns.values())))
    ids = np.array([f"s{i}" for i in range(count)], np.str_)
    words = {name: np.array(column, np.str_) for name, column in columns.items()}
    return Dataset(np.zeros((count, 1, 4), np.float32), ids, source="stars.csv", columns=words)


def test_numbers_with_gaps_in_the_order_asked_for() -> None:
    made = with_numbers(table(teff=["5777", " 6000.5 ", "", "NaN"], logg=["4.4", "-9.999e3", "-999.00", "2"]), ["logg", "teff"])
    assert made.target_names == ("logg", "teff")
    assert made.targets is not None
    np.testing.assert_array_equal(made.targets, np.array([[4.4, 5777], [np.nan, 6000.5], [np.nan] * 2, [2, np.nan]], "f4"))
    some = made.take(np.array([1, 0])).targets
    assert some is not None
    np.testing.assert_array_equal(some[:, 1], np.array([6000.5, 5777], "f4"))


def test_a_text_target_is_one_line() -> None:
    with pytest.raises(DataError, match=r"stars.csv id s1: teff is 'hot', expected a finite number or an empty entry"):
        with_numbers(table(teff=["5777", "hot"]), ["teff"])
    for word in ("inf", "-Infinity", "1e39", "5_000", "0x10"):
        with pytest.raises(DataError, match=f"id s1: teff is '{word}', expected a finite number"):
            with_numbers(table(teff=["5777", word]), ["teff"])
    with pytest.raises(DataError, match=r"stars.csv: no column 'tef'; available columns: teff; did you mean 'teff'\?"):
        with_numbers(table(teff=["5777"]), ["tef"])


def test_lists_of_labels_in_every_spelling() -> None:
    entries = ["{'NORM': 100.0, 'SR': 0.0}", "MI;SR", "MI|HYP", "['HYP']", "", "1.0,2"]
    made = with_labels(table(codes=entries), "codes", ["NORM", "MI", "HYP", "1", "2"])
    assert made.targets is not None
    wanted = [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 0, 0], [0] * 5, [0, 0, 0, 1, 1]]
    np.testing.assert_array_equal(made.targets, np.array(wanted, "f4"))
    every = with_labels(table(codes=["b;a", "c"]), "codes", [])
    assert every.target_names == ("a", "b", "c")


def test_a_label_that_never_occurs() -> None:
    with pytest.raises(DataError, match=r"column 'codes' has no label 'NORMAL'; it has MI, NORM; did you mean 'NORM'\?"):
        with_labels(table(codes=["NORM", "MI"]), "codes", ["NORMAL"])
    made = with_labels(table(codes=["NORM", "MI"]), "codes", ["HYP"], complete=False)
    assert made.targets is not None
    assert not made.targets.any()


def test_flags_must_be_0_or_1_and_have_no_gap() -> None:
    made = with_flags(table(a=["0", "1.0"], b=["1", "0"]), ["a", "b"])
    assert made.targets is not None
    np.testing.assert_array_equal(made.targets, np.array([[0, 1], [1, 0]], "f4"))
    for bad in ("", "2", "nan", "yes"):
        with pytest.raises(DataError, match=rf"stars.csv id s1: b is '{bad}', expected 0 or 1 in every sample"):
            with_flags(table(a=["0", "1"], b=["1", bad]), ["a", "b"])


@pytest.mark.parametrize(("column", "where"), [([0, 0, 0], "no sample"), ([1, 1, 1], "every sample")])
def test_nothing_to_learn_from_a_label_of_none_or_of_all(column: list[int], where: str) -> None:
    truth = np.array([[0, 1, 0], column], np.float32).T
    with pytest.raises(DataError, match=f"label 'b' is in {where}, so there is nothing to learn; leave it out"):
        check_occurring(table(a=["", "", ""]), truth, ["a", "b"])
