"""The pages of `look` and `report`: what they say of data with known defects, and of runs of each kind."""

from __future__ import annotations

import base64
import csv
import html
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.stats import spearmanr

from wavefold import api
from wavefold.cli import main
from wavefold.core.errors import UserError
from wavefold.core.run import RunFolder
from wavefold.evaluation.standing import standing_kind
from wavefold.plots import charts
from wavefold.recipe import Recipe
from wavefold.tasks.samples.explain import GRADIENTS, OCCLUSION, explain
from wavefold.tasks.samples.reading import read_for, split_samples
from wavefold.tasks.samples.report import HeldOut, number

SMALL = {"data.count": 160, "data.shape": [1, 64], "stage.*.epochs": 2, "batches.size": 32}


def words_of(path: Path) -> str:
    """The text of a page as people read it, less scripts and styles."""
    text = path.read_text()
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def heartbeat(**changes: object) -> Recipe:
    return Recipe.load("heartbeat").quickly().with_({"member": [{"model": "repvgg"}], **SMALL, **changes})


@pytest.fixture(scope="module")
def beats_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    out = tmp_path_factory.mktemp("beats") / "run"
    recipe = heartbeat(member=[{"model": "repvgg"}, {"model": "kernels", "features": 84}])
    return api.train(recipe, out=out, log=lambda line: None)


@pytest.fixture(scope="module")
def frames_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return api.train(Recipe.load("frames").quickly(), out=tmp_path_factory.mktemp("frames") / "run", log=lambda line: None)


def beats_file(path: Path, rows: list[tuple[str, np.ndarray, str, str]]) -> Path:
    """A contest CSV of (id, values, label, record)."""
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "heartbeat_signals", "label", "record"])
        writer.writerows([name, ",".join(f"{v:.6f}" for v in values), label, record] for name, values, label, record in rows)
    return path


def test_look_names_every_planted_defect(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(f"s{n}", rng.normal(size=40), str(n % 2), f"p{n % 5}") for n in range(60)]
    rows.append(("twin", rows[0][1], "1", "p1"))  # equal to s0 of class 0 and patient p0
    rows.append(("near", rows[1][1] + 1e-4 * rng.normal(size=40), "1", "p1"))
    rows.append(("flat", np.ones(40), "0", "p0"))
    rows.append(("tail", np.r_[rng.normal(size=20), np.zeros(20)], "0", "p0"))
    beats_file(tmp_path / "train.csv", rows)
    beats_file(tmp_path / "testA.csv", [("new", rng.normal(size=40), "0", "q"), ("known", rows[3][1], "1", "q")])
    page = api.look(Recipe.load("heartbeat"), str(tmp_path), out=tmp_path / "look.html")
    said = words_of(page)
    for line in (
        "1 sample is an exact duplicate of an earlier one, in 1 set.",
        "1 of these sets has conflicting labels: no model can predict all of them correctly",
        "1 pair of near-duplicate samples",
        "1 sample is constant: flat",
        "1 sample ends in zeros (1.56%)",
        "of duplicates or near-duplicates in more than one group",
        "1 of 2 samples compared in testA.csv has a duplicate or near-duplicate in the training data",
        "groups by record",
    ):
        assert line in said, line
    assert "time (s)" in page.read_text()


def test_look_finds_nothing_wrong_with_sound_data(tmp_path):
    rng = np.random.default_rng(1)
    beats_file(tmp_path / "train.csv", [(f"s{n}", rng.normal(size=40), str(n % 2), f"p{n}") for n in range(80)])
    said = words_of(api.look(Recipe.load("heartbeat"), str(tmp_path), out=tmp_path / "look.html"))
    assert "No duplicate or near-duplicate is in two groups by record" in said
    assert "Warning" not in said


def test_look_needs_no_labels(tmp_path):
    path = tmp_path / "testA.csv"
    path.write_text("id,heartbeat_signals\n" + "".join(f'{n},"{n},2,3,{n % 3}"\n' for n in range(30)))
    said = words_of(api.look(Recipe.load("heartbeat"), str(path), out=tmp_path / "look.html"))
    assert "it can be used for prediction but not for training" in said


@pytest.mark.parametrize("name", ["spectra", "cadence", "frames", "frames_next"])
def test_look_of_every_other_system(name, tmp_path):
    recipe = Recipe.load(name).quickly()
    folder = api.simulate(recipe, tmp_path / "data", count=24, seed=1)
    page = api.look(recipe, str(folder.parent if folder.is_file() else folder), out=tmp_path / "look.html")
    said = words_of(page)
    assert "Defects" in said
    assert "Overview" in said


def test_look_of_frames_counts_gaps_missing_cells_and_repeats(tmp_path):
    frames = np.random.default_rng(0).normal(size=(60, 6, 7)).astype(np.float32)
    frames[10, 2, 3] = np.nan
    frames[20] = frames[19]
    frames[30] = np.nan
    times = np.datetime64("2020-01-01T00", "s") + np.arange(60) * np.timedelta64(3600, "s")
    times[40:] += np.timedelta64(7200, "s")
    np.savez(tmp_path / "maps.npz", frames=frames, time=times)
    recipe = Recipe.load("frames").with_({"windows.past": 3, "windows.ahead": 2})
    said = words_of(api.look(recipe, str(tmp_path / "maps.npz"), out=tmp_path / "look.html"))
    for line in ("1 gap in time", "1 frame has no values", "1 frame has missing cells", "1 frame is identical"):
        assert line in said, line


def test_look_of_frames_asks_about_a_code_of_no_value(tmp_path):
    frames = np.random.default_rng(0).integers(-180, 3410, (60, 6, 7)).astype(np.int16)
    frames[:, :, :2] = -32768
    np.save(tmp_path / "maps.npy", frames)
    recipe = Recipe.load("frames").with_({"series.scale": 0.01, "series.offset": 5.0})
    said = words_of(api.look(recipe, str(tmp_path / "maps.npy"), out=tmp_path / "look.html"))
    assert "28.6% of the values are -322.68, far from all others; this may be a missing-value code." in said
    assert "--set series.missing=[-32768]" in said
    counts = np.random.default_rng(0).poisson(0.1, (60, 6, 7)).astype(np.float32)
    np.save(tmp_path / "counts.npy", counts)
    said = words_of(api.look(Recipe.load("frames"), str(tmp_path / "counts.npy"), out=tmp_path / "look.html"))
    assert "missing-value code" not in said


def test_large_maps_are_drawn_as_means_of_blocks():
    maps = np.arange(2 * 601 * 4, dtype=np.float32).reshape(2, 601, 4)
    maps[0, :3, :3] = np.nan
    figure = charts.map_grid(maps, ["a", "b"], "mm", rows=np.arange(601) + 50.0)
    drawn = figure.spec["data"][1]
    assert "the mean of 3 x 3" in figure.caption
    assert drawn["z"]["shape"] == "201, 2"
    assert figure.spec["layout"]["annotations"][-1]["text"] == "row (coordinate of the source)"
    packed = np.frombuffer(base64.b64decode(drawn["z"]["bdata"]), "<f4").reshape(201, 2)
    assert packed[0, 0] == maps[1, :3, :3].mean()
    empty = np.frombuffer(base64.b64decode(figure.spec["data"][0]["z"]["bdata"]), "<f4").reshape(201, 2)
    assert np.isnan(empty).tolist()[0] == [True, False]


def test_classes_whose_names_begin_alike_stay_apart():
    names = ["a very long name of a class, the first", "a very long name of a class, the second"]
    said = charts.confusion([[3, 1], [0, 2]], names).spec["data"][0]["x"]
    assert len(set(said)) == 2


def test_look_goes_on_where_a_test_file_cannot_be_read(tmp_path):
    rng = np.random.default_rng(1)
    beats_file(tmp_path / "train.csv", [(f"s{n}", rng.normal(size=40), str(n % 2), f"p{n}") for n in range(80)])
    (tmp_path / "testA.csv").write_text("id,nothing\n1,2\n")
    said = words_of(api.look(Recipe.load("heartbeat"), str(tmp_path), out=tmp_path / "look.html"))
    assert "Cannot be read:" in said
    assert "testA.csv" in said


def test_look_draws_a_few_of_many_classes(tmp_path):
    rng = np.random.default_rng(1)
    beats_file(tmp_path / "train.csv", [(f"s{n}", rng.normal(size=40), f"kind {n % 50}", "p") for n in range(150)])
    said = words_of(api.look(Recipe.load("heartbeat"), str(tmp_path), out=tmp_path / "look.html"))
    assert "Only the 12 largest of 50 classes are shown" in said
    assert "Chosen at random (seed 0), from 12 of 50 classes" in said
    assert "kind 15 and 42 more" in said  # rare ones, the first eight by name


def test_a_page_is_an_html_file_and_never_the_input(tmp_path):
    recipe = Recipe.load("heartbeat")
    with pytest.raises(UserError, match=r"page\.txt: a page is an \.html file"):
        api.look(recipe, str(tmp_path), out=tmp_path / "page.txt")
    same = tmp_path / "data.html"
    same.write_text("id,heartbeat_signals\n")
    with pytest.raises(UserError, match="is the input itself"):
        api.look(recipe, str(same), out=same)


def test_report_holds_the_run(beats_run):
    page = api.report(beats_run, warn=lambda line: pytest.fail(line))
    said, scores = words_of(page), beats_run.scores
    assert page == beats_run.folder / "report.html"
    for title in ("Score", "Learning curves", "Confusion matrix", "Calibration", "Members and ensemble"):
        assert title in said
    for title in (
        "Hardest samples",
        "Most uncertain samples",
        "Saliency maps",
        "Leakage and distribution shift",
        "Reproduce this run",
    ):
        assert title in said
    assert number(scores.score.value("l1")) in said
    assert "majority (baseline)" in said
    assert "the scores may not hold for real data" in said


def test_held_out_agrees_with_the_scores(beats_run):
    with np.load(beats_run.folder / "held_out.npz", allow_pickle=False) as kept:
        right = (kept["probabilities"].argmax(axis=1) == kept["labels"]).mean()
        assert right == pytest.approx(beats_run.scores.score.value("accuracy"))
        assert kept["members"].shape == (2, *kept["probabilities"].shape)


def test_report_without_its_data_says_so_and_shows_the_rest(beats_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(beats_run.folder, copy)
    shutil.move(copy / "simulated", tmp_path / "moved")
    lines: list[str] = []
    said = words_of(api.report(RunFolder(copy), warn=lines.append))
    assert len(lines) == 1
    assert "give their location with --data" in lines[0]
    assert "Confusion matrix" in said
    assert "Most uncertain samples" not in said
    said = words_of(api.report(RunFolder(copy), data=str(tmp_path / "moved"), warn=lambda line: pytest.fail(line)))
    assert "Most uncertain samples" in said


def test_report_refuses_other_data(beats_run, tmp_path):
    other = api.simulate(heartbeat(), tmp_path / "other", count=160, seed=9)
    with pytest.raises(UserError, match=r"does not match the training data of the run, .*simulated; give their location"):
        api.report(beats_run, out=tmp_path / "report.html", data=str(other))
    with pytest.raises(UserError, match="nowhere"):
        api.report(beats_run, out=tmp_path / "report.html", data="nowhere")
    assert not (tmp_path / "report.html").exists()


def test_report_of_a_run_from_before_says_what_to_do(beats_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(beats_run.folder, copy)
    (copy / "held_out.npz").unlink()
    with pytest.raises(UserError, match=r"held_out\.npz is missing.*train again"):
        api.report(RunFolder(copy))


@pytest.mark.parametrize("name", ["held_out.npz", "metrics.jsonl"])
def test_report_of_a_damaged_run_names_the_file(beats_run, tmp_path, name):
    copy = tmp_path / "run"
    shutil.copytree(beats_run.folder, copy)
    path = next(copy.rglob(name))
    path.write_bytes(path.read_bytes()[:-20])
    (copy / "report.html").unlink(missing_ok=True)
    with pytest.raises(UserError, match=rf"{re.escape(name)}.*is damaged"):
        api.report(RunFolder(copy))
    assert not list(copy.glob("*report*"))


def test_report_says_what_a_score_means_and_how_to_make_it_again(beats_run, tmp_path):
    api.report(beats_run, out=tmp_path / "report.html", warn=lambda line: pytest.fail(line))
    said = words_of(tmp_path / "report.html")
    assert "l1 per 20,000 (lower is better) on" in said
    assert f"wavefold train {beats_run.folder / 'recipe.toml'}" in said  # made from Python: not pytest's own arguments


def test_report_counts_each_sample_once_where_folds_are_repeated(tmp_path):
    split = {"split.way": "kfold", "split.folds": 2, "split.repeats": 2, "stage.*.epochs": 1, "data.count": 80}
    run = api.train(heartbeat(**split), out=tmp_path / "run", log=lambda line: None)
    said = words_of(api.report(run))
    held = HeldOut.of(run)
    assert (len(held.rows), len(held.once().rows)) == (160, 80)
    assert len(set(held.once().rows.tolist())) == 80
    assert "only the first prediction of each sample counts here" in said
    assert "including folds trained on these samples" in said


def test_report_looks_for_test_files_where_the_data_are_now(tmp_path):
    data = tmp_path / "data"
    api.simulate(heartbeat(), data, count=160, seed=3)
    run = api.train(heartbeat(**{"stage.*.epochs": 1}), data=str(data), out=tmp_path / "run", log=lambda line: None)
    moved = data.rename(tmp_path / "moved")
    signals = [f'{n},"{",".join(["0.5"] * 64)}"' for n in range(20)]
    (moved / "testB.csv").write_text("id,heartbeat_signals\n" + "\n".join(signals) + "\n")
    said = words_of(api.report(run, data=str(moved), warn=lambda line: pytest.fail(line)))
    assert "testB.csv:" in said


def test_report_of_folds_by_group(tmp_path):
    rng = np.random.default_rng(2)
    rows = []
    for n in range(120):
        values = rng.normal(size=40)
        values[10 + 10 * (n % 2)] += 8
        rows.append((f"s{n}", values, str(n % 2), f"p{n % 12}"))
    data = beats_file(tmp_path / "train.csv", rows)
    recipe = heartbeat(**{"split.way": "kfold", "split.folds": 2, "split.group": "record", "stage.*.epochs": 1})
    run = api.train(recipe, data=str(data), out=tmp_path / "run", log=lambda line: None)
    said = words_of(api.report(run))
    assert "fold 2" in (run.folder / "report.html").read_text()
    assert "groups by record in the test part is in the training part" in said


def test_report_of_forecasts(frames_run):
    said = words_of(api.report(frames_run, warn=lambda line: pytest.fail(line)))
    for title in ("Skill by lead time", "Forecast with the most change", "Worst forecast", "Error map", "Sharpness"):
        assert title in said
    assert "Importance of past frames" in said
    text = (frames_run.folder / "report.html").read_text()
    assert "persistence" in text


@pytest.mark.parametrize("count", [34, 90, 160])
def test_report_of_forecasts_begins_with_how_they_stand(count, tmp_path):
    frames = np.random.default_rng(0).normal(size=(count, 12, 12)).cumsum(axis=0).astype(np.float32)
    times = np.datetime64("2020-01-01", "s") + np.arange(count) * np.timedelta64(3600, "s")
    np.savez(tmp_path / "maps.npz", frames=frames, time=times, unit=np.array("mm/h"))
    changes = {"windows": {"past": 3, "ahead": 2}, "split.test": 0.45, "stage.*.epochs": 1, "output.pictures": False}
    changes |= {"output.baselines": ["persistence", "climatology"], "split.way": "time", "combine.by": "mean"}
    changes |= {"split.gap": 0, "split.test": 0.3} if count == 34 else {}
    recipe = Recipe.load("frames").quickly().with_({**changes, "member.0.width": 4, "member.0.hidden": 8})
    run = api.train(recipe, data=str(tmp_path / "maps.npz"), out=tmp_path / "run", log=lambda line: None)
    said, scores, few = words_of(api.report(run, warn=lambda line: pytest.fail(line))), run.scores, count == 34
    assert (scores.blocks < 10) == (count < 160)
    assert (scores.blocks < 3) == few
    line = scores.standing
    assert " by mse (difference " in line
    assert "(mm/h)^2" in line
    stands = f"The ensemble is {line}."
    assert said.index(stands) < said.index("Run ")
    begins = said.index(stands, said.index("Run "))
    assert said[:begins].endswith("Warning ") == (standing_kind(line) == "warning")
    assert all(begins < said.index(later) for later in [*scores.notes, "Paired differences over all leads"])
    assert ("fewer than 10 blocks of time" in said) == (count < 160)
    assert ("with 95 % intervals" in said) != few
    persistence = scores.baselines[0]
    for name, unit in {"mse": " ((mm/h)^2)", "mae": " (mm/h)", "rmse": " (mm/h)", "psnr": " (dB)", "ssim": ""}.items():
        value, low, high = persistence.compared(name)
        ends = "" if few else f" [{number(low)}, {number(high)}]"
        assert f" {name}{unit} {number(value)}{ends} " in said
    assert f"{number(scores.score.value('mse'))} [" in said or few
    assert "[–" not in said
    assert "ensemble - climatology" in said


def test_report_of_cadences(tmp_path):
    recipe = Recipe.load("cadence").quickly().with_({"data.count": 60, "stage.*.epochs": 1, "data.shape": [6, 16, 32]})
    run = api.train(recipe, out=tmp_path / "run", log=lambda line: None)
    said = words_of(api.report(run, warn=lambda line: pytest.fail(line)))
    assert "Most uncertain samples" in said
    assert "gradients" in said
    assert "occlusion" in said
    assert "for the prediction (red)" in (run.folder / "report.html").read_text()  # and for no needle, where none is predicted


def test_maps_change_when_the_weights_are_randomised(tmp_path):
    recipe = heartbeat(**{"data.count": 400, "stage.*.epochs": 8})
    run = api.train(recipe, out=tmp_path / "run", log=lambda line: None)
    dataset = read_for(recipe, str(run.folder / "simulated"))
    fold = split_samples(recipe, dataset)[0]
    rows, classes = fold.test[:6], dataset.known_labels()[fold.test[:6]]
    before = explain(run, recipe, dataset, rows, classes, fold.train).maps
    again = explain(run, recipe, dataset, rows, classes, fold.train).maps
    path = run.member(0, 0, "repvgg") / "weights.safetensors"
    weights = safetensors.torch.load_file(path)
    rng = torch.Generator().manual_seed(0)
    shuffled = {k: v.flatten()[torch.randperm(v.numel(), generator=rng)].view_as(v) for k, v in weights.items()}
    safetensors.torch.save_file(shuffled, path)
    after = explain(run, recipe, dataset, rows, classes, fold.train).maps
    for kind in (GRADIENTS, OCCLUSION):
        np.testing.assert_array_equal(before[kind], again[kind])
        alike = spearmanr(before[kind].ravel(), after[kind].ravel()).statistic
        assert not alike > 0.5, kind


def test_a_damaged_run_is_one_line(beats_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(beats_run.folder, copy)
    path = RunFolder(copy).member(0, 0, "repvgg") / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"weights\.safetensors: is missing or damaged; delete"):
        api.predict(RunFolder(copy), str(copy / "simulated"), out=str(tmp_path / "x.csv"))
    path.unlink()
    with pytest.raises(UserError, match="is missing or damaged"):
        api.report(RunFolder(copy))
    (copy / "scores.json").write_text('{"metric"')
    with pytest.raises(UserError, match=r"scores\.json: is damaged; delete it"):
        api.report(RunFolder(copy))


def test_the_commands(beats_run, tmp_path, monkeypatch):
    from click.testing import CliRunner  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    data = str(beats_run.folder / "simulated")
    done = runner.invoke(main, ["look", data, "--recipe", "heartbeat", "--out", "page.html"])
    assert (done.exit_code, done.output.strip()) == (0, "page.html: open it in a browser")
    done = runner.invoke(main, ["report", str(beats_run.folder), "--out", "r.html"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "r.html").stat().st_size > 1 << 20
    done = runner.invoke(main, ["report", data])
    assert done.exit_code == 2
    assert "is not a run" in done.output
    done = runner.invoke(main, ["look", "nowhere", "--recipe", "spectra"])
    assert done.exit_code == 2
    assert "nowhere" in done.output
