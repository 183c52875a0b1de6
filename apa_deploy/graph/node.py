"""The canonical node: builds and reads `com.apa::APA` and `com.apa::AGLU` (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx
from onnx import helper

from ..errors import InputError
from ..maths import KINDS, ParameterError, Parameters, effective_parameters

DOMAIN = "com.apa"
VERSION = 1
_MOST_CHANNELS = 1 << 16  # the widest layers of language models have half of them
PLUGIN_VERSION, PLUGIN_NAMESPACE = "1", "apa"
_CODES, _SCALE_OUT = "Codes", "scale_out"
SCALE_RANGE = (1e-30, 1e30)  # of codes, as the TensorRT plugin takes them (plugins/tensorrt/fields.cc)


def attributes(parameters: Parameters) -> dict[str, Any]:
    """The attributes of a canonical node."""
    return {
        "lambda": [float(value) for value in parameters.lambda_],
        "kappa": [float(value) for value in parameters.kappa],
        "axis": parameters.axis,
        "plugin_version": PLUGIN_VERSION,
        "plugin_namespace": PLUGIN_NAMESPACE,
    }


def make_node(kind: str, source: str, target: str, parameters: Parameters, name: str = "") -> onnx.NodeProto:
    """One canonical node from the value `source` to the value `target`."""
    return helper.make_node(kind, [source], [target], name=name, domain=DOMAIN, **attributes(parameters))


def write_defaults(node: onnx.NodeProto) -> None:
    """Write into a canonical node what it leaves to its defaults: function bodies and TensorRT know none.

    Raises:
        InputError: see `read_parameters`.
    """
    whole = attributes(read_parameters(node))
    others = [attribute for attribute in node.attribute if attribute.name not in whole]
    del node.attribute[:]
    node.attribute.extend([*others, *(helper.make_attribute(name, value) for name, value in whole.items())])


def write_scale_out(node: onnx.NodeProto, scale: float) -> None:
    """Make a canonical node one that gives int8 codes of this scale, zero point 0: for the TensorRT plugin alone
    (`absorb`), where it has a name of its own. It is no canonical node any more."""
    node.op_type += _CODES
    node.attribute.append(helper.make_attribute(_SCALE_OUT, [scale]))


def read_scale_out(node: onnx.NodeProto) -> float | None:
    """The scale of what `write_scale_out` made; None of other nodes."""
    if node.domain != DOMAIN or node.op_type not in {kind + _CODES for kind in KINDS}:
        return None
    return _floats(next(helper.get_attribute_value(one) for one in node.attribute if one.name == _SCALE_OUT))[0]


def is_activation(node: onnx.NodeProto) -> bool:
    """Whether `node` is a canonical node."""
    return node.domain == DOMAIN and node.op_type in KINDS


def activations(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The canonical nodes of a graph, in its order; subgraphs are not entered."""
    return (node for node in graph.node if is_activation(node))


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds: branches of If, bodies of Loop and Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def read_by(node: onnx.NodeProto) -> set[str]:
    """The values that `node` reads, itself or in a graph that it holds."""
    names = set(node.input) - {""}
    for inner in subgraphs(node):
        names |= {value.name for value in inner.output}
        for below in inner.node:
            names |= read_by(below)
    return names


def all_activations(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The canonical nodes of a graph and of every graph inside it."""
    for node in graph.node:
        if is_activation(node):
            yield node
        for inner in subgraphs(node):
            yield from all_activations(inner)


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node, of subgraphs and functions as well."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            waiting += attribute.g.node
            waiting += [inner for graph in attribute.graphs for inner in graph.node]


def read_parameters(node: onnx.NodeProto) -> Parameters:
    """The parameters of a canonical node.

    Raises:
        InputError: an attribute is missing, empty, no finite number, or there are of it neither one nor C.
    """
    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    try:
        read = effective_parameters(_floats(found["lambda"]), _floats(found["kappa"]), int(found.get("axis", 1)))
        if read.channels > _MOST_CHANNELS:
            raise ValueError(f"more than {_MOST_CHANNELS:,} channels")
        return read
    except (KeyError, TypeError, ValueError, ParameterError) as error:
        raise InputError(
            f"node {node.name!r} ({DOMAIN}::{node.op_type}) with attributes {sorted(found)}",
            "lambda and kappa as lists of floats",
            f"Export the model again. ({error})",
        ) from error


def _floats(value: float | Sequence[float]) -> tuple[float, ...]:
    if isinstance(value, str | bytes):
        raise TypeError("text")
    values = tuple(float(v) for v in value) if isinstance(value, Sequence) else (float(value),)
    if not values:
        raise ValueError("an empty list")
    return values
