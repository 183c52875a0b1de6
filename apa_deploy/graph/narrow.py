"""Turn a float64 graph into float32, after everything constant was folded in float64.

initializer, Constant, Cast(to=DOUBLE), value: DOUBLE   ->   FLOAT, each constant rounded once
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

DOUBLE, FLOAT = TensorProto.DOUBLE, TensorProto.FLOAT


def narrow(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` itself, changed in place: every float64 tensor is float32."""
    graph = model.graph
    for tensor in graph.initializer:
        _narrow_tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == DOUBLE:
            value.type.tensor_type.elem_type = FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            _narrow_attribute(node, attribute)
    return model


def _narrow_attribute(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> None:
    if attribute.HasField("t"):
        _narrow_tensor(attribute.t)
    elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == DOUBLE:
        attribute.i = FLOAT


def _narrow_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == DOUBLE:
        narrow = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))
