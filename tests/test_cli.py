"""The command line: frozen words, one-line errors, exit codes, nothing half-written."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from wavefold.cli import main
from wavefold.recipe import Recipe
from wavefold.tasks.samples.task import SampleTask

TINY = ["--set", 'member=[{model="logistic"}]', "--set", "output.baseline="]


def run(*words: object):
    return CliRunner().invoke(main, [str(w) for w in words])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, contest_csv_of) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("cli")
    data = contest_csv_of(folder / "data", 200)
    result = run("train", "heartbeat", "--data", data, "--out", folder / "run", *TINY)
    assert result.exit_code == 0, result.output
    return folder / "run", data


def test_the_commands_are_the_contract():
    words = {
        name: {p.opts[-1] for p in command.params if isinstance(p, click.Option)} for name, command in main.commands.items()
    }
    assert set(words) >= {"recipes", "show", "copy", "check", "simulate", "train", "predict", "score"}
    assert {"--data", "--out", "--set", "--quick", "--fresh"} <= words["train"]
    assert {"--count", "--seed"} <= words["simulate"]
    assert {"--out"} <= words["predict"]
    assert {"--json"} <= words["score"]
    assert {"--data"} <= words["check"]
    assert {"--model"} <= words["show"]


def test_every_command_has_help():
    for name in main.commands:
        result = run(name, "--help")
        assert result.exit_code == 0
        assert len(result.output.splitlines()) > 5


def test_recipes_show_copy_check(tmp_path):
    assert "heartbeat" in run("recipes").output
    assert Recipe.from_toml(run("show", "heartbeat").output, "shown") == Recipe.load("heartbeat")
    layers = run("show", "heartbeat", "--model", "--set", 'member=[{model="net1"}]').output
    assert "net1" in layers
    assert "parameters" in layers
    mine = tmp_path / "mine.toml"
    assert run("copy", "heartbeat", mine).exit_code == 0
    assert "no problems found" in run("check", mine).output
    again = run("copy", "heartbeat", mine)
    assert again.exit_code == 2
    assert "already exists" in again.output


def test_check_says_what_the_data_hold(trained):
    lines = run("check", "heartbeat", "--data", trained[1]).output
    assert "200 samples, 1 channel of 205 values" in lines
    assert "0 129 (64.5%)" in lines


def test_simulate_writes_what_train_reads(tmp_path):
    assert run("simulate", "heartbeat", tmp_path, "--count", 60, "--seed", 3).exit_code == 0
    first = (tmp_path / "train.csv").read_text()
    assert first.startswith("id,heartbeat_signals,label\n")
    assert len(first.splitlines()) == 61
    other = tmp_path / "other"
    run("simulate", "heartbeat", other, "--count", 60, "--seed", 3)
    assert (other / "train.csv").read_text() == first
    again = run("simulate", "heartbeat", other, "--count", 60, "--seed", 4)
    assert again.exit_code == 2
    assert "already exists" in again.output
    run("simulate", "heartbeat", tmp_path / "third", "--count", 60, "--seed", 4)
    assert (tmp_path / "third" / "train.csv").read_text() != first


def test_score_json_is_the_contract(trained):
    result = run("score", *trained, "--json")
    assert "used for training" in result.stderr
    found = json.loads(result.stdout)
    assert list(found) == ["metric", "value", "interval", "n", "others", "standing", "baselines"]
    assert found["metric"] == "l1"
    assert found["n"] == 200
    assert found["standing"].startswith(("better than majority by l1 (", "not better than majority by l1 ("))
    assert [row["name"] for row in found["baselines"]] == ["majority"]
    assert set(found["others"]) == {"accuracy", "macro-f1", "auc", "log-loss", "ece"}
    plain = run("score", *trained).stdout
    assert plain.splitlines()[0] == found["standing"]
    assert "n 200" in plain
    assert "accuracy" in plain


@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".parquet", ".npz"])
def test_predict_writes_each_file(trained, tmp_path, suffix):
    out = tmp_path / f"answer{suffix}"
    result = run("predict", *trained, "--out", out)
    assert result.exit_code == 0, result.output
    assert out.stat().st_size > 200


def test_predict_to_standard_output_is_the_submission_and_nothing_else(trained):
    words = [sys.executable, "-m", "wavefold", "predict", *map(str, trained), "--out", "-"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    rows = list(csv.reader(done.stdout.splitlines()))
    assert rows[0] == ["id", "label_0", "label_1", "label_2", "label_3"]
    assert len(rows) == 201


def test_predict_takes_a_file_without_labels_and_gzip(trained, tmp_path):
    folder, data = trained
    lines = [line.rpartition(",")[0] for line in data.read_text().splitlines()]
    bare = tmp_path / "testA.csv.gz"
    bare.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    assert run("predict", folder, bare, "--out", tmp_path / "a.csv").exit_code == 0
    assert run("predict", folder, data, "--out", tmp_path / "b.csv").exit_code == 0
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    scored = run("score", folder, bare)
    assert scored.exit_code == 2
    assert "has no labels" in scored.output


ROW = ",".join(["0.5"] * 205)
BAD = {
    "a missing column": ("id,signals,label\n0,1,0\n", ["heartbeat_signals"]),
    "ragged rows": (f'id,heartbeat_signals,label\n0,"{ROW}",0\n1,"{ROW},1",1\n', ["line 3", "206", "205"]),
    "a word among the numbers": (f'id,heartbeat_signals,label\n0,"{ROW}",0\n1,"{ROW[:-3]}high",1\n', ["line 3", "'high'"]),
    "a NaN": (f'id,heartbeat_signals,label\n0,"{ROW}",0\n1,"{ROW[:-3]}nan",1\n', ["line 3", "nan"]),
    "an infinity": (f'id,heartbeat_signals,label\n0,"{ROW[:-3]}inf",0\n', ["line 2", "inf"]),
    "an empty file": ("", ["empty"]),
    "a header only": ("id,heartbeat_signals,label\n", ["no "]),
    "a duplicate id": (f'id,heartbeat_signals,label\n7,"{ROW}",0\n7,"{ROW}",1\n', ["line 3", "7", "line 2"]),
    "a class with one sample": (
        "id,heartbeat_signals,label\n" + "".join(f'{i},"{ROW}",{int(i == 0)}\n' for i in range(30)),
        ["class", "'1'", "1 sample"],
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(what, tmp_path):
    text, words = BAD[what]
    data = tmp_path / "train.csv"
    data.write_text(text)
    out = tmp_path / "run"
    result = run("train", "heartbeat", "--data", data, "--out", out, *TINY)
    assert result.exit_code == 2, result.output
    message = result.output.strip()
    assert "\n" not in message
    for word in words:
        assert word in message, message
    assert "train.csv" in message or "class" in words
    left = [p.name for p in out.rglob("*")] if out.exists() else []
    assert left in ([], [".lock"]), left


def test_an_unknown_label_at_scoring_is_named(trained, tmp_path):
    folder, data = trained
    lines = data.read_text().splitlines()
    bad = tmp_path / "bad.csv"
    bad.write_text("\n".join([*lines[:5], lines[5].rpartition(",")[0] + ",9"]) + "\n")
    result = run("score", folder, bad)
    assert result.exit_code == 2
    assert "line 6" in result.output
    assert "'9' is not one of 0, 1, 2, 3" in result.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "hartbeat"], "did you mean 'heartbeat'"),
        (["train", "heartbeat", "--data", "nowhere.csv"], "nowhere.csv"),
        (["train", "heartbeat", "--set", "stage.*.epochs=0"], "epochs"),
        (["predict", "nowhere", "x.csv", "--out", "y.csv"], "is not a run"),
        (["show", "heartbeat", "--set", "member.0.model=net9"], "net9"),
        (["check", "heartbeat", "--set", "member.0.dropout=1.5"], "dropout"),
        (["check", "heartbeat", "--set", "stage.0.smoothing=1.5"], "smoothing"),
        (["check", "heartbeat", "--set", "seed=-1"], "seed"),
        (["check", "heartbeat", "--set", "stage.0.learning_rate=inf"], "learning_rate"),
        (["check", "heartbeat", "--set", "data.layout=contst"], "did you mean 'contest'"),
        (["check", "heartbeat", "--set", "quick={bloks=1}"], "bloks"),
        (["check", "heartbeat", "--set", "combine.folds=3"], "combine.folds"),
        (["check", "heartbeat", "--set", 'prepare=[{step="noise"},{step="standardise"}]'], "must come before"),
        (["check", "heartbeat", "--set", "stage.0.epoch=3"], "did you mean 'epochs'"),
        (["train", "heartbeat", "--out", "/dev/null"], "is a file"),
    ],
)
def test_a_users_mistake_exits_with_2_and_one_line(words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == 2
    assert expected in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_our_own_mistake_exits_with_1_and_debug_shows_it(monkeypatch):
    def broken(task, recipe):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(SampleTask, "check_recipe", broken)
    result = run("check", "heartbeat")
    assert result.exit_code == 1
    assert "ZeroDivisionError" in result.output
    assert "Traceback" not in result.output
    assert isinstance(run("--debug", "check", "heartbeat").exception, ZeroDivisionError)


def test_an_unknown_suffix_is_refused_before_anything_is_written(trained, tmp_path):
    result = run("predict", *trained, "--out", tmp_path / "answer.doc")
    assert result.exit_code == 2
    assert ".csv" in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_training_is_one_line_and_the_run_goes_on(tmp_path, contest_csv):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    words = ["train", "heartbeat", "--data", contest_csv, "--out", small / "run", "--set", "stage.*.epochs=1"]
    words += ["--set", 'member=[{model="net3"}]', "--set", "output.baseline=", "--set", "batches.save_every=0"]
    try:
        full = run(*words)
        assert full.exit_code == 2, full.output
        assert "No space left on device" in full.output
        assert "no partial file" in full.output
        assert not list(small.rglob("*.part"))
        subprocess.run(["mount", "-o", "remount,size=200m", str(small)], check=True)
        assert run(*words).exit_code == 0
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


@pytest.mark.parametrize(
    ("line", "offered"), [("check spec", "plain,spectra"), ("look x --recipe fra", "plain,frames"), ("score x y", "file,y")]
)
def test_completion_offers_recipes_and_files(line, offered):
    words = ["wavefold", *line.split()]
    given = {"_WAVEFOLD_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", "from wavefold.cli import main; main(prog_name='wavefold')"],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert offered in done.stdout.splitlines(), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("look x", "Missing option '--recipe'; see `wavefold look --help`"),
        ("serve x --port 99999", "99999 is not in the range 0<=x<=65535; see `wavefold serve --help`"),
        ("train heartbeat --epochs 3", "--epochs"),
        ("trian heartbeat", "No such command 'trian'"),
    ],
)
def test_a_misused_command_is_told_in_one_line(line, said):
    done = CliRunner().invoke(main, line.split())
    assert done.exit_code == 2
    assert done.stderr.startswith("wavefold: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
