"""Decide what of a canonical model is stored in 8 bits, for either target, from one description of the network.

    target "cpu"        DQ Conv Q DQ AGLU Q DQ Conv        ONNX Runtime wants codes on both sides of everything
    target "tensorrt"   DQ Conv      AGLU Q DQ Conv        one fused kernel, whose activation sees exact sums

Both read the same `Structure`. Float stay gates and what leads only to them, vectors behind a global pool, heads,
norms, products of maps, activations with parameters a channel, and what the user names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import onnx

from ...errors import InputError
from ..layout.edit import attribute, is_standard
from .codes import E4M3, S8, U8, Codes
from .structure import AVERAGING, CUTTING, Structure, values_moved_by
from .units import PointwiseUnit


@dataclass(frozen=True)
class Placement:
    """`around`: codes before an activation and behind every layer, not only where a layer reads.

    `residual`: whether a sum reads codes too, where there are some. TensorRT fuses either; float8 is too coarse
    to be added up block by block.
    """

    target: str
    codes: Codes
    around: bool
    residual: bool = True


CPU = Placement("cpu", U8, around=True)
TENSORRT = Placement("tensorrt", S8, around=False)
TENSORRT_FP8 = Placement("tensorrt", E4M3, around=False, residual=False)


@dataclass(frozen=True)
class Layer:
    """A layer in 8 bits: `weight` has its output channels along `axis`; `result`: where its codes are, or none."""

    name: str
    node: str
    source: str
    weight: str
    axis: int
    result: str


@dataclass(frozen=True)
class QuantisationPlan:
    """`groups`: each value in codes -> the first of those that share its scale. `kept`: name -> why it is float."""

    placement: Placement
    groups: dict[str, str]
    layers: tuple[Layer, ...]
    units: tuple[PointwiseUnit, ...]
    kept: dict[str, str] = field(default_factory=dict)


def make_plan(
    model: onnx.ModelProto, placement: Placement, keep_float: Sequence[str] = (), features: Sequence[str] = ()
) -> QuantisationPlan:
    """What to store in 8 bits of a canonical float32 `model`.

    Args:
        keep_float: patterns (`layer1.*`) of layers and activations that stay float, by name.
        features: outputs that layers elsewhere read: what makes them is no head.

    Raises:
        InputError: a pattern matches nothing, or nothing is left to quantise.
    """
    return _Planning(Structure(model, features), placement, keep_float).plan()


class _Planning:
    def __init__(self, structure: Structure, placement: Placement, keep_float: Sequence[str]) -> None:
        self.s, self.placement, self.patterns = structure, placement, keep_float
        self.kept: dict[str, str] = {}
        self.unmatched = set(keep_float)
        self.layers = list(self._layers())
        self.values: set[str] = set()

    def plan(self) -> QuantisationPlan:
        names = [unit.name for unit in self.s.units.values()]
        asked = {unit.target for unit in self.s.units.values() if self._are_asked_for(unit.name, unit.target)}
        if self.unmatched:
            saw = f"--keep-float {sorted(self.unmatched)[0]}"
            known = ", ".join(dict.fromkeys([*(layer.name for layer in self.layers), *names]))
            raise InputError(saw, f"a pattern that matches one of: {known}", "Name layers as the report does.")
        if not self.layers:
            if "--keep-float" in self.kept.values():
                do = "Name fewer, or use --precision fp16."
                raise InputError("--keep-float of every layer", "a layer that is left in 8 bits", do)
            raise InputError("a network without a layer to quantise", "convolutions", "Use --precision fp16.")
        self._spread(asked)
        groups = self._groups()
        units = tuple(u for u in self.s.units.values() if u.target in groups and u.target not in asked)
        for unit in self.s.units.values():
            if unit not in units and unit.name not in self.kept:
                self.kept[unit.name] = self._why_unit(unit, asked)
        self._name_other_float_nodes()
        return QuantisationPlan(self.placement, groups, tuple(self.layers), units, self.kept)

    def _layers(self) -> Iterator[Layer]:
        for node in self.s.graph.node:
            weight = self.s.weight_of(node)
            if weight is None:
                continue
            name, result = self.s.label(node), self.s.cut_behind(node.output[0])
            if reason := self._why_float(node, name):
                self.kept[name] = reason
                continue
            axis = {"Conv": 0, "Gemm": 0 if attribute(node, "transB", 0) else 1}.get(node.op_type, -1)
            rank = len(self.s.links.constants[weight].dims)
            yield Layer(name, node.output[0], node.input[0], weight, axis % rank, result)

    def _why_float(self, node: onnx.NodeProto, name: str) -> str:
        output = node.output[0]
        if self._are_asked_for(name, node.name, output):
            return "--keep-float"
        if output in self.s.in_gate:
            return "leads to a gate only"
        if output in self.s.pooled:
            return "behind a global pool" if output in self.s.leads_on else "the head"
        if self.s.reads_probabilities(node):
            return "reads probabilities"
        if output not in self.s.leads_on:
            return "the head"
        if node.op_type == "Gemm" and attribute(node, "transA", 0):
            return "its input is transposed"
        return ""

    def _are_asked_for(self, *names: str) -> bool:
        matching = {p for p in self.patterns if any(fnmatchcase(name, p) for name in names if name)}
        self.unmatched -= matching
        return bool(matching)

    def _why_unit(self, unit: PointwiseUnit, asked: set[str]) -> str:
        if unit.target in asked:
            return "--keep-float"
        if unit.target in self.s.in_gate or any(gate == unit.target for _, gate in self.s.gates.values()):
            return "a gate"
        return "behind a global pool" if unit.target in self.s.pooled else "no layer in 8 bits reads it"

    def _name_other_float_nodes(self) -> None:
        """Sums and activations on maps that stay float, with the reason, so that a report can say it."""
        inside = {name for unit in self.s.units.values() for name in unit.inside}
        for node in self.s.graph.node:
            output = node.output[0]
            if node.domain == "com.apa" and output not in inside:
                self.kept.setdefault(node.name or output, "parameters a channel")

    # What is in codes: from layers, through what moves values, to what reads codes.

    def _spread(self, asked: set[str]) -> None:
        for layer in self.layers:
            self.values.add(layer.source)
            if self.placement.around and self._is_plain_layer(layer):
                self.values.add(layer.result)
        before = -1
        while before != len(self.values):
            before = len(self.values)
            for node in self.s.graph.node:
                self._spread_over(node, asked)

    def _is_plain_layer(self, layer: Layer) -> bool:
        """Convolutions; ONNX Runtime has kernels with float results for the others, which then lose nothing."""
        return self.s.links.maker[layer.node].op_type == "Conv"

    def _spread_over(self, node: onnx.NodeProto, asked: set[str]) -> None:
        shared = values_moved_by(node, self.s)
        if shared and self.values & set(shared):
            self.values |= set(shared)
        if not self.placement.around:
            return
        output = node.output[0]
        unit = self.s.units.get(output)
        if unit and output not in asked and (unit.source in self.values or output in self.values):
            if output not in self.s.in_gate and output not in self.s.pooled and self._worth_codes(output):
                self.values |= {unit.source, output}
        elif output in self.s.gates and self.s.gates[output][0] in self.values:
            self.values.add(output)
        elif is_standard(node, "Add") and self._is_residual(node) and self.values & set(node.input):
            self.values |= {*node.input, self.s.cut_behind(output)}
        elif any(is_standard(node, o) for o in AVERAGING) and node.input[0] in self.values:
            if self.s.rank(node.input[0]) == 4 and self._is_spatial(node):
                self.values.add(output)
        elif (
            any(is_standard(node, o) for o in CUTTING)
            and node.input[0] in self.values
            and output not in self.s.inside
        ):
            self.values.add(output)

    def _worth_codes(self, output: str) -> bool:
        return any(
            output in self.s.leads_on or reader.op_type in AVERAGING for reader in self.s.readers(output)
        ) or (output in self.s.links.outputs and output in self.values)

    def _is_spatial(self, node: onnx.NodeProto) -> bool:
        return node.op_type != "ReduceMean" or node.output[0] in self.s.pooled

    def _is_residual(self, node: onnx.NodeProto) -> bool:
        """A sum of two maps that a layer, unit, pool or another such sum reads."""
        output = node.output[0]
        if output in self.s.in_gate or output in self.s.inside or not all(map(self.s.is_map, node.input)):
            return False
        readers = self.s.readers(self.s.cut_behind(output))
        return any(self._takes_codes(reader) for reader in readers)

    def _takes_codes(self, node: onnx.NodeProto) -> bool:
        output = node.output[0]
        if output in self.s.in_gate:
            return False
        layer = any(layer.node == output for layer in self.layers)
        return (
            layer
            or output in self.s.inside
            or node.op_type in AVERAGING
            or bool(values_moved_by(node, self.s))
            or (is_standard(node, "Add") and all(map(self.s.is_map, node.input)))
        )

    def _groups(self) -> dict[str, str]:
        """Union of what shares a scale; constants and values of other types never entered."""
        first = {name: name for name in self.values}

        def find(name: str) -> str:
            while first[name] != name:
                name = first[name]
            return name

        for node in self.s.graph.node:
            shared = values_moved_by(node, self.s)
            if shared and set(shared) <= self.values:
                root = find(shared[0])
                for other in shared[1:]:
                    first[find(other)] = root
        return {name: find(name) for name in sorted(self.values)}


def summary(plan: QuantisationPlan) -> str:
    """One line for people."""
    reasons = Counter(plan.kept.values())
    kept = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"{len(plan.layers)} layers and {len(plan.units)} activations in 8 bits" + (
        f"; float: {kept}" if kept else ""
    )
