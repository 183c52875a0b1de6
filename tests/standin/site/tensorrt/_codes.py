"""What a strongly typed network wants of plugins that give INT8, and of those that take it."""

from __future__ import annotations

from typing import Any

import onnx


def scale_out(node: Any) -> list[float]:
    """Of a plugin that gives INT8 (IPluginV3OneBuild::getOutputDataTypes); [] of one that gives what it takes."""
    if node.domain != "com.apa" or not node.op_type.endswith("Codes"):
        return []
    return next((list(one.floats) for one in node.attribute if one.name == "scale_out"), [])


def wrong_types(graph: onnx.GraphProto, codes: list[Any]) -> str:
    """What is wrong with the types around plugins that give INT8, or "". In a strongly typed network a tensor has
    the type that its layer gives it (NetworkDefinitionCreationFlag::kSTRONGLY_TYPED), and the input of a
    dequantize layer has its zero point's type (IDequantizeLayer)."""
    made = {node.output[0] for node in codes}
    zeros = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        for name in made.intersection(node.input):
            dequantises = node.op_type == "DequantizeLinear" and node.input[0] == name
            if not dequantises or len(node.input) < 3 or zeros.get(node.input[2]) != onnx.TensorProto.INT8:
                return f"{node.op_type} {node.name} does not take the INT8 of {name}"
    return next((f"{node.name}: scale_out {scale_out(node)}" for node in codes if len(scale_out(node)) != 1), "")
