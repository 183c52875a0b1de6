"""Put QuickGelu where an activation or a gated map stands, and remember what it stands for.

    com.apa::AGLU(x), com.apa::APA(x)    ->  QuickGelu<alpha = 1000 + number>(x)
    AGLU(x * gates + residual)           ->  the same, with gates and residual as further outputs of the graph,
                                             and the pooled map between two gates as a further input

Further outputs and inputs keep ONNX Runtime from touching those values; they are gone once `swap` has run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto, helper

from ...maths import Parameters
from ..node import DOMAIN, is_activation, read_parameters
from .attention import Tail, tails
from .edit import replace_nodes
from .pools import pools
from .shapes import Dim, shapes

MICROSOFT = "com.microsoft"
PLACEHOLDER = "QuickGelu"
FIRST_ALPHA = 1000.0  # far above any alpha that a network has; whole numbers are exact in float32 up to 2^24


@dataclass(frozen=True)
class Activation:
    """A canonical node alone."""

    kind: str
    parameters: Parameters
    name: str


@dataclass
class PlaceholderPlan:
    """What each placeholder stands for, by its number, and the values added to the graph's ends."""

    slots: list[Activation | Tail] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)


def with_placeholders(model: onnx.ModelProto) -> PlaceholderPlan:
    """Rewrite `model` in place; float32 activations that the layout cannot hold stay as they are."""
    known = shapes(model)
    pools(model, known)
    plan, gated = PlaceholderPlan(), {tail.target: tail for tail in tails(model, known)}
    absorbed = frozenset[str]().union(*(tail.absorbed for tail in gated.values()))
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes += _replace_node(node, plan, gated.get(node.output[0]), absorbed, known)
    replace_nodes(model.graph, nodes)
    _expose(model.graph, plan, known)
    _declare(model)
    return plan


def _replace_node(
    node: onnx.NodeProto,
    plan: PlaceholderPlan,
    tail: Tail | None,
    absorbed: frozenset[str],
    known: dict[str, tuple[Dim, ...]],
) -> Iterable[onnx.NodeProto]:
    if tail:
        return [_placeholder(plan, tail, tail.source, tail.target)]
    if node.output[0] in absorbed:
        return []
    if is_activation(node) and _can_stay(node, known):
        slot = Activation(node.op_type, read_parameters(node), node.name)
        return [_placeholder(plan, slot, node.input[0], node.output[0])]
    return [node]


def _placeholder(plan: PlaceholderPlan, slot: Activation | Tail, source: str, target: str) -> onnx.NodeProto:
    alpha = FIRST_ALPHA + len(plan.slots)
    plan.slots.append(slot)
    return helper.make_node(PLACEHOLDER, [source], [target], domain=MICROSOFT, alpha=alpha)


def _can_stay(node: onnx.NodeProto, known: dict[str, tuple[Dim, ...]]) -> bool:
    """float32 (`known` holds no other), and parameters that are one for all or one a channel of a map."""
    shape, parameters = known.get(node.input[0]), read_parameters(node)
    if shape is None:
        return False
    scalar = parameters.channels == 1
    return scalar or (len(shape) == 4 and parameters.axis % 4 == 1)


def _expose(graph: onnx.GraphProto, plan: PlaceholderPlan, known: dict[str, tuple[Dim, ...]]) -> None:
    present = {value.name for value in graph.output}
    found = [slot for slot in plan.slots if isinstance(slot, Tail)]
    for name in dict.fromkeys(name for tail in found for name in tail.exposed):
        if name not in present:
            plan.outputs.append(name)
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, known.get(name)))
    for tail in found:
        if tail.pool:
            plan.inputs.append(tail.pool)
            shape = (known[tail.source][0], 2, *known[tail.source][2:])
            graph.input.append(helper.make_tensor_value_info(tail.pool, TensorProto.FLOAT, shape))


def _declare(model: onnx.ModelProto) -> None:
    """The domain of the placeholders; our functions are not needed where our operators are registered."""
    kept = [function for function in model.functions if function.domain != DOMAIN]
    del model.functions[:]
    model.functions.extend(kept)
    if all(entry.domain != MICROSOFT for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
