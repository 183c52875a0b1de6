"""One graph and the graphs around it: who makes a value, who uses it, and which values are constant."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..node import read_by
from .evaluate import FLOATS, STANDARD, Array, UnknownError, evaluate_node

# Parameters have one value, or one a channel. Larger tensors are weights.
_LARGEST_CONSTANT = 1 << 16
# Half an ulp of 1, by element type.
_ROUNDOFF: dict[int, float] = {
    TensorProto.DOUBLE: 2.0**-53,
    TensorProto.FLOAT: 2.0**-24,
    TensorProto.FLOAT16: 2.0**-11,
    TensorProto.BFLOAT16: 2.0**-8,
}


@dataclass(frozen=True)
class Constant:
    """`values`: float64 where they are floats. `roundoff`: relative rounding of the stored type; 0: none.

    `like`: the values whose shapes it is spread over, "" for one that is not known.
    """

    values: Array
    roundoff: float = 0.0
    like: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Type:
    """Element type and dimensions of a value: each an int, a name, or None where unknown."""

    element: int
    dims: tuple[int | str | None, ...] | None = None

    def of(self, name: str) -> onnx.ValueInfoProto:
        """A declaration of a value of this type."""
        return helper.make_tensor_value_info(name, self.element, self.dims)


class Scope:
    """A graph inside the graphs that surround it.

    `types`: the same graph after shape inference. `index`: a value's place in the order of computation.
    """

    def __init__(self, graph: onnx.GraphProto, types: onnx.GraphProto, outer: Scope | None = None) -> None:
        self.graph, self.outer = graph, outer
        self.makers = {output: node for node in graph.node for output in node.output if output}
        self.index = {output: i for i, node in enumerate(graph.node) for output in node.output if output}
        self.outputs = {value.name for value in graph.output}
        self.uses = _uses(graph)
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._types = _read_declared(graph) | _read_declared(types)
        self._constants: dict[str, Constant | None] = {}

    def constant(self, name: str) -> Constant | None:
        """The constant called `name`, folded where operators make it; None where it depends on an input."""
        pending = [name]
        while pending:  # no recursion: a chain of constants may be as long as the graph
            top = pending[-1]
            waiting = [] if top in self._constants else self._unfolded_inputs(top)
            if waiting:
                pending += waiting
                continue
            if top not in self._constants:
                self._constants[top] = self._look_up(top)
            pending.pop()
        return self._constants[name]

    def type_of(self, name: str) -> Type | None:
        """What is known of a value; None where nothing is."""
        return self._types.get(name) or (self.outer.type_of(name) if self.outer else None)

    def _unfolded_inputs(self, name: str) -> list[str]:
        node = self.makers.get(name)
        if node is None or name in self._initializers:
            return []
        return [value for value in node.input if value and value not in self._constants]

    def _look_up(self, name: str) -> Constant | None:
        if name in self._initializers:
            return constant_of(self._initializers[name])
        node = self.makers.get(name)
        if node is None:
            known_here = name in self._types and any(v.name == name for v in self.graph.input)
            return self.outer.constant(name) if self.outer and not known_here else None
        return constant_node(node) if node.op_type == "Constant" else self._fold(node)

    def _fold(self, node: onnx.NodeProto) -> Constant | None:
        inputs = [self._constants.get(name) for name in node.input]
        spread = self._spread(node, inputs)
        if spread is not None or node.op_type == "QuantizeLinear":
            return spread
        if not inputs or any(c is None and name for c, name in zip(inputs, node.input, strict=True)):
            return None
        try:
            values = evaluate_node(node, [c.values if c else None for c in inputs])
        except UnknownError:
            return None
        if values.size > _LARGEST_CONSTANT:
            return None
        like = frozenset[str]().union(*(c.like for c in inputs if c))
        return Constant(values, max(c.roundoff for c in inputs if c), like)

    def _spread(self, node: onnx.NodeProto, inputs: list[Constant | None]) -> Constant | None:
        """The constant that `node` spreads over the shape of a value, or gives its type."""
        if node.domain not in STANDARD or not inputs or inputs[-1] is not None:
            return None
        if node.op_type == "CastLike" and inputs[0]:
            element = getattr(self.type_of(node.input[1]), "element", 0)
            is_float = inputs[0].values.dtype == np.float64
            if element in FLOATS or (not element and is_float):
                roundoff = max(inputs[0].roundoff, _ROUNDOFF.get(element, 0.0))
                return Constant(inputs[0].values.astype(np.float64), roundoff, inputs[0].like)
        if node.op_type == "Expand" and inputs[0]:
            return replace(inputs[0], like=inputs[0].like | {self._shape_of(node.input[1])})
        if node.op_type == "ConstantOfShape":
            one = evaluate_node(node, [np.zeros(0, np.int64)])
            tensor = next((a.t for a in node.attribute if a.name == "value"), None)
            roundoff = _ROUNDOFF.get(tensor.data_type if tensor is not None else TensorProto.FLOAT, 0.0)
            return Constant(one, roundoff, frozenset({self._shape_of(node.input[0])}))
        return None

    def _shape_of(self, name: str) -> str:
        """The value whose whole shape `name` is, or ""."""
        node = self.makers.get(name)
        while node is not None and node.op_type in ("Identity", "Cast"):
            node = self.makers.get(node.input[0])
        return node.input[0] if node is not None and node.op_type == "Shape" and not node.attribute else ""


def element_of(roundoff: float) -> int:
    """The float type of this relative rounding."""
    return next(element for element, other in _ROUNDOFF.items() if other == roundoff)


def constant_of(tensor: onnx.TensorProto) -> Constant | None:
    """A stored tensor; None where it is large, external and not loaded, or no number."""
    size = int(np.prod(tensor.dims)) if tensor.dims else 1
    if size > _LARGEST_CONSTANT or tensor.data_location == TensorProto.EXTERNAL:
        return None
    try:
        values = numpy_helper.to_array(tensor)
    except (TypeError, ValueError, KeyError):
        return None
    if tensor.data_type in FLOATS:
        return Constant(values.astype(np.float64), _ROUNDOFF[tensor.data_type])
    return Constant(values) if values.dtype.kind in "iub" else None


def constant_node(node: onnx.NodeProto) -> Constant | None:
    """The value of a Constant node in any of its spellings."""
    if len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        return constant_of(attribute.t)
    if attribute.ref_attr_name or not attribute.name.startswith(("value_float", "value_int")):
        return None
    values = np.asarray(helper.get_attribute_value(attribute))
    is_float = attribute.name.startswith("value_float")
    return Constant(values.astype(np.float64), _ROUNDOFF[TensorProto.FLOAT]) if is_float else Constant(values)


def _uses(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Value -> nodes of this graph that use it, themselves or in a graph that they hold."""
    uses: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in read_by(node):
            uses[name].append(node)
    return uses


def _read_declared(graph: onnx.GraphProto) -> dict[str, Type]:
    found = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.type.HasField("tensor_type"):
            tensor = value.type.tensor_type
            dims = tuple(_dim(d) for d in tensor.shape.dim) if tensor.HasField("shape") else None
            found[value.name] = Type(tensor.elem_type, dims)
    return found


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value
    return dim.dim_param or None
