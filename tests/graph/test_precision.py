"""apa_deploy.graph.precision, islands and emulate: which nodes go to the half type, and what comes out."""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.errors import InputError
from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.emulate import emulate_halves
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import make_node
from apa_deploy.graph.precision import HALF_ELEMENT, NUMPY_TYPE, UNIT_ROUNDOFF, PrecisionError, in_precision
from apa_deploy.maths import KINDS, REFERENCE, Parameters
from apa_deploy.parity.limits import operator_limit

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
HALVES = tuple(HALF_ELEMENT)
RNG = np.random.default_rng(0)


def graph(nodes, weights=None, shape=("N", 4, 6, 6), element=FLOAT, opset=22, outputs=("y",)):
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in (weights or {}).items()]
    x = helper.make_tensor_value_info("x", element, shape)
    ys = [helper.make_tensor_value_info(name, FLOAT, shape if nodes[-1].domain else None) for name in outputs]
    proto = helper.make_graph(nodes, "g", [x], ys, tensors)
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.apa", 1)]
    return onnx.shape_inference.infer_shapes(helper.make_model(proto, opset_imports=domains, ir_version=10))


def node(operator, *names, **attributes):
    *inputs, output = names
    return helper.make_node(operator, inputs, [output], **attributes)


def run(proto, x, optimise=True):
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def halves(proto):
    """Operators whose first input is of a half type, Casts apart."""
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    types = {t.name: t.data_type for t in inferred.graph.initializer}
    types |= {
        v.name: v.type.tensor_type.elem_type
        for v in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    }
    return [n.op_type for n in proto.graph.node if types[n.input[0]] != FLOAT and n.op_type != "Cast"]


W = RNG.standard_normal((4, 4, 3, 3)).astype("f")
G = RNG.standard_normal((4, 4)).astype("f")
AXES = np.array([2, 3])
CONV = node("Conv", "x", "w", "c", pads=[1, 1, 1, 1])
ISLANDS = [
    # what, nodes after CONV, which operators run in half
    ("plain", [node("Relu", "c", "y")], ["Conv", "Relu"]),
    ("residual", [node("Add", "c", "x", "y")], ["Conv", "Add"]),
    ("pooled", [node("ReduceMean", "c", "a", "m", keepdims=0), node("Gemm", "m", "g", "y")], ["Conv", "Gemm"]),
    ("global pool", [node("GlobalAveragePool", "c", "y")], ["Conv"]),
    (
        "cosine head",
        [
            node("ReduceMean", "c", "a", "m", keepdims=0),
            node("ReduceL2", "m", "one", "n"),
            node("Add", "n", "k", "p"),
            node("Div", "m", "p", "d"),
            node("Mul", "d", "k", "s"),
            node("Gemm", "s", "g", "y"),
        ],
        ["Conv", "Gemm"],
    ),
    ("layer norm", [node("LayerNormalization", "c", "v", "l"), node("Relu", "l", "y")], ["Conv", "Relu"]),
    ("softmax", [node("Softmax", "c", "s"), node("Relu", "s", "y")], ["Conv", "Relu"]),
    (
        "mish",
        [node("Softplus", "c", "s"), node("Tanh", "s", "t"), node("Mul", "c", "t", "y")],
        ["Conv", "Tanh", "Mul"],
    ),
]  # fmt: skip


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize(("nodes", "wanted"), [c[1:] for c in ISLANDS], ids=[c[0] for c in ISLANDS])
def test_islands(nodes, wanted, precision):
    weights = {"w": W, "g": G, "a": AXES, "one": np.array([1]), "k": np.float32(1.5), "v": np.ones(6, "f")}
    used = {name for n in [CONV, *nodes] for name in n.input}
    proto = in_precision(graph([CONV, *nodes], {k: v for k, v in weights.items() if k in used}), precision)
    assert halves(proto) == wanted
    # the operators are right as well: against the same graph in float32, a few roundings of the type
    x = RNG.standard_normal((2, 4, 6, 6)).astype("f")
    exact = run(graph([CONV, *nodes], {k: v for k, v in weights.items() if k in used}), x)[0]
    y = run(emulate_halves(proto), x, optimise=False)[0]
    assert np.abs(y - exact).max() <= 8 * UNIT_ROUNDOFF[precision] * np.abs(exact).max()


def test_pixels_are_normalised_in_float32():
    """uint8 -> Cast -> Mul -> Add is one formula: a mean rounded to bf16 would be off by 2^-9."""
    nodes = [
        node("Cast", "x", "f", to=FLOAT),
        node("Mul", "f", "k", "m"),
        node("Add", "m", "k", "a"),
        node("Conv", "a", "w", "y", pads=[1, 1, 1, 1]),
    ]
    proto = in_precision(graph(nodes, {"k": np.float32(0.017), "w": W}, element=UINT8), "bf16")
    assert halves(proto) == ["Conv"]
    assert proto.graph.input[0].type.tensor_type.elem_type == UINT8


@pytest.mark.parametrize("precision", HALVES)
def test_boxes_of_roi_align_are_float32(precision):
    """1001.3 is 1001 in fp16 and 1000 in bf16."""
    boxes = np.array([[3.3, 5.1, 1001.3, 777.7]], "f")
    nodes = [CONV, node("RoiAlign", "c", "boxes", "image", "a"), node("Relu", "a", "y")]
    proto = in_precision(graph(nodes, {"w": W, "boxes": boxes, "image": np.array([0])}), precision)
    assert halves(proto) == ["Conv", "Relu"]
    (align,) = (n for n in proto.graph.node if n.op_type == "RoiAlign")
    (kept,) = (t for t in proto.graph.initializer if t.name == align.input[1])
    assert np.array_equal(onnx.numpy_helper.to_array(kept), boxes)


@pytest.mark.parametrize("precision", HALVES)
def test_canonical_nodes_take_the_half_type(precision):
    proto = in_precision(
        graph([CONV, make_node("AGLU", "c", "y", Parameters((1e-8,), (1.0,)), "act")], {"w": W}), precision
    )
    (activation,) = (n for n in proto.graph.node if n.domain == "com.apa")
    maker = {name: n for n in proto.graph.node for name in n.output}
    assert maker[activation.input[0]].op_type == "Conv"
    (onward,) = (n for n in proto.graph.node if activation.output[0] in n.input)
    assert (onward.op_type, list(onward.output)) == ("Cast", ["y"])


@pytest.mark.parametrize("half_io", [False, True])
@pytest.mark.parametrize("precision", HALVES)
def test_inputs_and_outputs(precision, half_io):
    nodes = [CONV, node("Relu", "c", "y"), node("ReduceMean", "c", "a", "z")]
    proto = in_precision(graph(nodes, {"w": W, "a": AXES}, outputs=("y", "z")), precision, half_io=half_io)
    onnx.checker.check_model(proto, full_check=True)
    wanted = HALF_ELEMENT[precision] if half_io else FLOAT
    ends = [*proto.graph.input, *proto.graph.output]
    assert [v.name for v in ends] == ["x", "y", "z"]
    assert {v.type.tensor_type.elem_type for v in ends} == {wanted}


def test_one_weight_in_two_types():
    nodes = [node("Mul", "x", "k", "m"), node("Softplus", "m", "s"), node("Add", "s", "k", "y")]
    proto = in_precision(graph(nodes, {"k": np.full(6, 1 / 3, "f")}), "fp16")
    assert sorted(t.data_type for t in proto.graph.initializer) == [FLOAT, TensorProto.FLOAT16]


def test_fp32_changes_nothing():
    proto = graph([CONV, node("Relu", "c", "y")], {"w": W})
    before = proto.SerializeToString(deterministic=True)
    assert in_precision(proto, "fp32").SerializeToString(deterministic=True) == before


def test_an_operator_without_the_type_stays_in_float32():
    """Conv has bf16 from opset 22 only."""
    assert halves(in_precision(graph([CONV, node("Relu", "c", "y")], {"w": W}, opset=18), "bf16")) == ["Relu"]


BRANCH = helper.make_graph([node("Identity", "c", "b")], "b", [], [helper.make_tensor_value_info("b", FLOAT, None)])
REFUSED = [
    ("a weight above 65504", [CONV, node("Relu", "c", "y")], {"w": W * 1e6}, "fp16", "65504"),
]


@pytest.mark.parametrize(
    ("nodes", "weights", "precision", "saw"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_refused(nodes, weights, precision, saw):
    with pytest.raises(PrecisionError, match=saw) as caught:
        in_precision(graph(nodes, weights), precision)
    assert caught.value.precision == precision


@pytest.mark.parametrize(("precision", "half_io", "saw"), [("fp8", False, "fp16"), ("fp32", True, "half-io")])
def test_misuse(precision, half_io, saw):
    with pytest.raises(InputError, match=saw):
        in_precision(graph([CONV, node("Relu", "c", "y")], {"w": W}), precision, half_io=half_io)


def test_bf16_holds_large_weights():
    in_precision(graph([CONV, node("Relu", "c", "y")], {"w": W * 1e6}), "bf16")


Z = np.concatenate([np.linspace(-12, 12, 2001), np.linspace(-90, 90, 901)]).astype(np.float32)


@pytest.mark.parametrize("form", [with_functions, decompose])
@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lam", [0.0, 1e-8, 1e-7, 1e-5, 1e-3, 0.5, 1.0, 2.0, 10.0])
def test_activations_in_half(lam, kind, precision, form):
    """Cast, activation in the half type, Cast: ONNX Runtime runs these in both types itself."""
    proto = graph([make_node(kind, "x", "y", Parameters((lam,), (1.1,)), "act")], shape=("N",))
    z = Z.astype(NUMPY_TYPE[precision]).astype(np.float32)
    y = run(form(in_precision(proto, precision)), z)[0]
    wanted = REFERENCE[kind](z.astype(np.float64), np.float64(np.float32(lam)), np.float64(np.float32(1.1)))
    assert np.isfinite(y).all()
    # what float32 inside is allowed, and one rounding of the result
    assert (np.abs(y - wanted) / np.maximum(1, np.abs(wanted))).max() <= operator_limit("fp32") + UNIT_ROUNDOFF[
        precision
    ]


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("optimise", [False, True])
def test_emulation_rounds_every_value(precision, optimise):
    """x + x*w, each product and sum rounded as numpy rounds it."""
    proto = in_precision(
        graph([node("Mul", "x", "k", "m"), node("Add", "m", "x", "y")], {"k": np.float32(1 / 3)}), precision
    )
    x = RNG.standard_normal((2, 4, 6, 6)).astype("f")
    half = NUMPY_TYPE[precision]
    k, h = np.float32(1 / 3).astype(half).astype("f"), x.astype(half).astype("f")
    wanted = ((h * k).astype(half).astype("f") + h).astype(half).astype("f")
    np.testing.assert_array_equal(run(emulate_halves(proto), x, optimise)[0], wanted)


def test_numpy_type_of_bf16():
    assert NUMPY_TYPE["bf16"] == ml_dtypes.bfloat16


@pytest.mark.parametrize("precision", HALVES)
def test_types_go_through_activations_without_a_body(precision):
    """Of a file that declares no value: the second unit is decomposed in the type that the first one gives."""
    chain = [
        node("Conv", "x", "w", "a", pads=[1, 1, 1, 1]),
        make_node("AGLU", "a", "b", Parameters((0.5,), (1.2,)), "first"),
        node("Conv", "b", "w", "c", pads=[1, 1, 1, 1]),
        make_node("APA", "c", "y", Parameters((0.7,), (0.9,)), "second"),
    ]
    proto = graph(chain, {"w": RNG.standard_normal((4, 4, 3, 3), np.float32) / 6})
    del proto.graph.value_info[:]
    in_precision(proto, precision)
    made = decompose(proto)
    onnx.checker.check_model(made, full_check=True)
    assert sum(one.op_type == "Cast" and one.name.startswith("second/") for one in made.graph.node) == 2
