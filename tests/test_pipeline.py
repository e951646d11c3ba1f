"""The story, end to end, on small simulated heartbeats."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

from wavefold import api
from wavefold.core.errors import DataError, UserError
from wavefold.core.records import Identity
from wavefold.core.run import RUN_FORMAT, RunFolder, lock_folder
from wavefold.data import read
from wavefold.data.lazy import by_blocks
from wavefold.ensemble import CALIBRATIONS, COMBINERS, DECISIONS
from wavefold.recipe import Recipe
from wavefold.tasks.samples.inference import predictions_for
from wavefold.tasks.samples.reading import read_for

SMALL = {
    "split.validation": 0.2,
    "member": [{"model": "net3"}, {"model": "logistic"}],
    "stage.*.epochs": 1,
    "output.baseline": "logistic",
}


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def rows_of(path):
    return list(csv.reader(path.read_text().splitlines()))


def quiet(line):
    pass


def train(recipe, data, out, fresh=False):
    return api.train(recipe, data=str(data), out=out, fresh=fresh, log=quiet)


def small(**more):
    return Recipe.load("heartbeat").quickly().with_({**SMALL, **more})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, contest_csv_of):
    folder = tmp_path_factory.mktemp("trained")
    data = contest_csv_of(folder / "data", 240)
    return train(small(), data, folder / "run"), data


def test_a_run_keeps_what_design_says(trained):
    run, data = trained
    dataset = read(str(data))
    splits = table(run.folder / "splits.csv")
    assert sorted(row["id"] for row in splits) == sorted(dataset.ids)
    assert {row["part"] for row in splits} == {"train", "validation", "test"}
    history = [json.loads(line) for line in (run.member(0, 0, "net3") / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == [0]
    assert {"loss", "macro-f1", "accuracy", "l1", "kept"} <= set(history[0])
    assert Recipe.from_toml(run.recipe_text, "run") == small(tune={})


def test_scores_of_every_choice_stand_side_by_side(trained):
    scores = trained[0].scores
    made = {(c.by, c.calibrate, c.decide) for c in scores.choices}
    assert made == {(b, c, d) for b in COMBINERS for c in CALIBRATIONS for d in DECISIONS}
    assert [m.name for m in scores.members] == ["0 net3", "1 logistic"]
    assert [b.name for b in scores.baselines] == ["majority", "logistic"]
    for row in [scores.score, *scores.choices, *scores.members, *scores.baselines]:
        for name in ("l1", "accuracy", "macro-f1"):
            value, low, high = row.measure(name)
            assert low <= value <= high
    chosen = [c for c in scores.choices if (c.by, c.calibrate, c.decide) == (small().combine.by, "temperature", "l1")]
    assert chosen[0].measure("l1") == scores.score.measure("l1")


def test_held_out_predictions_are_of_the_test_part_and_give_the_score(trained):
    run, data = trained
    rows = table(run.folder / "held_out.csv")
    tested = [r["id"] for r in table(run.folder / "splits.csv") if r["part"] == "test"]
    assert [r["id"] for r in rows] == tested
    dataset = read(str(data))
    labels = dict(zip(dataset.ids.tolist(), dataset.labels.tolist(), strict=True))
    cost = sum(abs(float(r[f"label_{k}"]) - (labels[r["id"]] == k)) for r in rows for k in range(4))
    scores = run.scores
    assert cost * scores.per / scores.rows == pytest.approx(scores.score.value("l1"))


@pytest.mark.parametrize("size", [1, 7, 512])
def test_every_row_is_predicted_in_order_whatever_the_batch(trained, size, tmp_path):
    run, data = trained
    out = tmp_path / "all.npz"
    api.predict(run, str(data), out=str(out), size=size)
    with np.load(out) as kept:
        assert kept["ids"].tolist() == read(str(data)).ids.tolist()
        np.testing.assert_allclose(kept["probabilities"].sum(axis=1), 1)
        whole = predictions_for(run, read(str(data)), 64)
        np.testing.assert_allclose(kept["probabilities"], whole, atol=1e-5)


def test_score_of_a_source_is_what_its_predictions_say(trained):
    run, data = trained
    result = api.score(run, str(data))
    dataset = read(str(data))
    probabilities = predictions_for(run, dataset)
    assert result.metric == "l1"
    assert result.n == len(dataset)
    assert result.others["accuracy"] == pytest.approx((probabilities.argmax(axis=1) == dataset.labels).mean())
    decided = probabilities > 0.5
    assert result.value == pytest.approx(np.abs(decided - np.eye(4)[dataset.labels]).sum())
    assert result.interval[0] <= result.value <= result.interval[1]


def test_the_same_command_again_does_nothing_and_another_is_refused(trained):
    run, data = trained
    before = (run.folder / "scores.json").stat().st_mtime_ns
    train(small(), data, run.folder)
    assert (run.folder / "scores.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"whose recipe differs.*--fresh"):
        train(small(seed=5), data, run.folder)


def test_another_version_of_the_same_format_goes_on_and_scores(tmp_path, contest_csv_of, monkeypatch):
    data = contest_csv_of(tmp_path, 240)
    monkeypatch.setattr("wavefold.tasks.samples.fit._fit_at_once", _stopped)
    with pytest.raises(KeyboardInterrupt):
        train(small(), data, tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setattr("wavefold.core.version.__version__", "0.1.99")
    weights = tmp_path / "run" / "fold0" / "0-net3" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    run = train(small(), data, tmp_path / "run")
    assert weights.stat().st_mtime_ns == before
    scores_digest = (run.folder / "scores.json").stat().st_mtime_ns
    monkeypatch.setattr("wavefold.core.version.__version__", "0.1.100")
    train(small(), data, run.folder)
    assert (run.folder / "scores.json").stat().st_mtime_ns == scores_digest
    assert api.score(run, str(data), warn=quiet).n == 240
    assert run.metadata.wavefold not in run.metadata.identity.model_dump_json()


def _stopped(*_):
    raise KeyboardInterrupt


def test_a_run_of_an_earlier_format_is_not_trained_on_but_answers(trained, tmp_path):
    run, data = trained
    old = RunFolder(shutil.copytree(run.folder, tmp_path / "old"))
    metadata = json.loads((old.folder / "run.json").read_text())
    identity = {"recipe": "of then", "data": metadata["identity"]["data"], "wavefold": metadata.pop("wavefold")}
    (old.folder / "run.json").write_text(json.dumps({**metadata, "identity": identity}))
    with pytest.raises(UserError, match=r"old: was made by an earlier format of wavefold.*--fresh.*another --out") as caught:
        train(small(), data, old.folder)
    assert "\n" not in str(caught.value)
    assert old.metadata.identity == Identity(**identity)
    assert (old.folder / "scores.json").exists()
    assert api.score(old, str(data), warn=quiet).value == api.score(run, str(data), warn=quiet).value
    assert len(api.predict(old, str(data), out=str(tmp_path / "p.csv"))) == 240
    assert f"{identity['wavefold']}" in api.report(old, warn=quiet).read_text()
    assert train(small(), data, old.folder, fresh=True).metadata.identity.format == RUN_FORMAT


def test_another_length_is_refused_and_another_length_trains(trained, tmp_path, contest_csv_of):
    shorter = contest_csv_of(tmp_path / "short", 120, length=140)
    with pytest.raises(DataError, match=r"1 channel of 140 values.*1 of 205"):
        api.predict(trained[0], str(shorter), out=str(tmp_path / "x.csv"))
    run = train(small(), shorter, tmp_path / "run")
    assert run.metadata.shape == (1, 140)


def test_folds_score_every_sample_once_a_repeat(tmp_path, contest_csv_of):
    data = contest_csv_of(tmp_path / "data", 200)
    split = {"way": "kfold", "folds": 3, "repeats": 2, "validation": 0.2}
    recipe = small(split=split, member=[{"model": "logistic"}])
    run = train(recipe, data, tmp_path / "run")
    assert run.scores.n == 200
    assert run.scores.rows == 400
    assert run.metadata.folds == 6
    tested = [r["id"] for r in table(run.folder / "splits.csv") if r["part"] == "test"]
    assert sorted(tested) == sorted(read(str(data)).ids.tolist() * 2)


def test_a_score_for_known_groups_says_so_and_group_folds_keep_groups_whole(tmp_path, contest_csv_of):
    data = contest_csv_of(tmp_path / "data", 400)
    known = train(small(), data, tmp_path / "known")
    assert any("both the training and the test part" in note for note in known.scores.notes)
    split = {"way": "kfold", "folds": 2, "group": "record", "validation": 0.2}
    unseen = train(small(split=split), data, tmp_path / "unseen")
    assert not any("both the training and the test part" in note for note in unseen.scores.notes)
    groups = dict(zip(*(a.tolist() for a in (read(str(data)).ids, read(str(data)).groups)), strict=True))
    for fold in ("0", "1"):
        rows = [r for r in table(unseen.folder / "splits.csv") if r["fold"] == fold]
        parts = {p: {groups[r["id"]] for r in rows if r["part"] == p} for p in ("train", "validation", "test")}
        assert not parts["train"] & parts["test"]
        assert not parts["train"] & parts["validation"]
        assert not parts["validation"] & parts["test"]


def test_invented_samples_come_from_the_training_part_only(tmp_path, contest_csv_of):
    data = contest_csv_of(tmp_path / "data", 300)
    recipe = small(prepare=[{"step": "smote"}])
    run = train(recipe, data, tmp_path / "run")
    dataset = read(str(data))
    rows = table(run.folder / "splits.csv")
    learned = [r["id"] for r in rows if r["part"] == "train"]
    place = {name: i for i, name in enumerate(dataset.ids.tolist())}
    real = dataset.signals[[place[name] for name in learned]]
    labels = dataset.labels[[place[name] for name in learned]]
    with np.load(run.folder / "fold0" / "made0.npz") as made:
        for signal, label in zip(made["signals"], made["labels"], strict=True):
            own = real[labels == label][:, 0].astype(np.float64)
            # a SMOTE sample lies between two of its class: within their range at every position
            assert np.all(signal[0] <= own.max(axis=0) + 1e-5)
            assert np.all(signal[0] >= own.min(axis=0) - 1e-5)
        counts = np.bincount(labels, minlength=4) + np.bincount(made["labels"], minlength=4)
    assert len(set(counts.tolist())) == 1


def test_a_folder_with_a_test_file_gives_a_submission(tmp_path, contest_csv_of):
    data = contest_csv_of(tmp_path / "data", 200)
    lines = data.read_text().splitlines()[1:31]
    unlabelled = [line.rpartition(",")[0] for line in lines]
    (data.parent / "testA.csv").write_text("\n".join(["id,heartbeat_signals", *unlabelled]) + "\n")
    run = train(small(), data.parent, tmp_path / "run")
    rows = rows_of(run.folder / "submission.csv")
    assert rows[0] == ["id", "label_0", "label_1", "label_2", "label_3"]
    assert [r[0] for r in rows[1:]] == [line.split(",")[0] for line in lines]


def test_describe_nets_counts_parameters():
    text = api.describe_nets(Recipe.load("heartbeat").with_({"member": [{"model": "net1"}]}))
    assert text.endswith("\n  1,306,118 parameters")  # 1,306,116 of the source's layers and 2 of its first batch norm


def test_another_way_to_combine_uses_the_members_that_are_there(tmp_path, contest_csv_of):
    data = contest_csv_of(tmp_path / "data", 240)
    run = train(small(), data, tmp_path / "run")
    weights = run.member(0, 0, "net3") / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    train(small(combine={"by": "stack_logistic", "decide": "argmax"}), data, tmp_path / "run")
    assert weights.stat().st_mtime_ns == before
    chosen = [c for c in run.scores.choices if (c.by, c.calibrate, c.decide) == ("stack_logistic", "none", "argmax")]
    assert run.scores.score.measure("l1") == chosen[0].measure("l1")
    api.predict(run, str(data), out=str(tmp_path / "x.csv"))


def test_fresh_deletes_a_run_and_nothing_else(tmp_path, contest_csv_of):
    data, out = contest_csv_of(tmp_path / "data", 120), tmp_path / "run"
    train(small(), data, out)
    (out / "fold0" / "0-net3" / ".state.fresh.pt.1.part").write_text("left by a kill")
    train(small(seed=3), data, out, fresh=True)
    assert not list(out.rglob("*.part"))
    (out / "thesis.txt").write_text("years of work")
    train(small(seed=4), data, out, fresh=True)
    assert (out / "thesis.txt").read_text() == "years of work"
    with pytest.raises(DataError, match="no-such"):
        train(small(seed=4), tmp_path / "no-such.csv", out, fresh=True)
    assert (out / "scores.json").exists()
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "run.json").write_text('{"speed": 12}')
    (theirs / "notes.txt").write_text("of a marathon")
    with pytest.raises(UserError, match=r"is not a run folder, but contains 'notes\.txt'"):
        train(small(), data, theirs, fresh=True)
    assert len(list(theirs.iterdir())) == 2


def test_two_trainings_cannot_share_a_folder(tmp_path, contest_csv):
    with lock_folder(tmp_path / "run", fresh=False), pytest.raises(UserError, match="another process is training"):
        train(small(), contest_csv, tmp_path / "run")


def test_without_data_simulated_samples_are_kept_and_told(tmp_path):
    recipe = small(**{"data.count": 120})
    first = api.train(recipe, out=tmp_path / "run", log=quiet)
    assert "simulated samples" in first.scores.notes[0]
    stamp = (tmp_path / "run" / "simulated" / "train.csv").stat().st_mtime_ns
    api.train(recipe, out=tmp_path / "run", log=quiet)
    assert (tmp_path / "run" / "simulated" / "train.csv").stat().st_mtime_ns == stamp
    api.train(recipe, out=tmp_path / "run", fresh=True, log=quiet)
    assert (tmp_path / "run" / "simulated" / "train.csv").stat().st_mtime_ns != stamp


def test_what_a_kill_left_of_the_simulating_is_made_anew(tmp_path):
    part = tmp_path / "run" / ".simulated.part"
    part.mkdir(parents=True)
    (part / "train.csv").write_text("whole, but not yet in its place")
    run = api.train(small(**{"data.count": 120}), out=tmp_path / "run", log=quiet)
    assert run.metadata.samples == 120
    assert not part.exists()


def test_two_test_files_give_two_submissions_and_a_bad_one_stops_before_training(tmp_path, contest_csv_of):
    data = contest_csv_of(tmp_path / "data", 120)
    lines = [line.rpartition(",")[0] for line in data.read_text().splitlines()]
    for name in ("testA", "testB"):
        (data.parent / f"{name}.csv").write_text("\n".join(lines[:11]) + "\n")
    train(small(), data.parent, tmp_path / "run")
    assert {p.name for p in (tmp_path / "run").glob("submission*")} == {"submission-testA.csv", "submission-testB.csv"}
    (data.parent / "testB.csv").write_text('id,heartbeat_signals\n1,"0.5,0.5"\n')
    with pytest.raises(DataError, match="testB"):
        train(small(), data.parent, tmp_path / "other")
    assert not list((tmp_path / "other").glob("fold*"))


def test_a_score_on_samples_that_were_learned_from_says_so(trained, tmp_path, contest_csv_of):
    run, data = trained
    said = []
    api.score(run, str(data), warn=said.append)
    assert said == ["192 of these 240 samples were used for training or validation: the score is too optimistic"]
    new = tmp_path / "new"
    api.simulate(small(), new, count=50, seed=99)
    api.score(run, str(new), warn=said.append)
    assert len(said) == 1


def test_predictions_never_replace_their_input(trained):
    with pytest.raises(UserError, match="is the input itself"):
        api.predict(trained[0], str(trained[1]), out=str(trained[1]))


def test_labels_are_not_looked_at_when_predicting(trained, tmp_path):
    run, data = trained
    lines = data.read_text().splitlines()
    odd = tmp_path / "odd.csv"
    odd.write_text("\n".join([lines[0], lines[1].rpartition(",")[0] + ",", lines[2].rpartition(",")[0] + ",unheard-of"]) + "\n")
    assert api.predict(run, str(odd), out=str(tmp_path / "x.csv")).ids.tolist() == read(data).ids[:2].tolist()


def test_a_limit_keeps_the_shares_of_a_file_sorted_by_class(tmp_path, contest_csv_of):
    data = contest_csv_of(tmp_path / "data", 400)
    head, *lines = data.read_text().splitlines()
    data.write_text("\n".join([head, *sorted(lines, key=lambda line: line.rpartition(",")[2])]) + "\n")
    labels = read_for(small(**{"data.limit": 100}), str(data)).labels
    assert np.bincount(labels).tolist() == pytest.approx([64, 5, 14, 17], abs=1)
    one = tmp_path / "one.csv"
    one.write_text("\n".join([head, *(line for line in lines if line.endswith(",0.0"))]) + "\n")
    with pytest.raises(DataError, match="training needs at least two classes"):
        train(small(), one, tmp_path / "run")


def test_members_with_and_without_a_seed_are_never_twins(tmp_path, contest_csv_of):
    data = contest_csv_of(tmp_path / "data", 120)
    members = [{"model": "net3", "seed": 1}, {"model": "net3"}, {"model": "net3", "seed": 0}]
    run = train(small(member=members), data, tmp_path / "run")
    first = [np.load(run.member(0, n, "net3") / "scores.npz")["test"] for n in range(3)]
    assert not np.allclose(first[0], first[1])
    assert not np.allclose(first[1], first[2])


def test_too_few_held_back_samples_for_a_stacker_are_told_before_training(tmp_path, contest_csv_of):
    data = contest_csv_of(tmp_path / "data", 60)
    with pytest.raises(UserError, match=r"stack_net.*needs"):
        train(small(combine={"by": "stack_net"}, **{"split.validation": 0.05}), data, tmp_path / "run")
    assert not list((tmp_path / "run").glob("fold*"))


def test_open_run_needs_a_run(tmp_path):
    with pytest.raises(UserError, match="is not a run"):
        api.open_run(tmp_path)


def test_a_named_test_file_is_predicted_and_the_threshold_obeyed(tmp_path, contest_csv_of):
    data, test = contest_csv_of(tmp_path / "data", 240), contest_csv_of(tmp_path / "test", 40)
    decided = {}
    for threshold in (0.49, 0.999):
        combine = {"decide": "thresholds", "threshold": threshold}
        train(small(combine=combine, **{"data.test": str(test)}), data, tmp_path / "run")
        rows = rows_of(tmp_path / "run" / "submission.csv")[1:]
        assert len(rows) == 40
        decided[threshold] = sum(sorted(map(float, row[1:])) == [0, 0, 0, 1] for row in rows)
    assert decided[0.999] < decided[0.49]


def test_tensorboard_gets_the_metrics(tmp_path, contest_csv_of):
    data = contest_csv_of(tmp_path / "data", 120)
    run = train(small(**{"output.tensorboard": True}), data, tmp_path / "run")
    events = list(run.member(0, 0, "net3").glob("events.out.tfevents.*"))
    assert events
    assert b"macro-f1" in events[0].read_bytes()


def test_signals_that_do_not_fit_in_memory_are_learned_from_alike(tmp_path, trained, monkeypatch):
    run, data = trained
    monkeypatch.setitem(by_blocks.__kwdefaults__, "most", 1000)
    again = train(small(), data, tmp_path / "run")
    for member in ("0-net3", "1-logistic"):
        for part in ("validation", "test"):
            scores = [np.load(r.folder / "fold0" / member / "scores.npz")[part] for r in (run, again)]
            np.testing.assert_array_equal(*scores)


def test_data_that_cannot_be_read_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        api.train(Recipe.load("heartbeat").quickly(), data=str(tmp_path / "absent.csv"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
