"""Global means and maxima as the pooling operators that stay in the blocked layout.

ReduceMean(x, axes (2, 3))  ->  GlobalAveragePool, and Flatten unless the axes are kept
ReduceMax(x, axes (2, 3))   ->  GlobalMaxPool, and the same
"""

from __future__ import annotations

import onnx
from onnx import helper

from .edit import Links, attribute, is_standard, replace_nodes
from .shapes import Dim

_POOLS = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}


def pools(model: onnx.ModelProto, known: dict[str, tuple[Dim, ...]]) -> None:
    """Rewrite `model` in place; `known`: its shapes."""
    links = Links(model.graph)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes += _pool(node) if _is_global(node, links, known) else [node]
    replace_nodes(model.graph, nodes)


def read_axes(node: onnx.NodeProto, links: Links) -> list[int] | None:
    """The axes of a reduction, an input since opset 18 and an attribute before."""
    if len(node.input) > 1 and node.input[1]:
        return links.integers(node.input[1])
    axes = attribute(node, "axes")
    return [int(a) for a in axes] if isinstance(axes, list | tuple) else None


def _is_global(node: onnx.NodeProto, links: Links, known: dict[str, tuple[Dim, ...]]) -> bool:
    if not any(is_standard(node, name) for name in _POOLS) or len(known.get(node.input[0], ())) != 4:
        return False
    axes = read_axes(node, links)
    return axes is not None and sorted(a % 4 for a in axes) == [2, 3]


def _pool(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    source, target, pool = node.input[0], node.output[0], _POOLS[node.op_type]
    if attribute(node, "keepdims", 1):
        return [helper.make_node(pool, [source], [target], name=node.name)]
    kept = f"{target}/kept"
    return [
        helper.make_node(pool, [source], [kept], name=node.name),
        helper.make_node("Flatten", [kept], [target], name=f"{node.name}/flat", axis=1),
    ]
