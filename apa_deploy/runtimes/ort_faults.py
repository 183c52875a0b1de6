"""Faults of ONNX Runtime's optimiser, and what a session is told so that they do no harm."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto

from ..graph.node import all_nodes

_HALF = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
_FUSION = "MatmulTransposeFusion"
_NODES = (b"Transpose", b"MatMul")
# MatMulNBits, which products with weights of 4 bits become, rounds the other factor to 8 bits; 1 keeps float32.
EXACT_PRODUCTS = ("session.qdq_matmulnbits_accuracy_level", "1")
_FOUR_BITS = {TensorProto.INT4, TensorProto.UINT4}


def passes_that_crash(model: Path | str | bytes | onnx.ModelProto) -> list[str]:
    """The optimiser's passes with which opening `model` is a segmentation fault; none where it cannot be read.

    A product of half precision whose operand has its first axis moved: the fusion of the two leaves a Cast without
    a schema, which the next pass follows (microsoft/onnxruntime#28392; seen in 1.32, on x86-64 alone).
    """
    try:
        proto = model if isinstance(model, onnx.ModelProto) else _parse_where_named(model)
    except Exception:  # noqa: BLE001 - what is wrong with a file, ONNX Runtime says as it opens it
        return []
    return [_FUSION] if proto is not None and _multiplies_moved(proto) else []


def _parse_where_named(model: Path | str | bytes) -> onnx.ModelProto | None:
    """The model, None where its bytes do not name the nodes that matter: most files are not parsed for it."""
    if isinstance(model, bytes):
        return onnx.ModelProto.FromString(model) if all(name in model for name in _NODES) else None
    with Path(model).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = all(content.find(name) >= 0 for name in _NODES)
    return onnx.load(model, load_external_data=False) if found else None


def settings_elsewhere(model: onnx.ModelProto) -> list[str]:
    """What a session that apa-deploy does not open should be told of this model, in sentences."""
    said = [
        f"ONNX Runtime's pass {name} crashes on this file's products, on x86-64: outside apa-deploy, "
        f'give the session disabled_optimizers=["{name}"]'
        for name in passes_that_crash(model)
    ]
    tensors = [
        *model.graph.initializer,
        *(a.t for node in all_nodes(model) for a in node.attribute if a.name == "value"),
    ]
    if any(tensor.data_type in _FOUR_BITS for tensor in tensors):
        key, value = EXACT_PRODUCTS
        said.append(
            "ONNX Runtime rounds what it multiplies with weights of 4 bits to 8 bits: outside apa-deploy, "
            f'options.add_session_config_entry("{key}", "{value}") keeps float32'
        )
    return said


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
    return not _HALF.isdisjoint(element_types(model, nodes))


def element_types(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> set[int]:
    """The types of a model's inputs, weights and constants, and those that its `nodes` cast to."""
    declared = {value.type.tensor_type.elem_type for value in model.graph.input}
    stored = {tensor.data_type for tensor in model.graph.initializer}
    attributes = [a for node in nodes if node.op_type in ("Cast", "Constant") for a in node.attribute]
    return declared | stored | {a.t.data_type if a.name == "value" else a.i for a in attributes}
