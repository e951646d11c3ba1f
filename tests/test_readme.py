"""The shell blocks of the README and the Python blocks of docs/add.md run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


def test_set_up_commands_are_targets_of_make():
    setup = blocks(README, "sh")[0]
    for line in setup.splitlines():
        target = line.split()[1]
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_the_shell_blocks_run_in_a_fresh_folder(tmp_path):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for block in blocks(README, "sh")[1:]:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    for block in blocks(README, "python"):  # on the run of the shell's example
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        assert (tmp_path / "run" / "report.html").exists()
    assert (tmp_path / "submission.csv").read_text().startswith("id,label_0,label_1,label_2,label_3\n")


@pytest.mark.parametrize("block", blocks((ROOT / "docs" / "add.md").read_text(), "python"))
def test_the_python_blocks_run(block, monkeypatch):
    from wavefold import models  # noqa: PLC0415

    monkeypatch.setattr(models, "MODELS", dict(models.MODELS))
    names: dict[str, object] = {}
    exec(block, names)
