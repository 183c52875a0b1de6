"""Mutated graphs: the matcher never crashes and never folds what is not the activation.

What it folds is compared with the mutated graph itself, in float64, by onnx's reference evaluation.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from apa_deploy.graph.recognise import recognise
from apa_deploy.graph.reference_operators import OPERATORS
from apa_deploy.graph.widen import widen
from tests.graph.corpus.spellings import GENERAL, spelled

UNARY = ["Neg", "Exp", "Log", "Abs", "Softplus", "Sigmoid", "Relu", "Reciprocal", "Sqrt", "Identity", "Tanh", "Elu"]
BINARY = ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"]
X = np.concatenate([np.linspace(-30, 30, 240), np.logspace(-3, 1.9, 30), -np.logspace(-3, 1.9, 30)])
X = X.reshape(1, 3, 10, 10)
# A fold may be off by 1.5e-6 of h = -ln APA. Mutations put 1/APA = e^h behind it: up to 1e6, where h = 14, that is
# 2.1e-5 of the value; what is larger says nothing.
RELATIVE, LARGEST = 2.2e-5, 1e6


@st.composite
def mutated(draw):
    spelling = draw(st.sampled_from(sorted(GENERAL)))
    lam, kappa = draw(st.sampled_from([(1e-4, 0.9), (0.5, -1.1), (1.0, 0.7), (2.5, 1.0)]))
    parameters = draw(st.sampled_from(["initializer", "Constant"]))
    model = spelled(
        GENERAL[spelling], draw(st.sampled_from(["APA", "AGLU"])), lam, kappa, parameters=parameters,
        shape=(1, 3, 10, 10),
    )  # fmt: skip
    for _ in range(draw(st.integers(1, 3))):
        MUTATIONS[draw(st.sampled_from(sorted(MUTATIONS)))](draw, model.graph)
    return model


def another_operator(draw, graph):
    node = draw(st.sampled_from([n for n in graph.node if n.op_type in UNARY + BINARY] or list(graph.node)))
    if node.op_type in UNARY + BINARY:
        node.op_type = draw(st.sampled_from(UNARY if len(node.input) == 1 else BINARY))


def other_operands(draw, graph):
    node = draw(st.sampled_from([n for n in graph.node if len(n.input) == 2]))
    node.input[:] = [node.input[1], node.input[0]]


def another_source(draw, graph):
    """One input comes from another, earlier value."""
    i = draw(st.integers(1, len(graph.node) - 1))
    node = graph.node[i]
    earlier = [o for n in graph.node[:i] for o in n.output] + [t.name for t in graph.initializer] + ["x"]
    if len(node.input):
        node.input[draw(st.integers(0, len(node.input) - 1))] = draw(st.sampled_from(earlier))


def another_constant(draw, graph):
    floats = [t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    floats += [n.attribute[0].t for n in graph.node if n.op_type == "Constant"]
    if floats:
        tensor = draw(st.sampled_from(floats))
        factor = np.float32(draw(st.sampled_from([-1.0, 0.0, 0.5, 1.0001, 2.0, 1e6, np.nan, np.inf])))
        array = numpy_helper.to_array(tensor) * factor
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))


def a_node_more(draw, graph):
    i = draw(st.integers(1, len(graph.node) - 1))
    value = draw(st.sampled_from([o for n in graph.node[:i] for o in n.output]))
    name = f"more_{len(graph.node)}"
    new = helper.make_node(draw(st.sampled_from(UNARY)), [value], [name])
    graph.node[i].input[:] = [name if v == value else v for v in graph.node[i].input]
    graph.node.insert(i, new)


def an_output_more(draw, graph):
    value = draw(st.sampled_from([o for n in graph.node for o in n.output]))
    if value not in {v.name for v in graph.output}:
        graph.output.append(helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))


def a_node_less(draw, graph):
    i = draw(st.integers(1, len(graph.node) - 2))
    node = graph.node[i]
    if len(node.input) and node.output[0] not in {v.name for v in graph.output}:
        for user in graph.node:
            user.input[:] = [node.input[0] if v == node.output[0] else v for v in user.input]
        del graph.node[i]


MUTATIONS = {
    f.__name__: f
    for f in (
        another_operator, other_operands, another_source, another_constant, a_node_more, an_output_more,
        a_node_less,
    )
}  # fmt: skip


def values(model):
    """None where the mutated graph does not work at all."""
    with np.errstate(all="ignore"):
        try:
            return ReferenceEvaluator(widen(model), new_ops=OPERATORS).run(None, {"x": X})
        except RuntimeError:
            return None


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(mutated())
def test_mutated_graphs(model):
    before = onnx.ModelProto()
    before.CopyFrom(model)
    recognition = recognise(model)
    if not recognition.found:
        assert model.graph == before.graph
        return
    truth = values(before)
    if truth is None:
        return
    for wanted, got in zip(truth, values(model), strict=True):
        same = np.isclose(got, wanted, rtol=RELATIVE, atol=RELATIVE, equal_nan=True) | (np.abs(wanted) > LARGEST)
        assert same.all(), recognition


@pytest.mark.parametrize("seed", range(20))
def test_damaged_bytes(seed, tmp_path):
    """A file with flipped bytes is refused by an error of ours, or read; nothing else happens."""
    from apa_deploy.errors import ApaError
    from apa_deploy.loading.onnx_file import load_onnx

    generator = np.random.default_rng(seed)
    data = bytearray(spelled(GENERAL["Clip, Log, Reciprocal"], "AGLU", 0.5, 0.9).SerializeToString())
    for place in generator.integers(0, len(data), 8):
        data[place] = generator.integers(0, 256)
    (tmp_path / "m.onnx").write_bytes(data)
    try:
        recognise(load_onnx(tmp_path / "m.onnx"))
    except ApaError as error:
        assert error.do
