"""A network with an operator of somebody else's, from the export to the server: `--ort-library`."""

import json
import subprocess
import sys

import numpy as np
import onnx
import ort_building as building
import pytest
from apa_exporters.cli import main as export
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.cli.verify import main as verify
from apa_deploy.maths import aglu_float64
from apa_deploy.runtimes import ort_session
from tests.graph.corpus.spellings import GENERAL, Graph
from tests.serving.serving_process import ServerProcess

X = np.linspace(-2, 2, 16, dtype=np.float32).reshape(4, 4)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if not building.compiler():
        pytest.skip(building.NO_COMPILER)
    fetch = [sys.executable, building.ROOT / "plugins/fetch/onnxruntime_headers.py"]
    headers = subprocess.run(fetch, capture_output=True, text=True, check=True).stdout.strip()
    out = tmp_path_factory.mktemp("library") / "theirs.so"
    source = building.ROOT / "tests/runtimes/their_operator.cc"
    return building.compiled(out, "-shared", "-fPIC", f"-I{headers}", source)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """x -> Twice -> MatMul with 1 -> AGLU, spelled out -> Twice; no type is known of what the first makes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ort_session._LIBRARIES, "")  # which the verbs set
    graph = Graph()
    twice = [helper.make_node("Twice", [a], [b], domain="their.own") for a, b in (("x", "t"), ("g", "y"))]
    graph.nodes += [twice[0], helper.make_node("MatMul", ["t", "one"], ["z"])]
    gate = GENERAL["Pow"](graph, "z", 0.4, 1.2)
    graph.nodes += [helper.make_node("Mul", ["z", gate], ["g"]), twice[1]]
    graph.initializers.append(numpy_helper.from_array(np.eye(4, dtype="f"), "one"))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    proto = helper.make_graph(graph.nodes, "g", values[:1], values[1:], graph.initializers)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("their.own", 1)]
    onnx.save(helper.make_model(proto, opset_imports=opsets, ir_version=10), "theirs.onnx")
    return tmp_path


def test_from_the_export_to_the_server(model, library, capsys):
    theirs = ["--ort-library", str(library)]
    assert export(["theirs.onnx", "--format", "onnx-custom", "-o", "out.onnx", *theirs]) == 0
    assert [node.op_type for node in onnx.load("out.onnx").graph.node] == ["Twice", "MatMul", "AGLU", "Twice"]
    assert "their.own::Twice: no float64 of it here" in capsys.readouterr().err
    assert verify(["theirs.onnx", "out.onnx", *theirs]) == 0
    with ServerProcess(model / "out.onnx", *theirs) as server:
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [4, 4], "data": X.ravel().tolist()}]}
        status, _, answer = server.ask("/v2/models/out/infer", body)
    assert status == 200
    wanted = 2 * aglu_float64(2 * X.astype(np.float64), 0.4, 1.2)
    np.testing.assert_allclose(json.loads(answer)["outputs"][0]["data"], wanted.ravel(), rtol=1e-5, atol=1e-6)
