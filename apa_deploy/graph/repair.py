"""What other exporters leave in a graph that our passes and onnx's tools would trip over, put right.

sizes of -1   outputs without a shape   GroupNormalization of opset 18
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .values import infer_types

# GroupNormalization had scale and bias a group, then a channel; onnx's converter confuses the two.
_GROUPS = range(18, 21)


def open_dimensions(model: onnx.ModelProto) -> list[str]:
    """Make sizes below 1 open in inputs, and negative ones in outputs; the inputs of size 0 that were opened."""
    empty = []
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value < 1:
                empty += [value.name] if dim.dim_value == 0 else []
                dim.Clear()
    for value in (*model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0 or (empty and dim.HasField("dim_value") and dim.dim_value == 0):
                dim.Clear()
    return list(dict.fromkeys(empty))


def fix_sizes(model: onnx.ModelProto, sizes: Mapping[str, Mapping[int, int]]) -> None:
    """Fix open sizes of inputs, by name and axis, wherever their names stand; what is computed of them is open."""
    fixed: dict[str, int] = {}
    for value in model.graph.input:
        for axis, size in sizes.get(value.name, {}).items():
            dim = value.type.tensor_type.shape.dim[axis]
            fixed |= {dim.dim_param: size} if dim.dim_param else {}
            dim.dim_value = size
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in fixed:
                dim.dim_value = fixed[dim.dim_param]
            elif fixed.keys() & set(re.findall(r"\w+", dim.dim_param)):
                dim.Clear()


def declare_shapes(model: onnx.ModelProto) -> None:
    """Give outputs without a shape the one that shape inference finds: onnx's checker wants one."""
    bare = [value for value in model.graph.output if not value.type.tensor_type.HasField("shape")]
    if not bare:
        return
    found = {value.name: value for value in infer_types(model).output}
    for value in bare:
        if found[value.name].type.tensor_type.HasField("shape"):
            value.type.CopyFrom(found[value.name].type)


def spell_out_group_norms(model: onnx.ModelProto, opset: int) -> None:
    """GroupNormalization of opsets 18 to 20 as what it means, which every opset and runtime has.

    x -> Reshape (N, groups, rest) -> InstanceNormalization(scale, bias) -> Reshape as x
    """
    if opset not in _GROUPS:
        return
    nodes: list[onnx.NodeProto] = []
    for i, node in enumerate(model.graph.node):
        if node.op_type == "GroupNormalization" and not node.domain:
            nodes += _spell_out(node, f"{node.name or node.output[0]}/{i}", model.graph)
        else:
            nodes.append(node)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _spell_out(node: onnx.NodeProto, name: str, graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    shape = numpy_helper.from_array(np.array([0, given["num_groups"], -1], dtype=np.int64), f"{name}/groups")
    graph.initializer.append(shape)
    yield helper.make_node("Shape", [node.input[0]], [f"{name}/shape"], name=f"{name}/Shape")
    yield helper.make_node("Reshape", [node.input[0], shape.name], [f"{name}/grouped"], name=f"{name}/Reshape")
    yield helper.make_node(
        "InstanceNormalization", [f"{name}/grouped", *node.input[1:]], [f"{name}/normal"],
        name=f"{name}/InstanceNormalization", epsilon=given.get("epsilon", 1e-5),
    )  # fmt: skip
    yield helper.make_node("Reshape", [f"{name}/normal", f"{name}/shape"], [node.output[0]], name=f"{name}/Back")
