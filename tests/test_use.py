"""Every block of docs/use.md, docs/scale.md and docs/recipes.md runs, one after another in one folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run_blocks(page: str, folder: Path) -> None:
    """Run the sh and python blocks of a page in their order; a failing block is shown with its output."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    text = (ROOT / "docs" / page).read_text()
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```", text, re.S | re.M):
        command = ["bash", "-euo", "pipefail", "-c", block] if language == "sh" else [sys.executable, "-c", block]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_the_blocks_on_use_run_in_their_order(tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not here, which docs/use.md calls")
    run_blocks("use.md", tmp_path)
    assert (tmp_path / "look.html").stat().st_size > 1 << 20
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_the_blocks_on_recipes_run_in_their_order(tmp_path):
    run_blocks("recipes.md", tmp_path)
    assert (tmp_path / "needles.csv").read_text().startswith("id,target\n")
    assert (tmp_path / "next.gif").exists()


@pytest.mark.slow
def test_the_blocks_on_scale_run_in_their_order(tmp_path):
    pytest.importorskip("distributed", reason="distributed is not installed: pip install 'wavefold[cluster]'")
    pytest.importorskip("optuna", reason="optuna is not installed: pip install 'wavefold[tune]'")
    run_blocks("scale.md", tmp_path)
    assert (tmp_path / "side" / "scores.json").exists()
    assert (tmp_path / "apart" / "scores.json").exists()
    assert (tmp_path / "submission.csv").read_text().startswith("id,label_0")
    assert len((tmp_path / "many.csv").read_text().splitlines()) == 25_001
    assert (tmp_path / "best" / "scores.json").exists()
