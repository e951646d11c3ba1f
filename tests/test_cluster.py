"""Units of a training: fitted one by one or on a Dask cluster they give the same bits; what goes wrong there is one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
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
from wavefold.recipe import parse_override

distributed = pytest.importorskip("distributed", reason="distributed is not installed: pip install 'wavefold[cluster]'")

SAMPLES = [
    'member=[{model="lstm",width=8}]',
    'prepare=[{step="standardise"},{step="smote"},{step="noise"}]',
    "split.way=kfold",
    "split.folds=2",
    "split.validation=0.2",
    "stage.*.epochs=10",
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
    count = {"heartbeat": 4, "frames": 2}[recipe]
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
    assert api.units(opened)[1].name == "fold0/baseline-logistic"
    with pytest.raises(UserError, match=r"unit 'fold1/membr0': not in this run; expected 0 to 3, or .* 'fold1/member0'\?"):
        api.fit(opened, "fold1/membr0")
    with pytest.raises(UserError, match="unit '4': not in this run; expected 0 to 3"):
        api.fit(opened, "4")
    other = tmp_path / "other.csv"
    other.write_text("".join(sources["heartbeat"].read_text().splitlines(keepends=True)[:150]))
    with pytest.raises(UserError, match="other data than those that"):
        api.fit(opened, "1", data=str(other))
    folder = run / "fold0" / "baseline-logistic"
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
    with started("wavefold", *words("heartbeat", sources["heartbeat"], run, "--cluster", "local:2")) as leader:
        wait_for(lambda: list(run.glob("fold*/*/state.pt")), leader)
        for worker in workers_of(leader.pid)[:1]:
            os.kill(worker, signal.SIGKILL)
            assert list(run.glob("fold*/*/state.pt")), "the fold was over before a worker could be killed"
        _, errors = leader.communicate(timeout=240)
    assert leader.returncode == 0, errors
    ours = [line for line in errors.splitlines() if " - distributed." not in line]  # Dask may say that it restarts a worker
    assert [line for line in ours if not line.startswith("training ")] == [], errors
    assert results(run) == in_turn("heartbeat")
    assert not list(run.rglob(".*.part"))


@pytest.mark.slow
def test_stopped_by_ctrl_c_the_workers_have_saved_their_states(sources, in_turn, tmp_path):
    run = tmp_path / "run"
    said = words("heartbeat", sources["heartbeat"], run)
    with started("wavefold", *said, "--cluster", "local:2") as leader:
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
    monkeypatch.setattr("wavefold.cluster.connection._ANSWER", 0.5)
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


# Faults on workers of somebody's own scheduler


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file of a scheduler that runs."""
    file = tmp_path_factory.mktemp("scheduler") / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    with started("distributed.cli.dask_scheduler", *options) as process:
        wait_for(file.exists, process)
        yield file


@contextmanager
def worker(scheduler: Path, folder: Path, *options: str, **changes: str) -> Iterator[None]:
    """A worker in a folder of its own. changes: of its environment."""
    folder.mkdir()
    words = ["--scheduler-file", str(scheduler), "--no-nanny", "--no-dashboard", "--nthreads", "1", *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    path = os.pathsep.join([str(Path(api.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, **changes}
    command = [sys.executable, "-m", "distributed.cli.dask_worker", *words]
    process = subprocess.Popen(command, cwd=folder, env=environment, **quiet)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def refused(scheduler: Path, run: Path, data: Path) -> str:
    """The one line with which a training on a scheduler's workers ends."""
    with pytest.raises(UserError) as caught:
        api.train("heartbeat", data, out=run, cluster=str(scheduler), overrides=overrides(), log=lambda line: None)
    return str(caught.value)


def overrides() -> Mapping[str, object]:
    return dict(parse_override(setting) for setting in SAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "line"), [("none", "has no wavefold; install it there"), ("other", "has wavefold 9 instead of")]
)
def test_a_worker_without_wavefold_or_with_another_version_is_named(scheduler, sources, tmp_path, case, line):
    package = tmp_path / "path" / "wavefold"
    (package / "core").mkdir(parents=True)
    (package / "__init__.py").write_text("" if case == "other" else "raise ImportError('no module named wavefold')")
    (package / "core" / "__init__.py").write_text("")
    (package / "core" / "version.py").write_text("__version__ = '9'")
    with worker(scheduler, tmp_path / "there", PYTHONPATH=str(package.parent)):
        said = refused(scheduler, tmp_path / "run", sources["heartbeat"])
    assert said.startswith("worker tcp://127.0.0.1:")
    assert line in said
    assert (tmp_path / "run" / "fold0").exists() is False


@pytest.mark.slow
def test_a_worker_of_several_threads_is_named(scheduler, sources, tmp_path):
    with worker(scheduler, tmp_path / "there", "--nthreads", "3"):
        said = refused(scheduler, tmp_path / "run", sources["heartbeat"])
    assert said.endswith("has 3 threads, but fits one unit at a time; start it with --nthreads 1")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="there is no path here that each process sees otherwise")
def test_a_folder_that_a_worker_does_not_see_is_named(scheduler, sources, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with worker(scheduler, tmp_path / "there"):
        said = refused(scheduler, Path("/proc/self/cwd/run"), sources["heartbeat"])  # the worker has another current folder
    assert "does not see the run's folder /proc/self/cwd/run; it must be on a disk that all share" in said


@pytest.mark.slow
def test_a_worker_whose_disk_is_full_leaves_its_units_to_another(scheduler, sources, in_turn, tmp_path):
    full = tmp_path / "full.py"
    full.write_text("import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n")
    run = tmp_path / "run"
    with worker(scheduler, tmp_path / "one", "--preload", str(full)):
        said = refused(scheduler, run, sources["heartbeat"])
        assert said.startswith("worker tcp://127.0.0.1:")
        assert f": {run}/fold" in said
        assert said.endswith(": File too large; mend this, then repeat the same command to resume")
        assert not list(run.rglob("*.part"))
        with worker(scheduler, tmp_path / "two"):
            with distributed.Client(scheduler_file=str(scheduler), set_as_default=False) as client:
                client.wait_for_workers(2, timeout=60)
            api.train("heartbeat", sources["heartbeat"], out=run, cluster=str(scheduler), overrides=overrides(), log=print)
    assert results(run) == in_turn("heartbeat")


@pytest.mark.slow
def test_frames_are_trained_on_a_schedulers_worker(scheduler, sources, in_turn, tmp_path):
    with worker(scheduler, tmp_path / "there"):
        run_here(*words("frames", sources["frames"], tmp_path / "run", "--cluster", str(scheduler)))
    assert results(tmp_path / "run") == in_turn("frames")
