"""Element types and dimensions of every value, subgraphs included, without copying weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

# Shapes and axes are far shorter; weights are longer.
_SHAPE_LIKE = 1024


def inferred(model: onnx.ModelProto) -> onnx.GraphProto:
    """The graph of `model` with the types that shape inference finds; the weights are left out.

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
    size = int(np.prod(tensor.dims)) if tensor.dims else 1
    if size <= _SHAPE_LIKE and tensor.data_location != TensorProto.EXTERNAL:
        return tensor
    return TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
