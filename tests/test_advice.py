"""Every hint in an error or a note of the sample readers: doing what it says works."""

import importlib
import re

import numpy as np
import pandas as pd
import pytest
import scipy.io

import wavefold
from wavefold.api import check, resolve
from wavefold.core.errors import DataError, UserError
from wavefold.data import LAYOUTS, read, read_series
from wavefold.data.series_options import Reading
from wavefold.recipe import parse_override

COUNT, LENGTH = 60, 48


def beats(count=COUNT):
    """Bumps whose place depends on the class: (sample, position), and class numbers."""
    rng, labels = np.random.default_rng(0), np.arange(count) % 2
    at = np.where(labels == 0, 12, 36)[:, None]
    return np.exp(-(((np.arange(LENGTH) - at) / 3) ** 2)) + rng.normal(0, 0.03, (count, LENGTH)), labels


def frame(**columns):
    signals, labels = beats()
    made = pd.DataFrame(signals.round(4), columns=[f"t{k}" for k in range(LENGTH)])
    return made.assign(**columns) if columns else made.assign(label=labels)


def error_of(source, **overrides):
    with pytest.raises(UserError) as caught:
        check(resolve("heartbeat", overrides=overrides), source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def as_advised(line):
    """The overrides that a line names by --set."""
    words = re.findall(r"--set ('[^']*'|\S+)", line)
    return dict(parse_override(word.strip("';,").rstrip(".")) for word in words)


TABLES = {
    "a.xlsx": lambda path: frame().to_excel(path, index=False),
    "a.json": lambda path: frame().to_json(path),
    "a.jsonl": lambda path: frame().to_json(path, orient="records", lines=True),
    "a.pkl": lambda path: frame().to_pickle(path),
    "a.tsv": lambda path: frame().to_csv(path, sep="\t", index=False),
    "b.tsv": lambda path: pd.DataFrame(np.c_[beats()[1], beats()[0]]).to_csv(path, sep="\t", index=False, header=False),
    "a.dat": lambda path: np.savetxt(path, np.c_[beats()[1], beats()[0]]),
    "a.arff": lambda path: path.write_text(
        "@relation X\n"
        + "".join(f"@attribute att{k} numeric\n" for k in range(LENGTH))
        + "@attribute target {1,2}\n@data\n"
        + "".join(f"{','.join(map(str, row))},{label + 1}\n" for row, label in zip(*beats(), strict=True))
    ),
    "a.mat": lambda path: scipy.io.savemat(path, {"X": beats()[0]}),
    "a.npy": lambda path: np.save(path, beats()[0]),
    "a.h5": lambda path: pytest.importorskip("h5py").File(path, "w").create_dataset("X", data=beats()[0]).file.close(),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_file_of_another_kind_is_refused_with_a_conversion_that_works(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TABLES[name](tmp_path / name)
    line = error_of(name)
    assert line.startswith(f"{name}: ")
    assert "data.layout" not in line
    made = (
        line.rpartition("such as by ")[2].replace("SIGNALS (sample", "(sample").partition(" with (")[0].partition(" for an")[0]
    )
    known = {"pandas": pd, "numpy": np, "scipy": scipy, "LABELS": beats()[1]}
    if "h5py" in made:
        known["h5py"] = pytest.importorskip("h5py")
    exec(made.replace(" and ", "; ").replace("'NAME'", "'X'"), known)
    (written,) = (path for path in tmp_path.iterdir() if path.suffix in (".csv", ".npz"))
    data = read(written, cache=False)
    assert data.signals.shape == (COUNT, 1, LENGTH)
    assert np.bincount(data.known_labels()).tolist() == [30, 30]


@pytest.mark.parametrize("name", ["rec.edf", "rec.bdf", "a.mat", "a.h5", "x.hdf5"])
def test_a_file_of_a_known_kind_is_named_however_broken_it_is(name, tmp_path):
    (tmp_path / name).write_bytes(b"0       " + bytes(range(256)))
    line = error_of(tmp_path / name)
    assert re.match(rf"{name}: is an? .*, which is not read; convert it, such as by", line)


def test_an_array_by_its_bare_name_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", np.zeros((3, 4, 5)))
    assert error_of("X.npy").startswith("X.npy: has shape (3, 4, 5)")


@pytest.mark.parametrize("form", ["wide", "contest"])
def test_a_csv_of_another_suffix_is_read_by_the_layout_named(form, tmp_path):
    path = tmp_path / "data.txt1"
    if form == "wide":
        frame().to_csv(path, index=False)
    else:
        texts = [",".join(f"{v:.4f}" for v in row) for row in beats()[0]]
        pd.DataFrame({"id": range(COUNT), "heartbeat_signals": texts, "label": beats()[1]}).to_csv(path, index=False)
    line = error_of(path)
    assert as_advised(line) == {"data.layout": form}
    assert check(resolve("heartbeat", overrides=as_advised(line)), path)[0].startswith("60 samples")


def test_a_recording_with_lines_of_description_is_recognised(tmp_path):
    head = ["Name,A Person", "Sample Rate,512 hertz", "", "Unit,µV", ""]
    (tmp_path / "ecg.csv").write_text("\n".join([*head, *(f"{v:.3f}" for v in beats()[0][0])]) + "\n")
    assert "lines of description seem to stand above one value a line" in error_of(tmp_path / "ecg.csv")


def test_a_column_of_labels_is_named(tmp_path):
    path = tmp_path / "a.csv"
    signals, labels = beats()
    texts = [",".join(f"{v:.4f}" for v in row) for row in signals]
    pd.DataFrame({"id": range(COUNT), "heartbeat_signals": texts, "rhythm": labels}).to_csv(path, index=False)
    line = error_of(path)
    assert "has no labels" in line
    assert as_advised(line) == {"data.label": "rhythm"}
    assert check(resolve("heartbeat", overrides=as_advised(line)), path)[0].startswith("60 samples")


@pytest.mark.parametrize("name", ["a.csv", "a.npz", "a_TRAIN.ts"])
def test_where_labels_belong_is_said(name, tmp_path):
    path = tmp_path / name
    signals, labels = beats()
    if name == "a.csv":
        frame().drop(columns="label").to_csv(path, index=False)
        assert "add a column 'label'" in error_of(path)
        frame().to_csv(path, index=False)
    elif name == "a.npz":
        np.savez(path, signals=signals)
        assert "add an array 'labels'" in error_of(path)
        np.savez(path, signals=signals, labels=labels)
    else:
        rows = [",".join(map(str, row)) for row in signals]
        path.write_text("\n".join(["@classLabel false", "@data", *rows]))
        assert "add a line @classLabel true with the classes, and the class at the end of each line" in error_of(path)
        ended = [f"{row}:{label}" for row, label in zip(rows, labels, strict=True)]
        path.write_text("\n".join(["@classLabel true 0 1", "@data", *ended]))
    assert check("heartbeat", path)[0].startswith("60 samples")


def test_records_of_twelve_leads_are_for_another_recipe(tmp_path):

    wavefold.simulate("ecg12", tmp_path / "ptbxl", count=80)
    line = error_of(tmp_path / "ptbxl")
    assert "use recipe ecg12, or --set data.label=diagnostic_superclass" in line
    assert check("ecg12", tmp_path / "ptbxl")[0].startswith("80 samples")


def test_columns_among_the_numbers_are_named_as_advised(tmp_path):
    path = tmp_path / "a.csv"
    table = frame()
    table.insert(0, "doctor", [f"d{i % 6}" for i in range(COUNT)])
    table.to_csv(path, index=False)
    assert "set --set split.group=NAME for groups, --set data.label=NAME for labels" in error_of(path)
    assert check(resolve("heartbeat", overrides={"split.group": "doctor"}), path)[0].startswith("60 samples")
    table = frame(verdict=beats()[1])
    table.to_csv(path, index=False)
    assert check(resolve("heartbeat", overrides={"data.label": "verdict"}), path)[0].startswith("60 samples")


def test_one_of_two_labels_is_chosen_as_advised(tmp_path):
    frame(label=beats()[1], type=beats()[1]).to_csv(tmp_path / "a.csv", index=False)
    line = error_of(tmp_path / "a.csv")
    assert as_advised(line) == {"data.label": "label"}
    assert check(resolve("heartbeat", overrides=as_advised(line)), tmp_path / "a.csv")


def test_a_missing_group_is_chosen_as_advised(tmp_path):
    frame(patient=[f"p{i % 8}" for i in range(COUNT)], label=beats()[1]).to_csv(tmp_path / "a.csv", index=False)
    line = error_of(tmp_path / "a.csv", **{"split.group": "pateint"})
    assert "did you mean 'patient'" in line
    assert check(resolve("heartbeat", overrides={"split.group": "patient"}), tmp_path / "a.csv")
    lines = check("heartbeat", tmp_path / "a.csv")
    note = next(line for line in lines if "does not measure generalization to new groups" in line)
    there = check(resolve("heartbeat", overrides=as_advised(note)), tmp_path / "a.csv")
    assert not any("does not measure generalization" in line for line in there)


def train(source, out, recipe="heartbeat", **overrides):
    plain = {"member": [{"model": "net1"}], "output.baseline": "", "split.validation": 0.2}
    run = wavefold.train(recipe, source, out=out, quick=True, overrides={**plain, **overrides}, log=lambda _: None)
    scores = run.scores
    value = scores.score.value("accuracy")
    return value, [note for note in scores.notes if "no better than" in note]


@pytest.mark.parametrize(("factor", "offset", "step"), [(1e-5, 0, "scale"), (1, 1e5, "standardise")])
def test_values_of_another_size_are_named_as_the_cause(factor, offset, step, tmp_path):
    signals, labels = beats(200)
    np.savez(tmp_path / "a.npz", signals=signals * factor + offset, labels=labels)
    noise = {"step": "noise", "sigma": 0.01}
    epochs = {"stage.*.epochs": 12, "batches.size": 16}
    value, notes = train(tmp_path / "a.npz", tmp_path / "bad", prepare=[noise], **epochs)
    assert f'but expect about 0 and 1: add [[prepare]] step = "{step}"' in notes[0]
    advised = dict(re.findall(r'(\w+) = "(\w+)"', notes[0]))
    better, after = train(tmp_path / "a.npz", tmp_path / "good", prepare=[advised, noise], **epochs)
    assert (better > max(value, 0.9), after) == (True, [])


def test_too_few_batches_are_named_as_the_cause(tmp_path):
    signals, labels = beats(120)
    np.savez(tmp_path / "a.npz", signals=signals, labels=labels)
    value, notes = train(tmp_path / "a.npz", tmp_path / "bad", **{"stage.*.epochs": 1, "batches.size": 128})
    assert "the nets were trained for only 1 batch; try more epochs and small batches" in notes[0]
    better, after = train(tmp_path / "a.npz", tmp_path / "good", **as_advised(notes[0]))
    assert (better > max(value, 0.9), after) == (True, [])


def test_no_layout_is_advised_that_cannot_help():
    for layout in LAYOUTS.values():
        assert "data.layout=contest" not in layout.no_labels
    with pytest.raises(DataError, match="no such file"):
        check("heartbeat", "nowhere.csv")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # of the line itself
def test_files_of_frames_of_other_kinds_are_named_with_a_conversion_that_works(tmp_path):
    image, sequence = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageSequence")
    h5py = pytest.importorskip("h5py")
    frames = (np.arange(5 * 6 * 7).reshape(5, 6, 7) % 200).astype(np.uint8)
    pages = [image.fromarray(frame) for frame in frames]
    for name in ("film.gif", "stack.tif"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    with h5py.File(tmp_path / "grid.h5", "w") as file:
        file["rain"] = frames
    known = {"numpy": np, "PIL": importlib.import_module("PIL"), "h5py": h5py}
    assert sequence is not None
    for name in ("film.gif", "stack.tif", "grid.h5"):
        with pytest.raises(UserError) as caught:
            read_series(tmp_path / name, Reading())
        line = str(caught.value)
        assert line.startswith(f"{name}: is a")
        made = line.rpartition("such as by ")[2].partition(" with NAME")[0].replace("'NAME'", "'rain'")
        for file in (name, f"{name.split('.')[0]}.npy"):
            made = made.replace(f"'{file}'", f"r'{tmp_path / file}'")
        exec(made, known)
        there = read_series(tmp_path / f"{name.split('.')[0]}.npy", Reading())
        assert there.frames.shape == (5, 1, 6, 7)


@pytest.mark.parametrize("name", ["a.grib2", "a.mp4", "a.hdf", "a.vol"])
def test_files_of_frames_of_other_kinds_are_named_however_broken(name, tmp_path):
    (tmp_path / name).write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match=rf"^{name}: .*convert it"):
        read_series(tmp_path / name, Reading())


def test_a_recording_of_one_number_a_line_is_named(tmp_path):
    (tmp_path / "e0103.csv").write_text("0.455\n0.46\n0.45\n")
    assert error_of(tmp_path / "e0103.csv").startswith("e0103.csv: holds one number a line, as a recording does")
