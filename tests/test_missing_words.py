"""A word that means "missing" is never a class, a group that samples share, or text among numbers, in any reader."""

import numpy as np
import pandas as pd
import pytest

import wavefold
from wavefold.api import check, resolve
from wavefold.core.errors import DataError, UserError
from wavefold.data import read
from wavefold.data.dataset import Dataset
from wavefold.data.missing_words import is_missing
from wavefold.data.targets import with_labels, with_numbers
from wavefold.recipe import parse_override

WORDS = ["nan", "NaN", "NA", "n/a", "N/A", "None", "null", "NULL", "", " nan ", "<NA>", "-"]
LENGTH = 48


def rows(count=40, seed=0):
    """Signals (sample, position) of two classes that are told apart easily, and the classes."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % 2
    at = np.where(labels == 0, 12, 36)[:, None]
    return np.exp(-(((np.arange(LENGTH) - at) / 3) ** 2)) + rng.normal(0, 0.03, (count, LENGTH)), labels


def wide(path, words, **columns):
    signals = rows(len(words))[0]
    frame = pd.DataFrame(signals.round(4), columns=[f"t{k}" for k in range(LENGTH)])
    for at, (name, values) in enumerate(columns.items()):
        frame.insert(at, name, values)
    frame["label"] = words
    frame.to_csv(path, index=False)
    return path


def contest(path, words, **columns):
    signals = rows(len(words))[0]
    texts = [",".join(f"{v:.4f}" for v in row) for row in signals]
    pd.DataFrame({"id": range(len(words)), **columns, "heartbeat_signals": texts, "label": words}).to_csv(path, index=False)
    return path


def arrays(path, words, **columns):
    groups = {name: np.array(values) for name, values in columns.items()}
    np.savez(path, signals=rows(len(words))[0], labels=np.array(words), **groups)
    return path


def index(path, words, **columns):
    folder = path.parent / f"{path.stem}_data"
    folder.mkdir()
    for number, row in enumerate(rows(len(words))[0]):
        (folder / f"{number}.txt").write_text(",".join(f"{v:.4f}" for v in row))
    table = path.with_name(f"{path.stem}_index.csv")
    pd.DataFrame({"id": range(len(words)), "type": words, **columns}).to_csv(table, index=False)
    return table


FORMS = {"wide": (wide, "a.csv"), "contest": (contest, "a.csv"), "arrays": (arrays, "a.npz"), "index": (index, "a")}


def labels(word, count=40):
    return [word if i in (3, 9) else ("early", "late")[i % 2] for i in range(count)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("word", WORDS)
def test_a_missing_label_is_refused_with_its_place(form, word, tmp_path):
    write, name = FORMS[form]
    path = write(tmp_path / name, labels(word))
    with pytest.raises(DataError) as caught:
        read(path, cache=False)
    place = {"wide": "line 5", "contest": "line 5", "arrays": "sample 3", "index": "line 5"}[form]
    meant = f"{word.strip()!r}, which means missing" if word.strip() else "empty"
    assert f"{path.name} {place}: the label is {meant}, expected a class name" in str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_the_advice_for_missing_labels_works(form, tmp_path):
    write, name = FORMS[form]
    path = write(tmp_path / name, labels("None"))
    with pytest.raises(DataError) as caught:
        check("heartbeat", path)
    advice = str(caught.value)
    assert "leave such samples out with --skip-bad" in advice
    some = read(path, cache=False, skip_bad=True)
    assert (len(some), some.classes) == (38, ("early", "late"))
    assert [name for name, _ in some.left_out] == ["3", "9"]
    assert all("the label is 'None', which means missing" in why for _, why in some.left_out)
    change = advice.split("--set '")[1].rstrip("'")  # as the line says, for those who mean a class
    recipe = resolve("heartbeat", overrides=dict([parse_override(change)]))
    assert any("None 2 (5.0%)" in line for line in check(recipe, path))


def test_a_class_list_of_the_file_may_name_such_a_word(tmp_path):
    path = tmp_path / "a_TRAIN.ts"
    path.write_text("@classLabel true none some\n@data\n" + "".join(f"{i},2,3:{('none', 'some')[i % 2]}\n" for i in range(4)))
    assert read(path, cache=False).classes == ("none", "some")


def test_no_sample_with_a_label_is_refused(tmp_path):
    with pytest.raises(DataError, match="none of the 4 samples can be used"):
        read(wide(tmp_path / "a.csv", ["nan"] * 4), cache=False, skip_bad=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("word", ["nan", "NA", "", "None"])
def test_samples_without_a_group_are_groups_of_their_own(form, word, tmp_path):
    write, name = FORMS[form]
    patients = [word if i % 4 == 0 else f"p{i // 8}" for i in range(40)]
    data = read(write(tmp_path / name, labels("early"), patient=patients), cache=False)
    assert data.grouping == "patient"
    lone = data.groups[::4].tolist()
    assert len(set(lone)) == 10
    assert not set(lone) & {f"p{i}" for i in range(5)}
    assert set(np.delete(data.groups, np.arange(0, 40, 4)).tolist()) == {f"p{i}" for i in range(5)}
    written = repr(word) if word else "empty"
    assert f"10 of 40 samples have no patient ({written}): each is a group of its own" in data.notes


def test_a_column_that_is_missing_everywhere_holds_no_groups(tmp_path):
    data = read(wide(tmp_path / "a.csv", labels("early"), patient=["nan"] * 40, record=["r", "s"] * 20), cache=False)
    assert data.grouping == "record"
    assert read(wide(tmp_path / "b.csv", labels("early"), patient=[""] * 40), cache=False).groups is None


@pytest.mark.parametrize("word", ["nan", "NA", "", "-9999"])
def test_places_that_are_missing_are_no_star(word, tmp_path):
    ra, dec = [word if i < 4 else "10.5" for i in range(12)], [word if i < 4 else "3.25" for i in range(12)]
    data = read(index(tmp_path / "a", ["a", "b"] * 6, ra=ra, dec=dec), cache=False)
    assert data.grouping == "star"
    assert len(set(data.groups.tolist())) == 5  # four alone, and eight of one star
    assert any("4 of 12 samples have no ra or dec" in note for note in data.notes) == (word != "-9999")


def table(**columns):
    texts = {name: np.array(words, np.str_) for name, words in columns.items()}
    count = len(next(iter(texts.values())))
    return Dataset(np.zeros((count, 1, 2), np.float32), np.arange(count).astype(np.str_), columns=texts, source="t.csv")


@pytest.mark.parametrize("word", WORDS)
def test_numbers_and_lists_of_labels_share_the_words(word):
    assert is_missing(word)
    assert np.isnan(with_numbers(table(x=["1", word]), ["x"]).targets[1, 0])
    made = with_labels(table(codes=["a;b", word, f"a;{word}", "['b', 'None']"]), "codes", [])
    assert made.target_names == ("a", "b")
    assert made.targets.tolist() == [[1, 1], [0, 0], [1, 0], [0, 1]]
    assert "1 sample of 4 has no entry in 'codes'" in made.notes[0]


def test_a_recipe_may_name_such_a_word_among_its_labels():
    made = with_labels(table(codes=["none", "a", "nan"]), "codes", ["none", "a"])
    assert made.targets.tolist() == [[1, 0], [0, 1], [0, 0]]


def test_labels_that_differ_in_case_are_noted():
    made = with_labels(table(codes=["NORM", "norm;MI", "MI"]), "codes", ["NORM", "MI"])
    assert any("'norm' and 'NORM' differ only in case" in note for note in made.notes)


def test_classes_that_differ_in_case_are_noted(tmp_path):
    words = [("early", "late", "Early", "late")[i % 4] for i in range(40)]
    lines = check("heartbeat", wide(tmp_path / "a.csv", words))
    assert any("classes 'Early' and 'early' differ only in case or blanks" in line for line in lines)
    assert not any("differ only" in line for line in check("heartbeat", wide(tmp_path / "b.csv", labels("early"))))


def test_frames_of_pandas_with_gaps_are_refused():
    signals, _ = rows()
    frame = pd.DataFrame(signals, columns=[f"t{k}" for k in range(LENGTH)])
    frame["label"] = pd.Series(labels("late")).mask(np.arange(40) == 5)
    with pytest.raises(UserError, match="the label is empty"):
        wavefold.train("heartbeat", frame, out="", quick=True, log=lambda _: None)


def test_codes_among_the_values_are_said_and_the_option_works(tmp_path):
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(80, 40)).round(3)
    signals[::8, 3:9] = -9999
    rows = [f"s{i},{','.join(map(str, row))},{'ab'[i % 2]}" for i, row in enumerate(signals)]
    path = tmp_path / "train.csv"
    path.write_text("\n".join([f"id,{','.join(f't{k}' for k in range(40))},label", *rows]) + "\n")
    quick = {"member": [{"model": "kernels"}]}
    (note,) = [line for line in check(resolve("heartbeat", quick=True, overrides=quick), path) if "missing values" in line]
    assert "1.88% of the values are -9999, far from all others" in note
    assert "--set 'data.missing=[-9999]' --skip-bad" in note
    changed = {**quick, "data.missing": [-9999]}
    with pytest.raises(
        DataError, match=r"train.csv line 2: value 4 is -9999, which data.missing names; leave out the 10 samples"
    ):
        check(resolve("heartbeat", quick=True, overrides=changed), path)
    lines = check(resolve("heartbeat", quick=True, overrides=changed, skip_bad=True), path)
    assert lines[0].startswith("70 samples")
    assert not [line for line in lines if "missing values" in line]
