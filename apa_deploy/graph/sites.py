"""An activation of a network, and where such activations stand in an ONNX file: canonical nodes by themselves,
decomposed ones by their names.

com.apa::AGLU named "layer1.act"                        its input, its output
"layer1.act/Mul_0" ... "layer1.act/Mul_12"              what enters the chain, what leaves it
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx

from ..errors import InputError
from ..maths import Parameters
from .node import activations, read_parameters

_LINK = re.compile(r"(?P<name>.+)/[A-Za-z0-9]+_\d+")
_USE = re.compile(r"#(?P<use>[2-9]|[1-9]\d+)\Z")
METADATA = "apa.activations"


@dataclass(frozen=True)
class ActivationSite:
    """One use of one learned activation.

    `path`: of the torch module, or the name of the node; `use`: 2 for the second use of a shared module;
    `floor`: of the network's own lambda, "-" where nothing tells; `source`, `target`: the values around it in a
    graph, or "".
    """

    path: str
    kind: str
    parameters: Parameters
    floor: str = "-"
    use: int = 1
    source: str = ""
    target: str = ""

    @property
    def name(self) -> str:
        """`path`, with "#2" for the second use."""
        return use_name(self.path, self.use)

    @property
    def channels(self) -> int:
        """How many values of lambda and kappa it has along the axis of its parameters."""
        return self.parameters.channels


@dataclass(frozen=True)
class NoMatch:
    """A part that looks like a learned activation but is none of ours, by its path, and why."""

    path: str
    reason: str


def use_name(path: str, use: int) -> str:
    """The name of the use of an activation in a graph."""
    return path if use == 1 else f"{path}#{use}"


def split_use(name: str) -> tuple[str, int]:
    """Path and use of what `use_name` names."""
    match = _USE.search(name)
    return (name[: match.start()], int(match["use"])) if match else (name, 1)


def find_sites(model: onnx.ModelProto) -> list[ActivationSite]:
    """The activations of a file of ours, in the order of the graph; none in anybody else's."""
    return [site_of_node(node) for node in activations(model.graph)] or _find_decomposed(model)


def move_to_file(sites: Sequence[ActivationSite], model: onnx.ModelProto) -> list[ActivationSite]:
    """`sites` of a trace with the values around them in the file that was written: a half type renames some."""
    there = {site.name: site for site in find_sites(model)}
    found = [(site, there.get(site.name, site)) for site in sites]
    return [replace(site, source=moved.source, target=moved.target) for site, moved in found]


def site_of_node(node: onnx.NodeProto) -> ActivationSite:
    """The site of a canonical node."""
    path, use = split_use(node.name)
    return ActivationSite(
        path, node.op_type, read_parameters(node), use=use, source=node.input[0], target=node.output[0]
    )


def read_metadata(model: onnx.ModelProto, key: str) -> str | None:
    """What `apa-export` wrote into the file's metadata under `key`."""
    return next((entry.value for entry in model.metadata_props if entry.key == key), None)


def read_recorded(model: onnx.ModelProto, key: str, kind: type) -> Any:
    """A value of `kind` that `apa-export` wrote as JSON under `key`; an empty one where it is absent.

    Raises:
        InputError: it is damaged, or of another kind.
    """
    text = read_metadata(model, key)
    try:
        value = kind() if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _explain_damage(key, type(error).__name__) from error
    if not isinstance(value, kind):
        raise _explain_damage(key, f"a {type(value).__name__}")
    return value


def _explain_damage(key: str, reason: str) -> InputError:
    return InputError(f"metadata {key} that is damaged ({reason})", "what apa-export writes", "Export it again.")


def _find_decomposed(model: onnx.ModelProto) -> list[ActivationSite]:
    known = read_recorded(model, METADATA, dict)
    chains: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        match = _LINK.fullmatch(node.name)
        if match and not known.keys().isdisjoint((match["name"], split_use(match["name"])[0])):
            chains.setdefault(match["name"], []).append(node)
    return [_site_of_chain(name, known, chain) for name, chain in chains.items()]


def _site_of_chain(name: str, known: dict[str, Any], chain: Iterable[onnx.NodeProto]) -> ActivationSite:
    path, use = (name, 1) if name in known else split_use(name)  # somebody's own name may end so
    facts = known[path]
    try:
        parameters = Parameters(tuple(facts["lambda"]), tuple(facts["kappa"]), facts.get("axis", 1))
        source, target = _ends(chain)
        return ActivationSite(path, facts["kind"], parameters, facts.get("floor", "-"), use, source, target)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise _explain_damage(METADATA, f"of {path}") from error


def _ends(chain: Iterable[onnx.NodeProto]) -> tuple[str, str]:
    """The one value that enters from outside and is no constant of the chain, and the last one made."""
    nodes = list(chain)
    prefix = nodes[0].name.rsplit("/", 1)[0] + "/"
    inside = {name for node in nodes for name in node.output}
    entering = [name for node in nodes for name in node.input if name not in inside and not name.startswith(prefix)]
    return entering[0], nodes[-1].output[0]
