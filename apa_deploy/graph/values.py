"""What a model declares, or shape inference finds, about its values."""

from __future__ import annotations

import math

import onnx
from onnx import TensorProto
from onnx.external_data_helper import ExternalDataInfo

from .node import subgraphs

# Shapes and axes are far shorter; weights are longer.
_SHAPE_LIKE = 1024


def ranks_and_types(model: onnx.ModelProto) -> dict[str, tuple[int | None, int]]:
    """Rank (None where unknown) and element type (`TensorProto.DataType`) of every value that is typed."""
    known = _declared(inferred(model))
    return known | {t.name: (len(t.dims), t.data_type) for t in model.graph.initializer}


def inferred(model: onnx.ModelProto) -> onnx.GraphProto:
    """The graph of `model` with the types that shape inference finds, without its weights: any size will do.

    Where inference fails, what the model itself declares.
    """
    light = onnx.ModelProto()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    graph.initializer.extend(_light(tensor) for tensor in model.graph.initializer)
    try:
        return onnx.shape_inference.infer_shapes(light).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return graph


def _light(tensor: TensorProto) -> TensorProto:
    if math.prod(tensor.dims) <= _SHAPE_LIKE and tensor.data_location != TensorProto.EXTERNAL:
        return tensor
    return TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)


def _declared(graph: onnx.GraphProto) -> dict[str, tuple[int | None, int]]:
    found: dict[str, tuple[int | None, int]] = {}
    for node in graph.node:
        for inner in subgraphs(node):
            found |= _declared(inner)
    found |= {t.name: (len(t.dims), t.data_type) for t in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        tensor = value.type.tensor_type
        found[value.name] = (len(tensor.shape.dim) if tensor.HasField("shape") else None, tensor.elem_type)
    return found


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Value name -> the node that makes it; the main graph only."""
    return {output: node for node in model.graph.node for output in node.output if output}


def external_files(model: onnx.ModelProto) -> list[str]:
    """Names of the files beside an ONNX file that hold its weights."""
    tensors = (t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL)
    return sorted({ExternalDataInfo(tensor).location for tensor in tensors})
