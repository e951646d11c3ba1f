"""Every block of docs/use.md runs, one after another in one folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[1]


def test_the_blocks_on_use_run_in_their_order(tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not here, which docs/use.md calls")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    text = (HOUSE / "docs" / "use.md").read_text()
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```", text, re.S | re.M):
        command = ["bash", "-euo", "pipefail", "-c", block] if language == "sh" else [sys.executable, "-c", block]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "look.html").stat().st_size > 1 << 20
    assert (tmp_path / "run" / "report.html").exists()
