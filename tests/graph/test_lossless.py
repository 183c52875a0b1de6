"""Reading a model with onnx-ir and writing it again loses nothing, so passes may use either library."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import make_node
from apa_deploy.maths import Parameters

CORPUS = sorted((Path(__file__).parent / "corpus" / "files").rglob("*.onnx"))


def attributes(node):
    return {a.name: meaning(a.g) if a.HasField("g") else a.SerializeToString() for a in node.attribute}


def node_of(node):
    metadata = {entry.key: entry.value for entry in node.metadata_props}
    return (node.domain, node.op_type, node.name, list(node.input), list(node.output), attributes(node), metadata)


def values(entries):
    return {value.name: value.type.SerializeToString(deterministic=True) for value in entries}


def meaning(graph):
    """What a graph says; the order of attributes, and types of what is not in it, say nothing."""
    there = {name for node in graph.node for name in node.output}
    return {
        "nodes": [node_of(node) for node in graph.node],
        "inputs": [value.name for value in graph.input],
        "outputs": [value.name for value in graph.output],
        "types": values([*graph.input, *graph.output, *(v for v in graph.value_info if v.name in there)]),
        "weights": {t.name: t.SerializeToString(deterministic=True) for t in graph.initializer},
        "quantization": {
            q.tensor_name: {e.key: e.value for e in q.quant_parameter_tensor_names}
            for q in graph.quantization_annotation
        },
    }


def whole(model):
    return {
        "graph": meaning(model.graph),
        "opsets": {entry.domain: entry.version for entry in model.opset_import},
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
        "functions": {
            (f.domain, f.name): ([node_of(n) for n in f.node], list(f.input), list(f.output))
            for f in model.functions
        },
        "ir_version": model.ir_version,
        "producer": (model.producer_name, model.producer_version),
    }


def everything(folder):
    """Functions, metadata, external data, a quantization annotation, a branch with weights of its own."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    branch = [
        helper.make_graph(
            [helper.make_node("Mul", ["a", f"w{i}"], [f"b{i}"])],
            f"branch{i}",
            [],
            [helper.make_tensor_value_info(f"b{i}", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.full(4, i + 1, "f"), f"w{i}")],
        )
        for i in range(2)
    ]
    scalar = Parameters(np.array([0.3]), np.array([1.2]))
    nodes = [
        make_node("AGLU", "x", "a", scalar, name="act"),
        helper.make_node("If", ["yes"], ["c"], then_branch=branch[0], else_branch=branch[1]),
        helper.make_node("Add", ["c", "weight"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.arange(4, dtype="f"), "weight"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    graph.quantization_annotation.add(tensor_name="x").quant_parameter_tensor_names.add(
        key="SCALE_TENSOR", value="weight"
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    model = with_functions(helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="test"))
    helper.set_model_props(model, {"apa.labels": '["a"]'})
    path = folder / "everything.onnx"
    onnx.save(model, path, save_as_external_data=True, location="everything.data", size_threshold=0)
    return path


@pytest.mark.parametrize("path", [*CORPUS, everything], ids=lambda path: getattr(path, "stem", "everything"))
def test_nothing_is_lost(path, tmp_path):
    model = onnx.load(path(tmp_path) if callable(path) else path, load_external_data=False)
    ends = {value.name for value in model.graph.output}
    for value in [value for value in model.graph.value_info if value.name in ends]:
        model.graph.value_info.remove(value)  # an output declared twice, with two names for its batch: one is kept
    before, after = whole(model), whole(ir.to_proto(ir.from_proto(model)))
    assert before == after
