"""Outputs a hundredth too large, or otherwise off by less than rounding: seen on every road that judges them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from apa_exporters.openvino import export as openvino_export
from apa_exporters.tensorrt.on_target import golden
from apa_exporters.tensorrt.on_target.recipe import Limit
from apa_exporters.tensorrt_rtx import outputs as rtx
from onnx import helper, numpy_helper

from apa_deploy.detection.gate import check_raw
from apa_deploy.detection.rows import Rows, match_columns
from apa_deploy.errors import GateError
from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import activations, attributes, read_parameters
from apa_deploy.graph.precision import in_precision
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.maths import Parameters
from apa_deploy.network import FLOAT32, TRUTH, Metadata
from apa_deploy.parity.gain import check_gains, gain_ranges, measure_gains
from apa_deploy.parity.limits import gain_room
from apa_deploy.parity.model_gate import check_recorded, check_results
from apa_deploy.parity.verify import verify
from apa_deploy.records.parity import ParityError
from apa_deploy.tensors.inputs import one_ulp_off, seeded_feeds
from apa_deploy.tensors.signature import image_signature
from apa_deploy.verification.work import as_results
from tests.networks import tiny_net

SHAPE = (3, 16, 16)
FEEDS = seeded_feeds(image_signature(SHAPE))
PRECISIONS = ("fp32", "fp16", "bf16")


@pytest.fixture(scope="module")
def network():
    return TorchNetwork(tiny_net(), image_signature(SHAPE), Metadata("tiny"))


@pytest.fixture(scope="module")
def traced(network):
    return network.trace(22)


def scaled(y, by=1.01):
    return y * by


def one_channel(y, by):
    return np.concatenate([y[:, :1] * by, y[:, 1:]], 1)


def swapped(y):
    return y[:, [1, 0, *range(2, y.shape[1])]]


def shifted(y):
    return y + 0.012 * np.sqrt(np.mean(np.square(y, dtype=np.float64)))


# What is done to the outputs, and how much of one class each type can tell: docs/verify.md.
FAULTS = {
    "a hundredth larger": lambda y, _: scaled(y),
    "a hundredth smaller": lambda y, _: scaled(y, 0.99),
    "shifted": lambda y, _: shifted(y),
    "two classes swapped": lambda y, _: swapped(y),
    "one class larger": lambda y, precision: one_channel(y, {"fp32": 1.01, "fp16": 1.015, "bf16": 1.1}[precision]),
}


def answers(network, precision):
    """What a right device may say: of half types what storing in them leaves."""
    return [network.outputs(feed, FLOAT32 if precision == "fp32" else precision) for feed in FEEDS]


def by_recorded(network, found, precision):
    (check,) = check_recorded(found, "it", network, FEEDS, precision)
    return check


def by_rtx(network, found, precision, monkeypatch):
    """An engine for TensorRT for RTX, whose process is stood in for."""
    monkeypatch.setattr(rtx, "_run_engine", lambda _engine, _feeds: found)
    passport = type("P", (), {"options": {}})()
    (check,) = rtx.check_engine("x.engine", network, passport, FEEDS, precision)
    return check


def by_bundle(network, found, precision, _monkeypatch):
    """The script of a bundle, on the machine that built the engine."""
    truth = [network.outputs(feed, TRUTH) for feed in FEEDS]
    right = by_recorded(network, answers(network, precision), precision)
    limit = Limit(right.limit, right.torch_float32_max_rel, right.stored_max_rel, right.min_cosine, True)
    (check,) = golden.check("engine", truth, found, {"logits": limit}, None, right.ranges)
    same = by_recorded(network, found, precision).model_dump()
    assert check["gains"] == same["gains"] and check["passed"] == same["passed"]
    if not check["passed"]:
        assert golden.explain(check).startswith("logits is ")
    return type("C", (), check)


def by_detector(network, found, precision, _monkeypatch):
    """A raw tensor of a detector."""
    kinds = [FLOAT32] if precision == "fp32" else [FLOAT32, precision]
    values = [{"cls": np.concatenate([network.outputs(f, k)["logits"] for f in FEEDS])} for k in (TRUTH, *kinds)]
    value = {"cls": np.concatenate([one["logits"] for one in found])}
    (check,) = check_raw("it", values[0], values[1:], value, precision)
    return check


ROADS = {
    "recorded": lambda network, found, precision, _: by_recorded(network, found, precision),
    "trt-rtx engine": by_rtx,
    "trt bundle": by_bundle,
    "detector": by_detector,
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("road", ROADS)
def test_faults_in_outputs_are_seen(road, precision, network, monkeypatch):
    right = answers(network, precision)
    check = ROADS[road](network, right, precision, monkeypatch)
    assert check.passed, check.gains
    for name, fault in FAULTS.items():
        found = [{"logits": fault(one["logits"], precision)} for one in right]
        assert not ROADS[road](network, found, precision, monkeypatch).passed, name


def at_the_end(proto, by):
    """`proto` with its output multiplied: in float32, behind all that is rounded."""
    output = proto.graph.output[0].name
    for node in proto.graph.node:
        node.output[:] = ["right" if name == output else name for name in node.output]
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(by), "by"))
    proto.graph.node.append(helper.make_node("Mul", ["right", "by"], [output]))
    return proto


def in_activation(name, lambda_=1.0, kappa=1.0):
    def plant(proto):
        node = next(one for one in activations(proto.graph) if one.name == name)
        p = read_parameters(node)
        new = Parameters((p.lambda_[0] * lambda_,), (p.kappa[0] * kappa,), p.axis)
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes(new).items())

    return plant


def in_weights(by):
    """One layer's weights."""

    def plant(proto):
        tensor = next(one for one in proto.graph.initializer if one.name.startswith("fc.weight"))
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(by), tensor.name))

    return plant


PLANTS = {
    "lambda 1 % off": in_activation("act1", lambda_=1.01),
    "the gate's lambda 1 % off": in_activation("se.gate", lambda_=0.99),
    "kappa 1 % off": in_activation("act1", kappa=0.99),
    "one layer's weights 1.5 % off": in_weights(1.015),
}


def judged(network, traced, path, precision, form, plant=None, end=1.0):
    proto = onnx.ModelProto.FromString(traced.proto.SerializeToString())
    if plant:
        plant(proto)
    proto = form(in_precision(proto, precision) if precision != "fp32" else proto)
    onnx.save(at_the_end(proto, end) if end != 1.0 else proto, path)
    return verify(path, network, traced.sites, FEEDS, precision=precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("form", [decompose, with_functions])
def test_faults_in_files_are_seen(form, precision, network, traced, tmp_path):
    report = judged(network, traced, tmp_path / "m.onnx", precision, form)
    assert report.passed, str(ParityError(report))
    for end in (1.01, 0.99):
        report = judged(network, traced, tmp_path / "m.onnx", precision, form, end=end)
        assert not report.passed and all(check.passed for check in report.activations)
        assert "scaled or shifted: gain" in str(ParityError(report)) or precision != "bf16"
    for name, plant in PLANTS.items():
        report = judged(network, traced, tmp_path / "m.onnx", precision, form, plant)
        assert not report.passed, name
        wrong = [check for check in report.activations if not check.passed]
        assert bool(wrong) == ("weights" not in name), name


def test_the_parameter_that_is_off_is_named_with_its_size(network, traced, tmp_path):
    report = judged(network, traced, tmp_path / "m.onnx", "bf16", decompose, in_activation("act1", lambda_=1.01))
    (wrong,) = [check for check in report.activations if not check.passed]
    (gain,) = [one for one in wrong.gains if not one.passed]
    assert (wrong.path, gain.what) == ("act1", "lambda") and gain.error == pytest.approx(0.01, rel=0.2)
    assert "act1 (AGLU) has another lambda +0.01" in str(ParityError(report))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("by", [1.0, 1.01])
def test_an_ir_is_judged_in_openvino(precision, by, network, tmp_path, monkeypatch):
    """The real runtime; the fault is planted between the ONNX file, which is right, and the IR."""
    openvino = pytest.importorskip("openvino")

    def read(path):
        file = tmp_path / "changed.onnx"
        onnx.save(at_the_end(onnx.load(path), by), file)
        return openvino.Core().read_model(file)

    monkeypatch.setattr(openvino_export, "read_model", read)
    options = openvino_export.OpenVinoOptions(precision=precision)
    if by == 1.0:
        assert openvino_export.export_openvino(network, tmp_path / "m.xml", options).parity.passed
        return
    with pytest.raises(ParityError, match="OpenVINO"):
        openvino_export.export_openvino(network, tmp_path / "m.xml", options)


def test_a_half_detector_is_judged_by_more_than_average_precision():
    """Scores a hundredth larger leave the order, and with it the average precision, as it is."""
    random = np.random.default_rng(0)
    corners = random.uniform(0, 400, (1, 30, 2))
    boxes = np.concatenate([corners, corners + random.uniform(30, 90, (1, 30, 2))], 2)
    truth = {
        "boxes": boxes,
        "scores": np.sort(random.uniform(0.2, 0.9, (1, 30)))[:, ::-1].copy(),
        "labels": np.arange(30)[None],
    }
    rows = Rows(0.5, 0.05)

    def verdict(found):
        half = {name: v.astype(np.float16).astype(np.float64) for name, v in truth.items()}
        right, stored, theirs = (match_columns([one], [truth], rows) for one in (truth, half, found))
        ranges = {k: gain_ranges(v, [stored[k]], *gain_room("fp16")) for k, v in right.items()}
        gains = [one for k, v in right.items() for one in check_gains(v, theirs[k], ranges[k])]
        return all(one["low"] <= one["error"] <= one["high"] for one in gains)

    assert verdict(truth)
    assert not verdict(truth | {"scores": truth["scores"] * 1.01})
    assert not verdict(truth | {"boxes": truth["boxes"] * 1.01})


SHAPES = [
    ("scalars", [np.float64(2), np.float64(3)]),
    ("vectors", [np.arange(1.0, 4), np.arange(2.0, 5)]),
    ("nothing", [np.zeros((2, 0))]),
    ("a size that changes", [np.ones((1, 2)), np.ones((1, 3))]),
    ("zeros", [np.zeros((2, 3))]),
    ("images", [np.random.default_rng(0).standard_normal((2, 3, 4, 4))]),
]


@pytest.mark.parametrize("truth", [s[1] for s in SHAPES], ids=[s[0] for s in SHAPES])
def test_outputs_of_any_shape(truth):
    truth = [np.asarray(one, np.float64) for one in truth]
    ranges = gain_ranges(truth, [truth], 1e-6, 1e-3)
    assert all(one["low"] <= one["error"] <= one["high"] for one in check_gains(truth, truth, ranges))
    some = any(np.any(one) for one in truth)
    gain, *_ = measure_gains(truth, [1.01 * one for one in truth])
    assert gain == pytest.approx(0.01 if some else 0)


def test_a_lucky_sample_of_float32_does_not_make_the_limit():
    """Of an ill-conditioned network: one order of sums is nearly exact, another tenfold off."""
    random = np.random.default_rng(0)
    y = random.standard_normal((4, 5))
    runs = {
        name: [{"y": y * (1 + off * random.standard_normal(y.shape))}]
        for name, off in {"truth": 0, "float32": 1e-8, "lucky": 1e-8, "again": 1e-5, "candidate": 1e-5}.items()
    }
    results = as_results(runs)
    assert check_results(results, "truth", ["float32", "again"], ["candidate"], "fp32")[0].passed
    assert not check_results(results, "truth", ["float32", "lucky"], ["candidate"], "fp32")[0].passed


def test_outputs_as_long_as_rounding_makes_them_cannot_be_judged():
    counts = {"truth": 4, "float32": 5, "again": 4, "candidate": 4}
    results = as_results({name: [{"y": np.ones((count, 2))}] for name, count in counts.items()})
    with pytest.raises(GateError, match=r"cannot be judged: y has shape \(4, 2\) in float64 and \(5, 2\)"):
        check_results(results, "truth", ["float32", "again"], ["candidate"], "fp32")


def test_inputs_one_ulp_off():
    x = np.array([0.0, 1.0, -2.0, -3.0, 0.0, 0.0], np.float32)
    (found,) = one_ulp_off({"x": x}).values()
    assert (
        found.dtype == np.float32
        and found[1] > 1
        and found[3] < -3
        and (found[[0, 2, 4, 5]] == x[[0, 2, 4, 5]]).all()
    )
    whole = torch.arange(4).numpy()
    assert one_ulp_off({"i": whole})["i"] is whole
