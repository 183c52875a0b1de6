"""Put one canonical node in the place of a piece of a graph, and drop what nobody uses any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import onnx

from ..node import make_node, read_by
from .found import Fold


def rewritten(graph: onnx.GraphProto, folds: Sequence[Fold]) -> None:
    """Change `graph` in place: each fold's target is made by one canonical node, where its last node stood."""
    by_target = {fold.target: fold for fold in folds}
    dropped = {id(node) for fold in folds for node in fold.nodes}
    nodes = []
    for node in graph.node:
        fold = by_target.get(node.output[0]) if node.output else None
        if fold:
            nodes.append(make_node(fold.kind, fold.source, fold.target, fold.parameters, fold.name))
        elif id(node) not in dropped:
            nodes.append(node)
    parameters = {name for fold in folds for node in fold.nodes for name in node.input}
    kept = _without_unused(nodes, parameters, {value.name for value in graph.output})
    del graph.node[:]
    graph.node.extend(kept)


def _without_unused(
    nodes: list[onnx.NodeProto], suspects: Iterable[str], outputs: set[str]
) -> list[onnx.NodeProto]:
    """Drop the makers of `suspects`, and what they alone used, where no use is left."""
    uses = Counter(name for node in nodes for name in read_by(node))
    makers = {output: node for node in nodes for output in node.output if output}
    dropped: set[int] = set()
    pending = list(suspects)
    while pending:
        node = makers.get(pending.pop())
        if node is None or id(node) in dropped or any(uses[name] or name in outputs for name in node.output):
            continue
        dropped.add(id(node))
        uses.subtract(read_by(node))
        pending += node.input
    return [node for node in nodes if id(node) not in dropped]


def find_used_values(graph: onnx.GraphProto) -> set[str]:
    """Every value that a node of `graph`, or of a graph inside it, reads, and the outputs."""
    return {name for node in graph.node for name in read_by(node)} | {value.name for value in graph.output}


def drop_initializers(graph: onnx.GraphProto, used_before: set[str]) -> None:
    """Drop the initializers that were in use before and are not any more."""
    unused = used_before - find_used_values(graph)
    for i in reversed(range(len(graph.initializer))):
        if graph.initializer[i].name in unused:
            del graph.initializer[i]
