"""The twin of a model with learned activations: the same graph with plain ones, to measure beside it.

AGLU   z -> [node or chain] -> y      becomes      Relu, or z * Sigmoid(z)
APA    z -> [node or chain] -> y      becomes      Sigmoid
"""

from __future__ import annotations

import copy
from typing import Any

import onnx
from onnx import helper

from ..errors import InputError
from ..maths import UNIT
from .isolate import between
from .node import DOMAIN
from .sites import ActivationSite, find_sites
from .values import producers


def twin(model: onnx.ModelProto, plain: str) -> onnx.ModelProto:
    """`model` itself, canonical or decomposed, with a plain activation in each place.

    Args:
        plain: what takes the place of a unit, one of PLAIN_UNITS; a gate becomes a sigmoid.

    Raises:
        InputError: the file does not say where its activations are.
    """
    sites = find_sites(model)
    if not sites:
        saw = "an ONNX file that names no learned activation"
        raise InputError(
            saw, "a file that apa-export wrote", "Export the model with apa-export, or leave --against out."
        )
    makers, constants = producers(model), {tensor.name for tensor in model.graph.initializer}
    removed = {n.output[0] for p in sites for n in between(p.source, p.target, makers, constants)}
    ends = {site.target: site for site in sites}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.output[0] in ends:
            nodes += _plain(ends[node.output[0]], plain)
        elif node.output[0] not in removed:
            nodes.append(node)
    _set_nodes(model, nodes)
    return model


def _plain(site: ActivationSite, plain: str) -> list[onnx.NodeProto]:
    z, y, path = site.source, site.target, site.name
    if site.kind != UNIT:
        return [helper.make_node("Sigmoid", [z], [y], name=f"{path}/Sigmoid")]
    if plain == "relu":
        return [helper.make_node("Relu", [z], [y], name=f"{path}/Relu")]
    gate = f"{y}/gate"
    return [
        helper.make_node("Sigmoid", [z], [gate], name=f"{path}/Sigmoid"),
        helper.make_node("Mul", [z, gate], [y], name=f"{path}/Mul"),
    ]


def _set_nodes(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """The new nodes, without constants, functions and domains that only the old ones used."""
    used = {name for node in nodes for name in node.input} | {value.name for value in model.graph.output}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    functions = [function for function in model.functions if function.domain != DOMAIN]
    domains = [entry for entry in model.opset_import if entry.domain != DOMAIN]
    fields: list[tuple[Any, list[Any]]] = [
        (model.graph.node, nodes),
        (model.graph.initializer, constants),
        (model.functions, functions),
        (model.opset_import, domains),
    ]
    for field, values in fields:
        kept = copy.deepcopy(values)  # they belong to the field that is emptied next
        del field[:]
        field.extend(kept)
    del model.metadata_props[:]
