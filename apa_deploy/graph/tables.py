"""The tables that a graph's integer inputs are indices of: what the inputs may hold.

ids -> Cast, Reshape ... -> Gather(table of 50 rows, ids)   ->   ids in [0, 50)
"""

from __future__ import annotations

import onnx
from onnx import helper

# Operators that hand integers on as they are.
_PASSING = {
    "Cast",
    "Identity",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Expand",
}


def table_rows(model: onnx.ModelProto) -> dict[str, int]:
    """Input -> rows of the smallest stored table that it selects from; the main graph only."""
    tables = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    from_input = {value.name: value.name for value in model.graph.input}
    rows: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type in _PASSING and node.input[0] in from_input:
            from_input |= dict.fromkeys(node.output, from_input[node.input[0]])
        elif node.op_type == "Gather" and node.input[0] in tables and node.input[1] in from_input:
            axis = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "axis"), 0)
            name, count = from_input[node.input[1]], tables[node.input[0]][axis]
            rows[name] = min(count, rows.get(name, count))
    return rows
