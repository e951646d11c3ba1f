"""The one way to write a run as ONNX: a temporary file, compared with torch, takes its name only if it agrees."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from wavefold.core.files import write_whole
from wavefold.export.onnx import OnnxModel, write_onnx


@dataclass(frozen=True)
class Exported:
    """An exported file, and how closely it matches torch."""

    path: Path
    largest_difference: float  # from torch, in `unit`
    unit: str  # "" for a probability
    compared: str  # "512 real rows"
    contents: str  # "3 nets and kernel features, 4 folds"
    bytes: int

    def line(self) -> str:
        """Summarize the export in one line."""
        off = f"{self.largest_difference:.1e}{f' {self.unit}' if self.unit else ''}"
        return (
            f"{self.path}: {self.contents}, {self.bytes / 1e6:.1f} MB; largest difference from torch {off} on {self.compared}"
        )


def write_verified(
    out: Path,
    net: nn.Module,
    examples: Sequence[Tensor],
    compare: Callable[[OnnxModel], float],
    *,
    names: tuple[Sequence[str], Sequence[str]],
    metadata: Mapping[str, str],
) -> tuple[float, int]:
    """Write a net as ONNX and return its largest difference from torch and its size in bytes.

    examples: two samples for each input. compare: from the file's model to that difference; it raises if it is too large, and
    then no file is written. names: of the inputs and of the outputs.
    """
    with tempfile.TemporaryDirectory(prefix="wavefold-export-") as folder:
        made = Path(folder) / out.name
        with warnings.catch_warnings():  # several inputs may share one free axis on purpose
            warnings.filterwarnings("ignore", "# The axis name: sample", UserWarning)
            write_onnx(made, net, list(examples), inputs=list(names[0]), outputs=list(names[1]), metadata=dict(metadata))
        difference, content = compare(OnnxModel(made)), made.read_bytes()
    write_whole(out, lambda stream: stream.write(content))
    return difference, len(content)
