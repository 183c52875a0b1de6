"""The half gates: upstream's form converted naively is NaN, planted faults turn them red, the truth passes."""

import copy
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxconverter_common.float16 import convert_float_to_float16

from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import activations, attributes, read_parameters
from apa_deploy.graph.precision import in_precision
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.loading.torch_storage import round_to, store_in
from apa_deploy.maths import Parameters
from apa_deploy.native import ort_library
from apa_deploy.network import Metadata
from apa_deploy.parity.verify import verify
from apa_deploy.records.parity import ParityError
from apa_deploy.tensors.inputs import seeded_feeds
from apa_deploy.tensors.signature import image_signature
from tests.networks import tiny_net

SHAPE = (3, 16, 16)
HALVES = ("fp16", "bf16")
FEEDS = seeded_feeds(image_signature(SHAPE))


@pytest.fixture(scope="module")
def exported():
    model = TorchNetwork(tiny_net(), image_signature(SHAPE), Metadata("tiny"))
    traced = model.trace(22)
    return model, traced


def judged(exported, tmp_path, precision, plant=lambda *_: None, form=decompose, library=None):
    network, traced = exported
    proto = onnx.ModelProto()
    proto.CopyFrom(traced.proto)
    plant({node.name: node for node in activations(proto.graph)}, proto)
    onnx.save(form(in_precision(proto, precision)), tmp_path / "model.onnx")
    return verify(tmp_path / "model.onnx", network, traced.sites, FEEDS, precision=precision, library=library)


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("form", [decompose, with_functions])
def test_nothing_planted_passes(precision, form, exported, tmp_path):
    report = judged(exported, tmp_path, precision, form=form)
    assert report.passed, report
    assert [check.path for check in report.activations] == ["act1", "se.gate", "act2"]
    assert all(check.torch_float32_max_rel < check.stored_max_rel for check in report.outputs)


@pytest.mark.parametrize("precision", HALVES)
def test_fused_operators_in_half(precision, exported, tmp_path):
    """The library's own half kernels, each alone, and in fp16 the whole network."""
    report = judged(exported, tmp_path, precision, form=with_functions, library=ort_library())
    assert report.passed, report
    assert len(report.activations) == 6
    assert any("libapa_ort" in check.runner for check in report.outputs) == (precision == "fp16")


def _run(proto, x):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def _traced(module, x, tmp_path):
    torch.onnx.export(module, (x,), tmp_path / "naive.onnx", dynamo=True, verbose=False)
    return onnx.load(tmp_path / "naive.onnx")


def halved(module, x, tmp_path):
    """torch's own `.half()`, exported as it is."""
    return _run(_traced(copy.deepcopy(module).half(), x.half(), tmp_path), x.half().numpy())


def converted(module, x, tmp_path):
    """The float32 export, through onnxconverter-common's float16 converter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it moves small weights
        return _run(convert_float_to_float16(_traced(module, x, tmp_path), keep_io_types=True), x.numpy())


@pytest.mark.parametrize(("naive", "is_nan"), [(halved, True), (converted, False)])
def test_naive_conversion_of_upstreams_form_fails(naive, is_nan, exported, tmp_path):
    """The same weights as upstream writes the activation: the floor 1e-8 becomes 0 and the output NaN, or the
    floor is moved to 1e-7 and the output is finite and wrong."""
    module = exported[0].module
    x = torch.from_numpy(FEEDS[0]["input"][:1])
    with torch.inference_mode():
        truth = copy.deepcopy(module).double()(x.double()).numpy()
    y = naive(module, x, tmp_path)
    assert np.isnan(y).any() == is_nan
    # not the type's fault: the limit that ours is held to is thirty times tighter
    assert is_nan or np.abs(y - truth).max() > 0.3 * np.abs(truth).max()
    report = judged(exported, tmp_path, "fp16")
    assert report.passed
    assert max(check.limit for check in report.outputs) < 0.01


def changed(node, lambda_=None, kappa=None):
    p = read_parameters(node)
    new = Parameters(p.lambda_ if lambda_ is None else (lambda_,), p.kappa if kappa is None else (kappa,), p.axis)
    del node.attribute[:]
    node.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in attributes(new).items())


def swap_kind(node):
    node.op_type = "APA" if node.op_type == "AGLU" else "AGLU"


def replaced_bias(value):
    def plant(_nodes, proto):
        bias = next(t for t in proto.graph.initializer if t.name.startswith("fc.bias"))
        bias.CopyFrom(onnx.numpy_helper.from_array(np.full(5, value, np.float32), bias.name))

    return plant


# What each type can tell from its own rounding: 2^-11 in fp16, 2^-8 in bf16.
FAULTS = [
    # what, plant, culprit, the least precise type that sees it
    ("kappa 1 % off", lambda n, _: changed(n["act1"], kappa=1.1 * 1.01), "act1", "fp16"),
    ("kappa 3 % off", lambda n, _: changed(n["act1"], kappa=1.1 * 1.03), "act1", "bf16"),
    ("lambda 2 % off", lambda n, _: changed(n["act1"], lambda_=0.6 * 1.02), "act1", "fp16"),
    ("gate's kappa with the other sign", lambda n, _: changed(n["se.gate"], kappa=0.5), "se.gate", "bf16"),
    ("gate and unit swapped", lambda n, _: swap_kind(n["act1"]), "act1", "bf16"),
    ("the bias lost", replaced_bias(0.0), None, "bf16"),
    ("NaN", replaced_bias(np.nan), None, "bf16"),
]
CASES = [(p, *c) for c in FAULTS for p in HALVES[: HALVES.index(c[3]) + 1]]


@pytest.mark.parametrize("case", CASES, ids=[f"{c[1]}-{c[0]}" for c in CASES])
def test_planted_fault_is_found(case, exported, tmp_path):
    precision, _, plant, culprit, _ = case
    report = judged(exported, tmp_path, precision, plant)
    assert not report.passed
    assert [check.path for check in report.activations if not check.passed] == ([culprit] if culprit else [])
    assert str(ParityError(report))


@pytest.mark.parametrize("precision", HALVES)
def test_an_activation_without_its_island_is_found(precision, exported, tmp_path):
    """Decomposed first and converted then: the ends of the chain, t and z * gate, are in the half type."""
    network, traced = exported
    proto = onnx.ModelProto()
    proto.CopyFrom(traced.proto)
    onnx.save(in_precision(decompose(proto), precision), tmp_path / "late.onnx")
    report = verify(tmp_path / "late.onnx", network, traced.sites, FEEDS, precision=precision)
    assert not report.passed


def test_storage_rounds_and_saturates():
    x = torch.tensor([1 + 2.0**-12, 1 + 3 * 2.0**-11, 1e6, -1e6, 1e-9], dtype=torch.float64)
    assert round_to(x, torch.float16).tolist() == [1.0, 1 + 2.0**-9, 65504.0, -65504.0, 0.0]


def test_storage_leaves_the_inside_of_an_activation_alone():
    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Softplus()

        def forward(self, x):
            return self.inner(x * 1e5) / 1e5  # beyond fp16 inside

    net = torch.nn.Sequential(Outer())
    x = torch.tensor([3.0], dtype=torch.float64)
    assert store_in(net, "fp16", ["0"])(x).item() == 3.0
    assert store_in(net, "fp16", [])(x).item() < 1
