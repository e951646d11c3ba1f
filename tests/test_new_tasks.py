"""Regression and multi-label from files to pages: train, score, predict, report, export, serve, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import wavefold
from wavefold.api import Run
from wavefold.cli import main
from wavefold.core.errors import UserError
from wavefold.data import read
from wavefold.recipe import Recipe
from wavefold.tasks.base import recipe_of, task_of

STARS = {
    "data.count": 160,
    "data.shape": [1, 120],
    "member": [{"model": "svr", "components": 10}, {"model": "net6"}],
    "stage.*.epochs": 2,
    "batches.size": 16,
    "output.baselines": [],
    "output.baseline": "pca_ridge",
}
HEARTS = {
    "data.count": 200,
    "data.shape": [12, 1000],
    "member": [{"model": "kernels", "features": 84}, {"model": "repvgg", "width": 16}],
    "stage.*.epochs": 2,
    "batches.size": 32,
    "output.baseline": "kernels",
}


def said(*words: str) -> Any:
    """What a command gives."""
    return CliRunner().invoke(main, list(words))


@pytest.fixture(scope="module")
def stars(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of regression."""
    out = tmp_path_factory.mktemp("stars") / "run"
    return wavefold.train("stellar_parameters", out=out, overrides=STARS, log=lambda line: None)


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of several labels."""
    out = tmp_path_factory.mktemp("hearts") / "run"
    return wavefold.train("ecg12", out=out, overrides=HEARTS, log=lambda line: None)


def test_regression_scores_every_number_in_its_unit(stars: Run) -> None:
    scores = stars.scores
    assert (scores.task, scores.metric, scores.units["rmse-teff"]) == ("regression", "nrmse", "K")
    assert [row.name for row in scores.baselines] == ["mean", "pca_ridge"]
    mean = scores.baselines[0]
    assert 0.95 < mean.value("nrmse") < 1.1  # the mean of the training part explains nothing
    assert scores.score.value("nrmse") < mean.value("nrmse")
    for name in ("rmse-teff", "mae-logg", "r2-feh", "median-ae-teff", "coverage-teff"):
        value, low, high = scores.score.measure(name)
        assert low <= value <= high, name
    assert 0.85 < scores.score.value("coverage") <= 1
    assert "pca_ridge by nrmse (difference" in scores.standing
    assert [row.by for row in scores.choices] == ["mean", "mean", "stack", "stack"]


def test_gaps_are_left_out_of_their_target_only(stars: Run) -> None:
    with np.load(stars.folder / "held_out.npz") as kept:
        truth, predictions = kept["labels"], kept["probabilities"]
    assert np.isnan(truth).any()
    assert np.isfinite(predictions).all()
    known = ~np.isnan(truth[:, 1])
    off = predictions[known, 1] - truth[known, 1]
    assert stars.scores.score.value("rmse-logg") == pytest.approx(float(np.sqrt(np.mean(off**2))), rel=1e-6)


def test_predicted_numbers_are_written_with_their_spread(stars: Run, tmp_path: Path) -> None:
    source = str(stars.folder / "simulated")
    made = stars.predict(source, out=tmp_path / "new.csv", warn=lambda line: None)
    rows = list(csv.DictReader((tmp_path / "new.csv").read_text().splitlines()))
    assert list(rows[0]) == ["id", "teff", "logg", "feh", "teff_spread", "logg_spread", "feh_spread"]
    np.testing.assert_allclose([float(row["teff"]) for row in rows], made.probabilities[:, 0], rtol=1e-6)
    assert all(float(row["logg_spread"]) > 0 for row in rows)
    stars.predict(source, out=tmp_path / "new.npz", warn=lambda line: None)
    with np.load(tmp_path / "new.npz") as kept:
        np.testing.assert_array_equal(np.hstack([kept["values"], kept["spreads"]]), made.probabilities)
        assert kept["names"].tolist() == ["teff", "logg", "feh"]
    alone = stars.predict(source, size=7, warn=lambda line: None)
    np.testing.assert_allclose(alone.probabilities, made.probabilities, rtol=1e-5)


@pytest.mark.parametrize("run", ["stars", "hearts"])
def test_score_says_first_how_it_stands(run: str, request: pytest.FixtureRequest) -> None:
    folder: Run = request.getfixturevalue(run)
    source = str(folder.folder / "simulated")
    lines = said("score", str(folder.folder), source).stdout.splitlines()
    assert lines[0].startswith(("better than", "not better than"))
    scored = json.loads(said("score", str(folder.folder), source, "--json").stdout)
    assert {"metric", "value", "interval", "n", "others", "standing", "baselines"} <= set(scored)
    assert scored["standing"] == lines[0]
    assert len(scored["interval"]) == 2
    best = {row["name"]: row["differences"][scored["metric"]] for row in scored["baselines"]}
    assert len(best) == 2
    assert all(low <= value <= high for value, low, high in best.values())


@pytest.mark.parametrize("run", ["stars", "hearts"])
def test_page_and_overview(run: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Run = request.getfixturevalue(run)
    page = folder.report(out=tmp_path / "report.html").read_text()
    assert folder.scores.standing.split(" (")[0] in page
    assert "Hardest samples" in page
    words = ("Residuals", "Calibration of the spread", "signal to noise") if run == "stars" else ("Scores of each label",)
    for word in words:
        assert word in page, word
    overview = wavefold.look(recipe_of(folder), str(folder.folder / "simulated"), out=tmp_path / "look.html").read_text()
    assert ("labels a sample has" if run == "hearts" else "unknown") in overview


@pytest.mark.parametrize("run", ["stars", "hearts"])
def test_exported_file_predicts_the_same(run: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    folder: Run = request.getfixturevalue(run)
    path = folder.export(out=tmp_path / "model.onnx", log=lambda line: None)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["values" if run == "stars" else "probabilities"]
    dataset = read(folder.source, labels=False, rate=100 if run == "hearts" else 0)
    signals = np.asarray(dataset.signals[:9], np.float32)
    (answer,) = session.run(None, {"signals": signals})
    ours = folder.predict(folder.source, warn=lambda line: None).probabilities[:9]
    np.testing.assert_allclose(answer, ours, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("run", ["stars", "hearts"])
def test_server_answers(run: str, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("httpx", reason="httpx is not installed")
    from fastapi.testclient import TestClient  # noqa: PLC0415 (an optional package)

    from wavefold.serving.app import new_app  # noqa: PLC0415

    folder: Run = request.getfixturevalue(run)
    recipe = recipe_of(folder)
    served = task_of(recipe).served(folder, recipe, log=lambda line: None)
    with TestClient(new_app(served)) as client:
        answer = client.post("/predict", json={"signals": [served.example.tolist()], "ids": ["mine"]})
        row = answer.json()["predictions"][0]
        assert (answer.status_code, row["id"]) == (200, "mine")
        if run == "stars":
            assert set(row["values"]) == set(row["spreads"]) == {"teff", "logg", "feh"}
        else:
            assert set(row["decided"]) == {"NORM", "MI", "STTC", "CD", "HYP"}
            assert row["labels"] == [name for name, value in row["decided"].items() if value == 1]
        assert client.get("/model").json()["task"] == recipe.kind
        explained = client.post("/explain", json={"signals": [served.example.tolist()]}).json()
        assert np.shape(explained["map"]) == served.shape


def test_labels_have_thresholds_chosen_on_samples_that_are_not_tested(hearts: Run) -> None:
    scores = hearts.scores
    assert (scores.task, scores.metric, recipe_of(hearts).combine.decide) == ("multilabel", "auc", "thresholds")
    with np.load(hearts.folder / "ensemble.npz") as kept:
        thresholds = kept["decision.thresholds"]
    with np.load(hearts.folder / "held_out.npz") as kept:
        decided, odds, truth = kept["decided"], kept["probabilities"], kept["labels"]
    assert thresholds.shape == (5,)
    assert len(set(thresholds.tolist())) > 1
    np.testing.assert_array_equal(decided, odds > thresholds)  # one fold: the validation part chose them
    assert scores.score.value("auc") > 0.6
    assert scores.baselines[0].value("auc") == pytest.approx(0.5)
    assert {row.decide for row in scores.choices} == {"probabilities", "half", "thresholds"}
    assert set(np.unique(truth)) == {0.0, 1.0}


def test_the_parts_are_those_that_a_column_names(hearts: Run) -> None:
    folds = read(hearts.source, labels=False, rate=100).columns["strat_fold"]
    ids = read(hearts.source, labels=False, rate=100).ids
    parts = {row["id"]: row["part"] for row in csv.DictReader((hearts.folder / "splits.csv").read_text().splitlines())}
    wanted = {"10": "test", "9": "validation"}
    assert parts == {name: wanted.get(fold, "train") for name, fold in zip(ids.tolist(), folds.tolist(), strict=True)}


def test_a_damaged_member_is_named_with_advice(stars: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(stars.folder, tmp_path / "run")
    for content in ("{", "{}"):
        (copy / "fold0/0-svr/svr.json").write_text(content)
        done = said("predict", str(copy), str(stars.folder / "simulated"), "--out", str(tmp_path / "new.csv"))
        assert done.exit_code == 2
        assert "0-svr: the files of 'svr' are missing or damaged; delete" in done.stderr
    assert not (tmp_path / "new.csv").exists()


def test_samples_are_mixed_in_both(tmp_path: Path) -> None:
    for name, changes in (("stellar_parameters", STARS), ("ecg12", {**HEARTS, "data.count": 100})):
        mixed = {
            **changes,
            "member": [{"model": "net6"}],
            "prepare": [{"step": "standardise"}, {"step": "mixup", "label": "mix"}],
        }
        run = wavefold.train(name, out=tmp_path / name, overrides=mixed, log=lambda line: None)
        assert np.isfinite(run.scores.score.value(run.scores.metric))


def test_several_folds_and_the_same_bits_again(tmp_path: Path) -> None:
    several = {**STARS, "member": [{"model": "net6"}], "split": {"way": "kfold", "folds": 2, "validation": 0.2}}
    made = [
        wavefold.train("stellar_parameters", out=tmp_path / name, overrides=several, log=lambda line: None) for name in "ab"
    ]
    assert [fold.fold for fold in made[0].scores.folds] == [0, 1]
    kept = [np.load(run.folder / "held_out.npz")["probabilities"] for run in made]
    np.testing.assert_array_equal(*kept)
    made[0].predict(made[0].source, out=tmp_path / "new.parquet", warn=lambda line: None)


REFUSED = [
    ("stellar_parameters", {"data.targets": []}, "data.targets: must name the columns to predict"),
    ("stellar_parameters", {"data.target_units": ["K"]}, "data.target_units: 1 unit for 3 targets"),
    ("stellar_parameters", {"data.classes": ["a", "b"]}, "data.classes: applies only to classification"),
    ("stellar_parameters", {"output.metric": "coverage"}, "'coverage' is best at 0.95, so it cannot rank predictions"),
    ("stellar_parameters", {"stage.0.loss": "cross_entropy"}, "stage.0: 'cross_entropy' is not one of"),
    ("stellar_parameters", {"prepare": [{"step": "repeat"}]}, "prepare.0.step: 'repeat' is not one of"),
    ("stellar_parameters", {"output.baselines": ["kernels"]}, "output.baselines: names a baseline twice"),
    ("stellar_parameters", {"data.targets": ["teff", "TEFF", "feh"]}, "data.targets: names 'teff' twice"),
    ("ecg12", {"data.classes": ["NORM", "MI", "NORM"]}, "data.classes: names 'NORM' twice"),
    ("ecg12", {"data.label": ""}, "data.label: must name the column that lists each sample's labels"),
    ("ecg12", {"batches.fractions": "equal"}, "batches.fractions: does not apply to multi-label recipes"),
    ("ecg12", {"combine.threshold": 0.3}, "combine.threshold: thresholds of labels are learned"),
    ("ecg12", {"data.rate": 250}, "250"),
    ("heartbeat", {"data.targets": ["a"]}, "data.targets: applies only to regression and multi-label recipes"),
    ("heartbeat", {"task": "regresion"}, "task: 'regresion' is not one of"),
]


@pytest.mark.parametrize(("name", "changes", "line"), REFUSED)
def test_a_recipe_that_cannot_be_is_one_line(name: str, changes: dict[str, Any], line: str, hearts: Run) -> None:
    with pytest.raises(UserError) as refused:
        wavefold.check(Recipe.load(name).with_(changes), hearts.source if "data.rate" in changes else "")
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_rate_that_the_simulator_does_not_have(tmp_path: Path) -> None:
    done = said("simulate", "ecg12", str(tmp_path / "new"), "--count", "20", "--set", "data.rate=500")
    assert done.exit_code == 2
    assert "data.rate: simulator 'ecg12' makes steps of 1/100 s, not of 1/500 s; leave it out" in done.stderr
    assert not (tmp_path / "new").exists()


def test_two_stages_need_nets_of_one_width() -> None:
    recipe = Recipe.load("stellar_parameters")
    stages = [stage.model_dump() for stage in recipe.stage]
    both = recipe.with_({"stage": [*stages, {**stages[0], "loss": "mse"}]})
    with pytest.raises(UserError, match="losses of the stages need nets with different outputs; use one of"):
        wavefold.check(both)
    wavefold.check(recipe.with_({"stage": [{**stages[0], "loss": "mse"}, {**stages[0], "loss": "huber", "delta": 2.0}]}))
    wavefold.check(recipe.with_({"stage.0.loss": "quantile"}))


def test_numbers_and_labels_in_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    signals, numbers = rng.normal(size=(90, 40)), rng.normal(size=(90, 2))
    signals[:, :20] += numbers[:, :1]
    small = {"member": [{"model": "pca_ridge", "components": 5}], "output.baselines": [], "prepare": [{"step": "standardise"}]}
    stars = {**small, "data.targets": ["teff", "logg"], "data.target_units": ["K", "dex"]}
    quiet: dict[str, Any] = {"log": lambda line: None}
    run = wavefold.train("stellar_parameters", signals, labels=numbers, out=tmp_path / "a", overrides=stars, **quiet)
    assert run.scores.score.value("r2-teff") > 0.8
    assert run.predict(signals[:7], warn=lambda line: None).probabilities.shape == (7, 4)
    assert run.score(signals, labels=numbers, warn=lambda line: None).as_json()["n"] == 90
    with pytest.raises(UserError, match=r"labels: shape \(90, 2\); expected \(sample, 3\), in the order teff, logg, feh"):
        wavefold.train("stellar_parameters", signals, labels=numbers, out=tmp_path / "b", overrides=small, **quiet)
    hearts = {"data.classes": ["up", "down"], "split": {"way": "holdout", "validation": 0.2}}
    hearts |= {"member": [{"model": "kernels", "features": 840}], "prepare": [{"step": "standardise"}]}
    flags = (numbers > 0).astype(int)
    run = wavefold.train("ecg12", signals, labels=flags, out=tmp_path / "c", overrides=hearts, **quiet)
    assert run.metadata.classes == ("up", "down")
    assert run.scores.score.value("auc") > 0.6


def test_a_frame_with_several_columns_to_predict(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(60, 2))
    frame = pandas.DataFrame(rng.normal(size=(60, 30)) + numbers[:, :1], columns=[str(i) for i in range(30)])
    frame["depth"], frame["width"] = numbers[:, 0], numbers[:, 1]
    small = {"member": [{"model": "pca_ridge", "components": 5}], "output.baselines": [], "output.baseline": ""}
    small |= {"data.target_units": ["", ""], "prepare": [{"step": "standardise"}]}
    given: dict[str, Any] = {"labels": ["depth", "width"], "out": tmp_path / "run", "overrides": small}
    run = wavefold.train("stellar_parameters", frame, **given, log=lambda line: None)
    assert run.metadata.shape == (1, 30)  # the numbers to predict are no part of the signal
    assert run.metadata.classes == ("depth", "width")
    assert run.scores.score.value("r2-depth") > 0.8
    frame.to_csv(tmp_path / "stars.csv", index=False)
    assert run.score(tmp_path / "stars.csv", warn=lambda line: None).as_json()["n"] == 60


def test_real_stars_and_their_gaps(real: Any) -> None:
    lines = wavefold.check("stellar_parameters", real("miles"))
    assert "targets: teff 2748 to 36000 (3 unknown), logg 0 to 5.5 (3 unknown), feh -2.93 to 1.65 (28 unknown)" in lines
    with pytest.raises(UserError, match=r"id \S+: type is '[A-Z]', expected a finite number or an empty entry"):
        wavefold.check(Recipe.load("stellar_parameters").with_({"data.targets": ["type", "logg", "feh"]}), real("miles"))
