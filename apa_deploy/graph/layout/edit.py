"""The nodes of a graph by what they make and what they read."""

from __future__ import annotations

from collections import defaultdict
from graphlib import TopologicalSorter

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Links:
    """Who makes a value and who reads it, in the main graph as it was when this was made."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.maker = {output: node for node in graph.node for output in node.output if output}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in {*node.input, *outer_names(node)}:
                self.readers[name].append(node)
        self.constants = {t.name: t for t in graph.initializer}
        self.outputs = {value.name for value in graph.output}

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads `name`, if there is no other and it is no output of the graph."""
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def find_producer(self, name: str, operation: str) -> onnx.NodeProto | None:
        """The node that makes `name`, if it is the standard operator `operation`."""
        node = self.maker.get(name)
        return node if node is not None and is_standard(node, operation) else None

    def integers(self, name: str) -> list[int] | None:
        """The value of a constant list of integers."""
        if name in self.constants:
            return [int(v) for v in np.ravel(numpy_helper.to_array(self.constants[name]))]
        node = self.find_producer(name, "Constant")
        if node is None:
            return None
        return [int(v) for v in np.ravel(numpy_helper.to_array(_value(node)))]


def is_standard(node: onnx.NodeProto, operation: str) -> bool:
    """Whether `node` is `operation` of ONNX's own domain."""
    return node.op_type == operation and node.domain in ("", "ai.onnx")


def attribute(node: onnx.NodeProto, name: str, otherwise: object = None) -> object:
    """The value of an attribute, or `otherwise`."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), otherwise)


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Make `nodes` the graph's, each after those whose values it reads."""
    maker = {output: i for i, node in enumerate(nodes) for output in node.output if output}
    before = {
        i: {maker[name] for name in (*node.input, *outer_names(node)) if name in maker}
        for i, node in enumerate(nodes)
    }
    ordered = [nodes[i] for i in TopologicalSorter(before).static_order()]
    del graph.node[:]
    graph.node.extend(ordered)


def outer_names(node: onnx.NodeProto) -> set[str]:
    """What the subgraphs of `node` (If, Loop) may read from outside."""
    bodies = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    names: set[str] = set()
    for body in bodies:
        names |= {value.name for value in body.output}
        for inner in body.node:
            names |= {*inner.input, *outer_names(inner)}
    return names


def _value(node: onnx.NodeProto) -> onnx.TensorProto:
    value = attribute(node, "value")
    if isinstance(value, onnx.TensorProto):
        return value
    return numpy_helper.from_array(np.asarray(attribute(node, "value_ints", attribute(node, "value_int", []))))
