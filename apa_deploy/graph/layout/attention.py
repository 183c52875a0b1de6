"""Find what SE and CBAM blocks do to a feature map, which becomes one operator.

    y = AGLU(x * channel_gate * plane_gate + residual)

`channel_gate` is (N, C, 1, 1), `plane_gate` (N, 1, H, W); either may be missing, and the last two steps too.
Between the two gates of CBAM lies the pooling over the channels, Concat(ReduceMax, ReduceMean), which reads
x * channel_gate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx

from ...maths import UNIT, Parameters
from ..node import is_activation, read_parameters
from .edit import Links, attribute, is_standard
from .pools import read_axes
from .shapes import Dim

Shapes = dict[str, tuple[Dim, ...]]


@dataclass(frozen=True)
class Tail:
    """A gated feature map; values by name, None where missing. `absorbed`: outputs of the nodes it replaces."""

    source: str
    target: str
    channels: int
    channel_gate: str | None = None
    plane_gate: str | None = None
    residual: str | None = None
    pool: str | None = None  # the Concat's output
    unit: Parameters | None = None
    absorbed: frozenset[str] = frozenset()

    @property
    def exposed(self) -> tuple[str, ...]:
        """Values beside the source that the operator reads."""
        return tuple(v for v in (self.channel_gate, self.plane_gate, self.residual) if v)


def tails(model: onnx.ModelProto, known: Shapes) -> list[Tail]:
    """The gated maps of `model`, none of which share a node."""
    links = Links(model.graph)
    found = {node.output[0]: tail for node in model.graph.node if (tail := _match_gated(node, links, known))}
    for target, tail in list(found.items()):
        if tail.source in found and (both := _both_gates(found[tail.source], tail, links)):
            del found[tail.source]
            found[target] = both
        elif tail.plane_gate and (pooled := _match_pooled(tail.source, links)):
            found[target] = replace(tail, pool=pooled[0], absorbed=tail.absorbed | pooled[1])
    return [_with_unit(tail, links, known) for tail in found.values()]


def _match_gated(node: onnx.NodeProto, links: Links, known: Shapes) -> Tail | None:
    if not is_standard(node, "Mul"):
        return None
    for x, gate in (node.input, reversed(node.input)):
        channels = _count_gated_channels(known.get(x, ()), known.get(gate, ()))
        if channels and gate in links.maker and x in links.maker:
            tail = Tail(x, node.output[0], channels, absorbed=frozenset(node.output))
            plane = known[gate][1] == 1
            return replace(tail, plane_gate=gate) if plane else replace(tail, channel_gate=gate)
    return None


def _count_gated_channels(x: tuple[Dim, ...], gate: tuple[Dim, ...]) -> int:
    """The channels of x where `gate` is one number a channel or a position of it; else 0."""
    if len(x) != 4 or len(gate) != 4 or not isinstance(x[1], int) or x[1] == 1:
        return 0
    by_channel = gate[1] == x[1] and gate[2:] == (1, 1)
    return x[1] if _is_map(x, x[1]) and (by_channel or _is_map(gate, 1)) else 0


def _is_map(shape: tuple[Dim, ...], channels: int) -> bool:
    return len(shape) == 4 and shape[1] == channels and shape[2] != 1 and shape[3] != 1


def _both_gates(first: Tail, second: Tail, links: Links) -> Tail | None:
    """CBAM: a channel gate, then a plane gate, with nothing else than the pooling reading in between."""
    if first.plane_gate or not second.plane_gate:
        return None
    pooled = _match_pooled(first.target, links)
    readers = {reader.output[0] for reader in links.readers[first.target]}
    absorbed = first.absorbed | second.absorbed | (pooled[1] if pooled else frozenset())
    if first.target in links.outputs or not readers <= absorbed:
        return None
    return replace(
        second,
        source=first.source,
        channel_gate=first.channel_gate,
        pool=pooled[0] if pooled else None,
        absorbed=absorbed,
    )


def _match_pooled(source: str, links: Links) -> tuple[str, frozenset[str]] | None:
    """The Concat of the largest and the mean over the channels of `source`, and what makes it."""
    largest, mean = (_over_channels(source, name, links) for name in ("ReduceMax", "ReduceMean"))
    if largest is None or mean is None:
        return None
    concat = links.only_reader(largest)
    if concat is None or not is_standard(concat, "Concat") or attribute(concat, "axis") != 1:
        return None
    if list(concat.input) != [largest, mean] or links.only_reader(mean) is not concat:
        return None
    if concat.output[0] in links.outputs:
        return None
    return concat.output[0], frozenset({largest, mean, concat.output[0]})


def _over_channels(source: str, operation: str, links: Links) -> str | None:
    for node in links.readers[source]:
        if is_standard(node, operation) and attribute(node, "keepdims", 1) and read_axes(node, links) == [1]:
            return node.output[0]
    return None


def _with_unit(tail: Tail, links: Links, known: Shapes) -> Tail:
    """Take in the addition of the residual and the unit after it, where nothing else reads in between."""
    add = links.only_reader(tail.target)
    if add is None or not is_standard(add, "Add"):
        return tail
    residual = next((name for name in add.input if name != tail.target), None)
    unit = links.only_reader(add.output[0])
    if residual is None or residual not in links.maker or unit is None or not _is_unit(unit):
        return tail
    if not _is_map(known.get(residual, ()), tail.channels):
        return tail
    absorbed = tail.absorbed | {add.output[0], unit.output[0]}
    return replace(tail, target=unit.output[0], residual=residual, unit=read_parameters(unit), absorbed=absorbed)


def _is_unit(node: onnx.NodeProto) -> bool:
    if not is_activation(node) or node.op_type != UNIT:
        return False
    parameters = read_parameters(node)
    return parameters.channels == 1 or parameters.axis in (1, -3)
