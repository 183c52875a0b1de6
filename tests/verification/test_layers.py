"""One bad layer among fifty is named, whatever it is and whichever runtime shows its values."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import DOMAIN, VERSION, activations, attributes, make_node, read_parameters
from apa_deploy.graph.precision import in_precision
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.maths import Parameters
from apa_deploy.network import Metadata
from apa_deploy.runtimes.ort_session import open_session
from apa_deploy.tensors.inputs import seeded_feeds
from apa_deploy.tensors.signature import image_signature
from apa_deploy.verification.activations import match_sites
from apa_deploy.verification.layers_onnx import measure_onnx_layers
from apa_deploy.verification.layers_replay import measure_replayed_layers
from apa_deploy.verification.layers_torch import measure_torch_layers
from tests.networks import RawActivation

SHAPE, LAYERS = (3, 8, 8), 50


class Deep(nn.Module):
    """Fifty convolutions, an activation behind each."""

    def __init__(self):
        super().__init__()
        for i in range(LAYERS):
            self.add_module(f"conv{i}", nn.Conv2d(3 if i == 0 else 4, 4, 1))
            self.add_module(f"act{i}", RawActivation(0.1 + 0.02 * i, 1.0))

    def forward(self, x):
        for i in range(LAYERS):
            x = self.get_submodule(f"act{i}")(2 * self.get_submodule(f"conv{i}")(x))
        return x.mean((2, 3))


def deep():
    torch.manual_seed(0)
    return Deep().eval()


@pytest.fixture(scope="module")
def network():
    return torch_network(deep())


def torch_network(module):
    return TorchNetwork(module, image_signature(SHAPE), Metadata("deep"))


def canonical_graph(network):
    """The network as an export would write it, by hand: tracing fifty layers takes ten seconds."""
    nodes, constants, value = [], [], "input"
    for i in range(LAYERS):
        conv, act = (network.module.get_submodule(f"{name}{i}") for name in ("conv", "act"))
        for name, parameter in conv.named_parameters():
            constants.append(onnx.numpy_helper.from_array(2 * parameter.detach().numpy(), f"conv{i}.{name}"))
        nodes.append(onnx.helper.make_node("Conv", [value, f"conv{i}.weight", f"conv{i}.bias"], [f"z{i}"]))
        lambda_, kappa = (float(v.detach()) for v in (act.lambda_param, act.kappa_param))
        nodes.append(make_node("AGLU", f"z{i}", f"y{i}", Parameters((lambda_ + 1e-8,), (kappa,)), f"act{i}"))
        value = f"y{i}"
    axes = onnx.numpy_helper.from_array(np.array([2, 3]), "axes")
    nodes.append(onnx.helper.make_node("ReduceMean", [value, "axes"], ["logits"], keepdims=0))
    ends = [("input", ["batch", *SHAPE]), ("logits", ["batch", 4])]
    inputs, outputs = ([onnx.helper.make_tensor_value_info(name, 1, shape)] for name, shape in ends)
    graph = onnx.helper.make_graph(nodes, "deep", inputs, outputs, [*constants, axes])
    opsets = [onnx.helper.make_opsetid("", 22), onnx.helper.make_opsetid(DOMAIN, VERSION)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


def spoil_activation(model):
    """act31 with a lambda that is 1 % off."""
    node = next(node for node in activations(model.graph) if node.name == "act31")
    p = read_parameters(node)
    new = attributes(Parameters((p.lambda_[0] * 1.01,), p.kappa, p.axis))
    del node.attribute[:]
    node.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in new.items())


def spoil_convolution(model):
    """The weights before act17 half a per cent off."""
    weight = next(t for t in model.graph.initializer if t.name.startswith("conv17.weight"))
    array = onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array((array * 1.005).astype(array.dtype), weight.name))


FAULTS = [("act31", "AGLU", spoil_activation), ("act17", "layers before", spoil_convolution)]
FEED = seeded_feeds(image_signature(SHAPE))[0]


def saved(network, tmp_path, precision="fp32", spoil=lambda _: None):
    model = canonical_graph(network)
    spoil(model)
    onnx.save(with_functions(in_precision(model, precision)), tmp_path / "deep.onnx")
    return tmp_path / "deep.onnx"


@pytest.mark.parametrize(("place", "kind", "spoil"), FAULTS, ids=["activation", "convolution"])
def test_a_bad_layer_among_fifty_is_named(place, kind, spoil, network, tmp_path):
    path = saved(network, tmp_path, spoil=spoil)
    sites, notices = match_sites(path, network)
    assert len(sites) == LAYERS and not notices
    first, second, *_ = errors = measure_onnx_layers(path, network, sites, FEED, "fp32", "deep")
    assert len(errors) == 2 * LAYERS + 1
    assert (first.path, first.kind, first.passed) == (place, kind, False)
    assert all(error.passed for error in errors[1:])
    assert first.measured > 100 * second.measured


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_and_in_half_types_where_roundings_are_larger(precision, network, tmp_path):
    def spoil(model):  # 4 roundings of a bf16 are 1.6 %
        weight = next(t for t in model.graph.initializer if t.name.startswith("conv17.weight"))
        array = onnx.numpy_helper.to_array(weight)
        weight.CopyFrom(onnx.numpy_helper.from_array((array * 1.1).astype(array.dtype), weight.name))

    path = saved(network, tmp_path, precision, spoil)
    errors = measure_onnx_layers(path, network, match_sites(path, network)[0], FEED, precision, "deep")
    assert [(e.path, e.kind) for e in errors if not e.passed] == [("act17", "layers before")]


def test_nothing_is_blamed_where_nothing_is_wrong(network, tmp_path):
    path = saved(network, tmp_path)
    errors = measure_onnx_layers(path, network, match_sites(path, network)[0], FEED, "fp32", "deep")
    assert all(error.passed for error in errors)


def test_in_a_torch_module(network):
    spoilt = deep()
    with torch.no_grad():
        spoilt.act31.lambda_param.mul_(1.01)
    errors = measure_torch_layers(torch_network(spoilt), network, FEED, ["logits"], "deep")
    assert len(errors) == 2 * LAYERS + 1
    assert [error.path for error in errors if not error.passed] == ["act31"]


def shown_by_a_runtime(path, sites, ends):
    """Values of the file in ONNX Runtime by name, as TensorRT's debug tensors would come."""
    model = onnx.load(path)
    names = list(dict.fromkeys(name for site in sites for name in ends(site)))
    model.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name != model.graph.output[0].name
    )
    session = open_session(model)
    return dict(zip(names, session.run(names, FEED), strict=True))


@pytest.mark.parametrize(("place", "kind", "spoil"), FAULTS, ids=["activation", "convolution"])
@pytest.mark.parametrize("fused", [False, True])
def test_from_what_an_engine_shows(place, kind, spoil, fused, network, tmp_path):
    """Also where fusion swallowed what enters each activation: then convolution and activation are one piece."""
    path = saved(network, tmp_path, spoil=spoil)
    sites, _ = match_sites(path, network)
    seen = shown_by_a_runtime(path, sites, lambda s: (s.target,) if fused else (s.source, s.target))
    errors = measure_replayed_layers(seen, network, sites, FEED, "fp32", "engine")
    assert len(errors) == (LAYERS if fused else 2 * LAYERS)
    assert (errors[0].path, errors[0].kind) == (place, "AGLU, fused" if fused else kind)
    assert not errors[0].passed and all(error.passed for error in errors[1:])


def test_debug_tensors_of_a_real_network_carry_our_names(exports):
    """TensorRT for RTX needs no GPU to parse and mark; the values themselves need one."""
    pytest.importorskip("tensorrt_rtx")
    done = subprocess.run(
        [sys.executable, "-c", _MARK, str(exports / "plain.onnx")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    model = onnx.load(exports / "plain.onnx", load_external_data=False)
    named = {name for ends in sites_places(model) for name in ends}
    assert named <= set(done.stdout.split())


def sites_places(model):
    from apa_deploy.graph.sites import find_sites

    return [(one.source, one.target) for one in find_sites(model)]


_MARK = """
import sys
from pathlib import Path
from apa_deploy.verification.tensorrt_runner import parse_network
builder, network, parser = parse_network(Path(sys.argv[1]), "tensorrt-rtx", debug=True)()
print(*(layer.get_output(i).name for layer in network for i in range(layer.num_outputs)))
"""
