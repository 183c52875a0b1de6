"""Where activations stand in an exported file: canonical nodes by themselves, decomposed ones by their names.

com.apa::AGLU named "layer1.act"                        its input, its output
"layer1.act/Mul_0" ... "layer1.act/Mul_12"              what enters the chain, what leaves it
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from .node import activations

_LINK = re.compile(r"(?P<path>.+)/[A-Za-z0-9]+_\d+")
METADATA = "apa.activations"


@dataclass(frozen=True)
class Place:
    """`path`: of the torch module, "#2" appended for its second use; `kind`; the values around it."""

    path: str
    kind: str
    source: str
    target: str


def places(model: onnx.ModelProto) -> list[Place]:
    """The activations of a file of ours, in the order of the graph; none in anybody else's."""
    found = [Place(n.name, n.op_type, n.input[0], n.output[0]) for n in activations(model.graph)]
    return found or _decomposed(model)


def recorded(model: onnx.ModelProto, key: str) -> str | None:
    """What `apa-export` wrote into the file's metadata under `key`."""
    return next((entry.value for entry in model.metadata_props if entry.key == key), None)


def _decomposed(model: onnx.ModelProto) -> list[Place]:
    kinds = {path: facts["kind"] for path, facts in json.loads(recorded(model, METADATA) or "{}").items()}
    chains: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        match = _LINK.fullmatch(node.name)
        if match and match["path"].split("#")[0] in kinds:
            chains.setdefault(match["path"], []).append(node)
    return [Place(path, kinds[path.split("#")[0]], *_ends(chain)) for path, chain in chains.items()]


def _ends(chain: Iterable[onnx.NodeProto]) -> tuple[str, str]:
    """The one value that enters from outside and is no constant of the chain, and the last one made."""
    nodes = list(chain)
    prefix = nodes[0].name.rsplit("/", 1)[0] + "/"
    inside = {name for node in nodes for name in node.output}
    entering = [name for node in nodes for name in node.input if name not in inside and not name.startswith(prefix)]
    return entering[0], nodes[-1].output[0]
