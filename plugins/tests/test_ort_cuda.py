"""The operators for ONNX Runtime on CUDA, without a GPU: between stand-ins, in ONNX Runtime, and as built."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import numpy as np
import onnx
import onnxruntime as ort
import ort_cuda_building as building
import pytest
import trt_building
from onnx import TensorProto
from planting import Fault, plant_faults, run_planted

from apa_deploy.graph.node import make_node
from apa_deploy.maths import Parameters, aglu_float64, apa_float64

SUITES = ("values", "open_shapes", "registration", "refusals", "failing_device", "devices", "oldest_runtime")
OPERATORS, MEMORY, LAYOUT = "onnxruntime_cuda/operators.cc", "tensorrt/device_memory.cc", "tensorrt/layout.cc"
ATTRIBUTES, REGISTRATION = "onnxruntime/attributes.cc", "onnxruntime/registration.cc"
FAULTS = [
    Fault("the default stream", OPERATORS, "static_cast<cudaStream_t>(@stream@)", "nullptr"),
    Fault("float16 as bfloat16", OPERATORS, "? @ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16@",
          "ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16"),
    Fault("lambda and kappa exchanged", OPERATORS,
          "{@attributes.lambda@.begin(), @attributes.lambda@.end()}", ("attributes.kappa", "attributes.kappa")),
    Fault("the session's device", OPERATORS, "error = cudaSetDevice(@device@);", "before"),
    Fault("left on the provider's device", OPERATORS, "back = @cudaSetDevice(before)@;", "cudaSuccess"),
    Fault("one channel for all", OPERATORS, "kernel.job.per_channel = @parameters.channels() > 1@;", "false"),
    Fault("a blocked model is taken", OPERATORS, "if (@attributes.block != 1@)", "false"),
    Fault("shapes are not checked", OPERATORS, "if (@!dims.empty()@)", "false"),
    Fault("a run does not check shapes", OPERATORS, "@kernel.attributes.check_shape(dims, rank);@\n  APA_TRY", ""),
    Fault("an allocator is kept", OPERATORS, "@api->ReleaseAllocator(allocator);@", ""),
    Fault("a newer function of an older runtime", OPERATORS, "if (@version < kTellsAllocator@)", "false"),
    Fault("captures are disturbed", MEMORY, "mode = @cudaStreamCaptureModeRelaxed@;",
          "cudaStreamCaptureModeGlobal"),
    Fault("the axis itself is in the span", LAYOUT, "i = @axis + 1@; i < rank", "axis"),
    Fault("a negative axis", ATTRIBUTES, "@axis < 0 ? axis + static_cast<int64_t>(rank) : axis@",
          "axis < 0 ? 0 : axis"),
    Fault("the axis beyond the rank", ATTRIBUTES, "|| @axis >= n@", "axis > n"),
    Fault("a newer API than the runtime's", REGISTRATION, ": @std::min<unsigned>(minor, ORT_API_VERSION)@",
          "ORT_API_VERSION"),
    Fault("twice", REGISTRATION, "if (@present@) return refuse", "0"),
    Fault("beside the CPU's", REGISTRATION, "if (@std::string(known) == library@)", "true"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cuda")


@pytest.fixture(scope="module")
def kernels(folder):
    return building.objects(folder, building.KERNELS, "-w")


@pytest.fixture(scope="module")
def planted(folder, kernels):
    """The test program, made of sources with every fault in them, each behind its switch."""
    copies = folder / "planted"
    for part in ("tensorrt", "include", "onnxruntime", "onnxruntime_cuda"):
        shutil.copytree(building.ROOT / "plugins" / part, copies / part)
    switch = ("-include", str(plant_faults(copies, FAULTS)), "-w")
    (made := folder / "made").mkdir()
    own = [*building.OPERATORS, building.TENSORRT / "layout.cc", building.TESTS / "ort_cuda_test.cc"]
    others = [one for one in kernels if "layout" not in one.name]
    return trt_building.linked([*building.objects(made, own, *switch, plugins=copies), *others], folder / "test")


@pytest.mark.parametrize("suite", SUITES)
def test_between_stand_ins(planted, suite):
    trt_building.ran(planted, suite)


@pytest.mark.parametrize("number", range(1, len(FAULTS) + 1), ids=[fault.name for fault in FAULTS])
def test_every_fault_is_seen(planted, number):
    assert run_planted(planted, number).returncode != 0


@pytest.fixture(scope="module")
def on_device(folder, kernels):
    (made := folder / "device").mkdir()
    names = ("cuda_cpu_streams", "ort_cuda_on_device_test")
    own = [*building.OPERATORS, *(building.TESTS / f"{name}.cc" for name in names)]
    return trt_building.linked([*building.objects(made, own), *kernels], folder / "on_device", "-pthread")


@pytest.mark.parametrize("suite", ["values", "recorded", "threads", "host"])
def test_what_runs_on_a_device(on_device, suite):
    """tools/gpu_check runs this program with the built library on a device; here it is of the same sources."""
    row = json.loads(trt_building.ran(on_device, "--small", suite))
    assert (row["suite"], row["failures"]) == (suite, 0)
    assert row["checks"] > 0


@pytest.fixture(scope="module")
def on_the_cpu(folder, kernels):
    return building.cpu_library(folder, kernels)


def _session(library, model):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(library))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _model(kind, dtype, shape, parameters):
    """Two activations in a row, so that the second may take the first one's memory."""
    nodes = [make_node(kind, *pair, parameters, pair[1]) for pair in (("x", "between"), ("between", "y"))]
    values = [onnx.helper.make_tensor_value_info(name, dtype, shape) for name in ("x", "y")]
    domains = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.apa", 1)]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:])
    return onnx.helper.make_model(graph, opset_imports=domains, ir_version=8)


SHAPES = [
    # declared, of the run, axis, channels
    (("N",), (33,), 1, 1),
    ((), (), 1, 1),
    (("N", 3, "H", "W"), (2, 3, 5, 7), 1, 3),
    (("N", 3, "H", "W"), (0, 3, 5, 7), 1, 3),
    (("N", "T", 3), (2, 100, 3), -1, 3),
    ((3, "N"), (3, 1001), 0, 3),
    (("A", "B", "C", 3, "D"), (2, 1, 3, 3, 4), 3, 3),
]


@pytest.mark.parametrize("kind", ["APA", "AGLU"])
@pytest.mark.parametrize(("dtype", "half_place"), [(np.float32, 2e-6), (np.float16, 2**-10)])
@pytest.mark.parametrize(("declared", "shape", "axis", "channels"), SHAPES)
def test_in_onnx_runtime(on_the_cpu, kind, dtype, half_place, declared, shape, axis, channels):
    """Two roundings of the type, and the kernels' bound of 1.5e-6 (trt_reference.h) twice; slopes are below 2.2."""
    parameters = Parameters((0.5, 0.1, 2.0)[:channels], (1.0, 0.75, -0.5)[:channels], axis)
    model = _model(kind, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), declared, parameters)
    x = np.asarray(np.random.default_rng(3).random(shape) * 12 - 6, dtype)
    y = _session(on_the_cpu, model).run(None, {"x": x})[0]
    along = [1] * len(shape)
    if channels > 1:
        along[axis] = channels
    function = {"APA": apa_float64, "AGLU": aglu_float64}[kind]
    lambda_, kappa = (np.float32(v).reshape(along) for v in (parameters.lambda_, parameters.kappa))
    wanted = function(function(x, lambda_, kappa), lambda_, kappa)
    assert y.shape == shape and y.dtype == dtype
    assert (np.abs(y - wanted) <= 3.2 * half_place * np.maximum(1, np.abs(wanted))).all()


def test_what_onnx_runtime_is_told_of_a_wrong_node(on_the_cpu):
    model = _model("AGLU", TensorProto.FLOAT, ("N", 4), Parameters((0.5, 1.0, 2.0), (1.0,)))
    with pytest.raises(Exception, match=r"'between' \(com.apa::AGLU\): 3 parameters for 4 channels"):
        _session(on_the_cpu, model)


def test_one_symbol_is_exported_and_no_runtime_is_needed():
    """Neither ONNX Runtime nor CUDA: one file serves each of their versions, on a machine without a toolkit."""
    library = building.library()
    shown = subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[-1] for line in shown.splitlines()] == ["RegisterCustomOps"]
    shown = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    system = {"libc", "libm", "libgcc_s", "libpthread", "libdl", "librt", "ld-linux-x86-64", "ld-linux-aarch64"}
    assert set(re.findall(r"NEEDED.*\[(.+?)\.so", shown)) <= system


def test_the_built_library_registers_and_says_what_it_is_for():
    """Here without a GPU provider: no node of CUDA's can run, and the other library is refused beside it."""
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(building.library()))
    options.register_custom_ops_library(str(building.library()))
    with pytest.raises(Exception, match="for CUDA are registered"):
        options.register_custom_ops_library(str(building.ort_building.library()))
    with pytest.raises(Exception, match="AGLU"):
        _session(building.library(), _model("AGLU", TensorProto.FLOAT, ("N",), Parameters((1.0,), (1.0,))))
