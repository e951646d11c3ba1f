"""The ONNX file used to serve a run, cached in its folder so that only the first start exports it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from wavefold.core import version
from wavefold.core.device import processor_threads
from wavefold.core.errors import UserError
from wavefold.core.run import RunFolder
from wavefold.export.onnx import OnnxModel

KEPT = "served.onnx"


def onnx_model(run: RunFolder, export: Callable[..., object], log: Callable[[str], None]) -> OnnxModel:
    """Load a run in ONNX Runtime from the file cached in its folder; `export` writes it if it is missing or outdated.

    A temporary file is used if the folder is not writable.
    """
    path = run.folder / KEPT
    threads = processor_threads()
    known = _read(path, run, threads)
    if known is not None:
        return known
    log(f"{path}: exporting for ONNX Runtime (first start only); this takes a few seconds to a minute")
    try:
        export(run, path, log=lambda line: None)
        return OnnxModel(path, threads)
    except OSError:
        with tempfile.TemporaryDirectory(prefix="wavefold-") as folder:
            export(run, Path(folder) / KEPT, log=lambda line: None)
            return OnnxModel(Path(folder) / KEPT, threads)


def _read(path: Path, run: RunFolder, threads: int) -> OnnxModel | None:
    """The cached model, if it exists, matches the run's latest evaluation and was written by this version."""
    if not path.exists():
        return None
    try:
        model = OnnxModel(path, threads)
    except UserError:  # damaged
        return None
    fields = model.metadata.get("run"), model.metadata.get("wavefold")
    return model if fields == (run.digest, version.__version__) else None
