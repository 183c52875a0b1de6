"""What ends ONNX Runtime's process as it opens a file is left out of its optimiser."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from apa_exporters.cli import main
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.runtimes import ort_faults
from apa_deploy.runtimes.ort_faults import passes_that_crash
from apa_deploy.runtimes.ort_session import open_session

FUSION = ["MatmulTransposeFusion"]


def product(perm, shape, element=TensorProto.FLOAT16, between=()):
    last = between[-1] if between else "t"
    cast = helper.make_node("Cast", ["t"], ["c"], to=TensorProto.FLOAT)
    wide = TensorProto.FLOAT if between else element
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=perm), *([cast] if between else [])]
    graph = helper.make_graph(
        [*nodes, helper.make_node("MatMul", [last, "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", wide, None)],
        [numpy_helper.from_array(np.ones((8, 8), helper.tensor_dtype_to_np_dtype(wide)), "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


CASES = {
    # the graph, the passes to leave out
    "first axis moved": (product([1, 0, 2], ["b", 5, 8]), FUSION),
    "four axes": (product([1, 2, 0, 3], ["b", 5, 6, 8]), FUSION),
    "through a Cast": (product([1, 0, 2], ["b", 5, 8], between=("c",)), FUSION),
    "first axis kept": (product([0, 2, 1], ["b", 8, 5]), []),
    "float32": (product([1, 0, 2], ["b", 5, 8], TensorProto.FLOAT), []),
}


@pytest.mark.parametrize("name", CASES)
def test_the_pass_is_left_out_where_it_crashes(name):
    model, passes = CASES[name]
    assert passes_that_crash(model) == passes == passes_that_crash(model.SerializeToString())


def test_what_is_no_model_is_left_to_onnx_runtime(tmp_path):
    assert passes_that_crash(b"\xff") == passes_that_crash(tmp_path / "none.onnx") == []


def test_such_files_open(tmp_path):
    for i, (model, _) in enumerate(CASES.values()):
        onnx.save(model, tmp_path / f"{i}.onnx")
    script = "import sys; from pathlib import Path; from apa_deploy.runtimes.ort_session import open_session\n"
    script += "for p in sys.argv[1:]: open_session(Path(p))"
    paths = map(str, sorted(tmp_path.glob("*.onnx")))
    ended = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def four_bits(element=TensorProto.INT4):
    """Weights of 4 bits, which ONNX Runtime's optimiser puts into one node with their product."""
    numbers = helper.make_tensor("w4", element, [8, 8], np.arange(64) % 8)
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["w4", "s"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numbers, numpy_helper.from_array(np.float32(0.1), "s")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("optimise", [True, False])
def test_products_with_four_bits_are_float32(optimise):
    x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    wanted = x.astype(np.float64) @ ((np.arange(64) % 8).reshape(8, 8) * np.float64(np.float32(0.1)))
    found = open_session(four_bits(), optimise=optimise).run(None, {"x": x})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


NOTICES = {
    "crash": (product([1, 0, 2], ["b", 5, 8]), 'disabled_optimizers=["MatmulTransposeFusion"]'),
    "four bits": (four_bits(), 'session.qdq_matmulnbits_accuracy_level", "1"'),
    "neither": (product([1, 0, 2], ["b", 5, 8], TensorProto.FLOAT), None),
}


@pytest.mark.parametrize("name", NOTICES)
def test_an_export_says_what_other_sessions_need(name, tmp_path, monkeypatch, capsys):
    model, words = NOTICES[name]
    monkeypatch.chdir(tmp_path)
    onnx.save(model, "net.onnx")
    assert main(["net.onnx", "-o", "out.onnx", "--no-verify"]) == 0
    said = capsys.readouterr().err
    assert words in said if words else "outside apa-deploy" not in said


def test_a_model_is_parsed_once_at_most(monkeypatch, tmp_path):
    """By ONNX Runtime itself: what it is given as a model is looked at as it is, files by the names in them."""
    model = product([0, 2, 1], ["b", 8, 5], TensorProto.FLOAT)
    monkeypatch.setattr(onnx, "load", lambda *_, **__: pytest.fail("parsed"))
    monkeypatch.setattr(ort_faults, "_parse_where_named", lambda _: pytest.fail("parsed"))
    open_session(model)
    monkeypatch.undo()
    model.graph.node[1].op_type = "Relu"
    del model.graph.node[1].input[1]
    onnx.save(model, tmp_path / "relu.onnx")
    monkeypatch.setattr(onnx, "load", lambda *_, **__: pytest.fail("parsed"))
    assert passes_that_crash(tmp_path / "relu.onnx") == []
