"""The ONNX file that a run is served by, kept in its folder, so that only the first start has to write it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import wavefold
from wavefold.base.device import processor_threads
from wavefold.base.errors import UserError
from wavefold.base.runs import Run
from wavefold.output.onnx import OnnxModel

KEPT = "served.onnx"


def onnx_model(run: Run, export: Callable[..., Any], say: Callable[[str], None]) -> OnnxModel:
    """A run as ONNX Runtime computes it, from the file in its folder, which `export` writes where it is not this run's.

    Where the folder cannot be written, the file is a temporary one.
    """
    path = run.folder / KEPT
    threads = processor_threads()
    known = _read(path, run, threads)
    if known is not None:
        return known
    say(f"{path}: being written for ONNX Runtime, once; this takes from some seconds to a minute")
    try:
        export(run, path, say=lambda line: None)
        return OnnxModel(path, threads)
    except OSError:
        with tempfile.TemporaryDirectory(prefix="wavefold-") as folder:
            export(run, Path(folder) / KEPT, say=lambda line: None)
            return OnnxModel(Path(folder) / KEPT, threads)


def _read(path: Path, run: Run, threads: int) -> OnnxModel | None:
    """The file, if it is there and of the run as it was judged last, written by this version."""
    if not path.exists():
        return None
    try:
        model = OnnxModel(path, threads)
    except UserError:  # damaged
        return None
    told = model.metadata.get("run"), model.metadata.get("wavefold")
    return model if told == (run.mark, wavefold.__version__) else None
