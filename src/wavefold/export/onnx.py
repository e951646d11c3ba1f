"""Write a net as one ONNX file, and run it with ONNX Runtime.

The batch axis stays dynamic. Batch norm is folded into the convolution or linear layer before it, or else into one product and
one sum. Source locations and stack traces that the exporter records are removed.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wavefold.core.errors import UserError
from wavefold.core.files import without_nan, write_whole
from wavefold.core.logs import logs_from
from wavefold.core.registry import optional

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_format = optional("onnx", extra="onnx")
_helper = optional("onnx.helper", extra="onnx")
_arrays = optional("onnx.numpy_helper", extra="onnx")
_checker = optional("onnx.checker", extra="onnx")
_runtime = optional("onnxruntime", extra="onnx")
_optimizer = optional("onnxscript.optimizer", extra="onnx")
_rewriter = optional("onnxscript.rewriter", extra="onnx")
_rules = optional("onnxscript.rewriter.rules.common", extra="onnx")

_MOST = 2**31 - 2**20  # bytes of one file: protobuf's limit, less room for everything but the weights
_SAMPLE = "sample"  # name of the dynamic axis
_ERRORS_ONLY = 3  # log severity of ONNX Runtime


def check_onnx(path: str | Path) -> None:
    """Raise UserError if the path does not end in .onnx or a package is missing."""
    if Path(path).suffix != ".onnx":
        raise UserError(f"{path}: expected a file name that ends in .onnx")
    _ = _format.ModelProto, _runtime.InferenceSession, _optimizer.optimize


def write_onnx(
    path: str | Path,
    module: nn.Module,
    examples: Sequence[Tensor],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    metadata: Mapping[str, str],
) -> None:
    """Write a module atomically as one ONNX file; the first axis of every input is dynamic and named "sample".

    examples: two samples or more for each input, with its shape and type. metadata: stored in the file as text.
    A part's `prepare_export`, if it has one, is called first. UserError if the weights exceed the 2 GB that one file can hold.
    """
    check_onnx(path)
    _check_size(module, path)
    for part in module.modules():
        if (prepare := getattr(part, "prepare_export", None)) is not None:
            prepare()
    model = _counting_in_bytes(_without_norms(_exported(module.eval(), tuple(examples), inputs, outputs)))
    _strip(model)
    _narrow_places(model.graph)
    _check_free(model)
    _helper.set_model_props(model, dict(metadata))
    model.producer_name, model.producer_version = "wavefold", metadata.get("wavefold", "")
    _checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    write_whole(Path(path), lambda stream: stream.write(content))


class OnnxModel:
    """An ONNX file run by ONNX Runtime on the CPU; safe to call from several threads at once."""

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file")
        options = _runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = _runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exception types are not public
            raise UserError(f"{path}: ONNX Runtime cannot read this file ({type(error).__name__})") from error
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs()]

    def predict(self, *arrays: NDArray[np.floating], size: int = 8) -> NDArray[np.floating]:
        """Return the first output for one array (sample, ...) per input, ordered as `inputs`; runs `size` samples at a time."""
        given = {name: np.ascontiguousarray(array) for name, array in zip(self.inputs, arrays, strict=True)}
        parts = [
            self._session.run(self.outputs[:1], {name: array[start : start + size] for name, array in given.items()})[0]
            for start in range(0, max(len(arrays[0]), 1), size)
        ]
        answer: NDArray[np.floating] = np.concatenate(parts)
        return answer


def count_nodes(path: str | Path) -> dict[str, int]:
    """Count the nodes of an ONNX file by operator name."""
    counts: dict[str, int] = {}
    for node in _format.load(str(path)).graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


def _check_size(module: nn.Module, path: str | Path) -> None:
    size = sum(t.nbytes for t in (*module.parameters(), *module.buffers()))
    if size > _MOST:
        raise UserError(f"{path}: {size / 1e9:.1f} GB of weights, but an ONNX file holds 2 GB; export one member with --member")


def _narrow_places(graph: GraphProto) -> None:
    """Store indices that only Gather uses as int32, at half the size."""
    uses: dict[str, set[tuple[str, int]]] = {}
    for node in graph.node:
        for number, name in enumerate(node.input):
            uses.setdefault(name, set()).add((node.op_type, number))
    for tensor in graph.initializer:
        if tensor.data_type == _format.TensorProto.INT64 and uses.get(tensor.name) == {("Gather", 1)}:
            tensor.CopyFrom(_arrays.from_array(_arrays.to_array(tensor).astype(np.int32), tensor.name))
    stale = [value for value in graph.value_info if value.type.tensor_type.elem_type == _format.TensorProto.INT64]
    for value in stale:
        graph.value_info.remove(value)  # types recorded by the exporter that have changed


def _check_free(model: ModelProto) -> None:
    """Raise RuntimeError if the module fixes the number of samples: `len(signals)` does, `signals.shape[0]` does not."""
    for value in (*model.graph.input, *model.graph.output):
        if not value.type.tensor_type.shape.dim[0].dim_param:
            raise RuntimeError(f"{value.name}: the exported net accepts only the number of samples of the example")


def _exported(module: nn.Module, examples: tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str]) -> ModelProto:
    """Export the module as an onnx.ModelProto with folded constants."""
    free = torch.export.Dim(_SAMPLE)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            examples,
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: free} for _ in examples),
            external_data=False,
            verbose=False,
            optimize=False,  # too slow: its rules visit every node a hundred times; those that matter are applied below
        )
        assert program is not None  # as with dynamo=True
        everything = {"input_size_limit": _MOST, "output_size_limit": _MOST}
        _optimizer.fold_constants(program.model, **everything)
        _optimizer.remove_unused_nodes(program.model)
        rules = [_rules.fuse_batchnorm_into_conv_rule, _rules.fuse_batchnorm_into_gemm_rule]
        program.model = _rewriter.rewrite(program.model, pattern_rewrite_rules=rules)
        return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the internal warnings of torch's exporter and onnxscript."""
    with warnings.catch_warnings(), logs_from(logging.ERROR, ("torch.onnx", "onnxscript", "onnx_ir")):
        for category, message in _KNOWN:
            warnings.filterwarnings("ignore", message, category)
        yield


_KNOWN: tuple[tuple[type[Warning], str], ...] = (
    (FutureWarning, r"`isinstance\(treespec, LeafSpec\)` is deprecated"),
    (UserWarning, r"The tensor attributes? .* (was|were) assigned during export"),  # nn.LSTM's own list of weights
    (FutureWarning, r"_check_is_size will be removed"),
)


def _without_norms(model: ModelProto) -> ModelProto:
    """Replace each batch norm that no rule has folded by one product and one sum per channel."""
    graph = model.graph
    known = {tensor.name: _arrays.to_array(tensor) for tensor in graph.initializer}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in (*graph.value_info, *graph.input, *graph.output)}
    nodes: list[NodeProto] = []
    for node in list(graph.node):
        nodes += _as_affine(node, known, ranks, graph) if node.op_type == "BatchNormalization" else [node]
    _replace_nodes(graph, nodes)
    return model


def _as_affine(
    node: NodeProto, known: Mapping[str, NDArray[np.generic]], ranks: Mapping[str, int], graph: GraphProto
) -> list[NodeProto]:
    gain, shift, mean, spread = (known[name].astype(np.float64) for name in node.input[1:])
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    scale = gain / np.sqrt(spread + epsilon)
    shape = (-1, *[1] * (ranks[node.output[0]] - 2))  # channels are the second axis
    source, name = node.input[0], node.output[0]
    for part, values in (("scale", scale), ("shift", shift - mean * scale)):
        graph.initializer.append(_arrays.from_array(values.astype(np.float32).reshape(shape), f"{name}_{part}"))
    return [
        _helper.make_node("Mul", [source, f"{name}_scale"], [f"{name}_scaled"], name=f"{name}_mul"),
        _helper.make_node("Add", [f"{name}_scaled", f"{name}_shift"], [name], name=f"{name}_add"),
    ]


def _counting_in_bytes(model: ModelProto) -> ModelProto:
    """Compute products of comparisons with a matrix of ones and zeros in bytes: exact, and a quarter faster."""
    graph = model.graph
    nodes: list[NodeProto] = []
    weights = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    users = Counter(name for node in graph.node for name in node.input)
    for node in list(graph.node):
        cast = made_by.get(node.input[0]) if node.op_type == "MatMul" and node.input[1] in weights else None
        alone = cast is not None and cast.op_type == "Cast" and users[cast.output[0]] == 1
        if cast is not None and alone and made_by[cast.input[0]].op_type == "Greater":
            ones = _arrays.to_array(weights[node.input[1]])
            if set(np.unique(ones).tolist()) <= {0.0, 1.0}:
                nodes.remove(cast)
                nodes += _count_of(cast.input[0], ones, node.output[0], graph)
                continue
        nodes.append(node)
    _replace_nodes(graph, nodes)
    return model


def _count_of(compared: str, ones: NDArray[np.generic], name: str, graph: GraphProto) -> list[NodeProto]:
    """Nodes that count, in bytes, the true comparisons selected by each column of `ones`."""
    graph.initializer.append(_arrays.from_array(ones.astype(np.uint8), f"{name}_ones"))
    kinds = _format.TensorProto
    return [
        _helper.make_node("Cast", [compared], [f"{name}_bytes"], name=f"{name}_to_bytes", to=kinds.UINT8),
        _helper.make_node("MatMulInteger", [f"{name}_bytes", f"{name}_ones"], [f"{name}_counts"], name=f"{name}_count"),
        _helper.make_node("Cast", [f"{name}_counts"], [name], name=f"{name}_float", to=kinds.FLOAT),
    ]


def _replace_nodes(graph: GraphProto, nodes: Sequence[NodeProto]) -> None:
    """Replace the nodes of a graph and drop constants that none of them uses."""
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _strip(model: ModelProto) -> None:
    """Remove the source locations of nodes."""
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
        *model.functions,
    ):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def words_of(values: object) -> str:
    """Return a list or mapping as JSON, to be stored as metadata."""
    return json.dumps(without_nan(values), ensure_ascii=False)
