"""apa_deploy.replace: activations recognised by behaviour."""

import pytest
import torch
from torch import nn

from apa_deploy.maths import ParameterError
from apa_deploy.modules import AGLU, APA
from apa_deploy.replace import replace_activations
from tests.networks import RawActivation, tiny_net


class Ultralytics(nn.Module):
    """Named AGLU, but the gate alone; parameters `lambd`, `kappa` of size 1."""

    def __init__(self):
        super().__init__()
        self.act = nn.Softplus(beta=-1.0)
        self.lambd, self.kappa = nn.Parameter(torch.rand(1)), nn.Parameter(torch.rand(1))

    def forward(self, x):
        lam = torch.clamp(self.lambd, min=0.0001)
        return torch.exp((1 / lam) * self.act((self.kappa * x) - torch.log(lam)))


class Exponential(nn.Module):
    """An own parametrisation with unhelpful names: lambda = exp(a), kappa = 1 + b."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor([-0.7])), nn.Parameter(torch.tensor([0.3]))

    def forward(self, x):
        lam, kappa = self.a.exp(), 1 + self.b
        return x * (1 + lam * torch.exp(-kappa * x)) ** (-1 / lam)


class Power(nn.Module):
    """The formula as it is written, which is x * 1**-inf = x at lambda 0."""

    def __init__(self, lambd):
        super().__init__()
        self.lambd, self.kappa = nn.Parameter(torch.tensor(lambd)), nn.Parameter(torch.ones(len(lambd)))

    def forward(self, x):
        return x * (1 + self.lambd * torch.exp(-self.kappa * x)) ** (-1 / self.lambd)


class Swish(nn.Module):
    """A look-alike: two parameters, another curve."""

    def __init__(self):
        super().__init__()
        self.lambda_param, self.kappa_param = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.lambda_param * x * torch.tanh(self.kappa_param * x)


class Affine(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return x * self.weight + self.bias


CASES = [
    # what, module, kind, floor, lambda, kappa
    ("unit, relu", RawActivation(0.5, 1.25), "AGLU", "relu+1e-8", 0.5 + 1e-8, 1.25),
    ("unit at the floor", RawActivation(-3.0, 1.5), "AGLU", "relu+1e-8", 1e-8, 1.5),
    ("unit, clamp", RawActivation(5e-5, 1.5, floor="clamp 1e-4"), "AGLU", "clamp 1e-4", 1e-4, 1.5),
    ("gate, clamp", RawActivation(0.25, -0.5, kind="APA", floor="clamp 1e-4"), "APA", "clamp 1e-4", 0.25, -0.5),
    ("gate, relu", RawActivation(0.25, -0.5, kind="APA"), "APA", "relu+1e-8", 0.25 + 1e-8, -0.5),
    ("own parametrisation", Exponential(), "AGLU", "fitted", 0.4965853, 1.3),
    ("ours already", AGLU(0.2, 1.5), "AGLU", "none", 0.2, 1.5),
]


@pytest.mark.parametrize(
    ("module", "kind", "floor", "lam", "kappa"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_recognises(module, kind, floor, lam, kappa):
    net = nn.Sequential(module)
    (found,) = replace_activations(net).found
    assert (found.path, found.kind, found.floor) == ("0", kind, floor)
    assert found.parameters.lambda_[0] == pytest.approx(lam, rel=1e-6)
    assert found.parameters.kappa[0] == pytest.approx(kappa, rel=1e-6)
    assert isinstance(net[0], APA | AGLU)


def test_ultralytics_aglu_is_the_gate():
    module = Ultralytics()
    (found,) = replace_activations(nn.Sequential(module)).found
    assert (found.kind, found.floor) == ("APA", "clamp 1e-4")
    assert found.parameters.lambda_[0] == max(module.lambd.item(), 1e-4)


@pytest.mark.parametrize(
    ("shape", "axis", "wanted"), [((1, 3, 1, 1), 1, 1), ((1, 1, 3), 2, -1), ((3,), 3, -1), ((), 1, 1), ((1,), 1, 1)]
)
def test_per_channel_shapes(shape, axis, wanted):
    module = RawActivation(shape=shape)
    with torch.no_grad():
        module.lambda_param.copy_(torch.rand(shape) + 0.1)
    net = nn.Sequential(module)
    x = torch.randn(2, 3, 4, 3)
    before = net(x)
    (found,) = replace_activations(net).found
    assert found.parameters.axis == wanted
    torch.testing.assert_close(net(x), before)


@pytest.mark.parametrize("module", [Swish(), Affine()], ids=["another curve", "an affine layer"])
def test_refuses_look_alikes_with_a_reason(module):
    net = nn.Sequential(module)
    result = replace_activations(net)
    assert not result.found
    assert type(module).__name__ in result.refused[0].reason
    assert net[0] is module


@pytest.mark.parametrize(
    ("lambd", "reason"),
    [([0.0], "limit"), ([0.4, 0.0, 0.3], "limit"), ([1e-13], "limit"), ([0.4], ""), ([0.4, 0.1, 1e-6], "")],
)
def test_a_formula_that_lambda_breaks_is_left_as_it_is(lambd, reason):
    module = Power(lambd)
    net = nn.Sequential(module).double()
    x = torch.linspace(-3, 3, 30, dtype=torch.float64).reshape(10, 3)
    before, result = net(x), replace_activations(net)
    assert (net[0] is module) == bool(reason) == bool(result.refused)
    assert reason in "".join(refused.reason for refused in result.refused)
    torch.testing.assert_close(net(x), before, rtol=1e-6, atol=1e-6)


def test_network_answers_as_before():
    net, x = tiny_net().double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    before = net(x)
    result = replace_activations(net)
    assert [f.path for f in result.found] == ["act1", "se.gate", "act2"]
    # both evaluate the same formula in float64; the softplus threshold of the original costs 1.2e-9
    assert (net(x) - before).abs().max() <= 1e-8


def test_shared_modules_stay_shared():
    shared = RawActivation()
    net = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared)})
    assert len(replace_activations(net).found) == 1
    assert net["a"] is net["b"][0]
    assert isinstance(net["a"], AGLU)


def test_non_finite_parameters_are_refused_by_path():
    net = nn.Sequential(RawActivation(float("nan")))
    with pytest.raises(ParameterError, match="0: lambda"):
        replace_activations(net)
