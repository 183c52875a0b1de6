"""What a half type makes unavoidable: the float64 graph with every value that it stores rounded to the type.

    Conv(float64, weights rounded) -> y      becomes      Conv -> y/exact -> Stored -> y

The counterpart of `loading.torch_storage` for a graph. Inside activations, and in formulas that stay in float32
(`graph.islands`), nothing is rounded.
"""

from __future__ import annotations

import onnx
from onnx import helper

from .islands import islands
from .precision import HALF_ELEMENT, LOWEST_OPSET

# The domain of the operator `Stored`, which only onnx.reference ever sees.
REFERENCE_DOMAIN = "com.apa.reference"
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


def store_values(
    double: onnx.ModelProto, folded: onnx.ModelProto, precision: str, only: set[str] | None = None
) -> onnx.ModelProto:
    """A copy of `double`, the original in float64, that rounds what `folded`, the canonical graph, stores.

    `only`: values that the original stores in the half type already; its weights are exact then.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(double)
    names = _find_half_values(folded, precision)
    names = names | _weights(copy.graph) if only is None else names & only
    nodes = [_round_node(t.name, t.name + "/exact", precision) for t in copy.graph.initializer if t.name in names]
    for tensor in copy.graph.initializer:
        tensor.name += "/exact" if tensor.name in names else ""
    for node in copy.graph.node:
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name in names:
                node.output[i] = name + "/exact"
                nodes.append(_round_node(name, name + "/exact", precision))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    copy.opset_import.append(helper.make_opsetid(REFERENCE_DOMAIN, 1))
    return copy


def _round_node(name: str, exact: str, precision: str) -> onnx.NodeProto:
    return helper.make_node("Stored", [exact], [name], domain=REFERENCE_DOMAIN, precision=precision)


def _find_half_values(folded: onnx.ModelProto, precision: str) -> set[str]:
    """What the nodes in the half type answer: neither values inside activations nor those of formulas."""
    light = onnx.ModelProto()
    light.graph.node.extend(folded.graph.node)
    # the schemas of the opset that the file is converted to
    light.opset_import.extend(
        helper.make_opsetid(e.domain, e.version if e.domain else max(e.version, LOWEST_OPSET[precision]))
        for e in folded.opset_import
    )
    kept = islands(light, HALF_ELEMENT[precision])
    stored_nodes = (node for i, node in enumerate(light.graph.node) if i not in kept)
    return {name for node in stored_nodes for name in node.output if name}


def _weights(graph: onnx.GraphProto) -> set[str]:
    used = {name for node in graph.node if node.op_type in _WEIGHTED for name in node.input}
    return used & {tensor.name for tensor in graph.initializer}
