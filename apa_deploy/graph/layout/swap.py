"""Put our operators where ONNX Runtime's optimiser left the placeholders.

QuickGelu<alpha = 1000 + number>(x)  ->  com.apa::AGLU | APA <block>(x)
                                     ->  com.apa::GatedAGLU | Gated <block>(x, gates, residual)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import onnx
from onnx import helper

from ...maths import Parameters
from ..node import DOMAIN, VERSION, attributes, make_node
from .attention import Tail
from .blocked import ENTER, LEAVE, NCHWC, find_blocked, is_blocked_operator
from .edit import Links, attribute, replace_nodes
from .placeholders import FIRST_ALPHA, MICROSOFT, PLACEHOLDER, Activation, PlaceholderPlan


class BlockedLayoutError(Exception):
    """The optimised model is not as expected; says why."""


def swap_placeholders(model: onnx.ModelProto, plan: PlaceholderPlan, block: int) -> int:
    """Rewrite the optimised `model` in place; `block`: channels in a block.

    Returns:
        How many of our operators lie in the blocked layout.

    Raises:
        BlockedLayoutError: a placeholder is missing, or ONNX Runtime leaves the layout for one.
    """
    graph = model.graph
    numbers = sorted(n for node in graph.node if (n := _number(node)) is not None)
    if numbers != list(range(len(plan.slots))):
        raise BlockedLayoutError(f"{len(numbers)} of {len(plan.slots)} activations are left after optimisation")
    swap = _Swap(graph, block)
    nodes = [new for node in graph.node for new in swap.replace_node(node, plan)]
    _drop_values(graph, plan)
    replace_nodes(graph, list(_without_unread(nodes, graph)))
    _name_sizes(graph, [node for node in nodes if node.domain == DOMAIN and attribute(node, "block")])
    if all(entry.domain != DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
    return swap.count


def _name_sizes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Say that maps have one shape before and after our operators: else none runs in place."""
    del graph.value_info[:]
    shapes: dict[str, tuple[str | int, ...]] = {}
    for node in nodes:
        source, target = node.input[0], node.output[0]
        shape = shapes.get(source, tuple(f"{source}/{axis}" for axis in ("batch", "channels", "height", "width")))
        after = (shape[0], 2, *shape[2:]) if node.op_type == "ChannelPool" else shape
        for name, own in ((source, shape), (target, after)):
            if name not in shapes:
                graph.value_info.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, own))
                shapes[name] = own


def _number(node: onnx.NodeProto) -> int | None:
    if node.op_type != PLACEHOLDER or node.domain != MICROSOFT:
        return None
    alpha = attribute(node, "alpha", 0.0)
    return round(alpha - FIRST_ALPHA) if isinstance(alpha, float) and alpha >= FIRST_ALPHA else None


class _Swap:
    def __init__(self, graph: onnx.GraphProto, block: int) -> None:
        self.links, self.blocked, self.size = Links(graph), find_blocked(graph), block
        self.count = 0
        self._entered: set[str] = set()

    def replace_node(self, node: onnx.NodeProto, plan: PlaceholderPlan) -> Iterator[onnx.NodeProto]:
        number = _number(node)
        if number is None:
            yield node
            return
        slot, source, target = plan.slots[number], node.input[0], node.output[0]
        block = self.size if source in self.blocked else 1
        self.count += block > 1
        self._check_kept(source, target)
        if isinstance(slot, Activation):
            yield _activation(slot, source, target, block)
        else:
            yield from self._tail(slot, source, target, block)

    def _check_kept(self, source: str, target: str) -> None:
        left = self.links.maker.get(source)
        if left is None or not is_blocked_operator(left, LEAVE):
            return
        if any(is_blocked_operator(reader, ENTER) for reader in self.links.readers[target]):
            raise BlockedLayoutError("this ONNX Runtime leaves its blocked layout at an activation")

    def _tail(self, tail: Tail, source: str, target: str, block: int) -> Iterator[onnx.NodeProto]:
        common: dict[str, Any] = {"domain": DOMAIN, "block": block, "channels": tail.channels}
        residual = tail.residual or ""
        if residual and block > 1:
            if residual not in self._entered and self._outside(residual):
                yield _enter(residual)
                self._entered.add(residual)
            residual = self._inside(residual)
        inputs = [source, tail.channel_gate or "", tail.plane_gate or "", residual]
        unit = attributes(_pad_to_block(tail.unit, block)) if tail.unit else {}
        kind = "GatedAGLU" if tail.unit else "Gated"
        yield helper.make_node(kind, inputs, [target], name=f"{target}/{kind}", **common, **unit)
        if tail.pool:
            yield helper.make_node("ChannelPool", inputs[:2], [tail.pool], name=f"{target}/ChannelPool", **common)

    def _outside(self, name: str) -> bool:
        """Whether `name` never lay in the blocked layout."""
        maker = self.links.maker.get(name)
        return maker is None or not is_blocked_operator(maker, LEAVE)

    def _inside(self, name: str) -> str:
        return f"{name}/blocked" if self._outside(name) else self.links.maker[name].input[0]


def _activation(slot: Activation, source: str, target: str, block: int) -> onnx.NodeProto:
    parameters = slot.parameters if block == 1 else _pad_to_block(slot.parameters, block)
    node = make_node(slot.kind, source, target, parameters, slot.name)
    if block > 1:
        node.attribute.append(helper.make_attribute("block", block))
    return node


def _pad_to_block(parameters: Parameters, block: int) -> Parameters:
    """One value for every channel in memory, where the last block is padded; `axis` counted from the front."""
    count = parameters.channels
    missing = -count % block if count > 1 else 0
    lambda_, kappa = (
        values + values[-1:] * missing if len(values) > 1 else values
        for values in (parameters.lambda_, parameters.kappa)
    )
    return replace(parameters, lambda_=lambda_, kappa=kappa, axis=1)


def _enter(name: str) -> onnx.NodeProto:
    return helper.make_node(ENTER, [name], [f"{name}/blocked"], name=f"{name}/enter", domain=NCHWC)


def _drop_values(graph: onnx.GraphProto, plan: PlaceholderPlan) -> None:
    for values, added in ((graph.output, plan.outputs), (graph.input, plan.inputs)):
        kept = [value for value in values if value.name not in added]
        del values[:]
        values.extend(kept)


def _without_unread(nodes: list[onnx.NodeProto], graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Without the nodes that left the layout only for a value that was exposed."""
    read = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    return (node for node in nodes if not is_blocked_operator(node, LEAVE) or node.output[0] in read)
