"""What may not be written over: by no name, by no link, in no verb."""

from __future__ import annotations

import os

import pytest

from wavefold import api
from wavefold.core.errors import UserError
from wavefold.core.outputs import check_fresh, check_output
from wavefold.data.sources import files_read
from wavefold.recipe import Recipe

SMALL = {"split.validation": 0.2, "member": [{"model": "logistic"}], "output.baseline": "logistic"}


def refused(out, sources, run=None, words="belongs to the input"):
    with pytest.raises(UserError, match=words) as fields:
        check_output(out, sources, run)
    assert str(out) in str(fields.value)
    assert "\n" not in str(fields.value)


def a_file(path, text="kept"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, contest_csv_of):
    folder = tmp_path_factory.mktemp("trained")
    data = contest_csv_of(folder / "beats", 240)
    recipe = Recipe.load("heartbeat").quickly().with_(SMALL)
    return api.train(recipe, data=str(data.parent), out=folder / "run", log=lambda line: None), data


def test_every_file_below_a_source_is_refused_by_every_path_to_it(tmp_path, monkeypatch):
    data = tmp_path / "beats"
    deep = a_file(data / "a" / "b" / "train.csv")
    (tmp_path / "by_link").symlink_to(data, target_is_directory=True)
    (tmp_path / "to_file.csv").symlink_to(deep)
    os.link(deep, tmp_path / "hard.csv")
    stored = a_file(tmp_path / "store" / "x.csv")
    (data / "x.csv").symlink_to(stored)
    far = a_file(tmp_path / "far" / "y.csv")
    (data / "far").symlink_to(far.parent, target_is_directory=True)
    (data / "round").symlink_to(data, target_is_directory=True)
    (data / "nowhere.csv").symlink_to(tmp_path / "no-such")
    monkeypatch.chdir(data / "a")
    for name in ("by_link/a/b/train.csv", "to_file.csv", "hard.csv"):
        refused(tmp_path / name, [data])
    for out in (deep, stored, far, "b/train.csv", "../a/b/train.csv"):
        refused(out, [data])
    for free in (data / "new.csv", a_file(tmp_path / "other.csv"), "-"):
        check_output(free, [data])


def test_what_is_read_beside_a_file_belongs_to_it(tmp_path):
    train = a_file(tmp_path / "train.csv", "id,heartbeat_signals\n")
    meta = a_file(tmp_path / "train_meta.csv.gz")
    record = [a_file(tmp_path / f"100{end}", "100 1 360 9\n100.dat 16\n") for end in (".hea", ".dat", ".atr")]
    assert set(files_read(train)) == {train, meta}
    assert set(files_read(tmp_path / "100")) == set(record)
    assert set(files_read(record[0])) == set(record)
    strange = a_file(tmp_path / "odd.csv", "name\nx\n")  # its layout must be named
    assert set(files_read(strange)) == {strange}
    assert files_read("physionet:mitdb") == []


def test_the_own_files_of_a_run_are_refused_and_its_reports_are_not(tmp_path):
    run = tmp_path / "run"
    for name in ("run.json", "recipe.toml", "scores.json", "splits.csv", "held_out.npz", "fold0/0-net1/metrics.csv"):
        refused(a_file(run / name), [], run, "belongs to the run")
    refused(run / "fold0" / "new.csv", [], run, "belongs to the run")
    os.link(run / "splits.csv", tmp_path / "hard.csv")
    refused(tmp_path / "hard.csv", [], run, r"belongs to the run \(splits")
    for name in ("report.html", "mine.csv"):
        check_output(a_file(run / name), [tmp_path], run)  # though the run lies in the source
    refused(a_file(tmp_path / "mine.csv"), [tmp_path], run)


def test_predictions_and_pages_leave_data_and_run_alone(trained, tmp_path):
    run, data = trained
    before = {path: path.read_bytes() for path in (data, run.folder / "splits.csv")}
    test = a_file(tmp_path / "test.csv", data.read_text())
    for source, out in ((data.parent, data), (test, test), (test, data), (test, run.folder / "splits.csv")):
        with pytest.raises(UserError, match="choose another file with --out"):
            api.predict(run, str(source), out=str(out))
    with pytest.raises(UserError, match="choose another file with --out"):
        api.search(run, [str(test)] * 6, out=str(test))
    page = a_file(data.parent / "notes.html")
    model = a_file(data.parent / "model.onnx")
    for write in (
        lambda: api.look(Recipe.load("heartbeat"), str(data.parent), out=page),
        lambda: api.report(run, out=page),
        lambda: api.export(run, out=model),
    ):
        with pytest.raises(UserError, match=r"belongs to the input .*; choose another file with --out"):
            write()
    assert {path: path.read_bytes() for path in before} == before
    assert page.read_text() == model.read_text() == "kept"
    api.predict(run, str(test), out=str(data.parent / "said.csv"))
    api.predict(run, str(test), out=str(data.parent / "said.csv"))  # of another source, again


def test_fresh_deletes_no_data_that_it_is_to_read(trained, tmp_path):
    run, _ = trained
    recipe = Recipe.load("heartbeat").quickly().with_(SMALL)
    own = tmp_path / "own"
    api.train(recipe, out=own, log=lambda line: None)
    (tmp_path / "link").symlink_to(own / "simulated", target_is_directory=True)
    for data in (own / "simulated", own / "simulated" / "train.csv", own, tmp_path / "link"):
        with pytest.raises(UserError, match=r"lies in the run's folder .*, which --fresh empties"):
            api.train(recipe, data=str(data), out=own, fresh=True, log=lambda line: None)
    assert (own / "scores.json").exists()
    assert (own / "simulated").is_dir()
    check_fresh(own, [run.folder, tmp_path])


def test_an_earlier_page_in_a_folder_of_data_is_replaced(trained):
    run, data = trained
    page = data.parent / "look.html"
    for _ in range(2):
        api.look(Recipe.load("heartbeat"), str(data.parent), out=page)
    assert "Class balance" in page.read_text()
    with pytest.raises(UserError, match="belongs to the run"):
        api.export(run, out=run.folder / "splits.csv")
