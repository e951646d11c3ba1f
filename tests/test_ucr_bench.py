"""The benchmark of classifiers (benchmarks/ucr.py) without running one: sets, folds, ranks, cliques, and what is run again."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import ucr
import ucr_data
import ucr_worker
from ucr_data import SignalSet, as_arrays, digest, in_folds, of_parts, parse_ts
from ucr_summary import chosen_rows, cliques, differences, draw_ranks, draw_seconds, groups_of, holm, ranks, summary

from wavefold.core.errors import DataError, UserError
from wavefold.core.files import write_arrays

TS = """#A comment
@problemName Tiny
@equalLength false
@classLabel true a b
@data
1,2,3:4,5,6:a

7,8:9,10.5:b
"""


def test_ts_of_unequal_lengths():
    samples, labels = parse_ts(TS)
    assert labels == ["a", "b"]
    assert [sample.tolist() for sample in samples] == [[[1, 2, 3], [4, 5, 6]], [[7, 8], [9, 10.5]]]


def test_a_missing_value_is_refused():
    samples, labels = parse_ts(TS.replace("10.5", "?"))
    with pytest.raises(DataError, match="1 values are missing"):
        as_arrays(of_parts([(samples, labels), (samples[:1], labels[:1])]))


def test_a_kept_set_is_read_as_it_was(tmp_path):
    samples, labels = parse_ts(TS)
    path = tmp_path / "tiny.npz"
    write_arrays(path, as_arrays(of_parts([(samples, labels), (samples[1:], ["c"])])))
    found, numbers, tested, classes = ucr_worker.read_fold(str(path), 0, scaled=False)
    assert [sample.tolist() for sample in found] == [sample.tolist() for sample in [*samples, samples[1]]]
    assert (numbers.tolist(), tested.tolist(), classes) == ([0, 1, 2], [False, False, True], 3)
    assert ucr_worker.padded(found)[1].tolist() == [[7, 8, 0], [9, 10.5, 0]]
    scaled = ucr_worker.read_fold(str(path), 0, scaled=True)[0]
    assert scaled[1].tolist() == [[-1, 1], [-1, 1]]


def test_the_digest_is_of_values_and_folds(tmp_path):
    samples, labels = parse_ts(TS)
    sets = [SignalSet(samples, np.array(labels), np.array(fold)) for fold in ([-1, 0], [-1, 0], [0, -1])]
    for number, one in enumerate(sets):
        write_arrays(tmp_path / f"{number}.npz", as_arrays(one))
    sums = [digest(tmp_path / f"{number}.npz") for number in range(3)]
    assert sums[0] == sums[1] != sums[2]


def test_folds_keep_groups_whole_and_take_a_rare_class():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 200)
    labels = np.where(groups % 3 == 0, "a", "b")
    labels[:2] = "rare"
    fold = in_folds([np.zeros((1, 4), np.float32)] * 200, labels, groups).fold
    assert all(len(set(fold[groups == group])) == 1 for group in set(groups.tolist()))
    assert np.bincount(fold, minlength=5).min() > 20
    again = in_folds([np.zeros((1, 4), np.float32)] * 200, labels, groups).fold
    assert fold.tolist() == again.tolist()


def test_ranks_share_ties():
    scores = np.array([[0.9, 0.8, 0.9, 0.7], [0.1 + 0.2, 0.3, 0.2, 0.3]])  # .1 + .2 is not .3 to the last bit
    assert ranks(scores).tolist() == [[1.5, 3, 1.5, 4], [2, 2, 4, 2]]


def test_holm_on_a_known_example():
    raw = {(0, 1): 0.01, (0, 2): 0.04, (1, 2): 0.03, (0, 3): 0.005}
    assert holm(raw) == pytest.approx({(0, 1): 0.03, (0, 2): 0.06, (1, 2): 0.06, (0, 3): 0.02})


def test_differences_on_a_known_example():
    worse = np.arange(1, 11) / 100  # ten sets, all lost by the second: exact p is 2 / 2^10
    scores = np.stack([np.ones(10), 1 - worse, np.ones(10)], axis=1)
    found = differences(scores)
    assert found[0, 2] == 1
    assert found[0, 1] == found[1, 2] == pytest.approx(3 * 2 / 1024)
    assert groups_of(scores)[0] == [(0, 2)]


def test_cliques_are_the_longest_runs_without_a_difference():
    mean_ranks = np.array([4.0, 1.0, 2.0, 3.0])  # in order: 1, 2, 3, 0
    apart = {(1, 2): 0.4, (2, 3): 0.3, (1, 3): 0.2, (0, 3): 0.5, (0, 2): 0.01, (0, 1): 0.001}
    assert cliques(mean_ranks, apart) == [(1, 2, 3), (3, 0)]
    assert cliques(mean_ranks, {**apart, (1, 3): 0.01}) == [(1, 2), (2, 3), (3, 0)]
    assert cliques(mean_ranks, {**apart, (1, 2): 0.01, (2, 3): 0.01, (0, 3): 0.01}) == []  # 1 and 3 have 2 between them


def test_methods_that_friedman_cannot_tell_apart_are_one_clique():
    scores = np.array([[0.9, 0.8, 0.7], [0.7, 0.9, 0.8], [0.8, 0.7, 0.9]])
    groups, p = groups_of(scores)
    assert p == pytest.approx(1.0)
    assert groups == [(0, 1, 2)]


def test_measures():
    probabilities = np.array([[1.0, 0, 0], [0.5, 0.25, 0.25], [1.0, 0, 0], [0, 1.0, 0]])
    found = ucr.measures(probabilities, np.array([0, 1, 2, 1]))
    assert found["accuracy"] == 0.5
    assert found["macro_f1"] == pytest.approx((0.5 + 2 / 3 + 0) / 3)
    assert found["log_loss"] == pytest.approx((np.log(4) + np.log(1e6)) / 4)  # a class without probability counts as 1e-6


def test_a_class_that_training_lacks_has_probability_0(monkeypatch):
    monkeypatch.setitem(ucr_worker.METHODS, "prior", ("sklearn.dummy:DummyClassifier", (), True))
    X = np.zeros((4, 1, 8))
    found, fit_s, predict_s = ucr_worker.fit_and_predict("prior", 0, X, np.array([0, 2, 2, 2]), X[:1], 4)
    assert found.tolist() == [[0.25, 0, 0.75, 0]]
    assert min(fit_s, predict_s) >= 0


class FakeWorker:
    """Answers every task with the same probabilities, and counts them."""

    asked: list[tuple[object, ...]]

    def __init__(self, python):
        pass

    def ask(self, task):
        FakeWorker.asked.append((Path(task["data"]).stem, task["seed"], task["method"]))
        np.savez(task["out"], probabilities=np.eye(2), labels=np.arange(2))
        return {"fit_s": 2.0, "predict_s": 1.0, "warm_up_s": 0.5, "n_train": 9}

    def close(self):
        pass


@pytest.fixture
def options(tmp_path, monkeypatch):
    FakeWorker.asked = []
    monkeypatch.setattr(ucr, "Worker", FakeWorker)
    monkeypatch.setattr(ucr, "prepare", lambda name, cache, shared: tmp_path / f"{name}.npz")
    monkeypatch.setattr(ucr, "peers_python", lambda folder: folder)
    monkeypatch.setattr(ucr, "our_commit", lambda: "abc1234")
    folders = {"data": tmp_path, "cache": tmp_path, "peers_env": tmp_path, "csv": tmp_path / "ucr.csv"}
    methods = ["SignalClassifier", "MiniRocket"]
    return Namespace(sets=["Coffee", "GunPoint"], methods=methods, seeds=[0, 1], again=False, **folders)


def test_only_what_is_not_there_is_run(options, monkeypatch):
    assert ucr.run(options) == 0
    assert len(FakeWorker.asked) == 8
    assert FakeWorker.asked[:2] == [("Coffee", 0, "SignalClassifier"), ("Coffee", 0, "MiniRocket")]  # in turn
    ucr.run(options)
    assert len(FakeWorker.asked) == 8
    monkeypatch.setattr(ucr, "our_commit", lambda: "def5678")
    ucr.run(options)
    assert len(FakeWorker.asked) == 12  # ours once more
    options.again = True
    ucr.run(options)
    assert len(FakeWorker.asked) == 20


def test_ours_are_the_rows_of_one_commit(options, monkeypatch):
    ucr.run(options)
    monkeypatch.setattr(ucr, "our_commit", lambda: "def5678")
    options.sets = ["Coffee"]
    ucr.run(options)
    rows = ucr.read_rows(options.csv)
    named = {(row["set"], row["method"], row["commit"]) for row in chosen_rows(rows)}
    theirs = {("Coffee", "MiniRocket", ucr.VERSION), ("GunPoint", "MiniRocket", ucr.VERSION)}
    assert named == {("Coffee", "SignalClassifier", "def5678"), *theirs}
    assert len(chosen_rows(rows, "abc1234")) == 8


def test_the_summary_compares_sets_that_all_ran(options, tmp_path):
    ucr.run(options)
    rows = ucr.read_rows(options.csv)
    rows = [row for row in rows if row["set"] != "GunPoint" or row["method"] != "MiniRocket"]
    table = summary(rows, {"Coffee": "food", "GunPoint": ""}, {})
    assert table.methods == ["SignalClassifier", "MiniRocket"]
    assert table.sets == 1
    assert table.ranks.tolist() == [1.5, 1.5]
    assert table.seconds.tolist() == [3.0, 3.0]
    assert "- Coffee: 9 to train, 2 tested; food" in table.lines
    assert "| GunPoint | 1.0000 |  |" in table.lines
    for draw in (draw_ranks, draw_seconds):
        pictures = [tmp_path / "1.svg", tmp_path / "2.svg"]
        for path in pictures:
            draw(path, table)
        assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_no_set_that_all_ran_is_an_error(options):
    ucr.run(options)
    rows = [row for row in ucr.read_rows(options.csv) if (row["set"] == "Coffee") == (row["method"] == "MiniRocket")]
    with pytest.raises(UserError, match="no set has rows of SignalClassifier, MiniRocket"):
        summary(rows, {"Coffee": "", "GunPoint": ""}, {})


def test_a_set_that_is_not_the_expected_one_is_refused(tmp_path, monkeypatch):
    samples, labels = parse_ts(TS)
    tiny = of_parts([(samples, labels), (samples, labels)])
    monkeypatch.setitem(ucr_data.SOURCES, "tiny", ucr_data.Source(lambda folder: tiny, shared=True))
    monkeypatch.setattr(ucr_data, "SUMS", tmp_path / "sums.json")
    (tmp_path / "sums.json").write_text('{"tiny": "0"}')
    with pytest.raises(DataError, match=r"tiny.npz: SHA-256 of its arrays is [0-9a-f]{64}, expected 0"):
        ucr_data.prepare("tiny", tmp_path, tmp_path)
    (tmp_path / "sums.json").write_text(f'{{"tiny": "{digest(tmp_path / "sets" / "tiny.npz")}"}}')
    assert ucr_data.prepare("tiny", tmp_path, tmp_path) == tmp_path / "sets" / "tiny.npz"
    with pytest.raises(UserError, match="none: no such folder; set miles"):
        ucr_data.prepare("miles", tmp_path, tmp_path / "none")


def test_every_set_has_its_checksum():
    assert json.loads(ucr_data.SUMS.read_text()).keys() == ucr_data.SOURCES.keys()


def test_archive_sets_run_without_shared_data(options, tmp_path, capsys):
    options.sets, options.data, options.methods, options.seeds = None, tmp_path / "none", ["MiniRocket"], [0]
    ucr.run(options)
    assert [asked[0] for asked in FakeWorker.asked] == [n for n, s in ucr_data.SOURCES.items() if not s.shared]
    assert "none: no such folder; left out ECG5000, heartbeat" in capsys.readouterr().out


def test_a_method_that_fails_leaves_the_others(options, monkeypatch, capsys):
    def ask(self, task):
        return {"error": "ValueError: odd"} if task["method"] == "MiniRocket" else answer(self, task)

    answer = FakeWorker.ask
    monkeypatch.setattr(FakeWorker, "ask", ask)
    monkeypatch.setattr(FakeWorker, "ended", lambda self: False, raising=False)
    assert ucr.run(options) == 4
    assert {row["method"] for row in ucr.read_rows(options.csv)} == {"SignalClassifier"}
    assert "Coffee fold 0 seed 0 MiniRocket: ValueError: odd" in capsys.readouterr().out


def test_the_worker_answers_in_turn_and_says_what_failed(tmp_path):
    samples, labels = parse_ts(TS)
    write_arrays(tmp_path / "tiny.npz", as_arrays(of_parts([(samples, labels), (samples, labels)])))
    worker = ucr.Worker(Path(sys.executable))
    task = {"data": str(tmp_path / "tiny.npz"), "fold": 0, "method": "none", "seed": 0, "scaled": False, "out": ""}
    assert worker.ask(task) == {"error": "KeyError: 'none'"}
    assert worker.ask({**task, "data": "none.npz"})["error"].startswith("FileNotFoundError")
    assert not worker.ended()
    worker.close()
    assert worker.ended()
