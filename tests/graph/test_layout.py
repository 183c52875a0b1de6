"""The passes that prepare a model for the blocked layout, one by one."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.graph.layout.placeholders import with_placeholders
from apa_deploy.graph.layout.pools import pools
from apa_deploy.graph.layout.shapes import shapes


def _model(nodes, outputs, constants=(), opset=18):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 20, "h", "w"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", [x], ends, list(constants))
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.apa", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


@pytest.mark.parametrize(
    ("operation", "pool"), [("ReduceMean", "GlobalAveragePool"), ("ReduceMax", "GlobalMaxPool")]
)
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [1]])
@pytest.mark.parametrize("keep", [0, 1])
def test_global_reductions_become_pools(operation, pool, axes, keep):
    constant = numpy_helper.from_array(np.array(axes, np.int64), "axes")
    model = _model([helper.make_node(operation, ["x", "axes"], ["y"], keepdims=keep)], ["y"], [constant])
    x = np.random.default_rng(0).standard_normal((2, 20, 5, 7)).astype(np.float32)
    before = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    pools(model, shapes(model))
    assert (model.graph.node[0].op_type == pool) == (axes != [1])
    after = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    assert after.shape == before.shape and np.allclose(after, before, atol=1e-6)  # 35 additions of numbers below 4


def _block(**changes):
    """Gate, scale, add, unit; `changes` spoil it."""
    unit = {"lambda": [0.5], "kappa": [1.0], "domain": "com.apa"}
    nodes = [
        helper.make_node("Relu", ["x"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
        helper.make_node("APA", ["mean"], ["gate"], **unit),
        helper.make_node("Mul", changes.get("mul", ["map", "gate"]), ["scaled"]),
        helper.make_node("Neg", ["map"], ["other"]),
        helper.make_node("Add", ["other", "scaled"], ["sum"]),
        helper.make_node(changes.get("unit", "AGLU"), ["sum"], ["y"], **unit),
    ]
    return _model(nodes, ["y", *changes.get("outputs", [])])


SPOILT = [
    ("as it is", {}, "AGLU", True),
    ("gate first", {"mul": ["gate", "map"]}, "AGLU", True),
    ("the sum is an output", {"outputs": ["sum"]}, None, False),
    ("the scaled map is an output", {"outputs": ["scaled"]}, None, False),
    ("a gate after the sum", {"unit": "APA"}, None, False),
]


@pytest.mark.parametrize(("changes", "unit", "residual"), [s[1:] for s in SPOILT], ids=[s[0] for s in SPOILT])
def test_only_values_that_nobody_else_reads_disappear(changes, unit, residual):
    model = _block(**changes)
    plan = with_placeholders(model)
    tail = next(slot for slot in plan.slots if hasattr(slot, "channel_gate"))
    assert (tail.unit is not None, tail.residual is not None) == (unit is not None, residual)
    assert {"y", *changes.get("outputs", [])} <= {value.name for value in model.graph.output}
