"""The matcher as `polygraphy plugin` calls it: what integrations/polygraphy-pattern/*/pattern.py import.

graphsurgeon graph   ->   [{inputs, outputs, attributes}, ...]   ->   the graph with canonical nodes
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx import helper

from ..require import require
from .node import DOMAIN, VERSION, attributes
from .recognise import recognise


def matching_subgraphs(graph: Any, kind: str) -> list[dict[str, Any]]:
    """Every activation of `kind` in an onnx-graphsurgeon graph, as Polygraphy writes them to its config.yaml."""
    surgeon = require("onnx_graphsurgeon")
    found = recognise(surgeon.export_onnx(graph)).found
    return [
        {"inputs": [fold.source], "outputs": [fold.target], "attributes": attributes(fold.parameters)}
        for fold in found
        if fold.kind == kind
    ]


def canonical_put_in(
    graph: Any, inputs: Sequence[Any], outputs: Sequence[Any], attributes_: dict[str, Any] | None, kind: str
) -> Any:
    """Let one canonical node make `outputs`; what nobody uses any more goes. Returns the node."""
    surgeon = require("onnx_graphsurgeon")
    for tensor in outputs:
        tensor.inputs.clear()
    name = outputs[0].name
    node = surgeon.Node(
        op=kind, domain=DOMAIN, name=name, attrs=attributes_, inputs=list(inputs), outputs=list(outputs)
    )
    graph.nodes.append(node)
    domains = list(graph.import_domains or [])
    if not any(entry.domain == DOMAIN for entry in domains):
        graph.import_domains = [*domains, helper.make_opsetid(DOMAIN, VERSION)]
    graph.cleanup().toposort()
    return node
