"""A search over a recipe's [tune]: the validation part chooses, killed trials go on, several run at once on a cluster."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wavefold import api
from wavefold.core.errors import UserError
from wavefold.recipe import Recipe, recipe_names
from wavefold.tuning.study import Study
from wavefold.tuning.trials import check_ranges

pytest.importorskip("optuna", reason="optuna is not installed: pip install 'wavefold[tune]'")

SETTINGS: dict[str, object] = {
    "member": [{"model": "lstm", "width": 4}],
    "prepare": [],
    "output.baseline": "",
    "split.validation": 0.2,
    "stage.*.epochs": 3,
    "batches.size": 32,
}
RANGES: dict[str, object] = {
    "stage.*.learning_rate": {"low": 1e-5, "high": 3e-2, "log": True},
    "member.0.width": {"low": 2, "high": 4},
    "stage.0.optimiser": ["adam", "adamw"],
}


def recipe(**changes: object) -> Recipe:
    return Recipe.load("heartbeat").with_({**SETTINGS, "tune": RANGES, **changes})


@pytest.fixture(scope="module")
def beats(contest_csv_of, tmp_path_factory) -> Path:
    return contest_csv_of(tmp_path_factory.mktemp("beats"), 120, 40)


def quiet(line: str) -> None:
    pass


def test_the_best_of_the_validation_part_is_a_recipe_that_trains(beats, tmp_path):
    lines: list[str] = []
    best = api.tune(recipe(), beats, out=tmp_path / "search", trials=6, log=lines.append)
    assert best == tmp_path / "search" / "best.toml"
    assert not list((tmp_path / "search").glob("trial*/scores.json"))  # no trial was scored on its test part
    values = [float(line.split("macro-f1 ")[1].split()[0]) for line in lines if ": macro-f1 " in line]
    assert f"the best of 6 trials, macro-f1 {max(values):.5g} on the validation part" in lines[-1]
    found = Recipe.load(str(best))
    assert not found.tune
    assert 1e-5 <= found.stage[0].learning_rate <= 3e-2
    assert found.member[0].options["width"] in (2, 3, 4)
    winner = tmp_path / "search" / best.read_text().splitlines()[0].rpartition(", ")[2]
    weights = winner / "fold0" / "0-lstm" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    run = api.train(best, beats, out=winner, log=quiet)  # its members are fitted already
    assert weights.stat().st_mtime_ns == before
    assert run.scores.n > 0


def test_a_search_goes_on_where_it_stopped(beats, tmp_path):
    out = tmp_path / "search"
    api.tune(recipe(), beats, out=out, trials=2, log=quiet)
    lines: list[str] = []
    api.tune(recipe(), beats, out=out, trials=3, log=lines.append)
    assert [line.partition(":")[0] for line in lines[:-1]] == ["trial 2"]
    with pytest.raises(UserError, match="holds a search with another recipe, ranges or data"):
        api.tune(recipe(seed=3), beats, out=out, trials=4, log=quiet)


KILLED = """
import os, signal, sys
from wavefold.training import monitor
left, epoch = 4, monitor.TrainingMonitor.epoch
def die(self, state):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    epoch(self, state)
monitor.TrainingMonitor.epoch = die
from wavefold.cli import main
main()
"""


@pytest.mark.slow
def test_a_killed_trial_is_queued_again_in_its_folder(beats, tmp_path):
    toml, out = tmp_path / "r.toml", tmp_path / "search"
    toml.write_text(recipe().toml())
    words = ["tune", str(toml), "--data", str(beats), "--out", str(out), "--trials", "2"]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (out / "trial1" / "run.json").exists()
    lines: list[str] = []
    api.tune(Recipe.load(str(toml)), beats, out=out, trials=2, log=lines.append)
    assert lines[0].startswith("trial 2: macro-f1")
    assert sorted(path.name for path in out.glob("trial*/")) == ["trial0", "trial1"]


def test_a_trial_behind_the_others_is_stopped_early(tmp_path):
    ranges = recipe().tune
    study = Study(tmp_path / "j", ranges, what="x", higher_is_better=True, seed=0)
    for _ in range(5):
        good = study.ask()
        assert not any(study.hopeless(good, step, 0.9) for step in range(3))
        study.end(good, 0.9)
    bad = study.ask()
    assert [study.hopeless(bad, step, 0.1) for step in range(3)] == [False, True, True]
    study.end(bad, None, pruned=True)
    assert study.finished == 6
    again = Study(tmp_path / "j", ranges, what="x", higher_is_better=True, seed=0)
    assert again.best()[1] == 0.9


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tune": {}}, r"the recipe has no \[tune\]"),
        ({"tune": {"split.validation": [0.1, 0.2]}}, "tune.split.validation: cannot be searched; only prepare, batches"),
        ({"tune": {"data.limit": [10, 20]}}, "tune.data.limit: cannot be searched"),
        ({"tune": {"output.metric": ["l1", "auc"]}}, "tune.output.metric: cannot be searched"),
        ({"tune": {"batches.size": []}}, "tune.batches.size: an empty list"),
        ({"tune": {"batches.siez": [10, 20]}}, r"batches.siez: no such key; .* did you mean 'size'"),
        ({"tune": {"stage.0.optimiser": ["adam", "adan"]}}, "adan"),
        ({"split.way": "kfold"}, "split.way: 'kfold' tests every sample in one of its folds"),
    ],
)
def test_what_could_choose_by_the_test_part_or_is_no_range_is_refused(beats, tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        api.tune(recipe(**changes), beats, out=tmp_path / "search", trials=1, log=quiet)
    assert not list(tmp_path.glob("search/trial*"))


@pytest.mark.parametrize("name", [name for name in recipe_names() if Recipe.load(name).tune])
def test_the_ranges_of_our_recipes_can_be_searched(name):
    check_ranges(Recipe.load(name))
    assert Recipe.load(name).digest() == Recipe.load(name).with_({"tune": {}}).digest()


def test_a_range_is_checked():
    for wrong in ({"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}, {"low": 1, "high": 2, "steps": 3}):
        with pytest.raises(UserError, match="tune"):
            recipe(tune={"batches.size": wrong})


def test_minutes_end_a_search_and_it_goes_on(beats, tmp_path):
    out = tmp_path / "search"
    with pytest.raises(UserError, match="no trial has ended; repeat the same command to go on, with more --minutes"):
        api.tune(recipe(), beats, out=out, minutes=1e-6, log=quiet)
    assert api.tune(recipe(), beats, out=out, trials=1, log=quiet).exists()


@pytest.mark.slow
def test_trials_side_by_side_on_a_cluster(beats, tmp_path):
    pytest.importorskip("distributed", reason="distributed is not installed: pip install 'wavefold[cluster]'")
    toml, out = tmp_path / "r.toml", tmp_path / "search"
    toml.write_text(recipe().toml())
    words = ["tune", str(toml), "--data", str(beats), "--out", str(out), "--trials", "3", "--cluster", "local:2"]
    done = subprocess.run([sys.executable, "-m", "wavefold", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("macro-f1") + done.stdout.count("stopped early") >= 3
    assert len(list(out.glob("trial*/fold0/0-lstm/weights.safetensors"))) >= 2
    assert (out / "best.toml").exists()
