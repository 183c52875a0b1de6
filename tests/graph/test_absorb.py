"""apa_deploy.graph.absorb: which Q goes into its activation, as a table of graphs; and what the codes then are."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.graph.absorb import absorb_quantisers
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import activations, make_node, read_scale_out
from apa_deploy.maths import KINDS, Parameters

PARAMETERS = Parameters((0.5,), (1.25,))
FLOAT, HALF, INT8, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8


SCALE, ZERO = np.float32(0.05), np.int8(0)


def graph(kind="AGLU", scale=SCALE, zero=ZERO, more=(), outputs=(), computed=(), element=FLOAT, **attributes):
    """x -> activation -> Q -> codes -> DQ -> y; `more`: further nodes; `computed`: a constant that is a node."""
    constants = {"scale": np.asarray(scale), **({} if zero is None else {"zero": np.asarray(zero)})}
    ends = [name for name in ("scale", "zero") if name in constants]
    nodes = [
        make_node(kind, "x", "a", PARAMETERS, "act"),
        helper.make_node("QuantizeLinear", ["a", *ends], ["codes"], "q", **attributes),
        helper.make_node("DequantizeLinear", ["codes", *ends], ["y"], "dq"),
        *more,
    ]
    for name in computed:
        tensor = numpy_helper.from_array(constants[name], name)
        nodes.insert(0, helper.make_node("Constant", [], [name], value=tensor))
    kept = [numpy_helper.from_array(value, name) for name, value in constants.items() if name not in computed]
    values = [helper.make_tensor_value_info(name, element, ["n", 3, 4]) for name in ("x", "y")]
    others = [helper.make_tensor_value_info(name, element, ["m"]) for name in outputs]
    known = [helper.make_tensor_value_info("a", element, ["n", 3, 4])]
    made = helper.make_graph(nodes, "g", values[:1], [*values[1:], *others], kept, value_info=known)
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.apa", 1)]
    return with_functions(helper.make_model(made, opset_imports=opsets, ir_version=10))


NO_ZERO = {"zero": None, "output_dtype": INT8}
ABSORBED = {
    "a scalar scale": {},
    "a scale of shape [1]": {"scale": np.float32([0.05]), "zero": np.int8([0])},
    "no zero point, int8 by attribute": NO_ZERO,
    "constants that are nodes": {"computed": ("scale", "zero")},
    "half in, a scale in float32": {"element": HALF},
    "the quotient in float32": {"precision": FLOAT},
    "codes that two read": {"more": [helper.make_node("Identity", ["codes"], ["c"])], "outputs": ["c"]},
    "a scale that others read": {"more": [helper.make_node("Identity", ["scale"], ["s"])], "outputs": ["s"]},
    "the least scale": {"scale": np.float32(1.0001e-30)},
}
BODY = helper.make_graph(
    [helper.make_node("Neg", ["a"], ["b"])], "b", [], [helper.make_tensor_value_info("b", FLOAT, None)]
)
SECOND = helper.make_node("QuantizeLinear", ["a", "scale", "zero"], ["codes2"], "q2")
KEPT = {
    # the graph, why its Q stays
    "another reader": ({"more": [helper.make_node("Neg", ["a"], ["b"])], "outputs": ["b"]}, "others read it"),
    "an output of the graph": ({"outputs": ["a"]}, "others read it"),
    "a second Q of the same scale": ({"more": [SECOND], "outputs": ["codes2"]}, "others read it"),
    "a branch that reads it": (
        {"more": [helper.make_node("If", ["p"], ["b"], then_branch=BODY, else_branch=BODY)], "outputs": ["b"]},
        "others read it",
    ),
    "uint8": ({"zero": np.uint8(0)}, "another type"),
    "uint8 with a zero point": ({"zero": np.uint8(128)}, "another type"),
    "int8 with a zero point": ({"zero": np.int8(3)}, "another type"),
    "int16": ({"zero": np.int16(0)}, "another type"),
    "uint8 by default": ({"zero": None}, "another type"),
    "uint8 by attribute": ({"zero": None, "output_dtype": UINT8}, "another type"),
    "a scale a channel": ({"scale": np.float32([0.1, 0.2, 0.3]), "zero": np.int8([0, 0, 0])}, "another type"),
    "a scale a channel, no zero point": ({"scale": np.float32([0.1, 0.2]), **NO_ZERO}, "not one scale"),
    "a scale of rank 2": ({"scale": np.float32([[0.1]]), **NO_ZERO}, "not one scale"),
    "blocks": ({"scale": np.float32([[0.1]]), "block_size": 4, **NO_ZERO}, "a scale a block"),
    "a scale in half": ({"scale": np.float16(0.05), "element": HALF}, "not one scale in float32"),
    "a quotient in half": ({"precision": HALF, "element": HALF}, "a quotient in another type"),
    "scale 0": ({"scale": np.float32(0)}, "no scale that the kernels take"),
    "a negative scale": ({"scale": np.float32(-0.1)}, "no scale that the kernels take"),
    "an infinite scale": ({"scale": np.float32(np.inf)}, "no scale that the kernels take"),
    "a scale that is NaN": ({"scale": np.float32(np.nan)}, "no scale that the kernels take"),
    "a subnormal scale": ({"scale": np.float32(1e-40)}, "no scale that the kernels take"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ABSORBED)
def test_absorbed(case, kind):
    model = graph(kind, **ABSORBED[case])
    before = model.SerializeToString()
    changed, kept = absorb_quantisers(model)
    assert model.SerializeToString() == before and kept == {}
    (node,) = (one for one in changed.graph.node if one.domain == "com.apa")
    wanted = np.asarray(ABSORBED[case].get("scale", np.float32(0.05))).item()
    assert node.op_type == f"{kind}Codes" and not list(activations(changed.graph))
    assert read_scale_out(node) == wanted and list(node.output) == ["codes"] and list(node.input) == ["x"]
    assert not changed.functions and all(n.op_type != "QuantizeLinear" for n in changed.graph.node)
    assert not {"a", "codes"} & {value.name for value in changed.graph.value_info}
    onnx.checker.check_model(changed)  # what others read is there
    assert not kept


@pytest.mark.parametrize("case", KEPT)
def test_kept(case):
    given, why = KEPT[case]
    model = graph(**given)
    changed, kept = absorb_quantisers(model)
    assert list(kept) == ["act"] and why in kept["act"]
    assert changed.SerializeToString() == model.SerializeToString()


def test_some_of_several():
    """Who gives floats stays as it is, with its function body."""
    more = [make_node("APA", "y", "gate", PARAMETERS, "se"), helper.make_node("Mul", ["y", "gate"], ["z"])]
    changed, kept = absorb_quantisers(graph(more=more, outputs=["z"]))
    assert kept == {"se": "no Q reads it"}
    scales = {node.op_type: read_scale_out(node) for node in changed.graph.node if node.domain == "com.apa"}
    assert scales == {"AGLUCodes": SCALE, "APA": None}
    assert [function.name for function in changed.functions] == ["APA"]


def test_nobody_else_takes_such_a_node(tmp_path):
    """ONNX Runtime gets no floats in the codes' place."""
    changed, _ = absorb_quantisers(graph())
    with pytest.raises(Exception, match="AGLUCodes"):
        onnxruntime.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
