"""Loop, Scan and the standard domain's second name in float64, against ONNX Runtime."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.graph.evaluator import make_evaluator
from apa_deploy.graph.widen import widen
from apa_deploy.runtimes.ort_session import open_session

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)


def typed(name, shape, element=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, element, shape)


def answers(nodes, outputs, initializers=()):
    graph = helper.make_graph(
        nodes, "g", [typed("x", X.shape)], [typed(name, None) for name in outputs], list(initializers)
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    theirs = open_session(model).run(None, {"x": X})
    delegated = {}
    ours = make_evaluator(widen(model), delegated).run(None, {"x": X.astype(np.float64)})
    assert not delegated
    return ours, theirs


def check(ours, theirs):
    assert [a.shape for a in ours] == [a.shape for a in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("below", [None, 0.4, 9.0], ids=["condition handed on", "ends early", "never ends early"])
@pytest.mark.parametrize("condition", ["", "true", "false"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_loop(count, condition, below):
    """Carried: x halved each time; scanned: x itself and its sum, a scalar."""
    body = [
        helper.make_node("Mul", ["h", "half"], ["h2"]),
        helper.make_node("Identity", ["h2"], ["row"]),
        helper.make_node("ReduceMax", ["h2"], ["top"], keepdims=0),
        helper.make_node("Less", ["top", "below"], ["small"]),
        helper.make_node("Identity", ["c"], ["c2"])
        if below is None
        else helper.make_node("Not", ["small"], ["c2"]),
    ]
    entering = [typed("i", [], TensorProto.INT64), typed("c", [], TensorProto.BOOL), typed("h", [3, 4])]
    leaving = [typed("c2", [], TensorProto.BOOL), typed("h2", [3, 4]), typed("row", [3, 4]), typed("top", [])]
    loop = helper.make_node(
        "Loop",
        ["count", condition, "x"],
        ["y", "rows", "tops"],
        body=helper.make_graph(body, "b", entering, leaving),
    )
    constants = {"count": np.array(count), "half": np.array(0.5, "f"), "below": np.array(below or 0.0, "f")}
    constants |= {"true": np.array(True), "false": np.array(False)}
    check(*answers([loop], ["y", "rows", "tops"], [numpy_helper.from_array(v, k) for k, v in constants.items()]))


def test_a_loop_that_turns_too_often(monkeypatch):
    monkeypatch.setattr("apa_deploy.graph.reference_loops._MOST_TURNS", 2)
    test_loop(1, "true", None)
    with pytest.raises(RuntimeError, match="a Loop of more than 2 turns"):
        test_loop(3, "true", None)


@pytest.mark.parametrize("attributes", [
    {}, {"scan_input_axes": [1]}, {"scan_input_directions": [1]}, {"scan_output_axes": [1]},
    {"scan_input_axes": [-1], "scan_output_axes": [-1], "scan_output_directions": [1]},
], ids=str)  # fmt: skip
def test_scan(attributes):
    axis = attributes.get("scan_input_axes", [0])[0]
    size = X.shape[1 if axis == 0 else 0]
    body = helper.make_graph(
        [helper.make_node("Add", ["h", "r"], ["h2"]), helper.make_node("Identity", ["h2"], ["row"])],
        "b", [typed("h", [size]), typed("r", [size])], [typed("h2", [size]), typed("row", [size])],
    )  # fmt: skip
    scan = helper.make_node("Scan", ["start", "x"], ["y", "rows"], body=body, num_scan_inputs=1, **attributes)
    start = numpy_helper.from_array(np.arange(size, dtype="f"), "start")
    check(*answers([scan], ["y", "rows"], [start]))


def test_the_other_name_of_the_standard_domain():
    nodes = [helper.make_node("Exp", ["x"], ["y"], domain="ai.onnx")]
    ours, theirs = answers(nodes, ["y"])
    assert ours[0].dtype == np.float64
    check(ours, theirs)
