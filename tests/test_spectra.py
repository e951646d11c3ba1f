"""Spectra, end to end: the contest's files in, id,type out; what cannot be read, other wavelengths, other classes."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from wavefold.cli import main
from wavefold.data import SIMULATORS, WRITERS, read

NET = 'member=[{model="split_sum",widths=[8,8,16,16]}]'
TINY = ["--quick", "--set", NET, "--set", "stage.*.epochs=1", "--set", "output.baseline=logistic"]


def run(*words: object):
    return CliRunner().invoke(main, [str(w) for w in words])


def rows_of(path):
    return list(csv.reader(Path(path).read_text().splitlines()))


def spectra(folder, count, seed=1, part="train", length=130, **more):
    WRITERS["spectra"](SIMULATORS["spectra"](count, seed, shape=(1, length), **more), folder, part)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spectra")
    data = spectra(folder / "data", 200)
    spectra(folder / "data", 100, 2, "test")
    result = run("train", "spectra", "--data", data, "--out", folder / "run", *TINY)
    assert result.exit_code == 0, result.output
    return folder / "run", data


def test_a_test_set_beside_it_is_predicted_as_the_contest_wants_it(trained):
    out, data = trained
    rows = rows_of(out / "submission.csv")
    ids = [row[0] for row in rows_of(data / "test_index.csv")[1:]]
    assert [row[0] for row in rows] == ids  # no header, every row, none of a last batch is dropped
    assert {row[1] for row in rows} <= {"star", "unknown", "galaxy", "qso"}
    metadata = json.loads((out / "run.json").read_text())
    assert metadata["classes"] == ["galaxy", "qso", "star", "unknown"]
    assert metadata["grid"] == pytest.approx([3719, 8879, 40])


def test_an_index_without_types_predicts_and_a_labelled_one_scores(trained, tmp_path):
    out, data = trained
    bare = tmp_path / "bare"
    bare.mkdir()
    ids = [row[0] for row in rows_of(data / "test_index.csv")[1:]]
    (bare / "a_index.csv").write_text("id\n" + "".join(f"{i}\n" for i in ids))
    (bare / "a_data.zip").write_bytes((data / "test_data.zip").read_bytes())
    assert run("predict", out, bare, "--out", tmp_path / "a.csv").exit_code == 0
    assert rows_of(tmp_path / "a.csv") == rows_of(out / "submission.csv")
    result = run("score", out, data / "test_index.csv", "--json")
    score = json.loads(result.stdout)
    assert (score["metric"], score["n"]) == ("macro-f1", 100)
    assert score["interval"][0] <= score["value"] <= score["interval"][1]
    assert set(score["others"]) >= {"accuracy", "log-loss"}


def test_bad_spectra_are_told_or_left_out_and_listed(trained, tmp_path):
    out, data = trained
    with zipfile.ZipFile(data / "test_data.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    first, second = list(members)[:2]
    members[first] = members[first].replace(b",", b",oops,", 1)
    members[second] = b"1,2,3\n"
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "x_index.csv").write_bytes((data / "test_index.csv").read_bytes())
    with zipfile.ZipFile(bad / "x_data.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refused = run("predict", out, bad, "--out", tmp_path / "p.csv")
    assert refused.exit_code == 2
    assert Path(first).name in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "p.csv").exists()
    done = run("predict", out, bad, "--out", tmp_path / "p.csv", "--skip-bad")
    assert done.exit_code == 0, done.output
    assert len(rows_of(tmp_path / "p.csv")) == 98
    assert [Path(name).stem in done.stderr for name in (first, second)] == [True, True]
    result = run(
        "train", "spectra", "--data", bad, "--out", tmp_path / "run", "--skip-bad", *TINY, "--set", "split.validation=0.3"
    )
    assert result.exit_code == 0, result.output
    left = rows_of(tmp_path / "run" / "left_out.csv")
    assert left[0] == ["id", "why", "source"]
    assert {row[0] for row in left[1:]} == {Path(first).stem, Path(second).stem}
    assert "2 samples could not be read and were skipped" in " ".join(result.output.split())


def test_what_was_left_out_is_listed_as_long_as_it_is(tmp_path):
    data = spectra(tmp_path / "data", 120, length=110)
    index = data / "train_index.csv"
    text = index.read_text()
    words = ["train", "spectra", "--data", data, "--out", tmp_path / "run", "--set", 'member=[{model="logistic"}]']
    words += ["--set", "output.baseline=", "--skip-bad"]
    index.write_text(text + "1,star\n")  # a row without a txt
    assert run(*words).exit_code == 0
    assert [row[0] for row in rows_of(tmp_path / "run" / "left_out.csv")] == ["id", "1"]
    index.write_text(text)
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "left out" not in result.output
    assert not (tmp_path / "run" / "left_out.csv").exists()


def test_other_wavelengths_are_refused(trained, tmp_path):
    out, _ = trained
    moved = spectra(tmp_path / "moved", 20)
    axis = np.array([float(v) for v in (moved / "wavelength.txt").read_text().split(",")])
    (moved / "wavelength.txt").write_text(",".join(f"{v + 400:.1f}" for v in axis))
    result = run("predict", out, moved, "--out", tmp_path / "p.csv")
    assert result.exit_code == 2
    assert "the run was trained on 3719 to 8879" in result.stderr
    (moved / "wavelength.txt").write_text(",".join(f"{v:.1f}" for v in np.geomspace(axis[0], axis[-1], len(axis))))
    assert run("predict", out, moved, "--out", tmp_path / "p.csv").exit_code == 2  # the ends alone do not make an axis


def test_a_single_txt_is_predicted(trained, tmp_path):
    out, data = trained
    rows = rows_of(out / "submission.csv")
    with zipfile.ZipFile(data / "test_data.zip") as archive:
        (tmp_path / f"{rows[0][0]}.txt").write_bytes(archive.read(f"test_data/{rows[0][0]}.txt"))
    result = run("predict", out, tmp_path / f"{rows[0][0]}.txt", "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.stderr
    assert rows_of(tmp_path / "p.csv") == rows[:1]


def test_classes_that_the_fractions_do_not_name_have_their_own_shares(tmp_path):
    data = spectra(tmp_path / "data", 120)
    index = data / "train_index.csv"
    index.write_text(index.read_text().replace("star", "A").replace("unknown", "F").replace("galaxy", "G").replace("qso", "K"))
    result = run("check", "spectra", "--data", data)
    assert result.exit_code == 0
    assert "batches follow the class shares of the data" in result.output
    assert run("check", "spectra", "--data", data, "--set", "batches.fractions={A=1.0}").exit_code == 2
    half = run("train", "spectra", "--data", data, "--out", tmp_path / "r", *TINY, "--set", "batches.fractions={A=1.0}")
    assert half.exit_code == 2
    assert "no share for class 'F'" in half.stderr


def test_a_fresh_start_that_cannot_be_leaves_the_old_run(trained, tmp_path):
    _, data = trained
    words = ["train", "spectra", "--data", data, "--out", tmp_path / "run", "--set", 'member=[{model="logistic"}]']
    words += ["--set", "output.baseline="]
    assert run(*words).exit_code == 0
    refused = run(*words, "--fresh", "--set", "batches.fractions={star=1.0}")
    assert refused.exit_code == 2
    assert "no share for class" in refused.stderr
    assert (tmp_path / "run" / "scores.json").exists()


def test_simulated_classes_are_those_of_the_recipe(tmp_path):
    result = run("simulate", "spectra", tmp_path / "s", "--count", 100, "--set", "data.classes=['star','galaxy','qso']")
    assert result.exit_code == 0, result.output
    words = [row[1] for row in rows_of(tmp_path / "s" / "train_index.csv")[1:]]
    assert sorted(map(words.count, ("star", "galaxy", "qso")), reverse=True) == [84, 12, 4]
    typo = run("simulate", "spectra", tmp_path / "t", "--set", "data.classes=['star','galxy']")
    assert typo.exit_code == 2
    assert "did you mean 'galaxy'" in typo.stderr


def test_a_star_stands_on_one_side_of_the_split(real):
    dataset = read(real("lamost"), group="auto")
    assert dataset.signals.shape == (2243, 1, 2600)
    assert dataset.unit == "2 angstrom"
    assert len(set(dataset.groups)) == 2218
    result = run("check", "spectra", "--data", real("lamost"))
    assert "both the training and the test part" not in result.output
    assert "groups: 2,218 by star, none divided by the split" in result.output
    assert "axis: 3700 to 8898 (2 angstrom)" in result.output


def test_files_of_the_telescope_are_predicted_on_the_grid_that_was_learned(real, tmp_path):
    words = ["train", "spectra", "--data", real("lamost"), "--out", tmp_path / "run", "--set", 'member=[{model="logistic"}]']
    words += ["--set", "output.baseline=", "--set", "prepare=[{step='scale',by='median'}]", "--set", "data.grid=[1.0,9.0,2.0]"]
    result = run(*words)
    assert result.exit_code == 0, result.output
    done = run("predict", tmp_path / "run", real("lamost/sample_fits"), "--out", tmp_path / "p.csv")
    assert done.exit_code == 0, done.output
    types = dict(rows_of(tmp_path / "p.csv"))
    table = list(csv.DictReader(real("lamost/train_meta.csv").read_text().splitlines()))
    index = dict(rows_of(real("lamost/train_index.csv"))[1:])
    known = {row["source_file"].removesuffix(".gz").removesuffix(".fits"): index[row["id"]] for row in table}
    right = [known[name] == word for name, word in types.items()]
    assert len(right) == 12
    assert sum(right) >= 9  # a third would be chance; the recipe's own nets are right more often than a logistic regression
