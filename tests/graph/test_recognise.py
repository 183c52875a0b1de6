"""apa_deploy.graph.recognise: every spelling is found, nothing else is."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import activations, make_node, read_parameters
from apa_deploy.graph.recognise import recognise
from apa_deploy.maths import KINDS, Parameters
from tests.graph.corpus import spellings
from tests.graph.corpus.spellings import CONSTANTS, DOUBTFUL_ALONE, GENERAL, LOOKALIKES, lookalike, spelled

# lambda and kappa as trained networks have them: floors, ordinary, 1, large; kappa of either sign.
PAIRS = [(1e-8, 0.9), (1e-4, -0.6), (0.03, 1.1), (0.5, 1.0), (1.0, 0.8), (1.0, 1.0), (2.5, -1.3), (9.0, 0.05)]
# Two roundings of float32 on ln(lambda), at most 18.4: 2.2e-6 of lambda itself; of kappa, one.
RELATIVE = 4e-6


def only(model, kind):
    """The one activation that `model` is found to have, after checking what is left of the graph."""
    recognition = recognise(model)
    assert len(recognition.found) == 1, recognition
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Transpose", kind, "Transpose"]
    assert not model.graph.initializer
    return recognition.found[0]


def assert_near(found, lam, kappa, relative=RELATIVE):
    # below 1e-6 lambda only names the limit
    np.testing.assert_allclose(found.parameters.lambda_, lam, rtol=relative, atol=1e-6)
    np.testing.assert_allclose(found.parameters.kappa, kappa, rtol=relative)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spelling", GENERAL)
def test_every_spelling(spelling, kind):
    for lam, kappa in PAIRS:
        if (spelling, lam) == ("Clip, Log, Reciprocal", 1e-8):
            continue  # its floor is 1e-4
        if (
            lam == 1.0
            and spelling in ("Pow", "Reciprocal of Pow", "Div by Pow", "Pow of Sigmoid")
            and kind == "APA"
        ):
            continue  # doubtful: see test_lambda_one
        if (lam, kappa) == (1.0, 1.0) and "Pow" in spelling:
            continue
        found = only(spelled(GENERAL[spelling], kind, lam, kappa), kind)
        assert found.kind == kind
        assert_near(found, lam, kappa)


@pytest.mark.parametrize("parameters", CONSTANTS)
@pytest.mark.parametrize("spelling", ["softplus, threshold by Greater", "Clip, Log, Reciprocal", "Pow"])
def test_parameters_however_they_are_stored(spelling, parameters):
    for swap in (False, True):
        model = spelled(GENERAL[spelling], "AGLU", 0.4, 1.2, parameters=parameters, swap=swap)
        assert_near(only(model, "AGLU"), 0.4, 1.2)


@pytest.mark.parametrize(("shape", "channels"), [
    (("N", 3, "H", "W"), (1, 3, 1, 1)), (("N", 3, "H", "W"), (3, 1, 1)), (("N", "T", 3), (1, 1, 3)),
    (("N", "T", 3), (3,)), ((4, 3), (1, 3)), (("N", 3, "T"), (1, 3, 1)), (("N", "C", 4, 4), (3, 1, 1)),
])  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_per_channel(shape, channels, kind):
    lam, kappa = np.array([0.2, 1.0, 3.0]), np.array([1.0, -0.7, 0.4])
    spelling = GENERAL["softplus, threshold by Greater"]
    found = only(spelled(spelling, kind, lam.reshape(channels), kappa.reshape(channels), shape=shape), kind)
    assert_near(found, lam, kappa)
    axis = found.parameters.axis % len(shape)
    assert axis == len(shape) - len(channels) + channels.index(3)


def test_one_kappa_for_many_lambdas():
    lam = np.array([0.2, 1e-8, 3.0]).reshape(1, 3, 1, 1)
    found = only(spelled(GENERAL["softplus, Neg"], "AGLU", lam, 0.8), "AGLU")
    assert found.parameters.kappa == (pytest.approx(0.8),)
    assert_near(found, lam.ravel(), 0.8)


@pytest.mark.parametrize("element", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
@pytest.mark.parametrize(
    "spelling", ["softplus, Mul and Div", "softplus, threshold by Greater", "Clip, Log, Reciprocal"]
)
def test_other_float_types(spelling, element):
    # bfloat16 keeps 8 bits: ln(lambda) rounded to 2^-9 of itself
    relative = {TensorProto.FLOAT16: 2e-3, TensorProto.BFLOAT16: 1e-2, TensorProto.DOUBLE: 1e-7}[element]
    for lam, kappa in ((0.5, 0.9), (0.03, -1.1), (2.0, 1.0)):
        model = spelled(GENERAL[spelling], "AGLU", lam, kappa, element=element)
        assert_near(only(model, "AGLU"), lam, kappa, relative)


@pytest.mark.parametrize("kind", KINDS)
def test_casts_of_a_half_precision_conversion(kind):
    """Half in, half out, the chain in float32 between Casts; the factor z before or after them."""
    for inside in (True, False):
        g = spellings.Graph(element=TensorProto.FLOAT16)
        z = g.barrier("x")
        wide = g.op("Cast", z, to=TensorProto.FLOAT)
        g.element = TensorProto.FLOAT
        gate = spellings.softplus_threshold(g, wide, 0.5, 0.9)
        unit = kind == "AGLU"
        y = g.op("Mul", wide, gate) if unit and inside else gate
        y = g.op("Cast", y, to=TensorProto.FLOAT16)
        y = g.op("Mul", z, y) if unit and not inside else y
        g.element = TensorProto.FLOAT16
        assert_near(only(g.model(y), kind), 0.5, 0.9)


def test_a_wide_gate_of_a_half_value_stays_wide():
    """The gate's value is float32 where the input is half: the Cast before it must stay."""
    g = spellings.Graph()
    z = g.op("Cast", g.barrier("x"), to=TensorProto.FLOAT16)
    half = g.op("Transpose", z, perm=[0, 1, 2, 3])
    model = g.model(spellings.softplus_neg(g, g.op("Cast", half, to=TensorProto.FLOAT), 0.5, 0.9))
    assert [f.kind for f in recognise(model).found] == ["APA"]
    assert [n.op_type for n in model.graph.node] == ["Transpose", "Cast", "Transpose", "Cast", "APA", "Transpose"]


def without_limits(model):
    """As decompositions were before they kept clear of subnormal numbers."""
    added = [n for n in model.graph.node if n.input[-1].endswith(("/steep", "/back"))]
    beyond = {n.output[0] for n in added}
    assert beyond
    for node in [n for n in model.graph.node if n.op_type == "Max" and n.input[1] in beyond]:
        for reader in model.graph.node:
            reader.input[:] = [node.input[0] if name == node.output[0] else name for name in reader.input]
        added.append(node)
    for node in added:
        model.graph.node.remove(node)
    return model


@pytest.mark.parametrize("of", [lambda model: model, without_limits], ids=["now", "before"])
@pytest.mark.parametrize("lam", [1e-8, 0.3, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_our_own_decompositions(kind, lam, of):
    """What `apa-export` wrote is found again; beside an unambiguous activation also at lambda 1."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in "xy")
    nodes = [
        make_node("AGLU", "x", "a", Parameters((0.7,), (1.2,)), "first"),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 1]),
        make_node(kind, "b", "c", Parameters((lam,), (0.8,)), "second"),
        helper.make_node("Transpose", ["c"], ["y"], perm=[0, 1]),
    ]
    for form in ("anl", "softplus"):
        graph = helper.make_graph(nodes, "g", [x], [y])
        domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
        model = of(decompose(helper.make_model(graph, opset_imports=domains, ir_version=8), form))
        found = recognise(model).found
        assert [(f.name, f.kind) for f in found] == [("first", "AGLU"), ("second", kind)]
        assert_near(found[0], 0.7, 1.2)
        assert_near(found[1], lam, 0.8)


def test_canonical_nodes_stay():
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in "xy")
    graph = helper.make_graph([make_node("AGLU", "x", "y", Parameters((0.7,), (1.2,)), "a")], "g", [x], [y])
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    model = with_functions(helper.make_model(graph, opset_imports=domains, ir_version=8))
    recognition = recognise(model)
    assert (recognition.found, recognition.kept) == ((), 1)
    assert read_parameters(next(activations(model.graph))).lambda_ == (pytest.approx(0.7),)


@pytest.mark.parametrize("name", LOOKALIKES | DOUBTFUL_ALONE)
def test_no_false_match(name):
    model = lookalike((LOOKALIKES | DOUBTFUL_ALONE)[name])
    before = model.SerializeToString(deterministic=True)
    recognition = recognise(model)
    assert not recognition.found
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("name", LOOKALIKES)
def test_no_false_match_beside_an_activation(name):
    found = recognise(lookalike(LOOKALIKES[name], in_company=True)).found
    assert [(f.kind, round(f.parameters.lambda_[0], 3)) for f in found] == [("AGLU", 0.5)]


# spelling, kind, kappa, in company -> whether lambda = 1 is taken
AT_ONE = [
    ("swish with a kappa", "AGLU", 0.8, False, True), ("gate alone", "APA", 0.8, False, False),
    ("gate in company", "APA", 0.8, True, True), ("SiLU in company", "AGLU", 1.0, True, False),
    ("QuickGELU in company", "AGLU", 1.702, True, False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "kappa", "company", "taken"), [c[1:] for c in AT_ONE], ids=[c[0] for c in AT_ONE])
def test_lambda_one_by_sigmoid(kind, kappa, company, taken):
    def build(g, z):
        gate = spellings.sigmoid(g, z, 1.0, kappa)
        return g.op("Mul", z, gate) if kind == "AGLU" else gate

    found = recognise(lookalike(build, in_company=company)).found
    assert len(found) == taken + company
    if taken:
        assert (found[0].kind, found[0].parameters.lambda_) == (kind, (1.0,))
        assert found[0].parameters.kappa[0] == pytest.approx(kappa)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kappa", [0.8, -1.3])
def test_the_limit(kind, kappa):
    found = only(spelled(spellings.limit, kind, 0.0, kappa), kind)
    assert found.parameters.lambda_ == (0.0,)
    assert found.parameters.kappa[0] == pytest.approx(kappa)


def refusals(model):
    recognition = recognise(model)
    assert not recognition.found
    return " | ".join(f"{r.spelling}: {r.reason}" for r in recognition.refused)


def test_a_value_inside_that_is_used_elsewhere_is_a_reason():
    model = spelled(GENERAL["softplus, Neg"], "APA", 0.5, 0.9)
    inside = next(node.output[0] for node in model.graph.node if node.op_type == "Softplus")
    model.graph.output.append(helper.make_tensor_value_info(inside, TensorProto.FLOAT, [None] * 4))
    assert f"{inside}, inside it, is used elsewhere" in refusals(model)


def test_a_gate_in_use_elsewhere_is_folded_without_its_factor():
    model = spelled(GENERAL["softplus, Neg"], "AGLU", 0.5, 0.9)
    gate = next(node.output[0] for node in model.graph.node if node.op_type == "Exp")
    model.graph.output.append(helper.make_tensor_value_info(gate, TensorProto.FLOAT, [None] * 4))
    assert [f.kind for f in recognise(model).found] == ["APA"]
    assert "Mul" in [node.op_type for node in model.graph.node]


def test_two_gates_that_share_a_scaled_value():
    g = spellings.Graph()
    z = g.op("Mul", g.barrier("x"), g.constant(0.7))
    y = g.op("Add", spellings.softplus_neg(g, z, 0.5, 0.9), spellings.softplus_neg(g, z, 0.3, 1.1))
    model = g.model(y)
    found = recognise(model).found
    assert [f.parameters.kappa[0] for f in found] == [pytest.approx(0.9), pytest.approx(1.1)]
    assert [n.op_type for n in model.graph.node] == ["Transpose", "Mul", "APA", "APA", "Add", "Transpose"]


def test_nested_units_are_two():
    g = spellings.Graph()
    z = g.barrier("x")
    for lam in (0.5, 0.3):
        z = g.op("Mul", z, spellings.softplus_threshold(g, z, lam, 0.9))
    found = recognise(g.model(z)).found
    assert [f.parameters.lambda_[0] for f in found] == [pytest.approx(0.5), pytest.approx(0.3)]


def test_shared_parameters_stay_for_the_other():
    g = spellings.Graph()
    kappa, log, rate = (g.constant(v) for v in (0.9, np.log(0.5), -2.0))
    z = g.barrier("x")
    for _ in range(2):
        t = g.op("Sub", log, g.op("Mul", z, kappa))
        z = g.barrier(g.op("Mul", z, g.op("Exp", g.op("Mul", rate, g.op("Softplus", t)))))
    model = g.model(z)
    assert [f.kind for f in recognise(model).found] == ["AGLU", "AGLU"]
    assert not model.graph.initializer


REFUSED = [
    ("channels that do not fit", lambda: spelled(
        GENERAL["softplus, Neg"], "APA", np.full((1, 5, 1, 1), 0.5) * np.arange(1, 6).reshape(1, 5, 1, 1), 1.0),
     "5 values along an axis of 3"),
    ("constants of more dimensions", lambda: spelled(
        GENERAL["softplus, Neg"], "APA", np.full((1, 1, 1, 1), 0.5), 1.0, shape=("N", 3)), "more dimensions"),
    ("parameters along two axes", lambda: spelled(
        GENERAL["softplus, Neg"], "APA", np.arange(1.0, 7).reshape(3, 2), 1.0, shape=("N", 3, 2)), "several axes"),
    ("a lambda that does not agree with itself", lambda: spelled(
        lambda g, z, lam, k: g.op("Exp", g.op("Mul", g.op("Softplus", g.op("Neg", spellings._inner(g, z, lam, k))),
                                              g.constant(-2.2))), "APA", 0.5, 1.0), "no lambda and kappa"),
    ("a clipped tail", lambda: spelled(
        lambda g, z, lam, k: spellings.softplus_neg(
            g, g.op("Clip", g.op("Mul", z, g.constant(1.0)), g.constant(-3.0), g.constant(3.0)), lam, k),
        "AGLU", 0.5, 1.0), None),
]  # fmt: skip


@pytest.mark.parametrize(("make", "reason"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_refusals_say_why(make, reason):
    if reason:
        assert reason in refusals(make())
    else:  # the gate of the clipped value is a gate; the unit of the value is none
        assert [f.kind for f in recognise(make()).found] == ["APA"]
