"""What ends ONNX Runtime's process as it opens a file is left out of its optimiser."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.runtimes.ort_faults import passes_that_crash

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
