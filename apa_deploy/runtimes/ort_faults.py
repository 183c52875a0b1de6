"""Faults of ONNX Runtime that end the process, and the passes to leave out so that they do not."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto

from ..graph.node import all_nodes

_HALF = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
_FUSION = "MatmulTransposeFusion"


def passes_that_crash(model: Path | str | bytes | onnx.ModelProto) -> list[str]:
    """The optimiser's passes with which opening `model` is a segmentation fault; none where it cannot be read.

    A product of half precision whose operand has its first axis moved: the fusion of the two leaves a Cast without
    a schema, which the next pass follows (microsoft/onnxruntime#28392; seen in 1.32, on x86-64 alone).
    """
    try:
        if isinstance(model, bytes):
            model = onnx.ModelProto.FromString(model)
        elif not isinstance(model, onnx.ModelProto):
            model = onnx.load(model, load_external_data=False)
    except Exception:  # noqa: BLE001 - what is wrong with a file, ONNX Runtime says as it opens it
        return []
    return [_FUSION] if _multiplies_moved(model) else []


def _multiplies_moved(model: onnx.ModelProto) -> bool:
    nodes = list(all_nodes(model))
    moved = {node.output[0] for node in nodes if node.op_type == "Transpose" and _moves_first(node)}
    cast = {node.output[0] for node in nodes if node.op_type == "Cast" and node.input[0] in moved}
    multiplied = any(node.op_type == "MatMul" and not moved.isdisjoint(node.input) for node in nodes)
    casts = any(node.op_type == "MatMul" and not cast.isdisjoint(node.input) for node in nodes)
    return casts or (multiplied and _has_half(model, nodes))


def _moves_first(node: onnx.NodeProto) -> bool:
    order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
    return order is None or (len(order) > 2 and order[0] != 0)


def _has_half(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> bool:
    declared = {value.type.tensor_type.elem_type for value in model.graph.input}
    stored = {tensor.data_type for tensor in model.graph.initializer}
    attributes = [a for node in nodes if node.op_type in ("Cast", "Constant") for a in node.attribute]
    return not _HALF.isdisjoint(
        declared | stored | {a.t.data_type if a.name == "value" else a.i for a in attributes}
    )
