"""An ONNX file -> a model that every later step may walk: bounded in size and depth, its nodes in order.

The file is a stranger's: what would keep a reader busy for ever, or fill the memory, is refused here by name.

| refused                                    | because                                                  |
| ------------------------------------------ | -------------------------------------------------------- |
| folders, pipes, devices, files above 2 GB  | reading them need not end; protobuf ends at 2 GB         |
| too many nodes, functions spelled out      | functions of functions of functions grow exponentially   |
| graphs in graphs, functions in functions   | every walk here recurses                                 |
| nodes or functions that wait for one another | nothing can be put in order                            |
| tensors whose data are not of their shape  | few bytes may claim terabytes                            |
| sparse tensors                             | a dense one of their shape need not fit into memory      |
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto
from onnx.external_data_helper import uses_external_data

from ..errors import InputError
from ..files import SourceError, open_regular
from .external_weights import read_weights
from .node import read_by, subgraphs
from .values import all_tensors

LARGEST_FILE = (1 << 31) - 1  # bytes of a protobuf
# Language models of a hundred layers have a tenth of these nodes; more keep every pass busy for minutes.
MOST_NODES = 50_000
MOST_VALUES = 10_000  # inputs and outputs; old files name each of some thousand weights as an input
_DEEPEST_GRAPH, _DEEPEST_FUNCTION = 16, 64
_MOST_AXES, _LONGEST_NAME = 64, 1 << 16  # numpy's; paths of modules have some hundred characters
_LONGEST = 200  # of a name, or of what protobuf says


class OnnxFileError(InputError):
    """An ONNX file cannot be read. `path`, `reason`."""

    def __init__(self, path: Path, saw: str, do: str = "Check the file, or export it again.") -> None:
        super().__init__(f"{path}: {saw}", "a complete ONNX model", do)
        self.path, self.reason = path, saw


def read_graph(path: Path, *, weights: bool = False) -> onnx.ModelProto:
    """The model at `path`, its nodes in order; `weights`: those that lie beside it, too.

    Raises:
        OnnxFileError: it is no ONNX model, its weights cannot be read, or it is refused for its size or form.
    """
    try:
        with open_regular(path) as file:
            content = file.read(LARGEST_FILE + 1)
    except SourceError as error:
        raise OnnxFileError(path, error.reason, error.do) from error
    if len(content) > LARGEST_FILE:
        raise OnnxFileError(path, "more than 2 GB", "Keep its weights in a file beside it, as onnx.save does.")
    try:
        model = onnx.ModelProto.FromString(content)
        check_model(model)
    except DecodeError as error:
        raise OnnxFileError(path, f"no ONNX model, or a damaged one ({str(error)[:_LONGEST]})") from error
    except ValueError as error:
        raise OnnxFileError(path, str(error)) from error
    if weights:
        _read_weights(model, path)
    return model


def _read_weights(model: onnx.ModelProto, path: Path) -> None:
    outside = [tensor for tensor in all_tensors(model) if uses_external_data(tensor)]
    try:
        read_weights(model, path)
        for tensor in outside:
            _check_tensor(tensor)
    except (OSError, ValueError) as error:
        saw = f"its weights cannot be read: {str(error).splitlines()[0][:_LONGEST]}"
        raise OnnxFileError(path, saw, "Keep the file of weights beside the model, under its own name.") from error


def check_model(model: onnx.ModelProto) -> None:
    """Put the nodes of `model` in order; raise a `ValueError` that says why it is refused."""
    if not model.graph.node or not model.graph.output:
        raise ValueError("no graph in it")
    if len(model.graph.input) + len(model.graph.output) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} inputs and outputs")
    _check_depth(model.graph, 0)
    for function in model.functions:
        _check_nodes_depth(function.node, 0)
    _check_functions(model)
    sort_nodes(model.graph)
    for function in model.functions:
        _sort(function.node)
    _check_names(model.graph)
    for value in (*model.graph.input, *model.graph.output):
        if value.type.WhichOneof("value") not in (None, "tensor_type"):
            raise ValueError(f"{value.name!r} is a sequence, a map or an optional value, not a tensor")
        dims = value.type.tensor_type.shape.dim
        if len(dims) > _MOST_AXES:
            raise ValueError(f"{value.name!r} has more than {_MOST_AXES} axes")
        if any(dim.dim_value < -1 for dim in dims):  # -1 is what some write for an open one
            raise ValueError(f"{value.name!r} has a size below 0")
    for tensor in all_tensors(model):
        _check_tensor(tensor)


def _check_names(graph: onnx.GraphProto) -> None:
    """Raise a `ValueError` for a name that is no text, or of megabytes: it would stand in every message."""
    everything: list[Any] = [*graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info]
    for named in everything:
        values = (*named.input, *named.output, named.op_type) if isinstance(named, onnx.NodeProto) else ()
        for name in (named.name, *values):
            if not isinstance(name, str):
                raise ValueError("a name that is no text")
            if "\0" in name:
                raise ValueError("a name with a NUL, where C ends it")
            if len(name) > _LONGEST_NAME:
                raise ValueError(f"a name of {len(name):,} characters")
            name.encode()  # a `UnicodeError` is a ValueError


def _check_depth(graph: onnx.GraphProto, depth: int) -> None:
    if depth > _DEEPEST_GRAPH:
        raise ValueError(f"graphs in graphs, more than {_DEEPEST_GRAPH} deep")
    if graph.sparse_initializer:
        raise ValueError("a sparse initializer")
    _check_nodes_depth(graph.node, depth)


def _check_nodes_depth(nodes: Iterable[onnx.NodeProto], depth: int) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise ValueError(f"a sparse tensor in node {node.name or node.op_type!r}")
        for inner in subgraphs(node):
            _check_depth(inner, depth + 1)
        if node.op_type == "Loop" and not any(node.input[:1]) and _goes_on(node):
            raise ValueError(f"node {node.name or node.op_type!r} is a loop without an end")


def _goes_on(loop: onnx.NodeProto) -> bool:
    """Whether the body of a loop hands its condition on as it came."""
    body = next(subgraphs(loop), None)
    if body is None or len(body.input) < 2 or not body.output:
        return False
    copies = {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}
    name = body.output[0].name
    for _ in copies:
        name = copies.get(name, name)
    return name == body.input[1].name


def _check_functions(model: onnx.ModelProto) -> None:
    """Count the nodes that there are once every function is spelled out."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    sizes: dict[tuple[str, str, str], int] = {}

    def count(nodes: Iterable[onnx.NodeProto], above: tuple[tuple[str, str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            total += 1 + sum(count(inner.node, above) for inner in subgraphs(node))
            if key in functions:
                total += size_of(key, above)
            if total > MOST_NODES:
                raise ValueError(f"more than {MOST_NODES:,} nodes")
        return total

    def size_of(key: tuple[str, str, str], above: tuple[tuple[str, str, str], ...]) -> int:
        if key in above:
            raise ValueError(f"function {key[1]!r} calls itself")
        if len(above) >= _DEEPEST_FUNCTION:
            raise ValueError(f"functions that call functions, more than {_DEEPEST_FUNCTION} deep")
        if key not in sizes:
            sizes[key] = count(functions[key].node, (*above, key))
        return sizes[key]

    count(model.graph.node, ())
    for key in functions:
        size_of(key, ())


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put the nodes of `graph`, and of the graphs inside, after those that they read, and leave an ordered graph.

    Raises:
        ValueError: nodes wait for one another, or two make the same value.
    """
    _sort(graph.node)


def _sort(nodes: Any) -> None:
    """`nodes`: a repeated field. Of those that may run next the first comes: what is in order stays as it is."""
    for node in nodes:
        for inner in subgraphs(node):
            sort_nodes(inner)
    maker: dict[str, int] = {}
    for i, name in ((i, name) for i, node in enumerate(nodes) for name in node.output if name):
        if name in maker:
            raise ValueError(f"two nodes make {name!r}")
        maker[name] = i
    needs = [{maker[name] for name in read_by(node) if name in maker} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for i, before in enumerate(needs):
        for j in before:
            readers[j].append(i)
    waiting = [len(before) for before in needs]
    ready = [i for i, count in enumerate(waiting) if not count]
    order = []
    while ready:
        order.append(i := heapq.heappop(ready))
        for reader in readers[i]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        stuck = next(node for node, count in zip(nodes, waiting, strict=True) if count)
        raise ValueError(f"node {stuck.name or stuck.op_type!r} waits for itself")
    if order != sorted(order):
        copies = [onnx.NodeProto.FromString(nodes[i].SerializeToString()) for i in order]
        del nodes[:]
        nodes.extend(copies)


def _check_tensor(tensor: TensorProto) -> None:
    """Raise a `ValueError` where the data that a tensor holds are not those of its shape."""
    dims, what = list(tensor.dims), f"tensor {tensor.name[:_LONGEST]!r}"
    if len(dims) > _MOST_AXES or any(dim < 0 for dim in dims):
        raise ValueError(f"{what} of shape {dims[:8]}")
    if uses_external_data(tensor) or not tensor.ByteSize():
        return
    if tensor.HasField("segment"):
        raise ValueError(f"{what} is a segment of one")
    try:
        element = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{what} of the unknown type {tensor.data_type}") from None
    held = [len(tensor.raw_data) / element] if tensor.raw_data else []
    parts = 2 if tensor.data_type in _COMPLEX else 1
    held += [len(values) / parts for name in _FIELDS if (values := getattr(tensor, name))]
    count = math.prod(dims)
    if len(held) > 1:
        raise ValueError(f"{what} has data in two places")
    has = held[0] if held else 0
    if count / 4 > has if tensor.data_type in _PACKED else count != has:
        raise ValueError(f"{what} of shape {dims} with the data of {has:g} values")


_COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
# Two to four values share a byte.
_PACKED = frozenset(
    value for name, value in TensorProto.DataType.items() if re.search(r"INT[24]$|FLOAT[46]E", name)
)
_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
