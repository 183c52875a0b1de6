"""Prepared 8-bit models: the operators are exact, and the model has the skeleton of its ReLU twin."""

from __future__ import annotations

import collections
import itertools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import apa_deploy
from apa_deploy.calibration import Quantisation, quantise
from apa_deploy.calibration.data import CalibrationData
from apa_deploy.calibration.gate import decibel
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.layout.edit import attribute, replace_nodes
from apa_deploy.graph.quantise.codes import S8, U8, Scale
from apa_deploy.maths import aglu_float64
from apa_deploy.runtimes import processor
from apa_deploy.runtimes.blocking import optimise_to
from tests import quantise_networks as networks

pytestmark = pytest.mark.usefixtures("library")
TYPES = {U8: TensorProto.UINT8, S8: TensorProto.INT8}


def _run(kind, codes, inputs, **attributes):
    names = [f"i{i}" for i in range(len(inputs))]
    types = [helper.np_dtype_to_tensor_dtype(value.dtype) for value in inputs]
    node = helper.make_node(kind, names, ["y"], name="act", domain="com.apa", **attributes)
    values = [helper.make_tensor_value_info(n, t, None) for n, t in zip(names, types, strict=True)]
    y = helper.make_tensor_value_info("y", TYPES[codes], None)
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.apa", 1)]
    model = helper.make_model(helper.make_graph([node], "g", values, [y]), opset_imports=domains, ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(apa_deploy.ort_library()))
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


@pytest.mark.parametrize("rows", [256, 50])
def test_indices_of_a_small_table_do_not_keep_a_network_from_being_prepared(tmp_path, rows):
    builder = networks.Builder()
    table = builder.constant(np.random.default_rng(0).standard_normal((rows, 3, 16, 16)).astype("f"))
    x = builder.unit(builder.conv(builder.add("Gather", table, "ids"), 3, name="stem"))
    model = with_functions(builder.model(builder.head(builder.unit(builder.conv(x, name="b")))))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"]))
    data = CalibrationData({"ids": np.arange(32)}, None, "ids.npz")
    onnx.save(quantise(model, data, Quantisation(judge=False)).proto, tmp_path / "m.onnx")
    assert apa_deploy.Session(tmp_path / "m.onnx").prepared


SHAPES = [(0,), (1,), (255,), (2, 3, 5, 7), (300000,)]


@pytest.mark.parametrize("codes", TYPES, ids=lambda c: c.name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_table_holds_every_code(codes, shape):
    table = np.random.default_rng(0).permutation(256).astype(np.uint8)
    x = np.random.default_rng(1).integers(codes.low, codes.high + 1, shape).astype(codes.dtype)
    got = _run("QLinearAGLU", codes, [x], table=table.tobytes())
    assert np.array_equal(got.view(np.uint8), table[x.view(np.uint8)])


def _sum(a, b, fa, fb, zeros):
    return (a.astype(np.float64) - zeros[0]) * fa + (b.astype(np.float64) - zeros[1]) * fb + zeros[2]


SCALES = [(1.0, 1.0), (0.5, 0.25), (0.731, 1.313), (2.5, 0.01), (7.0, 40.0), (1e-4, 1.0), (1.999, 1.999)]


@pytest.mark.parametrize("codes", TYPES, ids=lambda c: c.name)
@pytest.mark.parametrize("factors", SCALES, ids=str)
def test_sums_of_all_pairs_of_codes(codes, factors):
    """Within rounding of the factors to 15 bits: 2^-15 of the largest times 255, twice, beside half a code."""
    every = np.arange(codes.low, codes.high + 1)
    a, b = (v.ravel().astype(codes.dtype) for v in np.meshgrid(every, every))
    table = np.arange(256, dtype=np.uint8)  # the sum's code itself, from the lowest
    for zeros in itertools.product((codes.low, 3, codes.high), repeat=3):
        attributes = {"table": table.tobytes(), "factors": list(factors), "zeros": list(zeros)}
        got = _run("QLinearAddAGLU", codes, [a, b], **attributes).view(np.uint8).astype(float) + codes.low
        exact = np.clip(_sum(a, b, *factors, zeros), codes.low, codes.high)
        assert np.abs(got - exact).max() <= 0.5 + 2 * 255 * max(factors) * 2.0**-15


@pytest.mark.parametrize("codes", TYPES, ids=lambda c: c.name)
@pytest.mark.parametrize(
    "shape", [(2, 3, 5, 16), (1, 4, 4, 32), (2, 7, 3, 64), (1, 3, 3, 5), (3, 1, 1, 96), (1, 40, 40, 24)], ids=str
)
def test_gated_sums(codes, shape):
    random = np.random.default_rng(2)
    x, r = (random.integers(codes.low, codes.high + 1, shape).astype(codes.dtype) for _ in range(2))
    gate = random.random((shape[0], shape[3], 1, 1)).astype(np.float32)
    gate[0, 0] = 0
    zeros, factors = (5, 20, 100), (1.3, 0.4)
    attributes = {"table": np.arange(256, dtype=np.uint8).tobytes(), "factors": list(factors), "zeros": list(zeros)}
    got = _run("QLinearGatedAddAGLU", codes, [x, r, gate], **attributes).view(np.uint8).astype(float) + codes.low
    each = gate[:, :, 0, 0][:, None, None, :].astype(np.float64) * factors[0]
    exact = np.clip((x.astype(float) - 5) * each + (r.astype(float) - 20) * factors[1] + 100, codes.low, codes.high)
    assert np.abs(got - exact).max() <= 0.5 + 2 * 255 * 1.3 * 2.0**-15


SUM = {"table": bytes(256), "factors": [1.0, 1.0], "zeros": [0, 0, 0]}
REFUSED = [
    ("a short table", "QLinearAGLU", {"table": b"abc"}, "table has 3 bytes; wanted 256"),
    ("no table", "QLinearAGLU", {}, "table is missing"),
    ("one factor", "QLinearAddAGLU", {**SUM, "factors": [1.0]}, "two factors"),
    ("a factor of 0", "QLinearAddAGLU", {**SUM, "factors": [1.0, 0.0]}, "not above 0"),
    ("a zero beyond", "QLinearAddAGLU", {**SUM, "zeros": [0, 256, 0]}, "no code"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "attributes", "says"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(kind, attributes, says):
    x = [np.zeros(4, np.uint8)] * (1 if kind == "QLinearAGLU" else 2)
    with pytest.raises(Exception, match=says):
        _run(kind, U8, x, **attributes)


def test_maps_of_two_shapes_and_other_gates_are_refused():
    x = np.zeros((1, 2, 2, 4), np.uint8)
    with pytest.raises(Exception, match="different shapes"):
        _run("QLinearAddAGLU", U8, [x, x[:, :1]], **SUM)
    with pytest.raises(Exception, match="C = 4"):
        _run("QLinearGatedAddAGLU", U8, [x, x, np.ones((1, 3, 1, 1), np.float32)], **SUM)


def _samples(count):
    return np.random.default_rng(3).standard_normal((count, 3, 16, 16)).astype(np.float32)


_DATA = CalibrationData({"x": _samples(32)}, None, "samples")


@pytest.fixture(params=["plain", "residual", "squeeze", "pooled", "shortcut", "concat", "silu", "relu"])
def case(request, tmp_path, monkeypatch):
    """A small network, quantised, and its file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = with_functions(networks.build(getattr(networks, request.param)))
    result = quantise(model, _DATA, Quantisation(reduced=True, judge=False))
    onnx.save(result.proto, tmp_path / "model.onnx")
    return request.param, result, tmp_path / "model.onnx"


def _operators(model):
    """Without what has one pixel: a pooled vector's Transpose moves nothing."""
    pooled = {n.output[0] for n in model.graph.node if n.op_type.endswith("GlobalAveragePool")}
    large = [n for n in model.graph.node if not set(n.input) & pooled]
    return collections.Counter(node.op_type for node in large)


def _relu_twin(result):
    """Its float32 form with ReLU for every unit, whatever it was spelled with, quantised in the same way."""
    model = onnx.ModelProto.FromString(result.float32.SerializeToString())
    gone = set().union(*(unit.inside for unit in result.plan.units))
    nodes = [n for n in model.graph.node if n.output[0] not in gone]
    nodes += [helper.make_node("Relu", [unit.source], [unit.target]) for unit in result.plan.units]
    replace_nodes(model.graph, [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes])
    return quantise(model, _DATA, Quantisation(reduced=True, judge=False)).proto


def test_the_prepared_model_has_the_skeleton_of_its_relu_twin(case, tmp_path):
    name, result, path = case
    ours = onnx.load(apa_deploy.Session(path, threads=1).prepared)
    onnx.save(_relu_twin(result), tmp_path / "relu.onnx")
    twin = onnx.load(optimise_to(str(tmp_path / "relu.onnx"), tmp_path / "twin.onnx", apa_deploy.ort_library()))
    got, theirs = _operators(ours), _operators(twin)
    tables = sum(count for kind, count in got.items() if kind.startswith("QLinear") and kind.endswith("AGLU"))
    assert tables == len(result.plan.units)
    for kind in ("QLinearConv", "MaxPool", "QLinearConcat", "Resize", "Slice"):
        assert got[kind] == theirs[kind], kind
    for kind in ("Transpose", "DequantizeLinear", "QuantizeLinear", "QLinearAdd", "Mul"):
        assert got[kind] <= theirs[kind], kind
    assert got["QLinearGatedAddAGLU"] == (name == "squeeze")
    assert got["QLinearAddAGLU"] == (name in ("residual", "shortcut"))


def test_the_prepared_model_answers_as_the_file(case):
    _, _, path = case
    x = {"x": _samples(5)}
    plain, ours = (next(iter(apa_deploy.Session(path, layout=layout).run(x).values())) for layout in (False, True))
    assert decibel(plain, ours) >= 25


def test_tables_are_the_rounded_function_of_each_code(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = with_functions(networks.build(networks.plain))
    result = quantise(model, _DATA, Quantisation(reduced=True, judge=False))
    onnx.save(result.proto, tmp_path / "m.onnx")
    made = onnx.load(apa_deploy.Session(tmp_path / "m.onnx").prepared)
    tables = {n.name: attribute(n, "table") for n in made.graph.node if n.op_type == "QLinearAGLU"}
    for unit in result.plan.units:
        before, after = result.scales[unit.source], result.scales[unit.target]
        wanted = after.code_of(aglu_float64(before.real_of(np.arange(256)), 0.5, np.float32(1.1)))
        assert np.array_equal(np.frombuffer(tables[unit.name], np.uint8), wanted)
        assert isinstance(before, Scale)


WARNED = [
    # what the file says of 7-bit weights, what the processor has, whether a session warns
    ("false", "avx2", True),
    ("true", "avx2", False),
    ("false", "vnni", False),
]


@pytest.mark.parametrize(("told", "flags", "warns"), WARNED)
def test_a_session_warns_where_sums_would_saturate(tmp_path, monkeypatch, capsys, told, flags, warns):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plain = with_functions(networks.build(networks.plain))
    model = quantise(plain, _DATA, Quantisation(reduced=True, judge=False)).proto
    entry = model.metadata_props.add()
    entry.key, entry.value = processor.REDUCED_KEY, told
    other = tmp_path / f"{told}{flags}.onnx"
    onnx.save(model, other)
    monkeypatch.setattr(processor, "vector_instructions", lambda: flags)
    apa_deploy.Session(other)
    assert ("--reduce-range" in capsys.readouterr().err) == warns
