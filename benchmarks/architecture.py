"""How the source tree stands: lines by package, files that one heartbeat CSV passes, import times.

    python benchmarks/architecture.py

A file counts as passed where a function of it is called, in the process of the command, while the command runs; what is
only imported does not count. Import times are medians of nine fresh interpreters.
"""

from __future__ import annotations

import importlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from click.testing import CliRunner

import wavefold

ROOT = Path(wavefold.__file__).parent


def lines_by_package() -> dict[str, int]:
    """Lines of Python by the first folder, or file, below the package."""
    counts: dict[str, int] = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).parts[0]
        counts[name] = counts.get(name, 0) + len(path.read_text().splitlines())
    return counts


def passed(*words: str) -> set[str]:
    """The files of the package with a function that a command calls."""
    from wavefold.cli import main  # noqa: PLC0415

    importlib.import_module("wavefold.api")
    files: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(str(ROOT)) and frame.f_code.co_name != "<module>":
            files.add(str(Path(name).relative_to(ROOT)))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        result = CliRunner().invoke(main, words)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return files


def seconds(code: str) -> float:
    """Median seconds of nine fresh interpreters that run a line of code, less an empty one's."""
    times = []
    for _ in range(9):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        middle = time.perf_counter()
        subprocess.run([sys.executable, "-c", ""], check=True)
        times.append(middle - begun - (time.perf_counter() - middle))
    return statistics.median(times)


def main() -> None:
    """Print the three tables."""
    counts = lines_by_package()
    print("\n".join(f"{name:24} {count:7,}" for name, count in counts.items()), f"\n{'all':24} {sum(counts.values()):7,}")
    with tempfile.TemporaryDirectory() as folder:
        data, run = f"{folder}/beats", f"{folder}/run"
        passed("simulate", "heartbeat", data, "--count", "300", "--seed", "1")
        train = passed("train", "heartbeat", "--data", f"{data}/train.csv", "--out", run, "--quick")
        predict = passed("predict", run, f"{data}/train.csv", "--out", f"{folder}/answers.csv")
    print(f"files passed: train {len(train)}, predict {len(predict)}")
    starts = {"import wavefold": "import wavefold", "wavefold --help": "from wavefold.cli import main; main(['--help'])"}
    for name, code in starts.items():
        print(f"{name:24} {seconds(code):7.3f} s")


if __name__ == "__main__":
    main()
