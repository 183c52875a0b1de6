"""Write a plan into a model: explicit QuantizeLinear and DequantizeLinear, weights as codes.

    v made by a node   ->   v/float -> QuantizeLinear -> v/codes -> DequantizeLinear -> v
    an input v         ->   v -> QuantizeLinear -> v/codes -> DequantizeLinear -> v/real, which every node reads
    a weight w         ->   w/codes -> DequantizeLinear<axis> -> w/real

A value keeps its name where it leaves the pair, so that sites, outputs and whoever reads it stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...maths import Float64
from ..layout.edit import Links, attribute, is_standard
from ..layout.pools import pools
from ..layout.shapes import shapes
from ..node import read_by
from .codes import Scale, scale_of, weight_codes, weight_scales
from .plan import Layer, QuantisationPlan

FLOAT, CODES, REAL = "/float", "/codes", "/real"
_SCALE, _ZERO = "/codes_scale", "/codes_zero"  # not /scale and /zero: `decompose` has constants of such names

Ranges = Mapping[str, tuple[float, float]]


def prepare_for_plan(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` itself, with batch norms folded into the convolutions before them, and constants as initializers."""
    _hoist_constants(model.graph)
    _fold_batch_norms(model.graph)
    pools(model, shapes(model))
    return model


def scales_of(plan: QuantisationPlan, ranges: Ranges) -> dict[str, Scale]:
    """The scale of every value in codes: those that share one span all their ranges."""
    spans: dict[str, tuple[float, float]] = {}
    for name, group in plan.groups.items():
        low, high = ranges[name]
        least, most = spans.get(group, (0.0, 0.0))
        spans[group] = min(least, low), max(most, high)
    return {name: scale_of(*spans[group], plan.placement.codes) for name, group in plan.groups.items()}


def quantise_graph(
    model: onnx.ModelProto, plan: QuantisationPlan, scales: Mapping[str, Scale], *, reduced: bool = False
) -> onnx.ModelProto:
    """A copy of `model` with `plan` carried out.

    Args:
        scales: what `scales_of` made.
        reduced: 7-bit weights, see `codes.weight_scales`.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _Writing(result, plan, scales, reduced).write()
    return result


@dataclass
class _Writing:
    model: onnx.ModelProto
    plan: QuantisationPlan
    scales: Mapping[str, Scale]
    reduced: bool

    def write(self) -> None:
        graph = self.model.graph
        inputs = {value.name for value in graph.input}
        layers = {layer.node: layer for layer in self.plan.layers}
        weights = {tensor.name: tensor for tensor in graph.initializer}
        nodes: list[onnx.NodeProto] = []
        done: dict[str, str] = {}
        for name in self.plan.groups:
            if name in inputs:
                nodes += self._pair(name, name, name + REAL)
        for node in graph.node:
            node.input[:] = [name + REAL if name in inputs and name in self.scales else name for name in node.input]
            if not self.plan.placement.residual and is_standard(node, "Add"):
                node.input[:] = [
                    name + FLOAT if name in self.scales and name not in inputs else name for name in node.input
                ]
            layer = layers.get(node.output[0])
            if layer:
                nodes += self._weight(layer, weights, done)
                node.input[1] = done[layer.weight]
            nodes.append(node)
            for i, name in enumerate(node.output):
                if name in self.scales:
                    node.output[i] = name + FLOAT
                    nodes += self._pair(name, name + FLOAT, name)
        self._declare()
        kept = [_copy(node) for node in nodes]
        del graph.node[:]
        graph.node.extend(kept)
        _drop_unread(graph)

    def _pair(self, name: str, source: str, target: str) -> list[onnx.NodeProto]:
        scale, codes = self.scales[name], self.scales[name].codes
        zero = np.array(scale.zero).astype(np.float32).astype(codes.dtype)
        self._constant(name + _SCALE, np.float32(scale.scale))
        self._constant(name + _ZERO, zero)
        ends = [name + _SCALE, name + _ZERO]
        return [
            helper.make_node("QuantizeLinear", [source, *ends], [name + CODES], f"{name}/quantize"),
            helper.make_node("DequantizeLinear", [name + CODES, *ends], [target], f"{name}/dequantize"),
        ]

    def _weight(
        self, layer: Layer, weights: Mapping[str, TensorProto], done: dict[str, str]
    ) -> list[onnx.NodeProto]:
        name = layer.weight
        if name in done:
            return []
        done[name] = name + REAL
        codes = self.plan.placement.codes
        values = numpy_helper.to_array(weights[name])
        scales = weight_scales(values, layer.axis, codes, reduced=self.reduced)
        stored = weight_codes(values, scales, layer.axis, codes)
        self._constant(name + CODES, stored)
        self._constant(name + _SCALE, scales)
        self._constant(name + _ZERO, np.zeros(len(scales), np.float32).astype(stored.dtype))
        inputs = [name + CODES, name + _SCALE, name + _ZERO]
        return [helper.make_node("DequantizeLinear", inputs, [name + REAL], f"{name}/dequantize", axis=layer.axis)]

    def _constant(self, name: str, value: np.ndarray | np.generic) -> None:
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))

    def _declare(self) -> None:
        """The types of the values around each pair."""
        graph = self.model.graph
        declared = {value.name: value for value in graph.value_info}
        for name in self.scales:
            if name in declared:
                for suffix, element in ((FLOAT, TensorProto.FLOAT), (CODES, self.plan.placement.codes.element)):
                    value = graph.value_info.add()
                    value.CopyFrom(declared[name])
                    value.name, value.type.tensor_type.elem_type = name + suffix, element


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in read_by(node)} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    _replace(graph.initializer, kept)


def _replace(field, values) -> None:  # type: ignore[no-untyped-def]
    copies = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(copies)


def _hoist_constants(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        value = attribute(node, "value") if is_standard(node, "Constant") else None
        if isinstance(value, TensorProto):
            tensor = graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
        else:
            kept.append(node)
    if len(kept) < len(graph.node):
        _replace(graph.node, kept)


def _fold_batch_norms(graph: onnx.GraphProto) -> None:
    """Conv -> BatchNormalization that alone reads it: one convolution, in float64, each number rounded once."""
    links, gone = Links(graph), set[int]()
    for norm in graph.node:
        conv = links.find_producer(norm.input[0], "Conv") if is_standard(norm, "BatchNormalization") else None
        if conv is None or links.only_reader(conv.output[0]) is not norm or not _is_constant(conv, norm, links):
            continue
        scale, bias, mean, variance = (_float64(links, name) for name in norm.input[1:5])
        factor = scale / np.sqrt(variance + float(attribute(norm, "epsilon", 1e-5)))  # type: ignore[arg-type]
        weight = _float64(links, conv.input[1])
        own = _float64(links, conv.input[2]) if len(conv.input) > 2 and conv.input[2] else np.zeros(len(weight))
        name = f"{conv.input[1]}_folded"
        _add(graph, name, weight * factor.reshape(-1, *[1] * (weight.ndim - 1)))
        _add(graph, f"{name}/bias", (own - mean) * factor + bias)
        conv.input[:] = [conv.input[0], name, f"{name}/bias"]
        conv.output[0] = norm.output[0]
        gone.add(id(norm))
    if gone:
        _replace(graph.node, [node for node in graph.node if id(node) not in gone])
        _drop_unread(graph)


def _is_constant(conv: onnx.NodeProto, norm: onnx.NodeProto, links: Links) -> bool:
    needed = [*norm.input[1:5], *(name for name in conv.input[1:] if name)]
    stored = all(name in links.constants for name in needed)
    return stored and len(norm.output) == 1 and not attribute(norm, "training_mode", 0)


def _float64(links: Links, name: str) -> Float64:
    return numpy_helper.to_array(links.constants[name]).astype(np.float64)


def _add(graph: onnx.GraphProto, name: str, values: np.ndarray) -> None:
    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
