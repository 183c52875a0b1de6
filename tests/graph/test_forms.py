"""apa_deploy.graph functions and decompose: right in ONNX Runtime and OpenVINO for every lambda."""

import copy
import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from apa_deploy.errors import InputError
from apa_deploy.graph.decompose import decompose, decomposition_of
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.log1p_fit import log1p_coefficients
from apa_deploy.graph.node import make_node
from apa_deploy.maths import KINDS, REFERENCE, Parameters

LAMBDAS = (0.0, 1e-8, 1e-7, 2e-7, 1e-6, 1e-4, 1e-3, 0.1, 0.5, 1.0, 2.0, 10.0, 100.0)
KAPPAS = (1.0, -0.7, 0.0, 3.0)
Z = np.concatenate([np.linspace(-12, 12, 2001), np.linspace(-90, 90, 901)]).astype(np.float32)
# Derived in apa_deploy.parity.operator_gate.
LIMIT = 2e-6


def model(kind, parameters, shape=("N",), element=TensorProto.FLOAT, opset=18):
    x, y = (helper.make_tensor_value_info(name, element, shape) for name in "xy")
    graph = helper.make_graph([make_node(kind, "x", "y", parameters, "act")], "g", [x], [y])
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.apa", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=helper.find_min_ir_version_for(domains, True))


FORMS = {
    "body": with_functions,
    "anl": decompose,
    "softplus": lambda m: decompose(m, "softplus"),
}


def run_all(proto, x):
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def run(proto, x):
    return run_all(proto, x)[0]


def error(y, kind, z, lam, kappa):
    wanted = REFERENCE[kind](z.astype(np.float64), np.float64(np.float32(lam)), np.float64(np.float32(kappa)))
    return (np.abs(y - wanted) / np.maximum(1, np.abs(wanted))).max()


def side_by_side(kind, pairs):
    """One graph with an activation, and an output, for each (lambda, kappa): a session costs more than a node."""
    proto = model(kind, Parameters((0.5,), (1.0,)))
    del proto.graph.node[:], proto.graph.output[:]
    for i, (lam, kappa) in enumerate(pairs):
        proto.graph.node.append(make_node(kind, "x", f"y{i}", Parameters((lam,), (kappa,)), f"act{i}"))
        proto.graph.output.append(helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, ("N",)))
    return proto


def off_limit(outputs, kind, pairs):
    """The (lambda, kappa) whose output is further from the truth than LIMIT."""
    return [pair for y, pair in zip(outputs, pairs, strict=True) if not error(y, kind, Z, *pair) <= LIMIT]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime(form, kind):
    pairs = list(itertools.product(LAMBDAS, KAPPAS))
    assert not off_limit(run_all(FORMS[form](side_by_side(kind, pairs)), Z), kind, pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_anl_in_openvino(kind):
    openvino = pytest.importorskip("openvino")
    core, pairs = openvino.Core(), [(lam, 1.1) for lam in LAMBDAS]
    proto = decompose(side_by_side(kind, pairs))
    compiled = core.compile_model(
        core.read_model(proto.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    outputs = compiled({"x": Z})
    assert not off_limit([outputs[i] for i in range(len(pairs))], kind, pairs)


@pytest.mark.parametrize("form", ["body", "anl"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 3, 4, 5), 1), ((2, 3), 1), ((2, 4, 3), -1), ((3,), 0), ((2, 3, 2, 2, 2), 1)]
)
def test_per_channel_at_any_rank(form, shape, axis):
    """Tiny, unit and ordinary lambda side by side, each with its own kappa."""
    lam, kappa = (1e-8, 1.0, 0.4), (1.0, -0.5, 2.0)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 4
    y = run(FORMS[form](model("AGLU", Parameters(lam, kappa, axis), shape)), x)
    for c in range(3):
        z = np.take(x, c, axis)
        assert error(np.take(y, c, axis), "AGLU", z, lam[c], kappa[c]) <= LIMIT


@pytest.mark.parametrize("form", ["body", "anl"])
@pytest.mark.parametrize("lam", [0.0, 1e-8, 1e-5, 0.5, 1.0])
def test_half_is_computed_in_float32(form, lam):
    """fp16 turns 1/lambda to infinity below 1.5e-5; between two casts it does not."""
    x = Z.astype(np.float16)
    y = run(FORMS[form](model("AGLU", Parameters((lam,), (1.0,)), element=TensorProto.FLOAT16)), x)
    assert y.dtype == np.float16
    # half an ulp of the result, plus what float32 adds
    assert error(y.astype(np.float64), "AGLU", x, lam, 1.0) <= 2.0**-11 + LIMIT


@pytest.mark.parametrize("form", FORMS)
def test_special_values(form):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -3.4e38], dtype=np.float32)
    for lam in (1e-8, 1e-4, 0.5, 1.0):
        y = run(FORMS[form](model("AGLU", Parameters((lam,), (1.0,)))), x)
        np.testing.assert_array_equal(np.isnan(y[:6]), [True, False, True, False, False, False])
        assert y[1] == np.inf
        assert np.signbit(y[4])
        assert y[6] == 0  # what masks are filled with


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_result_is_subnormal(form, kind):
    """Neither gate nor unit: such numbers are slow, here and in what reads them. Of 4,000 where they would lie."""
    pairs = [(lam, kappa) for lam in LAMBDAS if lam != 1 for kappa in KAPPAS if kappa]
    z = np.concatenate([Z, np.linspace(-6, -3, 20001, dtype=np.float32)])
    for y, pair in zip(run_all(FORMS[form](side_by_side(kind, pairs)), z), pairs, strict=True):
        size = np.abs(y)
        subnormal = np.count_nonzero((size > 0) & (size < 2.0**-126))
        assert subnormal <= 10, pair


def test_subnormal_channels():
    parameters = Parameters((1e-8, 0.3, 2.0), (1.0, -0.5, 3.0))
    x = np.repeat(Z[None, None], 3, axis=1)
    y = np.abs(run(decompose(model("AGLU", parameters, x.shape)), x))
    assert np.count_nonzero((y > 0) & (y < 2.0**-126)) <= 3


@pytest.mark.parametrize("opset", range(18, 24))
def test_every_opset(opset):
    for form in FORMS.values():
        y = run(form(model("APA", Parameters((0.5,), (1.0,)), opset=opset)), Z)
        assert error(y, "APA", Z, 0.5, 1.0) <= LIMIT


def test_the_rank_survives_where_the_shape_is_fixed():
    """A Conv after the node is refused if shape inference gets another rank out of the body."""
    proto = model("AGLU", Parameters((0.5, 0.1), (1.0,)), (1, 2, 4, 4))
    weight = onnx.numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "w")
    proto.graph.initializer.append(weight)
    proto.graph.node.append(helper.make_node("Conv", ["y", "w"], ["z"]))
    proto.graph.output[0].name = "z"
    assert run(with_functions(proto), np.ones((1, 2, 4, 4), np.float32)).shape == (1, 2, 4, 4)


def test_nodes_without_what_has_a_default():
    """As the canonical node is documented: only lambda and kappa are wanted, a single one may be no list."""
    proto = model("AGLU", Parameters((0.5,), (1.0,)), (2, 3))
    del proto.graph.node[0].attribute[:]
    proto.graph.node[0].attribute.extend(
        [helper.make_attribute("lambda", 0.5), helper.make_attribute("kappa", [1.0])]
    )
    z = np.linspace(-4, 4, 6, dtype=np.float32).reshape(2, 3)
    for form in FORMS.values():
        assert error(run(form(copy.deepcopy(proto)), z), "AGLU", z, 0.5, 1.0) <= LIMIT


def test_empty_and_scalar_inputs():
    parameters = Parameters((0.5,), (1.0,))
    assert run(with_functions(model("AGLU", parameters, (0, 3))), np.zeros((0, 3), np.float32)).shape == (0, 3)
    y = run(with_functions(model("AGLU", parameters, ())), np.array(1.5, np.float32))
    assert error(y, "AGLU", np.float32(1.5), 0.5, 1.0) <= LIMIT


@pytest.mark.parametrize(
    ("lam", "wanted"),
    [((0.0,), "limit"), ((1e-8,), "limit"), ((1.0,), "sigmoid"), ((0.4,), "anl"), ((1e-8, 0.4), "anl")],
)
def test_form_by_the_size_of_lambda(lam, wanted):
    assert decomposition_of(Parameters(lam, (1.0,))) == wanted
    operators = {
        n.op_type for n in decompose(model("APA", Parameters(lam, (2.0,)), (1, len(lam), 2, 2))).graph.node
    }
    marks = {"limit": {"Exp", "Neg", "Mul", "Add", "Max"}, "sigmoid": {"Sigmoid", "Mul"}}
    assert operators == marks.get(wanted, operators)
    assert not operators & {"Softplus", "Log", "Where", "Pow"}


def test_only_standard_operators_are_left():
    proto = decompose(with_functions(model("AGLU", Parameters((0.5,), (1.0,)))))
    assert not proto.functions
    assert [entry.domain for entry in proto.opset_import] == [""]


def test_per_channel_without_a_rank_is_refused():
    proto = model("AGLU", Parameters((0.1, 0.2), (1.0,)))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.ClearField("shape")
    with pytest.raises(InputError, match="known rank"):
        decompose(proto)


def test_log1p_polynomial():
    w = np.linspace(1e-9, 1, 100001)
    s = w / (2 + w)
    p = sum(c * s ** (2 * i) for i, c in enumerate(log1p_coefficients(4)))
    # the relative minimax error of four coefficients on [0, 1/9]
    assert np.abs(s * p / np.log1p(w) - 1).max() <= 1.66e-7
