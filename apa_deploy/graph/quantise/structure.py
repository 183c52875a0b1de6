"""What parts of a network are, as far as quantisation cares: gates, vectors, heads; and the names of its layers."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx

from ..layout.edit import Links, attribute, is_standard
from ..layout.pools import read_axes
from ..layout.shapes import Dim, shapes
from .units import pointwise_units

WEIGHTED = {"Conv": 0, "Gemm": 0, "MatMul": -1}  # the axis of the weight's output channels
# These move values or choose among them: what leaves has the scale of what enters.
MOVING = frozenset(
    {"MaxPool", "Slice", "Pad", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Split"}
    | {"Resize", "DepthToSpace", "SpaceToDepth", "Identity", "Dropout"}
)
AVERAGING = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})
CUTTING = frozenset({"Relu", "Clip"})


class Structure:
    """The main graph of a canonical model: who reads what, and what is a gate, a vector or a head.

    `gates`: values that multiply a map, one a channel or a position. `in_gate`, `pooled`: outputs of nodes that
    only lead to a gate, and of those behind a global pool. `leads_on`: what some layer or unit further on reads.

    Args:
        features: outputs that layers elsewhere read, so that what makes them is no head.
    """

    def __init__(self, model: onnx.ModelProto, features: Collection[str] = ()) -> None:
        self.graph = model.graph
        self.links, self.known = Links(self.graph), shapes(model)
        self.units = {unit.target: unit for unit in pointwise_units(model)}
        self.inside = {name: unit for unit in self.units.values() for name in unit.inside}
        self.inputs = {value.name for value in self.graph.input} - set(self.links.constants)
        self.gates = dict(self._find_gates())
        self.pooled = self._find_pooled()
        self.in_gate = self._find_in_gate()
        self.leads_on = self._find_leads_on(features)

    def rank(self, name: str) -> int:
        return len(self.known.get(name, ()))

    def is_map(self, name: str) -> bool:
        """A float32 value that is computed, has positions, and is no pooled vector."""
        return self.rank(name) >= 3 and name not in self.links.constants and name not in self.pooled

    def weight_of(self, node: onnx.NodeProto) -> str | None:
        """The constant weight of a layer, or None: it is no layer, or computes its weight."""
        if not any(is_standard(node, operator) for operator in WEIGHTED) or len(node.input) < 2:
            return None
        tensor = self.links.constants.get(node.input[1])
        usable = tensor is not None and tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) >= 2
        return node.input[1] if usable else None

    def label(self, node: onnx.NodeProto) -> str:
        """A layer as its author called it: its weight's name, without `.weight`; else the node's."""
        weight = self.weight_of(node)
        if weight and "." in weight:
            return weight.partition(".weight")[0]
        return node.name or node.output[0]

    def readers(self, name: str) -> list[onnx.NodeProto]:
        return self.links.readers.get(name, [])

    def cut_behind(self, name: str) -> str:
        """The output of the Relu or Clip that alone reads `name`: runtimes take it into the layer; else `name`."""
        reader = self.links.only_reader(name)
        if reader is None or not any(is_standard(reader, operator) for operator in CUTTING):
            return name
        return reader.output[0] if reader.input[0] == name and name not in self.inside else name

    def _find_gates(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """Output of the product -> (map, gate)."""
        for node in self.graph.node:
            if not is_standard(node, "Mul") or node.output[0] in self.inside:
                continue
            for x, gate in (node.input, reversed(node.input)):
                if self._spreads(self.known.get(gate, ()), self.known.get(x, ())) and self._are_computed(x, gate):
                    yield node.output[0], (x, gate)
                    break

    def _are_computed(self, *names: str) -> bool:
        return all(name in self.links.maker or name in self.inputs for name in names)

    @staticmethod
    def _spreads(gate: tuple[Dim, ...], x: tuple[Dim, ...]) -> bool:
        """Whether `gate` has one number where `x` has many, at an axis behind the batch."""
        if len(x) < 3 or len(gate) != len(x):
            return False
        return any(g == 1 and d != 1 for g, d in zip(gate[1:], x[1:], strict=True))

    def _find_pooled(self) -> frozenset[str]:
        found: set[str] = set()
        for node in self.graph.node:
            computed = [name for name in node.input if name and name not in self.links.constants]
            behind = bool(computed) and all(name in found for name in computed)
            if self._is_global_pool(node) or behind:
                found |= set(node.output)
        return frozenset(found)

    def _is_global_pool(self, node: onnx.NodeProto) -> bool:
        if any(is_standard(node, operator) for operator in ("GlobalAveragePool", "GlobalMaxPool")):
            return True
        if not any(is_standard(node, operator) for operator in ("ReduceMean", "ReduceMax")):
            return False
        axes, rank = read_axes(node, self.links), self.rank(node.input[0])
        return axes is not None and rank >= 3 and {a % rank for a in axes} >= set(range(2, rank))

    def _find_in_gate(self) -> frozenset[str]:
        gates = {gate for _, gate in self.gates.values()}
        found: set[str] = set()
        for node in reversed(self.graph.node):
            outputs = [name for name in node.output if name]
            if outputs and all(self._only_gates(name, gates, found) for name in outputs):
                found |= set(outputs)
        return frozenset(found)

    def _only_gates(self, name: str, gates: set[str], found: set[str]) -> bool:
        readers = self.readers(name)
        if name in self.links.outputs or not readers:
            return False
        return all(
            reader.output[0] in found
            or (reader.output[0] in self.gates and name in gates and self.gates[reader.output[0]][0] != name)
            for reader in readers
        )

    def _find_leads_on(self, features: Collection[str]) -> frozenset[str]:
        found = set(features)
        for node in reversed(self.graph.node):
            unit = self.inside.get(node.output[0])
            counts = bool(self.weight_of(node) and not self.reads_probabilities(node)) or bool(
                unit and not unit.bounded
            )
            if (counts or any(name in found for name in node.output)) and node.output[0] not in self.in_gate:
                found |= set(node.input)
        return frozenset(found)

    def reads_probabilities(self, node: onnx.NodeProto) -> bool:
        """Whether a layer reads a Softmax, as the one that turns distributions into distances does."""
        maker = self.links.maker.get(node.input[0])
        while maker is not None and maker.op_type in MOVING:
            maker = self.links.maker.get(maker.input[0])
        return maker is not None and maker.op_type == "Softmax"


def values_moved_by(node: onnx.NodeProto, structure: Structure) -> tuple[str, ...]:
    """The float values that share one scale because `node` only moves them; empty where it is none such."""
    output = node.output[0]
    if not any(is_standard(node, operator) for operator in MOVING):
        return ()
    if output not in structure.known or output in structure.pooled:
        return ()
    if node.op_type == "Resize" and attribute(node, "mode", b"nearest") == b"cubic":
        return ()
    if node.op_type == "Pad" and (
        attribute(node, "mode", b"constant") == b"constant" and not _pads_with_zero(node, structure)
    ):
        return ()
    sources = node.input if node.op_type == "Concat" else node.input[:1]
    if any(name in structure.links.constants or name not in structure.known for name in sources):
        return ()
    outputs = node.output[:1] if node.op_type in ("MaxPool", "Dropout") else node.output
    return (*sources, *outputs)


def _pads_with_zero(node: onnx.NodeProto, structure: Structure) -> bool:
    if len(node.input) < 3 or not node.input[2]:
        return True
    tensor = structure.links.constants.get(node.input[2])
    return tensor is not None and not onnx.numpy_helper.to_array(tensor).any()
