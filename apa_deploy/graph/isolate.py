"""Cut activations out of a model: one small model with an input and an output for each of them.

... -> a -> [activation nodes] -> b -> ...     becomes     site0/a -> [the same nodes] -> site0/b
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper

from ..errors import InputError
from .values import producers, ranks_and_types


def isolate_sites(
    model: onnx.ModelProto, sites: Sequence[tuple[str, str]]
) -> tuple[onnx.ModelProto, list[str], list[str]]:
    """The parts of `model` between each (input value, output value), side by side in one model.

    Returns:
        The model, and the names of its inputs and outputs in the order of `sites`. Shapes are left open.

    Raises:
        InputError: a site's output does not follow from its input alone.
    """
    makers, known = producers(model), ranks_and_types(model)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, onnx.TensorProto] = {}
    inputs, outputs = [], []
    for i, (source, target) in enumerate(sites):
        cut = between(source, target, makers, set(initializers))
        rename = {
            name: f"site{i}/{name}" for node in cut for name in (*node.input, *node.output) if name not in constants
        }
        rename = {name: new for name, new in rename.items() if name not in initializers}
        nodes += [_rename_values(node, rename) for node in cut]
        used = {name for node in cut for name in node.input if name in initializers}
        constants |= {name: initializers[name] for name in used}
        element = known.get(source, (None, onnx.TensorProto.FLOAT))[1]
        inputs.append(helper.make_tensor_value_info(rename[source], element, None))
        outputs.append(helper.make_tensor_value_info(rename[target], element, None))
    graph = helper.make_graph(nodes, "activations", inputs, outputs, list(constants.values()))
    small = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    small.functions.extend(model.functions)
    return small, [v.name for v in inputs], [v.name for v in outputs]


def between(
    source: str, target: str, makers: dict[str, onnx.NodeProto], initializers: set[str]
) -> list[onnx.NodeProto]:
    """The nodes from `source` to `target`, in topological order."""
    ordered: list[onnx.NodeProto] = []
    done: set[str] = {source, ""} | initializers
    stack = [target]
    while stack:
        name = stack[-1]
        if name in done:
            stack.pop()
            continue
        node = makers.get(name)
        if node is None:
            raise InputError(f"value {target} depends on {name}", f"{source} alone", "Export the model again.")
        waiting = [value for value in node.input if value not in done]
        if waiting:
            stack += waiting
        else:
            ordered.append(node)
            done |= set(node.output)
    return ordered


def _rename_values(node: onnx.NodeProto, rename: dict[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [rename.get(name, name) for name in node.input]
    copy.output[:] = [rename.get(name, name) for name in node.output]
    copy.name = f"{rename[node.output[0]]}/{node.op_type}"
    return copy
