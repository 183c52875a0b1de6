"""Where activations stand in an exported file: canonical nodes by themselves, decomposed ones by their names.

com.apa::AGLU named "layer1.act"                        its input, its output
"layer1.act/Mul_0" ... "layer1.act/Mul_12"              what enters the chain, what leaves it
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import onnx

from .node import activations, read_parameters

_LINK = re.compile(r"(?P<path>.+)/[A-Za-z0-9]+_\d+")
METADATA = "apa.activations"


@dataclass(frozen=True)
class Place:
    """`path`: of the torch module, "#2" appended for its second use; `kind`; the values around it.

    `channels`: how many values of lambda and kappa it has along `axis`.
    """

    path: str
    kind: str
    source: str
    target: str
    channels: int = 1
    axis: int = 1


def places(model: onnx.ModelProto) -> list[Place]:
    """The activations of a file of ours, in the order of the graph; none in anybody else's."""
    return [_canonical(node) for node in activations(model.graph)] or _decomposed(model)


def _canonical(node: onnx.NodeProto) -> Place:
    p = read_parameters(node)
    channels = max(len(p.lambda_), len(p.kappa))
    return Place(node.name, node.op_type, node.input[0], node.output[0], channels, p.axis)


def recorded(model: onnx.ModelProto, key: str) -> str | None:
    """What `apa-export` wrote into the file's metadata under `key`."""
    return next((entry.value for entry in model.metadata_props if entry.key == key), None)


def _decomposed(model: onnx.ModelProto) -> list[Place]:
    known = json.loads(recorded(model, METADATA) or "{}")
    chains: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        match = _LINK.fullmatch(node.name)
        if match and match["path"].split("#")[0] in known:
            chains.setdefault(match["path"], []).append(node)
    return [_place(path, known[path.split("#")[0]], chain) for path, chain in chains.items()]


def _place(path: str, facts: dict[str, Any], chain: Iterable[onnx.NodeProto]) -> Place:
    return Place(path, facts["kind"], *_ends(chain), max(len(facts["lambda"]), len(facts["kappa"])))


def _ends(chain: Iterable[onnx.NodeProto]) -> tuple[str, str]:
    """The one value that enters from outside and is no constant of the chain, and the last one made."""
    nodes = list(chain)
    prefix = nodes[0].name.rsplit("/", 1)[0] + "/"
    inside = {name for node in nodes for name in node.output}
    entering = [name for node in nodes for name in node.input if name not in inside and not name.startswith(prefix)]
    return entering[0], nodes[-1].output[0]
