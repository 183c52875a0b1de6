"""Property: any small network with learned activations exports in either format and passes its gates."""

import tempfile
from pathlib import Path

import torch
from apa_exporters.onnx.export import export_onnx
from apa_exporters.onnx.options import FORMATS, OnnxOptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.tensors.signature import image_signature
from tests.networks import RawActivation

raw_lambda = st.sampled_from([-2.0, 0.0, 1e-6, 3e-4, 0.05, 0.7, 1.0, 1.9, 8.0]) | st.floats(-1, 4, width=32)
kappa = st.floats(-2, 2, width=32)
floor = st.sampled_from(["relu+1e-8", "clamp 1e-4"])
kind = st.sampled_from(["AGLU", "APA"])


@st.composite
def activation(draw, channels):
    shape = draw(st.sampled_from([(1,), (1, channels, 1, 1), (channels, 1, 1)]))
    module = RawActivation(kind=draw(kind), floor=draw(floor), shape=shape)
    count = module.lambda_param.numel()
    for parameter, values in ((module.lambda_param, raw_lambda), (module.kappa_param, kappa)):
        chosen = draw(st.lists(values, min_size=count, max_size=count))
        parameter.data.copy_(torch.tensor(chosen).reshape(shape))
    return module


@st.composite
def network(draw):
    """One to four blocks of a convolution, perhaps a norm, an activation, perhaps a residual; then a pool."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    blocks, channels = [], 3
    for _ in range(draw(st.integers(1, 4))):
        wide = draw(st.sampled_from([3, 4, 8]))
        layers = [nn.Conv2d(channels, wide, draw(st.sampled_from([1, 3])), padding="same")]
        layers += [nn.BatchNorm2d(wide)] if draw(st.booleans()) else []
        blocks.append(
            Residual(nn.Sequential(*layers, draw(activation(wide))), wide == channels and draw(st.booleans()))
        )
        channels = wide
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)).eval()


class Residual(nn.Module):
    def __init__(self, inner, add):
        super().__init__()
        self.inner, self.add = inner, add

    def forward(self, x):
        return x + self.inner(x) if self.add else self.inner(x)


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(network(), st.sampled_from(FORMATS))
def test_exports_and_passes(net, format):
    model = TorchNetwork(net, image_signature((3, 8, 8)), Metadata("random"))
    learned = sum(isinstance(m, RawActivation) for m in net.modules())
    with tempfile.TemporaryDirectory() as folder:
        passport = export_onnx(model, Path(folder) / "m.onnx", OnnxOptions(format=format))
    assert passport.parity.passed
    assert len(passport.activations) == len({c.path for c in passport.parity.activations}) == learned
