"""Packed samples: what comes back, that a killed call goes on, what cannot stand together, and damage."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from valid_sources import SAMPLES, rows_written
from wavefold import api
from wavefold.core.errors import DataError, UserError
from wavefold.core.locks import held
from wavefold.data import Dataset, pack, packed, read, read_samples
from wavefold.data.block_sums import BLOCK
from wavefold.data.distinct import first_repeat, id_hashes
from wavefold.data.lazy import Lazy
from wavefold.data.read_samples import How

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # of wfdb, when pandas 3.1 is there


def quiet(line: str) -> None:
    """Receives notes that a test does not look at."""


def assert_same(one: Dataset, other: Dataset) -> None:
    """All that is known of two sets of samples is the same, to the bit."""
    for name in (field.name for field in fields(Dataset)):
        ours, theirs = getattr(one, name), getattr(other, name)
        if name == "columns":
            assert {k: v.tolist() for k, v in ours.items()} == {k: v.tolist() for k, v in theirs.items()}
        elif name in ("signals", "axis") or isinstance(ours, np.ndarray):
            assert (ours is None) == (theirs is None), name
            assert ours is None or np.array_equal(ours[:], theirs[:]), name
        elif name not in ("source", "label_advice"):
            assert ours == theirs, name


@pytest.mark.parametrize("on_demand", [False, True])
@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "packed"])
def test_what_is_packed_is_what_is_read(name: str, on_demand: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SAMPLES[name]
    path = source.write(tmp_path / "src", source.samples())
    options = {"layout": source.layout or name, **source.options}
    pack.pack(path, tmp_path / "pack", How(**{k: v for k, v in options.items() if k in {f.name for f in fields(How)}}))
    monkeypatch.setattr(packed, "LARGE", 0 if on_demand else 1 << 30)
    there = read(tmp_path / "pack", **{**options, "layout": "auto"})
    assert isinstance(there.signals, Lazy) == on_demand
    assert_same(there, read(path, cache=False, **options))


def beats(path: Path, rows: int, *, first: int = 0, seed: int = 0, meta: bool = True, values: int = 60) -> Path:
    """A contest CSV of structured rows, with patients beside it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    signals = np.sin(np.arange(values) / (3 + labels[:, None])) + 0.3 * rng.standard_normal((rows, values))
    ids = [f"b{i}" for i in range(first, first + rows)]
    table = [[i, ",".join(f"{v:.4f}" for v in row), f"{label}.0"] for i, row, label in zip(ids, signals, labels, strict=True)]
    rows_written(path, [["id", "heartbeat_signals", "label"], *table])
    if meta:
        rows_written(path.with_name(f"{path.stem}_meta.csv"), [["id", "record"], *([i, f"p{int(i[1:]) // 7}"] for i in ids)])
    return path


@pytest.fixture
def _in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are read and packed in parts, of one block of 4,096 rows each."""
    monkeypatch.setattr(read_samples, "LARGE_TEXT", 0)
    monkeypatch.setattr(pack, "PART", 0)


def contents(folder: Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())}


@pytest.mark.usefixtures("_in_parts")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_large_file_is_packed_in_parts(tmp_path: Path, workers: int) -> None:
    path = beats(tmp_path / "train.csv", 9000)
    made = pack.pack(path, tmp_path / "pack", How(), workers=workers)
    assert (made.rows, made.parts, made.added) == (9000, 3, 9000)
    assert_same(read(tmp_path / "pack"), read(path, cache=False))
    again = pack.pack(path, tmp_path / "pack", How())
    assert (again.rows, again.added) == (9000, 0)
    path.touch()  # read anew, and found to be the same
    assert pack.pack(path, tmp_path / "pack", How()).added == 0


QUICK = {"member": [{"model": "net1"}], "stage.*.epochs": 1, "output.baseline": "", "split.group": "record"}


def bits(run: api.Run) -> dict[str, Any]:
    """What a run has learned and how it scored."""
    arrays = dict(np.load(run.folder / "held_out.npz"))
    return {"scores": run.scores.as_json() | {"seconds": 0}, "id": run.metadata.identity} | {
        name: value.tolist() for name, value in arrays.items()
    }


@pytest.mark.usefixtures("_in_parts")
def test_runs_are_the_same_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on the source, on the pack in memory, and on the pack read on demand."""
    path, other = beats(tmp_path / "train.csv", 5000), beats(tmp_path / "other.csv", 4500, first=9000, seed=1)
    pack.pack(path, tmp_path / "pack", How())
    pack.pack(other, tmp_path / "others", How())
    runs, predicted, scored = [], [], []
    for name, source, target, large in (
        ("a", path, other, 0),
        ("b", tmp_path / "pack", tmp_path / "others", 1 << 30),
        ("c", tmp_path / "pack", tmp_path / "others", 0),
    ):
        monkeypatch.setattr(packed, "LARGE", large)
        run = api.train("heartbeat", source, out=tmp_path / name, overrides=QUICK, log=quiet)
        runs.append(bits(run))
        run.predict(target, tmp_path / f"{name}.csv")
        predicted.append((tmp_path / f"{name}.csv").read_bytes())
        scored.append(run.score(target, warn=quiet).as_json())
    assert runs[0] == runs[1] == runs[2]
    assert predicted[0] == predicted[1] == predicted[2]
    assert scored[0] == scored[1] == scored[2]


KILLED = """
import os, signal, sys
from pathlib import Path
from wavefold.data import pack, read_samples
from wavefold.data.read_samples import How
read_samples.LARGE_TEXT = pack.PART = 0
write, left = pack.write_json, [int(sys.argv[3])]
def stop(path, value):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, value)
pack.write_json = stop
pack.pack(Path(sys.argv[1]), Path(sys.argv[2]), How(), workers=1)
"""


@pytest.mark.usefixtures("_in_parts")
@pytest.mark.parametrize("at", [1, 3])
def test_a_killed_call_goes_on_and_gives_the_same_bytes(tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = beats(tmp_path / "train.csv", 9000)
    pack.pack(path, tmp_path / "whole", How(), workers=1)
    command = [sys.executable, "-c", KILLED, str(path), str(tmp_path / "killed"), str(at)]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "pack.json").exists()
    with pytest.raises(DataError, match=r"killed"):
        read(tmp_path / "killed")
    written: list[int] = []
    write = pack._write_part
    monkeypatch.setattr(pack, "_write_part", lambda *a, **k: (written.append(a[1]), write(*a, **k))[1])
    pack.pack(path, tmp_path / "killed", How(), workers=1)
    assert written == list(range(at - 1, 3))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_many_files_go_on_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SAMPLES["spectra"]
    path = source.write(tmp_path / "src", source.samples())
    write = pack._write_part
    monkeypatch.setattr(pack, "_write_part", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pack.pack(path, tmp_path / "pack", How())
    assert list((tmp_path / "pack" / ".reading").rglob("signals.npy"))
    monkeypatch.setattr(pack, "_write_part", write)
    pack.pack(path, tmp_path / "pack", How())
    assert sorted(contents(tmp_path / "pack")) == ["00000.json", "00000.rows.npz", "00000.signals.npy", "pack.json"]


def test_further_sources_are_added(tmp_path: Path) -> None:
    one, two = beats(tmp_path / "one.csv", 50), beats(tmp_path / "two.csv", 30, first=50, seed=1)
    pack.pack(one, tmp_path / "pack", How())
    made = pack.pack(two, tmp_path / "pack", How())
    assert (made.rows, made.parts, made.added) == (80, 2, 30)
    there, first, second = read(tmp_path / "pack"), read(one), read(two)
    assert np.array_equal(there.signals, np.concatenate([first.signals, second.signals]))
    assert there.ids.tolist() == [*first.ids.tolist(), *second.ids.tolist()]
    assert there.digest not in (first.digest, second.digest)
    pack.pack(tmp_path / "pack", tmp_path / "again", How())  # a pack is a source too
    assert_same(read(tmp_path / "again"), there)


def npz(
    path: Path, ids: str = "abcd", labels: Any = ("x", "y", "x", "y"), shape: tuple[int, ...] = (4, 9), **more: Any
) -> Path:
    signals = np.random.default_rng(3).random(shape)
    named = {} if labels is None else {"labels": np.array(labels)}
    np.savez(path, signals=signals, ids=np.array(list(ids)), **named, **more)
    return path


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        ({"shape": (4, 8)}, "b.npz: samples have 1 channel of 8 values; pack holds samples with 1 channel of 9 values"),
        (
            {"labels": ("x", "yy", "x", "x")},
            "b.npz sample 1: label 'yy' is not one of x, y, the classes in pack; did you mean 'y'",
        ),
        ({"labels": None}, "b.npz: its labels are missing; pack holds samples with labels: words"),
        ({"site": np.array(["p"] * 4)}, "b.npz: its columns are site; pack holds samples with none"),
        ({"ids": "dfgh"}, "b.npz sample 0: id 'd' is already in sample 3 of a.npz, which was packed before"),
    ],
)
def test_what_cannot_stand_together_is_refused_by_name(tmp_path: Path, odd: dict[str, Any], says: str) -> None:
    pack.pack(npz(tmp_path / "a.npz"), tmp_path / "pack", How())
    before = contents(tmp_path / "pack")
    with pytest.raises(DataError) as caught:
        pack.pack(npz(tmp_path / "b.npz", **{"ids": "efgh", **odd}), tmp_path / "pack", How())
    assert says in str(caught.value)
    assert contents(tmp_path / "pack") == before


def test_another_unit_or_axis_is_refused(tmp_path: Path) -> None:
    old = packed.Shared(shape=(1, 3), unit="1 angstrom", axis=(1.0, 2.0, 3.0), attrs={"medium": "air"})
    for change, says in (
        ({"unit": "1 nm"}, "its axis has the unit '1 nm'; P holds samples with '1 angstrom'"),
        ({"axis": (1.0, 2.0, 4.0)}, "its axis is 1 to 4 in 3 steps; P holds samples with 1 to 3 in 3 steps"),
        ({"attrs": {"medium": "vacuum"}}, "its medium is 'vacuum'; P holds samples with 'air'"),
        ({"attrs": {}}, "its medium is 'not stated'; P holds samples with 'air'"),
        ({"classes": ("p", "q")}, "its classes are p, q; P holds samples with none"),
        ({"positions": ("t0", "t1", "t2")}, "its measurements are t0, t1, t2; P holds samples with none"),
    ):
        with pytest.raises(DataError) as caught:
            pack._beside(old.model_copy(update=change), old, "S", "P")
        assert says in str(caught.value)
    assert pack._beside(old, old, "S", "P") == old


@pytest.mark.usefixtures("_in_parts")
def test_an_id_that_is_there_twice_is_refused_in_the_words_of_the_reader(tmp_path: Path) -> None:
    path = beats(tmp_path / "train.csv", 5000, meta=False)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[3]]) + "\n")
    with pytest.raises(DataError) as whole:
        read(path, cache=False)
    with pytest.raises(DataError) as parts:
        pack.pack(path, tmp_path / "pack", How())
    assert str(parts.value) == str(whole.value) == "train.csv line 5002: id 'b2' is already in line 4"
    assert not (tmp_path / "pack").exists()


@pytest.mark.usefixtures("_in_parts")
def test_bad_rows_are_refused_or_left_out(tmp_path: Path) -> None:
    path = beats(tmp_path / "train.csv", 5000, meta=False)
    lines = path.read_text().splitlines()
    lines[4500] = lines[4500].replace(",", ",x", 1)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"train\.csv line 4501"):
        pack.pack(path, tmp_path / "pack", How())
    assert not (tmp_path / "pack").exists()
    made = pack.pack(path, tmp_path / "pack", How(skip_bad=True))
    assert made.rows == 4999
    assert made.left_out[0][0] == "line 4501"
    assert_same(read(tmp_path / "pack", skip_bad=True), read(path, skip_bad=True, cache=False))
    with pytest.raises(DataError, match=r"train\.csv line 4501"):  # as reading the source does
        read(tmp_path / "pack")


def test_damage_is_named_and_never_computed_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pack"
    rows = BLOCK // 240 * 2 + 99  # two blocks and more
    np.savez(tmp_path / "a.npz", signals=np.random.default_rng(0).random((rows, 60)), labels=np.arange(rows) % 2)
    pack.pack(tmp_path / "a.npz", folder, How())
    monkeypatch.setattr(packed, "LARGE", 0)
    whole = {f: f.read_bytes() for f in folder.iterdir()}
    for path, data in whole.items():
        for at in (len(data) // 3, len(data) - 1):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            with pytest.raises(DataError, match=rf"pack/{path.name}"):
                read(folder).signals[:]
        path.write_bytes(data[:-3])
        with pytest.raises(DataError, match=rf"pack/{path.name}"):
            read(folder).signals[:]
        path.unlink()
        with pytest.raises(DataError, match=r"pack"):
            read(folder).signals[:]
        path.write_bytes(data)
    data = whole[folder / "00000.signals.npy"]
    (folder / "00000.signals.npy").write_bytes(data[:-1] + b"\0")
    lazy = read(folder).signals
    assert lazy[np.array([5, 0])].shape == (2, 1, 60)  # the damaged block has not been touched
    with pytest.raises(DataError, match=r"00000\.signals\.npy: bytes 8,388,608 to"):
        _ = lazy[np.array([rows - 1, 0])]


def test_rows_in_any_order_over_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "PART", 0)
    monkeypatch.setattr(packed, "LARGE", 0)
    monkeypatch.setattr(packed, "_MAPS", 1)
    values = np.random.default_rng(0).random((10_000, 7), np.float32)
    np.savez(tmp_path / "a.npz", signals=values)
    assert pack.pack(tmp_path / "a.npz", tmp_path / "pack", How()).parts == 3
    lazy = read(tmp_path / "pack").signals
    assert isinstance(lazy, Lazy)
    for rows in (np.array([9999, 3, 4096, 4095, 3]), np.arange(4000, 4300), np.arange(100)[::-1], np.array([5])):
        assert np.array_equal(lazy[rows][:, 0], values[rows])
    assert np.array_equal(lazy[:][:, 0], values)


def test_halves_where_nothing_is_lost(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((9, 7)).astype(np.float16)
    np.savez(tmp_path / "a.npz", signals=values)
    np.savez(tmp_path / "b.npz", signals=values + np.float32(1e-5), ids=np.arange(9, 18))
    pack.pack(tmp_path / "a.npz", tmp_path / "pack", How())
    pack.pack(tmp_path / "b.npz", tmp_path / "pack", How())
    assert [packed.read_part(tmp_path / "pack", n).dtype for n in (0, 1)] == ["float16", "float32"]
    there = read(tmp_path / "pack").signals
    assert there.dtype == np.float32
    assert np.array_equal(there[:9, 0], values.astype(np.float32))
    assert np.array_equal(there[9:, 0], values + np.float32(1e-5))


def test_a_recipe_says_how_the_source_is_read(tmp_path: Path) -> None:
    """Targets are columns only if a recipe names them; a source packed in another way is refused by the recipe's key."""
    head = ["id", *(f"t{i}" for i in range(6)), "weight2"]
    rows_written(tmp_path / "a.csv", [head, *([f"s{i}", *map(str, range(6)), str(i)] for i in range(9))])
    recipe = {"task": "regression", "data.targets": ["weight2"], "data.layout": "auto"}
    chosen = api.resolve(
        "stellar_parameters", overrides={k: v for k, v in recipe.items() if k != "task"} | {"data.target_units": []}
    )
    api.pack(tmp_path / "a.csv", tmp_path / "pack", recipe=chosen, warn=quiet)
    there = read(tmp_path / "pack", apart=["weight2"])
    assert there.columns["weight2"].tolist() == [str(i) for i in range(9)]
    api.pack(tmp_path / "a.csv", tmp_path / "plain", warn=quiet)
    with pytest.raises(DataError, match=r"'weight2' was packed as a measurement; pack the source again with --recipe"):
        read(tmp_path / "plain", apart=["weight2"])
    manifest = packed.read_manifest(tmp_path / "pack")
    source = manifest.sources[0].model_copy(update={"options": {"rate": 100, "grid": [1.0, 2.0, 0.5]}})
    manifest.model_copy(update={"sources": (source,)}).write(tmp_path / "pack")
    assert len(read(tmp_path / "pack", rate=100, grid=[1, 2, 0.5])) == 9
    with pytest.raises(DataError, match=r"a\.csv was packed with data\.rate=100, not 500; pack it again"):
        read(tmp_path / "pack", rate=500)


def test_labels_of_another_column(tmp_path: Path) -> None:
    rows = [[f"s{i}", ",".join(map(str, range(i, i + 9))), f"{i % 2}", "xyz"[i % 3]] for i in range(40)]
    path = rows_written(tmp_path / "train.csv", [["id", "heartbeat_signals", "label", "kind"], *rows])
    pack.pack(path, tmp_path / "pack", How())
    for column in ("label", "kind"):
        assert_same(read(tmp_path / "pack", label_column=column, classes=None), read(path, label_column=column, cache=False))
    with pytest.raises(DataError, match=r"pack: no column 'labell'; available columns: kind, label"):
        read(tmp_path / "pack", label_column="labell")
    assert read(tmp_path / "pack", labels=False).labels is None


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not a packed folder, but contains 'notes.txt'; choose another folder"):
        pack.pack(path, tmp_path / "mine", How())
    with pytest.raises(UserError, match=r"is a file; choose a folder"):
        pack.pack(path, path, How())
    pack.pack(path, tmp_path / "pack", How())
    with pytest.raises(UserError, match=r"is the source itself"):
        pack.pack(tmp_path / "pack", tmp_path / "pack", How())
    with held(tmp_path / "pack", "busy"), pytest.raises(UserError, match=r"another process is packing into it"):
        pack.pack(path, tmp_path / "pack", How())


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    pack.pack(npz(tmp_path / "a.npz"), tmp_path / "pack", How())
    path = tmp_path / "pack" / "pack.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(DataError, match=r"format 99 is of a later wavefold; update this one"):
        read(tmp_path / "pack")


def test_the_command(tmp_path: Path) -> None:
    path = beats(tmp_path / "train.csv", 60)
    run = [sys.executable, "-m", "wavefold", "pack", str(path), str(tmp_path / "pack")]
    done = subprocess.run([*run, "--workers", "1"], capture_output=True, text=True)
    assert done.stdout == f"{tmp_path / 'pack'}: 60 samples in 1 part, 1.78e-05 GB\n", done.stderr
    again = subprocess.run(run, capture_output=True, text=True)
    assert again.stdout.endswith("; these samples were already there\n")
    wrong = subprocess.run([*run, "--set", "seed=1"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr) == (2, "wavefold: --set: changes a recipe; name one with --recipe\n")
    frames = subprocess.run([*run, "--recipe", "frames"], capture_output=True, text=True)
    assert "frames are not packed" in frames.stderr


def test_repeats_are_found_by_hash_and_told_by_id() -> None:
    ids = np.array(["a", "bb", "a\u00e9", "", "bb", "a"])
    assert np.array_equal(id_hashes(ids), id_hashes(ids.astype("U9")))
    assert first_repeat(id_hashes(ids), lambda at: ids[at]) == (4, 1)
    assert first_repeat(id_hashes(ids[:4]), lambda at: ids[at]) is None
    assert first_repeat(np.zeros(4, np.uint64), lambda at: ids[at]) is None  # four ids of one hash
    many = np.arange(200_000).astype(np.str_)
    assert len(np.unique(id_hashes(many))) == len(many)
