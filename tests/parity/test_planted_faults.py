"""The gates turn red: faults planted into exported files, each found, and the culprit named."""

import numpy as np
import onnx
import pytest
import torch

from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import activations, attributes, read_parameters
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.maths import Parameters
from apa_deploy.network import Metadata
from apa_deploy.parity.verify import verify
from apa_deploy.records.parity import ParityError
from apa_deploy.tensors.inputs import seeded_feeds
from apa_deploy.tensors.signature import image_signature
from tests.networks import RawActivation, tiny_net

SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def exported():
    model = TorchNetwork(tiny_net(), image_signature(SHAPE), Metadata("tiny"))
    traced = model.trace()
    return model, traced


def judged(exported, tmp_path, plant):
    network, traced = exported
    proto = onnx.ModelProto()
    proto.CopyFrom(traced.proto)
    plant({node.name: node for node in activations(proto.graph)}, proto)
    onnx.save(with_functions(proto), tmp_path / "model.onnx")
    return verify(tmp_path / "model.onnx", network, traced.sites, seeded_feeds(image_signature(SHAPE)))


def changed(node, lambda_=None, kappa=None):
    p = read_parameters(node)
    new = Parameters(p.lambda_ if lambda_ is None else (lambda_,), p.kappa if kappa is None else (kappa,), p.axis)
    del node.attribute[:]
    node.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in attributes(new).items())


def swap_kind(node):
    node.op_type = "APA" if node.op_type == "AGLU" else "AGLU"


def drop_bias(_nodes, proto):
    bias = next(t for t in proto.graph.initializer if t.name.startswith("fc.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(np.zeros(5, np.float32), bias.name))


FAULTS = [
    # what, plant, culprit
    ("wrong floor: 1e-4 for 1e-8", lambda n, _: changed(n["act2"], lambda_=1e-4), "act2"),
    ("kappa 0.1 % off", lambda n, _: changed(n["act1"], kappa=1.1 * 1.001), "act1"),
    ("one layer's lambda 1 % off", lambda n, _: changed(n["act1"], lambda_=0.6 * 1.01), "act1"),
    ("kappa of the gate with the other sign", lambda n, _: changed(n["se.gate"], kappa=0.5), "se.gate"),
    ("gate and unit swapped", lambda n, _: swap_kind(n["act1"]), "act1"),
    ("gate becomes unit", lambda n, _: swap_kind(n["se.gate"]), "se.gate"),
    ("the rest of the graph", drop_bias, None),
]


@pytest.mark.parametrize(("plant", "culprit"), [c[1:] for c in FAULTS], ids=[c[0] for c in FAULTS])
def test_planted_fault_is_found(plant, culprit, exported, tmp_path):
    report = judged(exported, tmp_path, plant)
    assert not report.passed
    wrong = [check.path for check in report.activations if not check.passed]
    assert wrong == ([culprit] if culprit else [])
    assert (report.blame.path if report.blame else None) == culprit
    if culprit:
        assert report.blame.leaving > report.blame.entering
        assert culprit in str(ParityError(report))


def test_nothing_planted_passes(exported, tmp_path):
    report = judged(exported, tmp_path, lambda *_: None)
    assert report.passed
    assert [check.path for check in report.activations] == ["act1", "se.gate", "act2"]
    (output,) = report.outputs
    assert (output.name, output.samples, output.top1_agreement) == ("logits", 6, 1.0)
    assert output.quantiles["p50"] <= output.quantiles["p99"] <= output.max_abs
    assert output.cosine > 1 - 1e-9


def test_nan_is_a_failure(exported, tmp_path):
    def plant(_nodes, proto):
        bias = next(t for t in proto.graph.initializer if t.name.startswith("fc.bias"))
        bias.CopyFrom(onnx.numpy_helper.from_array(np.full(5, np.nan, np.float32), bias.name))

    assert not judged(exported, tmp_path, plant).passed


def test_one_module_at_several_paths_has_the_first(tmp_path):
    """As where a default activation is one object for all layers."""

    class Listed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)
            self.acts = torch.nn.ModuleList([RawActivation(0.3, 1.0)] * 2)

        def forward(self, x):
            return self.acts[1](self.conv(self.acts[0](self.conv(x)))).mean((2, 3))

    torch.manual_seed(0)
    model = TorchNetwork(Listed().eval(), image_signature(SHAPE), Metadata("listed"))
    traced = model.trace()
    assert [site.name for site in traced.sites] == ["acts.0", "acts.0#2"]
    report = judged((model, traced), tmp_path, lambda n, _: changed(n["acts.0#2"], lambda_=0.31))
    assert report.blame.path == "acts.0#2"


def test_modules_below_autocast_are_named_though_torch_records_none():
    class Mixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)
            self.first, self.second = RawActivation(0.3, 1.0), RawActivation(0.6, 1.1)

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return self.second(self.conv(self.first(x))).mean((2, 3))

    model = TorchNetwork(Mixed().eval(), image_signature(SHAPE), Metadata("mixed"))
    assert [site.name for site in model.trace().sites] == ["first", "second"]


def test_shared_module_is_judged_at_each_use(tmp_path):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)
            self.act = RawActivation(0.3, 1.0)

        def forward(self, x):
            return self.act(self.conv(self.act(self.conv(x)))).mean((2, 3))

    torch.manual_seed(0)
    model = TorchNetwork(Twice().eval(), image_signature(SHAPE), Metadata("twice"))
    traced = model.trace()
    assert [site.name for site in traced.sites] == ["act", "act#2"]
    report = judged((model, traced), tmp_path, lambda n, _: changed(n["act#2"], lambda_=0.31))
    assert report.blame.path == "act#2"
