"""Small models with canonical nodes, as files: what the server's tests serve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import make_node
from apa_deploy.maths import Parameters
from apa_deploy.records.passport import Passport, dump, file_record, now, passport_path, versions

FEATURES = 4


def small_model(
    path: Path, *, kappa: float = 1.0, dtype: int = TensorProto.FLOAT, shape=("N", FEATURES), gate: float = 1.5
) -> Path:
    """x -> y = AGLU(x), g = APA(x), written to `path`; `gate`: the lambda of g."""
    values = [helper.make_tensor_value_info(name, dtype, shape) for name in ("x", "y", "g")]
    nodes = [
        make_node("AGLU", "x", "y", Parameters((0.5,), (kappa,)), "unit"),
        make_node("APA", "x", "g", Parameters((gate,), (kappa,)), "gate"),
    ]
    return _saved(path, helper.make_graph(nodes, "small", values[:1], values[1:]))


def slow_model(path: Path, size: int = 512, steps: int = 240, copies: int = 64) -> Path:
    """x (N, 4) -> y (N, 4): an activation, then matrix products that take some 100 milliseconds a row."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", FEATURES)) for name in "xy")
    constants = {
        "widen": np.eye(FEATURES, size, dtype=np.float32),
        "same": np.eye(size, dtype=np.float32),
        "narrow": np.eye(size, FEATURES, dtype=np.float32),
        "axis": np.array([1]),
        "tiles": np.array([1, copies, 1]),
    }
    nodes = [
        make_node("AGLU", "x", "a", Parameters((0.5,), (1.0,)), "unit"),
        helper.make_node("MatMul", ["a", "widen"], ["wide"]),
        helper.make_node("Unsqueeze", ["wide", "axis"], ["one"]),
        helper.make_node("Tile", ["one", "tiles"], ["h0"]),
        *(helper.make_node("MatMul", [f"h{i}", "same"], [f"h{i + 1}"]) for i in range(steps)),
        helper.make_node("ReduceMax", [f"h{steps}", "axis"], ["best"], keepdims=0),
        helper.make_node("MatMul", ["best", "narrow"], ["y"]),
    ]
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    return _saved(path, helper.make_graph(nodes, "slow", [x], [y], weights))


def mixing_model(path: Path) -> Path:
    """x (N, 4) -> y: each row minus the mean of all rows, so that requests must not share a run."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", FEATURES)) for name in "xy")
    axes = onnx.numpy_helper.from_array(np.array([0]), "axes")
    nodes = [
        make_node("AGLU", "x", "a", Parameters((0.5,), (1.0,)), "unit"),
        helper.make_node("ReduceMean", ["a", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["a", "mean"], ["y"]),
    ]
    return _saved(path, helper.make_graph(nodes, "mixing", [x], [y], [axes]))


def loop_model(path: Path) -> Path:
    """x (N, 4) -> y = x after as many turns of a loop as the largest x says: the data decide the time."""
    x, y, v, v2 = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", FEATURES)) for name in "xyvw")
    turn = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    go, on = (helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "on"))
    steps = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Mul", ["v", "one"], ["w"])]
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["turns"], to=TensorProto.INT64),
        helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=helper.make_graph(
            steps, "body", [turn, go, v], [on, v2])),
    ]  # fmt: skip
    constants = {"yes": np.array(True), "one": np.array(1, np.float32)}
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    return _saved(path, helper.make_graph(nodes, "loop", [x], [y], weights))


def open_size_model(path: Path, hidden: int = 64) -> Path:
    """x (L, 1, 1) -> y (1, 1, hidden): a recurrent operator over L steps, which nothing can interrupt."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("L", 1, 1))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 1, hidden))
    sizes = {"w": (1, 3 * hidden, 1), "r": (1, 3 * hidden, hidden)}
    weights = [onnx.numpy_helper.from_array(np.full(size, 0.01, np.float32), n) for n, size in sizes.items()]
    nodes = [helper.make_node("GRU", ["x", "w", "r"], ["", "y"], hidden_size=hidden)]
    return _saved(path, helper.make_graph(nodes, "open", [x], [y], weights))


def large_answer_model(path: Path, size: int = 300_000) -> Path:
    """x (N, 4) -> y (N, 4, size): x, repeated."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", FEATURES))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", FEATURES, size))
    nodes = [helper.make_node("Unsqueeze", ["x", "axis"], ["u"]), helper.make_node("Tile", ["u", "times"], ["y"])]
    constants = {"axis": np.array([2]), "times": np.array([1, 1, size])}
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    return _saved(path, helper.make_graph(nodes, "large", [x], [y], weights))


def write_passport(artifact: Path, **changes) -> Passport:
    """A passport that fits `artifact`, except for `changes`."""
    fields = {
        "created": now(),
        "format": "onnx-custom",
        "options": {},
        "architecture": "small",
        "weights": "model",
        "input_shape": (FEATURES, 1, 1),
        "output_names": ["y", "g"],
        "inputs": [],
        "outputs": [file_record(artifact)],
        "versions": versions(),
        "activations": [],
    }
    passport = Passport(**(fields | changes))
    passport_path(artifact).write_text(dump(passport))
    return passport


def truth(x: np.ndarray, kappa: float = 1.0) -> dict[str, np.ndarray]:
    """The outputs of `small_model` in float64."""
    z = x.astype(np.float64)
    unit, gate = ((1 + lam * np.exp(-kappa * z)) ** (-1 / lam) for lam in (0.5, 1.5))
    return {"y": z * unit, "g": gate}


# float32 of the parameters and of the result: at most 6e-7 of max(1, |y|) for any lambda up to 10 (the kernel's and
# the function bodies' own bound), doubled for the rounding of the inputs' powers.
TOLERANCE = 1.2e-6


def _saved(path: Path, graph: onnx.GraphProto) -> Path:
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    model = with_functions(helper.make_model(graph, opset_imports=domains, ir_version=8))
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def halving_model(path: Path) -> Path:
    """x (N, 4) -> y = x / 2."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", FEATURES)) for name in "xy")
    half = onnx.numpy_helper.from_array(np.float32(0.5), "half")
    return _saved(
        path, helper.make_graph([helper.make_node("Mul", ["x", "half"], ["y"])], "half", [x], [y], [half])
    )
