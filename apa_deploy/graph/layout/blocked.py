"""Which values of an optimised model lie in the blocked layout, and how often it is entered and left."""

from __future__ import annotations

import onnx

NCHWC = "com.microsoft.nchwc"
ENTER, LEAVE = "ReorderInput", "ReorderOutput"


def is_blocked_operator(node: onnx.NodeProto, operation: str) -> bool:
    """Whether `node` is `operation` of ONNX Runtime's blocked operators."""
    return node.domain == NCHWC and node.op_type == operation


def find_blocked(graph: onnx.GraphProto) -> set[str]:
    """The values in NCHWc. ONNX Runtime gives one to a foreign operator only if that keeps the layout."""
    found: set[str] = set()
    for node in graph.node:
        if is_blocked_operator(node, LEAVE):
            continue
        if node.domain == NCHWC or found & set(node.input):
            found |= set(node.output)
    return found


def reorders(model: onnx.ModelProto) -> int:
    """How many nodes enter or leave the blocked layout."""
    return sum(node.domain == NCHWC and node.op_type in (ENTER, LEAVE) for node in model.graph.node)
