"""Which models may run on the event loop: those whose time has a bound, whatever is sent."""

import onnx
import pytest
from onnx import TensorProto, helper
from serving_models import loop_model, mixing_model, open_size_model, slow_model, small_model

from apa_deploy.serving.cost import is_bounded
from apa_deploy.serving.layout import scan
from apa_deploy.serving.model import load_model
from apa_deploy.serving.model_config import ModelConfig
from apa_deploy.serving.signature import signature_from_onnx


def of_operator(path, kind, **attributes):
    """x (N, 4) -> y through one operator."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", 4)) for name in "xy")
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"], **attributes)], "one", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


MODELS = [
    ("activations", small_model, True),
    ("matrix products of known size", lambda path: slow_model(path, size=8, steps=1, copies=1), False),  # Tile
    ("a loop over data", loop_model, False),
    ("an open size", open_size_model, False),
    ("an open second axis", lambda path: small_model(path, shape=("N", "M")), False),
    ("a fixed batch", lambda path: small_model(path, shape=(2, 4)), True),
    ("one operator", lambda path: of_operator(path, "Relu"), True),
    ("another domain", lambda path: with_domain(of_operator(path, "Relu"), "com.other"), False),
    ("a function in the guise of an operator", lambda path: with_function(of_operator(path, "Relu")), False),
]


def with_domain(path, domain):
    model = onnx.load(path)
    model.graph.node[0].domain = domain
    onnx.save(model, path)
    return path


def with_function(path):
    model = onnx.load(path)
    body = [helper.make_node("Identity", ["x"], ["y"])]
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("", "Relu", ["x"], ["y"], body, opsets))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(("make", "bounded"), [c[1:] for c in MODELS], ids=[c[0] for c in MODELS])
def test_the_bound(tmp_path, make, bounded):
    model = onnx.load(make(tmp_path / "m.onnx"))
    assert is_bounded(model, signature_from_onnx(model, 8)) is bounded


@pytest.mark.parametrize("isolate", [False, True])
def test_rows_that_influence_each_other_leave_the_batch_open(tmp_path, isolate):
    """Without batching nothing bounds the rows of one request."""
    mixing_model(tmp_path / "m.onnx")
    artifact = scan(tmp_path, ModelConfig())["m"].artifacts[1]
    model = load_model(artifact, threads=1, providers=None, isolate=isolate)
    assert model.on_loop is False
    model.session.close()
