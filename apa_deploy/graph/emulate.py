"""A half graph -> a float32 graph that computes the same: each value is rounded where it is stored.

    Conv(half) -> y      becomes      Conv(float32) -> Cast(to half) -> Cast(to float32) -> y

What a device does that multiplies in half, sums in float32 and stores in half. It shows every rounding, where
a runtime without kernels for the type leaves out some, and runs where the runtime has no such kernels at all.
Run it with graph optimisations off: they may take the pair of Casts away. Feed inputs that the type can hold.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from .decompose import HALF_TYPES
from .values import ranks_and_types

FLOAT = TensorProto.FLOAT


def emulate_halves(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model`, float32 everywhere; values keep their names."""
    halves = {name: element for name, (_, element) in ranks_and_types(model).items() if element in HALF_TYPES}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    nodes = [made for node in graph.node for made in _with_roundings(node, halves)]
    del graph.node[:]
    graph.node.extend(nodes)
    for tensor in graph.initializer:
        _widen(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in HALF_TYPES:
            value.type.tensor_type.elem_type = FLOAT
    return copy


def _with_roundings(node: onnx.NodeProto, halves: dict[str, int]) -> list[onnx.NodeProto]:
    made = [node]
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i in HALF_TYPES:
            attribute.i = FLOAT
        elif attribute.HasField("t"):
            _widen(attribute.t)
    for i, name in enumerate(node.output):
        if name in halves:
            exact, rounded = f"{name}/exact", f"{name}/rounded"
            node.output[i] = exact
            made.append(helper.make_node("Cast", [exact], [rounded], name=rounded, to=halves[name]))
            made.append(helper.make_node("Cast", [rounded], [name], name=f"{name}/widened", to=FLOAT))
    return made


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type in HALF_TYPES:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name))
