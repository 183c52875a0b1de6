"""Activations between codes are found by what they compute, however spelled, with ONNX Runtime's own curve."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.graph.quantise.units import pointwise_units
from apa_deploy.runtimes.ort_session import open_session


def _scalar(value, name):
    return numpy_helper.from_array(np.float32(value), name)


HALF, ROOT, ONE, THREE, SIX = (_scalar(v, n) for v, n in ((0.5, "h"), (2**0.5, "r"), (1, "o"), (3, "t"), (6, "s")))
ZERO = _scalar(0, "z")


def _chain(*steps):
    """`Operator a b -> y` a step."""
    nodes = []
    for step in steps:
        operator, *inputs, output = step.split()
        nodes.append(helper.make_node(operator, inputs, [output]))
    return nodes


SPELLINGS = {
    "SiLU": (_chain("Sigmoid x a", "Mul x a y"), []),
    "Sigmoid": (_chain("Sigmoid x y"), []),
    "Tanh": (_chain("Tanh x y"), []),
    "GELU": (_chain("Gelu x y"), []),
    "GELU by Erf": (_chain("Div x r a", "Erf a b", "Add b o c", "Mul x c d", "Mul d h y"), [ROOT, ONE, HALF]),
    "HardSwish": (_chain("HardSwish x y"), []),
    "HardSwish by Clip": (_chain("HardSigmoid x a", "Mul a x y"), []),
    "Mish": (_chain("Mish x y"), []),
    "Mish by Softplus": (_chain("Softplus x a", "Tanh a b", "Mul x b y"), []),
    "Elu": (_chain("Elu x y"), []),
    "LeakyRelu": (_chain("LeakyRelu x y"), []),
}


def _model(nodes, constants):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("name", SPELLINGS)
def test_found_with_its_curve(name):
    model = _model(*SPELLINGS[name])
    (unit,) = pointwise_units(model)
    assert (unit.source, unit.target) == ("x", "y")
    x = np.linspace(-9, 9, 257).astype(np.float32)
    wanted = open_session(model).run(None, {"x": x})[0]
    # float32 in ONNX Runtime: its Erf, Exp and Tanh are right to a few units in the last place of 9.
    assert np.abs(unit.curve(x.astype(np.float64)) - wanted).max() <= 16 * np.spacing(np.float32(9))


PLAIN = {
    "ReLU": (_chain("Relu x y"), []),
    "ReLU6": (_chain("Clip x z s y"), [ZERO, SIX]),
    "arithmetic": (_chain("Mul x h a", "Add a t y"), [HALF, THREE]),
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_runtimes_fuse_by_themselves_is_left(name):
    assert pointwise_units(_model(*PLAIN[name])) == []


def test_a_value_that_others_read_too_ends_a_piece():
    model = _model(_chain("Sigmoid x a", "Mul x a y"), [])
    model.graph.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n"]))
    assert [unit.target for unit in pointwise_units(model)] == ["a"]
