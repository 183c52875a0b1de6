"""Cut a graph at some of its values: end it there, or feed every piece between them by itself, in one run.

... -> a -> Conv -> b -> ...     becomes     a (input) -> Conv -> b/measured (output);   b (input) -> ...
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from .values import ranks_and_types

MEASURED = "/measured"


def cut_pieces(model: onnx.ModelProto, values: Sequence[str]) -> onnx.ModelProto:
    """`model` itself: each of `values` an input, and what the graph makes of it the output `value/measured`.

    Its own outputs stay, but for those among `values`.
    """
    graph, cut = model.graph, set(values)
    known = ranks_and_types(model)
    for node in graph.node:
        node.output[:] = [f"{name}{MEASURED}" if name in cut else name for name in node.output]
    kept = [value for value in graph.output if value.name not in cut]
    types = {name: known.get(name, (None, TensorProto.FLOAT))[1] for name in values}
    measured = [helper.make_tensor_value_info(f"{name}{MEASURED}", types[name], None) for name in values]
    graph.input.extend(helper.make_tensor_value_info(name, types[name], None) for name in values)
    del graph.output[:]
    graph.output.extend([*kept, *measured])
    del graph.value_info[:]
    return model


def end_graph_at(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """A copy of `model` with these values as its outputs, and only the nodes and weights that they need."""
    whole, known = ir.from_proto(model), ranks_and_types(model)
    graph = ir.convenience.extract(whole.graph, whole.graph.inputs, outputs)
    for value in graph.outputs:
        if value.type is None:
            value.type = ir.TensorType(ir.DataType(known.get(value.name or "", (None, TensorProto.FLOAT))[1]))
    part = ir.Model(graph, ir_version=whole.ir_version, functions=list(whole.functions.values()))
    part.metadata_props.update(whole.metadata_props)
    return ir.to_proto(part)
