"""Parameters on the first axis, where most graphs have their batch, and parameters of each element."""

import numpy as np
import pytest
import torch
from apa_exporters.onnx.export import OnnxOptions, export_onnx
from torch import nn

from apa_deploy.graph.sites import ActivationSite
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.maths import Parameters
from apa_deploy.network import Metadata
from apa_deploy.parity.operator_gate import GRID, check_site, grid_of
from apa_deploy.tensors.signature import image_signature


class Unit(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        torch.manual_seed(1)
        self.lambd, self.kappa = (nn.Parameter(torch.rand(shape) + 0.3) for _ in range(2))

    def forward(self, z):
        lam = self.lambd.clamp(min=1e-4)
        return z * torch.exp(nn.functional.softplus(self.kappa * z - lam.log(), beta=-1.0) / lam)


class ChannelsFirst(nn.Module):
    """(C, B, H, W) enters the unit: the parameters' axis is the first."""

    def __init__(self, *shape):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 3), Unit(*shape)

    def forward(self, x):
        return self.act(self.conv(x).transpose(0, 1)).transpose(0, 1)


class Elements(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), Unit(4, 6, 6))


def network_of(module):
    torch.manual_seed(0)
    return TorchNetwork(module.eval().requires_grad_(False), image_signature((3, 8, 8)), Metadata("net"))


@pytest.mark.parametrize(("axis", "rank", "shape"), [
    (-4, 4, (4, 1382, 1, 1)), (0, 3, (4, 1382, 1)), (-3, 3, (4, 1382, 1)), (-3, 4, (1382, 4, 1, 1)),
    (-1, 1, (1382, 4)), (1, 4, (1382, 4, 1, 1)),
])  # fmt: skip
def test_the_channels_get_their_size(axis, rank, shape):
    z = grid_of(ActivationSite("a", "AGLU", Parameters((0.1, 0.2, 0.3, 0.4), (1.0,), axis)), rank)
    assert z.shape == shape and len(np.unique(z)) == len(np.unique(GRID))
    assert grid_of(ActivationSite("a", "AGLU", Parameters((0.1,), (1.0,), axis)), 4).shape == (1382, 1, 1, 1)


def test_the_first_axis_is_judged(tmp_path):
    network = network_of(ChannelsFirst(4, 1, 1, 1))
    passport = export_onnx(network, tmp_path / "net.onnx", OnnxOptions(precision="fp16"))
    (check,) = passport.parity.activations
    assert check.passed and check.gains
    (site,) = network.learned
    z = grid_of(site, 4)
    wrong = network.curve(site.path)(z).copy()
    wrong[3] *= 1.01  # of one channel alone
    assert not check_site(site, network, z, wrong).passed


def test_parameters_of_each_element_stay_as_they_are(tmp_path, capsys):
    passport = export_onnx(network_of(Elements()), tmp_path / "net.onnx", OnnxOptions())
    said = capsys.readouterr().err
    assert passport.parity.passed and not passport.activations
    assert "(4, 6, 6)" in said and "no learned activation" not in said
