"""Rows a second of a run as ONNX Runtime answers them, beside torch, and beside the same file with 1-D convolutions.

Run: OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 python benchmarks/export.py RUN [RUN ...] [--rounds 5] [--rows 256] [--csv FILE]
Both take turns on one thread, in batches of 1 and 32 rows; printed are medians of rates and of the ratios round by round.
1-D: every convolution whose kernel and input are one row high is written anew as a convolution of one axis.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from wavefold.api import open_run
from wavefold.export.onnx import OnnxModel
from wavefold.tasks.base import recipe_of
from wavefold.tasks.samples.export import export_run
from wavefold.tasks.samples.inference import Members

BATCHES = (1, 32)
HEAD = ["date", "what", "peer", "peer_rate", "our_rate", "unit", "ratio", "machine", "command"]


def main() -> None:
    """Print a line a run, batch and peer; append them to a CSV where one is named."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("runs", nargs="+", type=Path)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--rows", type=int, default=256)
    words.add_argument("--csv", type=Path)
    fields = words.parse_args()
    torch.set_num_threads(1)
    for run in fields.runs:
        lines = compare(run, fields.rounds, fields.rows)
        if fields.csv:
            append(fields.csv, lines)


def compare(folder: Path, rounds: int, rows: int) -> list[list[str]]:
    """One run against each peer, as lines of the CSV."""
    run = open_run(folder)
    name, lines = recipe_of(run).name, []
    signals = np.random.default_rng(0).normal(size=(rows, *run.metadata.shape)).astype(np.float32)
    with tempfile.TemporaryDirectory() as place:
        fields = export_run(run, Path(place) / "m.onnx", log=print)
        print(fields.line())
        ours = OnnxModel(fields.path)
        write_flat(fields.path, Path(place) / "flat.onnx")
        flat = OnnxModel(Path(place) / "flat.onnx")
        assert np.abs(flat.predict(signals[:8]) - ours.predict(signals[:8])).max() < 1e-5
        requested = {
            "torch and numpy, members loaded once": Members(run, recipe_of(run)).predictions,
            "the same file with 1-D convolutions": flat.predict,
        }
        for size in BATCHES:
            for peer, predict in requested.items():
                if peer.startswith("torch") or flat_count(Path(place) / "flat.onnx"):
                    lines.append(
                        measure(f"{name} by ONNX Runtime, {size} at a time", peer, predict, ours.predict, signals, size, rounds)
                    )
    return lines


def measure(what: str, peer: str, theirs: Callable, ours: Callable, signals: np.ndarray, size: int, rounds: int) -> list[str]:
    """Medians of both rates (rows a second) and of their ratio."""
    batches = [signals[n : n + size] for n in range(0, len(signals), size)][: max(1, 512 // size)]
    rates = [(rate(theirs, batches), rate(ours, batches)) for _ in range(rounds + 1)][1:]
    slow, fast = (statistics.median(pair[n] for pair in rates) for n in (0, 1))
    ratio = statistics.median(b / a for a, b in rates)
    print(f"{what:<45} {fast:9.1f} rows/s   {peer}: {slow:9.1f} rows/s   ratio {ratio:.2f}", flush=True)
    machine = f"{platform.machine()}, 1 thread"
    command = " ".join(["python", *sys.argv])
    return [
        f"{datetime.now(UTC):%Y-%m-%d}",
        what,
        peer,
        f"{slow:.1f}",
        f"{fast:.1f}",
        "rows/s",
        f"{ratio:.2f}",
        machine,
        command,
    ]


def rate(predict: Callable, batches: list[np.ndarray]) -> float:
    """Rows a second."""
    begun = time.perf_counter()
    for batch in batches:
        predict(batch)
    return sum(map(len, batches)) / (time.perf_counter() - begun)


def flat_count(path: Path) -> int:
    """How many convolutions of one axis a file holds."""
    return sum(node.op_type == "Conv" and node.name.endswith("_flat") for node in onnx.load(str(path)).graph.node)


def write_flat(source: Path, path: Path) -> None:
    """The same file, each convolution of one row written as one of one axis, between a squeeze and an unsqueeze."""
    model = onnx.load(str(source))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    axis = numpy_helper.from_array(np.array([2], np.int64), "flat_axis")
    model.graph.initializer.append(axis)
    for node in nodes:
        weight = weights.get(node.input[1]) if node.op_type == "Conv" else None
        if weight is None or len(weight.dims) != 4 or weight.dims[2] != 1:
            model.graph.node.append(node)
            continue
        model.graph.node.extend(flattened(node, weight, model.graph))
    onnx.save(model, str(path))


def flattened(node: onnx.NodeProto, weight: onnx.TensorProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Squeeze, convolution of one axis, unsqueeze."""
    name = node.output[0]
    flat = numpy_helper.from_array(numpy_helper.to_array(weight)[:, :, 0], f"{name}_weight")
    graph.initializer.append(flat)
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    options = {key: given[key][1:] for key in ("strides", "dilations", "kernel_shape") if key in given}
    if "pads" in given:
        options["pads"] = [given["pads"][1], given["pads"][3]]
    inputs = [f"{name}_in", flat.name, *node.input[2:]]
    return [
        helper.make_node("Squeeze", [node.input[0], "flat_axis"], [f"{name}_in"]),
        helper.make_node("Conv", inputs, [f"{name}_out"], name=f"{name}_flat", group=given.get("group", 1), **options),
        helper.make_node("Unsqueeze", [f"{name}_out", "flat_axis"], [name]),
    ]


def append(path: Path, lines: list[list[str]]) -> None:
    """Add lines to a CSV, with a head where it is new."""
    new = not path.exists()
    with open(path, "a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([HEAD, *lines] if new else lines)


if __name__ == "__main__":
    main()
