"""Which nodes stay in float32 when a graph goes to a half type.

    x -> ReduceL2 -> Add(1) -> Div(x, .) -> Gemm      the first three; Gemm runs in half again
    x -> ReduceMean -> LayerNormalization -> Gemm     the first two

Canonical nodes are no islands: the fused operators compute in float32 inside, and `decompose` lays two Casts
around the chain it makes, the factor z included.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx
from onnx import TensorProto, defs

from .functions import standard_opset
from .node import is_activation, subgraphs

# Sums over many terms and functions that leave the range of fp16 in the middle; each is whole in itself. RoiAlign
# for its boxes: beyond 1024 pixels fp16 has whole pixels alone, beyond 256 bf16 has every second one.
_WHOLE = {
    "LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization", "BatchNormalization",
    "LpNormalization", "MeanVarianceNormalization", "Softmax", "LogSoftmax", "GlobalAveragePool", "GlobalLpPool",
    "RoiAlign",
}  # fmt: skip
# The same, but what follows belongs to the same formula: |x| -> 1 + |x| -> x / (1 + |x|). In a float32 graph a
# Cast makes floats of integers: pixels, whose normalisation is a formula too.
_BEGINS = {
    "Cast", "ReduceL1", "ReduceL2", "ReduceSum", "ReduceSumSquare", "ReduceMean", "ReduceProd", "ReduceLogSum",
    "ReduceLogSumExp", "CumSum", "Exp", "Log", "Pow", "Sqrt", "Reciprocal", "Softplus",
}  # fmt: skip
_GOES_ON = {
    "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Max", "Min", "Clip", "Expand", "Unsqueeze", "Squeeze", "Transpose",
    "Slice", "Gather",
}  # fmt: skip

_TYPE_NAME: dict[int, str] = {
    TensorProto.FLOAT: "tensor(float)",
    TensorProto.FLOAT16: "tensor(float16)",
    TensorProto.BFLOAT16: "tensor(bfloat16)",
}
# Nodes named below this stay in float32: a detector's coordinates, scores, and what chooses among them.
FLOAT32_PREFIX = "detector/float32/"
# Says for the i-th input or output of a node whether its type may be the half type.
Allows = Callable[[int], bool]


def islands(model: onnx.ModelProto, element: int) -> set[int]:
    """Indices of the nodes of `model` that stay in float32.

    Args:
        element: the half type, FLOAT16 or BFLOAT16; an operator that lacks it stays in float32.
    """
    opset = standard_opset(model)
    formula: set[str] = set()  # values inside a formula that a node of _BEGINS opened
    kept = set()
    for i, node in enumerate(model.graph.node):
        in_formula = node.op_type in _BEGINS or (node.op_type in _GOES_ON and formula.intersection(node.input))
        if in_formula:
            formula |= set(node.output)
        named = node.name.startswith(FLOAT32_PREFIX)
        if named or in_formula or node.op_type in _WHOLE or not _has_type(node, opset, element):
            kept.add(i)
    return kept


def _has_type(node: onnx.NodeProto, opset: int, element: int) -> bool:
    """Whether the operator makes values of type `element`."""
    _, outputs = types_allowed(node, opset, element)
    return any(outputs(i) for i in range(len(node.output)))


def types_allowed(node: onnx.NodeProto, opset: int, element: int) -> tuple[Allows, Allows]:
    """What the operator's schema says: which inputs and which outputs may be of type `element`."""
    if is_activation(node):
        return (lambda _: True), (lambda _: True)
    has_branches = any(True for _ in subgraphs(node))
    if has_branches or node.domain not in ("", "ai.onnx") or not defs.has(node.op_type, opset):
        return (lambda _: False), (lambda _: False)
    schema = defs.get_schema(node.op_type, opset, "")
    wide = {c.type_param_str for c in schema.type_constraints if _TYPE_NAME[element] in c.allowed_type_strs}
    inputs = [p.type_str in wide for p in schema.inputs]
    outputs = [p.type_str in wide for p in schema.outputs]
    # the last formal parameter may stand for many actual ones
    return (lambda i: inputs[min(i, len(inputs) - 1)]), (lambda i: outputs[min(i, len(outputs) - 1)])
