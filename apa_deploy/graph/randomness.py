"""Nodes whose answers change from run to run, or depend on the other samples of the batch."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import numpy_helper

from .node import subgraphs

_DRAWING = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


def random_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes of the graph, its branches and bodies that draw numbers or are in training mode.

    Dropout is in training mode by its third input (opset 12 and later), by `is_test=0` (opset 6 and earlier);
    BatchNormalization by `training_mode=1` (opset 14 and later).
    """
    return list(_random_nodes(model.graph, {}))


def _random_nodes(graph: onnx.GraphProto, outer: dict[str, bool]) -> Iterator[onnx.NodeProto]:
    known = outer | {t.name: _is_true(t) for t in graph.initializer if t.data_type == onnx.TensorProto.BOOL}
    for node in graph.node:
        if node.op_type == "Constant":
            values = [a.t for a in node.attribute if a.name == "value" and a.t.data_type == onnx.TensorProto.BOOL]
            known[node.output[0]] = any(map(_is_true, values))
        if node.domain in ("", "ai.onnx") and (node.op_type in _DRAWING or _is_training(node, known)):
            yield node
        for inner in subgraphs(node):
            yield from _random_nodes(inner, known)


def _is_true(tensor: onnx.TensorProto) -> bool:
    return bool(numpy_helper.to_array(tensor).any())


def _is_training(node: onnx.NodeProto, known: dict[str, bool]) -> bool:
    values = {a.name: a.i for a in node.attribute}
    if node.op_type == "BatchNormalization":
        return values.get("training_mode", 0) == 1 or values.get("is_test", 1) == 0
    if node.op_type == "Dropout":
        by_input = len(node.input) > 2 and known.get(node.input[2], False)
        return by_input or values.get("is_test", 1) == 0
    return False
