"""Activations that no module with two parameters holds: they are found as the network is traced."""

import numpy as np
import pytest
import torch
from apa_exporters.onnx.export import OnnxOptions, export_onnx
from torch import nn
from torch.nn import functional

from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.tensors.signature import image_signature


def aglu(z, lam, kappa):
    return z * torch.exp(functional.softplus(kappa * z - lam.log(), beta=-1.0) / lam)


def number(value, *shape):
    return nn.Parameter(torch.full(shape or (1,), value))


class Unit(nn.Module):
    def __init__(self, forward, **parameters):
        super().__init__()
        self.calls = forward
        for name, value in parameters.items():
            buffer = not isinstance(value, nn.Parameter)
            self.register_buffer(name, value) if buffer else setattr(self, name, value)

    def forward(self, z):
        return self.calls(self, z)


class Inside(nn.Module):
    """The curve as a function in the middle of a forward."""

    def __init__(self):
        super().__init__()
        self.lam, self.kap, self.linear = number(0.4), number(1.1), nn.Linear(4, 4)

    def forward(self, x):
        return aglu(self.linear(x.permute(0, 2, 3, 1)), self.lam.clamp(min=1e-4), self.kap)


def golu(self, z):
    return self.alpha * z * torch.exp(-self.beta * torch.exp(-self.gamma * z))


def golu_unit(beta=1.0, gamma=1.0, alpha=1.0):
    return Unit(golu, alpha=torch.tensor(alpha), beta=torch.tensor(beta), gamma=torch.tensor(gamma))


# network, (lambda, kappa) of what is found
UNITS = {
    "kappa a buffer": (Unit(lambda s, z: aglu(z, s.lam, s.kap), lam=number(0.4), kap=torch.ones(1)), (0.4, 1)),
    "kappa fixed": (Unit(lambda s, z: aglu(z, s.lam, 1.0), lam=number(0.4)), (0.4, 1)),
    "both buffers": (Unit(lambda s, z: aglu(z, s.lam, s.kap), lam=torch.tensor([0.4]), kap=torch.tensor([1.1])),
                     (0.4, 1.1)),
    "in one tensor": (Unit(lambda s, z: aglu(z, s.p[0], s.p[1]), p=nn.Parameter(torch.tensor([0.4, 1.1]))),
                      (0.4, 1.1)),
    "sizes that differ": (Unit(lambda s, z: aglu(z, s.lam, s.kap), lam=number(0.4, 4, 1, 1), kap=number(1.1)),
                          (0.4, 1.1)),
    "a third parameter": (Unit(lambda s, z: s.scale * aglu(z, s.lam, s.kap), lam=number(0.4), kap=number(1.1),
                               scale=number(1.5)), (0.4, 1.1)),
    "a function": (Inside(), (0.4, 1.1)),
    "GoLU": (golu_unit(), (0, 1)),
    "GoLU of another gamma and alpha": (golu_unit(gamma=1.3, alpha=0.8), (0, 1.3)),
    "GoLU as a function": (Unit(lambda s, z: z * torch.exp(-torch.exp(-z))), (0, 1)),
}  # fmt: skip


def network_of(unit):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), unit).eval().requires_grad_(False)
    return TorchNetwork(module, image_signature((3, 8, 8)), Metadata("net"))


@pytest.mark.parametrize("name", UNITS)
def test_found_exported_and_judged_alone(name, tmp_path):
    unit, (lambda_, kappa) = UNITS[name]
    passport = export_onnx(network_of(unit), tmp_path / "net.onnx", OnnxOptions())
    (found,) = passport.activations
    assert found.kind == ("APA" if "alpha" in name else "AGLU")  # a factor of its own stays outside the gate
    assert np.allclose([found.lambda_[0], found.kappa[0]], [lambda_, kappa], rtol=1e-4, atol=2e-6)
    (check,) = passport.parity.activations
    assert check.passed and check.max_error < 1e-6


def test_a_wrong_fold_is_refused(tmp_path, monkeypatch):
    """The gate of one activation holds the file against the trace's own spelling, not against the fold."""
    from apa_deploy.graph import decompose
    from apa_deploy.records.parity import ParityError

    true = decompose.read_parameters
    monkeypatch.setattr(decompose, "read_parameters", lambda n: type(true(n))((0.5,), (1.1,)))
    with pytest.raises(ParityError):
        export_onnx(network_of(UNITS["a function"][0]), tmp_path / "net.onnx", OnnxOptions())


def test_golu_of_another_beta_is_said_to_lie_outside(tmp_path, capsys):
    passport = export_onnx(network_of(golu_unit(beta=2.0)), tmp_path / "net.onnx", OnnxOptions())
    said = capsys.readouterr().err
    assert passport.parity.passed and not passport.activations
    assert "GoLU with beta 2" in said and "no learned activation" not in said


def test_whoever_asks_is_told_of_functions_too():
    network = network_of(Inside())
    assert not network.activations
    (site,) = network.learned
    assert (site.kind, network.curve(site.path)(np.zeros(1)).shape) == ("AGLU", (1,))


def test_none_is_not_said_of_what_cannot_be_traced(tmp_path, monkeypatch, capsys):
    from apa_deploy.cli.inspect import main

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sizeless.py").write_text("from tests.loading.test_folds import Inside as net\n")
    torch.save(Inside().state_dict(), tmp_path / "w.pth")
    arguments = [str(tmp_path / "w.pth"), "--model", "sizeless:net"]
    assert main(arguments) == 2 and "--input-shape" in capsys.readouterr().err
    assert main([*arguments, "--input-shape", "4x8x8"]) == 0
    assert "1 learned activations" in capsys.readouterr().out
