"""Prediction in parts gives the file that prediction at once gives, to the byte, and goes on after a kill."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from test_text_parts import contest_lines, write
from wavefold import api
from wavefold.core.errors import DataError, UserError
from wavefold.data import parquet, read_samples
from wavefold.tasks.base import recipe_of
from wavefold.tasks.multilabel import LabelPredictions
from wavefold.tasks.samples import parts
from wavefold.tasks.samples.predicted_numbers import NumberPredictions
from wavefold.tasks.samples.predictions import Predictions, write_joined, write_predictions

ROWS = 10_000
SETTINGS = {"member": [{"model": "net1"}], "stage.*.epochs": 1, "output.baseline": "", "data.limit": 900}


def quiet(line: str) -> None:
    """Receives notes that a test does not look at."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    folder = tmp_path_factory.mktemp("run")
    path = write(folder / "train.csv", contest_lines(1000))
    return api.train("heartbeat", path, out=folder / "run", overrides=SETTINGS, log=quiet)


@pytest.fixture
def _in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_samples, "LARGE_TEXT", 0)
    monkeypatch.setattr(parts, "PART", 0)  # parts of one block, 4,096 rows


def at_once(run: api.Run, source: Path, out: Path, **how: bool) -> bytes:
    run.predict(source, out, warn=quiet, **how)
    return out.read_bytes()


@pytest.mark.usefixtures("_in_parts")
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz"])
def test_the_file_is_the_same_to_the_byte(run: api.Run, tmp_path: Path, suffix: str, name: str) -> None:
    source = write(tmp_path / name, contest_lines())
    assert run.predict_file(source, tmp_path / f"b{suffix}") == ROWS
    assert (tmp_path / f"b{suffix}").read_bytes() == at_once(run, source, tmp_path / f"a{suffix}")
    assert sorted(f.name for f in tmp_path.iterdir()) == sorted([name, f"a{suffix}", f"b{suffix}"])


@pytest.mark.usefixtures("_in_parts")
def test_a_source_that_is_no_text_is_predicted_by_rows(run: api.Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", signals=rng.random((ROWS, 40)), ids=np.arange(ROWS))
    assert run.predict_file(tmp_path / "a.npz", tmp_path / "b.csv") == ROWS
    assert (tmp_path / "b.csv").read_bytes() == at_once(run, tmp_path / "a.npz", tmp_path / "c.csv")


@pytest.mark.usefixtures("_in_parts")
@pytest.mark.parametrize("form", ["columns", "lists"])
def test_parquet_is_predicted_by_rows(run: api.Run, tmp_path: Path, form: str) -> None:
    arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    signals, ids = np.random.default_rng(0).random((ROWS, 40), np.float32), np.arange(ROWS)
    np.savez(tmp_path / "a.npz", signals=signals, ids=ids)
    columns = {"signals": signals.tolist()} if form == "lists" else {f"t{k}": signals[:, k] for k in range(40)}
    tables.write_table(arrow.table({"id": ids, **columns}), tmp_path / "a.parquet", row_group_size=3000)
    assert run.predict_file(tmp_path / "a.parquet", tmp_path / "b.csv") == ROWS
    assert (tmp_path / "b.csv").read_bytes() == at_once(run, tmp_path / "a.npz", tmp_path / "c.csv")


def test_a_small_source_is_predicted_at_once(run: api.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_folder", lambda out: pytest.fail("parts for a small source"))
    source = write(tmp_path / "a.csv", contest_lines(99))
    assert run.predict_file(source, tmp_path / "b.csv") == 99
    assert (tmp_path / "b.csv").read_bytes() == at_once(run, source, tmp_path / "c.csv")
    assert parts.plan_parts(run, recipe_of(run), str(source), tmp_path / "parts") is None


@pytest.mark.usefixtures("_in_parts")
def test_bad_rows_are_left_out_alike(run: api.Run, tmp_path: Path) -> None:
    lines = contest_lines()
    lines[4500], lines[4502], lines[9000] = lines[4500].replace(",", ",x", 1), lines[4502].replace('"', '"x', 1), "b,,"
    source = write(tmp_path / "a.csv", lines)
    told: dict[str, list[str]] = {"whole": [], "parts": []}
    run.predict(source, tmp_path / "a.out.csv", skip_bad=True, warn=told["whole"].append)
    assert run.predict_file(source, tmp_path / "b.out.csv", skip_bad=True, warn=told["parts"].append) == ROWS - 3
    assert told["parts"] == told["whole"]
    assert (tmp_path / "a.out.csv").read_bytes() == (tmp_path / "b.out.csv").read_bytes()
    with pytest.raises(DataError) as whole:
        run.predict(source, tmp_path / "c.csv")
    with pytest.raises(DataError) as part:
        run.predict_file(source, tmp_path / "c.csv")
    assert str(part.value) == str(whole.value)
    assert not (tmp_path / "c.csv").exists()
    assert not (tmp_path / "c.csv.parts").exists()
    few = write(tmp_path / "few.csv", [*contest_lines(2), *(f"c{i},," for i in range(5000))])  # all of the second part are bad
    assert run.predict_file(few, tmp_path / "d.csv", skip_bad=True, warn=quiet) == 2
    assert (tmp_path / "d.csv").read_bytes() == at_once(run, few, tmp_path / "e.csv", skip_bad=True)


@pytest.mark.usefixtures("_in_parts")
def test_an_id_that_is_there_twice_is_refused_alike(run: api.Run, tmp_path: Path) -> None:
    lines = contest_lines()
    source = write(tmp_path / "a.csv", [*lines, lines[5]])
    with pytest.raises(DataError) as whole:
        run.predict(source, tmp_path / "b.csv")
    with pytest.raises(DataError) as part:
        run.predict_file(source, tmp_path / "b.csv")
    assert str(part.value) == str(whole.value) == f"a.csv line {ROWS + 2}: id 'b4' is already in line 6"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.csv"]


KILLED = """
import os, signal, sys
from pathlib import Path
from wavefold import api
from wavefold.data import read_samples
from wavefold.tasks.samples import parts
read_samples.LARGE_TEXT = parts.PART = 0
write, left = parts.write_json, [int(sys.argv[4])]
def stop(path, value):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, value)
parts.write_json = stop
api.open_run(sys.argv[1]).predict_file(sys.argv[2], sys.argv[3])
"""


@pytest.mark.usefixtures("_in_parts")
def test_a_killed_call_goes_on(run: api.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = write(tmp_path / "a.csv", contest_lines()), tmp_path / "b.csv"
    command = [sys.executable, "-c", KILLED, str(run.folder), str(source), str(out), "2"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert not out.exists()
    (tmp_path / "b.csv.parts" / "00000.json").read_bytes()
    made: list[int] = []
    write_part = parts._write
    monkeypatch.setattr(parts, "_write", lambda *a: (made.append(a[1]), write_part(*a)))
    run.predict_file(source, out)
    assert made == [1, 2]
    assert out.read_bytes() == at_once(run, source, tmp_path / "c.csv")


@pytest.mark.usefixtures("_in_parts")
def test_parts_by_themselves_as_other_processes_predict_them(
    run: api.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder, recipe = write(tmp_path / "a.csv", contest_lines()), tmp_path / "parts", recipe_of(run)
    plan = parts.plan_parts(run, recipe, str(source), folder)
    assert plan is not None
    assert (plan.count, plan.rows) == (3, ROWS)
    with pytest.raises(UserError, match=r"00000.json: is missing or damaged; repeat the command"):
        parts.join_parts(run, recipe, str(source), folder, str(tmp_path / "b.csv"), warn=quiet)
    for number in (2, 0, 1, 0):
        parts.predict_part(run, recipe, str(source), folder, number)
    before = (folder / "00001.npz").read_bytes()
    monkeypatch.setattr(parts, "_write", lambda *a: pytest.fail("a part that is there is predicted again"))
    parts.predict_part(run, recipe, str(source), folder, 1)
    assert parts.plan_parts(run, recipe, str(source), folder) == plan
    monkeypatch.undo()
    monkeypatch.setattr(read_samples, "LARGE_TEXT", 0)
    monkeypatch.setattr(parts, "PART", 0)
    (folder / "00001.npz").write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(UserError, match=r"00001.npz: is missing or damaged; repeat the command"):
        parts.join_parts(run, recipe, str(source), folder, str(tmp_path / "b.csv"), warn=quiet)
    parts.predict_part(run, recipe, str(source), folder, 1)
    assert (folder / "00001.npz").read_bytes() == before
    assert parts.join_parts(run, recipe, str(source), folder, str(tmp_path / "b.csv"), warn=quiet) == ROWS
    assert (tmp_path / "b.csv").read_bytes() == at_once(run, source, tmp_path / "c.csv")


@pytest.mark.usefixtures("_in_parts")
def test_parts_of_another_source_are_not_joined(run: api.Run, tmp_path: Path) -> None:
    lines, folder, recipe = contest_lines(), tmp_path / "parts", recipe_of(run)
    source = write(tmp_path / "a.csv", lines)
    parts.plan_parts(run, recipe, str(source), folder)
    parts.predict_part(run, recipe, str(source), folder, 0)
    write(source, lines[:-1])
    with pytest.raises(UserError, match=r"was planned for another .*a\.csv; repeat the command that planned it"):
        parts.predict_part(run, recipe, str(source), folder, 1)
    parts.plan_parts(run, recipe, str(source), folder)
    assert [f.name for f in folder.iterdir()] == ["plan.json"]
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"holds no plan of a prediction"):
        parts.predict_part(run, recipe, str(source), folder, 1)


@pytest.mark.usefixtures("_in_parts")
def test_the_folder_of_parts_is_nobody_else_s(run: api.Run, tmp_path: Path) -> None:
    source, out = write(tmp_path / "a.csv", contest_lines()), tmp_path / "b.csv"
    folder = tmp_path / "b.csv.parts"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"b\.csv\.parts: contains 'mine.txt'"):
        run.predict_file(source, out)
    assert (folder / "mine.txt").read_text() == "mine"
    (folder / "mine.txt").unlink()
    with parts._folder(str(out)), pytest.raises(UserError, match=r"another process is predicting into it"):
        run.predict_file(source, out)


def test_standard_output(run: api.Run, tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", contest_lines())
    script = (
        "from wavefold import api; from wavefold.data import read_samples; from wavefold.tasks.samples import parts; "
        f"read_samples.LARGE_TEXT = parts.PART = 0; api.open_run({str(run.folder)!r}).predict_file({str(source)!r}, '-')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert done.stdout == at_once(run, source, tmp_path / "b.csv"), done.stderr
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.csv", "b.csv"]


def test_the_command_says_how_many(run: api.Run, tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", contest_lines(9))
    command = [sys.executable, "-m", "wavefold", "predict", str(run.folder), str(source), "--out", str(tmp_path / "b.csv")]
    assert subprocess.run(command, capture_output=True, text=True).stdout == f"{tmp_path / 'b.csv'}: 9 predictions\n"


def cut(whole: Predictions, at: Sequence[int]) -> Callable[[], Iterator[Predictions]]:
    """A table of predictions in parts, as they are read back."""
    integral = whole.whole_numbers()

    def pieces() -> Iterator[Predictions]:
        for start, end in zip([0, *at], [*at, len(whole)], strict=True):
            rows = slice(start, end)
            yield type(whole)(
                whole.ids[rows], whole.classes, whole.probabilities[rows], whole.decided[rows], whole.submission, integral
            )

    return pieces


def table(kind: type[Predictions], submission: str = "labels", rows: int = 40) -> Predictions:
    """Numbers that are whole in some parts and not in others, negative zeros, and numbers that eight digits round."""
    rng = np.random.default_rng(0)
    ids, width = np.array([f"s{i}" for i in range(rows)]), 2 * kind.per_name
    values = rng.random((rows, width))
    values[: rows // 2] = rng.integers(0, 2, (rows // 2, width))
    values[3], values[:, 1] = -0.0, 123_456_789.0
    return kind(ids, ("p", "q"), values, values.copy(), submission)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
@pytest.mark.parametrize("kind", [Predictions, NumberPredictions, LabelPredictions])
@pytest.mark.parametrize("submission", ["labels", "types", "target"])
def test_joined_is_whole(tmp_path: Path, kind: type[Predictions], submission: str, suffix: str) -> None:
    whole = table(kind, submission)
    write_predictions(tmp_path / f"a{suffix}", whole)
    write_joined(tmp_path / f"b{suffix}", cut(whole, [0, 7, 20, 20]))
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("rows", [2_097_152, 1_100_001])
def test_row_groups_are_those_of_a_whole_table(tmp_path: Path, rows: int) -> None:
    columns = {"id": np.arange(rows).astype(np.str_), "p": np.random.default_rng(0).random(rows)}
    pieces = ({name: column[start : start + 300_000] for name, column in columns.items()} for start in range(0, rows, 300_000))
    with open(tmp_path / "a.parquet", "wb") as stream:
        parquet.write_parquet(stream, pieces)
    assert (tmp_path / "a.parquet").read_bytes() == parquet.parquet_bytes(columns)


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    out = tmp_path / "missing" / "a.csv"
    (tmp_path / "missing").write_text("a file")  # in the place of its folder
    with pytest.raises(UserError, match=r"a\.csv: could not be written: File exists; no partial file was left"):
        write_joined(out, cut(table(Predictions), [9]))
