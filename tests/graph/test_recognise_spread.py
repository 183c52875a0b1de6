"""Constants spread over the shape of a value, and curves that are named and left."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.read import sort_nodes
from apa_deploy.graph.recognise import recognise

LAMBDA, KAPPA = 0.4, 1.2


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def tensor(name, values, dtype="f"):
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def model_of(before, lam="lam", inner=(), outputs=("y",), shape=("n", 6), **constants):
    """y = z * (1 + lam * exp(-kappa * z))^(-1/lam), z = x @ w; `before` makes `lam` and what else is wanted."""
    curve = [
        node("Mul", "z nk", "a"), node("Exp", "a", "b"), *inner, node("Mul", ("bq " if inner else "b ") + lam, "c"),
        node("Add", "c one", "d"), node("Neg", lam, "nl"), node("Reciprocal", "nl", "p"), node("Pow", "d p", "e"),
        node("Mul", "z e", "y"),
    ]  # fmt: skip
    given = {"lam": LAMBDA, "nk": -KAPPA, "one": 1.0, "w": np.eye(6, dtype="f")} | constants
    made = {name for one in before for name in one.output}
    graph = helper.make_graph(
        [node("MatMul", "x w", "z"), *before, *curve], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [tensor(name, values, getattr(values, "dtype", "f")) for name, values in given.items() if name not in made],
    )  # fmt: skip
    sort_nodes(graph)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


FILL = tensor("", [LAMBDA])
SPREAD = {
    "Expand to the shape": [node("Shape", "z", "s"), node("Expand", "l s", "lam")],
    "Expand to the shape of a value inside": [node("Shape", "a", "s0"), node("Identity", "s0", "s"),
                                              node("Expand", "l s", "lam")],
    "ConstantOfShape": [node("Shape", "z", "s"), node("ConstantOfShape", "s", "lam", value=FILL)],
    "ones times it": [node("Shape", "z", "s"), node("ConstantOfShape", "s", "ones", value=tensor("", [1.0])),
                      node("Mul", "ones l", "lam")],
    "CastLike": [node("CastLike", "l a", "lam")],
    "CastLike of an integer": [node("CastLike", "two z", "lam")],
    "a stored repetition": [node("Identity", "repeated", "lam")],
}  # fmt: skip


@pytest.mark.parametrize("name", SPREAD)
def test_a_spread_constant_is_that_constant(name):
    lam = 2.0 if "integer" in name else LAMBDA
    shape = (3, 6) if "stored" in name else ("n", 6)
    model = model_of(
        SPREAD[name], shape=shape, l=LAMBDA, two=np.int64(2), repeated=np.full((3, 6), LAMBDA, np.float32)
    )
    before = onnx.ModelProto.FromString(model.SerializeToString())
    (fold,) = recognise(model).found
    assert fold.kind == "AGLU"
    np.testing.assert_allclose([fold.parameters.lambda_[0], fold.parameters.kappa[0]], [lam, KAPPA], rtol=1e-6)
    x = np.linspace(-3, 3, 18, dtype=np.float32).reshape(3, 6)
    (wanted,), (got,) = (ReferenceEvaluator(with_functions(m)).run(None, {"x": x}) for m in (before, model))
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


# graph, what is said of the curve that is left, "" where no learned activation is in it
LEFT = {
    "another's shape": (model_of([node("Shape", "x", "s0"), node("Concat", "more s0", "s", axis=0),
                                  node("Expand", "l s", "lam")], l=LAMBDA, more=np.array([4])), "another value"),
    "an output inside": (model_of([], outputs=("y", "c")), "used elsewhere"),
    "a quantiser inside": (model_of([], inner=[node("QuantizeLinear", "b qs qz", "q"),
                                               node("DequantizeLinear", "q qs qz", "bq")],
                                    qs=0.02, qz=np.uint8(0)), "quantiser"),
    "a large lambda": (model_of([node("Identity", "large", "lam")], large=1e4), "10000"),
    "parameters of each element": (model_of([node("Identity", "many", "lam")], shape=("n", 2, 6),
                                            many=np.linspace(0.2, 0.9, 12, dtype="f").reshape(2, 6)), "(2, 6)"),
    "another power": (model_of([node("Identity", "l", "lam")], l=-0.4), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_a_curve_that_is_left_is_named(name):
    model, said = LEFT[name]
    before = model.SerializeToString()
    recognition = recognise(onnx.ModelProto.FromString(before))
    learned = [refusal.reason for refusal in recognition.refused if refusal.is_learned]
    assert not recognition.found
    assert len(learned) == bool(said) and all(said in reason for reason in learned)


def test_what_is_common_or_folded_in_part_is_not_named():
    silu = helper.make_graph(
        [node("Mul", "x k", "a"), node("Sigmoid", "a", "s"), node("Mul", "x s", "y"), node("Exp", "y", "e"),
         node("Mul", "e many", "o")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 6])],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)],
        [tensor("k", 1.0), tensor("many", np.arange(1, 13).reshape(2, 6))],
    )  # fmt: skip
    shared = model_of([], outputs=("y", "e"))  # the gate is folded, the unit is not
    for model in (helper.make_model(silu, opset_imports=[helper.make_opsetid("", 18)]), shared):
        refused = recognise(model).refused
        assert refused and not any(refusal.is_learned for refusal in refused)
