"""Prepare a model with explicit Q/DQ: activations, and what stands before them, become tables on 8-bit codes.

    DQ  activation  Q                     ->  LeakyRelu<alpha = 1000 + number>  ->  QLinearAGLU<table>
    DQ DQ Add Q, DQ activation Q          ->  Add, the same                     ->  QLinearAddAGLU<table, factors>
    DQ x gate Mul Q, DQ DQ Add Q, DQ ...  ->  the same without the product      ->  QLinearGatedAddAGLU, which reads
                                              (the gate a further output)           the gate as float32

ONNX Runtime makes QLinearLeakyRelu of the placeholder and keeps its channels-last layout through it, so that the
prepared model has the skeleton of its ReLU twin. Whatever stands between DQ and Q and computes one element from one
is an activation here: see `quantise.units`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..node import DOMAIN, VERSION
from ..quantise.codes import S8, U8, Scale
from .edit import Links, attribute, is_standard, outer_names, replace_nodes
from .placeholders import FIRST_ALPHA, MICROSOFT
from .shapes import Dim, shapes
from .swap import BlockedLayoutError

PLACEHOLDER, FUSED = "LeakyRelu", "QLinearLeakyRelu"
_POOL, _TO_NCHW = "QLinearGlobalAveragePool", [0, 3, 1, 2]
_CODES = {np.dtype(np.uint8): U8, np.dtype(np.int8): S8}


@dataclass(frozen=True)
class CodedUnit:
    """What a placeholder stands for. `gate`: a value that multiplies one side of the sum before it, at `side`."""

    name: str
    curve: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    adds: bool
    gate: str | None = None
    side: int = 0


@dataclass
class CodedPlan:
    """Placeholders by number, and the gates that became outputs of the graph."""

    slots: list[CodedUnit] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def is_coded(model: onnx.ModelProto) -> bool:
    """Whether a model has convolutions and explicit Q/DQ."""
    operators = {node.op_type for node in model.graph.node}
    return {"Conv", "QuantizeLinear", "DequantizeLinear"} <= operators


def with_coded_placeholders(model: onnx.ModelProto, *, gated: bool = True) -> CodedPlan:
    """Rewrite `model` in place. `gated`: whether products with gates are taken in too."""
    from ..quantise.units import pointwise_units

    links, known, plan = Links(model.graph), shapes(model), CodedPlan()
    gone: set[str] = set()
    made: list[onnx.NodeProto] = []
    for unit in pointwise_units(model):
        before, after = links.find_producer(unit.source, "DequantizeLinear"), links.only_reader(unit.target)
        if before is None or after is None or not is_standard(after, "QuantizeLinear"):
            continue
        if _scale(links, before) is None or _scale(links, after) is None:
            continue
        add = _sum_before(before, links, known)
        found = _gate_of(add, links, known) if add is not None and gated else None
        gate, side, product = found or (None, 0, None)
        if product is not None and add is not None:
            add.input[side] = next(name for name in product.input if name != gate)
        alpha = FIRST_ALPHA + len(plan.slots)
        plan.slots.append(CodedUnit(unit.name, unit.curve, add is not None, gate, side))
        gone |= unit.inside
        made.append(helper.make_node(PLACEHOLDER, [unit.source], [unit.target], name=unit.name, alpha=alpha))
    for name in dict.fromkeys(slot.gate for slot in plan.slots if slot.gate):
        if name not in links.outputs:
            plan.outputs.append(name)
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, known.get(name)))
    kept = [node for node in model.graph.node if not node.output or node.output[0] not in gone]
    replace_nodes(model.graph, _read([*kept, *made], model.graph))
    return plan


def _read(nodes: list[onnx.NodeProto], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Without what nobody reads any more."""
    while True:
        wanted = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
        wanted |= {name for node in nodes for a in node.attribute if a.HasField("g") for name in _inner(a.g)}
        kept = [node for node in nodes if wanted & set(node.output)]
        if len(kept) == len(nodes):
            return kept
        nodes = kept


def _inner(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from node.input
        for a in node.attribute:
            if a.HasField("g"):
                yield from _inner(a.g)
    yield from (value.name for value in graph.output)


def _scale(links: Links, node: onnx.NodeProto, at: int = 1) -> Scale | None:
    """The scalar scale of a (De)QuantizeLinear of 8-bit codes, or, from input `at`, of a fused operator."""
    if len(node.input) <= at + 1 or any(name not in links.constants for name in node.input[at : at + 2]):
        return None
    scale, zero = (numpy_helper.to_array(links.constants[name]) for name in node.input[at : at + 2])
    codes = _CODES.get(zero.dtype)
    return Scale(float(scale.item()), int(zero.item()), codes) if codes and scale.size == zero.size == 1 else None


def _through_pair(name: str, links: Links) -> tuple[str, onnx.NodeProto] | None:
    """The float value in front of a Q/DQ pair that ends at `name`, and the DequantizeLinear."""
    back = links.find_producer(name, "DequantizeLinear")
    forth = links.find_producer(back.input[0], "QuantizeLinear") if back is not None else None
    return (forth.input[0], back) if forth is not None and back is not None else None


def _sum_before(before: onnx.NodeProto, links: Links, known: dict[str, tuple[Dim, ...]]) -> onnx.NodeProto | None:
    """The Add of two maps of one shape that alone feeds the pair before an activation."""
    pair = _through_pair(before.output[0], links)
    add = links.find_producer(pair[0], "Add") if pair else None
    if add is None or links.only_reader(add.output[0]) is None or links.only_reader(before.input[0]) is not before:
        return None
    a, b = (known.get(name, ()) for name in add.input)
    if len(a) != 4 or len(b) != 4 or any((x == 1) != (y == 1) for x, y in zip(a, b, strict=True)):
        return None
    coded = all(links.find_producer(name, "DequantizeLinear") is not None for name in add.input)
    return add if coded and add.input[0] != add.input[1] else None


def _gate_of(
    add: onnx.NodeProto, links: Links, known: dict[str, tuple[Dim, ...]]
) -> tuple[str, int, onnx.NodeProto] | None:
    """The gate, the side of the sum and the product, where one side is a map times one number a channel."""
    for side, name in enumerate(add.input):
        pair = _through_pair(name, links)
        product = links.find_producer(pair[0], "Mul") if pair else None
        if product is None or links.only_reader(name) is not add or links.only_reader(product.output[0]) is None:
            continue
        for x, gate in (product.input, reversed(product.input)):
            whole, one = known.get(x, ()), known.get(gate, ())
            fits = len(whole) == len(one) == 4 and one[2:] == (1, 1)
            fits = fits and isinstance(one[1], int) and one[1] == whole[1]
            # Its codes must be those of a map, and the batch of the gate the map's.
            if fits and links.find_producer(x, "DequantizeLinear") is not None and one[0] == whole[0]:
                return gate, side, product
    return None


def swap_coded(model: onnx.ModelProto, plan: CodedPlan) -> int:
    """Put our operators where ONNX Runtime left the placeholders in its optimised `model`, in place.

    Returns:
        How many there are.

    Raises:
        BlockedLayoutError: a placeholder is missing, was not fused, or a gated sum lies in no NHWC layout.
    """
    swap = _Swap(model, plan)
    fused = {number: node for node in model.graph.node if (number := _number(node)) is not None}
    if sorted(fused) != list(range(len(plan.slots))):
        saw = f"ONNX Runtime fused {len(fused)} of {len(plan.slots)} activations with their codes"
        raise BlockedLayoutError(saw)
    for number, node in fused.items():
        swap.replace(node, plan.slots[number])
    nodes = [node for node in model.graph.node if id(node) not in swap.gone]
    _drop_outputs(model.graph, plan)
    replace_nodes(model.graph, nodes)
    del model.graph.value_info[:]
    if all(entry.domain != DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
    return len(fused)


def _number(node: onnx.NodeProto) -> int | None:
    if node.op_type != FUSED or node.domain != MICROSOFT:
        return None
    alpha = attribute(node, "alpha", 0.0)
    return round(alpha - FIRST_ALPHA) if isinstance(alpha, float) and alpha >= FIRST_ALPHA else None


def _drop_outputs(graph: onnx.GraphProto, plan: CodedPlan) -> None:
    kept = [value for value in graph.output if value.name not in plan.outputs]
    del graph.output[:]
    graph.output.extend(kept)


class _Swap:
    def __init__(self, model: onnx.ModelProto, plan: CodedPlan) -> None:
        self.links = Links(model.graph)
        self.nhwc = _channels_last(model.graph)
        self.gone: set[int] = set()
        self.sunk: dict[int, onnx.NodeProto] = {}  # placeholder -> the Transpose that stood before it

    def replace(self, node: onnx.NodeProto, slot: CodedUnit) -> None:
        """One placeholder, with the sum before it where nothing else reads that."""
        source, target = _scale(self.links, node), _scale(self.links, node, 3)
        if source is None or target is None:
            raise BlockedLayoutError(f"the scales of {slot.name} are no constants")
        self.sink_transpose(node)
        add = self._sum(node)
        if slot.gate and (add is None or add.output[0] not in self.nhwc):
            raise BlockedLayoutError(f"the gated sum before {slot.name} is not where it was")
        codes = np.arange(source.codes.low, source.codes.high + 1)
        table = target.code_of(slot.curve(source.real_of(codes)))
        factors = self._factors(add) if add is not None else None
        if add is None or factors is None:
            order = codes.astype(source.codes.dtype).view(np.uint8).argsort()
            _become(node, "QLinearAGLU", [node.input[0]], slot.name, table=table[order].tobytes())
            return
        inputs = [add.input[0], add.input[3]]
        if slot.gate:
            sides = (slot.side, 1 - slot.side)
            inputs = [*(inputs[i] for i in sides), slot.gate]
            factors = ([factors[0][i] for i in sides], [*(factors[1][i] for i in sides), factors[1][2]])
        kind = "QLinearGatedAddAGLU" if slot.gate else "QLinearAddAGLU"
        _become(node, kind, inputs, slot.name, table=table.tobytes(), factors=factors[0], zeros=factors[1])
        self.gone.add(id(add))

    def _sum(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The QLinearAdd that alone feeds `node`."""
        up = self.links.maker.get(node.input[0])
        alone = up is not None and self.links.only_reader(up.output[0]) in (node, self.sunk.get(id(node)))
        return up if up is not None and up.op_type == "QLinearAdd" and alone else None

    def sink_transpose(self, node: onnx.NodeProto) -> None:
        """Move a Transpose that alone feeds `node` behind it, and behind a global pool that alone reads that.

        ONNX Runtime leaves one in front of the last placeholder.
        """
        turn = self.links.find_producer(node.input[0], "Transpose")
        if turn is None or self.links.only_reader(turn.output[0]) is not node:
            return
        pool, target = self.links.only_reader(node.output[0]), node.output[0]
        self.sunk[id(node)] = turn
        node.input[0], node.output[0] = turn.input[0], f"{target}/before_transpose"
        turn.input[0], turn.output[0] = node.output[0], target
        if pool is None or pool.op_type != _POOL or list(attribute(turn, "perm", ())) != _TO_NCHW:  # type: ignore[call-overload]
            return
        target = pool.output[0]
        pool.CopyFrom(helper.make_node(_POOL, [node.output[0], *pool.input[1:]], [f"{target}/before_transpose"],
                                       name=pool.name, domain=MICROSOFT, channels_last=1))  # fmt: skip
        turn.input[0], turn.output[0] = pool.output[0], target

    def _factors(self, add: onnx.NodeProto) -> tuple[list[float], list[int]] | None:
        a, b, total = (_scale(self.links, add, at) for at in (1, 4, 6))
        if a is None or b is None or total is None:
            return None
        return [a.scale / total.scale, b.scale / total.scale], [a.zero, b.zero, total.zero]


def _become(node: onnx.NodeProto, kind: str, inputs: list[str], name: str, **attributes: Any) -> None:
    target = node.output[0]
    node.CopyFrom(helper.make_node(kind, inputs, [target], name=name, domain=DOMAIN, **attributes))


def _channels_last(graph: onnx.GraphProto) -> set[str]:
    """The values that lie in NHWC: from operators that say so, through those that keep the order."""
    found: set[str] = set()
    for node in graph.node:
        if attribute(node, "channels_last", 0) or (not is_standard(node, "Transpose") and found & set(node.input)):
            found |= set(node.output)
    return found


def find_last_codes(model: onnx.ModelProto, prepared: onnx.ModelProto) -> dict[str, int]:
    """The last codes before the outputs of `model` that have their name in `prepared` too: name -> zero point.

    codes -> DQ -> float32 alone -> outputs        what follows them is the same in both, and has no codes

    Codes, and not the float values behind them: ONNX Runtime gives each reader a DequantizeLinear of its own.
    """
    links = Links(model.graph)
    there = {name for node in prepared.graph.node for name in node.output}
    found: dict[str, int] = {}
    seen, waiting = set(links.outputs), list(links.outputs)
    while waiting:
        name = waiting.pop()
        node = links.maker.get(name)
        if node is None:
            continue
        scale = _scale(links, node) if is_standard(node, "QuantizeLinear") else None
        if scale is not None and name in there:
            found[name] = scale.zero
            continue
        fresh = {*node.input, *outer_names(node)} - seen
        seen |= fresh
        waiting += fresh
    return found
