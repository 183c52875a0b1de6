"""What a model declares, or shape inference finds, about its values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx
from onnx import TensorProto, helper
from onnx.external_data_helper import ExternalDataInfo

from .node import is_activation, subgraphs

# Shapes and axes are far shorter; weights are longer.
_SHAPE_LIKE = 1024


def ranks_and_types(model: onnx.ModelProto) -> dict[str, tuple[int | None, int]]:
    """Rank (None where unknown) and element type (`TensorProto.DataType`) of every value that is typed."""
    known = _read_declared(infer_types(model))
    return known | {t.name: (len(t.dims), t.data_type) for t in model.graph.initializer}


def infer_types(model: onnx.ModelProto) -> onnx.GraphProto:
    """The graph of `model` with the types that shape inference finds, without its weights: any size will do.

    Where inference fails, what the model itself declares.
    """
    light = _without_weights(model)
    try:
        return onnx.shape_inference.infer_shapes(light).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return light.graph


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    light = onnx.ModelProto()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(map(_plain, model.graph.node))
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    graph.initializer.extend(_drop_data(tensor) for tensor in model.graph.initializer)
    return light


def largest_value(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> tuple[str, int]:
    """The value of the main graph with the most elements, and how many, for inputs of these shapes.

    What shape inference does not see through counts as nothing.
    """
    fixed = _without_weights(model)
    for value in fixed.graph.input:
        if value.name in shapes:
            element = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(value.name, element, shapes[value.name]))
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return "", 0
    tensors = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.output)}
    sizes = {name: math.prod(dim.dim_value for dim in one.shape.dim) for name, one in tensors.items()}
    return max(sizes.items(), key=lambda pair: pair[1], default=("", 0))


def _plain(node: onnx.NodeProto) -> onnx.NodeProto:
    """A node that inference knows: an activation without its function body keeps rank and type all the same."""
    return helper.make_node("Identity", node.input[:1], node.output[:1]) if is_activation(node) else node


def _drop_data(tensor: TensorProto) -> TensorProto:
    if math.prod(tensor.dims) <= _SHAPE_LIKE and tensor.data_location != TensorProto.EXTERNAL:
        return tensor
    return TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)


def _read_declared(graph: onnx.GraphProto) -> dict[str, tuple[int | None, int]]:
    found: dict[str, tuple[int | None, int]] = {}
    for node in graph.node:
        for inner in subgraphs(node):
            found |= _read_declared(inner)
    found |= {t.name: (len(t.dims), t.data_type) for t in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        tensor = value.type.tensor_type
        found[value.name] = (len(tensor.shape.dim) if tensor.HasField("shape") else None, tensor.elem_type)
    return found


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Value name -> the node that makes it; the main graph only."""
    return {output: node for node in model.graph.node for output in node.output if output}


def all_tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor that a model stores: weights of the graph, of branches and bodies, of nodes and functions."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)
    for training in model.training_info:
        yield from _tensors_of_graph(training.initialization)
        yield from _tensors_of_graph(training.algorithm)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors_of_graph(graph)


def external_files(model: onnx.ModelProto) -> list[str]:
    """Names of the files beside an ONNX file that hold weights of it, wherever in it they are used."""
    outside = (t for t in all_tensors(model) if t.data_location == TensorProto.EXTERNAL)
    return sorted({ExternalDataInfo(tensor).location for tensor in outside})
