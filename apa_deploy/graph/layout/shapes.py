"""What is known about the shapes of a model's values, through its activations too."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from ..node import is_activation

Dim = int | str | None  # a size, a symbol, or unknown

# Larger constants are weights: their shape matters, their values do not.
_SMALL = 64


def shapes(model: onnx.ModelProto) -> dict[str, tuple[Dim, ...]]:
    """The dimensions of every float32 value whose rank is known."""
    graph = onnx.shape_inference.infer_shapes(_skeleton(model), data_prop=True).graph
    floats = (t for t in graph.initializer if t.data_type == TensorProto.FLOAT)
    found: dict[str, tuple[Dim, ...]] = {t.name: tuple(t.dims) for t in floats}
    for value in (*graph.value_info, *graph.input, *graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type == TensorProto.FLOAT and tensor.HasField("shape"):
            found[value.name] = tuple(_dim(d) for d in tensor.shape.dim)
    return found


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    return dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None


def _skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without weights, each activation an Identity, whose shapes inference knows."""
    graph = model.graph
    weights = [t for t in graph.initializer if _size(t) > _SMALL]
    declared = {v.name for v in graph.input}
    inputs = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in weights if t.name not in declared]
    kept = [t for t in graph.initializer if _size(t) <= _SMALL]
    nodes = [helper.make_node("Identity", n.input, n.output) if is_activation(n) else n for n in graph.node]
    small = helper.make_graph(nodes, "shapes", [*graph.input, *inputs], list(graph.output), kept)
    small.value_info.extend(graph.value_info)
    return helper.make_model(small, opset_imports=model.opset_import, ir_version=model.ir_version)


def _size(tensor: onnx.TensorProto) -> int:
    size = 1
    for dim in tensor.dims:
        size *= dim
    return size
