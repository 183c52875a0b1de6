"""Activations in the bodies of If and Loop and in local functions; values that live outside."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import all_activations, read_parameters
from apa_deploy.graph.recognise import recognise
from apa_deploy.loading.onnx_file import load_onnx
from apa_deploy.maths import KINDS, REFERENCE
from tests.graph.corpus import spellings

LAM, KAPPA = 0.4, 1.2
# Two float32 roundings of ln(lambda) and the parity limit of apa_deploy.parity.operator_gate.
LIMIT = 3e-6


def body(kind, element=TensorProto.FLOAT, source="x", **options):
    """Nodes and initializers from `source` to a result, with names of their own."""
    g = spellings.Graph(element=element, **options)
    z = g.op("Transpose", source, perm=[0, 1])
    gate = spellings.softplus_threshold(g, z, LAM, KAPPA)
    return g, g.op("Mul", z, gate) if kind == "AGLU" else gate


def value(name, element=TensorProto.FLOAT, dims=("N", 3)):
    return helper.make_tensor_value_info(name, element, dims)


def model(nodes, initializers=(), inputs=(), element=TensorProto.FLOAT, functions=(), domains=()):
    graph = helper.make_graph(
        nodes, "g", [value("x", element), *inputs], [value("y", element, (None, None))], initializers
    )
    imports = [helper.make_opsetid("", 18), *domains]
    made = helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions)
    onnx.checker.check_model(made, full_check=True)
    return made


def if_model(kind, element=TensorProto.FLOAT, outer_parameters=False):
    g, result = body(kind, element)
    g.nodes.append(helper.make_node("Identity", [result], ["then_out"]))
    inner = [] if outer_parameters else g.initializers
    then = helper.make_graph(g.nodes, "then", [], [value("then_out", element, (None, None))], inner)
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["else_out"])], "else", [], [value("else_out", element, (None, None))]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    return model([node], g.initializers if outer_parameters else (), [condition], element)


def loop_model(kind):
    g, result = body(kind, source="state")
    g.nodes.append(helper.make_node("Identity", [result], ["next"]))
    g.nodes.append(helper.make_node("Identity", ["go"], ["still"]))
    flags = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("go", "still")]
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    inside = helper.make_graph(
        g.nodes, "body", [turn, flags[0], value("state")], [flags[1], value("next")], g.initializers
    )
    count = numpy_helper.from_array(np.array(2, np.int64), "count")
    return model([helper.make_node("Loop", ["count", "", "x"], ["y"], body=inside)], [count])


def function_model(kind):
    g, result = body(kind)
    nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in g.initializers] + g.nodes
    nodes.append(helper.make_node("Identity", [result], ["out"]))
    function = helper.make_function("mine", "Act", ["x"], ["out"], nodes, [helper.make_opsetid("", 18)])
    call = helper.make_node("Act", ["x"], ["y"], domain="mine")
    return model([call], functions=[function], domains=[helper.make_opsetid("mine", 1)])


def run(made, **feed):
    x = np.random.default_rng(0).normal(0, 3, (5, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    x = x.astype(np.float16) if session.get_inputs()[0].type == "tensor(float16)" else x
    return x, session.run(None, {"x": x, **feed})[0]


CASES = {
    "If": (if_model, {"c": np.array(True)}, 1),
    "If, parameters outside": (lambda kind: if_model(kind, outer_parameters=True), {"c": np.array(True)}, 1),
    "Loop": (loop_model, {}, 2),
}


@pytest.mark.parametrize("form", [decompose, with_functions])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_bodies_are_entered(case, kind, form):
    make, feed, turns = CASES[case]
    made = make(kind)
    recognition = recognise(made)
    assert [f.kind for f in recognition.found] == [kind]
    assert not made.graph.initializer or case == "Loop"
    node = next(all_activations(made.graph))
    assert read_parameters(node).kappa == (pytest.approx(KAPPA),)
    made = form(made)
    onnx.checker.check_model(made, full_check=True)
    x, y = run(made, **feed)
    wanted = x.astype(np.float64)
    for _ in range(turns):
        wanted = REFERENCE[kind](wanted, LAM, KAPPA)
    assert np.abs(y - wanted).max() <= turns * LIMIT * max(1, np.abs(wanted).max())


def test_half_in_a_branch_is_computed_in_float32():
    made = if_model("AGLU", TensorProto.FLOAT16)
    assert len(recognise(made).found) == 1
    x, y = run(decompose(made), c=np.array(True))
    wanted = REFERENCE["AGLU"](x.astype(np.float64), LAM, KAPPA)
    # half an ulp of the result; lambda and kappa rounded to 2^-11, at most |z| <= 10 of them
    assert np.abs(y - wanted).max() <= 2.0**-11 * np.abs(wanted).max() + 10 * 2.0**-11


@pytest.mark.parametrize("kind", KINDS)
def test_local_functions_are_inlined(kind, tmp_path):
    onnx.save(function_model(kind), tmp_path / "f.onnx")
    made = load_onnx(tmp_path / "f.onnx")
    assert not made.functions
    assert [f.kind for f in recognise(made).found] == [kind]
