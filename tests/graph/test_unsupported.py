"""apa_deploy.graph.unsupported: where a graph can no longer be run here."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from apa_deploy.graph.pieces import end_graph_at
from apa_deploy.graph.unsupported import find_unsupported_part
from apa_deploy.runtimes.ort_session import open_session
from tests.graph.corpus import spellings


def model(domain="mmdeploy"):
    """x -> unit -> z; z -> NMS -> dets -> Neg -> y; z -> Abs -> side."""
    g = spellings.Graph(shape=("N", 3))
    z = g.op("Mul", g.barrier("x"), spellings.softplus_neg(g, g.nodes[0].output[0], 0.5, 0.9))
    g.nodes.append(helper.make_node("NMS", [z, "", "x"], ["dets"], domain=domain))
    g.nodes.append(helper.make_node("Abs", [z], ["side"]))
    made = g.model(g.op("Neg", "dets"), domains=[helper.make_opsetid(domain, 1)])
    made.graph.output.append(helper.make_tensor_value_info("side", TensorProto.FLOAT, None))
    return made, z


def test_the_part_that_runs():
    made, z = model()
    unsupported, outputs = find_unsupported_part(made)
    assert (unsupported.operators, unsupported.entering) == (("mmdeploy::NMS",), (z,))
    assert outputs == ("side", z)
    assert "mmdeploy::NMS runs nowhere here" in str(unsupported)
    part = end_graph_at(made, outputs)
    x = np.linspace(-3, 3, 6, dtype=np.float32).reshape(2, 3)
    side, unit = open_session(part).run(None, {"x": x})
    np.testing.assert_array_equal(side, np.abs(unit))
    assert "NMS" not in {node.op_type for node in part.graph.node}


@pytest.mark.parametrize("domain", ["", "ai.onnx.ml", "com.apa"])
def test_known_domains_are_not_foreign(domain):
    assert find_unsupported_part(model(domain)[0]) is None


def test_inside_a_branch():
    made, z = model()
    call = made.graph.node[-4]
    assert call.op_type == "NMS"
    then = helper.make_graph([helper.make_node("NMS", [z], ["b"], domain="mmdeploy")], "b", [],
                             [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)])  # fmt: skip
    call.CopyFrom(helper.make_node("If", ["c"], ["dets"], then_branch=then, else_branch=then))
    assert find_unsupported_part(made)[0].operators == ("mmdeploy::NMS",)
