"""Units of a training: fitted one by one or on a Dask cluster they give the same bits; what goes wrong there is one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from wavefold import api
from wavefold.cli import main
from wavefold.cluster.worker import Order, problem_of
from wavefold.core.errors import UserError
from wavefold.core.run import RunFolder, lock_folder, lock_unit
from wavefold.core.version import __version__

pytest.importorskip("distributed", reason="distributed is not installed: pip install 'wavefold[cluster]'")

SAMPLES = [
    'member=[{model="lstm",width=16},{model="logistic"}]',
    'prepare=[{step="standardise"},{step="smote"},{step="noise"}]',
    "split.way=kfold",
    "split.folds=2",
    "split.validation=0.2",
    "stage.*.epochs=20",
    "batches.size=16",
    "batches.save_every=0.1",
    "output.baseline=logistic",
]
FRAMES = [
    'member=[{model="roll_out",hidden=4,depth=1},{model="simvp",width=4,hidden=8,depth=1,kernel=9}]',
    'prepare=[{step="standardise"},{step="mirror"}]',
    "windows={past=4,ahead=2,crop=[8,8],anywhere=true}",
    "stage.*.epochs=1",
    "output.pictures=false",
]


def words(recipe: str, data: Path, out: Path, *more: str) -> list[str]:
    settings = FRAMES if recipe == "frames" else SAMPLES
    return ["train", recipe, "--data", str(data), "--out", str(out), *more, *(w for s in settings for w in ("--set", s))]


def results(run: Path) -> dict[str, bytes]:
    """The bytes of everything that a run learned and said."""
    names = sorted(p.relative_to(run) for p in run.rglob("*") if p.suffix in (".safetensors", ".npz", ".npy", ".csv", ".jsonl"))
    scores = json.loads((run / "scores.json").read_text())
    said = json.dumps({key: value for key, value in scores.items() if key != "seconds"}).encode()
    return {**{str(name): (run / name).read_bytes() for name in names}, "scores": said}


def run_here(*said: str) -> str:
    done = CliRunner().invoke(main, ["--debug", *said])
    assert done.exception is None, done.exception
    return done.stdout


@pytest.fixture(scope="module")
def sources(contest_csv_of: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data of each recipe."""
    beats = contest_csv_of(tmp_path_factory.mktemp("beats"), 200, 40)
    frames = tmp_path_factory.mktemp("frames") / "frames.npy"
    np.save(frames, np.random.default_rng(0).normal(size=(40, 16, 16)).cumsum(axis=0).astype(np.float32))
    return {"heartbeat": beats, "frames": frames}


@pytest.fixture(scope="module")
def in_turn(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    """What the training in turn gives, by recipe."""
    made: dict[str, dict[str, bytes]] = {}

    def of(recipe: str) -> dict[str, bytes]:
        if recipe not in made:
            run = tmp_path_factory.mktemp("turn") / "run"
            run_here(*words(recipe, sources[recipe], run))
            made[recipe] = results(run)
        return made[recipe]

    return of


@pytest.mark.parametrize("recipe", ["heartbeat", "frames"])
def test_units_fitted_one_by_one_give_the_same_bits(sources, in_turn, tmp_path, recipe):
    data, run = sources[recipe], tmp_path / "run"
    said = run_here(*words(recipe, data, run, "--prepare"))
    names = [line.split() for line in run_here("unit", str(run)).splitlines()]
    count = {"heartbeat": 6, "frames": 2}[recipe]
    assert f"{count} units to fit, each by `wavefold unit {run} NUMBER`, from 0 to {count - 1}" in said
    assert {tuple(line[2:]) for line in names} == {("to", "do")}
    assert names[0][:2] == ["0", "fold0/member0"]
    assert not (run / "scores.json").exists()
    before = (run / "fold0" / "prepare.npz").stat().st_mtime_ns
    for number, name, *_ in reversed(names):  # in any order, by name or number
        run_here("unit", str(run), name if int(number) % 2 else number)
    assert "is fitted already" in run_here("unit", str(run), "0")
    assert {line.split()[2] for line in run_here("unit", str(run)).splitlines()} == {"done"}
    assert (run / "fold0" / "prepare.npz").stat().st_mtime_ns == before
    run_here(*words(recipe, data, run))
    assert results(run) == in_turn(recipe)


def test_a_unit_that_is_not_there_or_is_being_fitted_is_refused(sources, tmp_path):
    run = tmp_path / "run"
    run_here(*words("heartbeat", sources["heartbeat"], run, "--prepare"))
    opened = api.open_run(run)
    assert api.units(opened)[2].name == "fold0/baseline-logistic"
    with pytest.raises(UserError, match=r"unit 'fold0/membr1': not in this run; expected 0 to 5, or .* 'fold0/member1'\?"):
        api.fit(opened, "fold0/membr1")
    with pytest.raises(UserError, match="unit '6': not in this run; expected 0 to 5"):
        api.fit(opened, "6")
    other = tmp_path / "other.csv"
    other.write_text("".join(sources["heartbeat"].read_text().splitlines(keepends=True)[:150]))
    with pytest.raises(UserError, match="other data than those that"):
        api.fit(opened, "1", data=str(other))
    folder = run / "fold0" / "1-logistic"
    with lock_unit(folder):
        with pytest.raises(UserError, match="another process is fitting here"):
            api.fit(opened, "1")
        with pytest.raises(UserError, match="another process is fitting here"), lock_folder(run, fresh=True):
            pass
    assert (run / "run.json").exists()


def workers_of(leader: int) -> list[int]:
    """The worker processes of a leader, by id."""
    psutil = pytest.importorskip("psutil")  # of distributed
    children = psutil.Process(leader).children()
    return [c.pid for c in children if c.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(c.cmdline())]


@contextmanager
def started(*said: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    """A command in a process group of its own, all of which is gone at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", *said],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    try:
        yield process
    finally:
        with_group = subprocess.run(["ps", "-o", "pid=", "-g", str(process.pid)], capture_output=True, text=True).stdout
        if with_group.strip():
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until and not happened():
        time.sleep(0.01)


def test_with_a_worker_killed_in_a_fold_the_bits_are_the_same(sources, in_turn, tmp_path):
    run = tmp_path / "run"
    with started("wavefold.cli", *words("heartbeat", sources["heartbeat"], run, "--cluster", "local:2")) as leader:
        wait_for(lambda: list(run.glob("fold*/*/state.pt")), leader)
        for worker in workers_of(leader.pid)[:1]:
            os.kill(worker, signal.SIGKILL)
            assert list(run.glob("fold*/*/state.pt")), "the fold was over before a worker could be killed"
        _, errors = leader.communicate(timeout=240)
    assert leader.returncode == 0, errors
    assert {line for line in errors.splitlines() if not line.startswith("training ")} == set()
    assert results(run) == in_turn("heartbeat")
    assert not list(run.rglob(".*.part"))


def test_stopped_by_ctrl_c_the_workers_have_saved_their_states(sources, in_turn, tmp_path):
    run = tmp_path / "run"
    said = words("heartbeat", sources["heartbeat"], run)
    with started("wavefold.cli", *said, "--cluster", "local:2") as leader:
        wait_for(lambda: list(run.glob("fold*/*/state.pt")), leader)
        os.killpg(leader.pid, signal.SIGINT)  # to all processes of the terminal
        _, errors = leader.communicate(timeout=120)
    assert leader.returncode == 130, errors
    lines = [line for line in errors.splitlines() if not line.startswith("training ")]
    assert lines == ["wavefold: stopped, and the state is saved; run the same command again to resume"]
    assert list(run.glob("fold*/*/state.pt"))
    assert not (run / "scores.json").exists()
    assert not list(run.rglob(".*.part"))
    run_here(*said)
    assert results(run) == in_turn("heartbeat")


def test_frames_on_a_cluster(sources, in_turn, tmp_path):
    run = tmp_path / "run"
    with started("wavefold.cli", *words("frames", sources["frames"], run, "--cluster", "local:2")) as leader:
        _, errors = leader.communicate(timeout=240)
    assert leader.returncode == 0, errors
    assert results(run) == in_turn("frames")


# Faults


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("local:0", "--cluster local:0: expected a number of processes, such as local:4"),
        ("four", "--cluster four: expected local:4, tcp://host:8786, tls://host:8786 or a scheduler's .json file"),
        ("none.json", "none.json: No such file or directory; `dask scheduler --scheduler-file none.json` writes it"),
        ("bad.json", "bad.json: names no scheduler; `dask scheduler --scheduler-file bad.json` writes it anew"),
        ("tcp://127.0.0.1:9", "tcp://127.0.0.1:9: no Dask scheduler answers there (Timed out"),
    ],
)
def test_a_cluster_that_is_not_there(sources, tmp_path, monkeypatch, name, line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wavefold.cluster.client._ANSWER", 0.5)
    (tmp_path / "bad.json").write_text("[]")
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError) as caught:
        api.train("heartbeat", sources["heartbeat"], out=tmp_path / "run", fresh=True, cluster=name)
    assert str(caught.value).startswith(line)
    assert not list((tmp_path / "run").iterdir())


def test_a_worker_looks_before_it_fits(sources, tmp_path):
    run = tmp_path / "run"
    run_here(*words("heartbeat", sources["heartbeat"], run, "--prepare"))
    identity = RunFolder(run).metadata.identity
    order = Order(
        str(run), str(sources["heartbeat"]), True, __version__, identity.recipe, identity.data, {"torch": 1}, "leader-1"
    )
    assert problem_of(order).startswith(f"does not see the run's folder {run}; it must be on a disk that all share")
    order.mark.touch()
    assert problem_of(order) == ""
    assert problem_of(replace(order, version="9")).startswith(f"has wavefold {__version__} instead of 9; install")
    assert problem_of(replace(order, source="/none")).startswith("does not see the data /none; they must be")
    assert problem_of(replace(order, data="x")).startswith(f"sees another run in {run}")
    if os.geteuid():  # root may write everywhere
        run.chmod(0o500)
        assert problem_of(order).startswith(f"cannot write into {run}")
        run.chmod(0o700)
