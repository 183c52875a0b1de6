"""The operators as ONNX Runtime sees them: what is refused, what is registered, shapes, types, memory."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys

import canonical_models as models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import apa_deploy
from apa_deploy.errors import InputError
from apa_deploy.maths import Parameters

pytestmark = pytest.mark.usefixtures("library")

GOOD = {"lambda": [0.5], "kappa": [1.0]}
NAN, INF = float("nan"), float("inf")

REFUSED = [
    # what, attributes, dtype, what the message says
    ("no lambda", {"kappa": [1.0]}, TensorProto.FLOAT, "lambda is missing"),
    ("no kappa", {"lambda": [1.0]}, TensorProto.FLOAT, "kappa is missing"),
    ("lambda is one number", {**GOOD, "lambda": 1.0}, TensorProto.FLOAT, "lambda holds no float"),
    ("lambda of integers", {**GOOD, "lambda": [1]}, TensorProto.FLOAT, "lambda holds no float"),
    ("NaN lambda", {**GOOD, "lambda": [NAN]}, TensorProto.FLOAT, r"lambda\[0\] is nan"),
    ("negative lambda", {**GOOD, "lambda": [1.0, -0.25, 1.0]}, TensorProto.FLOAT, r"lambda\[1\] is -0\.25"),
    ("infinite lambda", {**GOOD, "lambda": [INF]}, TensorProto.FLOAT, r"lambda\[0\] is inf"),
    ("NaN kappa", {**GOOD, "kappa": [NAN]}, TensorProto.FLOAT16, r"kappa\[0\] is nan"),
    ("infinite kappa", {**GOOD, "kappa": [-INF]}, TensorProto.DOUBLE, r"kappa\[0\] is -inf"),
    ("wrong length", {**GOOD, "kappa": [1.0, 2.0]}, TensorProto.FLOAT, "2 parameters for 3 channels"),
    ("two lengths", {"lambda": [1.0] * 3, "kappa": [1.0] * 2}, TensorProto.FLOAT, "3 values and kappa 2"),
    ("unknown axis", {**GOOD, "kappa": [1.0] * 3, "axis": 5}, TensorProto.FLOAT, "axis is 5; wanted one of"),
    ("axis is no integer", {**GOOD, "axis": 1.5}, TensorProto.FLOAT, r"axis is 1\.5"),
    ("integer input", GOOD, TensorProto.INT64, r"int64"),
]  # fmt: skip


def _model(attributes, dtype, name="layer1.act"):
    values = [helper.make_tensor_value_info(value, dtype, ["N", 3]) for value in ("x", "y")]
    node = helper.make_node("AGLU", ["x"], ["y"], name=name, domain="com.apa", **attributes)
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


@pytest.mark.parametrize(("_what", "attributes", "dtype", "says"), REFUSED, ids=[r[0] for r in REFUSED])
def test_refused_as_the_session_is_made(tmp_path, _what, attributes, dtype, says):
    path = models.saved(_model(attributes, dtype), tmp_path)
    with pytest.raises(InputError, match=says) as caught:
        apa_deploy.Session(path)
    assert "layer1.act" in str(caught.value)


def test_a_nameless_node_is_named_by_its_output(tmp_path):
    path = models.saved(_model({**GOOD, "lambda": [NAN]}, TensorProto.FLOAT, name=""), tmp_path)
    with pytest.raises(InputError, match="node that makes 'y'"):
        apa_deploy.Session(path)


def test_a_length_unknown_until_it_runs_is_refused_then(tmp_path):
    model = models.one_node(Parameters((0.5,), (1.0, 2.0)), shape=("N", "C"))
    with apa_deploy.Session(models.saved(model, tmp_path)) as session:
        assert session.run({"x": np.zeros((4, 2), np.float32)})["y"].shape == (4, 2)
        with pytest.raises(InputError, match=r"act.*2 parameters for 3 channels on axis 1"):
            session.run({"x": np.zeros((4, 3), np.float32)})


SHAPES = [
    (),
    (0,),
    (7,),
    (2, 0, 3),
    (3, 4),
    (2, 3, 4),
    (2, 3, 4, 5),
    (1, 2, 1, 2, 1, 2),
    (40000,),
    (5, 70000),
]
# The kernel's relative bound where APA > 1e-3: 3 * (2 + 10) ulp = 36; float16 adds half a last place.
TYPES = {np.float32: 36 * 2**-23, np.float16: 2**-10, np.float64: 1e-14}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_rank_and_type(tmp_path, shape, dtype):
    x = (np.random.default_rng(3).random(shape) * 8 - 4).astype(dtype)
    onnx_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = models.one_node(Parameters((0.5,), (1.25,)), "APA", onnx_type, shape)
    with apa_deploy.Session(models.saved(model, tmp_path)) as session:
        y = session.run({"x": x})["y"]
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    wanted = models.truth("APA", x, 0.5, 1.25)
    assert np.all(np.abs(y - wanted) <= TYPES[dtype] * wanted)


@pytest.mark.parametrize(("axis", "shape"), [(1, (2, 3, 5)), (-1, (4, 3)), (0, (3, 70000)), (2, (2, 2, 3))])
def test_parameters_lie_along_the_axis(tmp_path, axis, shape):
    lambdas, kappas = (0.0, 0.5, 3.0), (1.0, -0.5, 2.0)
    x = (np.random.default_rng(4).random(shape) * 8 - 4).astype(np.float32)
    model = models.one_node(Parameters(lambdas, kappas, axis), "APA", shape=shape)
    with apa_deploy.Session(models.saved(model, tmp_path)) as session:
        y = session.run({"x": x})["y"]
    for channel in range(3):
        got, z = np.take(y, channel, axis), np.take(x, channel, axis)
        wanted = models.truth("APA", z, lambdas[channel], kappas[channel])
        assert np.abs(got - wanted).max() <= 1.2e-7  # the gate's absolute bound


@pytest.mark.parametrize("kind", ["AGLU", "Gated"])
def test_an_input_of_unknown_shape_is_no_scalar(tmp_path, library, kind):
    """ONNX Runtime says rank 0 where it knows no shape; the Conv behind would refuse a scalar."""
    attributes = GOOD if kind == "AGLU" else {"channels": 4}
    nodes = [
        helper.make_node(kind, ["x"], ["z"], domain="com.apa", **attributes),
        helper.make_node("Conv", ["z", "w"], ["y"]),
    ]
    x, y = (onnx.ValueInfoProto(name=name) for name in "xy")
    x.type.tensor_type.elem_type = TensorProto.FLOAT
    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1), "w")
    graph = helper.make_graph(nodes, "g", [x], [y], [weights])
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    path = models.saved(helper.make_model(graph, opset_imports=domains, ir_version=8), tmp_path)
    data = np.random.default_rng(5).standard_normal((2, 4, 3, 3)).astype(np.float32)
    session = ort.InferenceSession(path, _options(library), providers=["CPUExecutionProvider"])
    got = session.run(None, {"x": data})[0]
    wanted = models.truth("AGLU", data, 0.5, 1.0) if kind == "AGLU" else data
    assert np.allclose(got, wanted, rtol=1e-6, atol=1e-6)


def _options(*libraries):
    options = ort.SessionOptions()
    for path in libraries:
        options.register_custom_ops_library(str(path))
    return options


def test_loading_twice_is_harmless(tmp_path, library):
    path = models.saved(models.one_node(Parameters((0.5,), (1.2,))), tmp_path)
    copy = shutil.copy(library, tmp_path / "copy.so")
    x = {"x": np.linspace(-3, 3, 77, dtype=np.float32)}
    sessions = [
        ort.InferenceSession(path, _options(*libraries), providers=["CPUExecutionProvider"])
        for libraries in ([library], [library, library], [library, copy], [copy], [library])
    ]
    first, *others = [session.run(None, x)[0] for session in sessions]
    assert all(np.array_equal(first, other) for other in others)


def test_kernel_is_preferred_to_the_function_in_the_file(tmp_path, library):
    """The function here is deliberately another one: what comes out says which of the two has run."""
    model = models.one_node(Parameters((1.0,), (1.0,)))
    body = [helper.make_node("Identity", ["x"], ["y"])]
    names = ["lambda", "kappa", "axis", "plugin_version", "plugin_namespace"]
    domain = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("com.apa", "AGLU", ["x"], ["y"], body, domain, names))
    path = models.saved(model, tmp_path)
    x = np.float32([1, 2])
    for options, wanted in ((_options(), x), (_options(library), x / (1 + np.exp(-x)))):
        y = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        assert np.allclose(y, wanted, rtol=1e-6)


MEGABYTES = 64
PEAK = """
import sys
import numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.enable_cpu_mem_arena = options.enable_mem_pattern = False
options.register_custom_ops_library(sys.argv[2])
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, {"x": np.ones(1, np.float32)})
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) >> 10)  # unlike ru_maxrss, never that of the process that started this one
"""


def _peak_megabytes(*arguments):
    command = [sys.executable, "-c", PEAK, *map(str, arguments)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _chain(operator, domain, attributes):
    """One number, expanded to many, through six nodes, and the largest of them: what is between is large."""
    names = [f"v{i}" for i in range(7)]
    nodes = [helper.make_node("Expand", ["x", "n"], ["v0"])]
    for source, target in itertools.pairwise(names):
        nodes.append(helper.make_node(operator, [source], [target], domain=domain, **attributes))
    nodes.append(helper.make_node("ReduceMax", ["v6"], ["y"], keepdims=0))
    ends = [
        helper.make_tensor_value_info(*end) for end in (("x", TensorProto.FLOAT, [1]), ("y", TensorProto.FLOAT, []))
    ]
    count = helper.make_tensor("n", TensorProto.INT64, [1], [MEGABYTES << 18])  # a shape known to the planner
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [count])
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def test_runs_in_place(tmp_path, library):
    """A chain of ours takes as much memory as one of Relu, which runs in place; Cos takes more."""
    chains = {"AGLU": ("com.apa", GOOD), "Relu": ("", {}), "Cos": ("", {})}
    peak = {}
    for operator, (domain, attributes) in chains.items():
        path = tmp_path / f"{operator}.onnx"
        onnx.save(_chain(operator, domain, attributes), path)
        peak[operator] = _peak_megabytes(path, library)
    half = MEGABYTES / 2  # the difference is one whole tensor or none
    assert peak["Cos"] > peak["Relu"] + half, "the test can no longer tell"
    assert peak["AGLU"] < peak["Relu"] + half


def _readelf(option, library):
    program = shutil.which("readelf")
    if not program:
        pytest.skip("no readelf on this machine: install binutils")
    command = [program, "-W", option, str(library)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_exports_one_symbol(library):
    rows = [line.split() for line in _readelf("--dyn-syms", library) if line.strip()[:1].isdigit()]
    defined = [row[7] for row in rows if len(row) > 7 and row[4] != "LOCAL" and row[6] != "UND"]
    assert [name.split("@")[0] for name in defined] == ["RegisterCustomOps"]


def test_links_no_onnxruntime(library):
    needed = {line.split("[")[1].split("]")[0] for line in _readelf("-d", library) if "(NEEDED)" in line}
    system = {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1"}
    assert not {name for name in needed - system if not name.startswith("ld-linux")}
