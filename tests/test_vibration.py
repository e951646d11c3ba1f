"""A domain as somebody else's package: examples/vibration works by its entry point alone, as do single parts of others."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from scipy.io import wavfile

from wavefold.core import registry
from wavefold.core.errors import UserError

HERE = Path(__file__).resolve().parents[1]
PACKAGE = HERE / "examples" / "vibration"


def describe(site: Path, name: str, points: dict[str, dict[str, str]]) -> None:
    """Tell `importlib.metadata` of an installed package. points: group -> name -> object."""
    site.mkdir(exist_ok=True)
    info = site / f"{name.replace('-', '_')}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    lines = [line for group, own in points.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in own.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def install(site: Path) -> Path:
    """What `pip install --target site examples/vibration` puts there, by its pyproject.toml."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())
    for source in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        shutil.copytree(PACKAGE / source, site / Path(source).name, ignore=shutil.ignore_patterns("__pycache__"))
    describe(site, project["project"]["name"], project["project"]["entry-points"])
    return site


VERBS = """
    import asyncio, json, sys
    import httpx
    from click.testing import CliRunner
    from wavefold.cli import main

    answers = {}
    for name, words in json.loads(sys.argv[1]).items():
        done = CliRunner().invoke(main, words.split())
        answers[name] = [done.exit_code, done.stdout, done.stderr]

    async def ask(app, name, content):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            sent = {"headers": {"content-type": "application/octet-stream"}, "content": content}
            answer = await client.post(f"/predict?name={name}", **sent)
        return [answer.status_code, answer.text, ""]

    from pathlib import Path
    from wavefold.api import open_run
    from wavefold.serving.app import Limits, new_app
    from wavefold.tasks.samples.serve import served_run

    if Path("run/scores.json").exists():
        served = new_app(served_run(open_run(Path("run")), log=lambda line: None), Limits())
        for path in Path("served").glob("*"):
            answers[f"serve {path.name}"] = asyncio.run(ask(served, path.name, path.read_bytes()))
    Path("answers.json").write_text(json.dumps(answers))
"""


def run(site: Path, verbs: dict[str, str]) -> dict[str, tuple[int, str, str]]:
    """Exit code, output and errors of each command by its name, all in one process that sees `site` and runs beside it.

    If there is a run, its server is also sent each file of the folder `served`: status, text and "".
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(VERBS), json.dumps(verbs)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(HERE / "src")]), "OMP_NUM_THREADS": "1"},
        cwd=site.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: tuple(answer) for name, answer in json.loads((site.parent / "answers.json").read_text()).items()}


def record(folder: Path, table: str = "", **waves: tuple[int, int]) -> Path:
    """A folder of noise in the layout of recordings. waves: sample rate and number of values by name."""
    folder.mkdir()
    rows = [f"{name}.wav,{('inner', 'outer')[k % 2]},m{k}" for k, name in enumerate(waves)]
    (folder / "recordings.csv").write_text(table or "\n".join(["file,fault,machine", *rows]) + "\n")
    for k, (name, (rate, length)) in enumerate(waves.items()):
        values = np.random.default_rng(k).normal(0, 5000, length).astype(np.int16)
        wavfile.write(folder / f"{name}.wav", rate, values)
    return folder


BAD = {
    "length": ["b.wav: has 39 values at 12000 Hz, expected 40 at 12000 Hz as in a.wav"],
    "rate": ["b.wav: has 40 values at 8000 Hz, expected 40 at 12000 Hz as in a.wav"],
    "missing": ["recordings.csv line 3: no file 'c.wav'; expected the name of a .wav file beside recordings.csv"],
    "elsewhere": ["recordings.csv line 2: no file '../length/a.wav'"],
    "column": ["recordings.csv line 1: no column 'fault'", "file, falt, machine", "did you mean 'falt'?"],
    "twice": ["recordings.csv line 3: id 'a' is already in line 2"],
    "stereo": ["b.wav: has int16 values of shape (40, 2), expected a mono 16-bit WAV file"],
    "damaged": ["b.wav: cannot be read", "expected a mono 16-bit WAV file"],
    "empty": ["empty: expected a folder with recordings.csv (file,fault,machine) beside .wav files, or one .wav file"],
    "group": ["no group column 'machine'; available columns: site"],
}


def spoil(folder: Path) -> None:
    """The folders of BAD."""
    two = {"a": (12000, 40), "b": (12000, 40)}
    record(folder / "length", a=(12000, 40), b=(12000, 39))
    record(folder / "rate", a=(12000, 40), b=(8000, 40))
    record(folder / "missing", "file,fault,machine\na.wav,inner,m1\nc.wav,outer,m2\n", **two)
    record(folder / "elsewhere", "file,fault,machine\n../length/a.wav,inner,m1\n", **two)
    record(folder / "column", "file,falt,machine\na.wav,inner,m1\n", **two)
    record(folder / "twice", "file,fault,machine\na.wav,inner,m1\na.wav,outer,m1\n", **two)
    record(folder / "group", "file,fault,site\na.wav,inner,m1\nb.wav,outer,m2\n", **two)
    wavfile.write(record(folder / "stereo", **two) / "b.wav", 12000, np.zeros((40, 2), np.int16))
    (record(folder / "damaged", **two) / "b.wav").write_bytes(b"RIFF, but no more")
    (folder / "empty").mkdir()


PARTS = '''
import numpy as np
import torch
from torch import nn

from wavefold.evaluation.metrics import Metric


class Pooled(nn.Module):
    """The mean and the largest value of each channel, and a line: (N, C, T) to (N, classes)."""

    def __init__(self, channels: int, length: int, classes: int, *, bias: bool = True) -> None:
        super().__init__()
        self.head = nn.Linear(2 * channels, classes, bias=bias)

    def forward(self, signals):
        return self.head(torch.cat([signals.mean(-1), signals.amax(-1)], dim=1))


class Times(nn.Module):
    """A step that multiplies: a transform and its own module."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor

    def fit(self, signals, labels=None):
        return self

    def apply(self, signals):
        return signals * np.float32(self.factor)

    def forward(self, signals):
        return signals * self.factor

    def state(self):
        return {}

    def load(self, state):
        pass

    def module(self):
        return self


class Focal(nn.Module):
    """Cross-entropy that counts sure samples less."""

    def __init__(self, counts: torch.Tensor, *, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, labels, weights=None):
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        return ((1 - torch.exp(-losses)) ** self.gamma * losses).mean()


def wrong(probabilities, labels):
    missed = (probabilities.argmax(axis=1) != labels).astype(np.float64)
    return lambda weights: weights @ missed / weights.sum(axis=1)


ERRORS = Metric("error-rate", wrong, higher_is_better=False)
'''


def install_parts(site: Path) -> None:
    """A package of four single parts, each found by the group of its table."""
    (site / "their_parts.py").write_text(PARTS)
    points = {"models": "pooled = their_parts:Pooled", "transforms": "times = their_parts:Times"}
    points |= {"losses": "focal = their_parts:Focal", "metrics": "error-rate = their_parts:ERRORS"}
    describe(site, "their-parts", {f"wavefold.{kind}": dict([line.split(" = ")]) for kind, line in points.items()})


def with_parts() -> dict[str, str]:
    """The commands of a recipe that names those parts by their short names."""
    changes = ["data.count=120", 'member=[{model="pooled",bias=false}]', 'prepare=[{step="times",factor=3.0}]']
    changes += [
        'stage=[{loss="focal",gamma=1.0,epochs=2,rate=0.01,best="error-rate"}]',
        "output.metric=error-rate",
        "output.baseline=",
    ]
    return {
        "parts train": " ".join(["train heartbeat --quick --out parts", *(f"--set {c}" for c in changes)]),
        "parts score": "score parts parts/simulated --json",
        "parts report": "report parts",
        "parts export": "export parts --out parts.onnx",
        "parts wrong": 'check heartbeat --set member=[{model="pooled",bais=false}]',
        "parts show": 'show heartbeat --model --set member=[{model="pooled"}]',
    }


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[int, str, str]]]:
    """The folder in which every command was run with both packages installed, and what each said."""
    folder = tmp_path_factory.mktemp("vibration")
    site = install(folder / "site")
    install_parts(site)
    spoil(folder)
    (folder / "served").mkdir()
    for name, length in (("some.wav", 512), ("short.wav", 500)):
        wavfile.write(folder / "served" / name, 12000, np.random.default_rng(1).normal(0, 900, length).astype(np.int16))
    simulate = "simulate bearings data --count 120 --set data.shape=[1,512]"
    verbs = {
        "recipes": "recipes",
        "simulate": simulate,
        "again": simulate,
        "check": "check bearings --data data",
        "auto": "check bearings --data data/recordings.csv --set data.layout=auto --set split.group=auto",
        "look": "look data --recipe bearings --out look.html",
        "train": "train bearings --quick --data data --out run --set stage.*.epochs=1 --set member.0.features=168",
        "predict": "predict run data --out faults.csv",
        "predict one": "predict run served/some.wav --out one.csv",
        "score": "score run data --json",
        "report": "report run",
        "export": "export run --out model.onnx",
        "shape": "simulate bearings other --set data.shape=[2,1024]",
        **{f"bad {name}": f"check bearings --data {name}" for name in BAD},
        **with_parts(),
    }
    return folder, run(site, verbs)


def test_the_package_is_small_and_plain():
    files = [f for f in PACKAGE.rglob("*") if f.suffix in (".py", ".toml")]
    lines = [line for f in files for line in f.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) < 150
    assert [f for f in (HERE / "src").rglob("*.py") if "vibration" in f.read_text().lower()] == []


COMMANDS = ("recipes", "simulate", "check", "auto", "look", "train", "predict", "predict one", "score", "report", "export")


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_works_with_the_package_installed(story, verb):
    code, said, error = story[1][verb]
    assert code == 0, said + error


def test_the_commands_say_what_they_did(story):
    folder, answers = story
    assert "bearings     faults of rolling-element bearings" in answers["recipes"][1]
    assert answers["simulate"][1] == "data/recordings.csv: 120 simulated samples\n"
    for way in ("check", "auto"):  # groups by the layout's own column
        assert "120 samples, 1 channel of 512 values" in answers[way][1]
        assert "groups: 12 by machine, none divided by the split" in answers[way][1]
    found = json.loads(answers["score"][1])
    assert (found["metric"], found["n"]) == ("macro-f1", 120)
    rows = list(csv.reader((folder / "faults.csv").read_text().splitlines()))
    assert len(rows) == 121
    assert rows[1][0] == "r0"
    assert len((folder / "one.csv").read_text().splitlines()) == 2
    assert (folder / "model.onnx").stat().st_size > 10_000


def test_recordings_are_read_as_they_were_simulated(story):
    folder = story[0] / "data"
    rate, values = wavfile.read(folder / "r0.wav")
    assert (rate, values.dtype, values.shape) == (12000, np.int16, (512,))
    rows = list(csv.DictReader((folder / "recordings.csv").read_text().splitlines()))
    assert {row["fault"] for row in rows} == {"normal", "inner", "outer", "ball"}
    assert len({row["machine"] for row in rows}) == 12


def test_the_pages_speak_the_words_of_the_field(story):
    look, report = ((story[0] / name).read_text() for name in ("look.html", "run/report.html"))
    assert "<dt>recordings</dt>" in look
    assert "time (s)" in look
    assert "<dt>test recordings</dt>" in report
    assert "by machine in the test part is in the training part" in report


def test_the_server_takes_a_recording(story):
    code, text, _ = story[1]["serve some.wav"]
    assert code == 200, text
    (row,) = json.loads(text)["predictions"]
    assert set(row["probabilities"]) == {"normal", "inner", "outer", "ball"}
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    code, text, _ = story[1]["serve short.wav"]
    assert code == 422
    assert "1 channel of 500 values" in text


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_refused_in_one_line(story, name):
    code, said, error = story[1][f"bad {name}"]
    assert code == 2, said + error
    assert error.count("\n") == 1
    for words in BAD[name]:
        assert words in error


def test_the_simulator_and_the_writer_refuse_in_one_line(story):
    assert story[1]["again"] == (2, "", "wavefold: data/recordings.csv: already exists; choose another folder\n")
    assert story[1]["shape"][2].startswith("wavefold: simulator 'bearings': expected data.shape [1, length]")


def test_single_parts_of_another_package_enter_by_their_groups(story):
    answers = story[1]
    for verb in ("train", "score", "report", "export", "show"):
        assert answers[f"parts {verb}"][0] == 0, answers[f"parts {verb}"]
    found = json.loads(answers["parts score"][1])
    assert found["metric"] == "error-rate"
    assert found["value"] == pytest.approx(1 - found["others"]["accuracy"])
    assert answers["parts wrong"][0] == 2
    assert "bais: no such option; did you mean 'bias'?" in answers["parts wrong"][2]


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder of installed packages that this process sees, and forgets again."""
    monkeypatch.syspath_prepend(tmp_path)
    registry.installed_domains.cache_clear()
    yield tmp_path
    registry.installed_domains.cache_clear()
    for name in [n for n in sys.modules if n.partition(".")[0] in ("wavefold_vibration", "theirs")]:
        del sys.modules[name]


def test_two_packages_with_one_name_are_refused_in_one_line(site):
    install(site)
    (site / "theirs.py").write_text(
        "from wavefold.domains.base import Domain\n"
        "from wavefold_vibration import DOMAIN as OTHER\n"
        "DOMAIN = Domain(name='theirs', layouts={'bearings': OTHER.layouts['bearings']})\n"
    )
    describe(site, "wavefold-theirs", {"wavefold.domains": {"theirs": "theirs:DOMAIN"}})
    refused = "layouts 'bearings' of domain 'vibration': another package has one of that name; uninstall one of the two"
    with pytest.raises(UserError, match=refused):
        len(registry.Table("layouts"))


def test_two_packages_with_a_domain_of_one_name_are_refused(site):
    install(site)
    describe(site, "wavefold-theirs", {"wavefold.domains": {"vibration": "wavefold_vibration.simulate:MACHINES"}})
    with pytest.raises(UserError, match=r"domain 'vibration' of package wavefold-.*: another package has one of that name"):
        registry.installed_domains()


def test_a_part_with_the_name_of_ours_and_a_broken_package_are_refused(site):
    describe(site, "theirs", {"wavefold.losses": {"l1": "math:sqrt"}, "wavefold.metrics": {"new": "no_such_module:NEW"}})
    with pytest.raises(UserError, match="losses 'l1' of package theirs: another package has one of that name"):
        len(registry.Table("losses", {"l1": abs}))
    with pytest.raises(UserError, match=r"'new' of package theirs cannot be loaded \(No module named 'no_such_module'\)"):
        len(registry.Table("metrics"))
