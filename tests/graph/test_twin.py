"""The twin with plain activations: right values, from either form, and nothing of the old ones left."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from apa_deploy.choices import PLAIN_UNITS
from apa_deploy.errors import InputError
from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import make_node
from apa_deploy.graph.twin import twin
from apa_deploy.maths import Parameters

UNIT, GATE = Parameters((0.5, 1.5, 0.1), (1.0, 0.9, 1.1)), Parameters((0.8,), (-0.5,))
FACTS = {
    path: {"kind": kind, "lambda": parameters.lambda_, "kappa": parameters.kappa}
    for path, kind, parameters in (("unit", "AGLU", UNIT), ("gate", "APA", GATE))
}
PLAIN_UNIT = {"relu": lambda z: np.maximum(z, 0), "silu": lambda z: z / (1 + np.exp(-z))}


def network(element=TensorProto.FLOAT):
    """x -> unit -> gate, with a doubling between them; lambdas per channel."""
    ends = [helper.make_tensor_value_info(name, element, ["n", 3]) for name in ("x", "y")]
    nodes = [
        make_node("AGLU", "x", "u", UNIT, "unit"),
        helper.make_node("Add", ["u", "u"], ["v"]),
        make_node("APA", "v", "y", GATE, "gate"),
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:])
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=8)
    model.metadata_props.add(key="apa.activations", value=json.dumps(FACTS))
    return model


FORMS = {"canonical": lambda model: model, "functions": with_functions, "decomposed": decompose}


@pytest.mark.parametrize("plain", PLAIN_UNITS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("element", "dtype"), [(TensorProto.FLOAT, np.float32), (TensorProto.FLOAT16, np.float16)])
def test_values(form, plain, element, dtype):
    made = twin(FORMS[form](network(element)), plain)
    onnx.checker.check_model(made, full_check=True)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.linspace(-6, 6, 30).reshape(10, 3).astype(dtype)
    (y,) = session.run(None, {"x": x})
    wanted = 1 / (1 + np.exp(-2 * PLAIN_UNIT[plain](x.astype(np.float64))))
    assert y.dtype == dtype
    # a few roundings of values up to 12 in, and of the sigmoid's argument, whose slope is at most 1/4
    np.testing.assert_allclose(y, wanted, atol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_left_and_all_forms_agree(form):
    made = twin(FORMS[form](network()), "relu")
    assert [node.op_type for node in made.graph.node] == ["Relu", "Add", "Sigmoid"]
    assert [node.name for node in made.graph.node] == ["unit/Relu", "", "gate/Sigmoid"]
    assert not made.graph.initializer
    assert not made.functions
    assert [entry.domain for entry in made.opset_import] == [""]


def test_a_file_without_learned_activations_is_refused():
    foreign = network()
    del foreign.graph.node[2], foreign.graph.node[0]
    with pytest.raises(InputError, match="names no learned activation"):
        twin(foreign, "relu")
